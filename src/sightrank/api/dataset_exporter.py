"""Writes the archives of dataset versions in the background, one after the other (docs/datasets.md).

It is in ``api`` because what it writes are the API's messages.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path

import psycopg
import structlog

from sightrank.api.call import AppRef
from sightrank.api.dataset_archive import Archive, ArchiveFormat
from sightrank.api.dataset_contents import DatasetContents, Portion
from sightrank.api.dataset_version_records import VersionRow, version_message
from sightrank.api.dataset_versions import version_of
from sightrank.errors import ServerBusy
from sightrank.ingest.export_queue import ATTEMPTS, Export, ExportQueue, State
from sightrank.store import queries
from sightrank.store.blobs import BlobStore
from sightrank.store.database import Database
from sightrank.store.status import DATASET_VERSION_READY
from sightrank.teach.leases import LeaseLost, Run, attempt, kept, new_owner, work_off
from sightrank.vision.threads import Threads

_log = structlog.get_logger(__name__)

LEASE_S = 30.0
_AGAIN_S = 5.0  # until an export that failed is tried again
_PORTION = 100  # inputs at once: between portions it makes way for people
_VERSIONS = queries.load("dataset_versions")


class _Failed(Exception):
    """No archive can be made of it as it is; the text says why."""


class DatasetExporter:
    """``run()`` works until it is cancelled. ``wake`` is set by whoever has just asked for an export."""

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        contents: DatasetContents,
        formats: Mapping[int, ArchiveFormat],
        threads: Threads,
        wake: asyncio.Event,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._contents = contents
        self._formats = formats
        self._threads = threads
        self._wake = wake
        self._queue = ExportQueue(database, owner=new_owner(), lease_s=LEASE_S)

    async def run(self) -> None:
        """Takes one export after the other, waiting where there is none."""
        await work_off(self._queue.claim, self._take, self._wake)

    async def _take(self, export: Export) -> None:
        """One export, to its end: a file, failed with a reason, or back in the queue."""
        names = {"bucket": export.bucket, "dataset": export.dataset_id, "version": export.version_id}
        put_off = partial(self._put_off, export, blameless=True)
        try:
            async with attempt("export", put_off, pause_s=_AGAIN_S, **names):
                await self._export(export)
        except _Failed as error:
            _log.warning("export failed", **names, reason=str(error))
            await self._end(export, State.FAILED, str(error))
        except Exception as error:
            _log.exception("export failed", **names)
            if export.attempts < ATTEMPTS:
                await self._put_off(export, _AGAIN_S, blameless=False)
            else:
                await self._end(export, State.UNKNOWN_ERROR, f"It failed {export.attempts} times: {error}")

    async def _export(self, export: Export) -> None:
        if export.attempts > ATTEMPTS:
            raise _Failed(f"Exporting it ended the server {ATTEMPTS} times.")
        async with self._blobs.draft() as draft, kept(self._threads, partial(self._queue.keep, export)) as run:
            await self._write(export, draft, run)
            size = draft.stat().st_size
            with _writing():
                blob = await self._blobs.keep(export.bucket, draft)
        if not await self._queue.finish(export, blob=blob, size=size):
            # Nobody else has this file.
            await self._blobs.delete(blob)
            raise LeaseLost

    async def _write(self, export: Export, draft: Path, run: Run) -> None:
        """The archive, a portion at a time: read by the event loop, made and packed by a thread."""
        app = AppRef(user_id=export.user_id, app_id=export.app_id, bucket=export.bucket, workflow_id="")
        row = await self._version(export)
        version = version_of(app, export.dataset_id, row)
        total = version_message(app, export.dataset_id, row).metrics[""].inputs_count.value
        archive_format = self._formats[export.format]
        archive = await self._threads.learn(partial(_open, draft, archive_format, version.as_of))
        try:
            done = 0
            async for portion in self._contents.portions(app, version, _PORTION):
                done += len(portion.inputs)
                share = min(done / max(total, 1), 1.0)
                await self._threads.learn(partial(self._pack, archive, app, portion, run, share))
            await self._threads.learn(partial(_finish, archive))
        finally:
            archive.close()

    async def _version(self, export: Export) -> VersionRow:
        """Raises LeaseLost where it was deleted."""
        named = {"bucket": export.bucket, "dataset_id": export.dataset_id, "id": export.version_id}
        named["public_only"] = False
        row = await self._database.row(_VERSIONS["read"], named)
        if row is None:
            raise LeaseLost
        version = VersionRow(*row)
        if version.status != DATASET_VERSION_READY:
            raise _Failed(f"The version is not ready: {version.details or f'its status is {version.status}'}")
        return version

    def _pack(self, archive: Archive, app: AppRef, portion: Portion, run: Run, share: float) -> None:
        for item in self._contents.messages(app, portion):
            with _writing():
                archive.add(item)
        run.tell(share)

    async def _end(self, export: Export, state: State, reason: str) -> None:
        with suppress(ServerBusy, psycopg.OperationalError):  # then it comes again when the lease runs out
            await self._queue.fail(export, state, reason)

    async def _put_off(self, export: Export, pause_s: float, *, blameless: bool) -> None:
        with suppress(ServerBusy, psycopg.OperationalError):
            await self._queue.put_off(export, pause_s=pause_s, blameless=blameless)


def _open(path: Path, archive_format: ArchiveFormat, made_at: datetime) -> Archive:
    with _writing():
        return Archive(path, archive_format, made_at)


def _finish(archive: Archive) -> None:
    with _writing():
        archive.finish()


@contextmanager
def _writing() -> Iterator[None]:
    """A disk that takes no more is told to whoever waits, not tried again and again."""
    try:
        yield
    except OSError as error:
        raise _Failed(
            f"Its archive cannot be written: {error.strerror or error}. Once that is mended, ask for it again."
        ) from error
