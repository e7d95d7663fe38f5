"""Search messages to queries: what each field means, what means nothing, and what is refused by its name."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from clarifai_grpc.grpc.api import resources_pb2
from google.protobuf import json_format

from sightrank.errors import SearchInvalid
from sightrank.search.parse import parse_search
from sightrank.search.query import (
    ConceptName,
    ConceptTerm,
    Filter,
    ImageTerm,
    InputTerm,
    Query,
    Rank,
    TextTerm,
    Unit,
    VectorTerm,
    conditions,
)


def parse(search: dict[str, Any], unit: Unit = Unit.ANNOTATION) -> Query:
    """A search in proto JSON, with the field names of the proto."""
    message = json_format.ParseDict(search, resources_pb2.Search())
    return parse_search(message, unit, offset=20, limit=10)


def ranks(*items: dict[str, Any], language: str = "") -> tuple[Rank, ...]:
    return parse({"query": {"ranks": list(items), "language": language}}).ranks


def term(**data: Any) -> Any:
    (found,) = ranks({"annotation": {"data": data}})
    (only,) = found.terms
    return only


def filters(*items: dict[str, Any], language: str = "") -> tuple[Filter, ...]:
    return parse({"query": {"filters": list(items), "language": language}}).filters


def refusal(search: dict[str, Any]) -> str:
    with pytest.raises(SearchInvalid) as caught:
        parse(search)
    return str(caught.value)


def refused_rank(annotation: dict[str, Any], **rank: Any) -> str:
    return refusal({"query": {"ranks": [{"annotation": annotation, **rank}]}})


# The search itself ----------------------------------------------------------------------------------------------------


def test_unit_page_and_min_value_are_kept() -> None:
    query = parse({"min_value": 0.25, "query": {}}, Unit.INPUT)

    assert query == Query(unit=Unit.INPUT, filters=(), ranks=(), min_value=0.25, offset=20, limit=10)


@pytest.mark.parametrize("algorithm", ["", "nearest_neighbor", "brute_force", "avg_concept_brute_force"])
@pytest.mark.parametrize("metric", ["METRIC_NOT_SET", "EUCLIDEAN_DISTANCE", "COSINE_DISTANCE"])
def test_every_algorithm_and_metric_is_the_same_exact_search(algorithm: str, metric: str) -> None:
    assert parse({"algorithm": algorithm, "metric": metric}) == parse({})


def test_an_unknown_algorithm_is_refused() -> None:
    assert "'magic'" in refusal({"algorithm": "magic"})


@pytest.mark.parametrize("value", [-0.1, 1.5, "NaN", "Infinity"])
def test_min_value_must_be_a_score(value: float | str) -> None:
    assert "min_value" in refusal({"min_value": value})


def test_the_legacy_form_is_refused_where_it_has_no_place() -> None:
    text = refusal({"query": {"ands": [{"negate": True}]}})

    assert "query.ands" in text
    assert "PostSearches" in text


def test_whether_a_search_is_to_be_saved_is_not_asked_here() -> None:
    assert parse({"save": True, "id": "x", "name": "y"}) == parse({})


def test_as_of_is_an_instant_in_stored_microseconds() -> None:
    found = parse({"as_of": "2024-01-01T00:00:00.123456999Z"}).as_of

    assert found == datetime(2024, 1, 1, 0, 0, 0, 123456, tzinfo=UTC)
    assert parse({}).as_of is None


def test_as_of_beyond_all_calendars_is_refused() -> None:
    message = resources_pb2.Search()
    message.as_of.seconds = 2**61

    with pytest.raises(SearchInvalid, match="as_of"):
        parse_search(message, Unit.INPUT, offset=0, limit=1)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ({"ranks": [{"annotation": {"input_id": "a"}}] * 65}, "at most 64"),
        ({"ranks": [{"annotation": {"data": {"concepts": [{"id": "a"}] * 64}}}]}, "at most 64"),
        ({"filters": [{}] * 257}, "257 filters"),
        ({"filters": [{"input": {"dataset_ids": ["a"] * 200}}, {"input": {"dataset_ids": ["a"] * 57}}]}, "name 257"),
        ({"filters": [{"annotation": {"data": {"metadata": {f"k{i}": 1 for i in range(257)}}}}]}, "name 257"),
    ],
)
def test_what_one_search_asks_is_bounded(query: dict[str, Any], text: str) -> None:
    assert text in refusal({"query": query})


def test_the_bounds_themselves_are_allowed() -> None:
    query = {
        "ranks": [{"annotation": {"data": {"concepts": [{"id": "a"}] * 63}}}],
        "filters": [{"input": {"dataset_ids": ["a"] * 256}}],
    }

    found = parse({"query": query})

    assert len(found.ranks[0].terms) == 63
    assert sum(1 for _ in conditions(found)) == 256


# Empty messages -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rank",
    [
        {},
        {"negate": True},
        {"annotation": {}},
        {"annotation": {"data": {}}},
        {"annotation": {"data": {"image": {}, "text": {}, "metadata": {}, "geo": {}}}},
        {"annotation": {"model_version_id": "v1"}},
    ],
)
def test_an_empty_rank_ranks_nothing(rank: dict[str, Any]) -> None:
    assert ranks(rank) == ()


@pytest.mark.parametrize(
    "item",
    [
        {},
        {"negate": True},
        {"annotation": {}, "input": {}},
        {"annotation": {}, "input": {"data": {}, "status": {}}},
        {"annotation": {"status": {}, "worker": {"user": {}}, "data": {"metadata": {}, "geo": {}}}},
        {"annotation": {"annotation_info": {}, "data": {"regions": [{}], "frames": [{}], "time_segments": [{}]}}},
        {"annotation": {"trusted": False, "input_level": False, "user_id": ""}},
        {"last_updated_time_range": {}},
    ],
)
def test_an_empty_filter_lets_everything_through(item: dict[str, Any]) -> None:
    assert filters(item) == ()


def test_empty_messages_leave_the_others_alone() -> None:
    assert len(ranks({}, {"annotation": {"input_id": "a"}}, {})) == 1
    assert len(filters({}, {"input": {"id": "a"}}, {})) == 1


# Ranks ----------------------------------------------------------------------------------------------------------------


def test_rank_by_a_concept_of_an_id() -> None:
    assert term(concepts=[{"id": "dog", "value": 1}]) == ConceptTerm(concept=ConceptName(id="dog"), value=1.0)


def test_rank_by_a_name_in_a_language() -> None:
    found = term(concepts=[{"name": "犬", "language": "ja", "value": 0.5}])

    assert found == ConceptTerm(concept=ConceptName(name="犬", language="ja"), value=0.5)


def test_the_language_of_the_query_holds_where_a_concept_has_none() -> None:
    concepts = [{"name": "人", "value": 1}, {"name": "Hund", "language": "de", "value": 1}]

    (found,) = ranks({"annotation": {"data": {"concepts": concepts}}}, language="zh")

    assert [item.concept.language for item in found.terms if isinstance(item, ConceptTerm)] == ["zh", "de"]


@pytest.mark.parametrize(
    ("value", "negate", "meant"), [(0, False, 0.0), (0, True, 1.0), (0.25, True, 0.25), (1, True, 1)]
)
def test_an_absent_value_counts_as_1_under_negate(value: float, negate: bool, meant: float) -> None:
    (found,) = ranks({"negate": negate, "annotation": {"data": {"concepts": [{"id": "dog", "value": value}]}}})

    assert found == Rank(terms=(ConceptTerm(concept=ConceptName(id="dog"), value=meant),), negate=negate)


@pytest.mark.parametrize("value", [-0.01, 1.01, "NaN", "Infinity", "-Infinity"])
def test_a_value_outside_0_to_1_is_refused(value: float | str) -> None:
    text = refused_rank({"data": {"concepts": [{"id": "cat", "value": 1}, {"id": "dog", "value": value}]}})

    assert "ranks[0].annotation.data.concepts[1].value" in text


def test_rank_by_an_image() -> None:
    assert term(image={"url": "https://example.com/a.jpg"}) == ImageTerm(url="https://example.com/a.jpg")
    assert term(image={"base64": "AAEC"}) == ImageTerm(data=b"\0\1\2")


def test_rank_by_an_input() -> None:
    assert ranks({"annotation": {"input_id": "photo"}}) == (Rank(terms=(InputTerm(input_id="photo"),)),)


def test_rank_by_embeddings() -> None:
    found = term(embeddings=[{"vector": [0.5, 0.25], "num_dimensions": 2}, {"vector": [1, 0]}])

    assert found == VectorTerm(vectors=((0.5, 0.25), (1.0, 0.0)))


def test_rank_by_text() -> None:
    assert term(text={"raw": "a dog on the beach"}) == TextTerm(raw="a dog on the beach")


def test_all_terms_of_one_rank_are_kept_with_its_model_version() -> None:
    annotation = {
        "input_id": "photo",
        "model_version_id": "v1",
        "data": {
            "concepts": [{"id": "dog", "value": 1}, {"id": "cat"}],
            "image": {"url": "u"},
            "embeddings": [{"vector": [1]}],
            "text": {"raw": "t"},
        },
    }

    (found,) = ranks({"annotation": annotation, "negate": True})

    kinds = [type(item).__name__ for item in found.terms]
    assert kinds == ["ConceptTerm", "ConceptTerm", "ImageTerm", "InputTerm", "VectorTerm", "TextTerm"]
    assert (found.negate, found.model_version_id) == (True, "v1")


@pytest.mark.parametrize(
    ("annotation", "field"),
    [
        ({"id": "a"}, "ranks[0].annotation.id"),
        ({"status": {"code": 24150}}, "ranks[0].annotation.status"),
        ({"data": {"concepts": [{"value": 1}]}}, "ranks[0].annotation.data.concepts[0] has neither id nor name"),
        ({"data": {"concepts": [{"id": "a", "vocab_id": "b"}]}}, "concepts[0].vocab_id"),
        ({"data": {"image": {"url": "u", "base64": "AAEC"}}}, "image has both url and base64"),
        ({"data": {"text": {"url": "u"}}}, "text.url"),
        ({"data": {"metadata": {"a": 1}}}, "data.metadata"),
        ({"data": {"geo": {"geo_point": {"latitude": 1}}}}, "data.geo"),
        ({"data": {"regions": [{}]}}, "data.regions"),
        ({"data": {"clusters": [{"id": "a"}]}}, "data.clusters"),
        ({"data": {"embeddings": [{"vector": [1, 2], "num_dimensions": 3}]}}, "embeddings[0] has 2 numbers"),
        ({"data": {"embeddings": [{"vector": [1]}, {"vector": ["NaN"]}]}}, "embeddings[1].vector"),
        ({"data": {"embeddings": [{"vector": ["Infinity"]}]}}, "embeddings[0].vector"),
        ({"input_id": "a\0b"}, "ranks[0].annotation.input_id holds a NUL"),
        ({"data": {"concepts": [{"name": "a\0b"}]}}, "concepts[0].name holds a NUL"),
    ],
)
def test_a_rank_that_cannot_be_is_refused_by_its_field(annotation: dict[str, Any], field: str) -> None:
    assert field in refused_rank(annotation)
