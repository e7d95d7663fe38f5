"""One matrix that follows the database: many searches read it at once, a load changes it for all of them together.

What is new is read from the database while searches go on; only its taking over, all at once, waits for the readers
that are inside and keeps new ones waiting that long. A load is a task of its own, shared by everybody who waits for it.
Who gives up waiting leaves it to the others; it ends with the last of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightrank.search.graph import Graph
from sightrank.search.matrix import Matrix, Rows
from sightrank.search.readers import Readers


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Changes:
    """What was committed after version ``since`` up to ``version``; ``matrix``: everything anew, instead of changes."""

    since: int
    version: int
    rows: tuple[Rows, ...] = ()
    removed: NDArray[np.int64]
    matrix: Matrix | None = None


#: Reads what is newer than a version from the database.
Load = Callable[[int], Awaitable[Changes]]


@dataclass(slots=True)
class _Loading:
    task: asyncio.Task[None]
    waiting: int = 0


class Followed:
    """A matrix, and perhaps a graph over it."""

    def __init__(self, dims: int, load: Load) -> None:
        self.dims = dims
        self._matrix = Matrix(dims)
        self._load = load
        self._loading: _Loading | None = None
        self._readers = Readers()
        self._graph: Graph | None = None
        self._next_graph: Graph | None = None

    @property
    def version(self) -> int:
        return self._matrix.version

    @property
    def rows(self) -> int:
        return len(self._matrix)

    @property
    def graph(self) -> Graph | None:
        return self._graph

    @property
    def size_bytes(self) -> int:
        graphs = sum(graph.size_bytes for graph in (self._graph, self._next_graph) if graph is not None)
        return self._matrix.size_bytes + graphs

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Matrix]:
        """The matrix, unchanged for the length of the block. Nothing slow may be awaited in it but arithmetic."""
        async with self._readers.reading():
            yield self._matrix

    async def reach(self, version: int) -> None:
        """Returns when the matrix is at ``version`` or later. Raises what loading raises."""
        while self._matrix.version < version:
            loading = self._loading
            if loading is None or loading.task.done():
                loading = self._loading = _Loading(asyncio.create_task(self._advance(), name="matrix load"))
                loading.task.add_done_callback(self._loaded)
            loading.waiting += 1
            try:
                await asyncio.shield(loading.task)
            finally:
                loading.waiting -= 1
                if loading.waiting == 0 and not loading.task.done():
                    loading.task.cancel()
                    self._loading = None

    async def start_graph(self) -> Graph:
        """A graph to be built over the matrix as it is now; until ``finish_graph`` it takes note of changes."""
        async with self._readers.reading():
            matrix = self._matrix
            self._next_graph = Graph(
                Rows(
                    area_ids=matrix.area_ids.copy(),
                    input_numbers=matrix.input_numbers.copy(),
                    created_us=matrix.created_us.copy(),
                    vectors=matrix.copy_of_vectors(),
                )
            )
            return self._next_graph

    def finish_graph(self, graph: Graph, *, usable: bool) -> None:
        """``graph`` is built, or was given up."""
        if self._next_graph is graph:
            self._next_graph = None
            if usable:
                self._graph = graph

    def drop_graph(self) -> None:
        """Searches that still use it keep it until they are done; one being built is given up."""
        self._graph = self._next_graph = None

    def is_building(self, graph: Graph) -> bool:
        """Whether ``graph`` is still to be finished."""
        return self._next_graph is graph

    def _loaded(self, task: asyncio.Task[None]) -> None:
        if self._loading is not None and self._loading.task is task:
            self._loading = None
        if not task.cancelled():
            task.exception()  # whoever waited has it; nobody may be left to

    async def _advance(self) -> None:
        changes = await self._load(self._matrix.version)
        async with self._readers.writing():
            if changes.since == self._matrix.version:  # else a load that was given up has come to its end after all
                self._take_over(changes)

    def _take_over(self, changes: Changes) -> None:
        graphs = [graph for graph in (self._graph, self._next_graph) if graph is not None]
        if changes.matrix is not None:
            self._matrix = changes.matrix
            self._graph = self._next_graph = None
        for rows in changes.rows:
            self._matrix.upsert(rows)
            for graph in graphs:
                graph.absorb(rows)
        if len(changes.removed):
            self._matrix.remove(changes.removed)
            for graph in graphs:
                graph.forget(len(changes.removed))
        self._matrix.version = changes.version
