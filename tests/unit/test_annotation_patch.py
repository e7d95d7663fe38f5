"""Patches of annotations, as pure functions (api-spec 3.1 and 3.3)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from clarifai_grpc.grpc.api.resources_pb2 import (
    Annotation,
    BoundingBox,
    Concept,
    Data,
    Geo,
    GeoPoint,
    Point,
    Region,
    RegionInfo,
    Text,
)
from clarifai_grpc.grpc.api.status.status_pb2 import Status
from google.protobuf.struct_pb2 import Struct

from sightrank.api.annotation_patch import Action, is_empty, merge_json, patched
from sightrank.api.records import AnnotationRecord
from sightrank.errors import AnnotationInvalid, ConceptsInvalid, InvalidRequest
from sightrank.ingest.revision import ChangedAnnotation
from sightrank.ingest.rows import Content, NamedConcept

WHEN = datetime(2026, 1, 2, tzinfo=UTC)
BOX = {"top_row": 0.1, "left_col": 0.2, "bottom_row": 0.7, "right_col": 0.9}


def record(**fields: Any) -> AnnotationRecord:
    whole: dict[str, Any] = {
        "input_number": 1,
        "input_id": "i",
        "id": "a",
        "area_id": 5,
        "region_id": None,
        "created_at": WHEN,
        "modified_at": WHEN,
        "status": 24150,
        "input_level": False,
        "trusted": True,
        "user_id": "me",
        "model_id": "",
        "model_version_id": "",
        "own_model": False,
        "task_id": "",
        "concept_ids": ["x", "y"],
        "concept_values": [1.0, 0.5],
        "metadata": None,
        "latitude": None,
        "longitude": None,
        "annotation_info": None,
        "data": None,
        "box_top": None,
        "box_left": None,
        "box_bottom": None,
        "box_right": None,
    }
    return AnnotationRecord(**(whole | fields))


def in_region(**fields: Any) -> AnnotationRecord:
    """An annotation in the box BOX, its numbers as the database gives them back."""
    sides = {"box_top": 0.1, "box_left": 0.2, "box_bottom": 0.7, "box_right": 0.9}
    data = {"data": {"regions": [{"region_info": {"bounding_box": BOX}}]}}
    return record(region_id="r", **(data | sides | fields))


def boxed(**sides: float) -> Data:
    return Data(regions=[Region(region_info=RegionInfo(bounding_box=BoundingBox(**(BOX | sides))))])


def patch(action: str, stored: AnnotationRecord, data: Data | None = None, **fields: Any) -> ChangedAnnotation:
    return patched(stored, Annotation(data=data, **fields), Action.named(action), "annotations[0]")


def concepts(changed: ChangedAnnotation) -> list[tuple[str, float]]:
    return [(concept.id, concept.value) for concept in changed.content.concepts]


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("merge", [("x", 1.0), ("y", 0.0), ("z", 1.0)]),
        ("overwrite", [("z", 1.0), ("y", 0.0)]),
        ("remove", [("x", 1.0)]),
    ],
)
def test_concepts(action: str, expected: list[tuple[str, float]]) -> None:
    sent = Data(concepts=[Concept(id="z", value=1), Concept(id="y", value=0)])

    assert concepts(patch(action, record(), sent)) == expected


@pytest.mark.parametrize("action", ["merge", "overwrite", "remove"])
def test_without_data_only_the_status_changes(action: str) -> None:
    changed = patch(action, in_region(metadata={"a": 1}, latitude=1.0, longitude=2.0), status=Status(code=24151))

    assert concepts(changed) == [("x", 1.0), ("y", 0.5)]
    assert changed.content.metadata == {"a": 1}
    assert (changed.content.latitude, changed.content.longitude) == (1.0, 2.0)
    assert changed.content.data == in_region().data
    assert (changed.status, changed.moves, changed.read_at) == (24151, False, WHEN)


def test_an_unknown_action_is_named() -> None:
    with pytest.raises(InvalidRequest, match="'paint'"):
        Action.named("paint")


def test_the_point_is_replaced_also_by_zero_and_removed_when_it_is_named() -> None:
    zero = Data(geo=Geo(geo_point=GeoPoint(latitude=0, longitude=0)))
    stored = record(latitude=3.0, longitude=4.0)

    assert patch("merge", stored, zero).content.latitude == 0
    assert patch("overwrite", stored, zero).content.longitude == 0
    assert patch("remove", stored, zero).content.latitude is None
    assert patch("remove", stored, Data(concepts=[Concept(id="x")])).content.latitude == 3.0


def test_overwriting_leaves_nothing_that_is_not_sent() -> None:
    stored = record(metadata={"a": 1}, latitude=3.0, longitude=4.0, data={"text": {"raw": "old"}, "frames": [{}]})

    content = patch("overwrite", stored, Data(concepts=[Concept(id="z", value=1)])).content

    assert [concept.id for concept in content.concepts] == ["z"]
    assert (content.metadata, content.latitude, content.longitude, content.data) == (None, None, None, None)


@pytest.mark.parametrize("action", ["merge", "overwrite", "remove"])
def test_the_text_of_an_input_is_its_medium_and_stays(action: str) -> None:
    stored = record(input_level=True, data={"text": {"raw": "the letter"}})

    assert patch(action, stored, Data(text=Text(raw="another"))).content.data == {"text": {"raw": "the letter"}}


def test_overwriting_an_input_keeps_its_other_fields_unless_they_are_sent() -> None:
    stored = record(input_level=True, metadata={"a": 1}, latitude=3.0, longitude=4.0, data={"string_value": "s"})

    content = patch("overwrite", stored, Data(concepts=[Concept(id="z", value=1)])).content

    assert [concept.id for concept in content.concepts] == ["z"]
    assert (content.metadata, content.latitude, content.data) == ({"a": 1}, 3.0, {"string_value": "s"})
    content = patch("overwrite", stored, Data(metadata={}, geo={})).content
    assert (content.concepts, content.metadata, content.latitude) == ((), {}, None)
    assert patch("overwrite", stored, Data(string_value="t")).content.data == {"string_value": "t"}
    assert patch("remove", stored, Data(string_value="?")).content.data is None


def test_other_fields_are_merged_overwritten_and_removed_by_name() -> None:
    stored = record(data={"text": {"raw": "old"}, "string_value": "kept"})
    new = Data(text=Text(raw="new"))

    assert patch("merge", stored, new).content.data == {"text": {"raw": "new"}, "string_value": "kept"}
    assert patch("overwrite", stored, new).content.data == {"text": {"raw": "new"}}
    assert patch("remove", stored, new).content.data == {"string_value": "kept"}


def test_values_mean_nothing_to_a_removal_and_ids_everything() -> None:
    assert concepts(patch("remove", record(), Data(concepts=[Concept(id="x", value=7)]))) == [("y", 0.5)]
    with pytest.raises(ConceptsInvalid, match="by id"):
        patch("remove", record(), Data(concepts=[Concept(name="x")]))


def test_a_merge_keeps_what_else_was_said_of_a_region_and_overwriting_does_not() -> None:
    region = {"region_info": {"bounding_box": BOX}, "track_id": "7", "value": 0.5}
    sent = Data(regions=[Region(region_info=RegionInfo(bounding_box=BoundingBox(**BOX)), value=0.25)])

    merged, overwritten = (
        patch(action, in_region(data={"regions": [region]}), sent) for action in ("merge", "overwrite")
    )

    assert merged.content.data is not None
    assert overwritten.content.data is not None
    assert (merged.content.data["regions"][0]["track_id"], merged.content.data["regions"][0]["value"]) == ("7", 0.25)
    assert "track_id" not in overwritten.content.data["regions"][0]


def test_metadata_of_which_nothing_is_left_is_none() -> None:
    sent = Data()
    sent.metadata.update({"a": True})

    assert patch("remove", record(metadata={"a": 1}), sent).content.metadata is None
    assert patch("remove", record(), sent).content.metadata is None


@pytest.mark.parametrize("action", ["merge", "overwrite"])
def test_the_same_box_does_not_move_an_annotation_and_another_does(action: str) -> None:
    assert not patch(action, in_region(), boxed()).moves
    moved = patch(action, in_region(), boxed(right_col=0.8))
    assert moved.moves
    assert moved.box is not None
    assert moved.box.right == pytest.approx(0.8)


def test_a_box_to_remove_moves_nothing() -> None:
    assert not patch("remove", in_region(), boxed(right_col=0.8)).moves


def test_a_region_without_region_info_keeps_the_geometry() -> None:
    named = Data(regions=[Region(id="r", data=Data(concepts=[Concept(id="z", value=1)]))])

    changed = patch("merge", in_region(), named)

    assert concepts(changed)[-1] == ("z", 1.0)
    assert (changed.moves, changed.content.data) == (False, in_region().data)


def test_a_region_by_another_id_is_refused() -> None:
    with pytest.raises(AnnotationInvalid, match="send region_info"):
        patch("merge", in_region(), Data(regions=[Region(id="other")]))


def test_a_box_may_become_a_point_and_a_whole_picture_a_box() -> None:
    point = Data(regions=[Region(region_info=RegionInfo(point=Point(row=0.5, col=0.5)))])

    assert (patch("merge", in_region(), point).moves, patch("merge", in_region(), point).box) == (True, None)
    assert patch("merge", record(), boxed()).moves


def test_the_input_level_annotation_has_no_region() -> None:
    with pytest.raises(AnnotationInvalid, match="input-level"):
        patch("merge", record(input_level=True), boxed())


def test_overwriting_keeps_the_place_unless_another_is_sent() -> None:
    sent = Data(concepts=[Concept(id="z", value=1)])

    assert patch("overwrite", in_region(), sent).content.data == in_region().data


def test_annotation_info_follows_the_action() -> None:
    info = Struct()
    info.update({"b": 2})
    stored = record(annotation_info={"a": 1, "b": 1})

    assert patch("merge", stored, annotation_info=info).annotation_info == {"a": 1, "b": 2}
    assert patch("overwrite", stored, annotation_info=info).annotation_info == {"b": 2}
    info.update({"b": True})
    assert patch("remove", stored, annotation_info=info).annotation_info == {"a": 1}


@pytest.mark.parametrize(
    ("content", "empty"),
    [
        (Content(), True),
        (Content(metadata={}), True),
        (Content(data={"regions": [{}]}), True),
        (Content(metadata={"a": 1}), False),
        (Content(latitude=0.0, longitude=0.0), False),
        (Content(data={"text": {"raw": "x"}}), False),
        (Content(data={"regions": [{"data": {}}]}), True),
        (Content(data={"regions": [{"data": {"text": {"raw": "x"}}}]}), False),
        (Content(concepts=(NamedConcept(id="x", name="", value=0.0),)), False),
    ],
)
def test_what_counts_as_empty(content: Content, empty: bool) -> None:
    assert is_empty(content) is empty


@pytest.mark.parametrize(
    ("old", "new", "merged"),
    [
        ({"a": 1}, {"a": 2, "b": 3}, {"a": 2, "b": 3}),
        ({"a": {"x": 1}}, {"a": {"y": 2}}, {"a": {"x": 1, "y": 2}}),
        ({"a": [1]}, {"a": [2]}, {"a": [1, 2]}),
        ({"a": {"x": 1}}, {"a": {}}, {"a": {}}),
        ({"a": [1]}, {"a": []}, {"a": []}),
        ({"a": 1}, {"a": None}, {"a": 1}),
        ({"a": 1}, {"a": {"x": 1}}, {"a": {"x": 1}}),
        ({"a": {"x": 1}}, {"a": 1}, {"a": 1}),
        (
            {"a": [{"id": "p", "v": 1}, {"id": "q"}]},
            {"a": [{"id": "p", "v": 2}, {"id": "n"}]},
            {"a": [{"id": "p", "v": 2}, {"id": "q"}, {"id": "n"}]},
        ),
    ],
)
def test_merging_json(old: dict[str, Any], new: dict[str, Any], merged: dict[str, Any]) -> None:
    before = repr(old)

    assert merge_json(old, new) == merged
    assert repr(old) == before


@pytest.mark.parametrize(
    ("old", "named", "left"),
    [
        ({"a": 1, "b": 2}, {"a": True}, {"b": 2}),
        ({"a": 1, "b": 2}, {"a": 1}, {"b": 2}),
        ({"a": {"x": 1, "y": 2}}, {"a": {"x": True}}, {"a": {"y": 2}}),
        ({"a": [{"id": "p"}, {"id": "q"}]}, {"a": [{"id": "p"}]}, {"a": [{"id": "q"}]}),
        ({"a": 1}, {"a": {}}, {"a": 1}),
        ({"a": 1}, {"a": None}, {"a": 1}),
        ({"a": 1}, {"zzz": True}, {"a": 1}),
        ({"a": 1}, {"a": False}, {"a": False}),
        ({"a": [1]}, {"a": [2]}, {"a": [1, 2]}),
    ],
)
def test_removing_json(old: dict[str, Any], named: dict[str, Any], left: dict[str, Any]) -> None:
    sent = Data()
    sent.metadata.update(named)

    assert patch("remove", record(metadata=old), sent).content.metadata == left
