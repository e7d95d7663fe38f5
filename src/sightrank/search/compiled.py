"""Ranks ready to be scored: directions, and the labels that override them. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightrank.search.score import Array, Direction


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Labels:
    """The latest trusted label of one concept on each labelled area: parallel arrays, values 0..1."""

    area_ids: NDArray[np.int64]
    values: Array

    def over(self, others: Labels) -> Labels:
        """These, and ``others`` on the areas that have none."""
        left = ~np.isin(others.area_ids, self.area_ids)
        return Labels(
            area_ids=np.concatenate([self.area_ids, others.area_ids[left]]),
            values=np.concatenate([self.values, others.values[left]]),
        )


NO_LABELS = Labels(area_ids=np.empty(0, np.int64), values=np.empty(0))


def labels_of(rows: Sequence[tuple[int, float]]) -> Labels:
    """Labels of (area id, value)."""
    if not rows:
        return NO_LABELS
    area_ids, values = zip(*rows, strict=True)
    return Labels(area_ids=np.array(area_ids, np.int64), values=np.clip(np.array(values, np.float64), 0.0, 1.0))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CompiledTerm:
    """Directions of which the likeliest counts (more than one when a name stands for several concepts), each with the
    labels that override it."""

    alternatives: tuple[tuple[Direction, Labels], ...]
    value: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CompiledRank:
    """One rank, ready to be scored."""

    terms: tuple[CompiledTerm, ...]
    negate: bool = False


def vectors_of(ranks: tuple[CompiledRank, ...]) -> list[NDArray[np.float64]]:
    """All vectors of all directions, in their order."""
    return [vector for r in ranks for t in r.terms for direction, _ in t.alternatives for vector in direction.vectors]
