"""Reads vectors, and what became of them, out of the database for a matrix: always one snapshot, whole commits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import numpy as np
from psycopg import sql

from sightrank.search.followed import Changes
from sightrank.search.matrix import Matrix, Rows
from sightrank.store import queries, vectors
from sightrank.store.database import Connection, Database
from sightrank.store.vectors import EmbedderTable

#: One round trip: a snapshot, the bucket's version in it, and beside it each area that is gone since.
_BEGIN = sql.SQL("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; " + queries.load("search")["removed_since"])


class AppIsGone(Exception):
    """The bucket has been deleted."""


class TooLarge(Exception):
    """The vectors do not fit into the memory there is for them; ``rows`` of them were counted, perhaps not all."""

    def __init__(self, rows: int) -> None:
        super().__init__(rows)
        self.rows = rows


class Loader:
    """Loads matrices. ``memory_bytes`` is the most that one may take."""

    def __init__(self, database: Database, *, memory_bytes: int) -> None:
        self._database = database
        self._memory_bytes = memory_bytes

    async def changes(self, table: EmbedderTable, bucket: int, since: int) -> Changes:
        """What was committed after version ``since``; everything (0, or so far behind that nobody knows any more what
        is gone) as a matrix of its own. Raises AppIsGone or TooLarge.
        """
        if since:
            async with self._snapshot(bucket, since) as (connection, version, removed):
                if version - since <= vectors.VERSIONS_KEPT:
                    async with aclosing(vectors.changed_since(connection, table, bucket, since)) as parts:
                        rows = tuple([_rows(part) async for part in parts])
                    return Changes(since=since, version=version, rows=rows, removed=np.array(removed, np.int64))
        return await self._everything(table, bucket, since)

    async def rows(self, table: EmbedderTable, bucket: int, *, at_most: int) -> int:
        """How many vectors the bucket has; no more than ``at_most`` are counted."""
        statement = sql.SQL("SELECT count(*) FROM (SELECT FROM {} WHERE bucket = {} LIMIT {}) counted").format(
            table.name, sql.Literal(bucket), sql.Literal(at_most)
        )
        row = await self._database.row(statement)
        assert row is not None
        return int(row[0])

    async def _everything(self, table: EmbedderTable, bucket: int, since: int) -> Changes:
        fit = self._memory_bytes // Matrix.row_bytes(table.dims)
        counted = await self.rows(table, bucket, at_most=fit + 1)
        if counted > fit:
            raise TooLarge(counted)
        matrix = Matrix(table.dims)
        async with (
            self._snapshot(bucket, None) as (connection, version, _),
            aclosing(vectors.changed_since(connection, table, bucket, 0)) as parts,
        ):
            async for part in parts:
                matrix.upsert(_rows(part))
        return Changes(since=since, version=version, removed=np.empty(0, np.int64), matrix=matrix)

    @asynccontextmanager
    async def _snapshot(self, bucket: int, since: int | None) -> AsyncIterator[tuple[Connection, int, list[int]]]:
        """A connection inside a snapshot, the bucket's version there, and the areas gone after version ``since``."""
        begin = _BEGIN.format(bucket=sql.Literal(bucket), version=sql.Literal(2**62 if since is None else since))
        async with self._database.connection() as connection:
            try:
                cursor = await connection.execute(begin)
                cursor.nextset()
                rows = await cursor.fetchall()
                if not rows:
                    raise AppIsGone
                yield connection, rows[0][0], [area_id for _, area_id in rows if area_id is not None]
            finally:
                await connection.rollback()  # it only read; this way ends it well, also after an error


def _rows(part: vectors.VectorRows) -> Rows:
    return Rows(
        area_ids=part.area_ids,
        input_numbers=part.input_numbers,
        created_us=part.created_us,
        vectors=part.vectors,
    )
