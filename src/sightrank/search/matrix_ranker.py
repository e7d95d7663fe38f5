"""Ranking in memory: a followed matrix behind the ``Ranker`` protocol, with its graph where there is one.

The graph gives the first hits of one direction, exactly scored. What comes after them is found by an exact scan and
follows them, so pages neither skip nor repeat a hit, wherever one ends.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sightrank.search.compiled import CompiledRank, vectors_of
from sightrank.search.followed import Followed
from sightrank.search.graph import Graph
from sightrank.search.matrix import Matrix
from sightrank.search.order import Ranking, known, ordered
from sightrank.search.query import Unit
from sightrank.search.rank import SPARE, is_told_apart, rank, single_direction
from sightrank.search.ranker import Ranked
from sightrank.search.score import Array
from sightrank.search.scoring import Scoring

#: So many hits come from the graph: five pages of twenty. More take as long as an exact scan.
GRAPH_HITS = 100
_MOST_LABELLED = 1000
#: Rows that a search of the graph looks at, about; it weighs the work.
_GRAPH_WORK = 5000


class MatrixRanker:
    """Implements ``Ranker``. Each call sees the matrix as it is then, or as it was at a later commit than the last."""

    def __init__(self, followed: Followed, dims: int, scoring: Scoring) -> None:
        self._followed = followed
        self._dims = dims
        self._scoring = scoring

    @property
    def dims(self) -> int:
        return self._dims

    @property
    def areas(self) -> int:
        return self._followed.rows

    async def mean_of_areas(self, area_ids: NDArray[np.int64]) -> Array | None:
        async with self._followed.reading() as matrix:
            return await self._scoring.run(lambda: _mean(matrix, known(matrix.rows_of(area_ids))), len(area_ids))

    async def mean_of_input(self, input_number: int) -> Array | None:
        async with self._followed.reading() as matrix:
            return _mean(matrix, np.flatnonzero(matrix.input_numbers == input_number))

    async def best(self, ranks: tuple[CompiledRank, ...], unit: Unit, count: int) -> Ranked:
        async with self._followed.reading() as matrix:
            graph = self._followed.graph
            first = None
            if graph is not None:
                first = await self._scoring.run(lambda: _by_graph(matrix, graph, ranks, unit), _GRAPH_WORK)
                if first is not None and len(first.rows) >= count:
                    return _ranked(matrix, first, count)
            work = len(matrix) * _columns(ranks)
            found = await self._scoring.run(lambda: rank(matrix, ranks, unit, None, count), work)
            return _ranked(matrix, found if first is None else _joined(first, found), count)

    async def best_among(
        self, ranks: tuple[CompiledRank, ...], unit: Unit, count: int, area_ids: NDArray[np.int64]
    ) -> Ranked:
        async with self._followed.reading() as matrix:
            work = len(area_ids) * _columns(ranks)
            found = await self._scoring.run(lambda: rank(matrix, ranks, unit, matrix.known_rows(area_ids), count), work)
            return _ranked(matrix, found, count)


def _columns(ranks: tuple[CompiledRank, ...]) -> int:
    return max(len(vectors_of(ranks)), 1)


def _mean(matrix: Matrix, rows: NDArray[np.intp]) -> Array | None:
    return matrix.vectors(rows).mean(axis=0) if len(rows) else None


def _by_graph(matrix: Matrix, graph: Graph, ranks: tuple[CompiledRank, ...], unit: Unit) -> Ranking | None:
    """The first ``GRAPH_HITS`` hits; None where the graph cannot tell.

    It cannot where the score falls with the cosine, because it finds too few of the farthest.
    """
    alone = single_direction(ranks)
    if alone is None or alone.sign < 0 or len(alone.labels.area_ids) > _MOST_LABELLED:
        return None
    if unit is Unit.INPUT and not matrix.one_area_each:
        return None
    wanted = GRAPH_HITS + len(alone.labels.area_ids)
    near = graph.nearest(matrix, alone.vector, wanted + SPARE)
    if near is None or not is_told_apart(ranks, alone, near[1], wanted):
        return None
    contenders = np.union1d(near[0], known(matrix.rows_of(alone.labels.area_ids)))
    return ordered(matrix, ranks, unit, contenders, GRAPH_HITS)


def _joined(first: Ranking, exact: Ranking) -> Ranking:
    """``first``, then what the exact scan found beside it."""
    more = ~np.isin(exact.rows, first.rows)
    return Ranking(rows=np.r_[first.rows, exact.rows[more]], log_scores=np.r_[first.log_scores, exact.log_scores[more]])


def _ranked(matrix: Matrix, ranking: Ranking, count: int) -> Ranked:
    rows = ranking.rows[:count]
    return Ranked(
        area_ids=matrix.area_ids[rows],
        input_numbers=matrix.input_numbers[rows],
        log_scores=ranking.log_scores[:count],
    )
