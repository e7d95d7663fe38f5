"""A graph of neighbours over a matrix (HNSW): the nearest areas of a direction without looking at all of them.

It is built once from a copy of the matrix and never changed; what came since is kept beside it, scanned exactly, and
merged. It holds areas, not rows, so rows may move. Areas that are gone are for the caller to drop.

It is approximate, and good only at directions that lie among the vectors: a picture, an input. Of the neighbours of a
direction far from all of them (the negative of a picture, a concept seldom seen) it finds 25 to 90 %. So it knows how
near the neighbours of its own vectors are, and answers nothing for a direction whose neighbours are further away.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from sightrank.search.matrix import Matrix, Rows, flat_index

#: Areas from which on an app gets a graph: an exact scan takes 2 ms there, six times as long as the graph.
GRAPH_FROM_AREAS = 100_000
_LINKS = 32
_BREADTH_OF_BUILDING = 100
_BREADTH = 256
_PART_ROWS = 1000  # added at a time: between two parts building can be given up
_SAMPLE = 256
_RANK_OF_REACH = 20
_LEAST_REACH = 0.05  # quantile of the sample
_STALE_SHARE = 0.1


class GivenUp(Exception):
    """Nobody wants the graph any more."""


class Graph:
    """See the module. ``build`` runs in a thread of its own; until it is done the graph only takes note of changes."""

    def __init__(self, rows: Rows) -> None:
        """``rows`` is a copy of the whole matrix."""
        self._rows: Rows | None = rows
        dims = rows.vectors.shape[1]
        self.dims = dims
        self._area_ids = rows.area_ids
        self._index = _new_index(dims)
        self._later = flat_index(dims)
        self._later_ids = np.empty(0, np.int64)
        self._gone = 0
        self._reach = np.inf

    @staticmethod
    def row_bytes(dims: int) -> int:
        """Memory for one area."""
        return 2 * dims + 8 + 4 * (2 * _LINKS + 4)

    @property
    def size_bytes(self) -> int:
        copied = 0 if self._rows is None else 2 * self.dims * len(self._area_ids)
        return (len(self._area_ids) + len(self._later_ids)) * self.row_bytes(self.dims) + copied

    @property
    def is_stale(self) -> bool:
        """Whether so much has changed that it should be built anew."""
        return len(self._later_ids) + self._gone > _STALE_SHARE * len(self._area_ids)

    def build(self, is_wanted: Callable[[], bool]) -> None:
        """Links the vectors: minutes for a million. Raises GivenUp when it is not wanted any more."""
        rows = self._rows
        assert rows is not None, "a graph is built once"
        for start in range(0, len(rows.area_ids), _PART_ROWS):
            if not is_wanted():
                raise GivenUp
            self._index.add(rows.vectors[start : start + _PART_ROWS].astype(np.float32))
        self._reach = self._usual_reach(rows)
        self._rows = None

    def absorb(self, rows: Rows) -> None:
        """Takes note of areas that are new or have other vectors now. The caller keeps readers away."""
        self._later.add_sa_codes(np.ascontiguousarray(rows.vectors).view(np.uint8))
        self._later_ids = np.r_[self._later_ids, rows.area_ids]

    def forget(self, count: int) -> None:
        """Takes note that so many areas are gone."""
        self._gone += count

    def nearest(
        self, matrix: Matrix, direction: NDArray[np.float64], count: int
    ) -> tuple[NDArray[np.intp], NDArray[np.float32]] | None:
        """``count`` rows of ``matrix`` next to a direction and their products, falling; None where it is not good.

        A product may be that of a vector which the area had before.
        """
        wanted = direction.astype(np.float32)[None, :]
        # Some of the neighbours may be gone, or come twice.
        asked = min(count + min(self._gone + len(self._later_ids), count), len(self._area_ids))
        products, places = self._index.search(wanted, asked, params=_breadth(max(_BREADTH, asked)))
        found = places[0] >= 0
        area_ids, near = self._area_ids[places[0][found]], products[0][found]
        if len(near) < min(_RANK_OF_REACH, count) or near[min(_RANK_OF_REACH, len(near)) - 1] < self._reach:
            return None
        if len(self._later_ids):
            products, places = self._later.search(wanted, min(count, len(self._later_ids)))
            area_ids, near = np.r_[area_ids, self._later_ids[places[0]]], np.r_[near, products[0]]
            order = np.argsort(-near, kind="stable")
            area_ids, near = area_ids[order], near[order]
        rows = matrix.rows_of(area_ids)
        first = np.zeros(len(rows), np.bool_)
        first[np.unique(rows, return_index=True)[1]] = True
        kept = np.flatnonzero(first & (rows >= 0))[:count]
        return (rows[kept], near[kept]) if len(kept) == count else None

    def _usual_reach(self, rows: Rows) -> float:
        """The product of its vectors with their neighbours at which a direction counts as one among them."""
        chosen = np.linspace(0, len(rows.area_ids) - 1, min(_SAMPLE, len(rows.area_ids))).astype(np.intp)
        directions = rows.vectors[chosen].astype(np.float32)
        count = min(_RANK_OF_REACH + 1, len(rows.area_ids))
        products, _ = self._index.search(directions, count, params=_breadth(_BREADTH))
        return float(np.quantile(products[:, -1], _LEAST_REACH))


# The types that come with faiss leave these out.


def _new_index(dims: int) -> Any:
    index: Any = faiss
    found = index.IndexHNSWSQ(dims, faiss.ScalarQuantizer.QT_fp16, _LINKS, faiss.METRIC_INNER_PRODUCT)
    found.hnsw.efConstruction = _BREADTH_OF_BUILDING
    return found


def _breadth(count: int) -> Any:
    parameters: Any = faiss
    return parameters.SearchParametersHNSW(efSearch=count)
