"""What the API tells of an evaluation, as people at a terminal and plots need it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_ROUNDING = 1e-4  # of rates that the API tells


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ConceptReport:
    """How well one concept is predicted. ``roc`` [2, points]: false and true positive rates; ``precision_recall`` [2,
    points]: recall and precision. ``best_f1`` is the highest F1 there is, at ``best_threshold``."""

    id: str
    name: str
    positives: int
    negatives: int
    roc_auc: float
    average_precision: float
    precision: float
    recall: float
    f1: float
    best_f1: float
    best_threshold: float
    roc: Floats
    precision_recall: Floats

    @property
    def measurable(self) -> bool:
        """Whether there are both positives and negatives, without which nothing can be told apart."""
        return bool(self.positives and self.negatives)

    @property
    def has_best_threshold(self) -> bool:
        """Whether some threshold is better than predicting the concept everywhere."""
        everywhere = 2 * self.positives / max(2 * self.positives + self.negatives, 1)
        return self.measurable and self.best_f1 > everywhere + _ROUNDING

    def judged_like(self, other: ConceptReport) -> bool:
        """Whether both seem to be judged by the same labels."""
        return (self.positives, self.negatives) == (other.positives, other.negatives)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Report:
    """An evaluation. ``confusion`` [actual, predicted] and ``cooccurrence`` have the order of ``concepts``;
    ``calibration`` [bins, 3]: predicted probability, share observed, count. ``fold_count`` is 0 without
    cross-validation; ``note``: what the server adds."""

    id: str
    model_id: str
    version_id: str
    dataset_id: str
    note: str
    fold_count: int
    input_count: int
    area_count: int
    summary: Mapping[str, float]
    concepts: tuple[ConceptReport, ...]
    confusion: Floats
    cooccurrence: Floats
    calibration: Floats

    @property
    def measured(self) -> Mapping[str, float | None]:
        """The summary; None where no concept has the labels that a number takes."""
        apart = any(concept.measurable for concept in self.concepts)
        some = any(concept.positives for concept in self.concepts)
        return {
            name: number if (apart if name in _OF_BOTH_KINDS else some) else None
            for name, number in self.summary.items()
        }

    def judged_like(self, other: Report) -> bool:
        """Whether both are judged by the same concepts and, it seems, the same labels: else no number of the one says
        anything about the other."""
        theirs = {concept.id: concept for concept in other.concepts}
        return (
            (self.input_count, self.area_count) == (other.input_count, other.area_count)
            and {concept.id for concept in self.concepts} == theirs.keys()
            and all(concept.judged_like(theirs[concept.id]) for concept in self.concepts)
        )

    @property
    def judged_by(self) -> str:
        """How it was evaluated, in words."""
        areas = "" if self.area_count == self.input_count else f" ({self.area_count} areas)"
        inputs = f"{self.input_count} input{'s' if self.input_count != 1 else ''}{areas}"
        if self.dataset_id:
            return f"on {inputs} of dataset {self.dataset_id}"
        if self.fold_count:
            return f"by {self.fold_count}-fold cross-validation on {inputs}"
        return f"on the {inputs} it was trained on: too few for cross-validation"


#: Names of the summary's numbers for people, in the order in which they are shown.
SUMMARY = {
    "macro_avg_roc_auc": "ROC AUC",
    "macro_std_roc_auc": "ROC AUC, deviation",
    "mean_average_precision": "average precision",
    "macro_avg_f1_score": "F1",
    "macro_avg_precision": "precision",
    "macro_avg_recall": "recall",
    "top1_accuracy": "top 1",
    "top5_accuracy": "top 5",
}
_OF_BOTH_KINDS = ("macro_avg_roc_auc", "macro_std_roc_auc")  # these take positives and negatives, the others positives


def read_report(message: Mapping[str, Any]) -> Report:
    """An EvalMetrics in the API's JSON, with all of its fields but the test set."""
    own = message["extended_metrics"]["user_metrics"]["sightrank"]
    concepts = tuple(_concept(one, own["concepts"]) for one in message.get("binary_metrics", []))
    places = {concept.id: place for place, concept in enumerate(concepts)}
    summary = message.get("summary", {}) | {"mean_average_precision": own["mean_average_precision"]}
    return Report(
        id=message["id"],
        model_id=message["model"]["id"],
        version_id=message["model"]["model_version"]["id"],
        dataset_id=message.get("ground_truth_dataset", {}).get("id", ""),
        note=message["status"].get("details", ""),
        fold_count=int(own["folds"]),
        input_count=int(own["inputs"]),
        area_count=int(own["areas"]),
        summary={name: float(summary.get(name, 0)) for name in SUMMARY},
        concepts=concepts,
        confusion=_matrix(message.get("confusion_matrix", {}), places, ("actual", "predicted", "value")),
        cooccurrence=_matrix(message.get("cooccurrence_matrix", {}), places, ("row", "col", "count")),
        calibration=np.asarray([[one["predicted"], one["observed"], one["count"]] for one in own["calibration"]]),
    )


def _concept(message: Mapping[str, Any], own: Mapping[str, Any]) -> ConceptReport:
    concept = message["concept"]
    roc, curve = message.get("roc_curve", {}), message.get("precision_recall_curve", {})
    precision_recall = np.asarray([curve.get("recall", []), curve.get("precision", [])], float)
    best_f1, best_threshold = _best(precision_recall, np.asarray(curve.get("thresholds", []), float))
    return ConceptReport(
        id=concept["id"],
        name=concept.get("name") or concept["id"],
        positives=int(message.get("num_pos", 0)),
        negatives=int(message.get("num_neg", 0)),
        roc_auc=float(message.get("roc_auc", 0)),
        average_precision=float(message.get("avg_precision", 0)),
        precision=float(own[concept["id"]]["precision"]),
        recall=float(own[concept["id"]]["recall"]),
        f1=float(message.get("f1", 0)),
        best_f1=best_f1,
        best_threshold=best_threshold,
        roc=np.asarray([roc.get("fpr", []), roc.get("tpr", [])], float),
        precision_recall=precision_recall,
    )


def _best(precision_recall: Floats, thresholds: Floats) -> tuple[float, float]:
    """The highest F1 and its threshold: the middle one where several do as well."""
    recall, precision = precision_recall
    f1 = 2 * recall * precision / np.maximum(recall + precision, 1e-9)
    if not len(f1):
        return 0.0, 0.0
    places = np.flatnonzero(f1 >= f1.max() - 1e-9)
    return float(f1.max()), float(thresholds[places[len(places) // 2]])


def _matrix(message: Mapping[str, Any], places: Mapping[str, int], names: tuple[str, str, str]) -> Floats:
    """Cells that the API leaves out are 0."""
    row, column, value = names
    matrix = np.zeros((len(places), len(places)))
    for cell in message.get("matrix", []):
        matrix[places[cell[row]], places[cell[column]]] = float(cell.get(value, 0))
    return matrix
