"""The history of people's annotations: what each said before it was changed or deleted, for searches as of a time.

Every version is valid from its ``modified_at`` until the next one's; the versions of an annotation neither overlap nor
leave a hole, also when they were written by processes whose clocks differ.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import LiteralString

import structlog
from psycopg import sql

from sightrank.store import queries
from sightrank.store.database import Connection, Database

_SQL = queries.load("history")


def remembering(deletion: LiteralString) -> sql.Composed:
    """A statement that deletes annotations and returns their rows, and with it keeps what writers wrote as history; its
    count is that of the latter."""
    return sql.SQL(_SQL["remember_written"]).format(gone=sql.SQL(deletion))


_SWEEP_S = 3600.0
_PORTION = 1000  # rows, the LIMIT of the statement `forget`
_TICK = timedelta(microseconds=1)
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Ending:
    """The present version of an annotation ends at ``until``, which is after it began."""

    input_number: int
    id: str
    until: datetime


async def remember(connection: Connection, bucket: int, endings: Sequence[Ending]) -> None:
    """Keeps these versions, before the caller overwrites or deletes them; predictions of models are passed over.

    The caller holds the locks of their inputs.
    """
    if not endings:
        return
    await connection.execute(
        _SQL["remember"],
        {
            "bucket": bucket,
            "numbers": [ending.input_number for ending in endings],
            "ids": [ending.id for ending in endings],
            "untils": [ending.until for ending in endings],
        },
    )


def after(instant: datetime, began: datetime) -> datetime:
    """``instant``, or just after ``began`` where that is later: another process's clock may be ahead of ours."""
    return max(instant, began + _TICK)


async def not_before_the_last(
    connection: Connection, bucket: int, keys: Sequence[tuple[int, str]], instants: Sequence[datetime]
) -> Sequence[datetime]:
    """``instants`` for new annotations, put off until after the ends of earlier ones of the same (input number, id)."""
    if not keys or not instants:
        return instants
    named = {"bucket": bucket, "numbers": [number for number, _ in keys], "ids": [name for _, name in keys]}
    cursor = await connection.execute(_SQL["last_end"], named)
    row = await cursor.fetchone()
    ended = row[0] if row else None
    delay = max(ended - instants[0], timedelta(0)) if ended else timedelta(0)
    return [instant + delay for instant in instants]


class History:
    """Forgets what is older than ``days`` and what no version of a dataset tells; 0 keeps everything."""

    def __init__(self, database: Database, *, days: int) -> None:
        self._database = database
        self._days = days

    async def sweep(self) -> int:
        """Deletes the versions that ended too long ago, in small portions, app by app; returns how many."""
        if not self._days:
            return 0
        before = datetime.now(UTC) - timedelta(days=self._days)
        forgotten = 0
        for (bucket,) in await self._database.rows(_SQL["buckets"]):
            forgotten += await self._sweep_app(bucket, before)
        if forgotten:
            _log.info("forgot earlier versions of annotations", versions=forgotten, days=self._days)
        return forgotten

    async def _sweep_app(self, bucket: int, before: datetime) -> int:
        looked_at, forgotten = _PORTION, 0
        last: tuple[datetime, int, str] = (datetime.min.replace(tzinfo=UTC), 0, "")
        while looked_at == _PORTION:
            until, number, name = last
            after = {"after": until, "after_number": number, "after_id": name}
            row = await self._database.row(_SQL["forget"], {"bucket": bucket, "before": before, **after})
            if row is None:
                break
            looked_at, went, *key = row
            forgotten += went
            last = (key[0], key[1], key[2])
        return forgotten

    async def keep_swept(self) -> None:
        """Sweeps now and then, until cancelled."""
        while self._days:
            try:
                await self.sweep()
            except Exception:
                _log.exception("sweeping the history failed")
            await asyncio.sleep(_SWEEP_S)
