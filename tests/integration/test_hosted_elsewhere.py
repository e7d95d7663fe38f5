"""Hosted pictures in calls about another app: what a key may read, it may use, and of the rest it learns nothing."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from clarifai_grpc.grpc.api import resources_pb2
from tests.integration.serving import (
    API_KEY,
    FAILED,
    PAT,
    SUCCESS,
    USER,
    App,
    Server,
    by_image,
    hit_inputs,
    new_app,
    of_bytes,
    of_url,
    picture,
)
from tests.integration.test_datasets import key_of_another_user
from tests.integration.test_inputs_media import get, hosted

PUBLIC = resources_pb2.Visibility.Gettable.PUBLIC
MODEL = "models/general-image-recognition/outputs"
MAIN = f"/v2/users/clarifai/apps/main/{MODEL}"
UNUSABLE = (43003, FAILED)


def predict(server: Server, url: str, *, key: str = PAT, path: str = MAIN) -> dict[str, Any]:
    """The status of the output."""
    body = {"inputs": [{"data": {"image": {"url": url}}}]}
    status: dict[str, Any] = server.rest("POST", path, body, key=key).json()["outputs"][0]["status"]
    return status


def search(server: Server, path: str, url: str, *, key: str) -> dict[str, Any]:
    """The status of a search in the app at ``path`` for what looks like the picture."""
    query = {"searches": [{"query": {"ranks": [{"annotation": {"data": {"image": {"url": url}}}}]}}]}
    status: dict[str, Any] = server.rest("POST", f"{path}/inputs/searches", query, key=key).json()["status"]
    return status


@pytest.fixture
def url(app: App) -> str:
    """Of a picture of ``app``."""
    app.indexed(of_bytes(picture(1), "a"))
    return hosted(app, "a")


def test_a_token_predicts_on_what_any_of_its_apps_hosts(app: App, url: str) -> None:
    other = new_app(app.server, app.stub)

    statuses = [predict(app.server, url, path=path) for path in (MAIN, f"/v2/{MODEL}", f"{other.path}/{MODEL}")]

    assert [status["code"] for status in statuses] == [SUCCESS] * 3


def test_a_token_searches_by_what_another_app_hosts(app: App, url: str) -> None:
    other = new_app(app.server, app.stub)
    other.indexed(of_bytes(picture(1), "same"), of_bytes(picture(7), "different"))

    hits = other.rank(by_image(url=url))

    assert (hit_inputs(hits), hits[0].score > 0.99) == (["same", "different"], True)


def test_what_was_added_from_another_app_stays_when_it_is_gone_there(app: App, url: str) -> None:
    other = new_app(app.server, app.stub)

    other.indexed(of_url(url, "copy"))

    assert other.call("GetInput", input_id="copy").input.data.image.url == url
    app.call("DeleteInput", input_id="a")
    assert get(other, hosted(other, "copy"), key=PAT).content == picture(1)
    assert other.ask("PostInputs", inputs=[of_url(url, "again")]).inputs[0].status.code == 30100


@pytest.fixture(params=["app key", "another user", "no scope"])
def stranger(request: pytest.FixtureRequest, server: Server, app: App) -> Iterator[tuple[str, str]]:
    """A key that may not read ``app``, and the path of an app that it may write."""
    if request.param == "app key":
        yield API_KEY, f"/v2/users/{USER}/apps/photos"
        return
    if request.param == "another user":
        key = key_of_another_user(server)
        server.rest("POST", "/v2/users/me/apps", {"apps": [{"id": "own"}]}, key=key)
        yield key, "/v2/users/me/apps/own"
        return
    scopes = ["Predict", "Models_Get", "Concepts_Get", "Apps_Get"]
    key = {"description": "predicts", "scopes": scopes, "type": "personal_access_token"}
    made = server.rest("POST", f"/v2/users/{USER}/keys", {"keys": [key]}).json()["keys"][0]["id"]
    yield made, f"/v2/users/{USER}/apps/{new_app(server, app.stub).id}"


def test_what_a_key_may_not_read_is_as_if_it_were_not_there(app: App, url: str, stranger: tuple[str, str]) -> None:
    key, path = stranger
    unknown = [f"{url}x", url.replace(app.id, "noapp"), url.replace(f"/{USER}/", "/nobody/")]
    assert get(app, url, key=key).status_code in (401, 403, 404)

    for asked in (
        lambda url: predict(app.server, url, key=key),
        lambda url: predict(app.server, url, key=key, path=f"{path}/{MODEL}"),
        lambda url: search(app.server, path, url, key=key),
    ):
        refusals = [asked(one) for one in (url, *unknown)]
        told = {
            (one["code"], one["details"].replace(u, "URL")) for one, u in zip(refusals, (url, *unknown), strict=True)
        }
        assert len(told) == 1, told
        assert told.pop()[0] in (*UNUSABLE, 11007)


def test_an_app_key_adds_nothing_from_another_app(app: App, url: str) -> None:
    path, name = f"/v2/users/{USER}/apps/photos", f"stolen-{uuid.uuid4().hex}"
    posted = App(server=app.server, stub=app.stub, id="photos", key=API_KEY)

    posted.post(of_url(url, name, allow_duplicate_url=True), of_url(f"{url}x", f"{name}-x"))

    found = [posted.finished(one).status for one in (name, f"{name}-x")]
    assert [one.code for one in found] == [FAILED] * 2
    assert found[0].details.replace(url, "URL") == found[1].details.replace(f"{url}x", "URL")
    assert app.server.rest("DELETE", f"{path}/inputs", {"ids": [name, f"{name}-x"]}).status_code == 200


def test_what_is_public_may_be_used_by_anybody(app: App, url: str) -> None:
    key = key_of_another_user(app.server)
    assert predict(app.server, url, key=key)["code"] == FAILED

    app.call("PatchApp", action="overwrite", app={"id": app.id, "visibility": {"gettable": PUBLIC}})

    assert predict(app.server, url, key=key)["code"] == SUCCESS
