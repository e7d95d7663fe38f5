"""Matrices that follow the database.

Every transaction that changes vectors or labels raises its bucket's version under a row lock, so versions appear in
commit order. A search reads the version and first loads what is newer than its matrix: it sees every commit that was
answered before it, whichever process made it. Matrices are caches within a memory budget; the least recently used go,
and an app that would not fit alone is ranked by PostgreSQL.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sightrank.search import sql
from sightrank.search.compiled import Labels, labels_of
from sightrank.search.detections import Detections
from sightrank.search.fits import Fits
from sightrank.search.followed import Changes, Followed
from sightrank.search.graph import GRAPH_FROM_AREAS
from sightrank.search.graphs import GraphBuilder
from sightrank.search.heads import Heads
from sightrank.search.load import AppIsGone, Loader, TooLarge
from sightrank.search.matrix_ranker import MatrixRanker
from sightrank.search.ranker import Ranker
from sightrank.search.scoring import Scoring
from sightrank.search.sql_ranker import SqlRanker
from sightrank.search.versions import NO_VERSIONS, Versions
from sightrank.store import queries
from sightrank.store.database import Database
from sightrank.store.vectors import EmbedderTable

_LABEL_SETS = 1024  # concepts whose labels are kept
_COUNTED_ANEW_AFTER = 1000  # versions; until then an app beyond the memory is taken to be so still
_COMMITS_MISSED = 0.5  # expected until the hits are read: with more, look again before ranking
_SEARCH_S = 0.02  # what ranking may take
_RATE_OVER_S = 0.5  # the rate of commits is an average of about so long
_MOST_COUNTED = 100_000_000
_SQL = queries.load("search")

#: How apps are ranked: by their size, or all alike (for tests and comparisons).
RankerChoice = Literal["auto", "exact", "graph", "sql"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixState:
    """What this process has of one app's vectors. Ranked by ``sql`` they are not in memory: ``rows`` were counted at
    ``version``."""

    bucket: int
    embedder_id: int
    version: int
    rows: int
    bytes: int
    ranker: Literal["exact", "graph", "sql"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """Versions, when they were read, and how fast they have been rising lately."""

    versions: Versions
    at_s: float
    commits_a_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Beyond:
    """An app that PostgreSQL ranks."""

    version: int
    rows: int


class Matrices:
    """All matrices of this process, together with their graphs at most ``memory_bytes``."""

    def __init__(
        self,
        database: Database,
        fits: Fits,
        *,
        memory_bytes: int,
        choice: RankerChoice = "auto",
        graph_from_areas: int = GRAPH_FROM_AREAS,
        scoring: Scoring | None = None,
    ) -> None:
        self._database = database
        self._memory_bytes = memory_bytes
        self._choice = choice
        self._scoring = scoring or Scoring()
        self._loader = Loader(database, memory_bytes=memory_bytes)
        self._graphs = GraphBuilder(from_areas=1 if choice == "graph" else graph_from_areas)
        self._followed: OrderedDict[tuple[int, int], Followed] = OrderedDict()
        self._beyond: dict[tuple[int, int], _Beyond] = {}
        self._labels: OrderedDict[tuple[int, tuple[str, ...]], tuple[int, Labels]] = OrderedDict()
        self._seen: dict[int, _Seen] = {}
        self.detections = Detections(database)
        self.heads = Heads(database, fits)

    async def close(self) -> None:
        """Gives up graphs being built."""
        await self._graphs.close()

    def states(self) -> list[MatrixState]:
        """What there is now, least recently used first."""
        held = [
            MatrixState(
                bucket=bucket,
                embedder_id=embedder_id,
                version=followed.version,
                rows=followed.rows,
                bytes=followed.size_bytes,
                ranker="exact" if followed.graph is None else "graph",
            )
            for (bucket, embedder_id), followed in self._followed.items()
            if followed.version
        ]
        beyond = [
            MatrixState(
                bucket=bucket, embedder_id=embedder_id, version=app.version, rows=app.rows, bytes=0, ranker="sql"
            )
            for (bucket, embedder_id), app in self._beyond.items()
        ]
        return held + beyond

    def seen(self, bucket: int) -> Versions | None:
        """The versions that a search of this process found last. An answer made of them may leave only after a look
        whether they are still the bucket's.
        """
        known = self._seen.get(bucket)
        return None if known is None else known.versions

    def are_likely_current(self, bucket: int) -> bool:
        """Whether, at the rate of commits lately, nothing is likely to have changed since ``seen`` when a search that
        begins now reads its hits; else it would rank for nothing."""
        known = self._seen.get(bucket)
        if known is None:
            return False
        return known.commits_a_second * (time.monotonic() - known.at_s + _SEARCH_S) < _COMMITS_MISSED

    def note(self, bucket: int, versions: Versions) -> Versions:
        """These were the bucket's versions a moment ago."""
        known, now_s = self._seen.get(bucket), time.monotonic()
        if known is None:
            self._seen[bucket] = _Seen(versions=versions, at_s=now_s, commits_a_second=0.0)
        elif known.versions.all <= versions.all:
            passed_s = max(now_s - known.at_s, 1e-6)
            kept = math.exp(-passed_s / _RATE_OVER_S)
            rate = kept * known.commits_a_second + (1 - kept) * (versions.all - known.versions.all) / passed_s
            self._seen[bucket] = _Seen(versions=versions, at_s=now_s, commits_a_second=rate)
        return versions

    async def versions(self, bucket: int) -> Versions:
        """The bucket's versions now; zero, and the bucket forgotten, when the app was deleted meanwhile."""
        row = await self._database.row(_SQL["versions"], {"bucket": bucket})
        if row is None:
            self.forget(bucket)
            return NO_VERSIONS
        return self.note(bucket, Versions(all=row[0], labels=row[1]))

    async def ranker(self, table: EmbedderTable, bucket: int, versions: Versions) -> Ranker:
        """What ranks the bucket, at ``versions`` or later."""
        if versions.all == 0:
            return self._nothing(table)
        key = (bucket, table.id)
        if self._choice == "sql" or self._is_beyond(key, versions):
            return await self._by_sql(table, bucket, versions)
        followed = self._followed.get(key)
        if followed is None:
            followed = self._followed[key] = self._new(table, bucket)
        self._followed.move_to_end(key)
        try:
            await followed.reach(versions.all)
        except AppIsGone:
            self.forget(bucket)
            return self._nothing(table)
        except TooLarge as found:
            self._set_beyond(key, versions, found.rows)
            return await self._by_sql(table, bucket, versions)
        if followed.size_bytes > self._memory_bytes:
            followed.drop_graph()
        if followed.size_bytes > self._memory_bytes:
            self._set_beyond(key, versions, followed.rows)
        self._make_room()
        await self._tend_graph(key, followed)
        return MatrixRanker(followed, table.dims, self._scoring)

    async def labels(
        self, bucket: int, concept_ids: tuple[str, ...], versions: Versions, as_of: datetime | None = None
    ) -> Labels:
        """The latest trusted label of a concept, under any of its ids, on each area, as of ``versions`` or later; or as
        of a time.
        """
        if as_of is not None:
            return labels_of(await self._database.rows(sql.labels_as_of(bucket, concept_ids, as_of)))
        key = (bucket, concept_ids)
        known = self._labels.get(key)
        if known is not None and known[0] >= versions.labels:
            self._labels.move_to_end(key)
            return known[1]
        parameters = {"bucket": bucket, "concept_ids": list(concept_ids)}
        labels = labels_of(await self._database.rows(_SQL["latest_labels"], parameters))
        self._labels[key] = (versions.labels, labels)
        self._labels.move_to_end(key)
        if len(self._labels) > _LABEL_SETS:
            self._labels.popitem(last=False)
        return labels

    def rows(self, table: EmbedderTable, bucket: int) -> int:
        """About how many areas the app has, as far as this process knows."""
        followed, beyond = self._followed.get((bucket, table.id)), self._beyond.get((bucket, table.id))
        return followed.rows if followed is not None else beyond.rows if beyond is not None else 0

    def forget(self, bucket: int) -> None:
        """The app is gone."""
        for key in [key for key in self._followed if key[0] == bucket]:
            del self._followed[key]
        for key in [key for key in self._beyond if key[0] == bucket]:
            del self._beyond[key]
        for name in [name for name in self._labels if name[0] == bucket]:
            del self._labels[name]
        self.detections.forget(bucket)
        self.heads.forget(bucket)
        self._seen.pop(bucket, None)

    def _new(self, table: EmbedderTable, bucket: int) -> Followed:
        async def load(since: int) -> Changes:
            return await self._loader.changes(table, bucket, since)

        return Followed(table.dims, load)

    def _nothing(self, table: EmbedderTable) -> Ranker:
        async def never(since: int) -> Changes:
            raise AppIsGone

        return MatrixRanker(Followed(table.dims, never), table.dims, self._scoring)

    def _is_beyond(self, key: tuple[int, int], versions: Versions) -> bool:
        known = self._beyond.get(key)
        if known is not None and versions.all - known.version > _COUNTED_ANEW_AFTER:
            del self._beyond[key]
            return False
        return known is not None

    def _set_beyond(self, key: tuple[int, int], versions: Versions, rows: int) -> None:
        self._followed.pop(key, None)
        self._beyond[key] = _Beyond(version=versions.all, rows=rows)

    async def _by_sql(self, table: EmbedderTable, bucket: int, versions: Versions) -> Ranker:
        key = (bucket, table.id)
        if not self._is_beyond(key, versions):
            rows = await self._loader.rows(table, bucket, at_most=_MOST_COUNTED)
            self._set_beyond(key, versions, rows)
        return SqlRanker(self._database, table, bucket)

    def _make_room(self) -> None:
        """Lets the least recently used go. Searches that still read them keep them until they are done."""
        total = sum(followed.size_bytes for followed in self._followed.values())
        for key in list(self._followed)[:-1]:
            if total <= self._memory_bytes:
                return
            total -= self._followed.pop(key).size_bytes

    async def _tend_graph(self, key: tuple[int, int], followed: Followed) -> None:
        if self._choice == "exact":
            return
        room = self._memory_bytes - followed.size_bytes
        building = self._graphs.tend(followed, room_bytes=room, is_wanted=lambda: self._followed.get(key) is followed)
        if building is not None and self._choice == "graph":
            await asyncio.shield(building)
