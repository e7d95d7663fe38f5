"""Listing, patching and deleting annotations (api-spec 3.1, 3.3)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from clarifai_grpc.grpc.api.resources_pb2 import Annotation, Concept, Data, Geo, GeoPoint, Point, Region, RegionInfo
from clarifai_grpc.grpc.api.status.status_pb2 import Status
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from tests.integration.serving import FAILURE, MIXED, App, by_concept, by_image, hit_inputs, of_bytes, picture
from tests.integration.test_annotations_post import LEFT, RIGHT, boxed, has, on, pair


def struct(**values: Any) -> Struct:
    made = Struct()
    made.update(values)
    return made


def concepts(annotation: Annotation) -> list[tuple[str, float]]:
    found = annotation.data.regions[0].data if annotation.data.regions else annotation.data
    return [(concept.id, round(concept.value, 3)) for concept in found.concepts]


def two_regions() -> Data:
    return Data(regions=[*boxed(LEFT).regions, *boxed(RIGHT).regions])


def input_level(app: App, input_id: str) -> Annotation:
    (found,) = [item for item in app.annotations(input_ids=[input_id]) if item.input_level]
    return found


def strangers() -> list[Any]:
    return [of_bytes(picture(n), f"other-{n}") for n in range(10, 16)]


# List ---------------------------------------------------------------------------------------------------------------


def test_the_list_is_newest_first_and_paged(app: App) -> None:
    app.post(of_bytes(picture(1), "a"), of_bytes(picture(2), "b"))
    app.annotate(on("a", Data(concepts=[has("c")]), "one"), on("b", Data(concepts=[has("c")]), "two"))

    everything = app.annotations()

    assert [item.id for item in everything[:2]] == ["two", "one"]
    assert [(item.input_id, item.input_level) for item in everything[2:]] == [("b", True), ("a", True)]
    pages = [app.annotations(page=page, per_page=3) for page in (1, 2, 3, 10_000)]
    assert [len(page) for page in pages] == [3, 1, 0, 0]


def test_ids_pair_with_input_ids(app: App) -> None:
    app.post(of_bytes(picture(1), "a"), of_bytes(picture(2), "b"))
    data = Data(concepts=[has("c")])
    app.annotate(on("a", data, "x"), on("b", data, "x"), on("b", data, "y"))

    assert [(i.input_id, i.id) for i in app.annotations(input_ids=["a", "b"], ids=["x", "y"])] == [
        ("b", "y"),
        ("a", "x"),
    ]
    assert [i.input_id for i in app.annotations(ids=["x"])] == ["b", "a"]
    assert app.ask("ListAnnotations", input_ids=["a", "b"], ids=["x"]).status.code == 11102
    assert app.annotations(user_ids=["nobody"]) == []
    assert app.annotations(input_ids=["nobody"]) == []


@pytest.mark.parametrize("name", ["nobody", "zero\0"])
def test_an_unknown_annotation_does_not_exist(app: App, name: str) -> None:
    app.post(of_bytes(picture(1), "a"))

    for rpc in ("GetAnnotation", "DeleteAnnotation"):
        assert app.ask(rpc, input_id="a", annotation_id=name).status.code == 11101
        assert app.ask(rpc, input_id=name, annotation_id="x").status.code == 11101
    answer = app.ask("PatchAnnotations", action="merge", annotations=[on("a", Data(), name)])
    assert (answer.status.code, answer.annotations[0].status.code) == (FAILURE, 11101)


# Patch --------------------------------------------------------------------------------------------------------------


def test_merge_keeps_places_and_appends(app: App) -> None:
    point = Geo(geo_point=GeoPoint(latitude=1, longitude=2))
    app.post(of_bytes(picture(1), "a", concepts=[has("x"), has("y")], metadata=struct(a=1, deep={"b": 2}), geo=point))
    target = input_level(app, "a").id
    there = Geo(geo_point=GeoPoint(latitude=0, longitude=0))
    sent = Data(concepts=[has("z"), has("x", 0)], metadata=struct(deep={"c": 3}, list=[1]), geo=there)

    (made,) = app.patch("merge", on("a", sent, target))

    assert concepts(made) == [("x", 0.0), ("y", 1.0), ("z", 1.0)]
    assert MessageToDict(made.data.metadata) == {"a": 1, "deep": {"b": 2, "c": 3}, "list": [1]}
    assert (made.data.geo.geo_point.latitude, made.data.geo.geo_point.longitude) == (0, 0)
    mirrored = app.call("GetInput", input_id="a").input.data
    assert [(c.id, c.value) for c in mirrored.concepts] == [("x", 0), ("y", 1), ("z", 1)]
    assert mirrored.metadata == made.data.metadata


def test_overwrite_leaves_exactly_what_is_sent(app: App) -> None:
    app.post(of_bytes(picture(1), "a", concepts=[has("x"), has("y")], metadata=struct(a=1)))
    target = input_level(app, "a").id

    (made,) = app.patch("overwrite", on("a", Data(concepts=[has("z")], metadata=struct(b=2)), target))

    assert concepts(made) == [("z", 1.0)]
    assert MessageToDict(made.data.metadata) == {"b": 2}
    assert app.call("GetInput", input_id="a").input.data.image.url


def test_remove_takes_away_what_is_named(app: App) -> None:
    app.post(of_bytes(picture(1), "a", concepts=[has("x"), has("y")], metadata=struct(a=1, b=2)))
    target = input_level(app, "a").id

    (made,) = app.patch("remove", on("a", Data(concepts=[Concept(id="x")], metadata=struct(a=True)), target))

    assert concepts(made) == [("y", 1.0)]
    assert MessageToDict(made.data.metadata) == {"b": 2}


def test_remove_deletes_what_is_left_empty_when_asked_but_never_the_input_level_one(app: App) -> None:
    app.post(of_bytes(picture(1), "a", concepts=[has("x")]))
    full = Data(concepts=[has("x")], metadata=struct(keep=1))
    app.annotate(on("a", Data(concepts=[has("x")]), "empty"), on("a", full, "noted"))
    gone = Data(concepts=[has("x")])

    app.patch(
        "remove",
        *(on("a", gone, name) for name in ("empty", "noted", input_level(app, "a").id)),
        delete_if_empty_data=True,
    )

    left = {item.id: item for item in app.annotations(input_ids=["a"])}
    assert set(left) == {"noted", input_level(app, "a").id}
    assert all(concepts(item) == [] for item in left.values())


def test_delete_if_empty_data_speaks_of_removing_only(app: App) -> None:
    app.post(of_bytes(picture(1), "a"))
    app.annotate(on("a", Data(), "blank"))

    app.patch("merge", on("a", Data(), "blank"), delete_if_empty_data=True)

    assert "blank" in {item.id for item in app.annotations()}


@pytest.mark.parametrize("action", ["merge", "overwrite"])
def test_a_moved_box_is_found_where_it_is_and_not_where_it_was(app: App, action: str) -> None:
    both, left, right = pair(5, 6)
    app.indexed(of_bytes(both, "both"), *strangers())
    (made,) = app.annotate(on("both", boxed(LEFT, has("boat")), "moving"))
    assert app.rank(by_image(left))[0].annotation.id == "moving"

    (patched,) = app.patch(action, on("both", boxed(RIGHT, has("boat")), "moving"))

    assert len(patched.data.regions) == 1
    assert patched.data.regions[0].region_info.bounding_box.left_col == 0.5
    assert concepts(patched) == [("boat", 1.0)]
    first = app.rank(by_image(right))[0]
    assert (first.annotation.id, first.score > 0.99) == ("moving", True)
    assert all(hit.score < 0.99 for hit in app.rank(by_image(left)))
    areas = app.server.sql(
        "SELECT count(*), count(v.area_id) FROM areas a"
        " LEFT JOIN vectors_1 v ON v.bucket = a.bucket AND v.area_id = a.id"
        " JOIN inputs i ON i.bucket = a.bucket AND i.number = a.input_number"
        " JOIN apps p ON p.first_bucket = a.bucket WHERE p.id = %s AND i.id = 'both'",
        app.id,
    )
    assert areas == [(2, 2)]
    assert made.id == patched.id


@pytest.mark.parametrize("action", ["merge", "overwrite"])
def test_the_same_box_again_moves_nothing(app: App, action: str) -> None:
    app.indexed(of_bytes(picture(1), "a"))
    (made,) = app.annotate(on("a", boxed((0.1, 0.2, 0.7, 0.9), has("x")), "one"))

    (patched,) = app.patch(action, on("a", boxed((0.1, 0.2, 0.7, 0.9), has("y")), "one"))

    assert patched.data.regions[0].id == made.data.regions[0].id
    assert {concept for concept, _ in concepts(patched)} == ({"x", "y"} if action == "merge" else {"y"})


def test_concepts_are_merged_into_a_region_named_by_its_id(app: App) -> None:
    app.indexed(of_bytes(picture(1), "a"))
    (made,) = app.annotate(on("a", boxed(LEFT, has("x")), "one"))
    named = Data(regions=[Region(id=made.data.regions[0].id, data=Data(concepts=[has("y")]))])

    (patched,) = app.patch("merge", on("a", named, "one"))

    assert concepts(patched) == [("x", 1.0), ("y", 1.0)]
    assert patched.data.regions[0].region_info == made.data.regions[0].region_info


def test_an_annotation_can_be_moved_from_the_whole_picture_to_a_region_and_to_a_point(app: App) -> None:
    both, left, _ = pair(5, 6)
    app.indexed(of_bytes(both, "both"), *strangers())
    app.annotate(on("both", Data(concepts=[has("boat")]), "one"))

    app.patch("merge", on("both", boxed(LEFT), "one"))
    assert (app.rank(by_image(left))[0].annotation.id, app.rank(by_image(left))[0].score > 0.99) == ("one", True)
    point = Data(regions=[Region(region_info=RegionInfo(point=Point(row=0.5, col=0.5)))])
    (patched,) = app.patch("merge", on("both", point, "one"))

    assert patched.data.regions[0].region_info.point.row == 0.5
    assert concepts(patched) == [("boat", 1.0)]
    assert all(hit.score < 0.99 for hit in app.rank(by_image(left)))
    assert [hit.score > 0.99 for hit in app.rank(by_image(both))[:2]] == [True, True]


def test_a_region_others_speak_of_stays_when_one_annotation_moves_away(app: App) -> None:
    both, left, right = pair(5, 6)
    app.indexed(of_bytes(both, "both"))
    app.annotate(on("both", boxed(LEFT, has("x"), region_id="r"), "stays"))
    app.annotate(on("both", boxed(LEFT, has("y"), region_id="r"), "goes"))

    app.patch("merge", on("both", Data(concepts=[has("z")]), "stays"), on("both", boxed(RIGHT), "goes"))

    assert app.rank(by_image(left))[0].annotation.id == "stays"
    assert app.rank(by_image(right))[0].annotation.id == "goes"
    found = app.call("GetAnnotation", input_id="both", annotation_id="stays").annotation
    assert found.data.regions[0].region_info.bounding_box.right_col == 0.5


def test_a_status_untrusts_a_label_and_trusts_it_again(app: App) -> None:
    app.indexed(of_bytes(picture(1), "labelled"), *strangers())
    (made,) = app.annotate(on("labelled", Data(concepts=[has("mine")])))
    assert hit_inputs(app.rank(by_concept("mine")))[0] == "labelled"
    assert app.rank(by_concept("mine"))[0].score == 1.0

    (patched,) = app.patch("merge", on("labelled", Data(), made.id, status=Status(code=24151)))

    assert (patched.status.code, patched.trusted, concepts(patched)) == (24151, False, [("mine", 1.0)])
    assert app.rank(by_concept("mine"))[0].score < 0.01
    app.patch("merge", Annotation(input_id="labelled", id=made.id, status=Status(code=24150)))
    assert app.rank(by_concept("mine"))[0].score == 1.0


def test_an_unknown_status_is_refused(app: App) -> None:
    app.post(of_bytes(picture(1), "a"))
    (made,) = app.annotate(on("a", Data(concepts=[has("c")])))

    answer = app.ask("PatchAnnotations", action="merge", annotations=[on("a", Data(), made.id, status=Status(code=7))])

    assert answer.annotations[0].status.code == 24155
    assert app.annotations()[0].status.code == 24150


def test_a_patched_prediction_is_not_trusted(app: App) -> None:
    app.indexed(of_bytes(picture(1), "a"))
    (predicted,) = [item for item in app.annotations(list_all_annotations=True) if item.model_version_id]

    (patched,) = app.patch("merge", on("a", Data(concepts=[has("mine")]), predicted.id))

    assert not patched.trusted
    assert app.ask("PostAnnotationsSearches").status.code == 10000


def test_the_input_level_annotation_cannot_become_a_region(app: App) -> None:
    app.indexed(of_bytes(picture(1), "a"))

    answer = app.ask("PatchAnnotations", action="merge", annotations=[on("a", boxed(LEFT), input_level(app, "a").id)])

    assert answer.annotations[0].status.code == 24155
    assert not input_level(app, "a").data.regions


def test_each_annotation_is_patched_or_refused_by_itself(app: App) -> None:
    app.post(of_bytes(picture(1), "a"))
    app.annotate(on("a", Data(concepts=[has("c")]), "one"))
    good = on("a", Data(concepts=[has("d")]), "one")
    bad = [on("a", Data(), "nobody"), Annotation(id="one"), Annotation(input_id="a"), on("a", two_regions(), "one2")]

    answer = app.ask("PatchAnnotations", action="merge", annotations=[bad[0], good, *bad[1:]])

    assert answer.status.code == MIXED
    assert [item.status.code for item in answer.annotations] == [11101, 24150, 24155, 24155, 11101]
    assert [item.id for item in answer.annotations] == ["nobody", "one", "one", "", "one2"]
    assert "'nobody' on input 'a'" in answer.annotations[0].status.details
    assert concepts(answer.annotations[1]) == [("c", 1.0), ("d", 1.0)]
    refused = app.ask("PatchAnnotations", action="overwrite", annotations=[on("a", two_regions(), "one")])
    assert (refused.status.code, refused.annotations[0].status.code) == (FAILURE, 24155)
    assert concepts(app.annotations()[0]) == [("c", 1.0), ("d", 1.0)]


def test_a_patch_names_a_known_action_and_each_annotation_once(app: App) -> None:
    app.post(of_bytes(picture(1), "a"))
    app.annotate(on("a", Data(concepts=[has("c")]), "one"))
    item = on("a", Data(concepts=[has("d")]), "one")

    assert app.ask("PatchAnnotations", action="paint", annotations=[item]).status.code == 11102
    assert app.ask("PatchAnnotations", action="merge", annotations=[item, item]).status.code == 11102
    assert app.ask("PatchAnnotations", action="merge").status.code == 11102
    assert concepts(app.annotations()[0]) == [("c", 1.0)]


def test_concurrent_merges_lose_nothing(app: App) -> None:
    app.post(of_bytes(picture(1), "a"))
    app.annotate(on("a", Data(), "shared"))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda n: app.patch("merge", on("a", Data(concepts=[has(f"c{n}")]), "shared")), range(12)))

    assert sorted(concepts(app.annotations()[0])) == sorted((f"c{n}", 1.0) for n in range(12))


def test_concurrent_moves_and_labels_of_one_region_lose_nothing(app: App) -> None:
    app.indexed(of_bytes(picture(1), "a"))
    app.annotate(on("a", boxed((0.0, 0.0, 0.05, 1.0), has("first")), "one"))

    def change(n: int) -> None:
        data = boxed((n / 20, 0.0, n / 20 + 0.05, 1.0)) if n % 2 else Data(concepts=[has(f"c{n}")])
        app.patch("merge", on("a", data, "one"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(change, range(16)))

    (found,) = app.annotations(input_ids=["a"], ids=["one"])
    assert sorted(concepts(found)) == sorted([("first", 1.0), *((f"c{n}", 1.0) for n in range(0, 16, 2))])
    assert round(found.data.regions[0].region_info.bounding_box.top_row * 20) % 2 == 1
    areas = app.server.sql(
        "SELECT count(*), count(v.area_id) FROM areas a"
        " LEFT JOIN vectors_1 v ON v.bucket = a.bucket AND v.area_id = a.id"
        " WHERE a.bucket = (SELECT first_bucket FROM apps WHERE id = %s)",
        app.id,
    )
    assert areas == [(2, 2)]


# Delete -------------------------------------------------------------------------------------------------------------


def test_deleting_an_annotation_takes_its_region_out_of_the_search(app: App) -> None:
    both, _, right = pair(5, 6)
    app.indexed(of_bytes(both, "both"), *strangers())
    (made,) = app.annotate(on("both", boxed(RIGHT, has("boat"))))
    assert app.rank(by_image(right))[0].annotation.id == made.id

    app.call("DeleteAnnotation", input_id="both", annotation_id=made.id)

    assert app.ask("GetAnnotation", input_id="both", annotation_id=made.id).status.code == 11101
    assert all(hit.score < 0.99 and not hit.annotation.data.regions for hit in app.rank(by_image(right)))
    assert len(app.annotations(input_ids=["both"], list_all_annotations=True)) == 2


def test_the_input_level_annotation_lives_as_long_as_its_input(app: App) -> None:
    app.post(of_bytes(picture(1), "a"))

    answer = app.ask("DeleteAnnotation", input_id="a", annotation_id=input_level(app, "a").id)

    assert answer.status.code == 24155
    assert len(app.annotations()) == 1


def test_many_annotations_are_deleted_by_pairs_or_by_input(app: App) -> None:
    app.indexed(of_bytes(picture(1), "a"), of_bytes(picture(2), "b"))
    data = Data(concepts=[has("c")])
    app.annotate(*(on(name, data, note) for name in ("a", "b") for note in ("x", "y")))

    app.call("DeleteAnnotations", input_ids=["a", "b"], ids=["x", "y"])
    assert {(i.input_id, i.id) for i in app.annotations() if not i.input_level} == {("a", "y"), ("b", "x")}
    app.call("DeleteAnnotations", input_ids=["a", "nobody"])

    assert {(i.input_id, i.id) for i in app.annotations() if not i.input_level} == {("b", "x")}
    assert len(app.annotations(input_ids=["a"], list_all_annotations=True)) == 2
    assert app.ask("DeleteAnnotations").status.code == 11102
    assert app.ask("DeleteAnnotations", input_ids=["a", "b"], ids=["x"]).status.code == 11102
