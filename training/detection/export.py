"""The trained detector as an ONNX graph, written node by node, batch norms folded."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from training import export, network
from training.detection.network import STRIDES, Layer, Student, places


class Graph(export.Graph):
    """Nodes of a detector."""

    def number(self, value: np.ndarray) -> str:
        name = f"weight{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(value, name))
        return name

    def layer(self, x: str, layer: nn.Module) -> str:
        assert isinstance(layer, Layer)
        kernel, norm, _ = layer
        assert isinstance(kernel, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        pad = kernel.kernel_size[0] // 2
        return self.add("Relu", self.convolve(x, *export.folded(kernel, norm), stride=kernel.stride[0], pad=pad))

    def twice(self, x: str) -> str:
        scales = self.number(np.array([1, 1, 2, 2], np.float32))
        attributes = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return self.add("Resize", x, "", scales, **attributes)

    def levels(self, student: Student) -> list[str]:
        trunk = student.trunk
        x = self.add("Relu", self.convolve("pixels", *export.folded(trunk.stem, trunk.stem_norm), stride=4, pad=2))
        seen = []
        for block in trunk.blocks:
            assert isinstance(block, network.Block)
            x = self.block(x, block)
            seen.append(x)
        fine, middle, coarse = (self.layer(seen[at], each) for each, at in zip(student.lateral, (2, 5, 6), strict=True))
        middle = self.add("Add", middle, self.twice(coarse))
        fine = self.add("Add", fine, self.twice(middle))
        return [self.layer(x, each) for each, x in zip(student.smooth, (fine, middle, coarse), strict=True)]

    def rows(self, x: str, head: nn.Conv2d, members: Sequence[int]) -> str:
        """A head's answers of a level as [n, places, members]."""
        assert head.bias is not None
        chosen = list(members)
        x = self.convolve(x, head.weight.detach().numpy()[chosen], head.bias.detach().numpy()[chosen])
        shape = self.number(np.array([0, len(chosen), -1], np.int64))
        return self.add("Transpose", self.add("Reshape", x, shape), perm=[0, 2, 1])

    def tower(self, x: str, tower: nn.Sequential) -> str:
        for layer in tower:
            x = self.layer(x, layer)
        return x


def build(student: Student, side: int, members: Sequence[int]) -> onnx.ModelProto:
    """`pixels` [N,3,side,side], normalised, to `scores` [N,places,members] and `boxes` [N,places,4].

    Boxes are left, top, right, bottom in shares of the picture, and may reach beyond it.
    """
    graph = Graph()
    levels = graph.levels(student)
    classes = [graph.rows(graph.tower(x, student.class_tower), student.classes, members) for x in levels]
    sides = [graph.rows(graph.tower(x, student.box_tower), student.sides, range(4)) for x in levels]
    graph.add("Sigmoid", graph.add("Concat", *classes, axis=1), output="scores")
    strides = [
        graph.add("Mul", graph.add("Softplus", each), graph.number(np.array([stride / side], np.float32)))
        for each, stride in zip(sides, STRIDES, strict=True)
    ]
    distances = graph.add("Concat", *strides, axis=1)
    centres = places(side)[0].numpy() / side
    signs = graph.number(np.array([-1, -1, 1, 1], np.float32))
    both = graph.number(np.concatenate([centres, centres], axis=1)[None].astype(np.float32))
    graph.add("Add", both, graph.add("Mul", distances, signs), output="boxes")
    count = len(centres)
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", 3, side, side])
    answers = [
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", count, len(members)]),
        helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["N", count, 4]),
    ]
    body = helper.make_graph(graph.nodes, "detector", [pixels], answers, graph.weights)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", export.OPSET)], producer_name="sightrank")
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    return model


def write(student: Student, side: int, members: Sequence[int], path: Path) -> tuple[float, float]:
    """Write the file whole or not at all; the largest differences of scores and boxes from PyTorch on noise."""
    student = student.eval()
    partial = path.with_suffix(".partial")
    partial.write_bytes(build(student, side, members).SerializeToString())
    noise = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits, boxes = student(noise)
    scores, found = export.session(partial).run(["scores", "boxes"], {"pixels": noise.numpy()})
    os.replace(partial, path)
    wanted = logits[..., list(members)].sigmoid().numpy()
    return float(np.abs(scores - wanted).max()), float(np.abs(found - boxes.numpy() / side).max())
