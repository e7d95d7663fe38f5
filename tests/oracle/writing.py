"""Apps into a real database, by the statements of ingest."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from tests.oracle.apps import CHOSEN_IDS, DATASETS
from tests.oracle.contents import BOX
from tests.oracle.records import Annotation, App, Area, Input, Version

from sightrank.api.annotation_data import content_of
from sightrank.ingest.areas import NewFrame, make_frames
from sightrank.ingest.rows import AnnotationRow, Content, insert_annotations
from sightrank.store import queries, vectors
from sightrank.store.buckets import next_version
from sightrank.store.database import Connection, Database
from sightrank.store.vectors import EmbedderTable, VectorRows
from sightrank.vision.video import FrameTime

_INPUTS = queries.load("inputs")
_PAST_COLUMNS = (
    "bucket, input_number, id, area_id, created_at, modified_at, until, status, input_level, trusted, user_id,"
    " model_id, model_version_id, task_id, concept_ids, concept_values, metadata, latitude, longitude,"
    " annotation_info, data, region_id, box_top, box_left, box_bottom, box_right"
)


def instant(microseconds: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=microseconds)


async def write_app(database: Database, table: EmbedderTable, app: App, *, parts: int = 3) -> None:
    """Writes an app in a few transactions; gives it its bucket and its inputs and areas their ids."""
    async with database.transaction() as connection:
        cursor = await connection.execute("INSERT INTO app_buckets DEFAULT VALUES RETURNING bucket")
        row = await cursor.fetchone()
        assert row is not None
        app.bucket = row[0]
        await _write_concepts(connection, app)
        for dataset in DATASETS:
            await connection.execute("INSERT INTO datasets (bucket, id) VALUES (%s, %s)", [app.bucket, dataset])
    late = {id(item.areas[-1]) for i, item in enumerate(app.inputs) if i % 5 == 0 and len(item.areas) > 1}
    for part in range(parts):
        chosen = app.inputs[part::parts]
        async with database.transaction() as connection:
            await _write_inputs(connection, app, chosen)
            await _write_content(connection, app, table, [(i, a) for i in chosen for a in i.areas if id(a) not in late])
    # Regions that come later stand at the end of the matrix, far from the other areas of their inputs.
    last = [(i, a) for i in app.inputs for a in (*i.areas, *_gone(i)) if id(a) in late or a.is_gone]
    async with database.transaction() as connection:
        await _write_content(connection, app, table, last)
    async with database.transaction() as connection:
        await _write_history(connection, app)


async def _write_concepts(connection: Connection, app: App) -> None:
    for concept_id, (name, others) in app.own.items():
        await connection.execute(
            "INSERT INTO concepts (bucket, id, name, name_folded) VALUES (%s, %s, %s, lower(%s))",
            [app.bucket, concept_id, name, name],
        )
        for language, text in others.items():
            await connection.execute(
                "INSERT INTO concept_languages (bucket, concept_id, language, name, name_folded)"
                " VALUES (%s, %s, %s, %s, lower(%s))",
                [app.bucket, concept_id, language, text, text],
            )


async def _write_inputs(connection: Connection, app: App, fresh: Sequence[Input]) -> None:
    rows = [
        {
            "id": item.id,
            "created_at": instant(item.created_us).isoformat(),
            "status": item.status,
            "media": item.media,
            "url": item.url,
            "unique_url": False,
            "blob": "",
            "text_raw": "",
        }
        for item in fresh
    ]
    numbers = dict(await _pairs(connection, "insert", app, rows=json.dumps(rows)))
    for item in fresh:
        item.number = numbers[item.id]
    whole = dict(await _pairs(connection, "insert_whole_areas", app, numbers=list(numbers.values())))
    for item in fresh:
        item.areas[0].id = whole[item.number]
    members = [
        {"dataset_id": dataset, "input_number": item.number, "created_at": instant(item.created_us).isoformat()}
        for item in fresh
        for dataset in item.datasets
    ]
    await connection.execute(_INPUTS["insert_dataset_inputs"], {"bucket": app.bucket, "rows": json.dumps(members)})


async def _write_content(
    connection: Connection, app: App, table: EmbedderTable, areas: Sequence[tuple[Input, Area]]
) -> None:
    """Regions, frames, the annotations that stand on these areas now with their labels, vectors, under one version."""
    await _insert_regions(connection, app, [(item, area) for item, area in areas if area.is_region])
    await _insert_frames(connection, app, [(item, area) for item, area in areas if area.frame is not None])
    known = {id(area) for _, area in areas}
    current = [
        (item, annotation, annotation.versions[-1])
        for item in {id(item): item for item, _ in areas}.values()
        for annotation in item.annotations
        if annotation.versions[-1].until_us is None and id(annotation.versions[-1].area) in known
    ]
    for chosen_id in (*CHOSEN_IDS, None):
        rows = [_row(*one) for one in current if chosen_id in {one[1].id, None}]
        await insert_annotations(
            connection, app.bucket, [row for row in rows if (row.id in CHOSEN_IDS) == bool(chosen_id)]
        )
    for item, annotation, version in current:
        if version.modified_us != annotation.created_us:
            for name, key in (("labels", "annotation_id"), ("annotations", "id")):
                await connection.execute(
                    f"UPDATE {name} SET modified_at = %s WHERE bucket = %s AND input_number = %s AND {key} = %s",
                    [instant(version.modified_us), app.bucket, item.number, annotation.id],
                )
    stamp = await next_version(connection, app.bucket, labels=True)
    embedded = [(item, area) for item, area in areas if area.vector is not None]
    if embedded:
        await vectors.insert(connection, table, app.bucket, stamp, _vector_rows(embedded))
    gone = [area.id for _, area in areas if area.is_gone]
    await connection.execute("DELETE FROM areas WHERE bucket = %s AND id = ANY(%s)", [app.bucket, gone])


async def _insert_regions(connection: Connection, app: App, regions: Sequence[tuple[Input, Area]]) -> None:
    names = (uuid.UUID(int=place + app.bucket * 2**64).hex for place in range(_regions_of(app), 2**31))
    named = dict(zip(names, regions, strict=False))
    sides = ("box_top", "box_left", "box_bottom", "box_right")
    rows = [
        {
            "input_number": item.number,
            "created_at": instant(area.created_us).isoformat(),
            "region_id": name,
            **dict(zip(sides, BOX if area.has_box else [None] * 4, strict=True)),
        }
        for name, (item, area) in named.items()
    ]
    ids = dict(await _pairs(connection, "insert_regions", app, rows=json.dumps(rows)))
    for name, (_, area) in named.items():
        area.id, area.region_id = ids[name], name


def _regions_of(app: App) -> int:
    """How many regions were written so far, so that the next ones get other names."""
    return sum(1 for item in app.inputs for area in (*item.areas, *_gone(item)) if area.is_region and area.id)


async def _insert_frames(connection: Connection, app: App, frames: Sequence[tuple[Input, Area]]) -> None:
    rows = [
        NewFrame.of(
            item.number,
            FrameTime(
                index=area.frame or 0, time_ms=1000 * (area.frame or 0) + 500, number=25 * (area.frame or 0) + 12
            ),
            instant(area.created_us),
        )
        for item, area in frames
    ]
    made = await make_frames(connection, app.bucket, rows)
    ids = {(number, one.frame.index): one.id for number, areas in made.items() for one in areas if one.frame}
    for item, area in frames:
        area.id = ids[item.number, area.frame or 0]


def _gone(item: Input) -> list[Area]:
    areas = {id(version.area): version.area for annotation in item.annotations for version in annotation.versions}
    return [area for area in areas.values() if area.is_gone]


def _vector_rows(embedded: Sequence[tuple[Input, Area]]) -> VectorRows:
    return VectorRows(
        area_ids=np.array([area.id for _, area in embedded], np.int64),
        input_numbers=np.array([item.number for item, _ in embedded], np.int64),
        created_us=np.array([area.created_us for _, area in embedded], np.int64),
        vectors=np.stack([area.vector for _, area in embedded if area.vector is not None]).astype(np.float16),
    )


def _content(version: Version) -> Content:
    return content_of(version.data, "data")


def _row(item: Input, annotation: Annotation, version: Version) -> AnnotationRow:
    content = _content(version)
    return AnnotationRow(
        input_number=item.number,
        id=annotation.id,
        area_id=version.area.id,
        created_at=instant(annotation.created_us),
        status=version.status,
        trusted=version.trusted,
        input_level=annotation.input_level,
        user_id=annotation.user_id,
        model_id=annotation.model_id,
        model_version_id=annotation.model_version_id,
        own_model=annotation.own_model,
        task_id=annotation.task_id,
        concept_ids=[concept.id for concept in content.concepts],
        concept_values=[concept.value for concept in content.concepts],
        metadata=content.metadata,
        latitude=content.latitude,
        longitude=content.longitude,
        annotation_info=version.info,
        data=content.data,
    )


async def _write_history(connection: Connection, app: App) -> None:
    """Superseded versions. Not by patching: patches take their time from the clock, these have moments of their own."""
    rows = [list(_past_row(app, *one)) for one in app.versions() if one[2].until_us is not None]
    marks = ", ".join(["%s"] * (_PAST_COLUMNS.count(",") + 1))
    async with connection.cursor() as cursor:
        await cursor.executemany(f"INSERT INTO past_annotations ({_PAST_COLUMNS}) VALUES ({marks})", rows)
    await next_version(connection, app.bucket, labels=True)


def _past_row(app: App, item: Input, annotation: Annotation, version: Version) -> Iterable[Any]:
    assert version.until_us is not None
    row = _row(item, annotation, version)
    yield from (app.bucket, row.input_number, row.id, row.area_id, row.created_at, instant(version.modified_us))
    yield from (instant(version.until_us), row.status, row.input_level, row.trusted, row.user_id, row.model_id)
    yield from (row.model_version_id, row.task_id, list(row.concept_ids), list(row.concept_values))
    yield from (_json(row.metadata), row.latitude, row.longitude, _json(row.annotation_info), _json(row.data))
    yield version.area.region_id or None
    yield from BOX if version.area.has_box else [None] * 4


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value)


async def _pairs(connection: Connection, statement: str, app: App, **parameters: object) -> list[tuple[Any, Any]]:
    cursor = await connection.execute(_INPUTS[statement], {"bucket": app.bucket, **parameters})
    return [(row[0], row[1]) for row in await cursor.fetchall()]
