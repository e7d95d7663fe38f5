"""Deleting inputs and everything that hangs on them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import structlog

from sightrank.ingest.rows import forget_removals
from sightrank.store import queries
from sightrank.store.blobs import BlobStore
from sightrank.store.buckets import next_version
from sightrank.store.database import Database, retrying

_SQL = queries.load("inputs")
_SWEEP_S = 6 * 3600.0
_log = structlog.get_logger(__name__)


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
        blobs = await retrying(
            lambda: self._delete_rows(bucket, storable),
            busy="These inputs are being written to; try again in a moment.",
        )
        await self.drop_blobs(bucket, set(blobs))
        return len(blobs)

    async def _delete_rows(self, bucket: int, ids: Sequence[str]) -> list[str]:
        """The blob, or '', of each input that went."""
        async with self._database.transaction() as connection:
            cursor = await connection.execute(_SQL["lock_to_delete"], {"bucket": bucket, "ids": ids})
            rows = await cursor.fetchall()
            if rows:
                version = await next_version(connection, bucket, labels=True)
                parameters = {"bucket": bucket, "numbers": [number for number, _ in rows]}
                await connection.execute(_SQL["record_removals"], {**parameters, "version": version})
                await forget_removals(connection, bucket, version)
                await connection.execute(_SQL["delete"], parameters)
        return [blob for _, blob in rows]

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

    async def sweep(self, *, min_age_s: float = 3600.0) -> int:
        """Removes files that no input and no export names, left by a process that was killed between a file and its
        row; returns how many. An app without any input is left alone: its database may be one that is still to be
        restored.
        """
        removed = 0
        for bucket, folder in await self._blobs.folders():
            row = await self._database.row(_SQL["any_input"], {"bucket": bucket})
            if row is None:
                continue
            aged = await self._blobs.aged(folder, min_age_s=min_age_s)
            rows = await self._database.rows(_SQL["blobs_in_use"], {"bucket": bucket, "blobs": aged})
            in_use = {blob for (blob,) in rows}
            for blob in aged:
                # The age is looked at again: the same image may just have been posted anew.
                if blob not in in_use and await self._blobs.delete(blob, min_age_s=min_age_s):
                    removed += 1
        if removed:
            _log.info("removed files that nothing uses", files=removed)
        return removed

    async def keep_swept(self) -> None:
        """Sweeps now and then, until cancelled."""
        while True:
            try:
                await self._blobs.sweep()
                await self.sweep()
            except Exception:
                _log.exception("sweeping the images failed")
            await asyncio.sleep(_SWEEP_S)

    async def delete_bucket(self, bucket: int) -> None:
        """Removes the images of a deleted app."""
        await self._blobs.delete_bucket(bucket)
