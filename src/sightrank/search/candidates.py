"""What a search's filters leave: read in one round trip together with the version it is as of, and kept for as long as
that version is the bucket's."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from psycopg import sql as pg

from sightrank.search import sql
from sightrank.search.concepts import Meaning
from sightrank.search.query import ConceptCondition, ConceptName, Filter, Query, Unit, conditions
from sightrank.search.sql import FilterScope
from sightrank.search.versions import Versions
from sightrank.store.database import Database

_SETS = 256
_BYTES = 64 * 2**20
_ID_BYTES = 90  # of an annotation id in memory
_MANY = 4096  # filters known to leave many

# Area ids as one string of bytes: a list of numbers would take longer to read than to find.
_READ = pg.SQL(
    "SELECT v.version, v.labels_version, f.areas, f.annotations FROM app_buckets v CROSS JOIN"
    " (SELECT string_agg(int8send(c.area_id), ''::bytea) AS areas, {annotations} AS annotations"
    " FROM ({candidates}) c (area_id, input_number, annotation_id)) f WHERE v.bucket = {bucket}"
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidates:
    """Areas that survive the filters, as of ``versions``; beside each, in an annotation search, the annotation that
    survived."""

    versions: Versions
    area_ids: NDArray[np.int64]
    annotation_ids: list[str] | None

    @property
    def size_bytes(self) -> int:
        return self.area_ids.nbytes + _ID_BYTES * len(self.annotation_ids or ())

    def annotations_of(self, area_ids: NDArray[np.int64]) -> list[str | None]:
        """The annotation of each of these areas."""
        if self.annotation_ids is None or len(area_ids) == 0:
            return [None] * len(area_ids)
        order = np.argsort(self.area_ids)
        places = order[np.searchsorted(self.area_ids, area_ids, sorter=order)]
        return [self.annotation_ids[place] for place in places.tolist()]


async def read(
    database: Database, query: Query, scope: FilterScope, *, at_most: int | None = None
) -> Candidates | None:
    """All candidates, or ``at_most`` of them; None when the app is gone."""
    statement = _READ.format(
        candidates=sql.candidates(query, scope, at_most=at_most),
        annotations=pg.SQL("array_agg(c.annotation_id)" if query.unit is Unit.ANNOTATION else "NULL::text[]"),
        bucket=pg.Literal(scope.bucket),
    )
    async with database.connection() as connection:
        row = await (await connection.execute(statement, binary=True)).fetchone()
    if row is None:
        return None
    version, labels_version, areas, annotation_ids = row
    return Candidates(
        versions=Versions(all=version, labels=labels_version),
        area_ids=np.frombuffer(areas or b"", ">i8").astype(np.int64),
        annotation_ids=(annotation_ids or []) if query.unit is Unit.ANNOTATION else None,
    )


#: All that the statement of the candidates is made of: bucket, unit, filters, time, and what their concepts mean. The
#: statement's own text would do as well, but composing it takes longer than everything else before the ranking.
Key = tuple[int, Unit, tuple[Filter, ...], datetime | None, frozenset[tuple[ConceptName, Meaning]]]


def key_of(query: Query, scope: FilterScope) -> Key:
    meant = frozenset(
        (condition.concept, scope.concepts[condition.concept])
        for condition in conditions(query)
        if isinstance(condition, ConceptCondition)
    )
    return scope.bucket, query.unit, query.filters, query.as_of, meant


class CandidateCache:
    """Complete sets of candidates, each good for exactly the version it was read at; the least recently used go.

    Why an old set can never pass for a new one: a set and its version are read in one snapshot, and every commit that
    changes what a filter leaves raises the version. So the set of version v is the same whoever reads it and whenever,
    and it is given only to searches that are to be as of v. Whether v is still the bucket's version is for them to
    know: they have just read it, or they read it again in the snapshot of their hits and start anew if it has moved.
    """

    def __init__(self) -> None:
        self._sets: OrderedDict[Key, Candidates] = OrderedDict()
        self._bytes = 0
        self._many: OrderedDict[Key, float] = OrderedDict()

    def get(self, key: Key, versions: Versions) -> Candidates | None:
        found = self._sets.get(key)
        if found is None or found.versions.all != versions.all:
            return None
        self._sets.move_to_end(key)
        return found

    def put(self, key: Key, candidates: Candidates) -> None:
        """Keeps a complete set, unless it alone would take most of the room."""
        known = self._sets.pop(key, None)
        if known is not None:
            self._bytes -= known.size_bytes
        if candidates.size_bytes > _BYTES // 4:
            return
        self._sets[key] = candidates
        self._bytes += candidates.size_bytes
        while len(self._sets) > _SETS or self._bytes > _BYTES:
            _, oldest = self._sets.popitem(last=False)
            self._bytes -= oldest.size_bytes

    def share_of_many(self, key: Key) -> float | None:
        """Which share of the best hits survived last time, for filters that lately left more candidates than the bound;
        None for others. Only a guess at the best plan."""
        return self._many.get(key)

    def note_many(self, key: Key, share: float) -> None:
        self._many[key] = max(share, 1e-4)
        self._many.move_to_end(key)
        if len(self._many) > _MANY:
            self._many.popitem(last=False)

    def note_few(self, key: Key) -> None:
        self._many.pop(key, None)
