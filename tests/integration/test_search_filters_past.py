"""Filters over what annotations said at another time: made, changed, deleted, their regions and inputs gone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from tests.integration.filtering import Shelf, moment, shelf

MASK = {"regions": [{"region_info": {"mask": {}}, "track_id": "7"}]}


@pytest.fixture
def app(database_url: str) -> Iterator[Shelf]:
    with shelf(database_url) as app:
        yield app


def concept(name: str, value: float = 1.0, **more: Any) -> dict[str, Any]:
    return {"annotation": {"data": {"concepts": [{"id": name, "value": value}]}}} | more


def metadata(document: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"annotation": {"data": {"metadata": document}}} | more


def near(latitude: float, longitude: float) -> dict[str, Any]:
    geo = {
        "geo_point": {"latitude": latitude, "longitude": longitude},
        "geo_limit": {"type": "withinKilometers", "value": 1},
    }
    return {"annotation": {"data": {"geo": geo}}}


def test_an_annotation_is_found_from_when_it_was_made(app: Shelf) -> None:
    app.add_input("photo")
    app.add("photo", "photo-dog", says={"dog": 1.0})

    assert app.annotations(concept("dog"), as_of=moment(1)) == []
    assert app.annotations(concept("dog"), as_of=moment(2)) == ["photo-dog"]
    assert app.annotations(as_of=moment(1)) == ["photo"]
    assert app.annotations(as_of=moment(0)) == []
    assert app.annotations(concept("dog"), as_of=moment(10**6)) == ["photo-dog"]
    assert app.inputs(concept("dog", negate=True), as_of=moment(1)) == ["photo"]
    assert app.inputs(concept("dog", negate=True), as_of=moment(2)) == []


def test_what_came_later_was_not_there(app: Shelf) -> None:
    app.add_input("early")
    app.add_input("late")

    found = [
        (app.inputs(as_of=moment(tick)), app.inputs(concept("dog", negate=True), as_of=moment(tick)))
        for tick in range(3)
    ]

    assert found == [([], []), (["early"], ["early"]), (["early", "late"], ["early", "late"])]


def test_a_changed_annotation_said_something_else_before(app: Shelf) -> None:
    app.add_input("photo", says={"dog": 1.0}, metadata={"v": 1}, place=(10.0, 10.0))
    app.change("photo", says={"dog": 0.0}, metadata={"v": 2})
    app.change("photo", says={"cat": 1.0}, place=(50.0, 50.0), status=24151)

    found = [
        (
            app.annotations(concept("dog"), as_of=moment(tick)),
            app.inputs(concept("dog", 0.0), as_of=moment(tick)),
            app.annotations(metadata({"v": 1}), as_of=moment(tick)),
            app.annotations(metadata({"v": 2}), as_of=moment(tick)),
            app.inputs(near(10.0, 10.0), as_of=moment(tick)),
            app.inputs(near(50.0, 50.0), as_of=moment(tick)),
            app.annotations({"annotation": {"trusted": True}}, as_of=moment(tick)),
        )
        for tick in (1, 2, 3)
    ]

    assert found == [
        (["photo"], [], ["photo"], [], ["photo"], [], ["photo"]),
        ([], ["photo"], [], ["photo"], [], [], ["photo"]),
        ([], [], [], [], [], ["photo"], []),
    ]
    assert app.annotations(concept("cat")) == app.annotations(concept("cat"), as_of=moment(3)) == ["photo"]


def test_a_version_holds_from_its_change_up_to_the_next(app: Shelf) -> None:
    app.add_input("photo", says={"dog": 1.0})
    app.change("photo", says={"cat": 1.0})
    change = {"last_updated_time_range": {"start_time": moment(2).isoformat()}}

    just_before = moment(2) - timedelta(microseconds=1)
    assert app.annotations(concept("dog"), as_of=just_before) == ["photo"]
    assert app.annotations(concept("dog"), as_of=moment(2)) == []
    assert app.annotations(concept("cat"), as_of=just_before) == []
    assert app.annotations(change, as_of=moment(1)) == []
    assert app.annotations(change, as_of=moment(2)) == ["photo"]


def test_a_deleted_annotation_was_there_before(app: Shelf) -> None:
    app.add_input("photo")
    app.add("photo", "photo-dog", says={"dog": 1.0}, annotation_info={"by": "hand"}, task_id="t")
    app.delete("photo-dog")
    wanted = {"annotation": {"task_id": "t", "annotation_info": {"by": "hand"}}}

    assert app.annotations(concept("dog"), as_of=moment(2)) == ["photo-dog"]
    assert app.annotations(wanted, as_of=moment(2)) == ["photo-dog"]
    assert app.witnesses(concept("dog"), as_of=moment(2)) == [("photo", "photo-dog")]
    assert app.annotations(concept("dog"), as_of=moment(3)) == []
    assert app.annotations(concept("dog")) == []


def test_what_was_said_of_a_region_that_is_gone_stands_on_the_whole_image(app: Shelf) -> None:
    app.add_input("photo")
    app.add_region("photo", "r1")
    app.add("photo", "photo-dog", region="r1", says={"dog": 1.0}, data=MASK)
    app.add("photo", "photo-id", region="r1")
    app.delete("photo-dog")
    app.delete("photo-id")
    there = {"as_of": moment(3)}
    whole, region, known = app.areas["photo"], {"annotation": {"data": {"regions": [{"id": "r1"}]}}}, app.labels

    assert known("dog", moment(3)) == {"r1": 1.0}
    app.delete_region("r1")
    del app.areas["r1"]

    assert app.annotations(concept("dog"), **there) == ["photo-dog"]
    assert app.areas["photo"] == whole
    assert known("dog", moment(3)) == {"photo": 1.0}
    assert app.annotations(region, **there) == ["photo-dog", "photo-id"]
    assert app.annotations({"annotation": {"data": {"regions": [{"track_id": "7"}]}}}, **there) == ["photo-dog"]
    assert app.annotations({"annotation": {"data": {"regions": [{"region_info": {"mask": {}}}]}}}, **there) == [
        "photo-dog"
    ]
    box = {"annotation": {"data": {"regions": [{"region_info": {"bounding_box": {}}}]}}}
    assert app.annotations(box, **there) == ["photo-id"]
    assert app.annotations({"annotation": {"data": {}}}, **there) == ["photo"]


def test_a_deleted_input_is_gone_from_the_past_as_well(app: Shelf) -> None:
    app.add_input("photo", says={"dog": 1.0})
    app.add_input("other", says={"dog": 1.0})
    app.change("photo", says={"cat": 1.0})
    app.delete_input("photo")

    assert app.inputs(concept("dog"), as_of=moment(2)) == ["other"]
    assert app.annotations(as_of=moment(2)) == ["other"]


def test_what_is_inherited_is_that_of_the_time(app: Shelf) -> None:
    app.add_input("photo", metadata={"v": 1})
    app.add("photo", "photo-heir")
    app.change("photo", metadata={"v": 2})

    assert app.annotations(metadata({"v": 1}), as_of=moment(2)) == ["photo", "photo-heir"]
    assert app.annotations(metadata({"v": 1}, negate=True), as_of=moment(3)) == ["photo", "photo-heir"]
    assert app.annotations(metadata({"v": 2}), as_of=moment(3)) == ["photo", "photo-heir"]


def test_predictions_of_the_time_are_found_by_their_model(app: Shelf) -> None:
    app.add_input("photo")
    app.add("photo", "photo-seen", model_id="general", model_version_id="v1", says={"dog": 0.9})
    named = {"annotation": {"model_version_id": "v1"}}

    assert app.annotations(named, concept("dog"), as_of=moment(1)) == []
    assert app.annotations(named, concept("dog"), as_of=moment(2)) == ["photo-seen"]
    assert app.annotations(concept("dog"), as_of=moment(2)) == []


def test_datasets_and_inputs_are_those_of_now(app: Shelf) -> None:
    app.add_input("photo", datasets=["holiday"], status=30001)
    app.add_input("later", datasets=["holiday"])
    member = {"input": {"dataset_ids": ["holiday"]}}

    assert app.inputs(member, as_of=moment(1)) == ["photo"]
    assert app.annotations({"input": {"status": {"code": 30001}}}, as_of=moment(1)) == ["photo"]
    assert app.annotations({"input": {"status": {"code": 30001}}}, as_of=moment(0)) == []


def test_the_latest_trusted_label_of_the_time_counts(app: Shelf) -> None:
    app.add_input("photo", says={"dog": 1.0})
    app.add("photo", "photo-late", says={"dog": 0.0, "cat": 1.0})
    app.add("photo", "photo-doubt", says={"dog": 0.75}, trusted=False)
    app.add("photo", "photo-seen", model_id="general", model_version_id="v1", says={"dog": 0.25})
    app.change("photo", says={"dog": 0.5})
    app.delete("photo-late")

    assert [app.labels("dog", moment(tick)).get("photo") for tick in range(7)] == [
        *(None, 1.0, 0.0, 0.0, 0.0, 0.5, 0.5)
    ]  # fmt: skip
    assert app.labels("cat", moment(5)) == {"photo": 1.0}
    assert app.labels("cat", moment(6)) == {}
