"""Which messages the three kinds of search read, and how far back they look."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from clarifai_grpc.grpc.api.resources_pb2 import And, Annotation, Filter, Input, Query, Search
from google.protobuf.timestamp_pb2 import Timestamp

from sightrank.api.call import Call, Caller
from sightrank.api.pages import Page
from sightrank.api.search_kinds import SearchKind, SearchReader
from sightrank.errors import SearchInvalid
from sightrank.search.query import FieldCondition, Unit, conditions

ME = Caller(user_id="anna", key_type="personal_access_token", scopes=frozenset({"All"}), endpoints=frozenset())
CALL = Call(rpc="PostSearches", request_id="r", caller=ME, app=None)
LEGACY = Search(query=Query(ands=[And(input=Input(id="a"))]))


def as_of(age: timedelta) -> Search:
    moment = Timestamp()
    moment.FromDatetime(datetime.now(UTC) - age)
    return Search(as_of=moment)


def test_each_kind_has_its_unit() -> None:
    units = [SearchReader(0).read(CALL, kind, Search()).unit for kind in SearchKind]
    assert units == [Unit.ANNOTATION, Unit.INPUT, Unit.INPUT]


def test_only_the_legacy_kind_reads_ands() -> None:
    (condition,) = conditions(SearchReader(0).read(CALL, SearchKind.LEGACY, LEGACY))
    assert condition == FieldCondition(field="input.id", value="a")
    for kind in (SearchKind.ANNOTATIONS, SearchKind.INPUTS):
        with pytest.raises(SearchInvalid, match="ands"):
            SearchReader(0).read(CALL, kind, LEGACY)


@pytest.mark.parametrize("kind", SearchKind)
def test_the_page_and_the_caller_are_in_the_query(kind: SearchKind) -> None:
    mine = Search(query=Query(filters=[Filter(annotation=Annotation(user_id="me"))]), min_value=0.5)
    query = SearchReader(0).read(CALL, kind, mine, Page(3, 20))
    assert (query.offset, query.limit, query.min_value) == (40, 20, 0.5)
    assert [condition.value for condition in conditions(query) if isinstance(condition, FieldCondition)] == ["anna"]


@pytest.mark.parametrize("kind", SearchKind)
@pytest.mark.parametrize(
    ("days", "age", "kept"),
    [
        (0, timedelta(days=9999), True),
        (30, timedelta(days=30, seconds=1), False),
        (30, timedelta(days=29, hours=23), True),
        (30, timedelta(days=-1), True),
        (1, timedelta(days=9999), False),
        (10**12, timedelta(days=9999), True),
    ],
)
def test_how_far_back(kind: SearchKind, days: int, age: timedelta, kept: bool) -> None:
    reader = SearchReader(days)
    if kept:
        assert reader.read(CALL, kind, as_of(age)).as_of is not None
        return
    with pytest.raises(SearchInvalid, match="SIGHTRANK_HISTORY_DAYS"):
        reader.read(CALL, kind, as_of(age))
