"""Detector bundles of any content: a network that finds what it is told in every picture that is not black."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZE = 16
PEOPLE, DOG = "ai_l8TKp2h5", "ai_8S2Vq3cR"


def column(
    label: str, concept: str, *, threshold: float = 0.3, scale: float = 1.0, bias: float = 0.0
) -> dict[str, Any]:
    """The entry of a class in a manifest; by default its value is the network's score."""
    return {"label": label, "concept": concept, "scale": scale, "bias": bias, "threshold": threshold}


def write_bundle(
    folder: Path,
    classes: Sequence[Mapping[str, Any]],
    scores: Sequence[Sequence[float]],
    boxes: Sequence[Sequence[float]],
    *,
    overlap: float = 0.5,
) -> Path:
    """``scores`` [places, classes] and ``boxes`` [places, 4] (left, top, right, bottom) are what the network says."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save_model(_network(np.array([scores], np.float32), np.array([boxes], np.float32)), folder / "detector.onnx")
    manifest = {
        "id": "general-image-detection",
        "kind": "detector",
        "version": "tiny",
        "licence": "Apache-2.0",
        "preprocessing": {
            "size": SIZE,
            "resize": "squash",
            "interpolation": "bilinear",
            "mean": [0.0, 0.0, 0.0],
            "std": [1.0, 1.0, 1.0],
        },
        "files": {"detector": "detector.onnx"},
        "overlap": overlap,
        "classes": list(classes),
        "sha256": {"detector.onnx": hashlib.sha256((folder / "detector.onnx").read_bytes()).hexdigest()},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


def _network(scores: np.ndarray[Any, Any], boxes: np.ndarray[Any, Any]) -> onnx.ModelProto:
    """The scores, times the brightness of the picture up to a tenth."""
    tensors = {
        "told_scores": scores,
        "told_boxes": boxes,
        "ten": np.array(10, np.float32),
        "none": np.array(0, np.float32),
        "one": np.array(1, np.float32),
    }
    nodes = [
        helper.make_node("ReduceMean", ["pixels"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "ten"], ["bright"]),
        helper.make_node("Clip", ["bright", "none", "one"], ["seen"]),
        helper.make_node("Mul", ["told_scores", "seen"], ["scores"]),
        helper.make_node("Identity", ["told_boxes"], ["boxes"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, scores.shape),
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, boxes.shape),
        ],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return model
