"""Exports of dataset versions as clients see them, and the URLs by which their files are downloaded.

A URL is signed: whoever has it may download that one file without a key, because clients hand it on to programs that
have none. It is good until the end of the next day; every answer has the URL of today.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from clarifai_grpc.grpc.api import resources_pb2

from sightrank.api.call import AppRef
from sightrank.ingest.export_queue import State
from sightrank.ingest.media import HostedUrls
from sightrank.store import queries
from sightrank.store.database import Connection, Database

_SQL = queries.load("dataset_exports")
_DAY_S = 86_400
_TEXTS: Mapping[int, str] = {
    State.EXPORTED: "Dataset version export is completed",
    State.QUEUED: "Dataset version export is pending",
    State.FAILED: "Dataset version export failed",
    State.EXPORTING: "Dataset version export is in progress",
    State.UNKNOWN_ERROR: "Dataset version export failed unexpectedly",
}


class ExportRow(NamedTuple):
    """Columns of the statement ``read``."""

    version_id: str
    format: resources_pb2.DatasetVersionExportFormat.ValueType
    id: str
    secret: str
    status: int
    status_details: str
    told: bool
    progress: float
    size: int


class ExportRecords:
    """Reads exports of versions."""

    def __init__(self, database: Database, urls: HostedUrls) -> None:
        self._database = database
        self._urls = urls

    async def read(self, app: AppRef, dataset_id: str, version_ids: Sequence[str]) -> list[ExportRow]:
        """All exports of these versions of a dataset."""
        parameters = {"bucket": app.bucket, "dataset_id": dataset_id, "version_ids": list(version_ids)}
        return [ExportRow(*row) for row in await self._database.rows(_SQL["read"], parameters)]

    def message(self, app: AppRef, dataset_id: str, row: ExportRow) -> resources_pb2.DatasetVersionExport:
        message = resources_pb2.DatasetVersionExport(format=row.format)
        status = message.status
        status.code, status.description, status.details = row.status, _TEXTS.get(row.status, ""), row.status_details
        status.percent_completed = int(100 * row.progress)
        if row.status == State.EXPORTED:
            # The same URL all day, so that whoever asks again gets what others have.
            expires = (int(time.time()) // _DAY_S + 2) * _DAY_S
            name = f"{dataset_id}-{row.version_id}.zip"
            message.url = self._urls.dataset_export(app.bucket, row.id, expires, signature(row.secret, expires), name)
            message.size = row.size
        return message

    async def fill(self, app: AppRef, dataset_id: str, versions: Sequence[resources_pb2.DatasetVersion]) -> None:
        """Writes into versions of a dataset what they are exported to."""
        by_id = {version.id: version for version in versions}
        for row in await self.read(app, dataset_id, list(by_id)):
            name = resources_pb2.DatasetVersionExportFormat.Name(row.format).lower()
            getattr(by_id[row.version_id].export_info, name).CopyFrom(self.message(app, dataset_id, row))


def signature(secret: str, expires: int) -> str:
    """What only this server can say of a URL that is good until then."""
    return hmac.new(secret.encode(), str(expires).encode(), hashlib.sha256).hexdigest()


async def take_exports(
    connection: Connection, bucket: int, dataset_ids: Sequence[str], version_ids: Sequence[str] | None = None
) -> list[str]:
    """Deletes the exports of these versions, or of all of the datasets; returns their files, to be deleted after the
    commit. The caller holds the datasets.
    """
    parameters = {"bucket": bucket, "dataset_ids": list(dataset_ids), "version_ids": version_ids}
    cursor = await connection.execute(_SQL["delete"], parameters)
    return [blob for (blob,) in await cursor.fetchall() if blob]
