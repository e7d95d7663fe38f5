"""Posting annotations and finding their regions (api-spec 3.3)."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from clarifai_grpc.grpc.api import resources_pb2
from clarifai_grpc.grpc.api.resources_pb2 import (
    Annotation,
    BoundingBox,
    Concept,
    Data,
    Filter,
    Frame,
    FrameInfo,
    Query,
    Region,
    RegionInfo,
    Search,
    TimeSegment,
)
from clarifai_grpc.grpc.api.status.status_pb2 import Status
from google.protobuf.struct_pb2 import Struct
from PIL import Image
from tests.integration.serving import (
    FAILURE,
    INDEXED,
    MIXED,
    USER,
    WORKING,
    App,
    Site,
    by_image,
    encoded,
    of_bytes,
    of_url,
    picture,
    pixels,
    wait_for,
)

LEFT = (0.0, 0.0, 1.0, 0.5)
RIGHT = (0.0, 0.5, 1.0, 1.0)


def pair(left: int, right: int) -> tuple[bytes, bytes, bytes]:
    """Two pictures side by side (PNG, so that a crop has the very same pixels), the left one, the right one."""
    both = Image.new("RGB", (192, 72))
    both.paste(pixels(left), (0, 0))
    both.paste(pixels(right), (96, 0))
    return encoded(both), encoded(pixels(left)), encoded(pixels(right))


def boxed(box: tuple[float, float, float, float], *concepts: Concept, region_id: str = "") -> Data:
    top, left, bottom, right = box
    info = RegionInfo(bounding_box=BoundingBox(top_row=top, left_col=left, bottom_row=bottom, right_col=right))
    return Data(regions=[Region(id=region_id, region_info=info, data=Data(concepts=concepts))])


def has(concept_id: str, value: float = 1.0) -> Concept:
    return Concept(id=concept_id, value=value)


def on(input_id: str, data: Data, annotation_id: str = "", **fields: Any) -> Annotation:
    return Annotation(input_id=input_id, id=annotation_id, data=data, **fields)


def test_every_input_has_one_input_level_annotation_from_the_start(app: App) -> None:
    app.post(of_bytes(picture(1), "a", concepts=[has("boat")]))

    (found,) = app.annotations(input_ids=["a"])

    assert found.input_level
    assert found.trusted
    assert (found.user_id, found.worker.user.id, found.status.code) == (USER, USER, 24150)
    assert [concept.id for concept in found.data.concepts] == ["boat"]


def test_predictions_are_listed_only_when_asked_for(app: App) -> None:
    app.indexed(of_bytes(picture(1), "a"))

    everything = app.annotations(input_ids=["a"], list_all_annotations=True)

    (predicted,) = [found for found in everything if not found.input_level]
    assert not predicted.trusted
    assert predicted.model_version_id
    model = predicted.worker.model
    assert model.model_version.id == predicted.model_version_id
    assert (model.user_id, model.app_id) == ("clarifai", "main")
    assert {concept.app_id for concept in predicted.data.concepts} == {"main"}
    assert len(app.annotations(input_ids=["a"])) == 1
    version = predicted.model_version_id
    assert [found.id for found in app.annotations(model_version_ids=[version])] == [predicted.id]
    assert len(app.annotations(model_version_ids=[version], user_ids=["me"])) == 2


def test_a_concept_annotation_about_the_whole_picture(app: App) -> None:
    app.indexed(of_bytes(picture(1), "a"))
    info = Struct()
    info.update({"by": "hand", "n": 3})

    (made,) = app.annotate(on("a", Data(concepts=[has("boat")]), "note", annotation_info=info, task_id="t1"))

    assert (made.id, made.input_id, made.status.code, made.trusted, made.input_level) == (
        "note",
        "a",
        24150,
        True,
        False,
    )
    found = app.call("GetAnnotation", input_id="a", annotation_id="note").annotation
    assert found == made
    assert found.annotation_info == info
    assert [item.id for item in app.annotations(task_id="t1")] == ["note"]
    assert [concept.id for concept in app.call("ListConcepts").concepts] == ["boat"]


def test_a_region_is_found_by_the_bytes_of_its_crop_at_once(app: App) -> None:
    both, _, right = pair(5, 6)
    app.indexed(of_bytes(both, "both"), *(of_bytes(picture(n), f"other-{n}") for n in range(10, 20)))

    (made,) = app.annotate(on("both", boxed(RIGHT, has("boat"))))

    first = app.rank(by_image(right))[0]
    assert (first.annotation.id, first.input.id) == (made.id, "both")
    assert first.score > 0.99
    (region,) = first.annotation.data.regions
    assert region.id
    assert region.region_info.bounding_box.left_col == 0.5
    assert [concept.id for concept in region.data.concepts] == ["boat"]
    assert not first.annotation.data.concepts
    predicted = [item for item in app.annotations(input_ids=["both"], list_all_annotations=True) if not item.user_id]
    assert sorted(len(item.data.regions) for item in predicted) == [0, 1]


def test_a_region_of_an_input_that_still_waits_is_embedded_with_it(app: App, site: Site) -> None:
    both, _, right = pair(7, 8)
    gate = threading.Event()
    url = site.show(both, kind="image/png", gate=gate)
    app.post(of_url(url, "late"))
    wait_for("the download to begin", lambda: url.removeprefix(site.base) in site.asked)

    (made,) = app.annotate(on("late", boxed(RIGHT, has("boat"))))
    assert app.call("GetInput", input_id="late").input.status.code == WORKING
    gate.set()

    assert app.finished("late").status.code == INDEXED
    first = app.rank(by_image(right))[0]
    assert (first.annotation.id, first.score > 0.99) == (made.id, True)


def test_what_is_said_of_a_time_segment_is_found_and_shown_there(app: App) -> None:
    app.indexed(of_bytes(picture(1), "a"))
    app.annotate(on("a", Data(time_segments=[TimeSegment(data=Data(concepts=[has("boat")]))]), "said"))
    wanted = Filter(annotation=Annotation(data=Data(concepts=[has("boat")])))

    hits = app.call("PostAnnotationsSearches", searches=[Search(query=Query(filters=[wanted]))]).hits

    assert [hit.annotation.id for hit in hits] == ["said"]
    (part,) = hits[0].annotation.data.time_segments
    assert [(concept.id, concept.value) for concept in part.data.concepts] == [("boat", 1.0)]
    assert not hits[0].annotation.data.concepts


def test_an_image_has_no_frames_to_annotate(app: App) -> None:
    app.indexed(of_bytes(picture(1), "a"))
    framed = Data(frames=[Frame(frame_info=FrameInfo(time=2), data=Data(concepts=[has("boat")]))])
    app.annotate(on("a", Data(concepts=[has("car")]), "said"))

    posted = app.ask("PostAnnotations", annotations=[on("a", framed)])
    patched = app.ask("PatchAnnotations", action="merge", annotations=[on("a", framed, "said")])

    for answer in (posted, patched):
        assert answer.annotations[0].status.code == 24155
        assert "no video" in answer.annotations[0].status.details
    kept = app.call("GetAnnotation", input_id="a", annotation_id="said").annotation
    assert ([concept.id for concept in kept.data.concepts], len(kept.data.frames)) == (["car"], 0)


def test_several_annotations_share_a_region_by_its_id(app: App) -> None:
    both, left, _ = pair(1, 2)
    app.indexed(of_bytes(both, "a"))
    app.annotate(on("a", boxed(LEFT, has("boat"), region_id="r1"), "first"))

    named = Data(regions=[Region(id="r1", data=Data(concepts=[has("car")]))])
    (second,) = app.annotate(on("a", named, "second"))

    assert second.data.regions[0].id == "r1"
    assert second.data.regions[0].region_info.bounding_box.right_col == 0.5
    found = [hit for hit in app.rank(by_image(left)) if hit.score > 0.99]
    assert [hit.annotation.id for hit in found] == ["first"]


def test_a_concept_named_twice_is_one_concept_with_the_last_value(app: App) -> None:
    app.post(of_bytes(picture(1), "a", concepts=[has("whatsit"), Concept(name="whatsit", value=0)]))

    (made,) = app.annotate(on("a", Data(concepts=[has("whatsit"), Concept(name="whatsit", value=0.5)])))

    assert [(concept.id, concept.value) for concept in made.data.concepts] == [("whatsit", 0.5)]
    assert [(c.id, c.value) for c in app.call("GetInput", input_id="a").input.data.concepts] == [("whatsit", 0)]


@pytest.mark.parametrize(
    ("data", "mentions"),
    [
        (Data(regions=[*boxed(LEFT).regions, *boxed(RIGHT).regions]), "one annotation for each region"),
        (boxed((0.5, 0.0, 0.4, 1.0)), "top above bottom"),
        (boxed((0.0, 0.5, 1.0, 0.5)), "left before right"),
        (boxed((0.0, 0.0, 1.0, 1.5)), "0..1"),
        (boxed((-0.1, 0.0, 1.0, 1.0)), "0..1"),
        (boxed((float("nan"), 0.0, 1.0, 1.0)), "0..1"),
        (Data(regions=[Region()]), "neither region_info nor the id"),
        (Data(regions=[Region(id="unknown")]), "unknown"),
        (boxed(LEFT, region_id="a\0b"), "zero"),
    ],
)
def test_a_bad_region_is_refused_alone(app: App, data: Data, mentions: str) -> None:
    app.indexed(of_bytes(picture(1), "a"))

    answer = app.ask("PostAnnotations", annotations=[on("a", Data(concepts=[has("c")]), "good"), on("a", data, "bad")])

    assert answer.status.code == MIXED, answer
    assert [item.status.code for item in answer.annotations] == [24150, 24155]
    assert mentions in answer.annotations[1].status.details
    assert {item.id for item in app.annotations() if not item.input_level} == {"good"}


def test_a_polygon_is_searched_by_the_box_around_it(app: App) -> None:
    both, _, right = pair(3, 4)
    app.indexed(of_bytes(both, "a"))
    corners = [(0.0, 0.5), (0.0, 1.0), (1.0, 1.0), (1.0, 0.5)]
    polygon = resources_pb2.Polygon(points=[resources_pb2.Point(row=row, col=col) for row, col in corners])

    (made,) = app.annotate(on("a", Data(regions=[Region(region_info=RegionInfo(polygon=polygon))])))

    assert [(p.row, p.col) for p in made.data.regions[0].region_info.polygon.points] == corners
    first = app.rank(by_image(right))[0]
    assert (first.annotation.id, first.score > 0.99) == (made.id, True)


def test_a_point_has_no_extent_and_stands_for_the_whole_picture(app: App) -> None:
    app.indexed(of_bytes(picture(1), "a"))
    info = RegionInfo(point=resources_pb2.Point(row=0.25, col=0.75))

    (made,) = app.annotate(on("a", Data(regions=[Region(region_info=info, data=Data(concepts=[has("nose")]))])))

    region = app.call("GetAnnotation", input_id="a", annotation_id=made.id).annotation.data.regions[0]
    assert (region.region_info.point.row, region.region_info.point.col) == (0.25, 0.75)
    assert [concept.id for concept in region.data.concepts] == ["nose"]
    assert [hit.score > 0.99 for hit in app.rank(by_image(picture(1)))] == [True, True]


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (Annotation(input_id="nobody", data=Data(concepts=[has("c")])), 11101),
        (Annotation(data=Data(concepts=[has("c")])), 24155),
        (Annotation(input_id="a", user_id=USER, data=Data(concepts=[has("c")])), 0),
        (Annotation(input_id="a"), 0),
        (Annotation(input_id="a", user_id="mallory", data=Data(concepts=[has("c")])), 24155),
        (Annotation(input_id="a", user_id="x\0y", data=Data(concepts=[has("c")])), 24155),
        (Annotation(input_id="a", status=Status(code=30000)), 24155),
        (Annotation(input_id="a", data=Data(concepts=[Concept()])), 40003),
        (Annotation(input_id="a", id="x\0y"), 24155),
        (Annotation(input_id="a\0", data=Data(concepts=[has("c")])), 11101),
        (Annotation(input_id="a", task_id="x\0y"), 24155),
    ],
)
def test_a_wrong_annotation_is_refused_alone(app: App, wrong: Annotation, code: int) -> None:
    app.post(of_bytes(picture(1), "a"))

    answer = app.ask("PostAnnotations", annotations=[wrong, on("a", Data(concepts=[has("c")]), "good")])

    assert answer.status.code == (MIXED if code else 10000), answer
    assert [item.status.code for item in answer.annotations] == [code or 24150, 24150]


def test_a_user_that_does_not_exist_is_named_in_the_refusal(app: App) -> None:
    app.post(of_bytes(picture(1), "a"))

    answer = app.ask("PostAnnotations", annotations=[on("a", Data(), user_id="mallory")])

    assert "no user 'mallory'" in answer.annotations[0].status.details


def test_one_region_id_posted_to_many_inputs_at_once_belongs_to_one_of_them(app: App) -> None:
    names = [f"i{n}" for n in range(6)]
    app.indexed(*(of_bytes(picture(n), name) for n, name in enumerate(names)))

    for turn in range(4):
        items = [on(name, boxed(LEFT, region_id=f"same-{turn}")) for name in names]
        with ThreadPoolExecutor(len(items)) as pool:
            answers = list(pool.map(lambda item: app.ask("PostAnnotations", annotations=[item]), items))

        codes = sorted(answer.annotations[0].status.code for answer in answers)
        assert codes == [24150] + [24155] * 5


def test_when_no_annotation_is_accepted_the_call_failed(app: App) -> None:
    answer = app.ask("PostAnnotations", annotations=[on("nobody", Data(concepts=[has("c")]))])

    assert (answer.status.code, answer.annotations[0].status.code) == (FAILURE, 11101)
    assert not app.call("ListConcepts").concepts


@pytest.mark.parametrize(("status", "trusted"), [(24150, True), (24151, False), (24157, False), (24158, False)])
def test_only_annotations_with_status_success_are_trusted(app: App, status: int, trusted: bool) -> None:
    app.post(of_bytes(picture(1), "a"))

    (made,) = app.annotate(on("a", Data(concepts=[has("c")]), status=Status(code=status)))

    assert (made.status.code, made.trusted) == (status, trusted)
    assert [item.id for item in app.annotations(statuses=[Status(code=status)]) if not item.input_level] == [made.id]


def test_a_taken_annotation_id_is_refused_and_its_region_is_not_made(app: App) -> None:
    app.indexed(of_bytes(picture(1), "a"), of_bytes(picture(2), "b"))
    app.annotate(on("a", Data(concepts=[has("c")]), "taken"))

    answer = app.ask(
        "PostAnnotations", annotations=[on("a", Data(), "new"), on("a", boxed(LEFT), "taken"), on("a", Data(), "new")]
    )

    assert answer.status.code == MIXED
    assert [item.status.code for item in answer.annotations] == [24150, 40010, 40010]
    assert "taken" in answer.annotations[1].status.details
    assert len(app.annotations(list_all_annotations=True, input_ids=["a"])) == 4
    assert app.annotate(on("b", Data(concepts=[has("c")]), "taken"))[0].input_id == "b"


def test_one_call_takes_128_annotations_and_no_more(app: App) -> None:
    app.post(of_bytes(picture(1), "a"))
    many = [on("a", Data(concepts=[has(f"c{n}")]), f"n{n:03}") for n in range(129)]

    refused = app.ask("PostAnnotations", annotations=many)

    assert refused.status.code == 11102
    assert len(app.annotations()) == 1
    assert [item.id for item in app.annotate(*many[:128])] == [item.id for item in many[:128]]
    assert app.ask("PostAnnotations").status.code == 11102


def test_regions_of_one_call_that_share_an_id_are_one_region(app: App) -> None:
    both, left, _ = pair(1, 2)
    app.indexed(of_bytes(both, "a"), of_bytes(picture(9), "b"))

    answer = app.ask(
        "PostAnnotations",
        annotations=[
            on("a", boxed(LEFT, has("x"), region_id="r"), "one"),
            on("a", boxed(LEFT, has("y"), region_id="r"), "two"),
            on("b", boxed(LEFT, has("z"), region_id="r"), "elsewhere"),
            on("a", boxed(RIGHT, has("z"), region_id="r"), "moved"),
        ],
    )

    assert [item.status.code for item in answer.annotations] == [24150, 24150, 24155, 24155], answer
    best = app.rank(by_image(left))[0]
    assert (best.annotation.id, best.score > 0.99) == ("one", True)
    assert (
        app.ask("PostAnnotations", annotations=[on("a", boxed(RIGHT, region_id="r"))]).annotations[0].status.code
        == 24155
    )


def test_a_region_of_an_input_that_failed_is_kept_without_a_vector(app: App) -> None:
    app.post(of_bytes(b"no picture", "bad"))
    app.finished("bad")

    (made,) = app.annotate(on("bad", boxed(LEFT, has("c"))))

    assert made.status.code == 24150
    assert app.rank(by_image(picture(1))) == []


def test_ids_are_of_their_inputs_only(app: App) -> None:
    """(a, x) and (b, y) are posted together where (a, y) and (b, x) exist."""
    app.post(of_bytes(picture(1), "a"), of_bytes(picture(2), "b"))
    app.annotate(on("a", Data(concepts=[has("c")]), "y"), on("b", Data(concepts=[has("c")]), "x"))

    app.annotate(on("a", Data(concepts=[has("d")]), "x"), on("b", Data(concepts=[has("d")]), "y"))

    labels = app.server.sql(
        "SELECT i.id, l.annotation_id, l.concept_id FROM labels l"
        " JOIN inputs i ON i.bucket = l.bucket AND i.number = l.input_number"
        " WHERE l.bucket = (SELECT first_bucket FROM apps WHERE id = %s) ORDER BY 1, 2",
        app.id,
    )
    assert labels == [("a", "x", "d"), ("a", "y", "c"), ("b", "x", "c"), ("b", "y", "d")]
