"""Numbered forward migrations, applied at start under a lock.

``store/migrations/NNNN_name.sql`` run in order, each in a transaction together with its row in
``schema_migrations``; an advisory lock lets any number of processes start at once. A database that is newer than the
program is refused.
"""

from __future__ import annotations

from importlib.resources import files

import psycopg
from psycopg import sql

_LOCK = 7_311_020_114  # any constant: all sightrank processes agree on it


class MigrationError(RuntimeError):
    """The database cannot be brought to this program's schema; the text says why and what to do."""


def available() -> dict[int, tuple[str, str]]:
    """Number to (name, SQL) of all migrations this program knows."""
    found = {}
    for entry in files("sightrank.store").joinpath("migrations").iterdir():
        if entry.name.endswith(".sql"):
            found[int(entry.name[:4])] = (entry.name.removesuffix(".sql"), entry.read_text(encoding="utf-8"))
    return dict(sorted(found.items()))


async def pending(url: str) -> list[str]:
    """Names of migrations that ``upgrade`` would apply now."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        applied = await _applied(connection)
    return [name for number, (name, _) in available().items() if number not in applied]


async def upgrade(url: str) -> list[str]:
    """Applies what is missing; returns the names applied.

    Raises MigrationError when the server lacks pgvector or the database comes from a newer sightrank.
    """
    done = []
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
        applied = await _applied(connection)
        known = available()
        newer = sorted(applied - known.keys())
        if newer:
            raise MigrationError(
                f"The database has migration {newer[-1]}, this sightrank knows up to {max(known)}:"
                " install the newer version."
            )
        for number in sorted(known.keys() - applied):
            name, text = known[number]
            await _apply(connection, number, name, text)
            done.append(name)
    return done


async def _applied(connection: psycopg.AsyncConnection) -> set[int]:
    cursor = await connection.execute("SELECT to_regclass('schema_migrations')")
    row = await cursor.fetchone()
    if row is None or row[0] is None:
        return set()
    cursor = await connection.execute("SELECT number FROM schema_migrations")
    return {number for (number,) in await cursor.fetchall()}


async def _apply(connection: psycopg.AsyncConnection, number: int, name: str, text: str) -> None:
    try:
        async with connection.transaction():
            await connection.execute(
                "CREATE TABLE IF NOT EXISTS schema_migrations (number int PRIMARY KEY, name text NOT NULL,"
                " applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"
            )
            await connection.execute(sql.SQL(text))
            await connection.execute("INSERT INTO schema_migrations (number, name) VALUES (%s, %s)", [number, name])
    except (psycopg.errors.UndefinedFile, psycopg.errors.FeatureNotSupported) as error:
        raise MigrationError(f"Migration {name} failed: {error}. Is pgvector installed on this PostgreSQL?") from error
