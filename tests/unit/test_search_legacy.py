"""Legacy searches to the same algebra: what an And filters by, what it ranks by, and what goes together with it."""

from __future__ import annotations

from typing import Any

import pytest
from clarifai_grpc.grpc.api import resources_pb2
from google.protobuf import json_format

from sightrank.errors import SearchInvalid
from sightrank.search.parse import parse_legacy, parse_search
from sightrank.search.query import (
    ConceptCondition,
    ConceptName,
    ConceptTerm,
    FieldCondition,
    Filter,
    ImageTerm,
    InputTerm,
    Query,
    Rank,
    Unit,
)


def parse(query: dict[str, Any], search: dict[str, Any] | None = None) -> Query:
    of_search = json_format.ParseDict(search, resources_pb2.Search()) if search is not None else None
    return parse_legacy(json_format.ParseDict(query, resources_pb2.Query()), of_search, offset=20, limit=10, me="ann")


def ands(*items: dict[str, Any], language: str = "") -> Query:
    return parse({"ands": list(items), "language": language})


def refusal(*items: dict[str, Any]) -> str:
    with pytest.raises(SearchInvalid) as caught:
        ands(*items)
    return str(caught.value)


def groups(query: Query) -> list[set[Any]]:
    (found,) = query.filters
    return [set(group) for group in found.groups]


TRUSTED = {FieldCondition(field="annotation.trusted", value=True)}
DOG = ConceptName(id="dog")


def test_a_legacy_search_gives_inputs() -> None:
    assert ands() == Query(unit=Unit.INPUT, filters=(), ranks=(), min_value=0.0, offset=20, limit=10)


def test_the_search_gives_what_the_query_does_not() -> None:
    found = parse(
        {}, {"min_value": 0.5, "as_of": "2024-01-01T00:00:00Z", "query": {"filters": [{"input": {"id": "x"}}]}}
    )

    assert found.min_value == 0.5
    assert found.as_of is not None
    assert found.filters == ()
    with pytest.raises(SearchInvalid, match="algorithm"):
        parse({}, {"algorithm": "magic"})


@pytest.mark.parametrize(
    "item", [{}, {"negate": True}, {"input": {"data": {}}}, {"output": {"input": {}}}, {"annotation": {}}]
)
def test_an_empty_and_says_nothing(item: dict[str, Any]) -> None:
    assert ands(item) == ands()


def test_concepts_of_an_input_are_trusted_labels() -> None:
    found = ands(
        {"input": {"data": {"concepts": [{"id": "dog", "value": 1}, {"name": "人", "value": 0}]}}}, language="zh"
    )

    assert groups(found) == [
        {
            ConceptCondition(concept=ConceptName(id="dog", language="zh"), positive=True),
            ConceptCondition(concept=ConceptName(name="人", language="zh"), positive=False),
        },
        TRUSTED,
    ]


def test_metadata_and_places_of_an_input_are_those_of_trusted_annotations() -> None:
    metadata = ands({"input": {"data": {"metadata": {"a": 1}}}})
    place = ands(
        {"input": {"data": {"geo": {"geo_point": {"latitude": 1}, "geo_limit": {"type": "withinMiles", "value": 2}}}}}
    )

    assert groups(metadata) == [{FieldCondition(field="annotation.data.metadata", value='{"a": 1}')}, TRUSTED]
    assert [condition.field for group in groups(place) for condition in group] == [
        "annotation.data.geo",
        "annotation.trusted",
    ]


def test_what_belongs_to_the_input_itself_needs_no_trust() -> None:
    found = ands(
        {
            "input": {
                "id": "x",
                "dataset_ids": ["d"],
                "status": {"code": 30000},
                "data": {"image": {"url": "https://example.com/a.jpg"}},
            }
        }
    )

    assert {condition.field for group in groups(found) for condition in group} == {
        "input.id",
        "input.dataset_ids[]",
        "input.status.code",
        "input.data.image.url",
    }


def test_an_annotation_filters_as_it_does_elsewhere() -> None:
    annotation = {"user_id": "me", "data": {"concepts": [{"id": "dog", "value": 1}]}}

    found = ands({"annotation": annotation, "negate": True})

    message = json_format.ParseDict(
        {"query": {"filters": [{"annotation": annotation, "negate": True}]}}, resources_pb2.Search()
    )
    assert found == parse_search(message, Unit.INPUT, offset=20, limit=10, me="ann")


@pytest.mark.parametrize(("value", "negate", "positive"), [(0, False, False), (0, True, True), (1, True, True)])
def test_negate_holds_for_its_and_alone(value: float, negate: bool, positive: bool) -> None:
    labelled = {"input": {"data": {"concepts": [{"id": "dog", "value": value}]}}, "negate": negate}

    first, second = ands(labelled, {"input": {"id": "x"}}).filters

    assert first.negate is negate
    assert first.groups[0] == (ConceptCondition(concept=DOG, positive=positive),)
    assert second == Filter(groups=((FieldCondition(field="input.id", value="x"),),))


@pytest.mark.parametrize(
    ("output", "term"),
    [
        ({"data": {"concepts": [{"id": "dog", "value": 0.5}]}}, ConceptTerm(concept=DOG, value=0.5)),
        ({"input": {"data": {"image": {"url": "u"}}}}, ImageTerm(url="u")),
        ({"input": {"data": {"image": {"base64": "AAEC"}}}}, ImageTerm(data=b"\0\1\2")),
        ({"input": {"id": "photo"}}, InputTerm(input_id="photo")),
    ],
)
@pytest.mark.parametrize("negate", [False, True])
def test_an_output_ranks(output: dict[str, Any], term: Any, negate: bool) -> None:
    found = ands({"output": output, "negate": negate})

    assert found.ranks == (Rank(terms=(term,), negate=negate),)
    assert found.filters == ()


def test_an_absent_value_counts_as_1_under_negate() -> None:
    (found,) = ands({"output": {"data": {"concepts": [{"id": "dog"}]}}, "negate": True}).ranks

    assert found.terms == (ConceptTerm(concept=DOG, value=1.0),)


def test_ands_filters_and_ranks_go_together() -> None:
    found = parse(
        {
            "ands": [
                {"input": {"id": "a"}, "output": {"data": {"concepts": [{"id": "dog", "value": 1}]}}},
                {"output": {"input": {"id": "b"}}},
            ],
            "filters": [{"input": {"id": "c"}}],
            "ranks": [{"annotation": {"input_id": "d"}}],
        }
    )

    assert [
        condition.value
        for item in found.filters
        for (condition,) in item.groups
        if isinstance(condition, FieldCondition)
    ] == ["a", "c"]
    assert [type(rank.terms[0]).__name__ for rank in found.ranks] == ["ConceptTerm", "InputTerm", "InputTerm"]


@pytest.mark.parametrize(
    ("item", "text"),
    [
        ({"input": {"data": {"geo": {"geo_point": {"latitude": 1}}}}}, "ands[1].input.data.geo.geo_point has no"),
        ({"input": {"data": {"image": {"base64": "AAEC"}}}}, "ands[1].input.data.image.base64: this version"),
        ({"input": {"data": {"regions": [{"id": "x"}]}}}, "ands[1].input.data.regions[0]: this version"),
        ({"input": {"data": {"concepts": [{"value": 1}]}}}, "ands[1].input.data.concepts[0] has neither"),
        ({"annotation": {"data": {"clusters": [{"id": "1"}]}}}, "ands[1].annotation.data.clusters[0]: no clusterer"),
        ({"output": {"data": {"clusters": [{"id": "1"}]}}}, "ands[1].output.data.clusters: this version"),
        ({"output": {"data": {"concepts": [{"id": "a", "value": 2}]}}}, "ands[1].output.data.concepts[0].value is 2"),
        ({"output": {"input": {"data": {"image": {"url": "u", "base64": "AAEC"}}}}}, "input.data.image has both"),
        ({"output": {"input": {"id": "\0"}}}, "ands[1].output.input.id holds a NUL"),
        ({"output": {"model": {"id": "m"}}}, "ands[1].output.model: this version"),
    ],
)
def test_an_and_that_cannot_be_is_refused_by_its_field(item: dict[str, Any], text: str) -> None:
    assert text in refusal({}, item)


def test_ands_are_bounded_with_the_rest() -> None:
    assert "at most 64" in refusal(*[{"output": {"input": {"id": "x"}}}] * 65)
    assert "at most 256" in refusal(*[{"input": {"id": "x"}}] * 257)
