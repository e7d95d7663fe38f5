"""``sightrank doctor``: what an operator wants to know before blaming the network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import psycopg

from sightrank.settings import Settings
from sightrank.store import migrate, queries
from sightrank.store.blobs import BlobStore
from sightrank.store.embedded import DataDirectory, DataDirectoryError, EmbeddedServer, machine_memory_bytes
from sightrank.vision.bundle import BundleError, built_in_bundle, load_bundle
from sightrank.vision.embedder import Embedder

_LEAST_PGVECTOR = (0, 8, 0)
_LEAST_FREE_BYTES = 1_000_000_000
_SQL = queries.load("doctor")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    well: bool
    what: str
    detail: str


async def examine(settings: Settings) -> list[Finding]:
    """Looks at everything; what cannot be reached is a finding too, never an exception."""
    findings = [_model(), await _disk(settings)]
    try:
        async with _database_url(settings) as url:
            findings += await _database(url)
    except (psycopg.Error, DataDirectoryError, OSError) as error:
        findings.append(Finding(False, "database", f"cannot be reached: {error}"))
    return findings


def _model() -> Finding:
    try:
        bundle = load_bundle(built_in_bundle())
        embedder = Embedder(bundle, threads=1)
    except BundleError as error:
        return Finding(False, "model", str(error))
    return Finding(
        True, "model", f"{bundle.id} {bundle.version}, {bundle.dims} dimensions, runs on {embedder.provider}"
    )


async def _disk(settings: Settings) -> Finding:
    try:
        store = BlobStore(settings.blobs_dir())
    except OSError as error:
        return Finding(False, "disk", f"images cannot be stored in {settings.blobs_dir()}: {error}")
    try:
        usage = await store.usage()
    finally:
        store.close()
    detail = f"{usage.free_bytes / 1e9:.1f} GB free at {settings.blobs_dir()}"
    return Finding(usage.free_bytes >= _LEAST_FREE_BYTES, "disk", detail)


@asynccontextmanager
async def _database_url(settings: Settings) -> AsyncIterator[str]:
    """The database as it is, without migrating it. A running server's embedded database is used as it runs."""
    if settings.database_url:
        yield settings.database_url
        return
    directory = DataDirectory(settings.data_dir)
    server = EmbeddedServer(directory.path, memory_bytes=machine_memory_bytes())
    try:
        directory.lock()
    except DataDirectoryError:
        yield server.url_of_running()
        return
    try:
        url = await asyncio.to_thread(server.start)
        try:
            yield url
        finally:
            await asyncio.to_thread(server.stop)
    finally:
        directory.release()


async def _database(url: str) -> list[Finding]:
    findings = []
    pending = await migrate.pending(url)
    findings.append(Finding(not pending, "migrations", f"pending: {', '.join(pending)}" if pending else "all applied"))
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        version = await (await connection.execute(_SQL["versions"])).fetchone()
        assert version is not None
        findings.append(Finding(True, "postgresql", version[0]))
        findings.append(_pgvector(version[1]))
        invalid = await (await connection.execute(_SQL["invalid_indexes"])).fetchall()
        names = ", ".join(name for (name,) in invalid)
        findings.append(Finding(not invalid, "indexes", f"invalid, REINDEX them: {names}" if invalid else "all valid"))
        if not pending:
            for what, detail in await (await connection.execute(_SQL["contents"])).fetchall():
                findings.append(Finding(True, what, str(detail)))
    return findings


def _pgvector(version: str | None) -> Finding:
    if version is None:
        return Finding(False, "pgvector", "not installed; run CREATE EXTENSION vector, or `sightrank db upgrade`")
    numbers = tuple(int(part) for part in version.split("."))
    return Finding(numbers >= _LEAST_PGVECTOR, "pgvector", version)
