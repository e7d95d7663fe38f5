"""Work under a lease: it goes on while the lease is ours, and learns of it when it is not."""

from __future__ import annotations

import asyncio
import os
import threading
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import psycopg
import structlog

from sightrank.background import to_its_end
from sightrank.errors import DoesNotExist, ServerBusy
from sightrank.vision.threads import Threads

_log = structlog.get_logger(__name__)

_KEPT_EVERY_S = 1.0  # within this time whoever deletes what is worked on has stopped the work
_IDLE_S = 1.0  # how long it is waited for what other processes ask for; whoever asks this one wakes it at once
_Work = TypeVar("_Work")


class LeaseLost(Exception):
    """What was worked on was deleted, or another process has it now; nothing is written."""


def new_owner() -> str:
    """What names this process, or one of its workers, in the leases it takes and in what it reports."""
    return f"{os.getpid()}-{uuid.uuid4().hex[:12]}"


class Run:
    """What the thread that works and whoever keeps its lease tell each other."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._stopped = threading.Event()
        self.share = 0.0

    def stop(self) -> None:
        self._stopped.set()

    def tell(self, share: float) -> None:
        """How far the work is, 0 to 1. Raises LeaseLost when nobody wants it any more."""
        if self._stopped.is_set():
            raise LeaseLost
        self.share = share
        self._threads.make_way()


@asynccontextmanager
async def kept(threads: Threads, renew: Callable[[float], Awaitable[bool]]) -> AsyncIterator[Run]:
    """The lease is ours as long as the block lasts, or the run is told that it is not.

    ``renew`` is told how far the work is, and says whether the lease is still ours.
    """
    run = Run(threads)
    keeping = asyncio.create_task(_keep(run, renew))
    try:
        yield run
    finally:
        run.stop()
        keeping.cancel()
        await asyncio.wait([keeping])


async def _keep(run: Run, renew: Callable[[float], Awaitable[bool]]) -> None:
    while True:
        await asyncio.sleep(_KEPT_EVERY_S)
        try:
            if not await renew(run.share):
                run.stop()
        except (ServerBusy, psycopg.OperationalError) as error:
            _log.warning("a lease was not renewed", reason=str(error))


@asynccontextmanager
async def attempt(
    what: str, put_off: Callable[[float], Awaitable[None]], *, pause_s: float, **names: object
) -> AsyncIterator[None]:
    """The block is an attempt at leased work, which ends quietly where somebody has called the work off, or where what
    stopped it had nothing to do with it. Any other error is raised.

    ``put_off`` gives the work back for so many seconds and does not count the attempt; ``names`` tell in the log which
    work it is.
    """
    try:
        yield
    except asyncio.CancelledError:
        await asyncio.shield(put_off(0.0))
        raise
    except (LeaseLost, DoesNotExist):
        _log.info(f"{what} called off", **names)
    except (ServerBusy, psycopg.OperationalError, OSError) as error:
        _log.warning(f"{what} put off", **names, reason=str(error))
        await put_off(pause_s)


async def work_off(
    claim: Callable[[], Coroutine[Any, Any, _Work | None]], take: Callable[[_Work], Awaitable[Any]], wake: asyncio.Event
) -> None:
    """Takes one piece of work after the other, until cancelled, waiting where there is none."""
    while True:
        try:
            wake.clear()
            work = await to_its_end(claim())
        except Exception:
            _log.exception("looking for work failed")
            work = None
        if work is not None:
            await take(work)
            continue
        with suppress(TimeoutError):
            async with asyncio.timeout(_IDLE_S):
                await wake.wait()
