"""What this process holds in memory, written where `sightrank doctor` reads it: the table ``matrices``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from sightrank.search.follow import MatrixState
from sightrank.store import queries
from sightrank.store.database import Database

#: A process that was not seen for so long has ended without taking its rows along.
SILENT_S = 180.0
_SEEN_EVERY_S = 45.0
_SQL = queries.load("matrices")
_log = structlog.get_logger(__name__)


class MatrixReport:
    """Keeps the rows of one process true; ``process`` names it among all that ever were."""

    def __init__(
        self, database: Database, states: Callable[[], list[MatrixState]], *, process: str, every_s: float = 5.0
    ) -> None:
        self._database = database
        self._states = states
        self._process = process
        self._every_s = every_s
        self._written: list[MatrixState] = []
        self._seen_s = float("-inf")

    async def keep_written(self) -> None:
        """Writes what has changed every few seconds, until cancelled. A failure is logged and made good later."""
        while True:
            try:
                await self.write()
            except Exception:
                _log.exception("writing the state of the matrices failed")
            await asyncio.sleep(self._every_s)

    async def write(self) -> None:
        """Writes what has changed, and now and then that this process is still there."""
        states = list(self._states())
        due = time.monotonic() - self._seen_s >= _SEEN_EVERY_S
        if due:
            await self._database.execute(_SQL["forget_the_dead"], {"silent_s": SILENT_S})
        if states != self._written or (due and await self._seen() != len(states)):
            await self._database.execute(
                _SQL["write"],
                {
                    "process": self._process,
                    "buckets": [state.bucket for state in states],
                    "embedder_ids": [state.embedder_id for state in states],
                    "versions": [state.version for state in states],
                    "rows": [state.rows for state in states],
                    "bytes": [state.bytes for state in states],
                    "rankers": [state.ranker for state in states],
                },
            )
            self._written = states
        if due:
            self._seen_s = time.monotonic()

    async def close(self) -> None:
        """Takes this process's rows away; where that fails they are of a process that is seen no more."""
        self._written = []
        try:
            await self._database.execute(_SQL["forget"], {"process": self._process})
        except Exception:
            _log.exception("taking the state of the matrices away failed")

    async def _seen(self) -> int:
        """The rows there are of this process: fewer than written after a crash of the database, which empties the
        table."""
        return await self._database.execute(_SQL["seen"], {"process": self._process})
