"""Work beside a block of code: it ends when the block does, whatever it is waiting for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

_CANCEL_AGAIN_S = 5.0
_Result = TypeVar("_Result")


@asynccontextmanager
async def background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Runs beside the block and ends with it."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        await end([task])


async def end(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancels tasks until they are done.

    Once is not always enough: where an answer of the database arrives in that moment, ``asyncio.wait_for`` of Python
    3.11, which psycopg waits by, returns the answer and forgets the cancellation. Again only after a while, because a
    task may still be giving its jobs back.
    """
    waiting = set(tasks)
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=_CANCEL_AGAIN_S)
    await asyncio.gather(*tasks, return_exceptions=True)


async def to_its_end(work: Coroutine[Any, Any, _Result]) -> _Result:
    """What ``work`` returns, also to a task that is cancelled meanwhile: it is cancelled at its next wait instead.

    For what takes something that has to be given back: between the database and the caller it must not get lost.
    """
    running = asyncio.create_task(work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        try:
            await asyncio.wait([running])
        except asyncio.CancelledError:  # again: that is long enough
            running.cancel()
            raise
        this = asyncio.current_task()
        assert this is not None
        this.cancel()
        return running.result()
