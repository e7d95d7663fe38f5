"""Builds graphs in the background, one at a time, in a thread that gives way to everything else."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import faiss
import structlog

from sightrank.search.followed import Followed
from sightrank.search.graph import GivenUp, Graph

_LOWEST_PRIORITY = 19
_log = structlog.get_logger(__name__)


class GraphBuilder:
    """Gives matrices of ``from_areas`` areas or more a graph, and another when too much has changed."""

    def __init__(self, *, from_areas: int) -> None:
        self._from_areas = from_areas
        self._thread: ThreadPoolExecutor | None = None
        self._building: dict[Followed, asyncio.Task[None]] = {}
        self._is_closed = False

    def tend(self, followed: Followed, *, room_bytes: int, is_wanted: Callable[[], bool]) -> asyncio.Task[None] | None:
        """Begins building if ``followed`` needs a graph and there is room for it; the task, or that begun before."""
        building = self._building.get(followed)
        if building is not None or self._is_closed:
            return building
        graph = followed.graph
        if followed.rows < self._from_areas or (graph is not None and not graph.is_stale):
            return None
        # While it is built, a copy of the vectors is there as well.
        if followed.rows * (Graph.row_bytes(followed.dims) + 2 * followed.dims) > room_bytes:
            return None
        task = asyncio.create_task(self._build(followed, is_wanted), name="graph")
        self._building[followed] = task
        return task

    async def close(self) -> None:
        """Gives up what is being built."""
        self._is_closed = True
        await asyncio.gather(*self._building.values(), return_exceptions=True)
        if self._thread is not None:
            self._thread.shutdown()

    async def _build(self, followed: Followed, is_wanted: Callable[[], bool]) -> None:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "graph", initializer=_give_way)
        graph = await followed.start_graph()
        built = False
        try:
            await asyncio.get_running_loop().run_in_executor(
                self._thread,
                graph.build,
                lambda: not self._is_closed and is_wanted() and followed.is_building(graph),
            )
            built = True
        except GivenUp:
            pass
        except Exception:
            # Searches are exact without it; the next one tries again.
            _log.exception("building a graph failed", rows=followed.rows)
        finally:
            followed.finish_graph(graph, usable=built)
            self._building.pop(followed, None)


def _give_way() -> None:
    faiss.omp_set_num_threads(1)
    if sys.platform == "linux":
        # Linux takes a thread for a process here: only this one becomes nice.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST_PRIORITY)
