"""The labelled areas of apps in memory, for models that predict what their nearest neighbours are."""

from __future__ import annotations

from collections.abc import Sequence

from sightrank.errors import DoesNotExist
from sightrank.search.concepts import ConceptBook
from sightrank.search.recent import RecentlyUsed
from sightrank.store import queries
from sightrank.store.database import Database
from sightrank.store.vectors import EmbedderTable
from sightrank.teach.examples import read_examples
from sightrank.vision.operators import Labelled

_BYTES = 64 * 2**20  # 50,000 labelled areas in 512 dimensions are 100 MiB, and then the only ones
_SQL = queries.load("workflows")
_Key = tuple[int, int, tuple[str, ...]]


class Neighbours:
    """By bucket, table of vectors and concepts; read anew when anything in the app has changed."""

    def __init__(self, database: Database, book: ConceptBook) -> None:
        self._database = database
        self._book = book
        self._kept: RecentlyUsed[_Key, tuple[int, Labelled]] = RecentlyUsed(_BYTES)

    async def labelled(self, bucket: int, table: EmbedderTable, concept_ids: Sequence[str]) -> Labelled:
        """The areas that have one of these concepts by their latest trusted labels; without concepts, any of the app.

        Raises DoesNotExist when the app is gone.
        """
        row = await self._database.row(_SQL["versions"], {"bucket": bucket})
        if row is None:
            raise DoesNotExist("The app was deleted.")
        version: int = row[0]
        key = (bucket, table.id, tuple(concept_ids))
        known = self._kept.get(key)
        if known is not None and known[0] == version:
            return known[1]
        labelled = await self._read(bucket, table, concept_ids)
        # What was committed while we read is in it perhaps; the older version only makes us read again.
        self._kept.put(key, (version, labelled), labelled.vectors.nbytes + labelled.has.nbytes)
        return labelled

    async def _read(self, bucket: int, table: EmbedderTable, concept_ids: Sequence[str]) -> Labelled:
        if not concept_ids:
            concept_ids = [id for (id,) in await self._database.rows(_SQL["labelled_concepts"], {"bucket": bucket})]
        examples = await read_examples(self._database, self._book, bucket, table, concept_ids, background=0)
        has = examples.labels > 0.5
        some = has.any(axis=1)
        return Labelled(concept_ids=examples.concept_ids, vectors=examples.vectors[some], has=has[some])
