"""Deleting inputs and everything that hangs on them."""

from __future__ import annotations

from collections.abc import Sequence

from sightrank.ingest.rows import next_version
from sightrank.store import queries
from sightrank.store.blobs import BlobStore
from sightrank.store.database import Database

_SQL = queries.load("inputs")


class Removal:
    """Deletes inputs, at once for every later search of every process."""

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self._database = database
        self._blobs = blobs

    async def delete_inputs(self, bucket: int, ids: Sequence[str]) -> int:
        """Deletes inputs with their areas, vectors, annotations and labels; unknown ids are ignored.

        Returns how many there were. Images that no other input of the app shares go after the commit: a process killed
        in between leaves an unused file, never an input without its image.
        """
        if not ids:
            return 0
        async with self._database.transaction() as connection:
            cursor = await connection.execute(_SQL["lock_to_delete"], {"bucket": bucket, "ids": list(ids)})
            rows = await cursor.fetchall()
            if not rows:
                return 0
            numbers = [number for number, _ in rows]
            version = await next_version(connection, bucket, labels=True)
            parameters = {"bucket": bucket, "numbers": numbers}
            await connection.execute(_SQL["record_removals"], {**parameters, "version": version})
            await connection.execute(_SQL["delete"], parameters)
        blobs = sorted({blob for _, blob in rows if blob})
        used = {blob for (blob,) in await self._database.rows(_SQL["blobs_in_use"], {"bucket": bucket, "blobs": blobs})}
        for blob in blobs:
            if blob not in used:
                await self._blobs.delete(blob, min_age_s=60.0)
        return len(rows)

    async def delete_bucket(self, bucket: int) -> None:
        """Removes the images of a deleted app."""
        await self._blobs.delete_bucket(bucket)
