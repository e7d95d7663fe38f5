"""A server that starts with another version of its model embeds everything anew."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
from tests.eyes import blind_eye

from sightrank.ingest.reindex import requeue_after_upgrade
from sightrank.ingest.workflow import Workflow
from sightrank.store import vectors
from sightrank.store.database import Database
from sightrank.store.vectors import EmbedderTable, VectorRows

_DIMS = 4


async def _fill(database: Database) -> tuple[int, int]:
    """An app of workflow General: two indexed images, a text, a failed one; (bucket, area of the first image)."""
    await database.execute("INSERT INTO users (id) VALUES ('me')")
    row = await database.row("INSERT INTO app_buckets DEFAULT VALUES RETURNING bucket")
    assert row is not None
    bucket = row[0]
    await database.execute(
        "INSERT INTO apps (user_id, id, first_bucket, workflow_id) VALUES ('me', 'app', %s, 'General')", [bucket]
    )
    await database.execute(
        "INSERT INTO inputs (bucket, id, created_at, modified_at, status, media)"
        " SELECT %s, id, now(), now(), status, media"
        " FROM (VALUES ('a', 30000, 'image'), ('b', 30000, 'image'), ('c', 30000, 'text'), ('d', 30002, 'image'))"
        " AS v (id, status, media)",
        [bucket],
    )
    area = await database.row(
        "INSERT INTO areas (bucket, input_number, created_at) SELECT bucket, number, created_at FROM inputs"
        " WHERE id = 'a' RETURNING id"
    )
    assert area is not None
    for version in ("old", "new"):
        await database.execute(
            "INSERT INTO annotations (bucket, input_number, id, area_id, created_at, modified_at, status, trusted,"
            " model_id, model_version_id) SELECT bucket, number, %(version)s, %(area)s, now(), now(), 24150, false,"
            " 'tagger', %(version)s FROM inputs WHERE id = 'a'",
            {"version": version, "area": area[0]},
        )
    return bucket, area[0]


async def _add_app(database: Database, name: str, workflow_id: str, media: str = "image") -> int:
    """An app with one indexed input of its name, and a tag of an old version; its bucket."""
    row = await database.row("INSERT INTO app_buckets DEFAULT VALUES RETURNING bucket")
    assert row is not None
    keys = {"bucket": row[0], "name": name, "workflow_id": workflow_id, "media": media}
    await database.execute(
        "INSERT INTO apps (user_id, id, first_bucket, workflow_id)"
        " VALUES ('me', %(name)s, %(bucket)s, %(workflow_id)s)",
        keys,
    )
    await database.execute(
        "INSERT INTO inputs (bucket, id, created_at, modified_at, status, media)"
        " VALUES (%(bucket)s, %(name)s, now(), now(), 30000, %(media)s)",
        keys,
    )
    await database.execute(
        "INSERT INTO areas (bucket, input_number, created_at) SELECT bucket, number, created_at FROM inputs"
        " WHERE bucket = %(bucket)s",
        keys,
    )
    await database.execute(
        "INSERT INTO annotations (bucket, input_number, id, area_id, created_at, modified_at, status, trusted,"
        " model_id, model_version_id) SELECT bucket, input_number, 'of-' || %(name)s, id, now(), now(), 24150, false,"
        " 'tagger', 'old' FROM areas WHERE bucket = %(bucket)s",
        keys,
    )
    return int(row[0])


async def _embed(database: Database, table: EmbedderTable, bucket: int) -> None:
    """As a worker that has looked at the first input of an app."""
    (area,) = await database.rows(
        "SELECT id, input_number FROM areas WHERE bucket = %s ORDER BY input_number LIMIT 1", [bucket]
    )
    rows = VectorRows(
        area_ids=np.array([area[0]]),
        input_numbers=np.array([area[1]]),
        created_us=np.array([0]),
        vectors=np.ones((1, _DIMS), np.float16),
    )
    async with database.transaction() as connection:
        await vectors.insert(connection, table, bucket, 1, rows)
        await connection.execute("UPDATE inputs SET status = 30000 WHERE number = %s", [area[1]])


async def _statuses(database: Database) -> dict[str, int]:
    return dict(await database.rows("SELECT id, status FROM inputs"))


def test_a_new_model_version_sends_indexed_images_back_to_the_queue_once(database_url: str) -> None:
    async def scenario() -> None:
        database = Database(database_url)
        await database.open()
        try:
            bucket, area_id = await _fill(database)
            table = await vectors.register(database, "general", "new", _DIMS)
            workflow = Workflow(eye=blind_eye(), table=table, tagger_id="tagger", tagger_version_id="new")

            first = await requeue_after_upgrade(database, workflow, "General")

            assert first == 2
            assert await _statuses(database) == {"a": 30001, "b": 30001, "c": 30000, "d": 30002}
            assert await database.rows("SELECT id FROM annotations") == [("new",)]
            assert await database.rows("SELECT version FROM app_buckets") == [(1,)]

            await database.execute("UPDATE inputs SET status = 30000 WHERE id IN ('a', 'b')")
            async with database.transaction() as connection:
                rows = VectorRows(
                    area_ids=np.array([area_id]),
                    input_numbers=np.array([1]),
                    created_us=np.array([0]),
                    vectors=np.ones((1, _DIMS), np.float16),
                )
                await vectors.insert(connection, table, bucket, 1, rows)

            again = await requeue_after_upgrade(database, workflow, "General")

            assert again == 0
            assert await database.rows("SELECT version FROM app_buckets") == [(1,)]
            assert (await _statuses(database))["a"] == 30000
        finally:
            await database.close()

    asyncio.run(scenario())


def test_apps_of_another_workflow_are_left_alone(database_url: str) -> None:
    async def scenario() -> None:
        database = Database(database_url)
        await database.open()
        try:
            await _fill(database)
            table = await vectors.register(database, "other", "1", _DIMS)

            count = await requeue_after_upgrade(
                database, Workflow(eye=blind_eye(), table=table, tagger_id="tagger", tagger_version_id="1"), "Other"
            )

            assert count == 0
            assert (await _statuses(database))["a"] == 30000
        finally:
            await database.close()

    asyncio.run(scenario())


def test_an_app_is_embedded_anew_though_another_has_vectors_in_the_table_they_share(database_url: str) -> None:
    async def scenario() -> None:
        database = Database(database_url)
        await database.open()
        try:
            general, _ = await _fill(database)
            await _add_app(database, "face", "Face")
            table = await vectors.register(database, "general", "new", _DIMS)
            workflow = Workflow(eye=blind_eye(), table=table, tagger_id="tagger", tagger_version_id="new")
            with_faces = replace(workflow, detector_id="faces", detector_version_id="f1")

            of_general = await requeue_after_upgrade(database, workflow, "General")
            after_general = await database.rows("SELECT id FROM annotations ORDER BY id")
            await _embed(database, table, general)
            of_face = await requeue_after_upgrade(database, with_faces, "Face")
            again = await requeue_after_upgrade(database, with_faces, "Face")

            assert (of_general, of_face, again) == (2, 1, 0)
            assert await _statuses(database) == {"a": 30000, "b": 30001, "c": 30000, "d": 30002, "face": 30001}
            assert after_general == [("new",), ("of-face",)]
            assert await database.rows("SELECT id FROM annotations") == [("new",)]
            assert await database.rows("SELECT version FROM app_buckets") == [(1,), (1,)]
        finally:
            await database.close()

    asyncio.run(scenario())


def test_an_app_is_embedded_anew_though_an_input_came_before_the_server_looked(database_url: str) -> None:
    async def scenario() -> None:
        database = Database(database_url)
        await database.open()
        try:
            await database.execute("INSERT INTO users (id) VALUES ('me')")
            bucket = await _add_app(database, "later", "General")
            table = await vectors.register(database, "general", "new", _DIMS)
            workflow = Workflow(eye=blind_eye(), table=table, tagger_id="tagger", tagger_version_id="new")
            await _embed(database, table, bucket)
            await database.execute(
                "INSERT INTO inputs (bucket, id, created_at, modified_at, status, media)"
                " SELECT bucket, 'earlier', created_at - interval '1 day', now(), 30000, 'image' FROM inputs"
            )

            assert await requeue_after_upgrade(database, workflow, "General") == 1
            assert await _statuses(database) == {"later": 30000, "earlier": 30001}
        finally:
            await database.close()

    asyncio.run(scenario())


def test_an_app_of_texts_has_no_vectors_and_waits_for_none(database_url: str) -> None:
    async def scenario() -> None:
        database = Database(database_url)
        await database.open()
        try:
            await database.execute("INSERT INTO users (id) VALUES ('me')")
            await _add_app(database, "text", "General", media="text")
            table = await vectors.register(database, "general", "new", _DIMS)
            workflow = Workflow(eye=blind_eye(), table=table, tagger_id="tagger", tagger_version_id="new")

            assert await requeue_after_upgrade(database, workflow, "General") == 0
            assert await _statuses(database) == {"text": 30000}
            assert await database.rows("SELECT id FROM annotations") == [("of-text",)]
            assert await database.rows("SELECT version FROM app_buckets") == [(0,)]
        finally:
            await database.close()

    asyncio.run(scenario())
