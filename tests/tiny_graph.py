"""The networks of CLIP and SigLIP as ONNX graphs, of any size, from weights named as transformers names them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Weights = Mapping[str, NDArray[np.float32]]

_OPSET = 20
_IR_VERSION = 10
_HIDDEN = np.float32(-1e9)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """``longest`` is the number of tokens a text may have; ``eos`` the token whose place CLIP reads a text at."""

    family: str
    width: int
    inner: int
    heads: int
    layers: int
    side: int
    patch: int
    longest: int
    vocabulary: int
    eos: int
    dims: int

    @property
    def epsilon(self) -> float:
        return 1e-5 if self.family == "clip" else 1e-6


class Graph:
    """A graph that grows node by node; every method returns the name of what it computes."""

    def __init__(self, weights: Weights, shape: Shape) -> None:
        self.weights = weights
        self.shape = shape
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=f"node_{name}", **attributes))
        return name

    def constant(self, values: NDArray[Any]) -> str:
        name = f"constant_{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.asarray(values, order="C"), name))
        return name

    def numbers(self, *values: int) -> str:
        return self.constant(np.asarray(values, np.int64))

    def weight(self, name: str) -> str:
        return self.constant(self.weights[name])

    def input(self, name: str, kind: int, axes: Sequence[str | int]) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, kind, list(axes)))
        return name

    def output(self, value: str, name: str, axes: Sequence[str | int], kind: int = TensorProto.FLOAT) -> None:
        self.nodes.append(helper.make_node("Cast", [value], [name], to=kind))
        self.outputs.append(helper.make_tensor_value_info(name, kind, list(axes)))

    def save(self, path: Path, *, external: bool = False) -> None:
        graph = helper.make_graph(self.nodes, "tiny", self.inputs, self.outputs, self.tensors)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
        onnx.checker.check_model(model)
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save_model(
            model,
            path,
            save_as_external_data=external,
            location=f"{path.name}_data" if external else None,
            size_threshold=200,
        )

    def linear(self, value: str, prefix: str) -> str:
        return self.affine(value, self.weights[f"{prefix}.weight"], self.weights.get(f"{prefix}.bias"))

    def affine(self, value: str, weight: NDArray[np.float32], bias: NDArray[np.float32] | None) -> str:
        product = self.op("MatMul", value, self.constant(weight.T))
        return product if bias is None else self.op("Add", product, self.constant(bias))

    def norm(self, value: str, prefix: str) -> str:
        scale, bias = self.weight(f"{prefix}.weight"), self.weight(f"{prefix}.bias")
        return self.op("LayerNormalization", value, scale, bias, axis=-1, epsilon=self.shape.epsilon)

    def gelu(self, value: str) -> str:
        if self.shape.family == "siglip":
            return self.op("Gelu", value, approximate="tanh")
        steep = self.op("Mul", value, self.constant(np.float32(1.702)))
        return self.op("Mul", value, self.op("Sigmoid", steep))

    def mlp(self, value: str, prefix: str) -> str:
        return self.linear(self.gelu(self.linear(value, f"{prefix}.fc1")), f"{prefix}.fc2")

    def attend(self, query: str, key: str, value: str, mask: str | None) -> str:
        """Attention over [n, length, width], in heads."""
        size = self.shape.width // self.shape.heads
        into = self.numbers(0, 0, self.shape.heads, size)
        q, k, v = (
            self.op("Transpose", self.op("Reshape", each, into), perm=perm)
            for each, perm in ((query, (0, 2, 1, 3)), (key, (0, 2, 3, 1)), (value, (0, 2, 1, 3)))
        )
        scores = self.op("Mul", self.op("MatMul", q, k), self.constant(np.float32(size**-0.5)))
        if mask is not None:
            scores = self.op("Add", scores, mask)
        mixed = self.op("MatMul", self.op("Softmax", scores, axis=-1), v)
        return self.op("Reshape", self.op("Transpose", mixed, perm=(0, 2, 1, 3)), self.numbers(0, 0, -1))

    def layer(self, value: str, prefix: str, mask: str | None) -> str:
        normed = self.norm(value, f"{prefix}.layer_norm1")
        q, k, v = (self.linear(normed, f"{prefix}.self_attn.{each}_proj") for each in "qkv")
        attended = self.linear(self.attend(q, k, v, mask), f"{prefix}.self_attn.out_proj")
        value = self.op("Add", value, attended)
        return self.op("Add", value, self.mlp(self.norm(value, f"{prefix}.layer_norm2"), f"{prefix}.mlp"))

    def layers(self, value: str, tower: str, mask: str | None = None) -> str:
        for number in range(self.shape.layers):
            value = self.layer(value, f"{tower}.encoder.layers.{number}", mask)
        return value


def add_vision(graph: Graph, *, half: bool = False, output: str | None = None) -> None:
    """The picture tower; ``half`` lets it take and give float16 as exports at that precision do."""
    shape, name = graph.shape, "vision_model"
    kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    pixels = graph.input("pixel_values", kind, ["pictures", 3, shape.side, shape.side])
    patches = [
        graph.op("Cast", pixels, to=TensorProto.FLOAT),
        graph.weight(f"{name}.embeddings.patch_embedding.weight"),
    ]
    if shape.family == "siglip":
        patches.append(graph.weight(f"{name}.embeddings.patch_embedding.bias"))
    grid = graph.op("Conv", *patches, strides=[shape.patch, shape.patch])
    value = graph.op("Transpose", graph.op("Reshape", grid, graph.numbers(0, shape.width, -1)), perm=(0, 2, 1))
    if shape.family == "clip":
        # The class token comes first: one copy of it for each picture.
        one = graph.op("Mul", graph.op("ReduceMean", value, graph.numbers(1)), graph.constant(np.float32(0)))
        token = graph.op("Add", one, graph.weight(f"{name}.embeddings.class_embedding"))
        value = graph.op("Concat", token, value, axis=1)
    value = graph.op("Add", value, graph.weight(f"{name}.embeddings.position_embedding.weight"))
    if shape.family == "clip":
        value = graph.layers(graph.norm(value, f"{name}.pre_layrnorm"), name)
        first = graph.op("Gather", value, graph.constant(np.int64(0)), axis=1)
        value = graph.linear(graph.norm(first, f"{name}.post_layernorm"), "visual_projection")
    else:
        value = _attention_pool(graph, graph.norm(graph.layers(value, name), f"{name}.post_layernorm"))
    usual = "image_embeds" if shape.family == "clip" else "pooler_output"
    graph.output(value, output or usual, ["pictures", shape.dims], kind)


def _attention_pool(graph: Graph, value: str) -> str:
    head = "vision_model.head"
    weights = np.split(graph.weights[f"{head}.attention.in_proj_weight"], 3)
    biases = np.split(graph.weights[f"{head}.attention.in_proj_bias"], 3)
    none = graph.op("Mul", graph.op("ReduceMean", value, graph.numbers(1)), graph.constant(np.float32(0)))
    probe = graph.op("Add", none, graph.weight(f"{head}.probe"))
    q, k, v = (graph.affine(each, w, b) for each, w, b in zip((probe, value, value), weights, biases, strict=True))
    pooled = graph.linear(graph.attend(q, k, v, None), f"{head}.attention.out_proj")
    pooled = graph.op("Add", pooled, graph.mlp(graph.norm(pooled, f"{head}.layernorm"), f"{head}.mlp"))
    return graph.op("Squeeze", pooled, graph.numbers(1))


def add_text(graph: Graph, *, attention_mask: bool = False, output: str | None = None) -> None:
    """The text tower; with ``attention_mask`` it also takes what some exports take."""
    shape, name = graph.shape, "text_model"
    ids = graph.input("input_ids", TensorProto.INT64, ["texts", "length"])
    length = graph.op("Shape", ids, start=1, end=2)
    tokens = graph.op("Gather", graph.weight(f"{name}.embeddings.token_embedding.weight"), ids)
    table = graph.weight(f"{name}.embeddings.position_embedding.weight")
    value = graph.op("Add", tokens, graph.op("Slice", table, graph.numbers(0), length, graph.numbers(0)))
    padding = _padding(graph) if attention_mask else None
    if shape.family == "siglip":
        value = graph.norm(graph.layers(value, name, padding), f"{name}.final_layer_norm")
        last = graph.op("Gather", value, graph.constant(np.int64(-1)), axis=1)
        graph.output(graph.linear(last, f"{name}.head"), output or "pooler_output", ["texts", shape.dims])
        return
    later = graph.constant(np.triu(np.full((shape.longest, shape.longest), _HIDDEN), 1))
    ends = graph.op("Concat", length, length, axis=0)
    mask = graph.op("Slice", later, graph.numbers(0, 0), ends, graph.numbers(0, 1))
    if padding is not None:
        mask = graph.op("Max", graph.op("Add", mask, padding), graph.constant(_HIDDEN))
    value = graph.norm(graph.layers(value, name, mask), f"{name}.final_layer_norm")
    is_end = graph.op("Cast", graph.op("Equal", ids, graph.constant(np.int64(shape.eos))), to=TensorProto.INT32)
    place = graph.op("ArgMax", is_end, axis=1, keepdims=1)
    at_end = graph.op("GatherND", value, place, batch_dims=1)
    graph.output(graph.linear(at_end, "text_projection"), output or "text_embeds", ["texts", shape.dims])


def _padding(graph: Graph) -> str:
    """What takes the places that the attention mask marks as padding out of the attention."""
    given = graph.input("attention_mask", TensorProto.INT64, ["texts", "length"])
    empty = graph.op("Sub", graph.constant(np.float32(1)), graph.op("Cast", given, to=TensorProto.FLOAT))
    return graph.op("Unsqueeze", graph.op("Mul", empty, graph.constant(_HIDDEN)), graph.numbers(1, 2))
