"""Fields of a REST body that a request does not have are ignored, and a success says so."""

from __future__ import annotations

from clarifai_grpc.grpc.api.resources_pb2 import Data, Input, Text
from tests.integration.serving import SUCCESS, App


def test_a_search_says_what_it_passed_over(app: App) -> None:
    app.finished(app.post(Input(id="a", data=Data(text=Text(raw="text"))))[0])

    answer = app.rest("POST", "/inputs/searches", {"query": {"filters": []}, "pagination": {"per_page": 5}})

    assert answer["status"]["code"] == SUCCESS
    assert answer["status"]["details"] == (
        "Ignored: `query`, which PostInputsSearches does not have. Its fields: user_app_id, searches, pagination,"
        " only_count."
    )
    assert [hit["input"]["id"] for hit in answer["hits"]] == ["a"]


def test_what_is_known_needs_no_word(app: App) -> None:
    known = app.rest("POST", "/inputs/searches", {"searches": [{"query": {}}], "userAppId": None})
    refused = app.rest("POST", "/inputs", {"input": []})

    assert "details" not in known["status"]
    assert refused["status"]["details"].startswith("inputs is empty")


def test_only_a_few_names_are_shown(app: App) -> None:
    answer = app.rest("POST", "/inputs/searches", {f"{n}{'x' * 500}": 1 for n in range(2000)})

    assert answer["status"]["code"] == SUCCESS
    assert answer["status"]["details"].count("`") == 10
    assert len(answer["status"]["details"]) < 400
