"""All the ways in which the engine can answer a search: every plan with every ranker.

The engine's bounds are so low here that small apps take every turn.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest

from sightrank.search import matrix, matrix_ranker, plan, rank, sql_ranker
from sightrank.search.engine import SearchEngine
from sightrank.search.fits import Fits
from sightrank.search.follow import Matrices, RankerChoice
from sightrank.search.plan import Plan
from sightrank.search.query import Query
from sightrank.store import vectors
from sightrank.store.database import Database
from sightrank.store.vectors import EmbedderTable

#: Constants of the engine that decide where it turns, and what they are for the oracle's apps of a few hundred areas.
_SMALL: Sequence[tuple[ModuleType, Mapping[str, Any]]] = (
    (plan, {"_BOUND": 0, "_LEAST_BOUND": 3, "_FIRST_LOOK": 3, "_LARGEST_STEP": 2, "_MOST_LOOKED_AT": 8}),
    (sql_ranker, {"_NEIGHBOURS": 6, "_MOST_CONTENDERS": 30, "_MOST_PRODUCTS": 6}),
    (matrix_ranker, {"GRAPH_HITS": 8, "SPARE": 4}),
    (rank, {"SPARE": 4, "_TANGENT_ROWS": 16, "_COSINES_AT_ONCE": 100}),
    (matrix, {"_CHUNK_ROWS": 64, "_EXACT_ROWS": 7}),
    (vectors, {"_CHUNK_BYTES": 300}),
)
#: In "auto" the small apps fit into memory, not all at once, and the larger ones do not fit at all.
_MEMORY_BYTES: Mapping[RankerChoice, int] = {"auto": 60_000, "exact": 2**20, "graph": 2**24, "sql": 2**20}
_FORCED: Sequence[Plan | None] = (None, Plan.FILTER_THEN_RANK, Plan.RANK_THEN_FILTER)
ALL_CHOICES: Sequence[RankerChoice] = ("auto", "exact", "graph", "sql")
_GRAPHS_S = 120.0
_SHORT = 10


def lower_bounds(patch: pytest.MonkeyPatch) -> None:
    """Lets small apps take the turns of large ones."""
    for module, values in _SMALL:
        for name, value in values.items():
            patch.setattr(module, name, value)


@dataclass(frozen=True, kw_only=True)
class Mode:
    """One way to answer. ``forced`` None: the engine decides what goes first."""

    choice: RankerChoice
    forced: Plan | None
    engine: SearchEngine

    def __str__(self) -> str:
        return f"ranker {self.choice}, plan {self.forced.value if self.forced else 'free'}"

    def differs_for(self, query: Query) -> bool:
        """Whether the search runs in another way than in the modes before; without ranks SQL does it all."""
        if not query.ranks:
            return self.choice == "auto" and self.forced is None
        return query.narrows or self.forced is None

    def is_slow_for(self, query: Query) -> bool:
        """Page after page from PostgreSQL, each ranked anew, takes as long as all other modes together."""
        goes_on = query.narrows and self.forced is not Plan.FILTER_THEN_RANK
        return self.choice == "sql" and goes_on and query.offset + query.limit > _SHORT


@dataclass(frozen=True, kw_only=True)
class Modes:
    """Engines for all modes, with a process's memory for each ranker."""

    matrices: Mapping[RankerChoice, Matrices]
    modes: Sequence[Mode]

    @staticmethod
    def of(database: Database, choices: Iterable[RankerChoice], *, engine: Any) -> Modes:
        """``engine(matrices, forced)`` makes an engine."""
        matrices = {
            choice: Matrices(
                database, Fits(database), memory_bytes=_MEMORY_BYTES[choice], choice=choice, graph_from_areas=100
            )
            for choice in choices
        }
        modes = [
            Mode(choice=choice, forced=forced, engine=engine(matrices[choice], forced))
            for choice, forced in itertools.product(matrices, _FORCED)
        ]
        return Modes(matrices=matrices, modes=modes)

    async def close(self) -> None:
        for matrices in self.matrices.values():
            await matrices.close()


async def await_graphs(matrices: Matrices, table: EmbedderTable, buckets: Iterable[int]) -> None:
    """Returns when there is a graph for each bucket that has vectors. Graphs are built in the background."""
    deadline = time.monotonic() + _GRAPHS_S
    for bucket in buckets:
        while True:
            await matrices.ranker(table, bucket, await matrices.versions(bucket))
            state = next(state for state in matrices.states() if state.bucket == bucket)
            if not state.rows or state.ranker == "graph":
                break
            assert time.monotonic() < deadline, f"no graph for bucket {bucket}: {state}"
            await asyncio.sleep(0.01)
