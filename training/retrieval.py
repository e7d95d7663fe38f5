"""Precision of the nearest neighbours."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def precision_at(vectors: npt.NDArray[np.float32], labels: npt.NDArray[np.str_], count: int, minimum: int = 2) -> float:
    """Mean share of same-labelled photos among the `count` nearest others, over photos of labels seen often enough."""
    _, inverse, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    closeness = unit @ unit.T
    np.fill_diagonal(closeness, -np.inf)
    nearest = np.argpartition(-closeness, count, axis=1)[:, :count]
    hits = (inverse[nearest] == inverse[:, None]).mean(axis=1)
    return float(hits[sizes[inverse] >= minimum].mean())
