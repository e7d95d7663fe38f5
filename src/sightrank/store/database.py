"""The connection pool and what every statement has in common.

``Database`` is the only owner of connections. A unit of work is ``async with database.transaction() as connection``;
``ReadCommitted`` is enough everywhere, because writers take their bucket's row before they stamp a version.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection
from psycopg.errors import DeadlockDetected, UniqueViolation
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolTimeout, TooManyRequests

from sightrank.errors import InvalidRequest, ServerBusy

Connection = AsyncConnection[TupleRow]
_T = TypeVar("_T")


class TryAgain(Exception):
    """What a unit of work had read is no longer so; nothing of it is written. ``retrying`` does it anew."""


async def retrying(work: Callable[[], Awaitable[_T]], *, busy: str, attempts: int = 50) -> _T:
    """What ``work`` returns; it is done anew when another transaction came in between.

    That is TryAgain, a lost deadlock, or a key that was taken after ``work`` had found it free; it finds it taken next
    time and refuses it by itself. Raises ServerBusy with the text ``busy`` when that happens ``attempts`` times.
    """
    last: Exception | None = None
    for _ in range(attempts):
        try:
            return await work()
        except (TryAgain, DeadlockDetected, UniqueViolation) as error:
            last = error
    raise ServerBusy(busy) from last


class Database:
    """A PostgreSQL with the sightrank schema. ``url`` is a libpq connection string."""

    def __init__(self, url: str, *, max_connections: int = 16, wait_s: float = 10.0) -> None:
        self.url = url
        self._long = asyncio.Semaphore(max(max_connections // 2, 1))
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            url,
            min_size=2,
            max_size=max_connections,
            timeout=wait_s,
            max_waiting=1000,
            open=False,
            kwargs={"autocommit": True, "prepare_threshold": 2},
            configure=_configure,
        )

    async def open(self) -> None:
        await self._pool.open(wait=True)

    async def close(self) -> None:
        await self._pool.close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection in autocommit mode.

        Raises ServerBusy when none is free in time, InvalidRequest when PostgreSQL refuses a value used on it.
        """
        try:
            connection = await self._pool.getconn()
        except (PoolTimeout, TooManyRequests) as error:
            raise ServerBusy("All database connections are in use; try again in a moment.") from error
        try:
            yield connection
        except psycopg.DataError as error:
            # A zero character, a number out of range: values a check further up did not know of.
            raise InvalidRequest(f"A value of the request cannot be stored: {_first_line(error)}.") from error
        finally:
            await self._pool.putconn(connection)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A connection inside one transaction: committed at the end of the block, rolled back when it raises."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    @asynccontextmanager
    async def long_transaction(self) -> AsyncIterator[Connection]:
        """As ``transaction``, for one that may last seconds. Such ones get half of the connections and wait for each
        other, so that short statements never wait for them.
        """
        async with self._long, self.transaction() as connection:
            yield connection

    async def rows(self, statement: Any, parameters: Any = None, *, binary: bool = False) -> list[TupleRow]:
        """All rows of one statement in its own transaction; ``binary`` brings times and arrays at less cost."""
        async with self.connection() as connection:
            cursor = await connection.execute(statement, parameters, binary=binary)
            return await cursor.fetchall()

    async def row(self, statement: Any, parameters: Any = None) -> TupleRow | None:
        """The first row, or None."""
        async with self.connection() as connection:
            cursor = await connection.execute(statement, parameters)
            return await cursor.fetchone()

    async def execute(self, statement: Any, parameters: Any = None) -> int:
        """Runs a statement that returns nothing; answers the number of rows it touched."""
        async with self.connection() as connection:
            return (await connection.execute(statement, parameters)).rowcount


def number_array(numbers: Iterable[int | None]) -> str:
    """A parameter for ``%(numbers)s::bigint[]``: a list of many costs several times as much to adapt."""
    return "{" + ",".join(["NULL" if number is None else str(number) for number in numbers]) + "}"


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0].rstrip(".")


async def _configure(connection: Connection) -> None:
    # The statements of a search with filters are composed anew each time and so planned for their values. The named
    # ones are look-ups by key that PostgreSQL may plan once: planning the hits of a page took as long as reading them.
    # Everything asked of an app has an index that begins with its bucket. Where one app is most of a table PostgreSQL
    # would read the whole of it nevertheless, other apps' rows included.
    await connection.execute("SET idle_in_transaction_session_timeout = '60s'; SET enable_seqscan = off")
