"""Where arithmetic runs: small work at once, large work in a bounded pool, so that the event loop goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import faiss

_T = TypeVar("_T")
#: Rows times directions above which work leaves the event loop: below it, the way to a thread costs more.
_INLINE_WORK = 60_000


class Scoring:
    """Threads for arithmetic; none of them: everything runs at once, where it is called."""

    def __init__(self, threads: int = 0) -> None:
        # One thread each: a scan is one stream through memory, and threads that wait for each other would only spin.
        self._pool = (
            ThreadPoolExecutor(threads, "scoring", initializer=lambda: faiss.omp_set_num_threads(1))
            if threads
            else None
        )

    async def run(self, work: Callable[[], _T], size: int) -> _T:
        """What ``work`` returns. ``size`` is its rows times its directions.

        Somebody who gives up waiting still gets away only when the thread is done, because until then it reads what
        the caller holds.
        """
        if self._pool is None or size <= _INLINE_WORK:
            return work()
        running = asyncio.get_running_loop().run_in_executor(self._pool, work)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait([running])
            raise

    def close(self) -> None:
        """Waits for the work under way."""
        if self._pool is not None:
            self._pool.shutdown()
