"""Members of datasets: joining by id and by search, listing, leaving, and what searches see of it (api-spec 3.2)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import psycopg
import pytest
from clarifai_grpc.grpc.api.resources_pb2 import (
    And,
    Annotation,
    Concept,
    Data,
    Dataset,
    DatasetInput,
    Filter,
    Input,
    Query,
    Rank,
    Search,
    Text,
)
from clarifai_grpc.grpc.api.service_pb2_grpc import V2Stub
from psycopg import sql
from tests.integration.serving import (
    FAILURE,
    MIXED,
    SUCCESS,
    App,
    Server,
    by_image,
    new_app,
    of_bytes,
    picture,
    wait_for,
)

from sightrank.search.query import Query as ParsedQuery
from sightrank.search.query import Unit
from sightrank.search.sql import FilterScope, page
from sightrank.store import queries
from sightrank.store.embedded import EmbeddedServer


def note(input_id: str, *concepts: Concept, datasets: Sequence[str] = ()) -> Input:
    """An input that costs nothing to index."""
    return Input(id=input_id, data=Data(text=Text(raw=input_id), concepts=concepts), dataset_ids=datasets)


def has(concept_id: str, value: float = 1.0) -> Concept:
    return Concept(id=concept_id, value=value)


def labelled(*concepts: Concept, negate: bool = False) -> Filter:
    return Filter(annotation=Annotation(data=Data(concepts=concepts)), negate=negate)


def within(*datasets: str, negate: bool = False) -> Filter:
    return Filter(input=Input(dataset_ids=datasets), negate=negate)


def search(*filters: Filter, **fields: Any) -> Search:
    return Search(query=Query(filters=filters), **fields)


def named(*ids: str) -> list[DatasetInput]:
    return [DatasetInput(input=Input(id=input_id)) for input_id in ids]


def members(app: App, dataset_id: str, **fields: Any) -> list[str]:
    listed = app.call("ListDatasetInputs", dataset_id=dataset_id, **fields).dataset_inputs
    return [item.input.id for item in listed]


def found(app: App, *filters: Filter, annotations: bool = False) -> list[str]:
    """Ids of the inputs that a search by these filters finds, in order of creation."""
    rpc = "PostAnnotationsSearches" if annotations else "PostInputsSearches"
    return [hit.input.id for hit in app.call(rpc, searches=[search(*filters)]).hits]


def version(app: App) -> int:
    """The version of the app's bucket."""
    rows = app.server.sql(
        "SELECT b.version FROM app_buckets b JOIN apps a ON a.first_bucket = b.bucket WHERE a.id = %s", app.id
    )
    return int(rows[0][0])


@pytest.fixture
def notes(app: App) -> App:
    """Inputs i0 to i5, the even ones labelled `even`, and the empty datasets a and b."""
    app.call("PostDatasets", datasets=[Dataset(id="a"), Dataset(id="b")])
    app.indexed(*(note(f"i{n}", has("even", 1.0 - n % 2)) for n in range(6)))
    return app


# By id ----------------------------------------------------------------------------------------------------------------


def test_inputs_join_by_id_and_are_listed_newest_member_first(notes: App) -> None:
    joined = notes.call("PostDatasetInputs", dataset_id="a", dataset_inputs=named("i3", "i0")).dataset_inputs
    notes.call("PostDatasetInputs", dataset_id="a", dataset_inputs=named("i5"))

    assert [item.input.id for item in joined] == ["i3", "i0"]
    assert joined[0].created_at.ToDatetime() < joined[1].created_at.ToDatetime()
    assert joined[0].created_at.ToDatetime() > joined[0].input.created_at.ToDatetime()
    assert joined[1].input.data.text.raw == "i0"
    assert [concept.id for concept in joined[1].input.data.concepts] == ["even"]
    assert list(joined[1].input.dataset_ids) == []
    assert members(notes, "a") == ["i5", "i0", "i3"]
    assert members(notes, "a", per_page=2) == ["i5", "i0"]
    assert members(notes, "a", per_page=2, page=2) == ["i3"]
    assert members(notes, "a", per_page=2, page=3) == []
    assert members(notes, "b") == []
    assert list(notes.call("GetInput", input_id="i0").input.dataset_ids) == []


def test_one_member(notes: App) -> None:
    (joined,) = notes.call("PostDatasetInputs", dataset_id="a", dataset_inputs=named("i1")).dataset_inputs
    one = notes.call("GetDatasetInput", dataset_id="a", input_id="i1").dataset_input
    assert (one.input.id, one.created_at) == ("i1", joined.created_at)
    for dataset_id, input_id in (("b", "i1"), ("a", "i2"), ("a", "un\0known"), ("unknown", "i1"), ("a", "")):
        assert notes.ask("GetDatasetInput", dataset_id=dataset_id, input_id=input_id).status.code == 11101


def test_who_is_a_member_already_stays_as_it_was(notes: App) -> None:
    (first,) = notes.call("PostDatasetInputs", dataset_id="a", dataset_inputs=named("i1")).dataset_inputs
    before = version(notes)
    again = notes.call("PostDatasetInputs", dataset_id="a", dataset_inputs=named("i1", "i1")).dataset_inputs
    assert [(item.input.id, item.created_at) for item in again] == [("i1", first.created_at)] * 2
    assert version(notes) == before
    assert members(notes, "a") == ["i1"]


def test_an_unknown_input_fails_alone(notes: App) -> None:
    mixed = notes.ask("PostDatasetInputs", dataset_id="a", dataset_inputs=named("i1", "unknown", "un\0known", "i2"))
    assert mixed.status.code == MIXED
    assert [item.input.id for item in mixed.dataset_inputs] == ["i1", "unknown", "un\0known", "i2"]
    assert [item.input.status.code == 30102 for item in mixed.dataset_inputs] == [False, True, True, False]
    assert "'unknown'" in mixed.dataset_inputs[1].input.status.details
    none = notes.ask("PostDatasetInputs", dataset_id="a", dataset_inputs=named("nobody"))
    assert none.status.code == FAILURE
    assert members(notes, "a") == ["i2", "i1"]


def test_requests_that_name_nothing_or_too_much(notes: App) -> None:
    for fields, code in (
        ({"dataset_id": "a"}, 11102),
        ({"dataset_id": "a", "dataset_inputs": named("i1"), "search": search()}, 11102),
        ({"dataset_id": "a", "dataset_inputs": named("i1", "")}, 11102),
        ({"dataset_id": "a", "dataset_inputs": named(*map(str, range(129)))}, 39999),
        ({"dataset_id": "unknown", "dataset_inputs": named("i1")}, 11101),
        ({"dataset_id": "un\0known", "dataset_inputs": named("i1")}, 11101),
        ({"dataset_id": "unknown", "search": search()}, 11101),
    ):
        assert notes.ask("PostDatasetInputs", **fields).status.code == code, fields
    assert notes.ask("ListDatasetInputs", dataset_id="unknown").status.code == 11101
    assert notes.ask("DeleteDatasetInputs", dataset_id="unknown", input_ids=["i1"]).status.code == 11101
    too_many = notes.ask("DeleteDatasetInputs", dataset_id="a", input_ids=[*map(str, range(129))])
    assert too_many.status.code == 39999
    assert members(notes, "a") == []


def test_inputs_leave_and_stay_in_the_app(notes: App) -> None:
    notes.call("PostDatasetInputs", dataset_id="a", dataset_inputs=named("i0", "i1", "i2"))
    notes.call("DeleteDatasetInputs", dataset_id="a", input_ids=["i1", "i4", "unknown", "un\0known"])
    assert notes.ask("DeleteDatasetInputs", dataset_id="a").status.code == 11102
    assert members(notes, "a") == ["i2", "i0"]
    assert notes.call("GetInput", input_id="i1").input.id == "i1"


def test_a_deleted_input_is_no_member(notes: App) -> None:
    notes.call("PostDatasetInputs", dataset_id="a", dataset_inputs=named("i0", "i1"))
    notes.call("DeleteInputs", ids=["i1"])
    assert members(notes, "a") == ["i0"]


def test_members_are_of_one_app(notes: App, server: Server, stub: V2Stub) -> None:
    other = new_app(server, stub)
    other.call("PostDatasets", datasets=[Dataset(id="a")])
    assert other.ask("PostDatasetInputs", dataset_id="a", dataset_inputs=named("i1")).status.code == FAILURE
    other.call("PostDatasetInputs", dataset_id="a", search=search())
    assert members(other, "a") == []


# By search ------------------------------------------------------------------------------------------------------------


def test_a_search_by_dataset_copies_all_its_inputs(notes: App) -> None:
    notes.call("PostDatasetInputs", dataset_id="a", dataset_inputs=named("i4", "i1"))
    notes.call("PostDatasetInputs", dataset_id="b", dataset_inputs=named("i1", "i3"))
    answer = notes.call("PostDatasetInputs", dataset_id="b", search=search(within("a")))
    assert list(answer.dataset_inputs) == []
    assert set(members(notes, "b")) == {"i1", "i3", "i4"}
    assert members(notes, "a") == ["i1", "i4"]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([], "012345"),
        ([Filter()], "012345"),
        ([labelled(has("even"))], "024"),
        ([labelled(has("even"), negate=True)], "135"),
        ([labelled(has("even", 0.0))], "135"),
        ([labelled(has("even")), within("a")], "04"),
        ([within("a", "unknown", negate=True)], "1235"),
        ([labelled(has("never-heard-of"))], ""),
        ([within("unknown")], ""),
        ([Filter(annotation=Annotation(input_id="i3"))], "3"),
    ],
)
def test_all_that_filters_leave_join(notes: App, filters: list[Filter], expected: str) -> None:
    notes.call("PostDatasetInputs", dataset_id="a", dataset_inputs=named("i0", "i4"))
    notes.call("PostDatasetInputs", dataset_id="b", search=search(*filters))
    assert members(notes, "b") == [f"i{n}" for n in expected[::-1]]
    assert found(notes, within("b")) == [f"i{n}" for n in expected]


def test_a_search_in_the_legacy_form(notes: App) -> None:
    even = And(input=Input(data=Data(concepts=[has("even")])))
    notes.call("PostDatasetInputs", dataset_id="a", search=Search(query=Query(ands=[even])))
    assert members(notes, "a") == ["i4", "i2", "i0"]


def test_a_search_of_the_past(notes: App) -> None:
    before = datetime.now(UTC)
    notes.call("PostAnnotations", annotations=[Annotation(input_id="i1", data=Data(concepts=[has("odd")]))])
    after = datetime.now(UTC) + timedelta(seconds=60)
    for dataset_id, moment in (("a", before), ("b", after)):
        asked = search(labelled(has("odd")))
        asked.as_of.FromDatetime(moment)
        notes.call("PostDatasetInputs", dataset_id=dataset_id, search=asked)
    assert (members(notes, "a"), members(notes, "b")) == ([], ["i1"])


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (Search(query=Query(ranks=[by_image(b"x")])), "ranks"),
        (search(save=True, id="s"), "save"),
        (search(within("a"), algorithm="psychic"), "algorithm"),
        (search(Filter(input=Input(dataset_ids=["\0"]))), "NUL"),
    ],
)
def test_searches_that_choose_no_members(notes: App, asked: Search, told: str) -> None:
    refused = notes.ask("PostDatasetInputs", dataset_id="a", search=asked)
    assert refused.status.code == 40002
    assert told in refused.status.details
    assert members(notes, "a") == []


def test_an_empty_rank_is_no_rank(notes: App) -> None:
    query = Query(filters=[within("a", negate=True)], ranks=[Rank(annotation=Annotation())])
    notes.call("PostDatasetInputs", dataset_id="a", search=Search(query=query))
    assert len(members(notes, "a")) == 6


def test_a_search_adds_more_than_a_page_of_hits(app: App) -> None:
    """12,000 inputs, written where they are stored: posting them would take a minute."""
    app.call("PostDatasets", datasets=[Dataset(id="all")])
    app.server.sql(
        "INSERT INTO inputs (bucket, id, created_at, modified_at, status, media)"
        " SELECT a.first_bucket, 'n' || n, now(), now(), 30000, 'text' FROM apps a, generate_series(1, 12000) n"
        " WHERE a.id = %s RETURNING number",
        app.id,
    )
    app.call("PostDatasetInputs", dataset_id="all", search=search())
    (counted,) = app.call("PostInputsSearches", searches=[search(within("all"))], only_count=True).hit_counts
    assert counted.estimated_total == 12000
    assert len(members(app, "all", per_page=1000, page=12)) == 1000
    assert members(app, "all", per_page=1000, page=13) == []


def test_a_search_for_members_works_out_nothing_but_their_numbers(app: App) -> None:
    """A hit also has an annotation, found input by input: for all inputs of an app that would take minutes."""
    query = ParsedQuery(unit=Unit.INPUT, filters=(), ranks=(), min_value=0.0, offset=0, limit=2**62)
    found = page(query, FilterScope(bucket=1, concepts={}))
    statement = sql.SQL(queries.load("datasets")["hold_found_inputs"]).format(
        bucket=sql.Literal(1), dataset_id=sql.Literal("a"), found=found
    )
    with transaction(app) as connection:
        plan = "\n".join(line for (line,) in connection.execute(sql.SQL("EXPLAIN {}").format(statement)))
    assert "inputs" in plan
    assert "annotations" not in plan


# What searches see ----------------------------------------------------------------------------------------------------


def test_searches_see_every_change_at_once(app: App) -> None:
    app.call("PostDatasets", datasets=[Dataset(id="a"), Dataset(id="b")])
    app.indexed(*(of_bytes(picture(n), f"p{n}") for n in range(3)))
    rank = by_image(picture(0))

    def ranked(*filters: Filter) -> list[str]:
        query = Query(filters=filters, ranks=[rank])
        hits = app.call("PostAnnotationsSearches", searches=[Search(query=query)]).hits
        return sorted(hit.input.id for hit in hits)

    changes: list[tuple[Callable[[], Any], list[str]]] = [
        (lambda: None, []),
        (lambda: app.call("PostDatasetInputs", dataset_id="a", dataset_inputs=named("p0", "p2")), ["p0", "p2"]),
        (lambda: app.call("PostDatasetInputs", dataset_id="b", dataset_inputs=named("p1")), ["p0", "p2"]),
        (lambda: app.call("PostDatasetInputs", dataset_id="a", search=search(within("b"))), ["p0", "p1", "p2"]),
        (lambda: app.call("DeleteDatasetInputs", dataset_id="a", input_ids=["p0"]), ["p1", "p2"]),
        (lambda: app.call("DeleteInputs", ids=["p1"]), ["p2"]),
        (lambda: app.call("DeleteDatasets", dataset_ids=["a"]), []),
    ]
    for change, expected in changes:
        change()
        assert ranked(within("a")) == expected
        assert found(app, within("a")) == expected
        assert set(found(app, within("a", negate=True), annotations=True)).isdisjoint(expected)


def test_only_changes_raise_the_version(notes: App) -> None:
    def rise(rpc: str, **fields: Any) -> int:
        before = version(notes)
        assert notes.ask(rpc, **fields).status.code in (SUCCESS, MIXED, FAILURE)
        return version(notes) - before

    assert rise("PostDatasetInputs", dataset_id="a", dataset_inputs=named("i0", "unknown")) == 1
    assert rise("PostDatasetInputs", dataset_id="a", dataset_inputs=named("i0", "unknown")) == 0
    assert rise("PostDatasetInputs", dataset_id="b", search=search(within("a"))) == 1
    assert rise("PostDatasetInputs", dataset_id="b", search=search(within("a"))) == 0
    assert rise("DeleteDatasetInputs", dataset_id="b", input_ids=["i0"]) == 1
    assert rise("DeleteDatasetInputs", dataset_id="b", input_ids=["i0"]) == 0
    assert rise("PatchDatasets", action="merge", datasets=[Dataset(id="a", notes="x")]) == 0
    assert rise("DeleteDatasets", dataset_ids=["unknown"]) == 0
    assert rise("DeleteDatasets", dataset_ids=["a"]) == 1


# REST -----------------------------------------------------------------------------------------------------------------


def test_over_rest(notes: App) -> None:
    body = {"dataset_inputs": [{"input": {"id": "i1"}}, {"input": {"id": "nobody"}}]}
    posted = notes.rest("POST", "/datasets/a/inputs", body)
    assert posted["status"]["code"] == MIXED
    assert posted["dataset_inputs"][1]["input"]["status"]["code"] == 30102
    by_search = {"search": {"query": {"filters": [{"annotation": {"data": {"concepts": [{"id": "even"}]}}}]}}}
    assert notes.rest("POST", "/datasets/a/inputs", by_search)["status"]["code"] == SUCCESS
    listed = notes.rest("GET", "/datasets/a/inputs?per_page=3")["dataset_inputs"]
    assert [item["input"]["id"] for item in listed] == ["i4", "i2", "i0"]
    assert notes.rest("GET", "/datasets/a/inputs/i1")["dataset_input"]["input"]["data"]["text"]["raw"] == "i1"
    assert notes.rest("DELETE", "/datasets/a/inputs", {"input_ids": ["i1"]})["status"]["code"] == SUCCESS
    assert notes.rest("GET", "/datasets/a/inputs/i1")["status"]["code"] == 11101
    assert notes.rest("GET", "/datasets/b/inputs")["dataset_inputs"] == []


# At once --------------------------------------------------------------------------------------------------------------


def test_joining_leaving_and_deleting_at_once_end_in_order(app: App) -> None:
    """Whoever comes first, nobody gets an internal error, and no membership outlives its input or dataset."""
    ids = [f"i{n}" for n in range(24)]
    datasets = ["a", "b", "c"]
    app.call("PostDatasets", datasets=[Dataset(id=name) for name in datasets])
    app.post(*(note(name, has("x"), datasets=["a"]) for name in ids))
    calls: list[Callable[[], Any]] = []
    for turn in range(12):
        order = ids[turn:] + ids[:turn] if turn % 2 else ids[::-1]
        into, out_of = datasets[turn % 3], datasets[(turn + 1) % 3]
        more = [note(f"n{turn}-{n}", has("x"), datasets=["ab"[turn % 2]]) for n in range(4)]
        calls += [
            partial(app.ask, "PostDatasetInputs", dataset_id=into, dataset_inputs=named(*order)),
            partial(app.ask, "PostDatasetInputs", dataset_id=into, search=search(within(out_of))),
            partial(app.ask, "DeleteDatasetInputs", dataset_id=out_of, input_ids=order[:12]),
            partial(app.ask, "PostInputs", inputs=more),
            partial(app.ask, "DeleteInputs", ids=order[:2]),
        ]
        if turn % 4 == 3:
            calls.append(partial(app.ask, "DeleteDatasets", dataset_ids=["c"]))
            calls.append(partial(app.ask, "PostDatasets", datasets=[Dataset(id="c")]))

    with ThreadPoolExecutor(12) as threads:
        codes = {answer.status.code for answer in threads.map(lambda call: call(), calls)}

    assert codes <= {SUCCESS, MIXED, FAILURE, 11101, 40010}, codes
    present = {item.id for item in app.call("ListInputs", per_page=1000).inputs}
    for name in (dataset.id for dataset in app.call("ListDatasets").datasets):
        assert sorted(members(app, name, per_page=1000)) == sorted(found_all(app, name))
        assert set(members(app, name, per_page=1000)) <= present


def found_all(app: App, dataset_id: str) -> list[str]:
    searches = [search(within(dataset_id))]
    hits = app.call("PostInputsSearches", searches=searches, pagination={"per_page": 1000}).hits
    return [hit.input.id for hit in hits]


@contextmanager
def transaction(app: App) -> Iterator[psycopg.Connection[Any]]:
    """A transaction in the server's database beside the server's own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package looks for a runtime folder that not every machine has
        embedded = EmbeddedServer(app.server.data_dir, memory_bytes=2**29)
        url = app.server.settings.get("SIGHTRANK_DATABASE_URL") or embedded.url_of_running()
    with psycopg.connect(url) as connection:
        yield connection


def waiting(app: App) -> bool:
    """Whether a statement of the server waits for a lock."""
    return bool(app.server.sql("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"))


def answered_beside(app: App, statement: str, rpc: str, **fields: Any) -> Any:
    """The answer of an rpc that had to wait for a transaction, in which the statement was given the app's id."""
    with ThreadPoolExecutor(1) as threads:
        with transaction(app) as connection:
            connection.execute(statement.encode(), [app.id])
            answer = threads.submit(app.ask, rpc, **fields)
            wait_for(f"{rpc} to wait", lambda: waiting(app) or answer.done())
            assert not answer.done()
        return answer.result()


_OF_APP = "bucket = (SELECT first_bucket FROM apps WHERE id = %s)"  # the app of a statement


def test_a_dataset_that_goes_while_inputs_join_is_not_there(notes: App) -> None:
    gone = f"DELETE FROM datasets WHERE id = 'a' AND {_OF_APP}"
    answer = answered_beside(notes, gone, "PostDatasetInputs", dataset_id="a", dataset_inputs=named("i1"))
    assert (answer.status.code, "'a'" in answer.status.details) == (11101, True)


def test_an_input_that_goes_while_it_joins_is_not_there(notes: App) -> None:
    gone = f"DELETE FROM inputs WHERE id = 'i1' AND {_OF_APP}"
    answer = answered_beside(notes, gone, "PostDatasetInputs", dataset_id="a", dataset_inputs=named("i1", "i2"))
    assert [item.input.status.code for item in answer.dataset_inputs] == [30102, 30000]
    gone = f"DELETE FROM inputs WHERE id = 'i2' AND {_OF_APP}"
    assert answered_beside(notes, gone, "PostDatasetInputs", dataset_id="b", search=search()).status.code == SUCCESS
    assert set(members(notes, "b")) == {"i0", "i3", "i4", "i5"}


def test_posting_into_a_dataset_that_goes_meanwhile(notes: App) -> None:
    gone = f"DELETE FROM datasets WHERE id = 'a' AND {_OF_APP}"
    answer = answered_beside(notes, gone, "PostInputs", inputs=[note("new", datasets=["a"])])
    assert [item.status.code for item in answer.inputs] == [30104]
