"""A trained model version as a file for other programs: a tar of an ONNX graph and what one must know to use it."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from sightrank.vision.concept_model import ConceptModel

GRAPH, NOTES = "model.onnx", "model.json"
INPUT, OUTPUT = "vectors", "probabilities"
_OPSET, _IR_VERSION = 17, 8  # of 2022: what runs ONNX at all runs these


class ExportUnavailableError(RuntimeError):
    """What writes ONNX files is not installed; the text says what to do."""


def archive(model: ConceptModel, notes: Mapping[str, Any], *, made_at: int) -> bytes:
    """An uncompressed tar of ``model.onnx`` and ``model.json``, which is ``notes`` with the concepts, the columns of
    the output, in order. ``made_at``: seconds since 1970, the time that the files bear.

    The same model and notes give the same bytes. Raises ExportUnavailableError.
    """
    said = {**notes, "input": INPUT, "output": OUTPUT, "concept_ids": model.ids, "exclusive": model.exclusive}
    files = {
        GRAPH: onnx_graph(model),
        NOTES: json.dumps(said, ensure_ascii=False, indent=2).encode() + b"\n",
    }
    with io.BytesIO() as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for name, data in files.items():
                entry = tarfile.TarInfo(name)
                entry.size, entry.mtime = len(data), made_at
                tar.addfile(entry, io.BytesIO(data))
        return file.getvalue()


def onnx_graph(model: ConceptModel) -> bytes:
    """``vectors`` [n, dims] float32, unit length, to ``probabilities`` [n, concepts]: what the model predicts.

    Raises ExportUnavailableError.
    """
    try:
        # Not at the top: it takes half a second, and hardly any process needs it.
        from onnx import TensorProto, helper, numpy_helper
    except ImportError as error:
        raise ExportUnavailableError(
            "Models are exported by the package onnx, which is not installed here: run `pip install"
            " 'sightrank[exports]'` and start the server again."
        ) from error
    directions, scale, bias = model.arrays
    constants = {"directions": np.ascontiguousarray(directions.T), "scale": scale, "bias": bias}
    if model.exclusive:
        last = helper.make_node("Softmax", ["logits"], [OUTPUT], axis=1)
    else:
        last = helper.make_node("Sigmoid", ["logits"], [OUTPUT])
    nodes = [
        helper.make_node("MatMul", [INPUT, "directions"], ["cosines"]),
        helper.make_node("Mul", ["cosines", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "bias"], ["logits"]),
        last,
    ]
    concepts, dims = directions.shape
    graph = helper.make_graph(
        nodes,
        "sightrank",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["n", dims])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["n", concepts])],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    opset = helper.make_opsetid("", _OPSET)
    made = helper.make_model(graph, producer_name="sightrank", ir_version=_IR_VERSION, opset_imports=[opset])
    return bytes(made.SerializeToString(deterministic=True))
