"""What trained model versions learnt, kept in memory: a fit never changes, so it is read once."""

from __future__ import annotations

from datetime import datetime

from sightrank.search.recent import RecentlyUsed
from sightrank.store import queries
from sightrank.store.database import Database
from sightrank.vision.concept_model import ConceptModel

_BYTES = 64 * 2**20  # of a process; 2,000 concepts in 512 dimensions are 4 MiB
_SQL = queries.load("fits")
_Key = tuple[int, str, datetime, int]


class Fits:
    """By bucket, model version, when that was made, and embedder. A process has one, for whatever it does with them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: RecentlyUsed[_Key, ConceptModel] = RecentlyUsed(_BYTES)

    async def get(self, bucket: int, version_id: str, made_at: datetime, embedder_id: int) -> ConceptModel | None:
        """What the version learnt for vectors of this embedder; None where it has not (yet).

        ``made_at``: when the version was made; programs choose ids, and may give that of a deleted version again.
        """
        key = (bucket, version_id, made_at, embedder_id)
        fit = self._kept.get(key)
        if fit is not None:
            return fit
        row = await self._database.row(
            _SQL["fit"], {"bucket": bucket, "version_id": version_id, "made_at": made_at, "embedder_id": embedder_id}
        )
        if row is None:
            return None
        fit = ConceptModel.load(row[0])
        self._kept.put(key, fit, len(row[0]))
        return fit
