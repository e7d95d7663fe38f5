"""Opening the database that a server works on: an external one, or its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg

from sightrank.settings import Settings
from sightrank.store import migrate
from sightrank.store.embedded import DataDirectory, EmbeddedServer, machine_memory_bytes


@asynccontextmanager
async def open_store(settings: Settings) -> AsyncIterator[str]:
    """The connection string of a migrated database: the external one, or the embedded one while the block lasts."""
    directory = DataDirectory(settings.data_dir)
    if settings.database_url:
        await _upgrade_external(settings.database_url)
        directory.make()
        yield settings.database_url
        return
    directory.lock()
    try:
        server = EmbeddedServer(directory.path, memory_bytes=machine_memory_bytes())
        url = await asyncio.to_thread(server.start)
        try:
            await migrate.upgrade(url)
            yield url
        finally:
            await asyncio.to_thread(server.stop)
    finally:
        directory.release()


async def _upgrade_external(url: str) -> None:
    """Raises MigrationError in one line for what an operator can mend: a wrong address, a missing right."""
    try:
        await migrate.upgrade(url)
    except (psycopg.OperationalError, psycopg.errors.InsufficientPrivilege) as error:
        raise migrate.MigrationError(f"Cannot use the database of SIGHTRANK_DATABASE_URL: {_line(error)}") from error
    except psycopg.ProgrammingError as error:
        if error.sqlstate is not None:
            raise
        raise migrate.MigrationError(f"SIGHTRANK_DATABASE_URL is no connection string: {_line(error)}") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
