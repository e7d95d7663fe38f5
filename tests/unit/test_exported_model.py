"""Exported models say what the server says, in a file that other programs read."""

from __future__ import annotations

import io
import json
import sys
import tarfile

import numpy as np
import onnx
import onnxruntime
import pytest

from sightrank.vision.concept_model import ConceptModel
from sightrank.vision.exported_model import ExportUnavailableError, archive, onnx_graph

DIMS = 16


def model(concepts: int, *, exclusive: bool = False, seed: int = 0) -> ConceptModel:
    random = np.random.default_rng(seed)
    directions = random.normal(size=(concepts, DIMS)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    scale, bias = random.uniform(2, 40, concepts), random.uniform(-10, 10, concepts)
    ids = [f"concept-{number}" for number in range(concepts)]
    return ConceptModel(ids, directions, scale.astype(np.float32), bias.astype(np.float32), exclusive=exclusive)


def vectors(count: int) -> np.ndarray:
    made = np.random.default_rng(7).normal(size=(count, DIMS)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("concepts", [1, 3, 200])
@pytest.mark.parametrize("count", [0, 1, 50])
def test_the_graph_predicts_what_the_model_predicts(concepts: int, exclusive: bool, count: int) -> None:
    learnt = model(concepts, exclusive=exclusive)
    seen = vectors(count)

    graph = onnx_graph(learnt)

    onnx.checker.check_model(onnx.load_from_string(graph), full_check=True)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    (probabilities,) = session.run(["probabilities"], {"vectors": seen})
    assert probabilities.shape == (count, concepts)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, learnt.probabilities(seen), atol=1e-6)


def test_what_is_certain_stays_a_number() -> None:
    directions = np.eye(2, DIMS, dtype=np.float32)
    extreme = ConceptModel(["a", "b"], directions, np.full(2, 1e4, np.float32), np.zeros(2, np.float32))

    session = onnxruntime.InferenceSession(onnx_graph(extreme), providers=["CPUExecutionProvider"])

    (probabilities,) = session.run(None, {"vectors": np.array([[1, -1, *[0] * (DIMS - 2)]], np.float32)})
    np.testing.assert_allclose(probabilities, [[1, 0]], atol=1e-6)


def test_the_archive_has_the_graph_and_what_to_know() -> None:
    learnt = model(3, exclusive=True)

    data = archive(learnt, {"model_id": "mine", "embedder": {"model_id": "général"}}, made_at=1_700_000_000)

    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert [(member.name, member.mtime, member.mode) for member in tar] == [
            ("model.onnx", 1_700_000_000, 0o644),
            ("model.json", 1_700_000_000, 0o644),
        ]
        graph, notes = (tar.extractfile(name) for name in ("model.onnx", "model.json"))
        assert graph is not None
        assert notes is not None
        assert graph.read() == onnx_graph(learnt)
        assert json.load(notes) == {
            "model_id": "mine",
            "embedder": {"model_id": "général"},
            "input": "vectors",
            "output": "probabilities",
            "concept_ids": ["concept-0", "concept-1", "concept-2"],
            "exclusive": True,
        }


def test_the_same_model_is_the_same_file() -> None:
    first, again = (archive(model(5), {"model_id": "m"}, made_at=5) for _ in range(2))

    assert first == again
    assert first != archive(model(5, seed=1), {"model_id": "m"}, made_at=5)


def test_without_onnx_one_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)

    with pytest.raises(ExportUnavailableError, match=r"pip install 'sightrank\[exports\]'"):
        archive(model(1), {}, made_at=0)
