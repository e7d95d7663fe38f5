"""ListAnnotationWorkers: who annotated, each once, found without reading what they said (api-spec 3.3)."""

from __future__ import annotations

from typing import Any

import pytest
from clarifai_grpc.grpc.api.resources_pb2 import Data, Model
from clarifai_grpc.grpc.api.status.status_pb2 import Status
from tests.integration.explaining import looked_at, on_grown_apps, reads, strays
from tests.integration.serving import USER, App, of_bytes, picture
from tests.integration.test_annotations_post import has, on

from sightrank.api.pages import Page
from sightrank.store import queries
from sightrank.store.database import Database

WORKERS = queries.load("annotations")["workers"]
PENDING = Status(code=24151)


def names(found: Any) -> list[str]:
    """Users by their ids, models by whose they are, their ids and versions."""
    return [
        f"{worker.model.app_id}/{worker.model.id}/{worker.model.model_version.id}"
        if worker.HasField("model")
        else worker.user.id
        for worker in found
    ]


def workers(app: App, **fields: Any) -> list[str]:
    return names(app.call("ListAnnotationWorkers", **fields).workers)


@pytest.fixture
def colleague(app: App) -> str:
    """The id of another user."""
    app.server.sql("INSERT INTO users (id) VALUES ('zoe') ON CONFLICT DO NOTHING RETURNING id")
    return "zoe"


def test_an_empty_app_has_no_workers(app: App) -> None:
    assert workers(app) == []


def test_people_and_models_are_named_once_as_their_annotations_do(app: App, colleague: str) -> None:
    app.indexed(of_bytes(picture(1), "a"), of_bytes(picture(2), "b"))
    said = Data(concepts=[has("c")])
    app.annotate(on("a", said), on("b", said), on("a", said, user_id=colleague), on("b", said, user_id=colleague))

    found = app.call("ListAnnotationWorkers").workers

    annotations = app.annotations(list_all_annotations=True)
    assert names(found)[:2] == [USER, colleague]
    assert len(found) == 3
    assert {worker.SerializeToString(deterministic=True) for worker in found} == {
        item.worker.SerializeToString(deterministic=True) for item in annotations
    }
    pages = [workers(app, page=page, per_page=2) for page in (1, 2, 3)]
    assert pages == [names(found)[:2], names(found)[2:], []]
    assert app.ask("ListAnnotationWorkers", per_page=1001).status.code == 11102


def test_trusted_only_leaves_out_models_and_who_is_not_trusted_yet(app: App, colleague: str) -> None:
    app.indexed(of_bytes(picture(1), "a"))
    app.annotate(on("a", Data(concepts=[has("c")]), "x", user_id=colleague, status=PENDING))

    assert workers(app, trusted_only=True) == [USER]

    app.patch("merge", on("a", Data(), "x", status=Status(code=24150)))
    assert workers(app, trusted_only=True) == [USER, colleague]
    assert len(workers(app)) == 3


def test_own_models_go_by_the_id_they_have_now_and_deleted_versions_by_their_last(app: App) -> None:
    app.indexed(of_bytes(picture(1), "a"), of_bytes(picture(2), "b"))
    app.call("PostModels", models=[Model(id="hues", model_type_id="embedding-classifier")])
    version_id = app.call("GetModel", model_id="hues").model.model_version.id
    for input_id, said_by in (("a", version_id), ("b", "gone")):
        app.server.sql(
            "UPDATE annotations SET model_id = 'colours', model_version_id = %s, own_model = true"
            " WHERE model_version_id <> '' AND (bucket, input_number) = ("
            "SELECT i.bucket, i.number FROM inputs i JOIN apps p ON p.first_bucket = i.bucket"
            " WHERE p.id = %s AND i.id = %s) RETURNING 1",
            said_by,
            app.id,
            input_id,
        )

    assert sorted(workers(app)) == sorted([USER, f"{app.id}/hues/{version_id}", f"{app.id}/colours/gone"])


def test_rest_answers_in_an_app_and_by_its_key(app: App) -> None:
    app.indexed(of_bytes(picture(1), "a"))

    listed = app.rest("GET", "/annotations/workers")
    trusted = app.rest("GET", "/annotations/workers?trusted_only=true&per_page=1")

    assert listed["status"]["code"] == 10000
    assert [[*worker] for worker in listed["workers"]] == [["user"], ["model"]]
    assert trusted["workers"] == [{"user": listed["workers"][0]["user"]}]
    assert trusted["workers"][0]["user"]["id"] == USER


def test_only_one_annotation_of_each_worker_is_read(database_url: str) -> None:
    """A grown app has 100 people and 100 versions of models, with 15 annotations or more by each."""

    async def scenario(database: Database) -> dict[bool, tuple[int, list[str], float]]:
        found = {}
        for trusted_only in (False, True):
            parameters = {"bucket": 1, "trusted_only": trusted_only}
            rows = await database.rows(Page(1, 500).limit(WORKERS), parameters)
            read = await reads(database, Page(1, 500).limit(WORKERS), parameters)
            found[trusted_only] = len(rows), strays(read), looked_at(read)
        return found

    everybody, trusted = (found := on_grown_apps(database_url, scenario))[False], found[True]

    assert everybody[:2] == (200, [])
    assert everybody[2] <= 100 + 2 * 100 + 10
    assert trusted[:2] == (100, [])
    assert trusted[2] <= 2 * 100 + 100 + 10
