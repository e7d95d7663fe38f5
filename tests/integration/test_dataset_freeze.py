"""Versions of datasets are made when nobody is writing, and whatever is said afterwards is later, on any clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from clarifai_grpc.grpc.api.resources_pb2 import Annotation, Data, DatasetVersion, Input
from clarifai_grpc.grpc.api.service_pb2_grpc import V2Stub
from tests.integration.serving import App, Server, new_app, of_bytes, picture, wait_for
from tests.integration.test_annotations_history import put_ahead
from tests.integration.test_dataset_inputs import has, named, note, search
from tests.integration.test_dataset_version_contents import content, wording
from tests.integration.test_dataset_versions import dataset, version

_BUCKET = "(SELECT first_bucket FROM apps WHERE id = %s)"

#: Everything that changes what the next version tells, and the indexing of inputs, which may write labels.
WRITERS: dict[str, Callable[[App], Any]] = {
    "annotate": lambda app: app.annotate(wording("i0", "new", has("dog"))),
    "patch": lambda app: app.patch("merge", wording("i0", "one", has("dog"))),
    "delete": lambda app: app.call("DeleteAnnotation", input_id="i0", annotation_id="one"),
    "patch an input": lambda app: app.call(
        "PatchInputs", action="merge", inputs=[Input(id="i0", data=Data(concepts=[has("dog")]))]
    ),
    "post": lambda app: app.post(note("new", has("dog"), datasets=["d"])),
    "join": lambda app: app.call("PostDatasetInputs", dataset_id="d", dataset_inputs=named("i1")),
    "join what is found": lambda app: app.call("PostDatasetInputs", dataset_id="d", search=search()),
    "leave": lambda app: app.call("DeleteDatasetInputs", dataset_id="d", input_ids=["i0"]),
    "index": lambda app: app.indexed(of_bytes(picture(1), "picture")),
}


@contextmanager
def held(app: App) -> Iterator[psycopg.Connection[Any]]:
    """The app's bucket is held, so that writers wait before their commit, with everything written."""
    with psycopg.connect(app.server.database_url) as connection:
        connection.execute(f"SELECT FROM app_buckets WHERE bucket = {_BUCKET} FOR NO KEY UPDATE", [app.id])
        yield connection


def waiting(app: App, locktype: str, count: int = 1) -> None:
    statement = "SELECT count(*) FROM pg_locks WHERE locktype = %s AND NOT granted"
    wait_for(f"somebody who waits for a {locktype}", lambda: app.server.sql(statement, locktype)[0][0] >= count)


@pytest.mark.parametrize("writer", WRITERS)
def test_a_version_waits_for_those_who_are_writing(app: App, writer: str) -> None:
    dataset(app, note("i0", has("cat")))
    app.indexed(note("i1"))
    app.annotate(wording("i0", "one", has("cat")))

    with ThreadPoolExecutor(2) as pool:
        with held(app):
            writing = pool.submit(WRITERS[writer], app)
            waiting(app, "transactionid")
            making = pool.submit(lambda: version(app, id="v"))
            waiting(app, "advisory")
        writing.result()
        making.result()

    told = content(app, "v")
    version(app, id="after")
    assert content(app, "after") == told


def test_whoever_comes_while_a_version_is_made_says_it_later(app: App) -> None:
    dataset(app, note("i0", has("cat")))
    app.annotate(wording("i0", "one", has("cat")))
    later: list[Future[Any]] = []

    with ThreadPoolExecutor(3) as pool:
        with held(app):
            making = pool.submit(lambda: version(app, id="v"))
            waiting(app, "transactionid")
            later.append(pool.submit(WRITERS["annotate"], app))
            later.append(pool.submit(WRITERS["patch"], app))
            waiting(app, "advisory", 1)
        making.result()
        for one in later:
            one.result()

    assert content(app, "v") == {"i0": {"": {"cat": 1.0}, "one": {"cat": 1.0}}}
    assert app.annotations()[0].modified_at.ToNanoseconds() > 0


def test_what_a_process_said_whose_clock_is_ahead_is_in_it(app: App) -> None:
    dataset(app, note("i0"))
    app.annotate(wording("i0", "one", has("cat")))
    ahead = put_ahead(app, "one")

    made = version(app, id="v")
    app.patch("overwrite", wording("i0", "one", has("dog")))
    app.annotate(wording("i0", "two"))

    assert made.created_at.ToDatetime(UTC) > ahead
    assert content(app, "v") == {"i0": {"": {}, "one": {"cat": 1.0}}}


def test_everything_after_a_version_of_a_process_whose_clock_is_ahead_is_later(app: App) -> None:
    dataset(app, note("i0"))
    app.indexed(note("i1"))
    app.annotate(wording("i0", "one", has("cat")))
    ahead = datetime.now(UTC) + timedelta(hours=1)
    with psycopg.connect(app.server.database_url, autocommit=True) as connection:
        connection.execute(f"UPDATE app_buckets SET versions_as_of = %s WHERE bucket = {_BUCKET}", [ahead, app.id])
        connection.execute(
            "INSERT INTO dataset_versions (bucket, dataset_id, id, as_of, created_at, modified_at)"
            f" VALUES ({_BUCKET}, 'd', 'v', %s, now(), now())",
            [app.id, ahead],
        )

    for writer in ("annotate", "patch", "patch an input", "post", "join"):
        WRITERS[writer](app)
    app.call("DeleteAnnotation", input_id="i0", annotation_id="new")
    WRITERS["leave"](app)

    assert content(app, "v") == {"i0": {"": {}, "one": {"cat": 1.0}}}
    (again,) = app.call(
        "PostDatasetVersions", dataset_id="d", dataset_versions=[DatasetVersion(id="w")]
    ).dataset_versions
    assert again.created_at.ToDatetime(UTC) > ahead
    assert sorted(content(app, "w")) == ["i1", "new"]


def test_apps_do_not_wait_for_each_other(app: App, server: Server, stub: V2Stub) -> None:
    other = new_app(server, stub)
    for one in (app, other):
        dataset(one, note("i0"))

    with ThreadPoolExecutor(1) as pool:
        with held(app):
            making = pool.submit(lambda: version(app, id="v"))
            waiting(app, "transactionid")
            other.annotate(Annotation(input_id="i0", id="a"))
            assert version(other, id="v").dataset_id == "d"
        making.result()


def test_a_dataset_that_goes_meanwhile_gets_no_version(app: App) -> None:
    dataset(app, note("i0"))

    with ThreadPoolExecutor(2) as pool:
        with held(app):
            deleting = pool.submit(lambda: app.call("DeleteDatasets", dataset_ids=["d"]))
            waiting(app, "transactionid")
            making = pool.submit(
                lambda: app.ask("PostDatasetVersions", dataset_id="d", dataset_versions=[DatasetVersion(id="v")])
            )
            waiting(app, "transactionid", 2)
        deleting.result()
        answer = making.result()

    assert answer.status.code == 11101
    assert "dataset 'd'" in answer.status.details.lower()
