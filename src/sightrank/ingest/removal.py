"""Deleting inputs and everything that hangs on them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from sightrank.ingest.rows import next_version
from sightrank.store import queries
from sightrank.store.blobs import BlobStore
from sightrank.store.database import Database

_SQL = queries.load("inputs")


class Removal:
    """Deletes inputs, at once for every later search of every process."""

    def __init__(self, database: Database, blobs: BlobStore, *, min_age_s: float = 60.0) -> None:
        self._database = database
        self._blobs = blobs
        self._min_age_s = min_age_s
        self._later: set[asyncio.Task[None]] = set()

    async def delete_inputs(self, bucket: int, ids: Sequence[str]) -> int:
        """Deletes inputs with their areas, vectors, annotations and labels; unknown ids are ignored.

        Returns how many there were. Images that no other input of the app shares go after the commit: a process killed
        in between leaves an unused file, never an input without its image.
        """
        storable = [name for name in ids if "\x00" not in name]
        if not storable:
            return 0
        async with self._database.transaction() as connection:
            cursor = await connection.execute(_SQL["lock_to_delete"], {"bucket": bucket, "ids": storable})
            rows = await cursor.fetchall()
            if not rows:
                return 0
            numbers = [number for number, _ in rows]
            version = await next_version(connection, bucket, labels=True)
            parameters = {"bucket": bucket, "numbers": numbers}
            await connection.execute(_SQL["record_removals"], {**parameters, "version": version})
            await connection.execute(_SQL["delete"], parameters)
        await self.drop_blobs(bucket, {blob for _, blob in rows})
        return len(rows)

    async def drop_blobs(self, bucket: int, blobs: Iterable[str]) -> None:
        """Removes the images of these that no input of the app uses.

        One that was put a moment ago may belong to an input that is about to be committed; it is looked at again later.
        """
        young = await self._drop(bucket, blobs)
        if young:
            task = asyncio.create_task(self._drop_later(bucket, young))
            self._later.add(task)
            task.add_done_callback(self._later.discard)

    async def close(self) -> None:
        """Forgets what was to be looked at later."""
        for task in self._later:
            task.cancel()
        await asyncio.gather(*self._later, return_exceptions=True)

    async def _drop_later(self, bucket: int, blobs: Iterable[str]) -> None:
        await asyncio.sleep(self._min_age_s + 1.0)
        await self._drop(bucket, blobs)

    async def _drop(self, bucket: int, blobs: Iterable[str]) -> list[str]:
        """Returns those that are unused but too young."""
        wanted = sorted(filter(None, blobs))
        if not wanted:
            return []
        rows = await self._database.rows(_SQL["blobs_in_use"], {"bucket": bucket, "blobs": wanted})
        unused = [blob for blob in wanted if (blob,) not in rows]
        return [
            blob
            for blob in unused
            if not await self._blobs.delete(blob, min_age_s=self._min_age_s) and await self._blobs.exists(blob)
        ]

    async def delete_bucket(self, bucket: int) -> None:
        """Removes the images of a deleted app."""
        await self._blobs.delete_bucket(bucket)
