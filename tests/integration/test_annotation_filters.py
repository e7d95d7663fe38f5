"""Annotation filters: named searches without ranks (api-spec 3.2)."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from clarifai_grpc.grpc.api.resources_pb2 import (
    And,
    Annotation,
    AnnotationFilter,
    Concept,
    Data,
    Filter,
    Input,
    Query,
    Rank,
    Search,
)
from clarifai_grpc.grpc.api.service_pb2_grpc import V2Stub
from google.protobuf.timestamp_pb2 import Timestamp
from tests.integration.serving import SUCCESS, USER, App, Server, by_concept, new_app

DUPLICATE, MISSING, INVALID, BAD_SEARCH = 40010, 11101, 11102, 40002


def having(concept_id: str) -> Search:
    data = Data(concepts=[Concept(id=concept_id, value=1)])
    return Search(query=Query(filters=[Filter(annotation=Annotation(data=data))]))


def add(app: App, *filters: AnnotationFilter) -> list[AnnotationFilter]:
    return list(app.call("PostAnnotationFilters", annotation_filters=filters).annotation_filters)


def get(app: App, name: str) -> AnnotationFilter:
    found: AnnotationFilter = app.call("GetAnnotationFilter", annotation_filter_id=name).annotation_filter
    return found


def names(app: App, **page: int) -> list[str]:
    return [item.id for item in app.call("ListAnnotationFilters", **page).annotation_filters]


def code(answer: Any) -> int:
    return int(answer.status.code)


def test_a_filter_is_kept_with_its_search(app: App) -> None:
    (made,) = add(app, AnnotationFilter(id="cats", search=having("cat")))

    assert (made.id, made.user_id, made.app_id) == ("cats", USER, app.id)
    assert made.search == having("cat")
    assert made.created_at == made.modified_at
    assert abs(datetime.now(UTC) - made.created_at.ToDatetime(tzinfo=UTC)) < timedelta(minutes=1)
    assert get(app, "cats") == made


def test_filters_are_listed_newest_first_and_paged(app: App) -> None:
    add(app, AnnotationFilter(id="a", search=Search()), AnnotationFilter(id="b", search=Search()))
    (made,) = add(app, AnnotationFilter(search=having("x")))

    assert len(made.id) == 32
    assert names(app) == [made.id, "b", "a"]
    assert [names(app, page=n, per_page=2) for n in (1, 2, 3)] == [[made.id, "b"], ["a"], []]
    beyond = app.call("ListAnnotationFilters", page=1000, per_page=500)
    assert [field.name for field, _ in beyond.ListFields()] == ["status"]
    assert code(app.ask("ListAnnotationFilters", per_page=1001)) == INVALID


def test_an_empty_rank_is_none(app: App) -> None:
    """The SDK's Search always sends one."""
    search = Search(query=Query(ranks=[Rank(annotation=Annotation())]))
    add(app, AnnotationFilter(id="all", search=search))
    assert names(app) == ["all"]


@pytest.mark.parametrize(
    ("item", "status", "said"),
    [
        (AnnotationFilter(id="x", search=Search(query=Query(ranks=[by_concept("cat")]))), BAD_SEARCH, "ranks"),
        (AnnotationFilter(id="x", search=Search(query=Query(ands=[And(input=Input(id="a"))]))), BAD_SEARCH, "ands"),
        (AnnotationFilter(id="x", search=Search(min_value=-1)), BAD_SEARCH, "min_value"),
        (AnnotationFilter(id="x", search=Search(name="n" * 300_000)), BAD_SEARCH, "262144"),
        (AnnotationFilter(id="x"), INVALID, "needs a search"),
        (AnnotationFilter(id="a b", search=Search()), INVALID, "'a b'"),
        (AnnotationFilter(id="x" * 129, search=Search()), INVALID, "128"),
        (AnnotationFilter(id="taken", search=Search()), DUPLICATE, "'taken'"),
        (AnnotationFilter(id="fine", search=Search()), DUPLICATE, "'fine'"),
    ],
)
def test_a_bad_filter_adds_none_of_the_call(app: App, item: AnnotationFilter, status: int, said: str) -> None:
    add(app, AnnotationFilter(id="taken", search=having("cat")))

    answer = app.ask("PostAnnotationFilters", annotation_filters=[AnnotationFilter(id="fine", search=Search()), item])

    assert code(answer) == status, answer.status
    assert said in answer.status.details
    assert names(app) == ["taken"]
    assert get(app, "taken").search == having("cat")


@pytest.mark.parametrize("count", [0, 129])
def test_a_call_adds_1_to_128_filters(app: App, count: int) -> None:
    answer = app.ask("PostAnnotationFilters", annotation_filters=[AnnotationFilter(search=Search())] * count)
    assert code(answer) == INVALID
    assert names(app) == []


@pytest.mark.parametrize("name", ["nothing", "", "zero\0"])
def test_an_unknown_filter_does_not_exist(app: App, name: str) -> None:
    assert code(app.ask("GetAnnotationFilter", annotation_filter_id=name)) == MISSING


def patch(app: App, *filters: AnnotationFilter, action: str = "overwrite") -> Any:
    return app.ask("PatchAnnotationFilters", annotation_filters=filters, action=action)


def test_overwriting_replaces_what_the_search_sets(app: App) -> None:
    as_of = Timestamp(seconds=1_700_000_000)
    search = having("cat")
    search.as_of.CopyFrom(as_of)
    (before,) = add(app, AnnotationFilter(id="f", search=search))

    answer = patch(app, AnnotationFilter(id="f", search=having("dog")))

    assert code(answer) == SUCCESS
    after = get(app, "f")
    assert list(answer.annotation_filters) == [after]
    assert (after.search.query, after.search.as_of) == (having("dog").query, as_of)
    assert after.created_at == before.created_at
    assert after.modified_at.ToDatetime() > before.modified_at.ToDatetime()


@pytest.mark.parametrize(
    ("filters", "action", "status"),
    [
        ([AnnotationFilter(id="f", search=Search(query=Query(ranks=[by_concept("cat")])))], "overwrite", BAD_SEARCH),
        ([AnnotationFilter(id="f", search=having("dog")), AnnotationFilter(id="nothing")], "overwrite", MISSING),
        ([AnnotationFilter(id="f", search=having("dog"))], "merge", INVALID),
        ([AnnotationFilter(id="f", search=having("dog"))], "", INVALID),
        ([AnnotationFilter(search=having("dog"))], "overwrite", INVALID),
        ([AnnotationFilter(id="f"), AnnotationFilter(id="f")], "overwrite", INVALID),
        ([], "overwrite", INVALID),
    ],
)
def test_a_bad_patch_changes_nothing(app: App, filters: list[AnnotationFilter], action: str, status: int) -> None:
    (before,) = add(app, AnnotationFilter(id="f", search=having("cat")))

    assert code(patch(app, *filters, action=action)) == status

    assert get(app, "f") == before


def test_deleting_ignores_ids_that_are_not_there(app: App) -> None:
    add(app, *(AnnotationFilter(id=name, search=Search()) for name in "abc"))

    app.call("DeleteAnnotationFilters", annotation_filter_ids=["a", "nothing", "zero\0", "c", "a"])

    assert names(app) == ["b"]
    assert code(app.ask("DeleteAnnotationFilters", annotation_filter_ids=[])) == 11102
    assert names(app) == ["b"]


def test_of_many_who_add_the_same_filters_one_wins(app: App) -> None:
    """In opposite orders, and each with one of its own, so that a loser shows that it added nothing."""
    start = threading.Barrier(8)
    shared = [f"same-{n}" for n in range(100)]

    def one(n: int) -> int:
        filters = [AnnotationFilter(id=name, search=having(str(n))) for name in (shared if n % 2 else shared[::-1])]
        filters.append(AnnotationFilter(id=f"own-{n}", search=having(str(n))))
        start.wait()
        return code(app.ask("PostAnnotationFilters", annotation_filters=filters))

    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(one, range(8)))

    assert sorted(codes) == [SUCCESS] + [DUPLICATE] * 7
    winner = codes.index(SUCCESS)
    assert sorted(names(app)) == sorted([*shared, f"own-{winner}"])
    kept = app.call("ListAnnotationFilters").annotation_filters
    assert all(item.search == having(str(winner)) for item in kept)


def test_filters_changed_and_deleted_at_once_do_not_wait_for_each_other(app: App) -> None:
    add(app, *(AnnotationFilter(id=name, search=Search()) for name in "ab"))

    def one(n: int) -> int:
        ids = ["a", "b"] if n % 2 else ["b", "a"]
        if n % 3:
            return code(patch(app, *(AnnotationFilter(id=name, search=having(str(n))) for name in ids)))
        deleted = code(app.ask("DeleteAnnotationFilters", annotation_filter_ids=ids))
        app.ask("PostAnnotationFilters", annotation_filters=[AnnotationFilter(id=i, search=Search()) for i in ids])
        return deleted

    with ThreadPoolExecutor(8) as pool:
        codes = set(pool.map(one, range(60)))

    assert codes <= {SUCCESS, MISSING}
    assert SUCCESS in codes
    assert sorted(names(app)) == ["a", "b"]


def test_filters_of_another_app_are_not_seen(app: App, server: Server, stub: V2Stub) -> None:
    add(app, AnnotationFilter(id="mine", search=Search()))
    other = new_app(server, stub)

    assert names(other) == []
    assert code(other.ask("GetAnnotationFilter", annotation_filter_id="mine")) == MISSING
    other.call("DeleteAnnotationFilters", annotation_filter_ids=["mine"])
    assert names(app) == ["mine"]


def test_over_rest(app: App) -> None:
    """As cURL sends it: camelCase, a number for the enum, a trailing slash."""
    body = {
        "annotationFilters": [
            {"id": "done", "search": {"query": {"filters": [{"annotation": {"status": {"code": 24150}}}]}}}
        ]
    }

    made = app.rest("POST", "/annotation_filters/", body)

    assert made["status"]["code"] == SUCCESS, made
    assert made["annotation_filters"][0]["search"]["query"]["filters"][0]["annotation"]["status"]["code"] == 24150
    assert [item["id"] for item in app.rest("GET", "/annotation_filters")["annotation_filters"]] == ["done"]
    assert app.rest("GET", "/annotation_filters/done")["annotation_filter"]["app_id"] == app.id
    bad = app.server.rest("POST", f"{app.path}/annotation_filters", {"annotation_filters": []})
    assert (bad.status_code, bad.json()["status"]["code"]) == (400, INVALID)
    gone = app.rest("DELETE", "/annotation_filters", {"annotation_filter_ids": ["done"]})
    assert gone["status"]["code"] == SUCCESS
    missing = app.server.rest("GET", f"{app.path}/annotation_filters/done")
    assert (missing.status_code, missing.json()["status"]["code"]) == (404, MISSING)
