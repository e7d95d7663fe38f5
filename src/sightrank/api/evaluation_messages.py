"""What was measured of a model version, as Clarifai's EvalMetrics (api-spec 5.5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from clarifai_grpc.grpc.api import resources_pb2
from numpy.typing import NDArray

from sightrank.vision.curves import THRESHOLDS
from sightrank.vision.metrics import THRESHOLD, Metrics

#: Matrices of more concepts than that leave out cells that are 0, which is most of them.
_WHOLE_MATRIX = 100
#: Cells of a matrix that are sent at most: the diagonal and the largest. Two thousand concepts have 4 million in all.
MAX_CELLS = 100_000
#: Under this key of the metrics that EvalMetrics has no fields for, beside what the caller posted there.
OWN_METRICS = "sightrank"

STATUS_TEXTS: Mapping[int, str] = {
    21300: "Model is evaluated",
    21301: "Model is being evaluated",
    21302: "Model is not evaluated",
    21303: "Model is queued for evaluation",
    21312: "Model evaluation failed for an unknown reason",
    21313: "Model prediction failed",
    21315: "Model evaluation needs more labels",
    21316: "Model evaluation needs more inputs",
    21317: "Model evaluation failed",
}


class Part(NamedTuple):
    """An area that is a region or a frame of its input."""

    area_id: int
    region_id: str | None
    box_top: float | None
    box_left: float | None
    box_bottom: float | None
    box_right: float | None
    frame_index: int | None
    frame_time_ms: int | None


def fill_summary(message: resources_pb2.EvalMetrics, summary: Mapping[str, Any]) -> None:
    """The averages: the fields of ``vision.metrics.Summary``."""
    shown = message.summary
    shown.top1_accuracy, shown.top5_accuracy = summary["top1"], summary["top5"]
    shown.macro_avg_roc_auc, shown.macro_std_roc_auc = summary["roc_auc"], summary["roc_auc_std"]
    shown.macro_avg_f1_score, shown.macro_std_f1_score = summary["f1"], summary["f1_std"]
    shown.macro_avg_precision, shown.macro_avg_recall = summary["precision"], summary["recall"]
    own = {
        "mean_average_precision": summary["average_precision"],
        "inputs": summary["input_count"],
        "areas": summary["area_count"],
        "folds": summary["fold_count"],
        "threshold": THRESHOLD,
    }
    message.extended_metrics.user_metrics.update({OWN_METRICS: own})


def fill_metrics(
    message: resources_pb2.EvalMetrics,
    metrics: Metrics,
    fields: resources_pb2.FieldsValue,
    concepts: Sequence[resources_pb2.Concept],
) -> None:
    """Of the heavier parts those that are asked for, without the test set, after ``fill_summary``.

    ``concepts`` are those of the metrics, in their order.
    """
    if fields.label_counts:
        for concept, count in zip(concepts, metrics.positives, strict=True):
            message.label_counts.positive_label_counts.add(concept_name=concept.name, count=int(count), concept=concept)
    left_out = {}
    if fields.confusion_matrix:
        left_out["confusion_matrix"] = _fill_confusion(message.confusion_matrix, metrics, concepts)
    if fields.cooccurrence_matrix:
        left_out["cooccurrence_matrix"] = _fill_cooccurrence(message.cooccurrence_matrix, metrics)
    if any(left_out.values()):
        message.extended_metrics.user_metrics.fields[OWN_METRICS].struct_value.update({"cells_left_out": left_out})
    if fields.binary_metrics:
        for column, concept in enumerate(concepts):
            _fill_binary(message.binary_metrics.add(concept=concept), metrics, column)
        message.extended_metrics.user_metrics.fields[OWN_METRICS].struct_value.update(_beside_binary(metrics))


def fill_test_set(
    message: resources_pb2.EvalMetrics,
    metrics: Metrics,
    concepts: Sequence[resources_pb2.Concept],
    inputs: Mapping[int, resources_pb2.Input],
    parts: Mapping[int, Part],
) -> None:
    """Lists areas with what was predicted, most probable first, and what people said; inputs that are gone are not
    listed. Each entry has all concepts: the official Python client takes them from the first."""
    for place, number in enumerate(metrics.test_input_numbers.tolist()):
        if number not in inputs:
            continue
        entry = message.test_set.add(input=inputs[number])
        probabilities = metrics.test_probabilities[place]
        for column in np.argsort(-probabilities, kind="stable").tolist():
            concept = concepts[column]
            entry.predicted_concepts.add(id=concept.id, name=concept.name, value=float(probabilities[column]))
        for column in np.flatnonzero(metrics.test_labels[place] > 0.5).tolist():
            entry.ground_truth_concepts.add(id=concepts[column].id, name=concepts[column].name, value=1.0)
        part = parts.get(int(metrics.test_area_ids[place]))
        if part is not None:
            _fill_part(entry.predicted_annotation.data, part, entry.predicted_concepts)
            _fill_part(entry.ground_truth_annotation.data, part, entry.ground_truth_concepts)


def _fill_confusion(
    message: resources_pb2.ConfusionMatrix, metrics: Metrics, concepts: Sequence[resources_pb2.Concept]
) -> int:
    """How many cells there was no room for."""
    message.concept_ids.extend(concepts[column].id for column in _strongest(metrics))
    cells, left_out = _cells(metrics.confusion)
    for actual, predicted in cells:
        message.matrix.add(
            predicted=concepts[predicted].id,
            actual=concepts[actual].id,
            value=float(metrics.confusion[actual, predicted]),
            predicted_concept=concepts[predicted],
            actual_concept=concepts[actual],
        )
    return left_out


def _fill_cooccurrence(message: resources_pb2.CooccurrenceMatrix, metrics: Metrics) -> int:
    """How many cells there was no room for."""
    ids = metrics.concept_ids
    message.concept_ids.extend(ids[column] for column in _strongest(metrics))
    cells, left_out = _cells(metrics.cooccurrence)
    for row, column in cells:
        message.matrix.add(row=ids[row], col=ids[column], count=int(metrics.cooccurrence[row, column]))
    return left_out


def _strongest(metrics: Metrics) -> list[int]:
    """Concepts in the order in which both matrices name them: the strength of the confusion's diagonal."""
    return [int(column) for column in np.argsort(-np.diagonal(metrics.confusion), kind="stable")]


def _cells(matrix: NDArray[Any]) -> tuple[Sequence[tuple[int, int]], int]:
    """Row and column of the cells to send, row by row, and how many are left out that are not 0."""
    some = np.ones(matrix.shape, bool) if len(matrix) <= _WHOLE_MATRIX else matrix > 0
    count = int(some.sum())
    if count > MAX_CELLS:
        rank = np.where(some, matrix, -1.0)
        diagonal = np.diagonal(matrix)
        np.fill_diagonal(rank, np.where(diagonal > 0, np.inf, -1.0))
        some = np.zeros(matrix.shape, bool)
        some.ravel()[np.argsort(-rank, axis=None, kind="stable")[:MAX_CELLS]] = True
    return [(row, column) for row, column in np.argwhere(some).tolist()], max(0, count - MAX_CELLS)


def _fill_binary(message: resources_pb2.BinaryMetrics, metrics: Metrics, column: int) -> None:
    message.num_pos, message.num_neg = int(metrics.positives[column]), int(metrics.negatives[column])
    message.num_tot = message.num_pos + message.num_neg
    message.roc_auc, message.f1 = float(metrics.roc_auc[column]), float(metrics.f1[column])
    message.avg_precision = float(metrics.average_precision[column])
    false_positive_rate, recall, precision = metrics.curves[column].tolist()
    message.roc_curve.fpr.extend(false_positive_rate)
    message.roc_curve.tpr.extend(recall)
    message.roc_curve.thresholds.extend(THRESHOLDS.tolist())
    message.precision_recall_curve.recall.extend(recall)
    message.precision_recall_curve.precision.extend(precision)
    message.precision_recall_curve.thresholds.extend(THRESHOLDS.tolist())


def _beside_binary(metrics: Metrics) -> dict[str, Any]:
    """Precision and recall of each concept, for which BinaryMetrics has no fields, and the calibration of all."""
    pairs = zip(metrics.concept_ids, metrics.precision.tolist(), metrics.recall.tolist(), strict=True)
    bins = metrics.calibration.T.tolist()
    return {
        "concepts": {id: {"precision": precision, "recall": recall} for id, precision, recall in pairs},
        "calibration": [
            {"predicted": predicted, "observed": observed, "count": count} for predicted, observed, count in bins
        ],
    }


def _fill_part(data: resources_pb2.Data, part: Part, concepts: Sequence[resources_pb2.Concept]) -> None:
    """What was said or predicted of a region or a frame."""
    if part.frame_index is not None:
        frame = data.frames.add()
        frame.frame_info.index, frame.frame_info.time = part.frame_index, part.frame_time_ms or 0
        frame.data.concepts.extend(concepts)
        return
    region = data.regions.add(id=part.region_id or "")
    if part.box_top is not None:
        box = region.region_info.bounding_box
        box.top_row, box.left_col = part.box_top, part.box_left or 0.0
        box.bottom_row, box.right_col = part.box_bottom or 0.0, part.box_right or 0.0
    region.data.concepts.extend(concepts)
