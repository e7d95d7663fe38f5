"""Annotations by people: adding them, and making their regions searchable. (Changing them: revision.py.)

A new region of an indexed input is cut out, embedded and tagged before its annotation is committed, so it is found by
the next search. A region of an input that still waits is left to the worker, which embeds all areas of an input
together. Every writer locks the inputs first, in the order of their numbers, and takes the bucket's version last.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sightrank.errors import AnnotationInvalid, AppError, DoesNotExist, DuplicateKey, quoted
from sightrank.ingest.areas import Area, read_areas
from sightrank.ingest.base_workflow import has_workflow, workflow_of
from sightrank.ingest.dataset_freeze import between_versions
from sightrank.ingest.frames import check_no_frames, check_no_segments, named_frame, on_frame
from sightrank.ingest.history import not_before_the_last
from sightrank.ingest.regions import Look, NewRegion, Place, Regions, Seen, Target, boxes_by_input, known_regions
from sightrank.ingest.rows import (
    AnnotationRow,
    Content,
    concept_ids,
    distinct_concepts,
    insert_annotations,
    lock_inputs,
    new_id,
    same_box,
)
from sightrank.ingest.workflow import Workflow
from sightrank.search.concepts import ConceptBook
from sightrank.store import queries
from sightrank.store.clock import Clock
from sightrank.store.database import Connection, Database, TryAgain, retrying
from sightrank.store.status import ANNOTATION_SUCCESS
from sightrank.vision.box import Box

_SQL = queries.load("annotations")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAnnotation:
    """A checked annotation. ``names_region`` says that ``region_id`` must be a region that exists."""

    input_id: str
    id: str
    content: Content
    user_id: str
    status: int
    is_region: bool = False
    names_region: bool = False
    region_id: str = ""
    box: Box | None = None
    task_id: str = ""
    annotation_info: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class _Chosen:
    """An annotation that will be written; ``region_id`` is '' for one about the whole input or a ``frame`` of it."""

    item: NewAnnotation
    id: str
    input_number: int
    region_id: str
    frame: Area | None


class Labelling:
    """Writes annotations of one database."""

    def __init__(
        self,
        database: Database,
        regions: Regions,
        book: ConceptBook,
        clock: Clock,
        workflows: Mapping[str, Workflow],
        lacks: Callable[[str], str],
    ) -> None:
        """``lacks``: workflow id to why it cannot run here, '' where it can."""
        self._database = database
        self._regions = regions
        self._book = book
        self._clock = clock
        self._workflows = workflows
        self._lacks = lacks

    async def add(self, bucket: int, items: Sequence[NewAnnotation]) -> list[tuple[str, str] | AppError]:
        """For each annotation (input id, its id), or why it was refused, in the order given."""
        wanted = boxes_by_input((item.input_id, item.box) for item in items if item.is_region and not item.names_region)

        async def added() -> list[tuple[str, str] | AppError]:
            workflow_id = await workflow_of(self._database, bucket)
            workflow = self._workflows.get(workflow_id)
            targets = await self._regions.targets(bucket, {item.input_id for item in items})
            looks = await self._regions.look(bucket, workflow, targets, wanted)
            async with self._database.transaction() as connection:
                results = await self._add(connection, bucket, workflow_id, items, targets, looks)
                if not await has_workflow(connection, bucket, workflow_id):
                    raise TryAgain
                return results

        return await retrying(added, busy="The inputs of these annotations keep changing; try again in a moment.")

    async def _add(
        self,
        connection: Connection,
        bucket: int,
        workflow_id: str,
        items: Sequence[NewAnnotation],
        targets: Mapping[str, Target],
        looks: Mapping[str, Look],
    ) -> list[tuple[str, str] | AppError]:
        status = await lock_inputs(connection, bucket, [target.number for target in targets.values()])
        for item in items:
            if item.is_region and item.input_id in targets:
                targets[item.input_id].check_still(status.get(targets[item.input_id].number, 0))
        present = {name: target for name, target in targets.items() if target.number in status}
        places = await known_regions(connection, bucket, {item.region_id for item in items})
        taken = await _taken(connection, bucket, items, present)
        videos = {target.number for target in present.values() if target.media == "video"}
        areas = await read_areas(connection, bucket, sorted(videos)) if videos else {}
        lacks = self._lacks(workflow_id)
        results: list[tuple[str, str] | AppError] = []
        chosen: list[_Chosen] = []
        for item in items:
            try:
                _check(item, present, places, taken)
                if item.is_region and item.region_id not in places:
                    present[item.input_id].check_can_have_regions(workflow_id, lacks)
                number = present[item.input_id].number
                frame = _frame_of(item, areas[number]) if number in videos else None
                if number not in videos:
                    check_no_frames(item.content.data, f"The annotation of input {item.input_id!r}")
            except AppError as refusal:
                results.append(refusal)
                continue
            region_id = (item.region_id or new_id()) if item.is_region else ""
            one = _Chosen(item, item.id or new_id(), number, region_id, frame)
            taken.add((number, one.id))
            if one.region_id:
                places.setdefault(one.region_id, Place(number, item.box, None, _region_info(item.content)))
            results.append((item.input_id, one.id))
            chosen.append(one)
        if chosen:
            await self._insert(connection, bucket, self._workflows.get(workflow_id), chosen, places, looks)
        return results

    async def _insert(
        self,
        connection: Connection,
        bucket: int,
        workflow: Workflow | None,
        chosen: Sequence[_Chosen],
        places: Mapping[str, Place],
        looks: Mapping[str, Look],
    ) -> None:
        new = {one.region_id: one for one in chosen if one.region_id and places[one.region_id].area_id is None}
        areas = await self._regions.make(
            connection,
            bucket,
            [
                NewRegion(input_number=one.input_number, region_id=one.region_id, box=places[one.region_id].box)
                for one in new.values()
            ],
        )
        area_ids = {name: place.area_id for name, place in places.items()} | {n: area.id for n, area in areas.items()}
        whole = await _whole_areas(connection, bucket, [one.input_number for one in chosen])
        concepts = await concept_ids(connection, self._book, bucket, [one.item.content for one in chosen])
        chosen_ids = [(one.input_number, one.id) for one in chosen if one.item.id]
        now = self._clock.take(len(chosen), after=await between_versions(connection, bucket))
        instants = await not_before_the_last(connection, bucket, chosen_ids, now)
        rows = [
            _new_row(
                one,
                _area_id(one, area_ids, whole),
                ids,
                created_at,
                _data(one, places),
            )
            for one, ids, created_at in zip(chosen, concepts, instants, strict=True)
        ]
        await insert_annotations(connection, bucket, rows)
        seen = [
            Seen(
                input_number=one.input_number,
                area=areas[name],
                box=places[name].box,
                look=looks[one.item.input_id],
            )
            for name, one in new.items()
            if one.item.input_id in looks
        ]
        await self._regions.finish(connection, bucket, workflow, seen)


async def _taken(
    connection: Connection, bucket: int, items: Sequence[NewAnnotation], present: Mapping[str, Target]
) -> set[tuple[int, str]]:
    """(input number, annotation id) of those that items want and that exist already."""
    wanted = [(present[item.input_id].number, item.id) for item in items if item.id and item.input_id in present]
    if not wanted:
        return set()
    keys = {"bucket": bucket, "numbers": [number for number, _ in wanted], "ids": [name for _, name in wanted]}
    cursor = await connection.execute(_SQL["modified"], keys)
    return {(number, name) for number, name, _ in await cursor.fetchall()}


async def _whole_areas(connection: Connection, bucket: int, numbers: Sequence[int]) -> dict[int, int]:
    cursor = await connection.execute(_SQL["whole_areas"], {"bucket": bucket, "numbers": sorted(set(numbers))})
    return dict(await cursor.fetchall())


def _check(
    item: NewAnnotation,
    present: Mapping[str, Target],
    places: Mapping[str, Place],
    taken: set[tuple[int, str]],
) -> None:
    """Raises what is wrong with an annotation: DoesNotExist, DuplicateKey or AnnotationInvalid."""
    target = present.get(item.input_id)
    if target is None:
        raise DoesNotExist(f"There is no input {quoted(item.input_id)} to annotate.")
    if item.id and (target.number, item.id) in taken:
        raise DuplicateKey(f"Input {item.input_id!r} has an annotation {item.id!r} already; choose another id.")
    place = places.get(item.region_id) if item.region_id else None
    if place is None:
        if item.names_region:
            raise AnnotationInvalid(
                f"Input {item.input_id!r} has no region {item.region_id!r}; send region_info to make one."
            )
    elif place.input_number != target.number:
        raise AnnotationInvalid(f"Region {item.region_id!r} belongs to another input than {item.input_id!r}.")
    elif not item.names_region and not same_box(place.box, item.box):
        raise AnnotationInvalid(
            f"Region {item.region_id!r} exists with another place; leave region_info out, or choose another region id."
        )


def _frame_of(item: NewAnnotation, areas: Sequence[Area]) -> Area | None:
    """The frame of a video that an annotation is about; None for the whole. Raises AnnotationInvalid."""
    if item.is_region:
        raise AnnotationInvalid(
            f"Input {item.input_id!r} is a video; annotate the whole of it, or one of its frames, without a region."
        )
    data = item.content.data or {}
    if data.get("frames"):
        check_no_segments(data, f"The annotation of input {item.input_id!r}")
    return named_frame(areas, data.get("frames", ()), item.input_id)


def _area_id(one: _Chosen, of_regions: Mapping[str, int | None], whole: Mapping[int, int]) -> int | None:
    if one.frame is not None:
        return one.frame.id
    return of_regions[one.region_id] if one.region_id else whole[one.input_number]


def _region_info(content: Content) -> Mapping[str, Any] | None:
    regions = (content.data or {}).get("regions")
    return regions[0].get("region_info") if regions else None


def _data(one: _Chosen, places: Mapping[str, Place]) -> Mapping[str, Any] | None:
    """What is stored of the annotation's Data. One that only names its region gets the geometry of it, because filters
    by kind of geometry ask what annotations say; so does one that names its frame in one of the ways there are."""
    data = one.item.content.data
    if one.frame is not None and one.frame.frame is not None:
        return on_frame(data or {}, one.frame.frame)
    info = places[one.region_id].info() if one.item.names_region else None
    if info is None or not data:
        return data
    return {**data, "regions": [{**region, "region_info": info} for region in data["regions"]]}


def _new_row(
    one: _Chosen, area_id: int | None, ids: Sequence[str], created_at: datetime, data: Mapping[str, Any] | None
) -> AnnotationRow:
    assert area_id is not None
    item = one.item
    distinct_ids, values = distinct_concepts(item.content, ids)
    return AnnotationRow(
        input_number=one.input_number,
        id=one.id,
        area_id=area_id,
        created_at=created_at,
        status=item.status,
        trusted=item.status == ANNOTATION_SUCCESS,
        user_id=item.user_id,
        task_id=item.task_id,
        concept_ids=distinct_ids,
        concept_values=values,
        metadata=item.content.metadata,
        latitude=item.content.latitude,
        longitude=item.content.longitude,
        annotation_info=item.annotation_info,
        data=data,
    )
