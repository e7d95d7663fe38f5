"""The trained embedder as an ONNX graph, written node by node.

Every batch norm is folded into the convolution before it, so the graph is convolutions, gates and one projection, and a
picture's vector does not depend on what else is in its batch. Weights are stored as float16 with a cast that ONNX
Runtime folds away when it loads the file: half the bytes, the same float32 arithmetic.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from training import network

OPSET = 17
Floats = npt.NDArray[np.float32]


def folded(kernel: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Floats, Floats]:
    """Kernel and bias of the convolution with its norm folded in."""
    mean, spread = statistics(norm)
    factor = norm.weight / spread
    weight = kernel.weight * factor.view(-1, 1, 1, 1)
    return weight.detach().numpy(), (norm.bias - mean * factor).detach().numpy()


def statistics(norm: nn.BatchNorm2d | nn.BatchNorm1d) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and spread that a trained norm uses."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.running_mean, torch.sqrt(norm.running_var + norm.eps)


class Graph:
    """A growing list of nodes; each method adds some and returns the name of their output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def add(self, kind: str, *inputs: str, output: str = "", **attributes: object) -> str:
        output = output or f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def constant(self, value: Floats) -> str:
        """A weight: large ones as float16 and a cast, small ones as they are."""
        name = f"weight{len(self.weights)}"
        small = value.size < 4096
        self.weights.append(numpy_helper.from_array(value.astype(np.float32 if small else np.float16), name))
        return name if small else self.add("Cast", name, to=TensorProto.FLOAT)

    def convolve(self, x: str, weight: Floats, bias: Floats, stride: int = 1, pad: int = 0) -> str:
        return self.add(
            "Conv", x, self.constant(weight), self.constant(bias), strides=[stride] * 2, pads=[pad] * 4,
            kernel_shape=list(weight.shape[2:]),
        )  # fmt: skip

    def gate(self, x: str, gate: network.Gate) -> str:
        seen = self.add("GlobalAveragePool", x)
        for layer, after in ((gate.shrink, "Relu"), (gate.grow, "Sigmoid")):
            assert layer.bias is not None
            seen = self.add(after, self.convolve(seen, layer.weight.detach().numpy(), layer.bias.detach().numpy()))
        return self.add("Mul", x, seen)

    def block(self, x: str, block: network.Block) -> str:
        stride = block.first.stride[0]
        y = self.add("Relu", self.convolve(x, *folded(block.first, block.first_norm), stride=stride, pad=1))
        y = self.gate(self.convolve(y, *folded(block.second, block.second_norm), pad=1), block.gate)
        if isinstance(block.shortcut, nn.Sequential):
            _pool, kernel, norm = block.shortcut
            assert isinstance(kernel, nn.Conv2d)
            assert isinstance(norm, nn.BatchNorm2d)
            if stride > 1:
                x = self.add("AveragePool", x, kernel_shape=[stride] * 2, strides=[stride] * 2)
            x = self.convolve(x, *folded(kernel, norm))
        return self.add("Relu", self.add("Add", y, x))

    def unit(self, features: str, embedder: network.Embedder) -> str:
        """Project, subtract the mean vector of the training photos, and scale to length one."""
        mean, spread = statistics(embedder.centre)
        weight = (embedder.project.weight / spread[:, None]).detach().numpy()
        bias = (-mean / spread).detach().numpy()
        vector = self.add("Gemm", features, self.constant(weight), self.constant(bias), transB=1)
        length = self.add("ReduceL2", vector, axes=[1], keepdims=1)
        return self.add("Div", vector, self.add("Max", length, self.constant(np.array([1e-6]))), output="embedding")


def build(embedder: network.Embedder, side: int) -> onnx.ModelProto:
    """The whole graph: `pixels` [N,3,side,side], normalised, to `embedding` [N,256]."""
    graph = Graph()
    weight, bias = folded(embedder.stem, embedder.stem_norm)
    x = graph.add("Relu", graph.convolve("pixels", weight, bias, stride=4, pad=2))
    for block in embedder.blocks:
        assert isinstance(block, network.Block)
        x = graph.block(x, block)
    graph.unit(graph.add("Flatten", graph.add("GlobalAveragePool", x)), embedder)
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", 3, side, side])
    vectors = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", network.DIMS])
    body = helper.make_graph(graph.nodes, "embedder", [pixels], [vectors], graph.weights)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="sightrank")
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    return model


def session(path: Path, threads: int = 1) -> onnxruntime.InferenceSession:
    """The exported file, ready to run."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def write(embedder: network.Embedder, side: int, path: Path) -> float:
    """Write the file whole or not at all; returns the largest difference from PyTorch on noise."""
    embedder = embedder.eval()
    partial = path.with_suffix(".partial")
    partial.write_bytes(build(embedder, side).SerializeToString())
    noise = torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = embedder(noise).numpy()
    found = session(partial).run(["embedding"], {"pixels": noise.numpy()})[0]
    os.replace(partial, path)
    return float(np.abs(found - expected).max())
