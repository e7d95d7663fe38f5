"""Which labelled inputs are judged together in cross-validation, by models that have not seen them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sightrank.vision.fitting import Examples

MAX_FOLDS = 5


def fold_numbers(examples: Examples, *, seed: int, between: Callable[[], None] = lambda: None) -> NDArray[np.int64]:
    """The fold of each area, from 0 on: five folds, or as many as there are inputs where those are fewer.

    All areas of an input are in one fold. Folds have nearly as many of each concept's positives and negatives, and of
    inputs: each concept in turn, the rarest first, is dealt out to the folds that lack it most (iterative
    stratification, Sechidis et al. 2011). The same examples and seed give the same folds. ``between`` is called
    before each; what it raises ends the work.
    """
    inputs, area_inputs = np.unique(examples.input_numbers, return_inverse=True)
    count = min(MAX_FOLDS, len(inputs))
    if count < 2:
        return np.zeros(len(area_inputs), np.int64)
    said = np.concatenate([examples.labels > 0.5, examples.labels <= 0.5], axis=1)  # NaN is neither
    has = np.zeros((len(inputs), said.shape[1]), bool)
    np.logical_or.at(has, area_inputs, said)
    return _deal(has, count, np.random.default_rng(seed), between)[area_inputs]


def _deal(
    has: NDArray[np.bool_], count: int, random: np.random.Generator, between: Callable[[], None]
) -> NDArray[np.int64]:
    """The fold of each input; ``has`` [inputs, kinds of label]."""
    folds = np.full(len(has), -1, np.int64)
    shuffled = random.permutation(len(has))
    lacks = np.tile(has.sum(axis=0) / count, (count, 1))  # [folds, kinds]
    room = np.full(count, len(has) / count)
    left = has.sum(axis=0)
    while left.any():
        between()
        kind = int(np.argmin(np.where(left > 0, left, len(has) + 1)))
        for place in shuffled[has[shuffled, kind] & (folds[shuffled] < 0)]:
            fold = int(np.lexsort((-room, -lacks[:, kind]))[0])
            folds[place] = fold
            lacks[fold] -= has[place]
            room[fold] -= 1
            left -= has[place]
    for place in shuffled[folds[shuffled] < 0]:  # nothing was said of these
        folds[place] = fold = int(np.argmax(room))
        room[fold] -= 1
    return folds
