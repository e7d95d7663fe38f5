"""Metrics of many concepts as messages: no more than a client can be sent."""

from __future__ import annotations

import numpy as np
import pytest
from clarifai_grpc.grpc.api.resources_pb2 import Concept, EvalMetrics, FieldsValue

from sightrank.api import evaluation_messages
from sightrank.api.evaluation_messages import OWN_METRICS, fill_metrics
from sightrank.vision.evaluation import Judged
from sightrank.vision.metrics import Metrics, measure

MATRICES = FieldsValue(confusion_matrix=True, cooccurrence_matrix=True)


def measured(concepts: int, *, areas: int = 400) -> Metrics:
    random = np.random.default_rng(3)
    labels = (random.random((areas, concepts)) < 0.1).astype(np.float32)
    return measure(
        Judged(
            concept_ids=tuple(f"c{number}" for number in range(concepts)),
            area_ids=np.arange(areas),
            input_numbers=np.arange(areas),
            labels=labels,
            probabilities=random.random(labels.shape).astype(np.float32),
            folds=np.zeros(areas, np.int64),
            fold_count=5,
        )
    )


def filled(metrics: Metrics) -> EvalMetrics:
    message = EvalMetrics()
    fill_metrics(message, metrics, MATRICES, [Concept(id=id) for id in metrics.concept_ids])
    return message


def test_of_large_matrices_the_diagonal_and_the_largest_cells_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation_messages, "MAX_CELLS", 1000)
    metrics = measured(120)

    message = filled(metrics)

    place = {id: number for number, id in enumerate(metrics.concept_ids)}
    confusion = {(place[one.actual], place[one.predicted]): one.value for one in message.confusion_matrix.matrix}
    assert len(confusion) == 1000
    assert {(number, number) for number in range(120)} <= set(confusion)
    beside = [value for (actual, predicted), value in confusion.items() if actual != predicted]
    left = [value for cell, value in np.ndenumerate(metrics.confusion) if cell not in confusion]
    assert min(beside) >= max(left)
    assert list(confusion) == sorted(confusion)
    counts = {(place[one.row], place[one.col]): one.count for one in message.cooccurrence_matrix.matrix}
    assert len(counts) == 1000
    assert {(number, number) for number in range(120)} <= set(counts)
    told = message.extended_metrics.user_metrics[OWN_METRICS]["cells_left_out"]
    assert told["confusion_matrix"] == (metrics.confusion > 0).sum() - 1000
    assert told["cooccurrence_matrix"] == (metrics.cooccurrence > 0).sum() - 1000


def test_small_matrices_are_whole() -> None:
    message = filled(measured(20))

    assert len(message.confusion_matrix.matrix) == len(message.cooccurrence_matrix.matrix) == 400
    assert OWN_METRICS not in message.extended_metrics.user_metrics
