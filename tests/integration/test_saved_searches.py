"""Saved searches: stored without being executed, executed by id, listed, changed, deleted (api-spec 4.10)."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from clarifai_grpc.grpc.api import resources_pb2, service_pb2, service_pb2_grpc
from clarifai_grpc.grpc.api.resources_pb2 import And, Annotation, Concept, Data, Filter, Input, Query, Rank, Search
from google.protobuf.timestamp_pb2 import Timestamp
from tests.integration.saving import code, instant, label, labelled, run, save, text
from tests.integration.serving import (
    PAT,
    SUCCESS,
    USER,
    App,
    Server,
    by_concept,
    by_image,
    hit_inputs,
    new_app,
    of_bytes,
    picture,
)

DUPLICATE, MISSING, INVALID, BAD_SEARCH, FORBIDDEN = 40010, 11101, 11102, 40002, 11007
#: A time that gRPC carries and JSON has no text for.
UNTIMELY = Filter(
    annotation=Annotation(data=Data(concepts=[Concept(id="a", value=1, created_at=Timestamp(nanos=2_000_000_000))]))
)


def stored(app: App, **page: int) -> list[str]:
    return [search.id for search in app.call("ListSearches", **page).searches]


# Saving --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Annotations", "Inputs", ""])
def test_saving_stores_a_search_and_does_not_execute_it(app: App, kind: str) -> None:
    app.post(text("a", "cat"))
    search = labelled("cat", id="cats", name="All cats", min_value=0.25, metric="COSINE_DISTANCE", save=True)

    answer = app.call(f"Post{kind}Searches", searches=[search])

    assert (answer.id, list(answer.hits), list(answer.hit_counts)) == ("", [], [])
    (echo,) = answer.searches
    assert (echo.id, echo.name, echo.application_id, echo.save) == ("cats", "All cats", app.id, True)
    assert (echo.min_value, echo.metric, echo.query) == (0.25, Search.COSINE_DISTANCE, search.query)
    assert echo.visibility.gettable == resources_pb2.Visibility.PRIVATE
    assert echo.created_at == echo.modified_at
    assert abs(datetime.now(UTC) - echo.created_at.ToDatetime(tzinfo=UTC)) < timedelta(minutes=1)
    assert app.call("GetSearch", id="cats").search == echo


def test_an_id_is_made_where_none_is_given(app: App) -> None:
    one, other = save(app, Search(), Search())

    assert len({one.id, other.id}) == 2
    assert len(one.id) == 32
    assert stored(app) == [other.id, one.id]


def test_without_save_nothing_is_stored(app: App) -> None:
    app.post(text("a", "cat"))

    answer = app.call("PostAnnotationsSearches", searches=[labelled("cat", id="cats", name="cats")])

    assert hit_inputs(answer.hits) == ["a"]
    assert answer.searches[0].id == "cats"
    assert not answer.searches[0].HasField("created_at")
    assert stored(app) == []
    assert code(app.ask("PostSearchesByID", id="cats")) == MISSING


def test_one_call_executes_some_and_saves_others(app: App) -> None:
    app.post(text("a", "cat"), text("b", "dog"))
    searches = [labelled("cat"), labelled("dog", id="dogs", save=True), labelled("dog")]

    answer = app.call("PostInputsSearches", searches=searches)

    assert hit_inputs(answer.hits) == ["a", "b"]
    assert [search.id for search in answer.searches] == ["", "dogs", ""]
    assert hit_inputs(run(app, "dogs")) == ["b"]


def test_a_taken_id_saves_none_of_the_call(app: App) -> None:
    save(app, labelled("cat", id="cats"))

    again = app.ask("PostInputsSearches", searches=[Search(id="new", save=True), labelled("dog", id="cats", save=True)])
    twice = app.ask("PostSearches", searches=[Search(id="two", save=True), Search(id="two", save=True)])

    assert (code(again), code(twice)) == (DUPLICATE, DUPLICATE)
    assert "'cats'" in again.status.details
    assert "'two'" in twice.status.details
    assert stored(app) == ["cats"]
    assert app.call("GetSearch", id="cats").search.query.filters[0].annotation.data.concepts[0].id == "cat"


@pytest.mark.parametrize(
    ("search", "status", "said"),
    [
        (Search(algorithm="guessing"), BAD_SEARCH, "algorithm"),
        (Search(min_value=2), BAD_SEARCH, "min_value"),
        (Search(as_of=Timestamp(seconds=10**15)), BAD_SEARCH, "as_of"),
        (Search(as_of=Timestamp(nanos=-5)), BAD_SEARCH, "as_of"),
        (Search(query=Query(filters=[UNTIMELY])), BAD_SEARCH, "created_at"),
        (labelled("cat", Rank(annotation=Annotation(data=Data(concepts=[Concept(value=1)])))), BAD_SEARCH, "ranks[0]"),
        (Search(id="a b"), INVALID, "'a b'"),
        (Search(id="x" * 129), INVALID, "128 letters"),
        (Search(id="zero\0"), INVALID, "128 letters"),
        (Search(name="n" * 300_000), BAD_SEARCH, "262144"),
        (Search(query=Query(ranks=[by_image(b"\xff" * 21_000_000)])), BAD_SEARCH, "input instead"),
    ],
)
def test_a_bad_search_is_refused_when_it_is_saved(app: App, search: Search, status: int, said: str) -> None:
    search.save = True

    answer = app.ask("PostAnnotationsSearches", searches=[Search(id="fine", save=True), search])

    assert code(answer) == status, answer.status
    assert said in answer.status.details
    assert stored(app) == []


def test_what_is_wrong_is_said_of_the_search_it_is_in(app: App) -> None:
    bad = app.ask("PostAnnotationsSearches", searches=[Search(), Search(min_value=2)])
    only = app.ask("PostAnnotationsSearches", searches=[Search(min_value=2)])

    assert bad.status.details.startswith("searches[1]: min_value")
    assert only.status.details.startswith("min_value")


def test_a_search_may_name_what_is_not_there_yet(app: App) -> None:
    save(app, labelled("mine", id="filter"), labelled("mine", by_concept("mine"), id="rank"))
    assert run(app, "filter") == []
    assert code(app.ask("PostSearchesByID", id="rank")) == BAD_SEARCH

    app.indexed(of_bytes(picture(1), "a", concepts=[Concept(id="mine", value=1)]))

    assert hit_inputs(run(app, "filter")) == hit_inputs(run(app, "rank")) == ["a"]


def test_a_failing_search_beside_it_leaves_nothing_saved(app: App) -> None:
    unknown = Search(query=Query(ranks=[by_concept("nobody-knows-this")]))

    answer = app.ask("PostInputsSearches", searches=[Search(id="fine", save=True), unknown])

    assert code(answer) == BAD_SEARCH
    assert stored(app) == []


# Executing -----------------------------------------------------------------------------------------------------------


def test_a_search_is_executed_as_it_was_posted(app: App) -> None:
    """One hit for each annotation, one for each input, and the legacy form with what only it reads."""
    app.post(text("a", "cat"), text("b", "cat", "dog"))
    label(app, "a", "cat")
    legacy = Search(id="l", query=Query(ands=[And(input=Input(data=Data(concepts=[Concept(id="dog", value=1)])))]))
    save(app, labelled("cat", id="an"))
    save(app, labelled("cat", id="in"), kind="Inputs")
    save(app, legacy, kind="")

    found = {name: hit_inputs(run(app, name)) for name in ("an", "in", "l")}

    assert found == {"an": ["a", "b", "a"], "in": ["a", "b"], "l": ["b"]}
    answer = app.call("PostSearchesByID", id="an")
    assert {hit.score for hit in answer.hits} == {1.0}
    assert answer.id not in ("", app.call("PostSearchesByID", id="an").id)
    assert [(search.id, search.application_id) for search in answer.searches] == [("an", app.id)]


def test_the_same_hits_by_id_as_when_posted(app: App) -> None:
    app.indexed(*(of_bytes(picture(n), f"i{n}", concepts=[Concept(id="mine", value=1)]) for n in range(6)))
    search = labelled("mine", by_image(picture(3)), min_value=0.6, id="like-3")
    posted = app.call("PostAnnotationsSearches", searches=[search]).hits
    save(app, search)

    found = run(app, "like-3")

    assert found == list(posted)
    assert hit_inputs(found)[0] == "i3"
    assert min(hit.score for hit in found) >= 0.6
    pages = [hit_inputs(run(app, "like-3", page=n, per_page=2)) for n in (1, 2, 3, 4)]
    assert [name for page in pages for name in page] == hit_inputs(found)
    assert len(pages[0]) == 2


def test_pages_by_id_have_the_bounds_of_searches(app: App) -> None:
    save(app, Search(id="all"))

    many = app.ask("PostSearchesByID", id="all", pagination=service_pb2.Pagination(per_page=1001))
    deep = app.ask("PostSearchesByID", id="all", pagination=service_pb2.Pagination(page=11, per_page=1000))

    assert code(many) == INVALID
    assert code(deep) == BAD_SEARCH
    assert "page * perPage cannot exceed" in deep.status.details


@pytest.mark.parametrize("rpc", ["GetSearch", "PostSearchesByID", "DeleteSearch"])
@pytest.mark.parametrize("search_id", ["nothing", "", "zero\0", "a/b"])
def test_an_unknown_id_does_not_exist(app: App, rpc: str, search_id: str) -> None:
    answer = app.ask(rpc, id=search_id)
    assert code(answer) == MISSING
    assert "no saved search" in answer.status.details


def test_searches_of_another_app_are_not_seen(app: App, server: Server, stub: service_pb2_grpc.V2Stub) -> None:
    save(app, Search(id="mine"))
    other = new_app(server, stub)

    assert stored(other) == []
    for rpc in ("GetSearch", "PostSearchesByID", "DeleteSearch"):
        assert code(other.ask(rpc, id="mine")) == MISSING
    save(other, Search(id="mine"))
    other.call("DeleteSearch", id="mine")
    assert stored(app) == ["mine"]


def test_me_in_a_saved_filter_is_who_executes_it(app: App) -> None:
    app.post(text("a"))
    mine = Search(id="mine", query=Query(filters=[Filter(annotation=Annotation(user_id="me"))]))
    save(app, mine)

    assert hit_inputs(run(app, "mine")) == ["a"]
    assert app.call("GetSearch", id="mine").search.query == mine.query


# Images --------------------------------------------------------------------------------------------------------------


def test_only_get_shows_the_images_in_a_search(app: App) -> None:
    image, language = picture(1), "de"
    query = Query(ranks=[by_image(image)], language=language)
    (echo,) = save(app, Search(id="like", query=query))
    app.indexed(of_bytes(image, "same"), of_bytes(picture(2), "other"))

    answer = app.call("PostSearchesByID", id="like")

    assert hit_inputs(answer.hits)[0] == "same"
    assert app.call("GetSearch", id="like").search.query == query
    (listed,) = app.call("ListSearches").searches
    for shown in (echo, listed, answer.searches[0]):
        assert shown.query.language == language
        assert shown.query.ranks[0].annotation.data.image.base64 == b""


# Lists ---------------------------------------------------------------------------------------------------------------


def test_lists_are_newest_first_and_paged(app: App) -> None:
    save(app, Search(id="a"), Search(id="b"))
    save(app, Search(id="c"), kind="Inputs")
    save(app, Search(id="d"), kind="")

    assert stored(app) == ["d", "c", "b", "a"]
    assert [stored(app, page=n, per_page=3) for n in (1, 2, 3)] == [["d", "c", "b"], ["a"], []]
    beyond = app.call("ListSearches", page=1000, per_page=500)
    assert [field.name for field, _ in beyond.ListFields()] == ["status"]
    assert code(app.ask("ListSearches", per_page=1001)) == INVALID


def test_deleting_frees_the_id(app: App) -> None:
    save(app, labelled("cat", id="s"))

    app.call("DeleteSearch", id="s")

    assert stored(app) == []
    save(app, labelled("dog", id="s"), kind="Inputs")
    assert stored(app) == ["s"]


def test_an_app_takes_its_searches_along(app: App) -> None:
    save(app, Search(id="s"))
    rows = "SELECT count(*) FROM searches WHERE id = 's' AND bucket = %s"
    ((bucket,),) = app.server.sql("SELECT first_bucket FROM apps WHERE id = %s", app.id)
    assert app.server.sql(rows, bucket) == [(1,)]

    app.call("DeleteApp")

    assert app.server.sql(rows, bucket) == [(0,)]


# Patching ------------------------------------------------------------------------------------------------------------


def patch(app: App, *searches: Search, kind: str = "", action: str = "overwrite") -> Any:
    return app.ask(f"Patch{kind}Searches", searches=searches, action=action)


def test_overwriting_replaces_what_is_set(app: App) -> None:
    app.post(text("a", "cat"), text("b", "dog"))
    (before,) = save(app, labelled("cat", id="s", name="cats", min_value=0.5, algorithm="brute_force"))

    answer = patch(app, labelled("dog", id="s", metric="COSINE_DISTANCE"))

    assert code(answer) == SUCCESS
    (after,) = answer.searches
    assert after == app.call("GetSearch", id="s").search
    assert (after.name, after.min_value, after.algorithm) == ("cats", 0.5, "brute_force")
    assert (after.metric, after.query) == (Search.COSINE_DISTANCE, labelled("dog").query)
    assert after.created_at == before.created_at
    assert after.modified_at.ToDatetime() > before.modified_at.ToDatetime()
    assert hit_inputs(run(app, "s")) == ["b"]


def test_a_visibility_can_be_patched(app: App) -> None:
    save(app, Search(id="s"))
    public = resources_pb2.Visibility(gettable=resources_pb2.Visibility.PUBLIC)
    assert code(patch(app, Search(id="s", visibility=public))) == SUCCESS
    assert app.call("GetSearch", id="s").search.visibility == public


def test_what_the_server_says_of_a_search_is_not_patched(app: App) -> None:
    (before,) = save(app, Search(id="s"))
    patch(app, Search(id="s", application_id="other", created_at=instant(datetime(2001, 1, 1)), git_hash="x"))
    after = app.call("GetSearch", id="s").search
    assert (after.application_id, after.created_at, after.git_hash) == (app.id, before.created_at, "")


def test_a_search_stays_of_its_kind_unless_the_rpc_names_another(app: App) -> None:
    app.post(text("a", "cat"))
    label(app, "a", "cat")
    save(app, labelled("cat", id="s"))

    found = []
    for kind in ("", "Inputs", "", "Annotations"):
        assert code(patch(app, Search(id="s", name=kind), kind=kind)) == SUCCESS
        found.append(len(run(app, "s")))

    assert found == [2, 1, 1, 2]


def test_a_query_must_fit_the_kind_it_becomes(app: App) -> None:
    save(app, Search(id="s", query=Query(ands=[And(input=Input(id="a"))])), kind="")

    assert code(patch(app, Search(id="s"), kind="Annotations")) == BAD_SEARCH
    assert code(patch(app, Search(id="s", min_value=3))) == BAD_SEARCH
    assert app.call("GetSearch", id="s").search.min_value == 0


@pytest.mark.parametrize("kind", ["", "Inputs", "Annotations"])
def test_patches_are_all_or_none(app: App, kind: str) -> None:
    save(app, Search(id="s", name="before"))

    unknown = patch(app, Search(id="s", name="after"), Search(id="nothing"), kind=kind)

    assert code(unknown) == MISSING
    assert "'nothing'" in unknown.status.details
    assert app.call("GetSearch", id="s").search.name == "before"


@pytest.mark.parametrize("action", ["merge", "remove", "", "Overwrite"])
def test_other_actions_are_refused(app: App, action: str) -> None:
    save(app, Search(id="s", name="before"))
    assert code(patch(app, Search(id="s", name="after"), action=action)) == INVALID
    assert app.call("GetSearch", id="s").search.name == "before"


@pytest.mark.parametrize("searches", [[], [Search(name="x")], [Search(id="s"), Search(id="s")]])
def test_a_patch_names_each_search_once(app: App, searches: list[Search]) -> None:
    save(app, Search(id="s"))
    assert code(patch(app, *searches)) == INVALID


# Who may -------------------------------------------------------------------------------------------------------------


def key_with(app: App, *scopes: str) -> App:
    """The same app through a key of these scopes."""
    key = resources_pb2.Key(scopes=scopes, apps=[resources_pb2.App(id=app.id, user_id=USER)])
    request = service_pb2.PostKeysRequest(user_app_id=resources_pb2.UserAppIDSet(user_id=USER), keys=[key])
    answer = app.stub.PostKeys(request, metadata=(("authorization", f"Key {PAT}"),))
    assert code(answer) == SUCCESS, answer
    return App(server=app.server, stub=app.stub, id=app.id, key=answer.keys[0].id)


def test_who_may_search_may_not_save(app: App) -> None:
    scopes = ("Annotations_Get", "Apps_Get", "Concepts_Get", "Inputs_Get", "Models_Get", "Search", "Workflows_Get")
    reader, writer = key_with(app, *scopes), key_with(app, *scopes, "SavedSearch_Get", "SavedSearch_Add")

    assert code(reader.ask("PostAnnotationsSearches", searches=[Search()])) == SUCCESS
    refused = reader.ask("PostAnnotationsSearches", searches=[Search(id="s", save=True)])
    assert code(refused) == FORBIDDEN
    assert "SavedSearch_Add" in refused.status.details
    assert code(reader.ask("PostSearchesByID", id="s")) == FORBIDDEN
    assert code(writer.ask("PostAnnotationsSearches", searches=[Search(id="s", save=True)])) == SUCCESS
    assert code(writer.ask("PostSearchesByID", id="s")) == SUCCESS
    assert code(writer.ask("DeleteSearch", id="s")) == FORBIDDEN


def test_nobody_saves_into_somebody_elses_app(app: App) -> None:
    request = service_pb2.PostInputsSearchesRequest(
        user_app_id=resources_pb2.UserAppIDSet(user_id="clarifai", app_id="main"), searches=[Search(save=True)]
    )
    answer = app.stub.PostInputsSearches(request, metadata=(("authorization", f"Key {PAT}"),))
    assert code(answer) == FORBIDDEN
    assert "read-only" in answer.status.details


# At the same time ----------------------------------------------------------------------------------------------------


def test_of_many_who_save_the_same_ids_one_wins(app: App) -> None:
    """In opposite orders, and each with one of its own, so that a loser shows that it saved nothing."""
    start = threading.Barrier(8)
    shared = [f"same-{n}" for n in range(31)]

    def one(n: int) -> int:
        searches = [Search(id=name, name=str(n), save=True) for name in (shared if n % 2 else shared[::-1])]
        start.wait()
        return code(app.ask("PostAnnotationsSearches", searches=[*searches, Search(id=f"own-{n}", save=True)]))

    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(one, range(8)))

    assert sorted(codes) == [SUCCESS] + [DUPLICATE] * 7
    winner = codes.index(SUCCESS)
    assert sorted(stored(app)) == sorted([*shared, f"own-{winner}"])
    assert {search.name for search in app.call("ListSearches").searches} == {str(winner), ""}


def test_patches_in_opposite_orders_do_not_wait_for_each_other(app: App) -> None:
    save(app, Search(id="a"), Search(id="b"))

    def change(n: int) -> int:
        both = [Search(id="a", name=str(n)), Search(id="b", name=str(n))]
        return code(patch(app, *(both if n % 2 else both[::-1])))

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(change, range(48))) == {SUCCESS}
    assert len({app.call("GetSearch", id=name).search.name for name in "ab"}) == 1


def test_a_search_is_executed_before_or_after_it_is_changed_or_deleted(app: App) -> None:
    app.post(text("a", "cat"), text("b", "dog"))
    save(app, labelled("cat", id="s"))
    done = threading.Event()

    def execute() -> set[tuple[int, tuple[str, ...]]]:
        seen = set()
        while not done.is_set():
            answer = app.ask("PostSearchesByID", id="s")
            seen.add((code(answer), tuple(hit_inputs(answer.hits))))
        return seen

    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(execute) for _ in range(3)]
        try:
            for name in ("dog", "cat") * 10:
                assert code(patch(app, labelled(name, id="s"))) == SUCCESS
            app.call("DeleteSearch", id="s")
        finally:
            done.set()
        seen = set().union(*(each.result() for each in running))

    assert seen <= {(SUCCESS, ("a",)), (SUCCESS, ("b",)), (MISSING, ())}
    assert {(SUCCESS, ("a",)), (SUCCESS, ("b",))} <= seen
