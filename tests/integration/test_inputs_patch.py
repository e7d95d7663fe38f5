"""Patching the data of inputs (api-spec 3.1)."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from clarifai_grpc.grpc.api.resources_pb2 import Concept, Data, Geo, GeoPoint, Image, Input, Text, Video
from google.protobuf.json_format import MessageToDict
from tests.integration.serving import (
    FAILURE,
    INDEXED,
    MIXED,
    SUCCESS,
    App,
    Site,
    by_concept,
    by_image,
    hit_inputs,
    of_bytes,
    of_url,
    picture,
    wait_for,
)
from tests.integration.test_annotations_change import struct
from tests.integration.test_annotations_post import LEFT, boxed, has, on

_SAID = ("concepts", "metadata", "geo")


def patch(app: App, action: str, *inputs: Input) -> list[Input]:
    return list(app.call("PatchInputs", action=action, inputs=inputs).inputs)


def said(*concepts: Concept, **metadata: Any) -> Data:
    return Data(concepts=concepts, metadata=struct(**metadata) if metadata else None)


def concepts(found: Input) -> list[tuple[str, float]]:
    return [(concept.id, concept.value) for concept in found.data.concepts]


def at(longitude: float, latitude: float) -> Geo:
    return Geo(geo_point=GeoPoint(longitude=longitude, latitude=latitude))


def statuses(answer: Any) -> list[int]:
    return [item.status.code for item in answer.inputs]


# Actions ------------------------------------------------------------------------------------------------------------


def test_a_merge_keeps_places_appends_and_answers_with_the_new_data(app: App) -> None:
    data: dict[str, Any] = {"concepts": [has("x"), has("y")], "metadata": struct(a=1, deep={"b": 2}), "geo": at(2, 1)}
    app.indexed(of_bytes(picture(1), "a", **data))
    before = app.call("GetInput", input_id="a").input

    sent = Data(concepts=[has("z"), has("x", 0)], metadata=struct(deep={"c": 3}), geo=at(0, 0))
    (made,) = patch(app, "merge", Input(id="a", data=sent))

    assert concepts(made) == [("x", 0.0), ("y", 1.0), ("z", 1.0)]
    assert [concept.name for concept in made.data.concepts] == ["x", "y", "z"]
    assert MessageToDict(made.data.metadata) == {"a": 1, "deep": {"b": 2, "c": 3}}
    assert made.data.geo.HasField("geo_point")
    assert (made.data.geo.geo_point.longitude, made.data.geo.geo_point.latitude) == (0, 0)
    assert made.status.code == INDEXED
    assert made.data.image == before.data.image
    assert made.created_at == before.created_at
    assert made.modified_at.ToDatetime() > before.modified_at.ToDatetime()
    assert made == app.call("GetInput", input_id="a").input


def test_overwriting_leaves_exactly_the_concepts_sent_and_what_is_not_sent(app: App, site: Site) -> None:
    url = site.show(picture(1))
    data: dict[str, Any] = {"concepts": [has("x"), has("y")], "metadata": struct(a=1), "geo": at(2, 1)}
    app.indexed(of_url(url, "a", **data))

    (made,) = patch(app, "overwrite", Input(id="a", data=said(Concept(id="new", value=1))))

    assert concepts(made) == [("new", 1.0)]
    assert made.data.concepts[0].name == "new"
    assert MessageToDict(made.data.metadata) == {"a": 1}
    assert (made.data.geo, made.data.image.url) == (at(2, 1), url)


def test_overwriting_over_rest_keeps_what_is_not_sent(app: App) -> None:
    data: dict[str, Any] = {"concepts": [has("x")], "metadata": struct(a=1), "geo": at(2, 1)}
    app.post(of_bytes(picture(1), "a", **data))

    def overwritten(**sent: Any) -> Any:
        answer = app.rest("PATCH", "/inputs", {"action": "overwrite", "inputs": [{"id": "a", "data": sent}]})
        assert answer["status"]["code"] == SUCCESS
        return {field: value for field, value in answer["inputs"][0]["data"].items() if field in _SAID}

    place = {"geo_point": {"longitude": 4, "latitude": 3}}
    named = [{"id": "y", "value": 1}]
    made = overwritten(concepts=named, geo=place)
    assert ([concept["id"] for concept in made["concepts"]], made["metadata"], made["geo"]) == (["y"], {"a": 1}, place)
    made = overwritten(concepts=named, metadata={"b": 2})
    assert ([concept["id"] for concept in made["concepts"]], made["metadata"], made["geo"]) == (["y"], {"b": 2}, place)
    assert overwritten(metadata={}) == {"geo": place, "metadata": {}}
    assert overwritten(geo={}) == {"metadata": {}}


def test_overwriting_metadata_replaces_all_of_it(app: App) -> None:
    app.post(of_bytes(picture(1), "a", metadata=struct(a=1, deep={"b": [1]})))

    (made,) = patch(app, "overwrite", Input(id="a", data=said(deep={"c": 2})))

    assert MessageToDict(made.data.metadata) == {"deep": {"c": 2}}


def test_what_is_named_is_removed(app: App) -> None:
    data: dict[str, Any] = {"concepts": [has("x"), has("y", 0)], "metadata": struct(a=1, b={"c": 2, "d": 3})}
    app.post(of_bytes(picture(1), "a", geo=at(2, 1), **data))

    (made,) = patch(
        app, "remove", Input(id="a", data=said(Concept(id="x"), Concept(id="never"), a=True, b={"c": True}))
    )
    assert concepts(made) == [("y", 0.0)]
    assert MessageToDict(made.data.metadata) == {"b": {"d": 3}}
    assert made.data.geo.geo_point.latitude == 1

    (made,) = patch(app, "remove", Input(id="a", data=Data(geo=at(0, 0))))
    assert not made.data.HasField("geo")
    assert concepts(made) == [("y", 0.0)]


@pytest.mark.parametrize("action", ["merge", "overwrite", "remove"])
def test_without_data_nothing_changes(app: App, action: str) -> None:
    app.post(of_bytes(picture(1), "a", concepts=[has("x")], metadata=struct(a=1)))

    (made,) = patch(app, action, Input(id="a"))

    assert (concepts(made), MessageToDict(made.data.metadata)) == ([("x", 1.0)], {"a": 1})


OTHER_MEDIA = [
    ("a", Data(image=Image(url="http://example.com/other.jpg"))),
    ("a", Data(image=Image(base64=picture(2)))),
    ("a", Data(text=Text(raw="another caption"))),
    ("a", Data(video=Video(url="http://example.com/film.mp4"))),
    ("letter", Data(text=Text(raw="Dear none"))),
    ("letter", Data(image=Image(base64=picture(1)))),
]


@pytest.mark.parametrize("action", ["merge", "overwrite", "remove"])
def test_another_medium_is_refused(app: App, action: str) -> None:
    photo = Data(image=Image(base64=picture(1)), text=Text(raw="a caption"), concepts=[has("x")])
    app.indexed(Input(id="a", data=photo), Input(id="letter", data=Data(text=Text(raw="Dear all"))))
    before = app.call("ListInputs").inputs

    for input_id, data in OTHER_MEDIA:
        answer = app.ask("PatchInputs", action=action, inputs=[Input(id=input_id, data=data)])
        assert (answer.status.code, statuses(answer)) == (FAILURE, [11102]), data
        assert "a patch cannot change that" in answer.inputs[0].status.details
    sent = {"id": "a", "data": {"image": {"url": "http://example.com/other.jpg"}}}
    answer = app.rest("PATCH", "/inputs", {"action": action, "inputs": [sent]})
    assert answer["inputs"][0]["status"]["code"] == 11102

    assert app.call("ListInputs").inputs == before


def test_an_input_comes_back_as_it_was_shown(app: App, site: Site) -> None:
    photo = Data(image=Image(base64=picture(1)), text=Text(raw="a caption"), metadata=struct(a=1))
    letter = Input(id="letter", data=Data(text=Text(raw="Dear all")))
    app.indexed(Input(id="a", data=photo), of_url(site.show(picture(2)), "linked"), letter)

    for input_id in ("a", "linked", "letter"):
        shown = app.call("GetInput", input_id=input_id).input
        for action in ("merge", "overwrite"):
            back = Input(id=input_id, data=shown.data)
            back.data.concepts.append(has("seen"))
            assert concepts(patch(app, action, back)[0]) == [("seen", 1.0)]
        shown = app.rest("GET", f"/inputs/{input_id}")["input"]
        answer = app.rest("PATCH", "/inputs", {"action": "overwrite", "inputs": [shown]})
        assert answer["status"]["code"] == SUCCESS
        assert answer["inputs"][0]["data"] == shown["data"]
    assert concepts(patch(app, "merge", of_bytes(picture(1), "a", concepts=[has("same")]))[0])[-1] == ("same", 1.0)
    thumbnail = app.call("GetInput", input_id="a").input.data.image.url.replace("orig", "tiny")
    patch(app, "merge", of_url(thumbnail, "a"))


def test_a_patch_is_seen_by_the_next_search(app: App) -> None:
    app.indexed(*(of_bytes(picture(n), f"i{n}") for n in range(6)))
    assert app.rank(by_image(picture(3)))[0].input.id == "i3"

    for round_ in range(3):
        patch(app, "merge", Input(id=f"i{round_}", data=said(has("mine"))))
        assert [hit.input.id for hit in app.rank(by_concept("mine")) if hit.score == 1.0] == [
            f"i{n}" for n in range(round_ + 1)
        ]
    patch(app, "remove", Input(id="i0", data=said(has("mine"))), Input(id="i1", data=said(has("mine"))))

    assert hit_inputs(app.rank(by_concept("mine")))[0] == "i2"
    assert app.rank(by_concept("mine"))[0].score == 1.0
    assert app.rank(by_concept("mine"))[1].score < 0.99


def test_an_input_and_its_annotation_are_one_thing(app: App) -> None:
    app.post(of_bytes(picture(1), "a", concepts=[has("x")]))
    patch(app, "merge", Input(id="a", data=said(has("y"), note="n")))

    (annotation,) = app.annotations(input_ids=["a"])

    assert [concept.id for concept in annotation.data.concepts] == ["x", "y"]
    assert MessageToDict(annotation.data.metadata) == {"note": "n"}
    before = app.call("GetInput", input_id="a").input.modified_at.ToDatetime()
    app.patch("merge", on("a", Data(concepts=[has("z")]), annotation.id))
    after = app.call("GetInput", input_id="a").input
    assert concepts(after)[-1] == ("z", 1.0)
    assert after.modified_at.ToDatetime() > before


def test_a_patch_over_rest(app: App) -> None:
    app.post(of_bytes(picture(1), "a", concepts=[has("x")], metadata=struct(n=1)))
    item = {
        "id": "a",
        "data": {"concepts": [{"id": "y"}, {"id": "z", "value": 0}], "metadata": {"n": 123, "list": [1]}},
    }

    answer = app.rest("PATCH", "/inputs", {"action": "merge", "inputs": [item]})

    assert answer["status"]["code"] == SUCCESS
    (made,) = answer["inputs"]
    assert [(concept["id"], concept["value"]) for concept in made["data"]["concepts"]] == [("x", 1), ("y", 1), ("z", 0)]
    assert made["data"]["metadata"] == {"n": 123, "list": [1]}


# While others work -----------------------------------------------------------------------------------------------


def test_concurrent_patches_of_one_input_lose_nothing(app: App) -> None:
    app.post(of_bytes(picture(1), "a"))

    def add(n: int) -> None:
        patch(app, "merge", Input(id="a", data=said(has(f"c{n}"), **{f"k{n}": n})))

    with ThreadPoolExecutor(24) as pool:
        list(pool.map(add, range(72)))

    found = app.call("GetInput", input_id="a").input
    assert sorted(concepts(found)) == sorted((f"c{n}", 1.0) for n in range(72))
    assert MessageToDict(found.data.metadata) == {f"k{n}": n for n in range(72)}


def test_a_patch_of_an_input_that_is_being_ingested_loses_nothing(app: App, site: Site) -> None:
    gate = threading.Event()
    url = site.show(picture(1), gate=gate)
    app.post(of_url(url, "a", concepts=[has("first")]))
    wait_for("the download to begin", lambda: url.removeprefix(site.base) in site.asked)

    (made,) = patch(app, "merge", Input(id="a", data=said(has("second"), note="n")))
    gate.set()
    found = app.finished("a")

    assert made.status.code != INDEXED
    assert found.status.code == INDEXED
    assert (concepts(found), MessageToDict(found.data.metadata)) == ([("first", 1.0), ("second", 1.0)], {"note": "n"})
    assert app.rank(by_concept("second"))[0].score == 1.0
    assert app.rank(by_image(picture(1)))[0].score > 0.99


def test_patches_while_inputs_are_deleted_hit_or_miss(app: App) -> None:
    ids = [f"i{n}" for n in range(24)]
    app.post(*(of_bytes(picture(n), name) for n, name in enumerate(ids)))

    def work(n: int) -> Any:
        if n % 2:
            return app.ask("DeleteInputs", ids=ids[n : n + 4])
        return app.ask("PatchInputs", action="merge", inputs=[Input(id=name, data=said(has("c"))) for name in ids])

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(work, range(24)))

    assert {answer.status.code for answer in answers} <= {SUCCESS, MIXED, FAILURE}
    assert {code for answer in answers[::2] for code in statuses(answer)} <= {30000, 30001, 30003, 11101, 0}
    left = app.call("ListInputs").inputs
    assert [item.id for item in left] == ["i0"]
    assert concepts(left[0]) == [("c", 1.0)]


# Refused ----------------------------------------------------------------------------------------------------------


def test_each_input_is_patched_or_refused_by_itself(app: App) -> None:
    app.post(of_bytes(picture(1), "a"), of_bytes(picture(2), "b"))
    good = Input(id="b", data=said(has("c")))
    bad: Sequence[Input] = [
        Input(id="nobody", data=said(has("c"))),
        Input(data=said(has("c"))),
        Input(id="a", data=boxed(LEFT, has("c"))),
        Input(id="zero\0", data=said(has("c"))),
    ]

    answer = app.ask("PatchInputs", action="merge", inputs=[bad[0], good, *bad[1:]])

    assert answer.status.code == MIXED
    assert [code for code in statuses(answer) if code not in (30000, 30001, 30003)] == [11101, 30104, 30104, 11101]
    assert "'nobody'" in answer.inputs[0].status.details
    assert concepts(answer.inputs[1]) == [("c", 1.0)]
    refused = app.ask("PatchInputs", action="merge", inputs=bad[:1])
    assert (refused.status.code, statuses(refused)) == (FAILURE, [11101])
    assert concepts(app.call("GetInput", input_id="a").input) == []


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (Data(geo=at(0, 91)), 30104),
        (said(Concept(id="c", value=1.5)), 40003),
        (said(Concept(value=1)), 40003),
        (said(bad="a\0b"), 30104),
    ],
    ids=["latitude", "value", "nameless", "zero"],
)
def test_bad_data_refuse_the_input(app: App, data: Data, code: int) -> None:
    app.post(of_bytes(picture(1), "a", concepts=[has("x")]))

    answer = app.ask("PatchInputs", action="overwrite", inputs=[Input(id="a", data=data)])

    assert (answer.status.code, statuses(answer)) == (FAILURE, [code])
    assert answer.inputs[0].status.details
    assert concepts(app.call("GetInput", input_id="a").input) == [("x", 1.0)]


def test_a_removal_goes_by_id(app: App) -> None:
    app.post(of_bytes(picture(1), "a", concepts=[has("x")]))

    answer = app.ask("PatchInputs", action="remove", inputs=[Input(id="a", data=said(Concept(name="x")))])

    assert statuses(answer) == [40003]
    assert "by id" in answer.inputs[0].status.details


def test_a_call_names_a_known_action_and_up_to_128_inputs_once(app: App) -> None:
    app.post(of_bytes(picture(1), "a"))
    item = Input(id="a", data=said(has("c")))

    def code(action: str, inputs: Sequence[Input]) -> int:
        return int(app.ask("PatchInputs", action=action, inputs=inputs).status.code)

    assert code("paint", [item]) == 11102
    assert code("", [item]) == 11102
    assert code("merge", []) == 11102
    assert code("merge", [item, item]) == 11102
    assert code("merge", [Input(id=f"i{n}") for n in range(129)]) == 39999
    assert concepts(app.call("GetInput", input_id="a").input) == []


def test_128_inputs_are_patched_at_once(app: App) -> None:
    ids = [f"i{n}" for n in range(128)]
    app.post(*(Input(id=name, data=Data(text=Text(raw=name))) for name in ids))

    made = patch(app, "merge", *(Input(id=name, data=said(has("c"), n=n)) for n, name in enumerate(ids)))

    assert [(item.id, concepts(item), MessageToDict(item.data.metadata)) for item in made] == [
        (name, [("c", 1.0)], {"n": n}) for n, name in enumerate(ids)
    ]
