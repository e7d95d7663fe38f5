"""Several searches in one call: their hits, or counts, follow each other (api-spec 4.1)."""

from __future__ import annotations

import pytest
from clarifai_grpc.grpc.api.resources_pb2 import Concept, Query, Search
from clarifai_grpc.grpc.api.service_pb2 import Pagination
from clarifai_grpc.grpc.api.status.status_pb2 import Status
from tests.integration.saving import labelled, text
from tests.integration.serving import App, by_concept, by_image, hit_inputs, of_bytes, picture

INVALID, BAD_SEARCH = 11102, 40002


def found(app: App, rpc: str, *searches: Search, **page: int) -> list[str]:
    return hit_inputs(app.call(rpc, searches=searches, pagination=Pagination(**page)).hits)


def counts(app: App, *searches: Search) -> list[int]:
    answer = app.call("PostInputsSearches", searches=searches, only_count=True)
    assert list(answer.hits) == []
    return [count.estimated_total for count in answer.hit_counts]


@pytest.fixture
def texts(app: App) -> App:
    """a: cat, b: cat and dog, c: dog, d: nothing."""
    app.post(text("a", "cat"), text("b", "cat", "dog"), text("c", "dog"), text("d"))
    return app


@pytest.mark.parametrize("rpc", ["PostAnnotationsSearches", "PostInputsSearches", "PostSearches"])
def test_hits_follow_each_other_in_the_order_of_the_searches(texts: App, rpc: str) -> None:
    searches = [labelled("dog"), labelled("nobody"), labelled("cat")]

    answer = texts.call(rpc, searches=searches)

    assert hit_inputs(answer.hits) == ["b", "c", "a", "b"]
    assert list(answer.searches) == searches
    assert answer.id
    assert list(answer.hit_counts) == []


def test_each_search_has_its_own_page(texts: App) -> None:
    searches = [labelled("dog"), labelled("cat"), Search()]

    pages = [found(texts, "PostInputsSearches", *searches, page=n, per_page=1) for n in (1, 2, 3, 5)]

    assert pages == [["b", "a", "a"], ["c", "b", "b"], ["c"], []]


def test_each_search_has_its_own_rank_and_lowest_score(app: App) -> None:
    app.indexed(*(of_bytes(picture(n), f"i{n}", concepts=[Concept(id="mine", value=1)]) for n in range(3)))
    searches = [labelled("mine", by_image(picture(n)), min_value=0.999) for n in (2, 0)]
    assert found(app, "PostAnnotationsSearches", *searches) == ["i2", "i0"]


def test_no_searches_are_one_for_everything(texts: App) -> None:
    for rpc in ("PostAnnotationsSearches", "PostInputsSearches", "PostSearches"):
        answer = texts.call(rpc)
        assert hit_inputs(answer.hits) == ["a", "b", "c", "d"]
        assert list(answer.searches) == []
    assert counts(texts) == [4]


def test_counts_come_in_the_order_of_the_searches(texts: App) -> None:
    assert counts(texts, labelled("dog"), labelled("nobody"), Search(), labelled("cat")) == [2, 0, 4, 2]


def test_counts_are_not_paged(texts: App) -> None:
    page = Pagination(page=2, per_page=1)
    answer = texts.call("PostInputsSearches", searches=[labelled("dog")], only_count=True, pagination=page)
    assert [count.estimated_total for count in answer.hit_counts] == [2]


def test_with_ranks_only_what_is_indexed_is_counted(app: App) -> None:
    """What a rank would order: its lowest score is not asked, for then everything had to be scored."""
    app.indexed(of_bytes(picture(1), "good", concepts=[Concept(id="mine", value=1)]))
    app.post(of_bytes(b"no picture", "broken", concepts=[Concept(id="mine", value=1)]))
    assert app.finished("broken").status.code == 30002

    ranked = labelled("mine", by_concept("mine", 0.0), min_value=0.9)

    assert counts(app, labelled("mine"), ranked) == [2, 1]
    assert found(app, "PostInputsSearches", ranked) == []


def test_a_call_holds_up_to_32_searches(texts: App) -> None:
    assert found(texts, "PostInputsSearches", *[labelled("dog")] * 32) == ["b", "c"] * 32

    answer = texts.ask("PostInputsSearches", searches=[labelled("dog")] * 33)

    assert answer.status.code == BAD_SEARCH
    assert "33" in answer.status.details


def test_an_answer_holds_up_to_10000_hits(texts: App) -> None:
    assert found(texts, "PostInputsSearches", *[labelled("dog")] * 10, per_page=1000) == ["b", "c"] * 10

    answer = texts.ask("PostInputsSearches", searches=[labelled("dog")] * 11, pagination=Pagination(per_page=1000))

    assert answer.status.code == BAD_SEARCH
    assert "11 searches" in answer.status.details


def refusal(app: App, *searches: Search) -> Status:
    answer = app.ask("PostInputsSearches", searches=searches)
    assert list(answer.hits) == []
    status: Status = answer.status
    return status


def test_one_bad_search_fails_the_call_and_is_named(texts: App) -> None:
    unreadable = refusal(texts, labelled("dog"), labelled("cat", algorithm="guess"))
    unrankable = refusal(texts, labelled("dog"), labelled("cat"), Search(query=Query(ranks=[by_concept("nobody")])))

    assert (unreadable.code, unrankable.code) == (BAD_SEARCH, BAD_SEARCH)
    assert unreadable.details.startswith("searches[1]: algorithm")
    assert unrankable.details.startswith("searches[2]: No concept")


def test_over_rest(texts: App) -> None:
    wanted = {"data": {"concepts": [{"id": "dog"}]}}
    body = {"searches": [{"query": {"filters": [{"annotation": wanted}]}}, {}], "onlyCount": True}

    answer = texts.server.rest("POST", f"{texts.path}/inputs/searches/", body)

    content = answer.json()
    assert answer.status_code == 200
    assert content["hits"] == []
    assert [count["estimated_total"] for count in content["hit_counts"]] == [2, 4]
    bad = texts.server.rest("POST", f"{texts.path}/inputs/searches", {"searches": [{}] * 33})
    assert (bad.status_code, bad.json()["status"]["code"]) == (400, BAD_SEARCH)
    many = texts.server.rest("POST", f"{texts.path}/inputs/searches", {"pagination": {"per_page": 1001}})
    assert (many.status_code, many.json()["status"]["code"]) == (400, INVALID)
