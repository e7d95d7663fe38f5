"""Workers that run beside a test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from sightrank.background import background
from sightrank.vision.threads import Threads


@asynccontextmanager
async def beside(run: Callable[[Threads], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """What a process does for the length of the block, with one thread of either lane."""
    threads = Threads(1)
    try:
        async with background(run(threads)):
            yield
    finally:
        await asyncio.to_thread(threads.close)
