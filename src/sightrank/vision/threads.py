"""The threads that decode and infer, in two lanes.

People who wait for an answer have threads of their own, beside those of ingest, which run at a lower priority: the
operating system then gives the cores to whoever waits, and ingest uses what is left, all of it when nobody searches.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from typing import TypeVar

_T = TypeVar("_T")
_INGEST_NICENESS = 10


class Lane(Enum):
    """Who waits for the work: a person, or the queue of inputs."""

    INTERACTIVE = "interactive"
    INGEST = "ingest"


class Threads:
    """Pools for decoding and for inference, ``cores`` threads each in either lane. ``close()`` ends them."""

    def __init__(self, cores: int) -> None:
        self.cores = cores
        self._decoding = {lane: _pool(lane, cores, "decode") for lane in Lane}
        self._inferring = {lane: _pool(lane, cores, "infer") for lane in Lane}

    def close(self) -> None:
        for pool in (*self._decoding.values(), *self._inferring.values()):
            pool.shutdown(wait=True, cancel_futures=True)

    async def decode(self, lane: Lane, work: Callable[[], _T]) -> _T:
        """Runs what reads and cuts pictures."""
        return await asyncio.get_running_loop().run_in_executor(self._decoding[lane], work)

    async def infer(self, lane: Lane, work: Callable[[], _T]) -> _T:
        """Runs a network."""
        return await asyncio.get_running_loop().run_in_executor(self._inferring[lane], work)


def _pool(lane: Lane, cores: int, name: str) -> ThreadPoolExecutor:
    yielding = _give_way if lane is Lane.INGEST else None
    return ThreadPoolExecutor(cores, thread_name_prefix=f"{name} {lane.value}", initializer=yielding)


def _give_way() -> None:
    """Lowers the calling thread's priority. Only Linux has priorities by thread; elsewhere the lanes share alike."""
    if hasattr(os, "setpriority") and os.uname().sysname == "Linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _INGEST_NICENESS)
