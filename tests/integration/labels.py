"""An app of inputs with vectors and labels, without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
from tests.integration.searching import Photo, Process, process, random_unit

from sightrank.ingest.rows import AnnotationRow, insert_annotations, new_id
from sightrank.store import vectors
from sightrank.store.buckets import next_version
from sightrank.store.vectors import VectorRows


def with_app(url: str, scenario: Callable[[Process, int], Awaitable[Any]]) -> Any:
    async def opened() -> Any:
        async with process(url) as place:
            await place.database.execute("INSERT INTO users (id) VALUES ('me')")
            bucket = await place.new_app("General")
            await place.database.execute(
                "INSERT INTO concepts (bucket, id, name, name_folded)"
                " SELECT %s, id, id, id FROM unnest('{cat,dog,bird,other}'::text[]) AS id",
                [bucket],
            )
            return await scenario(place, bucket)

    return asyncio.run(opened())


async def say(place: Process, bucket: int, photo: Photo, values: Mapping[str, float], *, trusted: bool = True) -> None:
    row = AnnotationRow(
        input_number=photo.number,
        id=new_id(),
        area_id=photo.area_id,
        created_at=datetime.now(UTC),
        status=24150,
        trusted=trusted,
        concept_ids=list(values),
        concept_values=list(values.values()),
    )
    async with place.database.transaction() as connection:
        await insert_annotations(connection, bucket, [row])
        await next_version(connection, bucket, labels=True)


async def frame_of(place: Process, bucket: int, whole: Photo, seed: int) -> Photo:
    """A frame of a video, with a vector of its own."""
    row = await place.database.row(
        "INSERT INTO areas (bucket, input_number, created_at, frame_index, frame_time_ms, frame_number)"
        " VALUES (%s, %s, clock_timestamp(), %s, 500, 12) RETURNING id",
        [bucket, whole.number, seed],
    )
    assert row is not None
    return await _with_vector(place, bucket, whole, row[0], seed)


async def region_of(place: Process, bucket: int, whole: Photo, seed: int) -> Photo:
    """A region of an image, with a vector of its own."""
    row = await place.database.row(
        "INSERT INTO areas (bucket, input_number, created_at, region_id, box_top, box_left, box_bottom, box_right)"
        " VALUES (%s, %s, clock_timestamp(), %s, 0, 0, 0.5, 0.5) RETURNING id",
        [bucket, whole.number, new_id()],
    )
    assert row is not None
    return await _with_vector(place, bucket, whole, row[0], seed)


async def _with_vector(place: Process, bucket: int, whole: Photo, area_id: int, seed: int) -> Photo:
    part = Photo(new_id(), whole.number, area_id, random_unit(seed).astype(np.float16))
    async with place.database.transaction() as connection:
        version = await next_version(connection, bucket, labels=False)
        rows = VectorRows(
            area_ids=np.array([part.area_id]),
            input_numbers=np.array([part.number]),
            created_us=np.array([part.number]),
            vectors=part.vector[None],
        )
        await vectors.insert(connection, place.table, bucket, version, rows)
    return part
