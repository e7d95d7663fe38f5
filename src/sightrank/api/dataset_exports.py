"""Exporting versions of datasets: asking for an archive, and downloading it (api-spec 3.2, docs/datasets.md)."""

from __future__ import annotations

import asyncio
import hmac
import os
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO, TypeAlias

from clarifai_grpc.grpc.api import resources_pb2, service_pb2

from sightrank.api.call import AppRef, Call, Handlers
from sightrank.api.dataset_export_records import ExportRecords, signature
from sightrank.api.dataset_versions import find_version, missing_version
from sightrank.api.media import HostedFile
from sightrank.errors import DoesNotExist, InvalidRequest, ServerBusy
from sightrank.ingest.export_queue import State
from sightrank.ingest.rows import new_id
from sightrank.store import queries
from sightrank.store.blobs import BlobMissingError, BlobStore
from sightrank.store.database import Connection, Database

MAX_WAITING = 128
_PROTOBUF = resources_pb2.CLARIFAI_DATA_PROTOBUF
_JSON = resources_pb2.CLARIFAI_DATA_JSON
_FAILURES = (State.FAILED, State.UNKNOWN_ERROR)
_SQL = queries.load("dataset_exports")
_Format: TypeAlias = resources_pb2.DatasetVersionExportFormat.ValueType


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedArchive:
    """The archive that a URL names."""

    bucket: int
    export_id: str
    expires: int
    signature: str


class DatasetExports:
    """PutDatasetVersionExports, and the files that it points to. ``wake``: set when there is something to export."""

    def __init__(self, database: Database, blobs: BlobStore, records: ExportRecords, wake: asyncio.Event) -> None:
        self._database = database
        self._blobs = blobs
        self._records = records
        self._wake = wake

    def handlers(self) -> Handlers:
        return {"PutDatasetVersionExports": self.put}

    async def put(
        self, call: Call, request: service_pb2.PutDatasetVersionExportsRequest
    ) -> service_pb2.MultiDatasetVersionExportResponse:
        """How far these exports are. One that nobody has asked for yet is put into the queue, and one that failed when
        somebody has been told so: clients ask again and again until they hear how it ended.
        """
        app, dataset_id, version_id = call.require_app(), request.dataset_id, request.dataset_version_id
        formats = _formats(request.exports)
        await find_version(self._database, call, dataset_id, version_id)
        known = await self._records.read(app, dataset_id, [version_id])
        missing = set(formats) - {row.format for row in known if row.status not in _FAILURES or not row.told}
        if missing:
            async with self._database.transaction() as connection:
                await self._ask(connection, app, dataset_id, version_id, sorted(missing))
            self._wake.set()
            known = await self._records.read(app, dataset_id, [version_id])
        by_format = {row.format: row for row in known}
        if not by_format.keys() >= set(formats):
            raise missing_version(app, dataset_id, version_id)  # it has just been deleted
        failed = [row.id for row in known if row.format in formats and row.status in _FAILURES]
        if failed:
            await self._database.execute(_SQL["tell"], {"bucket": app.bucket, "ids": failed})
        exports = [self._records.message(app, dataset_id, by_format[wanted]) for wanted in formats]
        return service_pb2.MultiDatasetVersionExportResponse(exports=exports)

    async def _ask(
        self, connection: Connection, app: AppRef, dataset_id: str, version_id: str, formats: Sequence[_Format]
    ) -> None:
        named = {"bucket": app.bucket, "dataset_id": dataset_id, "version_id": version_id}
        if await (await connection.execute(_SQL["hold_version"], named)).fetchone() is None:
            raise missing_version(app, dataset_id, version_id)
        row = await (await connection.execute(_SQL["waiting"], named)).fetchone()
        if row is not None and row[0] >= MAX_WAITING:
            raise ServerBusy(f"{row[0]} exports of app {app.app_id!r} wait already; ask again when some are done.")
        made = {"ids": [new_id() for _ in formats], "secrets": [secrets.token_hex(16) for _ in formats]}
        await connection.execute(_SQL["ask"], {**named, **made, "formats": list(formats)})

    async def open(self, archive: HostedArchive) -> HostedFile:
        """The file. Raises DoesNotExist, for a URL that has expired as for one that nobody signed."""
        named = {"bucket": archive.bucket, "id": archive.export_id}
        row = None if "\0" in archive.export_id else await self._database.row(_SQL["file"], named)
        if row is None:
            raise _gone()
        secret, blob = row
        good = hmac.compare_digest(signature(secret, archive.expires).encode(), archive.signature.encode())
        if not good or archive.expires < time.time():
            raise _gone()
        try:
            file = await self._blobs.open(blob)
        except BlobMissingError:
            raise _gone() from None
        return await asyncio.to_thread(_described, file)


def _formats(exports: Sequence[resources_pb2.DatasetVersionExport]) -> list[_Format]:
    """What is asked for, each once. Raises InvalidRequest for what is not made here."""
    if not exports:
        raise InvalidRequest("exports is empty; name a format, such as CLARIFAI_DATA_PROTOBUF.")
    for i, item in enumerate(exports):
        if item.format not in (_PROTOBUF, _JSON):
            raise InvalidRequest(
                f"exports[{i}].format is {item.format}; a version is exported as CLARIFAI_DATA_PROTOBUF (1) or"
                " CLARIFAI_DATA_JSON (3), not as COCO."
            )
        if item.include_embeddings:
            raise InvalidRequest(f"exports[{i}].include_embeddings: vectors are not exported; leave it out.")
    return list(dict.fromkeys(item.format for item in exports))


def _described(file: BinaryIO) -> HostedFile:
    return HostedFile(content=file, size=os.fstat(file.fileno()).st_size, content_type="application/zip")


def _gone() -> DoesNotExist:
    return DoesNotExist(
        "There is no such export, or this URL has expired: PutDatasetVersionExports and GetDatasetVersion have the URL"
        " of today."
    )
