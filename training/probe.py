"""How well concepts can be read off a vector: linear probes, cross-validated, the same for every kind of vector."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from training.evidence import YES, Marks

Floats = npt.NDArray[np.float32]
FOLDS = 5
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)
"""Shares of the mean squared length that are added to the diagonal; each kind of vector gets the one that suits it."""


def probed(vectors: Floats, marks: Marks, strength: float) -> Floats:
    """Scores [photos, concepts] by ridge regression, every photo scored by a fit that never saw it.

    What the labels leave open is fitted as a no; who measures leaves it out.
    """
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    wanted = (marks == YES).astype(np.float32)
    fold_of = np.random.default_rng(7).permutation(len(unit)) % FOLDS
    scores = np.zeros(wanted.shape, dtype=np.float32)
    for fold in range(FOLDS):
        seen, unseen = fold_of != fold, fold_of == fold
        centre, usual = unit[seen].mean(axis=0), wanted[seen].mean(axis=0)
        lessons = unit[seen] - centre
        close = lessons @ lessons.T
        close[np.diag_indices_from(close)] += strength * np.trace(close)
        weights = lessons.T @ np.linalg.solve(close, wanted[seen] - usual)
        scores[unseen] = (unit[unseen] - centre) @ weights + usual
    return scores
