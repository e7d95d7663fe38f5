"""What the nodes of an app's own workflow say of inputs, and the annotations that come of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sightrank.errors import DoesNotExist
from sightrank.ingest.areas import Area
from sightrank.ingest.rows import AnnotationRow, insert_annotations, new_id
from sightrank.search.concepts import ConceptBook
from sightrank.search.query import ConceptName
from sightrank.store import queries
from sightrank.store.clock import Clock
from sightrank.store.database import Connection
from sightrank.store.status import ANNOTATION_SUCCESS

_SQL = queries.load("ingest")
_MODEL_IDS = queries.load("model_ids")


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """What one node says of one area: ``place`` is that of the area's vector among those of its input.

    A model says it itself; an annotation-writer says it in the name of ``user_id``, and ``written_by`` is its version,
    ``info`` the annotation_info it adds.
    """

    place: int
    concepts: tuple[tuple[str, float], ...]
    model_id: str = ""
    model_version_id: str = ""
    user_id: str = ""
    written_by: str = ""
    status: int = ANNOTATION_SUCCESS
    info: Mapping[str, Any] | None = None

    @property
    def trusted(self) -> bool:
        """Whether it is a label: what a writer says for certain."""
        return self.written_by != "" and self.status == ANNOTATION_SUCCESS

    def without(self, concept_ids: frozenset[str]) -> tuple[tuple[str, float], ...]:
        """Its concepts but these."""
        return tuple((concept_id, value) for concept_id, value in self.concepts if concept_id not in concept_ids)


async def write_remarks(
    connection: Connection,
    book: ConceptBook,
    clock: Clock,
    bucket: int,
    said: Sequence[tuple[int, Area, Remark]],
    *,
    after: datetime,
) -> bool:
    """Writes remarks, each with the number of its input and its area; whether there are new labels among them. They are
    of instants ``after`` that one.

    The caller holds the inputs. A writer keeps silent about a concept of which people have said something there.
    """
    written = {number for number, _, remark in said if remark.written_by}
    people = await _said_by_people(connection, book, bucket, sorted(written))
    kept = [
        (number, area, remark, remark.without(people.get(area.id, frozenset()) if remark.written_by else frozenset()))
        for number, area, remark in said
    ]
    rows = [
        AnnotationRow(
            input_number=number,
            id=new_id(),
            area_id=area.id,
            created_at=created_at,
            status=remark.status,
            trusted=remark.trusted,
            user_id=remark.user_id,
            model_id=remark.model_id,
            model_version_id=remark.model_version_id,
            own_model=remark.model_version_id != "",
            written_by=remark.written_by,
            concept_ids=[concept_id for concept_id, _ in concepts],
            concept_values=[round(value, 6) for _, value in concepts],
            annotation_info=remark.info,
            data=area.data(),
        )
        for (number, area, remark, concepts), created_at in zip(kept, clock.take(len(kept), after=after), strict=True)
        if concepts
    ]
    named = sorted({concept_id for row in rows for concept_id in row.concept_ids})
    await book.ensure_concepts(connection, bucket, [(concept_id, "") for concept_id in named])
    await insert_annotations(connection, bucket, rows)
    return any(row.written_by for row in rows)


async def name_models(connection: Connection, bucket: int, numbers: Sequence[int]) -> None:
    """Calls the app's models by the ids that they have now in what has just been written of these inputs: one may have
    got another while they were looked at. After ``next_version`` that stays so until the commit.
    """
    await connection.execute(_MODEL_IDS["rename_in_inputs"], {"bucket": bucket, "numbers": list(numbers)})


async def same_concepts(
    connection: Connection, book: ConceptBook, bucket: int, concept_ids: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """For each concept the ids of all that are the same: its own, and those of its name, the app's and the public one.

    Raises DoesNotExist when the app is gone.
    """
    row = await (await connection.execute(_SQL["language"], {"bucket": bucket})).fetchone()
    if row is None:
        raise DoesNotExist("The app was deleted.")
    names = [ConceptName(id=concept_id) for concept_id in concept_ids]
    meanings = await book.resolve_all(connection, bucket, names, row[0])
    return {
        concept_id: (concept_id, *(id for group in meaning for id in group))
        for concept_id, meaning in zip(concept_ids, meanings, strict=True)
    }


async def _said_by_people(
    connection: Connection, book: ConceptBook, bucket: int, numbers: Sequence[int]
) -> dict[int, frozenset[str]]:
    """The concepts of which people have said something of these inputs, by area, and all that are the same."""
    if not numbers:
        return {}
    cursor = await connection.execute(_SQL["said_by_people"], {"bucket": bucket, "numbers": numbers})
    rows = await cursor.fetchall()
    if not rows:
        return {}
    same = await same_concepts(connection, book, bucket, sorted({concept_id for _, concept_id in rows}))
    said: dict[int, frozenset[str]] = {}
    for area_id, concept_id in rows:
        said[area_id] = said.get(area_id, frozenset()) | frozenset(same[concept_id])
    return said
