"""A page of hits from the database: one round trip for all that its messages say, and for the versions it is as of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clarifai_grpc.grpc.api import resources_pb2
from psycopg.rows import TupleRow

from sightrank.api.call import AppRef
from sightrank.api.records import AnnotationRecord, InputRow, Records
from sightrank.search.engine import Hit
from sightrank.search.follow import NO_VERSIONS, Versions
from sightrank.store import queries
from sightrank.store.database import Database

_SQL = queries.load("search")
#: Columns of the statement `hits`: versions and place, an input, an annotation, the app's names of their concepts.
_INPUT, _ANNOTATION = 3, 3 + len(InputRow._fields)
_CONTENT = slice(_INPUT, _ANNOTATION - 6)  # an input without what its input-level annotation says


@dataclass(frozen=True, slots=True, kw_only=True)
class HitPage:
    """Hits in order; one whose input was deleted this very moment is left out."""

    versions: Versions
    messages: list[resources_pb2.Hit]


class Hits:
    """Reads hits."""

    def __init__(self, database: Database, records: Records) -> None:
        self._database = database
        self._records = records

    async def read(self, app: AppRef, hits: Sequence[Hit]) -> HitPage:
        """The messages of these hits, and the versions of the bucket in the snapshot that they are from."""
        rows = await self._database.rows(
            _SQL["hits"],
            {
                "bucket": app.bucket,
                "numbers": [hit.input_number for hit in hits],
                "area_ids": [hit.area_id for hit in hits],
                "annotation_ids": [hit.annotation_id for hit in hits],
            },
        )
        if not rows:
            return HitPage(versions=NO_VERSIONS, messages=[])
        return HitPage(
            versions=Versions(all=rows[0][0], labels=rows[0][1]),
            messages=[self._message(app, hits[row[2] - 1], row) for row in rows if row[2] is not None],
        )

    def _message(self, app: AppRef, hit: Hit, row: TupleRow) -> resources_pb2.Hit:
        annotation = AnnotationRecord(*row[_ANNOTATION:-1])
        says = (
            (
                annotation.concept_ids,
                annotation.concept_values,
                annotation.metadata,
                annotation.latitude,
                annotation.longitude,
                annotation.data,
            )
            if annotation.input_level
            else row[_CONTENT.stop : _ANNOTATION]
        )
        message = resources_pb2.Hit(score=hit.score, user_id=app.user_id, app_id=app.app_id)
        self._records.fill_hit(message, app, InputRow(*row[_CONTENT], *says), annotation, row[-1] or {})
        return message
