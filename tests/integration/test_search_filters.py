"""Every field of a filter, over a real database: what it finds, what its opposite finds, and what goes together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.filtering import Shelf, moment, shelf

BOX = {"regions": [{"region_info": {"bounding_box": {"top_row": 0.1, "left_col": 0.1}}}]}
EVERYTHING = [
    *("beach", "beach-dog", "beach-box", "beach-known", "city", "city-mask", "city-later"),
    *("film", "film-frame", "film-time", "note", "note-text", "waiting"),
]
#: Those of a region or a stretch of time.
SOMEWHERE = ("beach-box", "beach-known", "city-mask", "film-frame", "film-time")


@pytest.fixture
def app(database_url: str) -> Iterator[Shelf]:
    """An app of people's annotations ``EVERYTHING``, and predictions, beside another app with the like."""
    with shelf(database_url) as other:
        other.add_input("beach", says={"dog": 1.0}, datasets=["holiday"], place=(44.0, 55.0), metadata={"a": 1})
        with shelf(database_url) as app:
            _fill(app)
            yield app


def _fill(app: Shelf) -> None:
    app.add_input("beach", says={"car": 0.0}, url="https://example.com/beach\\1", datasets=["holiday"])
    app.add("beach", "beach-dog", says={"dog": 1.0, "cat": 0.2}, user_id="bob", task_id="t1")
    app.add_region("beach", "r1")
    app.add("beach", "beach-box", region="r1", says={"cat": 0.5}, data=BOX, annotation_info={"round": 2, "by": ["x"]})
    app.add("beach", "beach-known", region="r1", data={"regions": [{"id": "r1", "track_id": "7"}]}, status=24151)
    app.add("beach", "beach-seen", model_id="general", model_version_id="v1", says={"dog": 0.9, "car": 0.1})
    app.add_input("city", says={"dog": 0.0}, datasets=["holiday", "work"], url="https://example.com/city")
    app.add_region("city", "r2", box=False)
    app.add("city", "city-mask", region="r2", data={"regions": [{"region_info": {"mask": {}}, "track_id": "8"}]})
    app.add("city", "city-seen", model_id="general", model_version_id="v2", says={"dog": 0.2})
    app.add("city", "city-later", says={"cat": 1.0}, trusted=False, annotation_info={"round": 3})
    app.add_input("film", media="video", status=30002)
    app.add("film", "film-frame", data={"frames": [{"frame_info": {"index": 3}}]})
    app.add("film", "film-time", data={"time_segments": [{"time_info": {"begin_time": 0.5}}]}, task_id="t2")
    app.add_input("note", media="text")
    app.add("note", "note-text", data={"text": {"raw": "hello"}})
    app.add_input("waiting", status=30001)


def annotation(**fields: Any) -> dict[str, Any]:
    return {"annotation": fields}


def data(**fields: Any) -> dict[str, Any]:
    return {"annotation": {"data": fields}}


def kind(name: str) -> dict[str, Any]:
    return data(regions=[{"region_info": {name: {}}}])


def concept(*concepts: str | tuple[str, float], **more: Any) -> dict[str, Any]:
    named = [(item, 1.0) if isinstance(item, str) else item for item in concepts]
    return data(concepts=[{"id": name, "value": value} for name, value in named], **more)


CASES: list[tuple[str, dict[str, Any], list[str]]] = [
    ("id", annotation(id="beach-dog"), ["beach-dog"]),
    ("input_id", annotation(input_id="note"), ["note", "note-text"]),
    ("task_id", annotation(task_id="t1"), ["beach-dog"]),
    ("user_id", annotation(user_id="bob"), ["beach-dog"]),
    ("worker.user.id", annotation(worker={"user": {"id": "bob"}}), ["beach-dog"]),
    ("user_id me", annotation(user_id="me"), [name for name in EVERYTHING if name != "beach-dog"]),
    ("status", annotation(status={"code": 24151}), ["beach-known"]),
    ("trusted", annotation(trusted=True), [n for n in EVERYTHING if n not in ("beach-known", "city-later")]),
    ("input_level", annotation(input_level=True), ["beach", "city", "film", "note", "waiting"]),
    ("info", annotation(annotation_info={"round": 2.0}), ["beach-box"]),
    ("info, a list", annotation(annotation_info={"by": ["x"]}), ["beach-box"]),
    ("info, either", annotation(annotation_info={"round": 3, "by": ["x", "x"]}), ["beach-box", "city-later"]),
    ("info, neither", annotation(annotation_info={"round": "2"}), []),
    ("whole", annotation(data={}), [n for n in EVERYTHING if n not in SOMEWHERE]),
    ("box", kind("bounding_box"), ["beach-box", "beach-known"]),
    ("mask", kind("mask"), ["city-mask"]),
    ("point", kind("point"), []),
    (
        "box or mask",
        data(regions=[{"region_info": {"mask": {}}}, {"region_info": {"bounding_box": {}}}]),
        [
            "beach-box",
            "beach-known",
            "city-mask",
        ],
    ),
    ("track", data(regions=[{"track_id": "7"}]), ["beach-known"]),
    ("tracks", data(regions=[{"track_id": "7"}, {"track_id": "8"}]), ["beach-known", "city-mask"]),
    ("mask on a track", data(regions=[{"track_id": "7", "region_info": {"mask": {}}}]), []),
    ("region", data(regions=[{"id": "r1"}]), ["beach-box", "beach-known"]),
    ("frame", data(frames=[{"frame_info": {}}]), ["film-frame"]),
    ("time segment", data(time_segments=[{"time_info": {}}]), ["film-time"]),
    ("text", data(text={}), ["note-text"]),
    ("frame or text", data(frames=[{"frame_info": {}}], text={}), ["film-frame", "note-text"]),
    ("concept", concept("dog"), ["beach-dog"]),
    ("concept by a name", data(concepts=[{"name": "犬", "language": "ja", "value": 1}]), ["beach-dog"]),
    ("concept by its public id", concept("ai_dog"), ["beach-dog"]),
    ("concept that is not there", concept(("dog", 0.0)), ["city"]),
    ("concept at 0.5", concept("cat"), ["beach-box", "city-later"]),
    ("concepts", concept("dog", "cat"), ["beach-dog", "beach-box", "city-later"]),
    ("one there or another not", concept("dog", ("car", 0.0)), ["beach", "beach-dog"]),
    ("one not there or another not", concept(("cat", 0.0), ("car", 0.0)), ["beach", "beach-dog"]),
    ("unknown concept", concept("unheard of"), []),
    (
        "a region's concept",
        data(regions=[{"data": {"concepts": [{"id": "cat", "value": 1}]}}]),
        [
            "beach-box",
            "city-later",
        ],
    ),
    ("url of an annotation", data(image={"url": "https://example.com/city"}), ["city", "city-mask", "city-later"]),
    ("url of an input", {"input": {"data": {"image": {"url": "https://example.com/beach\\1"}}}}, EVERYTHING[:4]),
    ("unknown url", data(image={"url": "https://example.com/beach"}), []),
    ("input", {"input": {"id": "film"}}, ["film", "film-frame", "film-time"]),
    ("dataset", {"input": {"dataset_ids": ["work"]}}, ["city", "city-mask", "city-later"]),
    ("datasets", {"input": {"dataset_ids": ["work", "holiday", "none"]}}, EVERYTHING[:7]),
    ("unknown dataset", {"input": {"dataset_ids": ["none"]}}, []),
    ("media", {"input": {"data": {"video": {}, "audio": {}}}}, ["film", "film-frame", "film-time"]),
    ("input status", {"input": {"status": {"code": 30001}}}, ["waiting"]),
    ("media or status", {"input": {"data": {"text": {}}, "status": {"code": 30001}}}, ["note", "note-text", "waiting"]),
    ("workflow", annotation(worker={"workflow": {"version": {"id": "w"}}}), []),
    (
        "change",
        {"last_updated_time_range": {"start_time": moment(2).isoformat(), "end_time": moment(3).isoformat()}},
        [
            "beach-dog",
            "beach-box",
        ],
    ),
    ("change until", {"last_updated_time_range": {"end_time": moment(1).isoformat()}}, ["beach"]),
    ("two of an annotation", annotation(user_id="bob", task_id="t1"), ["beach-dog"]),
    ("two that exclude each other", annotation(user_id="bob", input_level=True), []),
    ("annotation and input", concept("cat") | {"input": {"dataset_ids": ["work"]}}, ["city-later"]),
]


def test_every_field_finds_what_it_says(app: Shelf) -> None:
    for name, wanted, expected in CASES:
        assert app.annotations(wanted) == expected, name


def test_negated_every_field_finds_the_rest(app: Shelf) -> None:
    for name, wanted, expected in CASES:
        if any(value == 0.0 for value in _values(wanted)):
            continue  # negated, a value of 0 means 1
        assert app.annotations(wanted | {"negate": True}) == [n for n in EVERYTHING if n not in expected], name


def test_an_input_search_finds_inputs_with_such_an_annotation_or_without_any(app: Shelf) -> None:
    inputs = ["beach", "city", "film", "note", "waiting"]
    for name, wanted, expected in CASES:
        found = [item for item in inputs if any(one.split("-")[0] == item for one in expected)]

        assert app.inputs(wanted) == found, name
        if not any(value == 0.0 for value in _values(wanted)):
            assert app.inputs(wanted | {"negate": True}) == [item for item in inputs if item not in found], name


def _values(wanted: dict[str, Any]) -> list[float]:
    concepts = wanted.get("annotation", {}).get("data", {}).get("concepts", [])
    return [item["value"] for item in concepts]


def test_a_negated_0_means_without_the_concept(app: Shelf) -> None:
    assert app.inputs(concept(("dog", 0.0)) | {"negate": True}) == ["city", "film", "note", "waiting"]


def test_filters_hold_for_one_annotation_or_for_the_annotations_of_one_input(app: Shelf) -> None:
    dog, cat = concept("dog"), concept("cat")

    assert app.annotations(dog, cat) == []
    assert app.inputs(dog, cat) == ["beach"]
    assert app.annotations(dog, concept("cat") | {"negate": True}) == ["beach-dog"]
    assert app.inputs(dog, concept("cat") | {"negate": True}) == []
    assert app.annotations(dog, concept(("cat", 0.2))) == ["beach-dog"]
    assert app.annotations(dog, {"input": {"dataset_ids": ["holiday"]}}, {"input": {"id": "beach"}}) == ["beach-dog"]
    assert app.inputs(concept("cat") | {"negate": True}, concept("dog") | {"negate": True}) == [
        "film", "note", "waiting",
    ]  # fmt: skip


def test_an_input_is_shown_by_an_annotation_that_was_asked_for(app: Shelf) -> None:
    assert app.witnesses(concept("cat")) == [("beach", "beach-box"), ("city", "city-later")]
    assert app.witnesses(concept("cat"), concept("dog")) == [("beach", "beach-dog")]
    assert app.witnesses({"input": {"id": "city"}}) == [("city", "city")]
    assert app.witnesses(concept("cat") | {"negate": True}, {"input": {"id": "note"}}) == [("note", "note")]


def test_predictions_are_found_by_those_who_name_the_model(app: Shelf) -> None:
    first = annotation(model_version_id="v1")
    general = annotation(worker={"model": {"id": "general"}})

    assert app.annotations(first) == ["beach-seen"]
    assert app.annotations(annotation(worker={"model": {"model_version": {"id": "v2"}}})) == ["city-seen"]
    assert app.annotations(general) == ["beach-seen", "city-seen"]
    assert app.annotations(general, concept("dog")) == ["beach-seen"]
    assert app.annotations(general, concept(("dog", 0.0))) == ["city-seen"]
    assert app.annotations(general, concept("dog") | {"negate": True}) == ["city-seen"]
    assert app.annotations(annotation(model_version_id="v9")) == []
    assert app.inputs(general) == ["beach", "city"]
    assert app.witnesses(general, concept("cat")) == [("beach", "beach-box"), ("city", "city-seen")]


def test_in_an_input_search_a_model_is_named_for_its_filter_only(app: Shelf) -> None:
    named = annotation(model_version_id="v1", data={"concepts": [{"id": "car", "value": 0.1}]})

    assert app.inputs(named, concept("dog")) == ["beach"]
    assert app.inputs(annotation(model_version_id="v2"), concept("dog")) == []


def test_not_by_a_model_is_everything_of_people(app: Shelf) -> None:
    assert app.annotations(annotation(model_version_id="v1") | {"negate": True}) == EVERYTHING


def test_without_filters_there_is_everything_of_people(app: Shelf) -> None:
    assert app.annotations() == app.annotations({}, {"annotation": {}, "input": {}}) == EVERYTHING
    assert app.inputs() == ["beach", "city", "film", "note", "waiting"]


# Legacy ---------------------------------------------------------------------------------------------------------------


def test_a_legacy_search_filters_by_trusted_labels(app: Shelf) -> None:
    def labelled(*concepts: tuple[str, float], **more: Any) -> dict[str, Any]:
        named = [{"id": name, "value": value} for name, value in concepts]
        return {"input": {"data": {"concepts": named}}} | more

    assert app.legacy(labelled(("cat", 1.0))) == ["beach"]
    assert app.legacy({"annotation": {"data": {"concepts": [{"id": "cat", "value": 1.0}]}}}) == ["beach", "city"]
    assert app.legacy(labelled(("cat", 1.0)), labelled(("dog", 1.0))) == ["beach"]
    assert app.legacy(labelled(("dog", 0.0))) == ["city"]
    assert app.legacy(labelled(("dog", 1.0), negate=True)) == ["city", "film", "note", "waiting"]
    assert app.legacy(labelled(("cat", 1.0)), filters=[{"input": {"id": "city"}}]) == []


def test_a_legacy_search_filters_by_the_input_itself(app: Shelf) -> None:
    assert app.legacy({"input": {"id": "city"}}) == ["city"]
    assert app.legacy({"input": {"dataset_ids": ["holiday"]}, "negate": True}) == ["film", "note", "waiting"]
    assert app.legacy({"input": {"data": {"image": {"url": "https://example.com/city"}}}}) == ["city"]
    assert app.legacy({"input": {"status": {"code": 30001}}}) == ["waiting"]
    assert app.legacy() == ["beach", "city", "film", "note", "waiting"]
