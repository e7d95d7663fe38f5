"""``sightrank doctor``: what an operator wants to know before blaming the network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql

from sightrank.search.matrix import Matrix
from sightrank.search.matrix_report import SILENT_S
from sightrank.settings import Settings
from sightrank.store import indexes, migrate, queries, vector_index
from sightrank.store.blobs import BlobStore
from sightrank.store.database import Connection
from sightrank.store.embedded import DataDirectory, DataDirectoryError, EmbeddedServer, machine_memory_bytes
from sightrank.vision.bundle import BundleError, built_in_bundle, load_bundle
from sightrank.vision.embedder import Embedder
from sightrank.vision.faces import FaceDetector
from sightrank.vision.model_folders import installed_models
from sightrank.vision.object_detector import ObjectDetector, built_in_detector, load_detector_bundle

_LEAST_PGVECTOR = (0, 8, 0)
_LEAST_FREE_BYTES = 1_000_000_000
_STALLED_S = 600.0
_SQL = queries.load("doctor")
_MATRICES = queries.load("matrices")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    well: bool
    what: str
    detail: str


async def examine(settings: Settings) -> list[Finding]:
    """Looks at everything; what cannot be reached is a finding too, never an exception."""
    models = [_model(settings), _detector_of_things(settings), _detector_of_faces(), *_added_models(settings)]
    if not settings.database_url and not DataDirectory(settings.data_dir).is_used:
        return [*models, _no_data(settings)]
    findings = [*models, await _disk(settings)]
    try:
        async with _database_url(settings) as url:
            findings += await _database(url, settings.matrix_memory_bytes)
    except (psycopg.Error, DataDirectoryError, OSError) as error:
        findings.append(Finding(False, "database", f"cannot be reached: {error}"))
    return findings


def _model(settings: Settings) -> Finding:
    try:
        bundle = load_bundle(built_in_bundle())
        embedder = Embedder(bundle, threads=1, provider=settings.infer_provider)
    except BundleError as error:
        return Finding(False, "model", str(error))
    return Finding(
        True, "model", f"{bundle.id} {bundle.version}, {bundle.dims} dimensions, runs on {embedder.provider}"
    )


def _detector_of_things(settings: Settings) -> Finding:
    what = "detector of things"
    try:
        bundle = load_detector_bundle(built_in_detector())
        detector = ObjectDetector(bundle, threads=1, provider=settings.infer_provider)
    except BundleError as error:
        return Finding(False, what, str(error))
    found = f"{bundle.id} {bundle.version}, {len(detector.concept_ids)} concepts, runs on {detector.provider}"
    return Finding(True, what, found)


def _detector_of_faces() -> Finding:
    """An extra: without it nothing is wrong, but a workflow is missing."""
    what = "detector of faces"
    try:
        detector = FaceDetector()
    except ImportError as error:
        remedy = "pip install 'sightrank[faces]'"
        return Finding(True, what, f"none, so the workflow Face cannot run ({error}); install OpenCV: {remedy}")
    return Finding(True, what, f"{detector.version}, runs on {detector.provider}")


def _added_models(settings: Settings) -> list[Finding]:
    """Each model of the models folder, its files compared with their checksums, loaded as the server would."""
    findings = []
    for model in installed_models(settings.models_path()):
        try:
            encoder = model.load(threads=1, provider=settings.infer_provider)
        except BundleError as error:
            findings.append(Finding(False, f"model {model.id}", str(error)))
            continue
        role = ", serves Universal" if model.universal else ""
        detail = f"{model.version}, {model.dims} dimensions, runs on {encoder.images.provider}{role}"
        findings.append(Finding(True, f"model {model.id}", detail))
    return findings


def _no_data(settings: Settings) -> Finding:
    """Nothing is made in a folder that was only mistyped."""
    remedy = "Start a server there by `sightrank serve`, or name the folder of one by --data-dir."
    return Finding(False, "data directory", f"no server has been started in {settings.data_dir}. {remedy}")


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


async def _database(url: str, matrix_memory_bytes: int) -> list[Finding]:
    findings = []
    pending = await migrate.pending(url)
    findings.append(Finding(not pending, "migrations", f"pending: {', '.join(pending)}" if pending else "all applied"))
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        version = await (await connection.execute(_SQL["versions"])).fetchone()
        assert version is not None
        findings.append(Finding(True, "postgresql", version[0]))
        findings.append(_pgvector(version[1]))
        if pending:
            return findings
        tables = [_VectorTable(*row) for row in await (await connection.execute(_SQL["embedders"])).fetchall()]
        findings += await _indexes(connection, tables)
        for what, detail in await (await connection.execute(_SQL["contents"])).fetchall():
            findings.append(Finding(True, what, str(detail)))
        findings += await _reindexes(connection)
        findings += await _matrices(connection)
        findings += await _beyond_memory(connection, tables, matrix_memory_bytes)
    return findings


@dataclass(frozen=True, slots=True)
class _VectorTable:
    """A registered embedder; ``about_rows`` is PostgreSQL's estimate for all apps together."""

    id: int
    model_id: str
    version_id: str
    dims: int
    about_rows: int


async def _indexes(connection: Connection, tables: list[_VectorTable]) -> list[Finding]:
    """What the migrations make must be there and complete; what an operator made beside it must be complete."""
    rows = await (await connection.execute(_SQL["indexes"])).fetchall()
    wanted = indexes.expected([table.id for table in tables])
    there = {name for name, _, _ in rows}
    bad = [_missing(name, statement) for name, statement in wanted.items() if name not in there]
    building = sorted(name for name, valid, being_built in rows if not valid and being_built)
    for name in sorted(name for name, valid, being_built in rows if not valid and not being_built):
        bad.append(Finding(False, "indexes", f"{name} is invalid; run: {_mending(name)}"))
    if bad:
        return bad
    detail = f"all valid; being built: {', '.join(building)}" if building else "all valid"
    return [Finding(True, "indexes", f"{detail} ({len(wanted)} expected, {len(there)} there)")]


def _missing(name: str, statement: str | None) -> Finding:
    remedy = (
        f"run: {statement}" if statement else "it belongs to a key of its table; restore the database from a backup"
    )
    return Finding(False, "indexes", f"{name} is missing; {remedy}")


def _mending(name: str) -> str:
    if vector_index.NAME.fullmatch(name):
        return f"DROP INDEX CONCURRENTLY {name}, or wait: the next server that ranks the app by SQL builds it anew"
    return f"REINDEX INDEX CONCURRENTLY {name}"


async def _reindexes(connection: Connection) -> list[Finding]:
    """Apps whose base workflow is to change, and those for which that failed."""
    findings = []
    rows = await (await connection.execute(_SQL["reindexes"])).fetchall()
    for user_id, app_id, current, wanted, state, failure, total, done, silent_s in rows:
        what = f"app {user_id}/{app_id}"
        if wanted is None:
            findings.append(Finding(True, what, f"has {current}; what is left of another workflow is being removed"))
            continue
        change = f"{current} to {wanted}, {done} of {total} inputs indexed"
        if state == "failed":
            findings.append(Finding(False, what, f"re-indexing failed ({change}): {failure}; patch the app again"))
        elif silent_s > _STALLED_S:
            remedy = f"start a server or worker that has the model of {wanted}"
            findings.append(Finding(False, what, f"re-indexing stands still for {silent_s:.0f} s ({change}); {remedy}"))
        else:
            findings.append(Finding(True, what, f"re-indexing ({change})"))
    return findings


async def _matrices(connection: Connection) -> list[Finding]:
    """The state of every matrix of every process that serves now."""
    complete = {index.name for index in await vector_index.existing(connection) if index.valid}
    rows = await (await connection.execute(_MATRICES["states"], {"silent_s": SILENT_S})).fetchall()
    findings = []
    for process, user_id, app_id, bucket, embedder_id, areas, size_bytes, ranker, behind in rows:
        if ranker == "sql":
            by = "by its index" if vector_index.name_of(embedder_id, bucket) in complete else "without an index"
            state = f"ranked by PostgreSQL {by}, nothing in memory"
        else:
            age = f"{behind} commits behind, which its next search loads" if behind > 0 else "up to date"
            state = f"ranked in memory ({ranker}), {size_bytes / 1e6:.1f} MB, {age}"
        what = f"matrix of {user_id}/{app_id} in process {process}"
        findings.append(Finding(True, what, f"{areas} areas, {state}"))
    return findings


async def _beyond_memory(connection: Connection, tables: list[_VectorTable], matrix_memory_bytes: int) -> list[Finding]:
    """Apps whose matrix would be larger than all memory for matrices. Only counted where there are enough vectors."""
    findings = []
    for table in tables:
        row_bytes = Matrix.row_bytes(table.dims)
        if 2 * table.about_rows * row_bytes < matrix_memory_bytes:
            continue
        counts = sql.SQL(_MATRICES["largest"]).format(table=sql.Identifier(f"vectors_{table.id}"))
        parameters = {"least": matrix_memory_bytes // row_bytes}
        for user_id, app_id, rows in await (await connection.execute(counts, parameters)).fetchall():
            findings.append(
                Finding(
                    True,
                    f"app {user_id}/{app_id}",
                    f"its {rows} areas need {rows * row_bytes / 1e6:.1f} MB, more than"
                    f" SIGHTRANK_MATRIX_MEMORY_BYTES ({matrix_memory_bytes / 1e6:.1f} MB): PostgreSQL ranks it",
                )
            )
    return findings


def _pgvector(version: str | None) -> Finding:
    if version is None:
        return Finding(False, "pgvector", "not installed; run CREATE EXTENSION vector, or `sightrank db upgrade`")
    numbers = tuple(int(part) for part in version.split("."))
    return Finding(numbers >= _LEAST_PGVECTOR, "pgvector", version)
