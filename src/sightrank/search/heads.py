"""What people taught an app: its trained model versions, followed as the database changes.

Whoever commits that a version is trained, or that one is gone, raises the bucket's version of labels with it: so the
next search of every process knows.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sightrank.search.fits import Fits
from sightrank.search.versions import Versions
from sightrank.store import queries
from sightrank.store.database import Database
from sightrank.vision.concept_model import ConceptModel

_APPS = 1024  # whose heads are kept
_SQL = queries.load("fits")


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A trained version of a model of the app, when it was made, and the concepts that it predicts."""

    version_id: str
    made_at: datetime
    model_id: str
    concept_ids: frozenset[str]

    def knows(self, concept_ids: Sequence[str]) -> bool:
        """Whether it predicts a concept, under any of its ids."""
        return not self.concept_ids.isdisjoint(concept_ids)


class Heads:
    """The heads of apps, as far as this process has been asked."""

    def __init__(self, database: Database, fits: Fits) -> None:
        self._database = database
        self._fits = fits
        self._kept: OrderedDict[tuple[int, int], tuple[int, Sequence[Head]]] = OrderedDict()

    async def of_app(self, bucket: int, embedder_id: int, versions: Versions) -> Sequence[Head]:
        """One of each model, its latest version that was trained on the vectors of this embedder, the most recently
        completed first, as of ``versions`` or later."""
        key = (bucket, embedder_id)
        known = self._kept.get(key)
        if known is not None and known[0] >= versions.labels:
            self._kept.move_to_end(key)
            return known[1]
        rows = await self._database.rows(_SQL["heads"], {"bucket": bucket, "embedder_id": embedder_id})
        found = [_head(row) for row in rows]
        self._kept[key] = (versions.labels, found)
        self._kept.move_to_end(key)
        if len(self._kept) > _APPS:
            self._kept.popitem(last=False)
        return found

    async def of_version(self, bucket: int, embedder_id: int, version_id: str) -> Head | None:
        """Any version of a model of the app, as it is now; None where it has learnt nothing of these vectors."""
        keys = {"bucket": bucket, "embedder_id": embedder_id, "version_id": version_id}
        row = await self._database.row(_SQL["head"], keys)
        return None if row is None else _head(row)

    async def fit(self, bucket: int, embedder_id: int, head: Head) -> ConceptModel | None:
        """What a head learnt; None where it has just been deleted."""
        return await self._fits.get(bucket, head.version_id, head.made_at, embedder_id)

    def forget(self, bucket: int) -> None:
        """The app is gone."""
        for key in [key for key in self._kept if key[0] == bucket]:
            del self._kept[key]


def _head(row: Sequence[Any]) -> Head:
    version_id, made_at, model_id, concept_ids = row
    return Head(version_id=version_id, made_at=made_at, model_id=model_id, concept_ids=frozenset(concept_ids))
