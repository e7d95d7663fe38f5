"""The labelled areas of apps in memory, for models that predict what their nearest neighbours are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from sightrank.errors import DoesNotExist
from sightrank.search.concepts import ConceptBook
from sightrank.search.recent import RecentlyUsed
from sightrank.store import queries
from sightrank.store.database import Database
from sightrank.store.vectors import EmbedderTable
from sightrank.teach.examples import read_labelled
from sightrank.vision.operators import Labelled

_BYTES = 64 * 2**20  # 50,000 labelled areas in 512 dimensions are 100 MiB, and then the only ones
_FOLLOWED = 1000  # versions of a bucket, each of a batch of inputs: after more it is read anew
_SQL = queries.load("workflows")
_Key = tuple[int, int, str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Kept:
    """What was read, and the versions of the bucket and of its labels at which it was still so."""

    version: int
    labels_version: int
    labelled: Labelled


class Neighbours:
    """By bucket, table of vectors, language and concepts; read anew when labels have changed, their concepts have other
    names, or a labelled area has got a vector. Inputs that come in without labels change nothing.
    """

    def __init__(self, database: Database, book: ConceptBook) -> None:
        self._database = database
        self._book = book
        self._kept: RecentlyUsed[_Key, _Kept] = RecentlyUsed(_BYTES)

    async def labelled(self, bucket: int, table: EmbedderTable, concept_ids: Sequence[str]) -> Labelled:
        """The areas that have one of these concepts by their latest trusted labels; without concepts, any of the app.

        Raises DoesNotExist when the app is gone.
        """
        row = await self._database.row(_SQL["versions"], {"bucket": bucket})
        if row is None:
            raise DoesNotExist("The app was deleted.")
        version, labels_version, language = row
        key = (bucket, table.id, language, tuple(concept_ids))
        known = self._kept.get(key)
        if known is not None and known.version == version:
            return known.labelled
        if (
            known is not None
            and known.labels_version == labels_version
            and await self._holds(bucket, table, known, version)
        ):
            labelled = known.labelled
        else:
            labelled = await self._read(bucket, table, concept_ids)
        # What was committed while we read is in it perhaps; the older version only makes us look again.
        size_bytes = labelled.vectors.nbytes + labelled.starts.nbytes + labelled.columns.nbytes
        self._kept.put(key, _Kept(version=version, labels_version=labels_version, labelled=labelled), size_bytes)
        return labelled

    async def _holds(self, bucket: int, table: EmbedderTable, known: _Kept, version: int) -> bool:
        """Whether no labelled area has got a vector since: a labelled input is indexed after its labels are there, and
        one that is looked at again gets another vector.
        """
        if version - known.version > _FOLLOWED:
            return False
        statement = sql.SQL(_SQL["labelled_since"]).format(vectors=table.name)
        return await self._database.row(statement, {"bucket": bucket, "version": known.version}) == (False,)

    async def _read(self, bucket: int, table: EmbedderTable, concept_ids: Sequence[str]) -> Labelled:
        if not concept_ids:
            concept_ids = [id for (id,) in await self._database.rows(_SQL["labelled_concepts"], {"bucket": bucket})]
        return await read_labelled(self._database, self._book, bucket, table, concept_ids)
