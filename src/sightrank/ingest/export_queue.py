"""Dataset versions that are to be exported, as a queue on the database: any number of processes work on it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from sightrank.store import queries
from sightrank.store.database import Database

ATTEMPTS = 3
_SQL = queries.load("dataset_exports")


class State(IntEnum):
    """How far an export is, in Clarifai's numbers."""

    EXPORTED = 64200
    QUEUED = 64201
    FAILED = 64202
    EXPORTING = 64203
    UNKNOWN_ERROR = 64204


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """A leased export of a version, of a dataset of the app; ``format`` is the API's number of it."""

    bucket: int
    id: str
    dataset_id: str
    version_id: str
    format: int
    attempts: int
    user_id: str
    app_id: str


class ExportQueue:
    """The queue as one process sees it. ``owner`` names the process in the leases it takes."""

    def __init__(self, database: Database, *, owner: str, lease_s: float) -> None:
        self._database = database
        self._owner = owner
        self._lease_s = lease_s

    async def claim(self) -> Export | None:
        """The one that waits longest."""
        for (bucket,) in await self._database.rows(_SQL["buckets_with_work"]):
            claimed = await self._claim_from(bucket)
            if claimed is not None:
                return claimed
        return None

    async def _claim_from(self, bucket: int) -> Export | None:
        lease = {"owner": self._owner, "lease_s": self._lease_s}
        row = await self._database.row(_SQL["claim"], {**lease, "bucket": bucket})
        if row is None:
            return None
        id, dataset_id, version_id, format, attempts, user_id, app_id = row
        return Export(
            bucket=bucket,
            id=id,
            dataset_id=dataset_id,
            version_id=version_id,
            format=format,
            attempts=attempts,
            user_id=user_id,
            app_id=app_id,
        )

    async def keep(self, export: Export, progress: float) -> bool:
        """Renews the lease and says how far the work is, 0 to 1; False where the export is not ours any more: its
        version, its dataset or its app was deleted."""
        return await self._write("renew", export, progress=progress, lease_s=self._lease_s)

    async def finish(self, export: Export, *, blob: str, size: int) -> bool:
        """Names its file; False where the export is not ours any more, and nothing is written."""
        return await self._write("finish", export, blob=blob, size=size)

    async def fail(self, export: Export, state: State, details: str) -> bool:
        """Ends it until somebody asks for it again, with the reason that people read."""
        return await self._write("fail", export, status=int(state), details=details)

    async def put_off(self, export: Export, *, pause_s: float, blameless: bool) -> None:
        """Gives it back; ``blameless``: what stopped it had nothing to do with it."""
        await self._write("put_off", export, pause_s=pause_s, blameless=blameless)

    async def _write(self, statement: str, export: Export, **values: Any) -> bool:
        key = {"bucket": export.bucket, "id": export.id, "owner": self._owner}
        return await self._database.execute(_SQL[statement], key | values) > 0
