"""Annotations by people: adding, changing and deleting them, and making their regions searchable.

A new region of an indexed input is cut out, embedded and tagged before its annotation is committed, so it is found
by the next search. A region of an input that still waits is left to the worker, which embeds all areas of an input
together.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from sightrank.errors import AnnotationInvalid, AppError, DoesNotExist, DuplicateKey
from sightrank.ingest.jobs import Area, Workflow, prediction_row
from sightrank.ingest.media import ImageSource
from sightrank.ingest.rows import (
    AnnotationRow,
    Content,
    RegionBox,
    concept_ids,
    insert_annotations,
    new_id,
    next_version,
    to_json,
)
from sightrank.search.concepts import ConceptBook
from sightrank.store import queries, vectors
from sightrank.store.clock import Clock, microseconds
from sightrank.store.database import Connection, Database
from sightrank.store.vectors import VectorRows
from sightrank.vision.eye import Box, Eye

_SQL = queries.load("annotations")
_INPUTS = queries.load("inputs")
_INDEXED, _WAITING = 30000, (30001, 30003)
SUCCESS = 24150
_TAGS = 20
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAnnotation:
    """A checked annotation. ``region_id`` without ``box`` may name a region that exists."""

    input_id: str
    id: str
    content: Content
    user_id: str
    status: int
    is_region: bool = False
    region_id: str = ""
    box: RegionBox | None = None
    task_id: str = ""
    annotation_info: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedAnnotation:
    """What an annotation says after a patch. ``box`` is set when its region's box changed."""

    input_number: int
    id: str
    area_id: int
    content: Content
    status: int
    annotation_info: Mapping[str, Any] | None
    input_id: str
    region_id: str | None = None
    box: RegionBox | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    number: int
    status: int
    media: str
    url: str
    blob: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Look:
    """Vectors and concepts of the new regions of one input: box to its place in the arrays, 0 is the whole picture."""

    vectors: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
    concepts: Sequence[Sequence[tuple[str, float]]]
    places: Mapping[RegionBox | None, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _NewRegion:
    input_number: int
    created_at: datetime
    region_id: str
    box_top: float | None
    box_left: float | None
    box_bottom: float | None
    box_right: float | None


class _Moved(Exception):
    """An input was indexed between our look and our lock: look again."""


class Labelling:
    """Writes annotations of one database."""

    def __init__(
        self,
        database: Database,
        images: ImageSource,
        eye: Eye,
        book: ConceptBook,
        clock: Clock,
        workflows: Mapping[str, Workflow | None],
    ) -> None:
        self._database = database
        self._images = images
        self._eye = eye
        self._book = book
        self._clock = clock
        self._workflows = workflows

    async def add(
        self, bucket: int, workflow_id: str, items: Sequence[NewAnnotation]
    ) -> list[tuple[str, str] | AppError]:
        """For each annotation (input id, its id), or why it was refused, in the order given."""
        workflow = self._workflows.get(workflow_id)
        for _ in range(_ATTEMPTS):
            targets = await self._targets(bucket, {item.input_id for item in items})
            looks = await self._look_at_regions(bucket, workflow, items, targets)
            try:
                async with self._database.transaction() as connection:
                    return await self._write(connection, bucket, workflow, items, targets, looks)
            except _Moved:
                continue
        raise AnnotationInvalid("The inputs of these annotations keep changing state; try again in a moment.")

    async def change(self, bucket: int, workflow_id: str, items: Sequence[ChangedAnnotation]) -> None:
        """Writes patched annotations. A region with another box becomes another area with a vector of its own."""
        workflow = self._workflows.get(workflow_id)
        moved = [item for item in items if item.box is not None]
        targets = await self._targets(bucket, {item.input_id for item in moved})
        looks = await self._look(
            bucket, workflow, targets, {name: [i.box for i in moved if i.input_id == name] for name in targets}
        )
        numbers, ids = [item.input_number for item in items], [item.id for item in items]
        now = self._clock.take(len(items))
        async with self._database.transaction() as connection:
            await connection.execute(_SQL["lock_inputs"], {"bucket": bucket, "numbers": sorted(set(numbers))})
            concepts = await concept_ids(connection, self._book, bucket, [item.content for item in items])
            areas = {item.area_id: item.area_id for item in items}
            old: list[int] = []
            if moved:
                old = [item.area_id for item in moved]
                areas |= await self._move(connection, bucket, workflow, moved, targets, looks)
            rows = [
                {**_changed_row(item, ids_of, instant), "area_id": areas[item.area_id]}
                for item, ids_of, instant in zip(items, concepts, now, strict=True)
            ]
            keys = {"bucket": bucket, "ids": ids, "numbers": numbers}
            await connection.execute(_INPUTS["delete_labels"], keys)
            await connection.execute(_SQL["update"], {"bucket": bucket, "rows": _json(rows)})
            await connection.execute(_INPUTS["derive_labels"], keys)
            await self._drop_deserted(connection, bucket, old, labels=True)

    async def delete(
        self,
        bucket: int,
        input_ids: Sequence[str],
        pairs: Sequence[tuple[str, str]] | None,
        *,
        predictions: bool = False,
    ) -> int:
        """Deletes the annotations named by ``pairs`` of (input id, id), or all people's annotations of the inputs;
        never an input-level one. A region that nobody speaks of any more goes too. Returns how many went."""
        async with self._database.transaction() as connection:
            parameters = {
                "bucket": bucket,
                "input_ids": list(input_ids),
                "pairs": _json([list(pair) for pair in pairs]) if pairs is not None else None,
                "predictions": predictions,
            }
            cursor = await connection.execute(_SQL["delete"], parameters)
            gone = await cursor.fetchall()
            if gone:
                await self._drop_deserted(connection, bucket, [area_id for _, _, area_id in gone], labels=True)
        return len(gone)

    # Regions ---------------------------------------------------------------------------------------------------------

    async def _targets(self, bucket: int, input_ids: set[str]) -> dict[str, _Target]:
        if not input_ids:
            return {}
        rows = await self._database.rows(_SQL["inputs_to_annotate"], {"bucket": bucket, "ids": sorted(input_ids)})
        return {
            name: _Target(number=number, status=status, media=media, url=url, blob=blob)
            for name, number, status, media, url, blob in rows
        }

    async def _look_at_regions(
        self, bucket: int, workflow: Workflow | None, items: Sequence[NewAnnotation], targets: Mapping[str, _Target]
    ) -> dict[str, _Look]:
        wanted: dict[str, list[RegionBox | None]] = {}
        for item in items:
            if item.is_region and item.input_id in targets:
                wanted.setdefault(item.input_id, []).append(item.box)
        return await self._look(bucket, workflow, targets, wanted)

    async def _look(
        self,
        bucket: int,
        workflow: Workflow | None,
        targets: Mapping[str, _Target],
        wanted: Mapping[str, Sequence[RegionBox | None]],
    ) -> dict[str, _Look]:
        """Embeds and tags the regions of indexed inputs."""
        names = [
            name
            for name in wanted
            if workflow is not None and targets[name].status == _INDEXED and targets[name].media == "image"
        ]
        async with asyncio.TaskGroup() as group:
            looks = [group.create_task(self._look_once(bucket, targets[name], wanted[name])) for name in names]
        return {name: look.result() for name, look in zip(names, looks, strict=True)}

    async def _look_once(self, bucket: int, target: _Target, boxes: Sequence[RegionBox | None]) -> _Look:
        data, _ = await self._images.load(bucket, url=target.url, blob=target.blob)
        distinct = list(dict.fromkeys(box for box in boxes if box is not None))
        prepared = await self._eye.prepare(
            data, tuple(Box(top=b.top, left=b.left, bottom=b.bottom, right=b.right) for b in distinct)
        )
        found = await self._eye.embed(prepared.pixels)
        return _Look(
            vectors=found,
            concepts=self._eye.tagger.top(found, _TAGS),
            places={None: 0, **{box: i + 1 for i, box in enumerate(distinct)}},
        )

    async def _new_areas(
        self, connection: Connection, bucket: int, regions: Sequence[tuple[int, str, RegionBox | None]]
    ) -> dict[str, Area]:
        """Makes areas for (input number, region id, box); returns them by region id."""
        instants = self._clock.take(len(regions))
        rows = [
            _NewRegion(
                input_number=number,
                created_at=created_at,
                region_id=region_id,
                box_top=box.top if box else None,
                box_left=box.left if box else None,
                box_bottom=box.bottom if box else None,
                box_right=box.right if box else None,
            )
            for (number, region_id, box), created_at in zip(regions, instants, strict=True)
        ]
        cursor = await connection.execute(_INPUTS["insert_regions"], {"bucket": bucket, "rows": to_json(rows)})
        ids: dict[str, int] = dict(await cursor.fetchall())
        return {row.region_id: Area(id=ids[row.region_id], created_at=row.created_at, box=None) for row in rows}

    async def _store_vectors(
        self,
        connection: Connection,
        bucket: int,
        workflow: Workflow,
        regions: Sequence[tuple[int, Area, _Look, RegionBox | None]],
        *,
        labels: bool,
    ) -> None:
        """Writes vectors and predictions of new areas; takes the version, so nothing else may follow."""
        predictions = [
            prediction_row(workflow, number, area.id, instant, look.concepts[look.places[box]])
            for (number, area, look, box), instant in zip(regions, self._clock.take(len(regions)), strict=True)
        ]
        await insert_annotations(connection, bucket, predictions)
        version = await next_version(connection, bucket, labels=labels)
        await vectors.insert(
            connection,
            workflow.table,
            bucket,
            version,
            VectorRows(
                area_ids=np.array([area.id for _, area, _, _ in regions], np.int64),
                input_numbers=np.array([number for number, _, _, _ in regions], np.int64),
                created_us=np.array([microseconds(area.created_at) for _, area, _, _ in regions], np.int64),
                vectors=np.stack([look.vectors[look.places[box]] for _, _, look, box in regions]).astype(np.float16),
            ),
        )

    async def _move(
        self,
        connection: Connection,
        bucket: int,
        workflow: Workflow | None,
        moved: Sequence[ChangedAnnotation],
        targets: Mapping[str, _Target],
        looks: Mapping[str, _Look],
    ) -> dict[int, int]:
        """Makes the areas of changed boxes; returns old area id to new."""
        regions = [(item.input_number, new_id(), item.box) for item in moved]
        areas = await self._new_areas(connection, bucket, regions)
        embedded = [
            (item.input_number, areas[region_id], looks[item.input_id], item.box)
            for item, (_, region_id, _) in zip(moved, regions, strict=True)
            if item.input_id in looks
        ]
        if embedded and workflow is not None:
            await self._store_vectors(connection, bucket, workflow, embedded, labels=True)
        return {item.area_id: areas[name].id for item, (_, name, _) in zip(moved, regions, strict=True)}

    async def _drop_deserted(
        self, connection: Connection, bucket: int, area_ids: Sequence[int], *, labels: bool
    ) -> None:
        version = await next_version(connection, bucket, labels=labels)
        if not area_ids:
            return
        cursor = await connection.execute(_SQL["deserted_regions"], {"bucket": bucket, "area_ids": list(area_ids)})
        deserted = [area_id for (area_id,) in await cursor.fetchall()]
        if deserted:
            await connection.execute(_SQL["remove_areas"], {"bucket": bucket, "area_ids": deserted, "version": version})

    # Adding
    # ------------------------------------------------------------------------------------------------------------

    async def _write(
        self,
        connection: Connection,
        bucket: int,
        workflow: Workflow | None,
        items: Sequence[NewAnnotation],
        targets: Mapping[str, _Target],
        looks: Mapping[str, _Look],
    ) -> list[tuple[str, str] | AppError]:
        await self._lock(connection, bucket, items, targets, looks)
        known = await self._known_regions(connection, bucket, items)
        whole = await self._whole_areas(connection, bucket, targets)
        results: list[tuple[str, str] | AppError] = []
        chosen: list[tuple[int, NewAnnotation, str]] = []
        for place, item in enumerate(items):
            refusal = _refusal(item, targets, known)
            results.append(refusal or (item.input_id, item.id or new_id()))
            if refusal is None:
                chosen.append((place, item, item.region_id or new_id()))
        fresh = {
            region_id: (targets[item.input_id].number, region_id, item.box)
            for _, item, region_id in chosen
            if item.is_region and region_id not in known
        }
        areas = await self._new_areas(connection, bucket, list(fresh.values())) if fresh else {}
        area_ids = {region_id: area.id for region_id, area in areas.items()} | {r: a for r, (a, _) in known.items()}
        concepts = await concept_ids(connection, self._book, bucket, [item.content for _, item, _ in chosen])
        rows = [
            _new_row(
                item,
                results[place][1],  # type: ignore[index]
                targets[item.input_id].number,
                area_ids[region_id] if item.is_region else whole[targets[item.input_id].number],
                ids,
                created_at,
            )
            for (place, item, region_id), ids, created_at in zip(
                chosen, concepts, self._clock.take(len(chosen)), strict=True
            )
        ]
        written = await insert_annotations(connection, bucket, rows)
        if len(written) < len(rows):
            # Taken ids would leave their new regions behind: refuse the batch before anything is committed.
            taken = next(row.id for row in rows if (row.input_number, row.id) not in written)
            raise DuplicateKey(
                f"There is already an annotation {taken!r} on its input; nothing of this call was written."
            )
        embedded = [
            (fresh[region_id][0], areas[region_id], looks[item.input_id], item.box)
            for _, item, region_id in chosen
            if region_id in fresh and item.input_id in looks
        ]
        embedded = list({area.id: (number, area, look, box) for number, area, look, box in embedded}.values())
        if embedded and workflow is not None:
            await self._store_vectors(connection, bucket, workflow, embedded, labels=True)
        elif rows:
            await next_version(connection, bucket, labels=True)
        return results

    async def _lock(
        self,
        connection: Connection,
        bucket: int,
        items: Sequence[NewAnnotation],
        targets: Mapping[str, _Target],
        looks: Mapping[str, _Look],
    ) -> None:
        """Holds the inputs still; raises _Moved when one with a new region was indexed since we looked."""
        cursor = await connection.execute(
            _SQL["lock_inputs"], {"bucket": bucket, "numbers": sorted(target.number for target in targets.values())}
        )
        status: dict[int, int] = dict(await cursor.fetchall())
        for item in items:
            target = targets.get(item.input_id)
            if target is None or not item.is_region:
                continue
            if status.get(target.number) == _INDEXED and target.status in _WAITING and item.input_id not in looks:
                raise _Moved

    @staticmethod
    async def _known_regions(
        connection: Connection, bucket: int, items: Sequence[NewAnnotation]
    ) -> dict[str, tuple[int, int]]:
        """Region id to (area id, input number) of the regions that items name."""
        named = sorted({item.region_id for item in items if item.region_id})
        if not named:
            return {}
        cursor = await connection.execute(_SQL["areas_of_regions"], {"bucket": bucket, "region_ids": named})
        return {region_id: (area_id, number) for region_id, area_id, number in await cursor.fetchall()}

    @staticmethod
    async def _whole_areas(connection: Connection, bucket: int, targets: Mapping[str, _Target]) -> dict[int, int]:
        cursor = await connection.execute(
            _SQL["whole_areas"], {"bucket": bucket, "numbers": [target.number for target in targets.values()]}
        )
        return dict(await cursor.fetchall())


def _refusal(
    item: NewAnnotation, targets: Mapping[str, _Target], known: Mapping[str, tuple[int, int]]
) -> AppError | None:
    target = targets.get(item.input_id)
    if target is None:
        return DoesNotExist(f"There is no input {item.input_id!r} to annotate.")
    if item.region_id in known and known[item.region_id][1] != target.number:
        return AnnotationInvalid(f"Region {item.region_id!r} belongs to another input than {item.input_id!r}.")
    return None


def _new_row(
    item: NewAnnotation, name: str, number: int, area_id: int, ids: Sequence[str], created_at: datetime
) -> AnnotationRow:
    return AnnotationRow(
        input_number=number,
        id=name,
        area_id=area_id,
        created_at=created_at,
        status=item.status,
        trusted=item.status == SUCCESS,
        user_id=item.user_id,
        task_id=item.task_id,
        concept_ids=ids,
        concept_values=[concept.value for concept in item.content.concepts],
        metadata=item.content.metadata,
        latitude=item.content.latitude,
        longitude=item.content.longitude,
        annotation_info=item.annotation_info,
        data=item.content.data,
    )


def _changed_row(item: ChangedAnnotation, ids: Sequence[str], modified_at: datetime) -> dict[str, Any]:
    return {
        "input_number": item.input_number,
        "id": item.id,
        "modified_at": modified_at.isoformat(),
        "status": item.status,
        "trusted": item.status == SUCCESS,
        "concept_ids": list(ids),
        "concept_values": [concept.value for concept in item.content.concepts],
        "metadata": item.content.metadata,
        "latitude": item.content.latitude,
        "longitude": item.content.longitude,
        "annotation_info": item.annotation_info,
        "data": item.content.data,
    }


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
