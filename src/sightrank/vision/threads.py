"""The threads that decode, infer and learn. The first two have two lanes.

People who wait for an answer have threads of their own, beside those of ingest, which run at a lower priority: the
operating system then gives the cores to whoever waits, and ingest uses what is left, all of it when nobody searches.
That alone is not enough: a thread of low priority that is put aside may hold what the others need, Python's own lock
above all. So while an answer is being made, ingest begins nothing new.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from enum import Enum
from typing import TypeVar

_T = TypeVar("_T")
_INGEST_NICENESS = 10
_LEARNERS = 4  # the three trainings that a process does at once, and an evaluation: none of them waits for another
#: As long as this ingest waits for people at each step, so that it goes on, slowly, where somebody always searches.
_GIVES_WAY_S = 0.05
_LOOKS_EVERY_S = 0.002


class Lane(Enum):
    """Who waits for the work: a person, or the queue of inputs."""

    INTERACTIVE = "interactive"
    INGEST = "ingest"


class Threads:
    """Pools for decoding and for inference, ``cores`` threads each in either lane, and one for learning.

    ``close()`` ends them.
    """

    def __init__(self, cores: int) -> None:
        self.cores = cores
        self._decoding = {lane: _pool(lane, cores, "decode") for lane in Lane}
        self._inferring = {lane: _pool(lane, cores, "infer") for lane in Lane}
        self._learning = _pool(Lane.INGEST, _LEARNERS, "learn")
        self._answers = 0
        self._quiet = asyncio.Event()
        self._quiet.set()

    def close(self) -> None:
        for pool in (*self._decoding.values(), *self._inferring.values(), self._learning):
            pool.shutdown(wait=True, cancel_futures=True)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Somebody waits for an answer as long as the block lasts."""
        self._answers += 1
        self._quiet.clear()
        try:
            yield
        finally:
            self._answers -= 1
            if not self._answers:
                self._quiet.set()

    async def give_way(self) -> None:
        """For ingest, before it begins something: waits until nobody waits for an answer, but not for ever."""
        if self._quiet.is_set():
            return
        try:
            async with asyncio.timeout(_GIVES_WAY_S):
                await self._quiet.wait()
        except TimeoutError:
            return

    async def decode(self, lane: Lane, work: Callable[[], _T]) -> _T:
        """Runs what reads and cuts pictures."""
        return await self._run(self._decoding[lane], lane, work)

    async def infer(self, lane: Lane, work: Callable[[], _T]) -> _T:
        """Runs a network."""
        return await self._run(self._inferring[lane], lane, work)

    async def learn(self, work: Callable[[], _T]) -> _T:
        """Runs what learns from examples, beside ingest and like it after people; it calls ``make_way`` in between."""
        return await self._run(self._learning, Lane.INGEST, work)

    def make_way(self) -> None:
        """As ``give_way``, for work in a thread."""
        until = time.monotonic() + _GIVES_WAY_S
        while self._answers and time.monotonic() < until:
            time.sleep(_LOOKS_EVERY_S)

    async def _run(self, pool: ThreadPoolExecutor, lane: Lane, work: Callable[[], _T]) -> _T:
        if lane is Lane.INGEST:
            await self.give_way()
        return await asyncio.get_running_loop().run_in_executor(pool, work)


def _pool(lane: Lane, cores: int, name: str) -> ThreadPoolExecutor:
    yielding = _give_way if lane is Lane.INGEST else None
    return ThreadPoolExecutor(cores, thread_name_prefix=f"{name} {lane.value}", initializer=yielding)


def _give_way() -> None:
    """Lowers the calling thread's priority. Only Linux has priorities by thread; elsewhere the lanes share alike."""
    if hasattr(os, "setpriority") and os.uname().sysname == "Linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _INGEST_NICENESS)
