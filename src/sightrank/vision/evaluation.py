"""What a model says of areas whose labels are known: by cross-validation on what it learnt from, or of other areas."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sightrank.vision.concept_model import ConceptModel
from sightrank.vision.fitting import Examples, FitOptions, fit
from sightrank.vision.folds import fold_numbers

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]
Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Judged:
    """Predictions beside what people said.

    ``labels`` [areas, concepts]: 1 has the concept, 0 has it not, NaN nothing was said. ``probabilities`` [areas,
    concepts]. ``folds`` [areas]: which areas were judged together; ``fold_count`` is 0 where nothing was left out.
    """

    concept_ids: tuple[str, ...]
    area_ids: Integers
    input_numbers: Integers
    labels: Floats
    probabilities: Floats
    folds: Integers
    fold_count: int


def cross_validate(examples: Examples, options: FitOptions, progress: Progress) -> Judged:
    """Judges each area by a model that was fitted without the area's input, and all inputs of its fold.

    A single input cannot be left out: it is judged by a model that was fitted on it, and ``fold_count`` is 0.
    ``progress`` is told shares from 0 to 1; what it raises ends the work.
    """
    folds = fold_numbers(examples, seed=options.seed, between=lambda: progress(0.0))
    count = int(folds.max()) + 1 if len(folds) else 0
    if count < 2:
        return judge(examples, fit(examples, options, progress))
    probabilities = np.zeros(examples.labels.shape, np.float32)
    for fold in range(count):
        seen = _rows(examples, folds != fold)
        model = fit(seen, options, lambda share, fold=fold: progress((fold + share) / count))  # type: ignore[misc]
        probabilities[folds == fold] = model.probabilities(examples.vectors[folds == fold])
    progress(1.0)
    return _judged(examples, probabilities, folds, count)


def judge(examples: Examples, model: ConceptModel) -> Judged:
    """Judges each area by the model as it is; it must know the concepts of the examples."""
    columns = [model.ids.index(concept_id) for concept_id in examples.concept_ids]
    probabilities = model.probabilities(examples.vectors)[:, columns]
    return _judged(examples, probabilities, np.zeros(len(examples.area_ids), np.int64), 0)


def _rows(examples: Examples, rows: NDArray[np.bool_]) -> Examples:
    return replace(
        examples,
        area_ids=examples.area_ids[rows],
        input_numbers=examples.input_numbers[rows],
        vectors=examples.vectors[rows],
        labels=examples.labels[rows],
    )


def _judged(examples: Examples, probabilities: Floats, folds: Integers, fold_count: int) -> Judged:
    return Judged(
        concept_ids=examples.concept_ids,
        area_ids=examples.area_ids,
        input_numbers=examples.input_numbers,
        labels=examples.labels,
        probabilities=probabilities,
        folds=folds,
        fold_count=fold_count,
    )
