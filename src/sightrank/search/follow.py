"""Matrices that follow the database.

Every transaction that changes vectors or labels raises its bucket's version under a row lock, so versions appear in
commit order. A search reads the version and first loads what is newer than its matrix: it sees every commit that was
answered before it, whichever process made it. Matrices are caches within a memory budget; the least recently used go.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import numpy as np

from sightrank.search.matrix import Matrix, Rows
from sightrank.search.rank import NO_LABELS, Labels
from sightrank.store import queries, vectors
from sightrank.store.database import Database
from sightrank.store.vectors import EmbedderTable

_LABEL_SETS = 1024  # concepts whose labels are kept
_SQL = queries.load("search")


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """A bucket's commit versions: of anything a search sees, and of labels alone."""

    all: int
    labels: int


NO_VERSIONS = Versions(all=0, labels=0)


class _Followed:
    """A matrix and the lock that serialises its changes and searches."""

    def __init__(self, dims: int) -> None:
        self.matrix = Matrix(dims)
        self.lock = asyncio.Lock()


class Matrices:
    """All matrices of this process, at most ``memory_bytes`` of them beside the one in use."""

    def __init__(self, database: Database, *, memory_bytes: int) -> None:
        self._database = database
        self._memory_bytes = memory_bytes
        self._followed: OrderedDict[tuple[int, int], _Followed] = OrderedDict()
        self._labels: OrderedDict[tuple[int, tuple[str, ...]], tuple[int, Labels]] = OrderedDict()
        self._seen: dict[int, Versions] = {}

    def seen(self, bucket: int) -> Versions | None:
        """The versions that a search of this process found last. An answer made of them may leave only after a look
        whether they are still the bucket's.
        """
        return self._seen.get(bucket)

    async def versions(self, bucket: int) -> Versions:
        """The bucket's versions now; zero, and the bucket forgotten, when the app was deleted meanwhile."""
        row = await self._database.row(_SQL["versions"], {"bucket": bucket})
        if row is None:
            self._forget(bucket)
            return NO_VERSIONS
        versions = self._seen[bucket] = Versions(all=row[0], labels=row[1])
        return versions

    @asynccontextmanager
    async def following(self, table: EmbedderTable, bucket: int, versions: Versions) -> AsyncIterator[Matrix]:
        """The bucket's matrix at ``versions`` or later, unchanged for the length of the block."""
        if versions.all == 0:
            yield Matrix(table.dims)
            return
        key = (bucket, table.id)
        followed = self._followed.setdefault(key, _Followed(table.dims))
        self._followed.move_to_end(key)
        async with followed.lock:
            if followed.matrix.version < versions.all:
                if not await self._load(followed.matrix, table, bucket, versions.all):
                    followed.matrix = Matrix(table.dims)
                    await self._load(followed.matrix, table, bucket, versions.all)
                self._forget_oldest()
            yield followed.matrix

    async def labels(self, bucket: int, concept_ids: tuple[str, ...], versions: Versions) -> Labels:
        """The latest trusted label of a concept, under any of its ids, on each area, as of ``versions`` or later."""
        key = (bucket, concept_ids)
        known = self._labels.get(key)
        if known is not None and known[0] >= versions.labels:
            self._labels.move_to_end(key)
            return known[1]
        rows = await self._database.rows(_SQL["latest_labels"], {"bucket": bucket, "concept_ids": list(concept_ids)})
        labels = NO_LABELS
        if rows:
            area_ids, values = zip(*rows, strict=True)
            labels = Labels(
                area_ids=np.array(area_ids, np.int64), values=np.clip(np.array(values, np.float64), 0.0, 1.0)
            )
        self._labels[key] = (versions.labels, labels)
        self._labels.move_to_end(key)
        if len(self._labels) > _LABEL_SETS:
            self._labels.popitem(last=False)
        return labels

    async def _load(self, matrix: Matrix, table: EmbedderTable, bucket: int, version: int) -> bool:
        """Adds and removes what changed after the matrix's version; False when it is too far behind to know what is
        gone. A failure leaves it at the old version, still right: the same rows come again next time.
        """
        fresh = not matrix.version and not len(matrix)
        async with self._database.connection() as connection:
            async for part in vectors.changed_since(connection, table, bucket, matrix.version):
                matrix.upsert(
                    Rows(
                        area_ids=part.area_ids,
                        input_numbers=part.input_numbers,
                        created_us=part.created_us,
                        vectors=part.vectors,
                    )
                )
            rows = []
            if not fresh:
                since = {"bucket": bucket, "version": matrix.version}
                rows = await (await connection.execute(_SQL["removed_since"], since, binary=True)).fetchall()
        if any(now - matrix.version > vectors.VERSIONS_KEPT for now, _ in rows[:1]):
            return False
        removed = np.array([area_id for _, area_id in rows if area_id is not None], np.int64)
        if len(removed):
            matrix.remove(removed)
        matrix.version = version
        return True

    def _forget(self, bucket: int) -> None:
        for key in [key for key in self._followed if key[0] == bucket]:
            del self._followed[key]
        for name in [name for name in self._labels if name[0] == bucket]:
            del self._labels[name]
        self._seen.pop(bucket, None)

    def _forget_oldest(self) -> None:
        total = sum(followed.matrix.size_bytes for followed in self._followed.values())
        for key in list(self._followed)[:-1]:
            if total <= self._memory_bytes:
                return
            if not self._followed[key].lock.locked():
                total -= self._followed.pop(key).matrix.size_bytes
