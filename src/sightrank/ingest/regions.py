"""Regions of inputs: looking at them, and writing their areas, vectors and predictions."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from sightrank.errors import WorkflowNeedsModel
from sightrank.ingest.areas import Area
from sightrank.ingest.media import ImageSource
from sightrank.ingest.rows import box_info, insert_annotations, to_json
from sightrank.ingest.workflow import Workflow, prediction_row
from sightrank.store import queries, vectors
from sightrank.store.blobs import BlobMissingError
from sightrank.store.buckets import next_version
from sightrank.store.clock import Clock, microseconds
from sightrank.store.database import Connection, Database, TryAgain
from sightrank.store.status import INPUT_INDEXED, INPUT_WAITING
from sightrank.store.vectors import VectorRows
from sightrank.vision.box import Box
from sightrank.vision.eye import Eye
from sightrank.vision.tagger import DEFAULT_CONCEPTS
from sightrank.vision.threads import Lane

_SQL = queries.load("annotations")
_INPUTS = queries.load("inputs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An input that is annotated, as it was when we looked."""

    number: int
    status: int
    media: str
    url: str
    blob: str

    @property
    def is_indexed_image(self) -> bool:
        return self.status == INPUT_INDEXED and self.media == "image"

    def check_can_have_regions(self, workflow_id: str, lacks: str) -> None:
        """Raises WorkflowNeedsModel where a new region would be left without a vector because the app's workflow cannot
        run here: ``lacks`` says why, '' where it can. An input that waits gets its vectors when it can again.
        """
        if lacks and self.is_indexed_image:
            raise WorkflowNeedsModel(
                f"Workflow {workflow_id} cannot run: {lacks} Until then the app gets no new regions; label whole inputs"
                " and the regions that are there."
            )

    def check_still(self, status: int) -> None:
        """Raises TryAgain when the input was indexed since: a new region would be left without a vector."""
        if status == INPUT_INDEXED and self.status in INPUT_WAITING:
            raise TryAgain


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Look:
    """Vectors and concepts of regions of one input: box to its place in the arrays, 0 is the whole picture."""

    vectors: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
    concepts: Sequence[Sequence[tuple[str, float]]]
    places: Mapping[Box | None, int]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a region is; ``area_id`` None: it is made in this call. ``region_info`` is its geometry in proto JSON where
    an annotation said it."""

    input_number: int
    box: Box | None
    area_id: int | None = None
    region_info: Mapping[str, Any] | None = None

    def info(self) -> Mapping[str, Any] | None:
        """The geometry for an annotation that names the region only; None for one without extent."""
        if self.region_info is not None or self.box is None:
            return self.region_info
        return box_info(self.box)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRegion:
    """A region to be made; ``box`` None has no extent of its own and stands for the whole picture."""

    input_number: int
    region_id: str
    box: Box | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Seen:
    """A new region and what was seen in it."""

    input_number: int
    area: Area
    box: Box | None
    look: Look


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    input_number: int
    created_at: datetime
    region_id: str
    box_top: float | None
    box_left: float | None
    box_bottom: float | None
    box_right: float | None


class Regions:
    """Looks at regions outside of transactions; writes inside the caller's."""

    def __init__(self, database: Database, images: ImageSource, clock: Clock, *, decoders: int) -> None:
        self._database = database
        self._images = images
        self._clock = clock
        # Whole files wait for a decoder: no more than the decoders will take up at once, and one each to follow.
        self._looks = asyncio.Semaphore(2 * decoders)

    async def targets(self, bucket: int, input_ids: set[str]) -> dict[str, Target]:
        """Input id to what is to be annotated; unknown ids are left out."""
        if not input_ids:
            return {}
        rows = await self._database.rows(_SQL["inputs_to_annotate"], {"bucket": bucket, "ids": sorted(input_ids)})
        return {
            name: Target(number=number, status=status, media=media, url=url, blob=blob)
            for name, number, status, media, url, blob in rows
        }

    async def look(
        self,
        bucket: int,
        workflow: Workflow | None,
        targets: Mapping[str, Target],
        wanted: Mapping[str, Sequence[Box | None]],
    ) -> dict[str, Look]:
        """Embeds and tags these boxes of those inputs that are indexed; the worker does the others.

        Nothing is looked at where the workflow embeds nothing.
        """
        if workflow is None:
            return {}
        names = [name for name in wanted if name in targets and targets[name].is_indexed_image]
        looks = await asyncio.gather(
            *(self._look(bucket, workflow.eye, name, targets[name], wanted[name]) for name in names)
        )
        return dict(zip(names, looks, strict=True))

    async def _look(self, bucket: int, eye: Eye, name: str, target: Target, boxes: Sequence[Box | None]) -> Look:
        distinct = list(dict.fromkeys(box for box in boxes if box is not None))
        async with self._looks:
            data = await self._load(bucket, name, target)
            prepared = await eye.prepare(data, distinct, Lane.INTERACTIVE, detect=False)
        found = await eye.embed(prepared.pixels, Lane.INTERACTIVE)
        return Look(
            vectors=found,
            concepts=eye.top(found, DEFAULT_CONCEPTS),
            places={None: 0, **{box: i + 1 for i, box in enumerate(distinct)}},
        )

    async def _load(self, bucket: int, name: str, target: Target) -> bytes:
        """Raises TryAgain when the input was deleted since we found it, and its file with it."""
        try:
            return await self._images.load(bucket, url=target.url, blob=target.blob)
        except BlobMissingError:
            still = (await self.targets(bucket, {name})).get(name)
            if still is None or still.number != target.number:
                raise TryAgain from None
            raise

    async def make(self, connection: Connection, bucket: int, regions: Sequence[NewRegion]) -> dict[str, Area]:
        """Makes the areas of new regions; returns them by region id."""
        if not regions:
            return {}
        rows = [
            _Row(
                input_number=region.input_number,
                created_at=created_at,
                region_id=region.region_id,
                box_top=region.box.top if region.box else None,
                box_left=region.box.left if region.box else None,
                box_bottom=region.box.bottom if region.box else None,
                box_right=region.box.right if region.box else None,
            )
            for region, created_at in zip(regions, self._clock.take(len(regions)), strict=True)
        ]
        cursor = await connection.execute(_INPUTS["insert_regions"], {"bucket": bucket, "rows": to_json(rows)})
        ids: dict[str, int] = dict(await cursor.fetchall())
        return {
            row.region_id: Area(
                id=ids[row.region_id], created_at=row.created_at, box=region.box, region_id=row.region_id
            )
            for row, region in zip(rows, regions, strict=True)
        }

    async def finish(self, connection: Connection, bucket: int, workflow: Workflow | None, seen: Sequence[Seen]) -> int:
        """Writes what was seen in new regions; last comes the bucket's version, which it returns."""
        if seen and workflow is not None:
            await self._predict(connection, bucket, workflow, seen)
        version = await next_version(connection, bucket, labels=True)
        if seen and workflow is not None:
            await self._store_vectors(connection, bucket, workflow, version, seen)
        return version

    async def _predict(self, connection: Connection, bucket: int, workflow: Workflow, seen: Sequence[Seen]) -> None:
        """Writes what the tagger says about new regions."""
        if not workflow.tagger_id:
            return
        rows = [
            prediction_row(workflow, one.input_number, one.area, instant, one.look.concepts[one.look.places[one.box]])
            for one, instant in zip(seen, self._clock.take(len(seen)), strict=True)
        ]
        await insert_annotations(connection, bucket, rows)

    async def _store_vectors(
        self, connection: Connection, bucket: int, workflow: Workflow, version: int, seen: Sequence[Seen]
    ) -> None:
        """Writes the vectors of new regions, stamped with the version the caller has just taken."""
        rows = VectorRows(
            area_ids=np.array([one.area.id for one in seen], np.int64),
            input_numbers=np.array([one.input_number for one in seen], np.int64),
            created_us=np.array([microseconds(one.area.created_at) for one in seen], np.int64),
            vectors=np.stack([one.look.vectors[one.look.places[one.box]] for one in seen]).astype(np.float16),
        )
        await vectors.insert(connection, workflow.table, bucket, version, rows)


def boxes_by_input(pairs: Iterable[tuple[str, Box | None]]) -> dict[str, list[Box | None]]:
    """The boxes to look at in each input, from (input id, box)."""
    boxes: dict[str, list[Box | None]] = {}
    for input_id, box in pairs:
        boxes.setdefault(input_id, []).append(box)
    return boxes


async def known_regions(connection: Connection, bucket: int, region_ids: set[str]) -> dict[str, Place]:
    """Where those of these regions are that exist."""
    named = sorted(region_ids - {""})
    if not named:
        return {}
    cursor = await connection.execute(_SQL["areas_of_regions"], {"bucket": bucket, "region_ids": named})
    return {
        region_id: Place(
            number, None if top is None else Box(top=top, left=left, bottom=bottom, right=right), area_id, region_info
        )
        for region_id, area_id, number, top, left, bottom, right, region_info in await cursor.fetchall()
    }
