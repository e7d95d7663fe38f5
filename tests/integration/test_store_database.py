"""The pool: one way to every PostgreSQL, whole transactions or none, and a plain answer when it is full."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from sightrank.errors import ServerBusy
from sightrank.settings import Settings
from sightrank.store import queries
from sightrank.store.database import Database, TryAgain, retrying
from sightrank.store.opening import open_store


def with_database(url: str, scenario: Callable[[Database], Awaitable[Any]], **options: Any) -> Any:
    async def opened() -> Any:
        database = Database(url, **options)
        await database.open()
        try:
            return await scenario(database)
        finally:
            await database.close()

    return asyncio.run(opened())


def test_a_transaction_is_all_or_nothing(database_url: str) -> None:
    async def lose(database: Database) -> None:
        async with database.transaction() as connection:
            await connection.execute("INSERT INTO users (id) VALUES ('lost')")
            await connection.execute("INSERT INTO users (id) VALUES ('kept')")

    async def scenario(database: Database) -> int:
        async with database.transaction() as connection:
            await connection.execute("INSERT INTO users (id) VALUES ('kept')")
        with pytest.raises(psycopg.errors.UniqueViolation):
            await lose(database)
        return await database.execute("UPDATE users SET first_name = 'x'")

    assert with_database(database_url, scenario) == 1


def test_work_that_another_transaction_disturbed_is_done_anew() -> None:
    troubles = [TryAgain(), psycopg.errors.DeadlockDetected(), psycopg.errors.UniqueViolation()]

    async def work() -> str:
        if troubles:
            raise troubles.pop()
        return "done"

    assert asyncio.run(retrying(work, busy="no")) == "done"
    troubles += [TryAgain()] * 3
    with pytest.raises(ServerBusy, match="others are faster"):
        asyncio.run(retrying(work, busy="others are faster", attempts=3))
    troubles[:] = [psycopg.errors.CheckViolation()]
    with pytest.raises(psycopg.errors.CheckViolation):
        asyncio.run(retrying(work, busy="no"))


def test_rows_and_row(database_url: str) -> None:
    async def scenario(database: Database) -> tuple[Any, Any, Any]:
        rows = await database.rows("SELECT generate_series(1, %(n)s)", {"n": 3})
        return rows, await database.row("SELECT 1, 2"), await database.row("SELECT 1 WHERE false")

    assert with_database(database_url, scenario) == ([(1,), (2,), (3,)], (1, 2), None)


def test_plans_of_named_statements_are_kept(database_url: str) -> None:
    async def scenario(database: Database) -> Any:
        return await database.row("SHOW plan_cache_mode")

    assert with_database(database_url, scenario) == ("auto",)


def test_a_full_pool_answers_busy_and_recovers(database_url: str) -> None:
    async def scenario(database: Database) -> Any:
        async with database.connection(), database.connection():
            with pytest.raises(ServerBusy, match="try again"):
                await database.row("SELECT 1")
        return await database.row("SELECT 2")

    assert with_database(database_url, scenario, max_connections=2, wait_s=0.05) == (2,)


def test_long_transactions_leave_connections_to_short_statements(database_url: str) -> None:
    async def scenario(database: Database) -> Any:
        inside, done = asyncio.Event(), asyncio.Event()

        async def last() -> None:
            async with database.long_transaction() as connection:
                await connection.execute("SELECT 1")
                inside.set()
                await done.wait()

        lasting = [asyncio.create_task(last()) for _ in range(8)]
        await inside.wait()
        found = await asyncio.gather(*(database.row("SELECT 4") for _ in range(6)))
        done.set()
        await asyncio.gather(*lasting)
        return found

    assert with_database(database_url, scenario, max_connections=2, wait_s=5) == [(4,)] * 6


def test_a_connection_that_broke_is_replaced(database_url: str) -> None:
    async def scenario(database: Database) -> Any:
        with pytest.raises(psycopg.OperationalError):
            await database.row("SELECT pg_terminate_backend(pg_backend_pid())")
        return await asyncio.gather(*(database.row("SELECT 3") for _ in range(6)))

    assert with_database(database_url, scenario) == [(3,)] * 6


def test_an_external_database_is_upgraded_and_used_by_its_url(
    server_url: str, database_url: str, tmp_path: Path
) -> None:
    fields: dict[str, Any] = {"data_dir": tmp_path / "data", "database_url": database_url}

    async def opened() -> str:
        async with open_store(Settings(**fields)) as url:
            return url

    assert asyncio.run(opened()) == database_url
    assert not (tmp_path / "data" / "postgres").exists()


#: What code puts into the places of statements that are composed: something of the right shape.
_PUT_IN = {
    "page": "LIMIT 1",
    "limit": "1",
    "annotations": "SELECT * FROM annotations WHERE bucket = 1",
    "jobs": "SELECT * FROM inputs_add_jobs WHERE bucket = 1",
    "gone": "DELETE FROM annotations WHERE bucket = 1 RETURNING *",
    "found": "SELECT input_number, id FROM annotations WHERE bucket = 1",
    "bucket": "1",
    "column": "toolkits",
    "version": "1",
    "dataset_id": "'all'",
    "version_id": "'v1'",
    "as_of": "now()",
    "condition": "i.id > 'a'",
    "order": "i.id",
    "chosen": "e.id > 'a'",
    "sorting": "e.id",
    "spaces": "SELECT bucket, embedder_id FROM reindexes",
    "table": "areas",
    "vectors": "(SELECT bucket, id AS area_id, input_number, 1 AS version FROM areas)",
}


@pytest.mark.parametrize("noun", sorted(path.stem for path in (Path(queries.__file__).parent / "sql").glob("*.sql")))
def test_every_named_statement_fits_the_schema(noun: str, database_url: str) -> None:
    """Each can be prepared, with null for every parameter: names of tables and columns, and syntax, are right."""

    async def scenario(database: Database) -> None:
        for name, statement in queries.load(noun).items():
            filled = _Nulls()
            text = re.sub(r"\{([a-z_]+)\}", lambda place: _PUT_IN[place[1]], statement)
            async with database.connection() as connection:
                try:
                    await connection.execute("EXPLAIN " + text, filled)
                except (
                    psycopg.errors.UndefinedTable,
                    psycopg.errors.UndefinedColumn,
                    psycopg.errors.SyntaxError,
                ) as error:
                    raise AssertionError(f"{noun}.{name}: {error}") from error
                except psycopg.errors.IndeterminateDatatype:
                    pass

    with_database(database_url, scenario)


class _Nulls(dict[str, None]):
    def __missing__(self, key: str) -> None:
        return None
