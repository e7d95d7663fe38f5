"""What detectors found in areas, kept in memory and followed as the database changes.

What a workflow finds is committed with the vectors of the areas that it looked at: areas whose vectors are newer tell
what to read. All else that changes a detection, a person's patch or a change of workflow, counts as a change of labels
too: then everything is read again.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from psycopg import sql
from psycopg.rows import TupleRow

from sightrank.search.compiled import Labels, labels_of
from sightrank.search.versions import Versions
from sightrank.store import queries
from sightrank.store.database import Database
from sightrank.store.vectors import EmbedderTable

_SETS = 1024  # concepts whose detections are kept
_FOLLOWED = 1000  # versions; who is further behind reads everything
_SQL = queries.load("search")
_Key = tuple[int, int, str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Kept:
    """Detections as of ``version`` or later."""

    version: int
    labels: Labels


class Detections:
    """What detectors found, as far as this process has been asked."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: OrderedDict[_Key, _Kept] = OrderedDict()

    async def found(
        self, table: EmbedderTable, bucket: int, concept_ids: tuple[str, ...], detector_id: str, versions: Versions
    ) -> Labels:
        """How surely any version of a detector found a concept, under any of its ids, on each area, as of ``versions``
        or later. ``table`` has the vectors of the app's workflow. An area that is gone may be among them still.
        """
        key = (bucket, table.id, detector_id, concept_ids)
        asked = {"bucket": bucket, "model_id": detector_id, "concept_ids": list(concept_ids)}
        known = self._kept.get(key)
        if known is None or versions.labels > known.version or versions.all - known.version > _FOLLOWED:
            labels = labels_of(await self._database.rows(_SQL["detections"], asked))
        elif versions.all > known.version:
            since = sql.SQL(_SQL["detections_since"]).format(vectors=table.name)
            labels = _changed(known.labels, await self._database.rows(since, {**asked, "version": known.version}))
        else:
            self._kept.move_to_end(key)
            return known.labels
        self._keep(key, _Kept(version=versions.all, labels=labels))
        return labels

    def forget(self, bucket: int) -> None:
        """The app is gone."""
        for key in [key for key in self._kept if key[0] == bucket]:
            del self._kept[key]

    def _keep(self, key: _Key, read: _Kept) -> None:
        known = self._kept.get(key)
        if known is None or known.version < read.version:
            self._kept[key] = read
        self._kept.move_to_end(key)
        if len(self._kept) > _SETS:
            self._kept.popitem(last=False)


def _changed(before: Labels, rows: list[TupleRow]) -> Labels:
    """``before`` with what is said now of the areas in ``rows``: None where nothing is found any more."""
    now = labels_of([(area_id, value) for area_id, value in rows if value is not None])
    stays = ~np.isin(before.area_ids, np.array([area_id for area_id, _ in rows], np.int64))
    return now.over(Labels(area_ids=before.area_ids[stays], values=before.values[stays]))
