"""What can rank: the vectors of one app and embedder at one commit version, wherever they are.

A ``Ranker`` finds the best areas for compiled ranks, exactly scored and exactly ordered. In memory that is the matrix,
with or without a graph over it; for apps beyond the memory budget it is PostgreSQL.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sightrank.search.compiled import CompiledRank
from sightrank.search.query import Unit
from sightrank.search.score import Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ranked:
    """Hits in order, parallel arrays: for each the area that represents it, its input, and its log score."""

    area_ids: NDArray[np.int64]
    input_numbers: NDArray[np.int64]
    log_scores: Array


class Ranker(Protocol):
    """Hits come by score descending, then creation, then area id. Scores are float64 on the stored half floats."""

    @property
    def dims(self) -> int: ...

    async def mean_of_areas(self, area_ids: NDArray[np.int64]) -> Array | None:
        """The mean, not of unit length, of the stored vectors of these areas; None if none of them has one."""

    async def mean_of_input(self, input_number: int) -> Array | None:
        """The mean of the stored vectors of an input's areas; None if it has none."""

    async def best(self, ranks: tuple[CompiledRank, ...], unit: Unit, count: int) -> Ranked:
        """The first ``count`` hits of the whole app. A hit of an input search is represented by the area that serves it
        best."""

    async def best_among(
        self, ranks: tuple[CompiledRank, ...], unit: Unit, count: int, area_ids: NDArray[np.int64]
    ) -> Ranked:
        """The first ``count`` hits among these areas; areas without a vector are left out."""
