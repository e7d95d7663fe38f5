"""Filters by place and by metadata: distances against a plain haversine, containment at any depth, inheritance."""

from __future__ import annotations

import math
from collections.abc import Iterator
from random import Random
from typing import Any

import numpy as np
import pytest
from tests.integration.filtering import Shelf, shelf

EARTH_KM, MILE_KM = 6371.0088, 1.609344


@pytest.fixture
def app(database_url: str) -> Iterator[Shelf]:
    with shelf(database_url) as app:
        yield app


def point(latitude: float, longitude: float) -> dict[str, float]:
    return {"latitude": latitude, "longitude": longitude}


def near(place: tuple[float, float], value: float, unit: str = "withinKilometers", **more: Any) -> dict[str, Any]:
    geo = {"geo_point": point(*place), "geo_limit": {"type": unit, "value": value}}
    return {"annotation": {"data": {"geo": geo}}} | more


def between(one: tuple[float, float], other: tuple[float, float]) -> dict[str, Any]:
    corners = [{"geo_point": point(*one)}, {"geo_point": point(*other)}]
    return {"annotation": {"data": {"geo": {"geo_box": corners}}}}


def metadata(document: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"annotation": {"data": {"metadata": document}}} | more


def angle(one: tuple[float, float], other: tuple[float, float]) -> float:
    """The central angle between two places, in radians."""
    latitude, longitude, latitude2, longitude2 = map(math.radians, (*one, *other))
    share = math.sin((latitude2 - latitude) / 2) ** 2
    share += math.cos(latitude) * math.cos(latitude2) * math.sin((longitude2 - longitude) / 2) ** 2
    return 2.0 * math.asin(math.sqrt(min(share, 1.0)))


# Places ---------------------------------------------------------------------------------------------------------------


def test_circles_find_what_the_haversine_finds(app: Shelf) -> None:
    random = Random(7)
    places = [
        (float(np.float32(random.uniform(-90, 90))), float(np.float32(random.uniform(-180, 180)))) for _ in range(60)
    ]
    places += [(90.0, 0.0), (-90.0, 12.0), (0.0, 180.0), (0.0, -180.0), (45.0, 179.75), (45.0, -179.75), (89.5, -90.0)]
    for i, place in enumerate(places):
        app.add_input(f"p{i}", place=place)

    for centre in [
        (0.0, 0.0),
        (89.5, 90.0),
        (-90.0, 0.0),
        (45.0, 180.0),
        (45.0, -179.5),
        (60.0, 179.0),
        (0.25, -180.0),
    ]:
        for radians in (0.0, 0.005, 0.02, 0.3, 1.0, 1.6, 2.5, 3.1, 3.2):
            wanted = float(np.float32(radians))
            expected = [f"p{i}" for i, place in enumerate(places) if angle(centre, place) <= wanted]

            assert app.inputs(near(centre, radians, "withinRadians")) == expected, (centre, radians)


def test_circles_reach_across_the_antimeridian_and_over_the_poles(app: Shelf) -> None:
    app.add_input("west", place=(0.0, -179.875))
    app.add_input("east", place=(0.0, 179.875))
    app.add_input("far", place=(0.0, 178.0))
    app.add_input("arctic", place=(89.75, -60.0))
    app.add_input("antarctic", place=(-89.75, 100.0))

    assert app.inputs(near((0.0, 179.875), 50)) == ["west", "east"]
    assert app.inputs(near((0.0, -179.875), 50)) == ["west", "east"]
    assert app.inputs(near((0.0, 180.0), 15)) == ["west", "east"]
    assert app.inputs(near((89.75, 120.0), 60)) == ["arctic"]
    assert app.inputs(near((-90.0, 0.0), 30)) == ["antarctic"]


@pytest.mark.parametrize(
    ("unit", "in_radians"),
    [
        ("withinMiles", MILE_KM / EARTH_KM),
        ("withinKilometers", 1 / EARTH_KM),
        ("withinDegrees", math.pi / 180),
        ("withinRadians", 1.0),
    ],
)
def test_every_unit_is_a_central_angle(app: Shelf, unit: str, in_radians: float) -> None:
    app.add_input("here", place=(-29.0, 40.0))
    app.add_input("there", place=(-30.0, 40.0))
    distance = math.radians(1.0) / in_radians

    assert app.inputs(near((-29.0, 40.0), distance * 0.999, unit)) == ["here"]
    assert app.inputs(near((-29.0, 40.0), distance * 1.001, unit)) == ["here", "there"]
    assert app.inputs(near((-29.0, 40.0), 0.0, unit)) == ["here"]


def test_a_box_spans_its_corners_borders_included_and_does_not_wrap(app: Shelf) -> None:
    app.add_input("corner", place=(42.0, -31.0))
    app.add_input("inside", place=(40.0, -30.0))
    app.add_input("outside", place=(41.0, 170.0))

    for corners in [((42.0, -31.0), (39.0, -29.0)), ((39.0, -31.0), (42.0, -29.0)), ((42.0, -29.0), (39.0, -31.0))]:
        assert app.inputs(between(*corners)) == ["corner", "inside"]
    assert app.inputs(between((0.0, 175.0), (50.0, -175.0))) == ["corner", "inside", "outside"]
    assert app.inputs(between((40.0, -30.0), (40.0, -30.0))) == ["inside"]


def test_an_annotation_without_a_place_is_where_its_input_is(app: Shelf) -> None:
    app.add_input("home", place=(10.0, 10.0))
    app.add("home", "home-here", says={"dog": 1.0})
    app.add("home", "home-there", place=(50.0, 50.0))
    app.add_input("lost")
    app.add("lost", "lost-there", place=(50.0, 50.0), says={"dog": 1.0})

    assert app.annotations(near((10.0, 10.0), 1)) == ["home", "home-here"]
    assert app.annotations(near((50.0, 50.0), 1)) == ["home-there", "lost-there"]
    assert app.annotations(near((10.0, 10.0), 1, negate=True)) == ["home-there", "lost", "lost-there"]
    dog = {"concepts": [{"id": "dog", "value": 1}]}
    assert app.annotations({"annotation": {"data": dog}}, near((10.0, 10.0), 1)) == ["home-here"]
    assert app.inputs({"annotation": {"data": dog}}, near((10.0, 10.0), 1)) == ["home"]
    both = {"annotation": {"data": dog | near((10.0, 10.0), 1)["annotation"]["data"]}}
    assert app.witnesses(both) == [("home", "home-here")]
    assert app.inputs(near((10.0, 10.0), 1, negate=True)) == ["lost"]


def test_nothing_without_a_place_lies_within_the_whole_earth(app: Shelf) -> None:
    app.add_input("somewhere", place=(10.0, 10.0))
    app.add_input("nowhere")

    assert app.inputs(near((0.0, 0.0), 1e6)) == ["somewhere"]
    assert app.annotations(near((0.0, 0.0), 1e6, negate=True)) == ["nowhere"]


def test_a_legacy_search_finds_trusted_places_and_metadata(app: Shelf) -> None:
    app.add_input("known", place=(10.0, 10.0), metadata={"a": 1})
    app.add_input("doubtful")
    app.add("doubtful", "doubtful-too", place=(10.0, 10.0), metadata={"a": 1}, trusted=False)

    assert app.legacy({"input": {"data": near((10.0, 10.0), 1)["annotation"]["data"]}}) == ["known"]
    assert app.legacy({"input": {"data": {"metadata": {"a": 1}}}}) == ["known"]
    assert app.legacy({"annotation": {"data": {"metadata": {"a": 1}}}}) == ["known", "doubtful"]


# Metadata -------------------------------------------------------------------------------------------------------------

STORED = {
    "some-key": "some-value",
    "another-key": {"inner-key": "inner-value", "n": 0.1},
    "somelist": [1, 2, 3],
    "somenesting": {"list2": [4, 5], "deep": [{"x": 1, "y": [True, None]}, {"x": 2}]},
    "Text": 'Ünï "quoted" \\ %s {}',
    "yes": True,
    "none": None,
    "empty": {},
    "nothing": [],
    "big": 1e22,
}


@pytest.mark.parametrize(
    "wanted",
    [
        {"some-key": "some-value"},
        {"another-key": {"inner-key": "inner-value"}},
        {"another-key": {}},
        {"another-key": {"n": 0.1}},
        {"somelist": [1, 2]},
        {"somelist": [3, 1, 1]},
        {"somelist": [2.0]},
        {"somelist": []},
        {"somenesting": {"list2": [5]}},
        {"somenesting": {"deep": [{"x": 1}]}},
        {"somenesting": {"deep": [{"y": [None]}, {"x": 2}]}},
        {"Text": 'Ünï "quoted" \\ %s {}'},
        {"yes": True},
        {"none": None},
        {"empty": {}},
        {"nothing": []},
        {"big": 1e22},
        {"some-key": "wrong", "yes": True},
    ],
    ids=str,
)
def test_metadata_that_is_contained_is_found(app: Shelf, wanted: dict[str, Any]) -> None:
    app.add_input("stored", metadata=STORED)
    app.add_input("other", metadata={"x": 1})
    app.add_input("none")

    assert app.inputs(metadata(wanted)) == ["stored"]
    assert app.annotations(metadata(wanted, negate=True)) == ["other", "none"]


@pytest.mark.parametrize(
    "wanted",
    [
        {"some-key": "Some-value"},
        {"Some-key": "some-value"},
        {"inner-key": "inner-value"},
        {"another-key": {"inner-key": "inner-value", "more": 1}},
        {"another-key": "inner-value"},
        {"somelist": [1, 4]},
        {"somelist": 1},
        {"somelist": {"0": 1}},
        {"somelist": ["1"]},
        {"somenesting": {"deep": [{"x": 1, "y": [False]}]}},
        {"somenesting": {"list2": [[5]]}},
        {"yes": 1},
        {"yes": "true"},
        {"none": False},
        {"missing": None},
        {"empty": []},
        {"nothing": {}},
        {"some-key": "wrong", "yes": False},
    ],
    ids=str,
)
def test_metadata_that_is_not_contained_is_not_found(app: Shelf, wanted: dict[str, Any]) -> None:
    app.add_input("stored", metadata=STORED)

    assert app.inputs(metadata(wanted)) == []
    assert app.annotations(metadata(wanted, negate=True)) == ["stored"]


def test_an_annotation_without_metadata_has_that_of_its_input(app: Shelf) -> None:
    app.add_input("owner", metadata={"a": 1})
    app.add("owner", "owner-heir")
    app.add("owner", "owner-own", metadata={"b": 2})
    app.add("owner", "owner-empty", metadata={})
    app.add_input("poor")
    app.add("poor", "poor-own", metadata={"a": 1})

    assert app.annotations(metadata({"a": 1})) == ["owner", "owner-heir", "poor-own"]
    assert app.annotations(metadata({"a": 1, "b": 2})) == ["owner", "owner-heir", "owner-own", "poor-own"]
    assert app.annotations(metadata({"a": 1}), metadata({"b": 2})) == []
    assert app.inputs(metadata({"a": 1}), metadata({"b": 2})) == ["owner"]
    assert app.annotations(metadata({"a": 1}, negate=True)) == ["owner-own", "owner-empty", "poor"]


def test_what_an_annotation_says_about_itself_is_not_inherited(app: Shelf) -> None:
    app.add_input("owner", annotation_info={"a": 1})
    app.add("owner", "owner-heir")

    wanted = {"annotation": {"annotation_info": {"a": 1}}}
    assert app.annotations(wanted) == ["owner"]
    assert app.annotations(wanted | {"negate": True}) == ["owner-heir"]


def test_predictions_inherit_too(app: Shelf) -> None:
    app.add_input("owner", metadata={"a": 1}, place=(10.0, 10.0))
    app.add("owner", "owner-seen", model_id="general", model_version_id="v1")

    named = {"annotation": {"model_version_id": "v1"}}
    assert app.annotations(named, metadata({"a": 1}), near((10.0, 10.0), 1)) == ["owner-seen"]
