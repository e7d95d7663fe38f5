"""The measured quality of each concept as data: ``general/quality.json``, which the command line and the card show."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, roc_auc_score

from training.evidence import UNKNOWN, Marks

Floats = npt.NDArray[np.float32]
EVALUATION, PHOTOGRAPHS = "evaluation", "photographs"
LEAST_POSITIVES = 5
"""With fewer photos of a concept a figure is an anecdote."""
LEAST_AVERAGE_PRECISION, LEAST_ROC_AUC = 0.2, 0.8
"""Below either a concept is weak: most hits are wrong, or a wrong photo often comes before a right one."""


@dataclass(frozen=True)
class Measure:
    """How well the photos of a concept are ranked before those without it."""

    positives: int
    average_precision: float
    roc_auc: float
    precision_at_5: float

    @property
    def weak(self) -> bool:
        return self.average_precision < LEAST_AVERAGE_PRECISION or self.roc_auc < LEAST_ROC_AUC


@dataclass(frozen=True)
class Judged:
    """Scores and truths of a set of photos, [photos, concepts]."""

    probabilities: Floats
    marks: Marks

    def measures(self, fewest: int) -> dict[int, Measure]:
        """By column; those with fewer positives, or no negative, are left out."""
        found = {}
        for column in range(self.marks.shape[1]):
            known = self.marks[:, column] != UNKNOWN
            truth = self.marks[known, column]
            if truth.sum() < fewest or truth.all():
                continue
            scores = self.probabilities[known, column]
            found[column] = Measure(
                positives=int(truth.sum()),
                average_precision=float(average_precision_score(truth, scores)),
                roc_auc=float(roc_auc_score(truth, scores)),
                precision_at_5=float(truth[np.argsort(-scores)[:5]].mean()),
            )
        return found


def means(measures: Mapping[int, Measure]) -> tuple[float, float]:
    """Mean average precision and mean ROC AUC over concepts."""
    return (
        float(np.mean([each.average_precision for each in measures.values()])),
        float(np.mean([each.roc_auc for each in measures.values()])),
    )


def verdict(sets: Mapping[str, Measure]) -> str:
    """``good``, ``weak``, ``weak on photographs`` (good only on the sets that look like the training photos) or
    ``unmeasured``."""
    if not sets:
        return "unmeasured"
    weak = [name for name, measure in sets.items() if measure.weak]
    if not weak:
        return "good"
    return "weak on photographs" if weak == [PHOTOGRAPHS] and EVALUATION in sets else "weak"


def by_concept(ids: Sequence[str], judged: Mapping[str, Judged]) -> dict[str, dict[str, Measure]]:
    """Concept id to its measures by set; ``ids`` are those of the columns."""
    found: dict[str, dict[str, Measure]] = {identity: {} for identity in ids}
    for name, one in judged.items():
        for column, measure in one.measures(LEAST_POSITIVES).items():
            found[ids[column]][name] = measure
    return found


def write(folder: Path, concepts: Sequence[str], measured: Mapping[str, Mapping[str, Measure]]) -> None:
    """Write the file whole or not at all, with an entry for every concept of the vocabulary."""
    entries = {}
    for identity in concepts:
        sets = measured.get(identity, {})
        rounded = {
            name: {field: round(value, 3) for field, value in asdict(measure).items()} for name, measure in sets.items()
        }
        entries[identity] = {"verdict": verdict(sets), "sets": rounded}
    content = {
        "version": json.loads((folder / "manifest.json").read_text())["version"],
        "weak_below": {"average_precision": LEAST_AVERAGE_PRECISION, "roc_auc": LEAST_ROC_AUC},
        "least_positives": LEAST_POSITIVES,
        "concepts": entries,
    }
    partial = folder / "quality.json.tmp"
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, folder / "quality.json")
