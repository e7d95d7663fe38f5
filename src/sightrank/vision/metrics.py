"""How good predictions are, in the numbers of Clarifai's EvalMetrics (docs/evaluation.md says how to read them).

What cannot be measured has a value by definition: the ROC AUC of a concept with labels of one kind is 0.5, the average
precision, recall and F1 of one without positives are 0, and so is the precision of one that is never predicted.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from sightrank.vision.curves import calibration, curve
from sightrank.vision.evaluation import Judged, Progress

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

THRESHOLD = 0.5
MAX_TEST_SET = 1000
_MAX_LISTED = 20_000  # predictions in the test set
_USELESS_ROC_AUC = 0.5
_ROWS = 2000  # areas that are compared at once, so that what is not wanted any more soon ends


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Averages over concepts; ``*_std`` are their standard deviations. Predicted is what has THRESHOLD or more.

    ``top1``: how many of the areas that have any of the concepts have the most probable one; ``top5``: one of the five.
    ``roc_auc`` averages concepts that have both positives and negatives, the others those with positives. The counts
    are those of ``Metrics``.
    """

    roc_auc: float
    roc_auc_std: float
    f1: float
    f1_std: float
    precision: float
    recall: float
    average_precision: float
    top1: float
    top5: float
    input_count: int
    area_count: int
    fold_count: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Metrics:
    """All that was measured. Arrays begin with the concepts, in their order, where not said otherwise.

    ``curves`` [concepts, 3, thresholds] and ``calibration`` [3, bins] are those of ``vision.curves``. ``confusion``
    [actual, predicted]: the share of areas with the first that are predicted to have the second. ``cooccurrence``
    [concepts, concepts]: how many areas have both. ``fold_count`` is 0 where the model had seen what it was judged by,
    or was judged by other areas as it is. The ``test_*`` list areas of one fold: their input, id, labels and
    probabilities.
    """

    concept_ids: tuple[str, ...]
    input_count: int
    area_count: int
    fold_count: int
    positives: Integers
    negatives: Integers
    roc_auc: Floats
    average_precision: Floats
    precision: Floats
    recall: Floats
    f1: Floats
    top: Floats
    curves: Floats
    calibration: Floats
    confusion: Floats
    cooccurrence: Integers
    test_input_numbers: Integers
    test_area_ids: Integers
    test_labels: Floats
    test_probabilities: Floats

    @property
    def summary(self) -> Summary:
        both, some = (self.positives > 0) & (self.negatives > 0), self.positives > 0
        roc_auc = self.roc_auc[both] if both.any() else np.asarray([_USELESS_ROC_AUC])
        f1 = self.f1[some] if some.any() else np.zeros(1)
        return Summary(
            roc_auc=float(roc_auc.mean()),
            roc_auc_std=float(roc_auc.std()),
            f1=float(f1.mean()),
            f1_std=float(f1.std()),
            precision=_mean(self.precision[some]),
            recall=_mean(self.recall[some]),
            average_precision=_mean(self.average_precision[some]),
            top1=float(self.top[0]),
            top5=float(self.top[1]),
            input_count=self.input_count,
            area_count=self.area_count,
            fold_count=self.fold_count,
        )

    def dump(self) -> bytes:
        """As the database keeps it."""
        arrays = {one.name: np.asarray(getattr(self, one.name)) for one in fields(self)}
        with io.BytesIO() as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
            return file.getvalue()

    @classmethod
    def load(cls, data: bytes) -> Metrics:
        """What ``dump`` made."""
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            values = {one.name: arrays[one.name] for one in fields(cls)}
        return cls(
            concept_ids=tuple(str(concept_id) for concept_id in values.pop("concept_ids")),
            input_count=int(values.pop("input_count")),
            area_count=int(values.pop("area_count")),
            fold_count=int(values.pop("fold_count")),
            **values,
        )


def measure(judged: Judged, progress: Progress = lambda share: None) -> Metrics:
    """Compares predictions with labels; where nothing was said of a concept, its prediction counts for nothing.

    ``progress`` is told shares from 0 to 1; what it raises ends the work.
    """
    labels = judged.labels
    has, said = labels > 0.5, np.isfinite(labels)
    predicted = judged.probabilities >= THRESHOLD
    count = len(judged.concept_ids)
    scores = []
    for column in range(count):
        progress(column / count / 2)
        of_column = said[:, column]
        scores.append(_scores(has[of_column, column], judged.probabilities[of_column, column]))
    positives = has.sum(axis=0)
    top = _top(has, judged.probabilities, lambda share: progress(0.5 + share / 6))
    confusion = _together(has, predicted, lambda share: progress(4 / 6 + share / 6))
    cooccurrence = _together(has, has, lambda share: progress(5 / 6 + share / 6))
    progress(1.0)
    test = _test_set(judged)
    return Metrics(
        concept_ids=judged.concept_ids,
        input_count=len(np.unique(judged.input_numbers)),
        area_count=len(judged.area_ids),
        fold_count=judged.fold_count,
        positives=positives,
        negatives=(said & ~has).sum(axis=0),
        **_precision_and_recall(predicted & said, has, positives),
        roc_auc=np.asarray([roc_auc for roc_auc, _, _ in scores], np.float32),
        average_precision=np.asarray([average for _, average, _ in scores], np.float32),
        curves=np.stack([points for _, _, points in scores]),
        top=top,
        calibration=calibration(has[said], judged.probabilities[said]).astype(np.float32),
        confusion=confusion / np.maximum(positives, 1)[:, None].astype(np.float32),
        cooccurrence=cooccurrence.astype(np.int64),
        test_input_numbers=judged.input_numbers[test],
        test_area_ids=judged.area_ids[test],
        test_labels=labels[test],
        test_probabilities=judged.probabilities[test],
    )


def _scores(has: NDArray[np.bool_], probabilities: Floats) -> tuple[float, float, Floats]:
    """Of one concept: ROC AUC, average precision, and the curves."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    some, all_ = bool(has.any()), bool(has.all())
    roc_auc = float(roc_auc_score(has, probabilities)) if some and not all_ else _USELESS_ROC_AUC
    average = float(average_precision_score(has, probabilities)) if some else 0.0
    return roc_auc, average, curve(has, probabilities)


def _precision_and_recall(
    predicted: NDArray[np.bool_], has: NDArray[np.bool_], positives: Integers
) -> dict[str, Floats]:
    hits, claims = (predicted & has).sum(axis=0), predicted.sum(axis=0)
    return {
        "precision": (hits / np.maximum(claims, 1)).astype(np.float32),
        "recall": (hits / np.maximum(positives, 1)).astype(np.float32),
        "f1": (2 * hits / np.maximum(claims + positives, 1)).astype(np.float32),
    }


def _top(has: NDArray[np.bool_], probabilities: Floats, progress: Progress) -> Floats:
    """The shares of areas with a concept that have the most probable one, and one of the five; 0 without such areas."""
    some = np.flatnonzero(has.any(axis=1))
    hits = np.zeros(2, np.int64)
    for begin in range(0, len(some), _ROWS):
        progress(begin / len(some))
        rows = some[begin : begin + _ROWS]
        best = np.argsort(-probabilities[rows], axis=1, kind="stable")[:, :5]
        right = np.take_along_axis(has[rows], best, axis=1)
        hits += right[:, :1].any(axis=1).sum(), right.any(axis=1).sum()
    return (hits / max(1, len(some))).astype(np.float32)


def _together(first: NDArray[np.bool_], second: NDArray[np.bool_], progress: Progress) -> Floats:
    """[concepts, concepts]: how many areas are in the first's row and the second's."""
    counts = np.zeros((first.shape[1], second.shape[1]), np.float64)
    for begin in range(0, len(first), _ROWS):
        progress(begin / len(first))
        rows = slice(begin, begin + _ROWS)
        counts += first[rows].T.astype(np.float32) @ second[rows].astype(np.float32)
    return counts.astype(np.float32)


def _test_set(judged: Judged) -> Integers:
    """Which areas to list: of one fold, in the order of their inputs, no more than a client can be sent."""
    count = min(MAX_TEST_SET, max(_MAX_LISTED // max(len(judged.concept_ids), 1), 1))
    rows = np.flatnonzero(judged.folds == 0)
    order = np.lexsort((judged.area_ids[rows], judged.input_numbers[rows]))
    return np.asarray(rows[order][:count], np.int64)


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else 0.0
