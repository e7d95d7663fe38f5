"""Changing and deleting annotations. What a person's annotation said before is kept as history in the same transaction.

Every writer locks the inputs first, in the order of their numbers, and takes the bucket's version last.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sightrank.errors import AppError
from sightrank.ingest.base_workflow import has_workflow, workflow_of
from sightrank.ingest.dataset_freeze import between_versions
from sightrank.ingest.history import Ending, after, remember
from sightrank.ingest.regions import Look, NewRegion, Regions, Seen, Target, boxes_by_input
from sightrank.ingest.rows import Content, concept_ids, distinct_concepts, forget_removals, new_id
from sightrank.ingest.workflow import Workflow
from sightrank.search.concepts import ConceptBook
from sightrank.store import queries
from sightrank.store.buckets import next_version
from sightrank.store.clock import Clock
from sightrank.store.database import Connection, Database, TryAgain, retrying
from sightrank.store.status import ANNOTATION_SUCCESS
from sightrank.vision.box import Box

_SQL = queries.load("annotations")
_INPUTS = queries.load("inputs")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedAnnotation:
    """What an annotation says after a patch. ``moves``: it is about another region now, with this ``box``; ``vanishes``
    says that nothing of it is left and it goes.

    ``read_at`` is the ``modified_at`` of the version that was patched.
    """

    input_number: int
    id: str
    area_id: int
    content: Content
    status: int
    annotation_info: Mapping[str, Any] | None
    input_id: str
    read_at: datetime
    input_level: bool = False
    moves: bool = False
    box: Box | None = None
    vanishes: bool = False


#: An annotation, by (input id, id).
Key = tuple[str, str]
#: Reads annotations on the connection given, which holds their inputs still, and says what is to become of them. It may
#: be asked more than once.
Patch = Callable[[Connection], Awaitable[Sequence[ChangedAnnotation]]]


class Revision:
    """Rewrites annotations of one database."""

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

    async def change(self, bucket: int, input_ids: Sequence[str], patch: Patch) -> Mapping[Key, AppError]:
        """Writes what ``patch`` makes of annotations of these inputs, which nobody else changes in between.

        A region with another box becomes another area with a vector of its own. Looking at it takes long, so that
        happens with nothing locked, and ``patch`` is asked again afterwards; so it is when a deadlock was lost.

        Returns what was refused and stays as it is: regions that would move while the workflow cannot run here.
        """
        wanted: dict[str, list[Box | None]] = {}

        async def changed() -> Mapping[Key, AppError]:
            workflow_id = await workflow_of(self._database, bucket)
            workflow = self._workflows.get(workflow_id)
            targets = await self._regions.targets(bucket, set(wanted))
            looks = await self._regions.look(bucket, workflow, targets, wanted)
            async with self._database.transaction() as connection:
                status = await self._lock(connection, bucket, input_ids)
                items = await patch(connection)
                _check_held(status, (item.input_number for item in items))
                places = boxes_by_input((item.input_id, item.box) for item in items if item.moves)
                if any(name not in targets or not set(boxes) <= set(wanted[name]) for name, boxes in places.items()):
                    wanted.update(places)
                    raise TryAgain
                _check_held(status, (target.number for target in targets.values()))
                for target in targets.values():
                    target.check_still(status[target.number])
                refused = _refused(items, targets, workflow_id, self._lacks(workflow_id))
                items = [item for item in items if (item.input_id, item.id) not in refused]
                if items:
                    await self._change(connection, bucket, workflow, items, looks)
                if not await has_workflow(connection, bucket, workflow_id):
                    raise TryAgain
                return refused

        return await retrying(changed, busy="Others keep changing these inputs; try again in a moment.")

    async def delete(self, bucket: int, input_ids: Sequence[str], pairs: Sequence[tuple[str, str]] | None) -> int:
        """Deletes the annotations named by ``pairs`` of (input id, id), or all people's annotations of the inputs;
        never an input-level one. A region that nobody speaks of any more goes too. Returns how many went."""
        named = {"bucket": bucket, "input_ids": list(input_ids)}
        pairs_json = _json([list(pair) for pair in pairs]) if pairs is not None else None

        async def deleted() -> int:
            async with self._database.transaction() as connection:
                status = await self._lock(connection, bucket, input_ids)
                cursor = await connection.execute(_SQL["to_delete"], {**named, "pairs": pairs_json})
                gone = await cursor.fetchall()
                if not gone:
                    return 0
                _check_held(status, (number for number, _, _, _ in gone))
                (instant,) = self._clock.take(1, after=await between_versions(connection, bucket))
                endings = [Ending(number, name, after(instant, began)) for number, name, _, began in gone]
                await remember(connection, bucket, endings)
                await _delete(connection, bucket, [(number, name) for number, name, _, _ in gone])
                version = await next_version(connection, bucket, labels=True)
                await self._drop_deserted(connection, bucket, version, [area_id for _, _, area_id, _ in gone])
            return len(gone)

        return await retrying(deleted, busy="These annotations are being written to; try again in a moment.")

    async def _lock(self, connection: Connection, bucket: int, input_ids: Sequence[str]) -> dict[int, int]:
        """Holds these inputs still; returns number to status of those that are there."""
        cursor = await connection.execute(_SQL["lock_inputs_by_id"], {"bucket": bucket, "input_ids": list(input_ids)})
        return dict(await cursor.fetchall())

    async def _change(
        self,
        connection: Connection,
        bucket: int,
        workflow: Workflow | None,
        items: Sequence[ChangedAnnotation],
        looks: Mapping[str, Look],
    ) -> None:
        now = self._clock.take(len(items), after=await between_versions(connection, bucket))
        clock = zip(items, now, strict=True)
        instants = {(item.input_number, item.id): after(instant, item.read_at) for item, instant in clock}
        await remember(connection, bucket, [Ending(*key, instant) for key, instant in instants.items()])
        vanished = [item for item in items if item.vanishes]
        await _delete(connection, bucket, [(item.input_number, item.id) for item in vanished])
        kept = [item for item in items if not item.vanishes]
        moved = {new_id(): item for item in kept if item.moves}
        places = [NewRegion(input_number=one.input_number, region_id=name, box=one.box) for name, one in moved.items()]
        areas = await self._regions.make(connection, bucket, places)
        moved_to = {(item.input_number, item.id): areas[name].id for name, item in moved.items()}
        await self._write(connection, bucket, kept, instants, moved_to)
        seen = [
            Seen(input_number=item.input_number, area=areas[name], box=item.box, look=looks[item.input_id])
            for name, item in moved.items()
            if item.input_id in looks
        ]
        version = await self._regions.finish(connection, bucket, workflow, seen)
        left = [item.area_id for item in (*moved.values(), *vanished)]
        await self._drop_deserted(connection, bucket, version, left)

    async def _write(
        self,
        connection: Connection,
        bucket: int,
        items: Sequence[ChangedAnnotation],
        instants: Mapping[tuple[int, str], datetime],
        moved_to: Mapping[tuple[int, str], int],
    ) -> None:
        if not items:
            return
        keys = _keys(bucket, items)
        concepts = await concept_ids(connection, self._book, bucket, [item.content for item in items])
        rows = [
            _row(item, moved_to.get(key, item.area_id), ids, instants[key])
            for item, ids in zip(items, concepts, strict=True)
            for key in [(item.input_number, item.id)]
        ]
        await connection.execute(_INPUTS["delete_labels"], keys)
        await connection.execute(_SQL["update"], {"bucket": bucket, "rows": _json(rows)})
        await connection.execute(_INPUTS["derive_labels"], keys)
        mirrored = [item.input_number for item in items if item.input_level]
        if mirrored:
            await connection.execute(_INPUTS["touch"], {"bucket": bucket, "numbers": mirrored})

    async def _drop_deserted(self, connection: Connection, bucket: int, version: int, area_ids: Sequence[int]) -> None:
        """Removes those of these regions that no annotation of a person speaks of any more."""
        if not area_ids:
            return
        cursor = await connection.execute(_SQL["deserted_regions"], {"bucket": bucket, "area_ids": list(area_ids)})
        deserted = [area_id for (area_id,) in await cursor.fetchall()]
        if deserted:
            await connection.execute(_SQL["remove_areas"], {"bucket": bucket, "area_ids": deserted, "version": version})
            await forget_removals(connection, bucket, version)


def _refused(
    items: Iterable[ChangedAnnotation], targets: Mapping[str, Target], workflow_id: str, lacks: str
) -> dict[Key, AppError]:
    refused: dict[Key, AppError] = {}
    for item in items:
        try:
            if item.moves:
                targets[item.input_id].check_can_have_regions(workflow_id, lacks)
        except AppError as refusal:
            refused[item.input_id, item.id] = refusal
    return refused


def _check_held(status: Mapping[int, int], numbers: Iterable[int]) -> None:
    """Raises TryAgain for an input that is not among those locked: one of the same id that came while we waited."""
    if any(number not in status for number in numbers):
        raise TryAgain


async def _delete(connection: Connection, bucket: int, keys: Sequence[tuple[int, str]]) -> None:
    if keys:
        named = {"numbers": [number for number, _ in keys], "ids": [name for _, name in keys]}
        await connection.execute(_SQL["delete"], {"bucket": bucket, **named})


def _keys(bucket: int, items: Sequence[ChangedAnnotation]) -> dict[str, Any]:
    numbers, ids = [item.input_number for item in items], [item.id for item in items]
    return {"bucket": bucket, "ids": ids, "numbers": numbers}


def _row(item: ChangedAnnotation, area_id: int, ids: Sequence[str], modified_at: datetime) -> dict[str, Any]:
    distinct_ids, values = distinct_concepts(item.content, ids)
    return {
        "input_number": item.input_number,
        "id": item.id,
        "area_id": area_id,
        "modified_at": modified_at.isoformat(),
        "status": item.status,
        "trusted": item.status == ANNOTATION_SUCCESS,
        "concept_ids": distinct_ids,
        "concept_values": values,
        "metadata": item.content.metadata,
        "latitude": item.content.latitude,
        "longitude": item.content.longitude,
        "annotation_info": item.annotation_info,
        "data": item.content.data,
    }


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
