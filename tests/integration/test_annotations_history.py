"""What people's annotations said before is kept, each version until the next, for searches as of a time."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import psycopg
import pytest
from clarifai_grpc.grpc.api.resources_pb2 import Annotation, Concept, Data, Input
from clarifai_grpc.grpc.api.status.status_pb2 import Status
from tests.integration.serving import App, of_bytes, picture
from tests.integration.test_annotations_change import input_level, struct
from tests.integration.test_annotations_post import LEFT, RIGHT, boxed, has, on

from sightrank.ingest.history import History
from sightrank.store.database import Database

TICK = timedelta(microseconds=1)
_BUCKET = "(SELECT first_bucket FROM apps WHERE id = %s)"


@dataclass(frozen=True)
class Version:
    began: datetime
    ended: datetime | None
    concepts: list[str]
    status: int
    left: float | None
    region_id: str | None


def versions(app: App, annotation_id: str, input_id: str = "a") -> list[Version]:
    """All versions of an annotation, oldest first; the present one has no end."""
    rows = app.server.sql(
        "SELECT p.modified_at, p.until, p.concept_ids, p.status, p.box_left, p.region_id"
        " FROM past_annotations p JOIN inputs i ON i.bucket = p.bucket AND i.number = p.input_number"
        f" WHERE p.bucket = {_BUCKET} AND i.id = %s AND p.id = %s"
        " UNION ALL"
        " SELECT a.modified_at, NULL, a.concept_ids, a.status, r.box_left, r.region_id"
        " FROM annotations a JOIN inputs i ON i.bucket = a.bucket AND i.number = a.input_number"
        " JOIN areas r ON r.bucket = a.bucket AND r.id = a.area_id"
        f" WHERE a.bucket = {_BUCKET} AND i.id = %s AND a.id = %s"
        " ORDER BY 1",
        *(app.id, input_id, annotation_id) * 2,
    )
    return [Version(*row) for row in rows]


def past_count(app: App) -> int:
    return int(app.server.sql(f"SELECT count(*) FROM past_annotations WHERE bucket = {_BUCKET}", app.id)[0][0])


def assert_seamless(chain: list[Version]) -> None:
    """No overlap, no hole, no empty version."""
    assert all(one.ended == two.began for one, two in pairwise(chain))
    assert all(one.ended is None or one.ended > one.began for one in chain)


def put_ahead(app: App, annotation_id: str) -> datetime:
    """As if a process whose clock is an hour ahead had written it."""
    rows = app.server.sql(
        "UPDATE annotations SET modified_at = modified_at + interval '1 hour'"
        f" WHERE bucket = {_BUCKET} AND id = %s RETURNING modified_at",
        app.id,
        annotation_id,
    )
    ahead: datetime = rows[0][0]
    return ahead


# Changes ------------------------------------------------------------------------------------------------------------


def test_every_change_ends_one_version_and_begins_another(app: App) -> None:
    app.post(of_bytes(picture(1), "a"))
    app.annotate(on("a", Data(concepts=[has("x")]), "one"))
    assert past_count(app) == 0

    app.patch("merge", on("a", Data(concepts=[has("y")]), "one"))
    app.patch("merge", Annotation(input_id="a", id="one", status=Status(code=24151)))
    (made,) = app.patch("overwrite", on("a", Data(concepts=[has("z")]), "one"))

    chain = versions(app, "one")
    assert_seamless(chain)
    assert [(one.concepts, one.status) for one in chain] == [
        (["x"], 24150),
        (["x", "y"], 24150),
        (["x", "y"], 24151),
        (["z"], 24151),
    ]
    assert chain[-1].ended is None
    assert made.modified_at.ToDatetime(tzinfo=UTC) == chain[-1].began
    assert made.created_at.ToDatetime(tzinfo=UTC) == chain[0].began


def test_everything_an_annotation_said_is_kept(app: App) -> None:
    app.post(of_bytes(picture(1), "a"))
    data = boxed(LEFT, has("x", 0.25))
    data.metadata.update({"a": 1})
    data.geo.geo_point.longitude, data.geo.geo_point.latitude = 2, 1
    app.annotate(on("a", data, "one", task_id="t", annotation_info=struct(note="n")))
    columns = (
        "bucket, input_number, id, area_id, created_at, modified_at, status, input_level, trusted, user_id, model_id,"
        " model_version_id, task_id, concept_ids, concept_values, metadata, latitude, longitude, annotation_info, data"
    )
    before = app.server.sql(f"SELECT {columns} FROM annotations WHERE bucket = {_BUCKET} AND id = 'one'", app.id)

    app.patch("overwrite", on("a", Data(concepts=[has("z")]), "one", annotation_info=struct(other=1)))

    assert app.server.sql(f"SELECT {columns} FROM past_annotations WHERE bucket = {_BUCKET}", app.id) == before


def test_patches_of_inputs_are_changes_of_their_annotations(app: App) -> None:
    app.post(of_bytes(picture(1), "a", concepts=[has("x")]))
    app.call("PatchInputs", action="merge", inputs=[Input(id="a", data=Data(concepts=[has("y")]))])
    app.call("PatchInputs", action="remove", inputs=[Input(id="a", data=Data(concepts=[Concept(id="x")]))])

    chain = versions(app, input_level(app, "a").id)

    assert_seamless(chain)
    assert [one.concepts for one in chain] == [["x"], ["x", "y"], ["y"]]


def test_the_place_is_kept_although_its_region_is_gone(app: App) -> None:
    app.indexed(of_bytes(picture(1), "a"))
    (made,) = app.annotate(on("a", boxed(RIGHT, has("x")), "one"))

    app.patch("merge", on("a", boxed(LEFT), "one"))

    then, now = versions(app, "one")
    assert (then.left, then.region_id) == (0.5, made.data.regions[0].id)
    assert (now.left, now.region_id != then.region_id) == (0.0, True)
    assert app.server.sql("SELECT count(*) FROM areas WHERE region_id = %s", then.region_id) == [(0,)]


def test_what_is_refused_leaves_no_version(app: App) -> None:
    app.post(of_bytes(picture(1), "a"))
    app.annotate(on("a", Data(concepts=[has("x")]), "one"))

    app.ask("PatchAnnotations", action="merge", annotations=[on("a", Data(), "one", status=Status(code=7))])
    app.ask("PatchAnnotations", action="merge", annotations=[on("a", Data(concepts=[has("c")]), "nobody")])
    app.ask("DeleteAnnotation", input_id="a", annotation_id=input_level(app, "a").id)

    assert past_count(app) == 0


def test_what_models_said_is_not_history(app: App) -> None:
    app.indexed(of_bytes(picture(1), "a"))
    (predicted,) = [item for item in app.annotations(list_all_annotations=True) if item.model_version_id]

    app.patch("merge", on("a", Data(concepts=[has("mine")]), predicted.id))
    app.call("DeleteAnnotation", input_id="a", annotation_id=predicted.id)

    assert past_count(app) == 0


def test_concurrent_changes_leave_a_seamless_chain(app: App) -> None:
    app.post(of_bytes(picture(1), "a"))
    app.annotate(on("a", Data(), "one"))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda n: app.patch("merge", on("a", Data(concepts=[has(f"c{n}")]), "one")), range(18)))

    chain = versions(app, "one")
    assert_seamless(chain)
    assert [len(one.concepts) for one in chain] == list(range(19))


# Deletions ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["one", "pairs", "all of the input", "emptied"])
def test_a_deletion_ends_the_last_version(app: App, way: str) -> None:
    app.post(of_bytes(picture(1), "a", concepts=[has("keep")]))
    app.annotate(on("a", Data(concepts=[has("x")]), "one"))
    began = datetime.now(UTC)

    if way == "one":
        app.call("DeleteAnnotation", input_id="a", annotation_id="one")
    elif way == "pairs":
        app.call("DeleteAnnotations", input_ids=["a"], ids=["one"])
    elif way == "all of the input":
        app.call("DeleteAnnotations", input_ids=["a"])
    else:
        app.patch("remove", on("a", Data(concepts=[Concept(id="x")]), "one"), delete_if_empty_data=True)

    (last,) = versions(app, "one")
    assert last.concepts == ["x"]
    assert last.ended is not None
    assert began <= last.ended <= datetime.now(UTC)
    assert app.ask("GetAnnotation", input_id="a", annotation_id="one").status.code == 11101
    assert past_count(app) == 1


def test_an_id_that_is_used_again_begins_after_its_end(app: App) -> None:
    app.post(of_bytes(picture(1), "a"))
    for concept in ("x", "y", "z"):
        app.annotate(on("a", Data(concepts=[has(concept)]), "one"))
        app.call("DeleteAnnotation", input_id="a", annotation_id="one")

    chain = versions(app, "one")

    assert [one.concepts for one in chain] == [["x"], ["y"], ["z"]]
    ends = [(one.began, one.ended) for one in chain]
    assert ends == sorted(ends)
    assert all(one.ended <= two.began for one, two in pairwise(chain) if one.ended)


def test_a_deleted_input_takes_its_history_along(app: App) -> None:
    app.post(of_bytes(picture(1), "a", concepts=[has("x")]), of_bytes(picture(2), "b", concepts=[has("x")]))
    for name in ("a", "b"):
        app.call("PatchInputs", action="merge", inputs=[Input(id=name, data=Data(concepts=[has("y")]))])
    assert past_count(app) == 2

    app.call("DeleteInput", input_id="a")

    assert past_count(app) == 1
    assert len(versions(app, input_level(app, "b").id, "b")) == 2


# Clocks -------------------------------------------------------------------------------------------------------------


def test_a_change_comes_after_that_of_a_process_whose_clock_is_ahead(app: App) -> None:
    app.post(of_bytes(picture(1), "a"))
    app.annotate(on("a", Data(concepts=[has("x")]), "one"))
    ahead = put_ahead(app, "one")

    app.patch("merge", on("a", Data(concepts=[has("y")]), "one"))
    app.patch("merge", on("a", Data(concepts=[has("z")]), "one"))

    chain = versions(app, "one")
    assert_seamless(chain)
    assert [one.began for one in chain] == [ahead, ahead + TICK, ahead + 2 * TICK]
    assert [len(one.concepts) for one in chain] == [1, 2, 3]


def test_a_deletion_and_a_new_annotation_come_after_it_too(app: App) -> None:
    app.post(of_bytes(picture(1), "a"))
    app.annotate(on("a", Data(concepts=[has("x")]), "one"))
    ahead = put_ahead(app, "one")

    app.call("DeleteAnnotation", input_id="a", annotation_id="one")
    app.annotate(on("a", Data(concepts=[has("y")]), "one"), on("a", Data(), "two"))

    chain = versions(app, "one")
    assert [(one.began, one.ended) for one in chain] == [(ahead, ahead + TICK), (ahead + TICK, None)]
    assert [item.id for item in app.annotations()[:2]] == ["two", "one"]


# Forgetting ---------------------------------------------------------------------------------------------------------

_OLD = """
INSERT INTO app_buckets (bucket) VALUES (1), (2);
INSERT INTO inputs (bucket, number, id, created_at, modified_at, status, media)
SELECT bucket, 1, 'a', now(), now(), 30000, 'none' FROM app_buckets;
INSERT INTO past_annotations (bucket, input_number, id, area_id, created_at, modified_at, until, status, input_level,
    trusted, user_id, model_id, model_version_id, task_id, concept_ids, concept_values)
SELECT b, 1, 'p-' || n, 1, now(), now() - interval '9 days', now() - make_interval(days => n % 10, mins => 1), 24150,
    false, true, 'me', '', '', '', '{}', '{}'
FROM generate_series(1, 2) b, generate_series(1, 5000) n;
"""


def _sweep(url: str, days: int) -> int:
    async def swept() -> int:
        database = Database(url)
        await database.open()
        try:
            return await History(database, days=days).sweep()
        finally:
            await database.close()

    return asyncio.run(swept())


@pytest.mark.parametrize(("days", "left"), [(0, 5000), (1, 500), (3, 1500), (10, 5000)])
def test_versions_that_ended_long_ago_are_forgotten_in_every_app(database_url: str, days: int, left: int) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(_OLD)

        forgotten = _sweep(database_url, days)

        counts = connection.execute("SELECT bucket, count(*) FROM past_annotations GROUP BY 1 ORDER BY 1").fetchall()
        assert counts == [(1, left), (2, left)]
        assert forgotten == 2 * (5000 - left)
        oldest = connection.execute("SELECT min(until) FROM past_annotations").fetchone()
        assert oldest is not None
        assert not days or oldest[0] > datetime.now(UTC) - timedelta(days=days)


def test_the_sweep_leaves_what_a_deletion_holds(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(_OLD)
        connection.commit()
        connection.execute("DELETE FROM inputs WHERE bucket = 1")

        assert _sweep(database_url, 1) == 4500

        connection.commit()
        rows = connection.execute("SELECT bucket, count(*) FROM past_annotations GROUP BY 1").fetchall()
        assert rows == [(2, 500)]


_NEEDED = """
INSERT INTO datasets (bucket, id) VALUES (1, 'now'), (1, 'left'), (1, 'late'), (2, 'now');
INSERT INTO dataset_versions (bucket, dataset_id, id, as_of, created_at, modified_at)
SELECT bucket, id, 'v', now() - interval '6 days', now(), now() FROM datasets;
INSERT INTO inputs (bucket, number, id, created_at, modified_at, status, media)
SELECT 1, n, 'i-' || n, now(), now(), 30000, 'none' FROM generate_series(2, 5) n;
INSERT INTO dataset_inputs (bucket, dataset_id, input_number, created_at) VALUES
    (1, 'now', 2, now() - interval '8 days'), (1, 'late', 4, now() - interval '4 days');
INSERT INTO past_dataset_inputs (bucket, dataset_id, input_number, since, until) VALUES
    (1, 'left', 3, now() - interval '8 days', now() - interval '5 days'),
    (1, 'left', 4, now() - interval '8 days', now() - interval '7 days');
INSERT INTO past_annotations (bucket, input_number, id, area_id, created_at, modified_at, until, status, input_level,
    trusted, user_id, model_id, model_version_id, task_id, concept_ids, concept_values)
SELECT 1, n, name, 1, now(), now() - make_interval(days => began), now() - make_interval(days => ended), 24150,
    false, true, 'me', '', '', '', '{}', '{}'
FROM generate_series(2, 5) n, (VALUES ('then', 9, 5), ('before', 9, 7), ('after', 5, 4)) w (name, began, ended);
"""


def test_what_a_version_of_a_dataset_tells_is_not_forgotten(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(_OLD)
        connection.execute(_NEEDED)

        forgotten = _sweep(database_url, 3)

        needed = connection.execute(
            "SELECT input_number, id FROM past_annotations WHERE bucket = 1 AND input_number > 1 ORDER BY 1, 2"
        ).fetchall()
        assert needed == [(2, "then"), (3, "then")]
        assert forgotten == 2 * 3500 + 10
        connection.execute("DELETE FROM dataset_versions")
        assert _sweep(database_url, 3) == 2


def test_what_is_kept_does_not_hide_what_is_to_be_forgotten(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(_OLD)
        connection.execute(
            "INSERT INTO datasets (bucket, id) VALUES (1, 'd');"
            "INSERT INTO dataset_inputs (bucket, dataset_id, input_number, created_at)"
            " VALUES (1, 'd', 1, now() - interval '20 days');"
            "INSERT INTO dataset_versions (bucket, dataset_id, id, as_of, created_at, modified_at)"
            " VALUES (1, 'd', 'v', now() - interval '8 days', now(), now());"
            "UPDATE past_annotations SET modified_at = now() - interval '7 days'"
            " WHERE until > now() - interval '5 days'"
        )

        assert _sweep(database_url, 3) == 3500 + 2000

        rows = connection.execute("SELECT bucket, count(*) FROM past_annotations GROUP BY 1 ORDER BY 1").fetchall()
        assert rows == [(1, 3000), (2, 1500)]
