"""Builds the HNSW indexes of the apps that PostgreSQL ranks, in the background, and drops those of apps that are gone.

One process builds at a time, whichever gets the lock, over a connection of its own: a build takes minutes. Until it is
done these apps are ranked exactly, by scans. A killed build leaves an invalid index; the next look replaces it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import psycopg
import structlog

from sightrank.search.follow import MatrixState
from sightrank.store import vector_index
from sightrank.store.database import Connection, Database

_LOCK = 7_311_020_115  # any constant: all sightrank processes agree on it
_log = structlog.get_logger(__name__)


class VectorIndexes:
    """``states`` tells which apps this process ranks by SQL; those of fewer than ``least_rows`` areas are scanned as
    fast."""

    def __init__(
        self,
        database: Database,
        states: Callable[[], list[MatrixState]],
        *,
        least_rows: int = 50_000,
        every_s: float = 30.0,
    ) -> None:
        self._database = database
        self._states = states
        self._least_rows = least_rows
        self._every_s = every_s

    async def keep_built(self) -> None:
        """Looks every now and then, until cancelled; a build under way ends with it."""
        while True:
            try:
                await self.tend()
            except Exception:
                _log.exception("tending the indexes of vectors failed")
            await asyncio.sleep(self._every_s)

    async def tend(self) -> None:
        """Drops what is of no use and builds what is missing; leaves it to the process that is at it."""
        async with self._database.connection() as connection:
            if not any(await self._to_do(connection)):
                return
        async with self._alone() as connection:
            if connection is None:
                return
            useless, missing = await self._to_do(connection)
            for name in useless:
                await vector_index.drop(connection, name)
                _log.info("dropped an index of vectors", index=name)
            for embedder_id, bucket in missing:
                await vector_index.create(connection, embedder_id, bucket)
                _log.info("built an index of vectors", index=vector_index.name_of(embedder_id, bucket))

    async def _to_do(self, connection: Connection) -> tuple[list[str], list[tuple[int, int]]]:
        """Names of indexes to drop; embedder and bucket of indexes to build."""
        there = await vector_index.existing(connection)
        complete = {index.name for index in there if index.valid}
        wanted = {
            (state.embedder_id, state.bucket)
            for state in self._states()
            if state.ranker == "sql" and state.rows >= self._least_rows
        }
        return (
            [index.name for index in there if not (index.valid and index.wanted)],
            sorted(key for key in wanted if vector_index.name_of(*key) not in complete),
        )

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[Connection | None]:
        """A connection that holds the lock of builders, or None. Nobody waits for the lock inside the database: a build
        would wait for that statement to end."""
        async with await psycopg.AsyncConnection.connect(self._database.url, autocommit=True) as connection:
            row = await (await connection.execute("SELECT pg_try_advisory_lock(%s)", [_LOCK])).fetchone()
            yield connection if row is not None and row[0] else None
