"""Filter messages to conditions, field by field: what is asked, what are alternatives, what is refused and how."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from clarifai_grpc.grpc.api import resources_pb2
from google.protobuf import json_format

from sightrank.errors import SearchInvalid
from sightrank.search.fields import FIELDS
from sightrank.search.parse import parse_search
from sightrank.search.query import (
    Circle,
    ConceptCondition,
    ConceptName,
    FieldCondition,
    Filter,
    GeoBox,
    Period,
    Unit,
)


def filters(*items: dict[str, Any], language: str = "") -> tuple[Filter, ...]:
    """Filters in proto JSON, with the field names of the proto."""
    search = json_format.ParseDict({"query": {"filters": list(items), "language": language}}, resources_pb2.Search())
    return parse_search(search, Unit.ANNOTATION, offset=0, limit=1, me="ann").filters


def only_filter(item: dict[str, Any]) -> Filter:
    (found,) = filters(item)
    return found


def values(item: dict[str, Any]) -> list[Any]:
    """What a filter wants of its only field."""
    (group,) = only_filter(item).groups
    assert len({condition.field for condition in group if isinstance(condition, FieldCondition)}) == 1
    return [condition.value for condition in group if isinstance(condition, FieldCondition)]


def data(**fields: Any) -> dict[str, Any]:
    return {"annotation": {"data": fields}}


def refusal(item: dict[str, Any]) -> str:
    with pytest.raises(SearchInvalid) as caught:
        filters({}, item)
    return str(caught.value)


def message_with(path: str) -> tuple[resources_pb2.Filter, Any, str]:
    """A filter in which everything up to the last step of the path is there, the place of that step, and its name."""
    message = resources_pb2.Filter()
    place: Any = message
    *steps, last = path.split(".")
    for step in steps:
        place = getattr(place, step.removesuffix("[]"))
        if step.endswith("[]"):
            place = place.add()
        else:
            place.SetInParent()
    return message, place, last


@pytest.mark.parametrize("path", FIELDS)
def test_every_row_of_the_table_is_a_field_that_is_read(path: str) -> None:
    message, place, last = message_with(path)
    field = place.DESCRIPTOR.fields_by_name[last.removesuffix("[]")]
    if last == "concepts[]":
        place.concepts.add(id="x", value=1.0)
    elif last == "geo":
        place.geo.geo_point.latitude = 1.0
        place.geo.geo_limit.type = "withinMiles"
    elif last in ("metadata", "annotation_info"):
        getattr(place, last).update({"a": 1})
    elif last == "last_updated_time_range":
        place.last_updated_time_range.start_time.seconds = 1
    elif last.endswith("[]"):
        getattr(place, last.removesuffix("[]")).append("x")
    elif field.message_type is not None:
        getattr(place, last).SetInParent()
    else:
        setattr(place, last, {field.CPPTYPE_STRING: "x", field.CPPTYPE_BOOL: True}.get(field.cpp_type, 24150))

    query = resources_pb2.Query(filters=[message])
    (found,) = parse_search(resources_pb2.Search(query=query), Unit.INPUT, offset=0, limit=1).filters

    asked = [FIELDS[path].group for group in found.groups for _ in group]
    assert asked == [FIELDS[path].group]


@pytest.mark.parametrize(
    ("item", "field", "value"),
    [
        ({"annotation": {"id": "x"}}, "annotation.id", "x"),
        ({"annotation": {"input_id": "x"}}, "annotation.input_id", "x"),
        ({"annotation": {"user_id": "x"}}, "annotation.user_id", "x"),
        ({"annotation": {"user_id": "me"}}, "annotation.user_id", "ann"),
        ({"annotation": {"worker": {"user": {"id": "me"}}}}, "annotation.worker.user.id", "ann"),
        ({"annotation": {"worker": {"model": {"id": "m"}}}}, "annotation.worker.model.id", "m"),
        ({"annotation": {"task_id": "me"}}, "annotation.task_id", "me"),
        ({"annotation": {"trusted": True}}, "annotation.trusted", True),
        ({"annotation": {"input_level": True}}, "annotation.input_level", True),
        ({"annotation": {"status": {"code": "ANNOTATION_SUCCESS"}}}, "annotation.status.code", 24150),
        ({"annotation": {"status": {"code": 24151, "description": "so"}}}, "annotation.status.code", 24151),
        ({"annotation": {"data": {}}}, "annotation.data", True),
        (data(text={}), "annotation.data.text", True),
        (data(frames=[{"frame_info": {}}]), "annotation.data.frames[].frame_info", True),
        (data(image={"url": "http://x/"}), "annotation.data.image.url", "http://x/"),
        ({"input": {"id": "x"}}, "input.id", "x"),
        ({"input": {"status": {"code": 30000}}}, "input.status.code", 30000),
        ({"input": {"data": {"image": {}}}}, "input.data.image", "image"),
        ({"input": {"data": {"text": {}}}}, "input.data.text", "text"),
        ({"input": {"data": {"image": {"url": "http://x/"}}}}, "input.data.image.url", "http://x/"),
    ],
)
def test_filter_by_a_field(item: dict[str, Any], field: str, value: Any) -> None:
    assert only_filter(item) == Filter(groups=((FieldCondition(field=field, value=value),),))


def test_fields_of_one_annotation_are_all_wanted_and_concepts_are_alternatives() -> None:
    annotation = {"user_id": "ann", "trusted": True, "data": {"concepts": [{"id": "a", "value": 1}, {"id": "b"}]}}

    groups = only_filter({"annotation": annotation}).groups

    assert set(groups) == {
        (FieldCondition(field="annotation.user_id", value="ann"),),
        (FieldCondition(field="annotation.trusted", value=True),),
        (
            ConceptCondition(concept=ConceptName(id="a"), positive=True),
            ConceptCondition(concept=ConceptName(id="b"), positive=False),
        ),
    }


def test_media_and_status_of_an_input_are_alternatives_and_datasets_too() -> None:
    item = {"dataset_ids": ["one", "two"], "data": {"audio": {}, "video": {}}, "status": {"code": 30000}}

    groups = [
        {(condition.field, condition.value) for condition in group if isinstance(condition, FieldCondition)}
        for group in only_filter({"input": item}).groups
    ]

    assert len(groups) == 2
    assert {("input.dataset_ids[]", "one"), ("input.dataset_ids[]", "two")} in groups
    assert {("input.data.audio", "audio"), ("input.data.video", "video"), ("input.status.code", 30000)} in groups


def test_kinds_of_geometry_are_alternatives_and_tracks_are_wanted_beside_them() -> None:
    regions = [
        {"region_info": {"mask": {}}, "track_id": "7"},
        {"region_info": {"polygon": {}}, "track_id": "8"},
    ]

    groups = {
        frozenset((condition.field, condition.value) for condition in group if isinstance(condition, FieldCondition))
        for group in only_filter(data(regions=regions)).groups
    }

    assert groups == {
        frozenset((f"annotation.data.regions[].region_info.{kind}", True) for kind in ("mask", "polygon")),
        frozenset(("annotation.data.regions[].track_id", track) for track in ("7", "8")),
    }


@pytest.mark.parametrize("place", ["data", "regions", "frames"])
def test_a_concept_is_looked_for_wherever_it_is_written(place: str) -> None:
    concepts = {"concepts": [{"id": "a", "value": 1}]}
    item = data(**concepts) if place == "data" else data(**{place: [{"data": concepts}]})

    (group,) = only_filter(item).groups

    assert group == (ConceptCondition(concept=ConceptName(id="a"), positive=True),)


@pytest.mark.parametrize(
    ("value", "negate", "positive"),
    [
        (1, False, True),
        (0.5, False, True),
        (0.49, False, False),
        (0, False, False),
        (0, True, True),
        (0.2, True, False),
    ],
)
def test_a_concept_is_wanted_as_there_or_as_not_there(value: float, negate: bool, positive: bool) -> None:
    found = filters({"negate": negate} | data(concepts=[{"name": "Hund", "value": value}]), language="de")

    condition = ConceptCondition(concept=ConceptName(name="Hund", language="de"), positive=positive)
    assert found == (Filter(groups=((condition,),), negate=negate),)


# Metadata -------------------------------------------------------------------------------------------------------------


def test_top_level_keys_of_metadata_are_alternatives() -> None:
    assert values(data(metadata={"b": [1, 2.5, None], "a": {"x": "ü", "y": True}})) == [
        '{"a": {"x": "ü", "y": true}}',
        '{"b": [1, 2.5, null]}',
    ]


def test_annotation_info_is_read_as_metadata_is() -> None:
    assert values({"annotation": {"annotation_info": {"a": 1.0}}}) == ['{"a": 1}']


def nested(depth: int) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for _ in range(depth):
        document = {"a": document}
    return document


def test_metadata_is_bounded_in_depth_and_size() -> None:
    assert len(values(data(metadata=nested(32)))) == 1
    assert "filters[1].annotation.data.metadata.a.a" in refusal(data(metadata=nested(33)))
    assert "1000 values" in refusal(data(metadata={"list": list(range(1000))}))
    assert "100000" in refusal(data(metadata={"a": "x" * 100_001}))


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_metadata_of_no_json_number_is_refused(number: float) -> None:
    message = resources_pb2.Search()
    message.query.filters.add().annotation.data.metadata.update({"a": {"b": number}})

    with pytest.raises(SearchInvalid, match=r"filters\[0\].annotation.data.metadata.a.b is a number"):
        parse_search(message, Unit.INPUT, offset=0, limit=1)


# Places and times -----------------------------------------------------------------------------------------------------


def circle(latitude: float, longitude: float, unit: str, value: float | str) -> dict[str, Any]:
    return data(
        geo={"geo_point": {"latitude": latitude, "longitude": longitude}, "geo_limit": {"type": unit, "value": value}}
    )


@pytest.mark.parametrize(
    ("unit", "radians"),
    [
        ("withinMiles", 2.0 * 1.609344 / 6371.0088),
        ("withinKilometers", 2.0 / 6371.0088),
        ("withinDegrees", math.radians(2.0)),
        ("withinRadians", 2.0),
    ],
)
def test_a_circle_is_an_angle_around_a_point(unit: str, radians: float) -> None:
    (found,) = values(circle(44.0, 55.0, unit, 2.0))

    assert found == Circle(latitude=44.0, longitude=55.0, radians=pytest.approx(radians))


def test_no_circle_is_larger_than_the_earth() -> None:
    (found,) = values(circle(0, 0, "withinMiles", 1e30))

    assert found.radians == math.pi


def test_a_box_spans_two_corners_in_any_order() -> None:
    corners = [{"geo_point": {"latitude": 54, "longitude": -3}}, {"geo_point": {"latitude": 50, "longitude": 7}}]

    assert values(data(geo={"geo_box": corners})) == [GeoBox(south=50.0, west=-3.0, north=54.0, east=7.0)]
    assert values(data(geo={"geo_box": corners[::-1]})) == [GeoBox(south=50.0, west=-3.0, north=54.0, east=7.0)]


POINT = {"latitude": 1, "longitude": 2}
LIMIT = {"type": "withinMiles", "value": 1}


@pytest.mark.parametrize(
    ("geo", "text"),
    [
        ({"geo_point": POINT}, ".geo_point has no geo_limit"),
        ({"geo_limit": LIMIT}, ".geo_limit has no geo_point"),
        ({"geo_point": POINT, "geo_limit": LIMIT | {"type": "withinFeet"}}, ".geo_limit.type is 'withinFeet'"),
        ({"geo_point": POINT, "geo_limit": {"value": 1}}, ".geo_limit.type is ''"),
        ({"geo_point": POINT, "geo_limit": LIMIT | {"value": -1}}, ".geo_limit.value is -1"),
        ({"geo_point": POINT, "geo_limit": LIMIT | {"value": "NaN"}}, ".geo_limit.value is nan"),
        ({"geo_point": POINT, "geo_limit": LIMIT | {"value": "Infinity"}}, ".geo_limit.value is inf"),
        ({"geo_point": {"latitude": 91}, "geo_limit": LIMIT}, ".geo_point is longitude 0, latitude 91"),
        ({"geo_point": {"longitude": -181}, "geo_limit": LIMIT}, ".geo_point is longitude -181"),
        ({"geo_point": {"longitude": "NaN"}, "geo_limit": LIMIT}, ".geo_point is longitude nan"),
        ({"geo_point": POINT, "geo_limit": LIMIT, "geo_box": [{}, {}]}, " has both"),
        ({"geo_box": [{"geo_point": POINT}]}, ".geo_box has 1 points"),
        ({"geo_box": [{"geo_point": POINT}] * 3}, ".geo_box has 3 points"),
        ({"geo_box": [{}, {}]}, ".geo_box[0] has no geo_point"),
        ({"geo_box": [{"geo_point": POINT}, {"geo_point": {"latitude": 99}}]}, ".geo_box[1].geo_point is"),
    ],
)
def test_what_is_no_place_is_refused(geo: dict[str, Any], text: str) -> None:
    assert refusal(data(geo=geo)).startswith(f"filters[1].annotation.data.geo{text}")


def test_a_time_range_includes_its_ends_to_the_microsecond() -> None:
    range_ = {"start_time": "2024-01-01T00:00:00.000000001Z", "end_time": "2024-01-02T00:00:00.000001999Z"}

    (found,) = values({"last_updated_time_range": range_})

    assert found == Period(
        start=datetime(2024, 1, 1, 0, 0, 0, 1, tzinfo=UTC), end=datetime(2024, 1, 2, 0, 0, 0, 1, tzinfo=UTC)
    )


@pytest.mark.parametrize("side", ["start_time", "end_time"])
def test_a_time_range_may_be_open(side: str) -> None:
    (found,) = values({"last_updated_time_range": {side: "1970-01-01T00:00:00Z"}})

    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    assert found == Period(start=epoch if side == "start_time" else None, end=epoch if side == "end_time" else None)


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("item", "text"),
    [
        ({"annotation": {"embed_model_version_id": "v"}}, "annotation.embed_model_version_id: this version"),
        ({"annotation": {"consensus_info": {"a": 1}}}, "annotation.consensus_info: this version"),
        ({"annotation": {"created_at": "2024-01-01T00:00:00Z"}}, "annotation.created_at: this version"),
        ({"annotation": {"worker": {"user": {"first_name": "x"}}}}, "annotation.worker.user.first_name: this version"),
        ({"annotation": {"worker": {"model": {"name": "x"}}}}, "annotation.worker.model.name: this version"),
        (data(clusters=[{"id": "1"}]), "annotation.data.clusters[0]: no clusterer"),
        (data(embeddings=[{"vector": [1]}]), "annotation.data.embeddings[0]: this version"),
        (data(image={"base64": "AAEC"}), "annotation.data.image.base64: this version"),
        (data(text={"raw": "x"}), "annotation.data.text holds values"),
        (
            data(regions=[{"region_info": {"mask": {"image": {"url": "x"}}}}]),
            "regions[0].region_info.mask holds values",
        ),
        (data(regions=[{}, {"value": 0.5}]), "annotation.data.regions[1].value: this version"),
        (data(frames=[{"frame_info": {"index": 3}}]), "frames[0].frame_info holds values"),
        (data(concepts=[{"value": 1}]), "annotation.data.concepts[0] has neither id nor name"),
        (data(concepts=[{}, {"id": "a"}]), "annotation.data.concepts[0] has neither id nor name"),
        (data(concepts=[{"id": "a", "vocab_id": "b"}]), "annotation.data.concepts[0].vocab_id: this version"),
        (data(concepts=[{"id": "a", "value": 1.5}]), "annotation.data.concepts[0].value is 1.5"),
        ({"input": {"data": {"concepts": [{"id": "a"}]}}}, "input.data.concepts[0]: this version"),
        ({"input": {"data": {"metadata": {"a": 1}}}}, "input.data.metadata: this version"),
        ({"annotation": {"user_id": "\0"}}, "annotation.user_id holds a NUL"),
        ({"input": {"dataset_ids": ["a", "\0"]}}, "input.dataset_ids[1] holds a NUL"),
        (data(regions=[{"track_id": "\0"}]), "annotation.data.regions[0].track_id holds a NUL"),
        (data(metadata={"a": ["\0"]}), "annotation.data.metadata.a[0] holds a NUL"),
    ],
)
def test_a_filter_that_cannot_be_is_refused_by_its_field(item: dict[str, Any], text: str) -> None:
    assert text in refusal(item)
    assert refusal(item).startswith("filters[1].")
