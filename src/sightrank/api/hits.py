"""A page of hits from the database: one round trip for all that its messages say, and for the versions it is as of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter

from clarifai_grpc.grpc.api import resources_pb2
from psycopg.rows import TupleRow

from sightrank.api.call import AppRef
from sightrank.api.records import AnnotationRecord, InputRow, Records
from sightrank.search.engine import Hit
from sightrank.search.versions import NO_VERSIONS, Versions
from sightrank.store import queries
from sightrank.store.database import Database, number_array

_SQL = queries.load("search")
#: Columns of the statements: versions, workflow and place, an input, an annotation, concepts of theirs that are the
#: app's, and how the app calls them.
_PLACE, _INPUT, _ANNOTATION = 3, 4, 4 + len(InputRow._fields)
_CONTENT = slice(_INPUT, _ANNOTATION - 6)  # an input without what its input-level annotation says


@dataclass(frozen=True, slots=True, kw_only=True)
class HitPage:
    """Hits in order; one whose input was deleted this very moment is left out.

    ``workflow_id`` is the base workflow that the app had then; None when the app was gone.
    """

    versions: Versions
    messages: list[resources_pb2.Hit]
    workflow_id: str | None = None


class Hits:
    """Reads hits."""

    def __init__(self, database: Database, records: Records) -> None:
        self._database = database
        self._records = records

    async def read(self, app: AppRef, hits: Sequence[Hit], as_of: datetime | None = None) -> HitPage:
        """The messages of these hits, with the versions and the workflow of the app in the snapshot that they are from.

        With ``as_of`` an annotation says what it said then. Where a hit names none, the first that its area had then
        speaks for it, or the first it has now if it had none. Inputs are always those of now.
        """
        names = [hit.annotation_id for hit in hits]
        parameters = {
            "bucket": app.bucket,
            "numbers": number_array(hit.input_number for hit in hits),
            "area_ids": number_array(hit.area_id for hit in hits),
            "annotation_ids": names if any(names) else None,
            "as_of": as_of,
        }
        rows = await self._database.rows(_SQL["hits_as_of" if as_of else "hits"], parameters, binary=True)
        if not rows:
            return HitPage(versions=NO_VERSIONS, messages=[])
        versions = Versions(all=rows[0][0], labels=rows[0][1])
        found = sorted((row for row in rows if row[_PLACE] is not None), key=itemgetter(_PLACE))
        # What an input-level annotation says now is what its input says: it comes once.
        messages = [self._message(app, hits[row[_PLACE] - 1], row, said_once=as_of is None) for row in found]
        return HitPage(versions=versions, messages=messages, workflow_id=rows[0][2])

    def _message(self, app: AppRef, hit: Hit, row: TupleRow, *, said_once: bool) -> resources_pb2.Hit:
        annotation = AnnotationRecord(*row[_ANNOTATION:-2])
        says: TupleRow = row[_CONTENT.stop : _ANNOTATION]
        if said_once and annotation.input_level:
            says = (
                annotation.concept_ids,
                annotation.concept_values,
                annotation.metadata,
                annotation.latitude,
                annotation.longitude,
                annotation.data,
            )
        shown = InputRow(*row[_CONTENT], *says)
        message = resources_pb2.Hit(score=hit.score, user_id=app.user_id, app_id=app.app_id)
        own_names = dict(zip(row[-2], row[-1], strict=True)) if row[-1] else {}
        self._records.fill_hit(message, app, shown, annotation, own_names)
        return message
