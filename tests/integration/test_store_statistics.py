"""Statistics follow tables that grow, without waiting for PostgreSQL to notice."""

from __future__ import annotations

import asyncio

from sightrank.store.database import Database
from sightrank.store.statistics import refresh

_ROWS = (
    "INSERT INTO concepts (bucket, id, name, name_folded) SELECT 1, 'c-' || n, '', '' FROM generate_series({}, {}) n"
)
_ESTIMATE = "SELECT reltuples::int FROM pg_class WHERE relname = 'concepts'"
_FLUSH = "SELECT pg_stat_force_next_flush()"


def test_a_table_that_has_grown_is_analyzed_once(database_url: str) -> None:
    async def scenario() -> tuple[list[list[str]], list[int]]:
        database = Database(database_url, max_connections=2)
        await database.open()
        try:
            looks, estimates = [], []
            for first, last in ((1, 900), (901, 3000), (3001, 3300)):
                async with database.connection() as connection:
                    await connection.execute(_ROWS.format(first, last).encode())
                    await connection.execute(_FLUSH)
                looks.append([name for name in await refresh(database) if name == "concepts"])
                row = await database.row(_ESTIMATE)
                assert row is not None
                estimates.append(row[0])
            return looks, estimates
        finally:
            await database.close()

    looks, estimates = asyncio.run(scenario())

    assert looks == [[], ["concepts"], []]
    assert estimates[1:] == [3000, 3000]
