"""What the own workflow that an app is to have says of its inputs: put aside until the app changes over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sightrank.ingest.job import Outcome
from sightrank.ingest.remarks import Remark, same_concepts
from sightrank.ingest.rows import box_info, to_json
from sightrank.search.concepts import ConceptBook
from sightrank.store import queries
from sightrank.store.database import Connection

_SQL = queries.load("reindex")


@dataclass(frozen=True, slots=True, kw_only=True)
class _AsideRemark:
    """A row of ``reindexed_annotations``."""

    input_number: int
    area_id: int | None
    region_id: str | None
    status: int
    trusted: bool
    user_id: str
    model_id: str
    model_version_id: str
    written_by: str
    concept_ids: Sequence[str]
    concept_values: Sequence[float]
    annotation_info: Mapping[str, Any] | None
    data: Mapping[str, Any] | None


async def put_aside(
    connection: Connection, bucket: int, outcomes: Sequence[Outcome], regions: Mapping[tuple[int, int], str]
) -> None:
    """Keeps what is said of these inputs, in place of what was said of them before. ``regions``: the ids of those that
    a detector found, by number of their input and place."""
    numbers = [outcome.job.number for outcome in outcomes]
    await connection.execute(_SQL["drop_aside_annotations"], {"bucket": bucket, "numbers": numbers})
    rows = [
        _row(outcome, remark, regions.get((outcome.job.number, remark.place)))
        for outcome in outcomes
        for remark in outcome.remarks
    ]
    if rows:
        await connection.execute(_SQL["put_annotations_aside"], {"bucket": bucket, "rows": to_json(rows)})


async def make_concepts(connection: Connection, book: ConceptBook, bucket: int) -> None:
    """Makes the concepts of what was put aside in the app, where they are new."""
    concepts = await _concepts(connection, bucket)
    await book.ensure_concepts(connection, bucket, [(concept_id, "") for concept_id in concepts])


async def take_over(connection: Connection, book: ConceptBook, bucket: int) -> None:
    """Makes annotations and labels of what was put aside. The caller has removed those of before and holds
    all inputs."""
    same = await same_concepts(connection, book, bucket, await _concepts(connection, bucket))
    pairs = [(concept_id, id) for concept_id, ids in same.items() for id in ids]
    keys = {"bucket": bucket}
    said = {"concept_ids": [concept_id for concept_id, _ in pairs], "same_ids": [id for _, id in pairs]}
    await connection.execute(_SQL["take_annotations"], {**keys, **said})
    await connection.execute(_SQL["label_written"], keys)
    await connection.execute(_SQL["forget_troubles"], keys)


async def _concepts(connection: Connection, bucket: int) -> list[str]:
    cursor = await connection.execute(_SQL["concepts_aside"], {"bucket": bucket})
    return [concept_id for (concept_id,) in await cursor.fetchall()]


def _row(outcome: Outcome, remark: Remark, region_id: str | None) -> _AsideRemark:
    areas = outcome.job.areas
    if remark.place < len(areas):
        data = areas[remark.place].data()
    else:
        box = outcome.detections[remark.place - len(areas)].box
        data = {"regions": [{"region_info": box_info(box)}]}
    return _AsideRemark(
        input_number=outcome.job.number,
        area_id=None if region_id else areas[remark.place].id,
        region_id=region_id,
        status=remark.status,
        trusted=remark.trusted,
        user_id=remark.user_id,
        model_id=remark.model_id,
        model_version_id=remark.model_version_id,
        written_by=remark.written_by,
        concept_ids=[concept_id for concept_id, _ in remark.concepts],
        concept_values=[round(value, 6) for _, value in remark.concepts],
        annotation_info=remark.info,
        data=data,
    )
