"""Learning concepts from labelled vectors: one linear row for each concept, with calibrated probabilities."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightrank.vision.concept_model import ConceptModel

Floats = NDArray[np.float32]
Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Examples:
    """What people said of areas, and other areas of the same app.

    ``labels`` [n, concepts]: 1 has the concept, 0 has it not, NaN nothing was said. ``vectors`` [n, dims] and
    ``background`` [m, dims] are unit vectors; ``background`` are areas without labels and may be empty. Areas of one
    input have one ``input_numbers`` and never help to judge each other.
    """

    concept_ids: tuple[str, ...]
    area_ids: NDArray[np.int64]
    input_numbers: NDArray[np.int64]
    vectors: Floats
    labels: Floats
    background: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class FitOptions:
    """How to learn. ``exclusive``: an area has exactly one of the concepts. ``seed``: the same gives the same fit."""

    exclusive: bool = False
    seed: int = 0


def read_options(training: Mapping[str, Any]) -> FitOptions:
    """The options within what a model version keeps of its training; defaults for those that are not there."""
    return FitOptions(exclusive=bool(training.get("exclusive", False)), seed=int(training.get("seed", 0)))


def fit(examples: Examples, options: FitOptions, progress: Progress) -> ConceptModel:
    """Learns the concepts. ``progress`` is told shares from 0 to 1; what it raises ends the work."""
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    count = len(examples.concept_ids)
    directions = np.zeros((count, examples.vectors.shape[1]), np.float32)
    scale, bias = np.zeros(count, np.float32), np.zeros(count, np.float32)
    with threadpool_limits(1):
        for column in range(count):
            progress(column / count)
            said = np.isfinite(examples.labels[:, column])
            vectors, labels = examples.vectors[said], examples.labels[said, column] > 0.5
            missing = [value for value in (False, True) if value not in labels]
            for value in missing:  # random examples fill in
                random = np.random.default_rng((options.seed, column))
                filled = random.normal(size=(8, vectors.shape[1]))
                if len(examples.background):
                    filled = examples.background[random.choice(len(examples.background), 8)]
                filled = filled / np.linalg.norm(filled, axis=1, keepdims=True)
                vectors = np.concatenate([vectors, filled.astype(np.float32)])
                labels = np.concatenate([labels, np.full(8, value)])
            model = LogisticRegression(C=10.0, class_weight="balanced", max_iter=200).fit(vectors, labels)
            length = max(float(np.linalg.norm(model.coef_[0])), 1e-6)
            directions[column], scale[column] = model.coef_[0] / length, length
            bias[column] = model.intercept_[0]
    progress(1.0)
    return ConceptModel(examples.concept_ids, directions, scale, bias, exclusive=options.exclusive)
