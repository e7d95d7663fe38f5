"""What trained model versions learnt, kept in memory: a fit never changes, so it is read once."""

from __future__ import annotations

from collections import OrderedDict

from sightrank.store import queries
from sightrank.store.database import Database
from sightrank.vision.concept_model import ConceptModel

_KEPT = 256
_SQL = queries.load("fits")
_Key = tuple[int, str, int]


class Fits:
    """By bucket, model version and embedder."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: OrderedDict[_Key, ConceptModel] = OrderedDict()

    async def get(self, bucket: int, version_id: str, embedder_id: int) -> ConceptModel | None:
        """What the version learnt for vectors of this embedder; None where it has not (yet)."""
        key = (bucket, version_id, embedder_id)
        known = self._kept.get(key)
        if known is not None:
            self._kept.move_to_end(key)
            return known
        row = await self._database.row(
            _SQL["fit"], {"bucket": bucket, "version_id": version_id, "embedder_id": embedder_id}
        )
        if row is None:
            return None
        fit = self._kept[key] = ConceptModel.load(row[0])
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return fit
