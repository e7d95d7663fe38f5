"""An annotation that names a region by its id stores the geometry of it (filters by kind of geometry ask for it)."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from clarifai_grpc.grpc.api.resources_pb2 import Data, Point, Polygon, Region, RegionInfo
from tests.integration.serving import App, Site, of_bytes, of_url, picture
from tests.integration.test_annotations_post import LEFT, boxed, has, on


def stored(app: App, annotation_id: str) -> dict[str, Any]:
    """The region of the stored data."""
    rows = app.server.sql(
        "SELECT data -> 'regions' -> 0 FROM annotations"
        " WHERE bucket = (SELECT first_bucket FROM apps WHERE id = %s) AND id = %s",
        app.id,
        annotation_id,
    )
    found: dict[str, Any] = rows[0][0]
    return found


TRIANGLE = Polygon(points=[Point(row=0.1, col=0.1), Point(row=0.9, col=0.1), Point(row=0.5, col=0.8)])


@pytest.mark.parametrize(
    ("info", "kind"),
    [
        (boxed((0.1, 0.0, 0.9, 0.5)).regions[0].region_info, "bounding_box"),
        (RegionInfo(polygon=TRIANGLE), "polygon"),
        (RegionInfo(point=Point(row=0.25, col=0.5)), "point"),
    ],
    ids=["box", "polygon", "point"],
)
@pytest.mark.parametrize("together", [True, False])
def test_its_kind_and_place_are_those_of_the_region(app: App, info: RegionInfo, kind: str, together: bool) -> None:
    app.indexed(of_bytes(picture(1), "a"))
    first = on("a", Data(regions=[Region(id="r", region_info=info)]), "first")
    second = on("a", Data(regions=[Region(id="r", data=Data(concepts=[has("c")]))]), "second")

    if together:
        made = app.annotate(first, second)[1]
    else:
        app.annotate(first)
        (made,) = app.annotate(second)

    assert stored(app, "second")["region_info"] == stored(app, "first")["region_info"]
    assert list(stored(app, "second")["region_info"]) == [kind]
    assert made.data.regions[0].region_info == info
    assert made.data.regions[0].id == "r"


def test_people_are_asked_before_predictions(app: App) -> None:
    app.indexed(of_bytes(picture(1), "a"))
    app.annotate(on("a", Data(regions=[Region(id="r", region_info=RegionInfo(polygon=TRIANGLE))]), "first"))
    app.annotate(on("a", Data(regions=[Region(id="r")]), "second"))
    app.call("DeleteAnnotation", input_id="a", annotation_id="first")

    app.annotate(on("a", Data(regions=[Region(id="r")]), "third"))

    assert list(stored(app, "third")["region_info"]) == ["polygon"]


@pytest.mark.parametrize("indexed", [True, False])
def test_a_prediction_says_where_it_is(app: App, site: Site, indexed: bool) -> None:
    gate = threading.Event()
    url = site.show(picture(1), gate=gate)
    app.post(of_url(url, "a"))
    if indexed:
        gate.set()
        app.finished("a")
    point = Data(regions=[Region(region_info=RegionInfo(point=Point(row=0.25, col=0.5)))])
    app.annotate(on("a", boxed((0.25, 0.0, 0.75, 0.5)), "box"), on("a", point, "point"))
    gate.set()
    app.finished("a")

    rows = app.server.sql(
        "SELECT data FROM annotations WHERE bucket = (SELECT first_bucket FROM apps WHERE id = %s)"
        " AND model_version_id <> ''",
        app.id,
    )

    box = {"top_row": 0.25, "left_col": 0.0, "bottom_row": 0.75, "right_col": 0.5}
    said = [data and data["regions"] for (data,) in rows]
    assert len(said) == 3
    assert None in said
    assert [{}] in said
    assert [{"region_info": {"bounding_box": box}}] in said


def test_it_outlives_the_annotation_that_made_the_region(app: App) -> None:
    app.indexed(of_bytes(picture(1), "a"))
    app.annotate(on("a", boxed(LEFT, has("c"), region_id="r"), "first"))
    app.annotate(on("a", Data(regions=[Region(id="r")]), "second"))
    app.call("DeleteAnnotation", input_id="a", annotation_id="first")

    app.annotate(on("a", Data(regions=[Region(id="r")]), "third"))

    assert stored(app, "third")["region_info"] == {"bounding_box": {"bottom_row": 1.0, "right_col": 0.5}}


def test_a_region_of_which_nobody_said_the_geometry_has_its_box(app: App) -> None:
    app.indexed(of_bytes(picture(1), "a"))
    app.annotate(on("a", boxed((0.25, 0.0, 0.75, 0.5), region_id="r"), "first"))
    app.server.sql("UPDATE annotations SET data = NULL WHERE id = 'first' RETURNING id")

    (made,) = app.annotate(on("a", Data(regions=[Region(id="r")]), "second"))

    box = {"top_row": 0.25, "left_col": 0.0, "bottom_row": 0.75, "right_col": 0.5}
    assert stored(app, "second")["region_info"] == {"bounding_box": box}
    assert made.data.regions[0].region_info.bounding_box.bottom_row == 0.75
