"""Migrations: once each, whoever comes first, and never backwards."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from sightrank.store import migrate
from sightrank.store.migrate import MigrationError, available, pending, upgrade

ALL = [name for name, _ in available().values()]


@pytest.fixture
def empty_url(server_url: str) -> Iterator[str]:
    """A database without any table."""
    name = f"empty_{uuid.uuid4().hex}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        yield make_conninfo(server_url, dbname=name)
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def one(url: str, statement: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(statement).fetchone()
    assert row is not None
    return row[0]


def test_an_empty_database_gets_everything_in_order(empty_url: str) -> None:
    before = asyncio.run(pending(empty_url))
    done = asyncio.run(upgrade(empty_url))

    assert before == done == ALL
    assert sorted(ALL) == ALL
    assert asyncio.run(pending(empty_url)) == []
    assert one(empty_url, "SELECT count(*) FROM app_buckets") == 0


def test_a_second_upgrade_does_nothing(database_url: str) -> None:
    assert asyncio.run(upgrade(database_url)) == []
    assert one(database_url, "SELECT count(*) FROM schema_migrations") == len(ALL)


def test_processes_that_start_at_once_upgrade_once(empty_url: str) -> None:
    async def together() -> list[list[str]]:
        return await asyncio.gather(*(upgrade(empty_url) for _ in range(4)))

    done = asyncio.run(together())

    assert sorted(done) == [[], [], [], ALL]
    assert one(empty_url, "SELECT count(*) FROM schema_migrations") == len(ALL)


def test_a_database_of_a_newer_program_is_refused(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("INSERT INTO schema_migrations (number, name) VALUES (9999, '9999_from_the_future')")

    with pytest.raises(MigrationError, match=r"migration 9999.* install the newer version"):
        asyncio.run(upgrade(database_url))


def test_a_failing_migration_leaves_no_trace(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = available() | {
        9000: ("9000_good", "CREATE TABLE good (a int)"),
        9001: ("9001_bad", "CREATE TABLE b (a int); oops"),
    }
    monkeypatch.setattr(migrate, "available", lambda: broken)

    with pytest.raises(psycopg.errors.SyntaxError):
        asyncio.run(upgrade(database_url))

    assert one(database_url, "SELECT to_regclass('good')") == "good"
    assert one(database_url, "SELECT to_regclass('b')") is None
    assert one(database_url, "SELECT max(number) FROM schema_migrations") == 9000


def test_a_server_without_pgvector_is_named_as_the_reason(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = {1: ("0001_initial", "CREATE EXTENSION an_extension_that_is_not_there")}
    monkeypatch.setattr(migrate, "available", lambda: missing)

    with pytest.raises(MigrationError, match="Is pgvector installed"):
        asyncio.run(upgrade(empty_url))
