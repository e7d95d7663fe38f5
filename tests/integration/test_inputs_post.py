"""Posting inputs: what is accepted, what is refused, and what the answer says of each (api-spec 3.1 and 1.5)."""

from __future__ import annotations

import base64
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from clarifai_grpc.grpc.api import resources_pb2, service_pb2, service_pb2_grpc
from clarifai_grpc.grpc.api.resources_pb2 import Concept, Data, Geo, GeoPoint, Input
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from tests.integration.serving import (
    FAILED,
    FAILURE,
    HOST,
    INDEXED,
    MIXED,
    PAT,
    PENDING,
    SUCCESS,
    USER,
    App,
    Server,
    Site,
    of_bytes,
    of_url,
    picture,
)

DUPLICATE_ID = "Input has a duplicate ID."
DUPLICATE_URL = "Duplicate URL in your application. Check the documentation to allow duplications."


def struct(**values: Any) -> Struct:
    made = Struct()
    made.update(values)
    return made


def place(latitude: float, longitude: float) -> Geo:
    return Geo(geo_point=GeoPoint(latitude=latitude, longitude=longitude))


def count(app: App) -> int:
    return len(app.call("ListInputs").inputs)


def test_an_input_comes_back_with_everything_it_was_posted_with(app: App, site: Site) -> None:
    url = site.show(picture(1))
    concepts = [Concept(id="boat", value=1), Concept(id="car", name="Motor car", value=0)]
    metadata = struct(n=123, part=0.5, flag=True, none=None, text="ü", list=[1, {"a": []}], deep={"x": {}, "y": 7})

    answer = app.call(
        "PostInputs",
        inputs=[of_url(url, "mine", concepts=concepts, metadata=metadata, geo=place(0, 0))],
    )

    (posted,) = answer.inputs
    assert (posted.id, posted.status.code, posted.status.description) == ("mine", PENDING, "Download pending")
    found = app.finished("mine")
    for item in (posted, found):
        assert item.data.image.url == url
        assert [(c.id, c.name, c.value, c.app_id) for c in item.data.concepts] == [
            ("boat", "boat", 1.0, app.id),
            ("car", "Motor car", 0.0, app.id),
        ]
        assert item.data.metadata == metadata
        assert item.data.geo.HasField("geo_point")
        assert item.created_at.ToDatetime() <= item.modified_at.ToDatetime()
    assert (found.status.code, found.status.description) == (INDEXED, "Download complete")
    info = found.data.image.image_info
    assert (info.width, info.height, info.format, info.color_mode) == (96, 72, "JPEG", "RGB")


def test_rest_keeps_whole_numbers_empty_objects_and_the_point_zero(app: App) -> None:
    body = {
        "inputs": [
            {
                "id": "rest",
                "data": {
                    "image": {"base64": base64.b64encode(picture(2)).decode()},
                    "concepts": [{"id": "cat"}, {"id": "dog", "value": 0}],
                    "metadata": {"n": 123, "empty": {}, "half": 0.5},
                    "geo": {"geo_point": {"longitude": 0, "latitude": 0}},
                },
            }
        ]
    }

    posted = app.rest("POST", "/inputs", body)

    assert posted["status"]["code"] == SUCCESS
    data = app.rest("GET", "/inputs/rest")["input"]["data"]
    assert data["metadata"] == {"n": 123, "empty": {}, "half": 0.5}
    assert isinstance(data["metadata"]["n"], int)
    assert data["geo"]["geo_point"] == {"longitude": 0, "latitude": 0}
    assert [(c["id"], c["value"]) for c in data["concepts"]] == [("cat", 1), ("dog", 0)]


def test_empty_metadata_is_kept_and_absent_metadata_stays_absent(app: App) -> None:
    app.post(of_bytes(picture(3), "empty", metadata=Struct()), of_bytes(picture(4), "absent"))

    kept = {name: app.call("GetInput", input_id=name).input.data for name in ("empty", "absent")}

    assert kept["empty"].HasField("metadata")
    assert MessageToDict(kept["empty"].metadata) == {}
    assert not kept["absent"].HasField("metadata")


def test_inputs_without_an_id_get_one_of_32_hexadecimal_digits(app: App) -> None:
    first, second = app.post(of_bytes(picture(1)), of_bytes(picture(1)))

    assert first != second
    assert all(len(name) == 32 and int(name, 16) >= 0 for name in (first, second))


def test_one_call_takes_128_inputs_and_no_more(app: App) -> None:
    inputs = [of_bytes(picture(n), f"many-{n:03}") for n in range(129)]

    refused = app.ask("PostInputs", inputs=inputs)

    assert refused.status.code == 39999
    assert "129" in refused.status.details
    assert count(app) == 0
    assert app.post(*inputs[:128]) == [item.id for item in inputs[:128]]


def test_a_call_without_inputs_is_refused(app: App) -> None:
    assert app.ask("PostInputs").status.code == 11102


@pytest.mark.parametrize(
    ("bad", "code", "mentions"),
    [
        (Input(id="x"), 30104, "data"),
        (Input(id="x", data=Data(image=resources_pb2.Image())), 30104, "url"),
        (Input(id="x", data=Data(concepts=[Concept(id="c")])), 30104, "image"),
        (of_bytes(b"x", "x", video=resources_pb2.Video(base64=b"y")), 30104, "image and video; send an input for each"),
        (of_url("http://a/b", "x", video=resources_pb2.Video(url="http://a/c")), 30104, "image and video"),
        (of_bytes(b"x", "x", geo=place(91, 0)), 30104, "latitude"),
        (of_bytes(b"x", "x", geo=place(0, -180.5)), 30104, "longitude"),
        (of_bytes(b"x", "x", geo=place(float("nan"), 0)), 30104, "latitude"),
        (of_url("ftp://example.org/a.jpg", "x"), 30106, "http"),
        (of_url("file:///etc/passwd", "x"), 30106, "http"),
        (of_url("no url", "x"), 30106, "http"),
        (of_url("http://", "x"), 30106, "host"),
        (of_url("http://[::1/a.jpg", "x"), 30106, "URL"),
        (of_url("http://a/\0", "x"), 30104, "zero"),
        (of_bytes(b"x", "x", concepts=[Concept()]), 40003, "neither id nor name"),
        (of_bytes(b"x", "x", concepts=[Concept(id="c", value=1.5)]), 40003, "1.5"),
        (of_bytes(b"x", "x", metadata=struct(bad=float("inf"))), 30104, "finite"),
        (of_bytes(b"x", "x", metadata=struct(bad="a\0b")), 30104, "zero"),
        (of_bytes(b"x", "x", metadata=struct(**{"a\0b": 1})), 30104, "zero"),
        (of_bytes(b"x", "a b"), 30104, "ASCII letters"),
        (of_bytes(b"x", "searches"), 30104, "/v2/inputs/searches is a path of the API"),
        (of_bytes(b"x", "a" * 129), 30104, "128"),
        (of_bytes(b"x", "a\0"), 30104, "id"),
        (of_bytes(bytes(20_000_001), "x"), 30105, "20000001"),
        (Input(id="x", data=Data(image=resources_pb2.Image(base64=b"x")), dataset_ids=["nowhere"]), 30104, "nowhere"),
        (Input(id="x", data=Data(image=resources_pb2.Image(base64=b"x")), dataset_ids=["no\0where"]), 30104, "dataset"),
    ],
)
def test_a_bad_input_is_refused_alone_and_leaves_nothing_behind(app: App, bad: Input, code: int, mentions: str) -> None:
    answer = app.ask("PostInputs", inputs=[of_bytes(picture(1), "good"), bad])

    assert answer.status.code == MIXED, answer
    good, refused = answer.inputs
    assert (good.id, good.status.code) == ("good", PENDING)
    assert refused.status.code == code
    assert mentions in refused.status.details
    assert refused.status.description
    assert [item.id for item in app.call("ListInputs").inputs] == ["good"]


def test_empty_messages_beside_a_medium_say_nothing(app: App) -> None:
    empty = {name: getattr(resources_pb2, name.title())() for name in ("video", "audio", "text")}

    app.indexed(of_bytes(picture(1), "photo", **empty))

    (listed,) = app.call("ListInputs").inputs
    assert (listed.data.HasField("image"), listed.data.HasField("video")) == (True, False)


def test_when_no_input_is_accepted_the_call_failed(app: App) -> None:
    body = {"inputs": [{"id": "a", "data": {}}, {"id": "b", "data": {"image": {"url": "gopher://x"}}}]}

    response = app.server.rest("POST", f"{app.path}/inputs", body)

    answer = response.json()
    assert response.status_code == 400
    assert (answer["status"]["code"], answer["status"]["description"]) == (FAILURE, "Failure")
    assert [item["status"]["code"] for item in answer["inputs"]] == [30104, 30106]
    assert [item["id"] for item in answer["inputs"]] == ["a", "b"]
    assert app.rest("GET", "/inputs").get("inputs") == []


def test_a_partly_refused_call_is_mixed_over_rest_too(app: App) -> None:
    image = {"image": {"base64": base64.b64encode(picture(1)).decode()}}

    response = app.server.rest("POST", f"{app.path}/inputs", {"inputs": [{"id": "a", "data": image}, {"id": "b"}]})

    assert response.status_code in (200, 207)
    assert response.json()["status"]["code"] == MIXED


# Duplicates ---------------------------------------------------------------------------------------------------------


def test_a_taken_id_is_refused_with_the_text_the_sdk_compares(app: App) -> None:
    app.post(of_bytes(picture(1), "taken"))

    answer = app.ask("PostInputs", inputs=[of_bytes(picture(2), "taken")])

    assert answer.status.code == FAILURE
    assert (answer.inputs[0].status.code, answer.inputs[0].status.details) == (30104, DUPLICATE_ID)
    assert count(app) == 1


@pytest.mark.parametrize("conflict", ["SKIP", "SUFFIX"])
def test_the_same_id_twice_in_one_call_is_always_an_error(app: App, conflict: str) -> None:
    inputs = [of_bytes(picture(1), "twice"), of_bytes(picture(2), "twice")]

    answer = app.ask("PostInputs", inputs=inputs, input_id_conflict_resolution=conflict)

    assert answer.status.code == MIXED
    assert [item.status.code for item in answer.inputs] == [PENDING, 30104]
    assert answer.inputs[1].status.details == DUPLICATE_ID


def test_suffix_finds_a_free_id_nine_times_and_then_a_random_one(app: App) -> None:
    names = [
        app.call("PostInputs", inputs=[of_bytes(picture(1), "s")], input_id_conflict_resolution="SUFFIX").inputs[0].id
        for _ in range(11)
    ]

    assert names[:10] == ["s", *(f"s-{n}" for n in range(1, 10))]
    assert names[10].startswith("s-")
    assert len(names[10]) > len("s-9")


def test_a_url_is_accepted_once_unless_duplicates_are_allowed(app: App, site: Site) -> None:
    url = site.show(picture(1))
    app.post(of_url(url, "first"))

    answer = app.ask("PostInputs", inputs=[of_url(url, "second"), of_url(url, "third", allow_duplicate_url=True)])

    assert answer.status.code == MIXED
    second, third = answer.inputs
    assert (second.status.code, second.status.description) == (30100, DUPLICATE_URL)
    assert third.status.code == PENDING
    assert second.data.image.url == url


def test_a_url_twice_in_one_call_is_a_duplicate_too(app: App, site: Site) -> None:
    url = site.show(picture(1))

    answer = app.ask("PostInputs", inputs=[of_url(url, "a"), of_url(url, "b")])

    assert [item.status.code for item in answer.inputs] == [PENDING, 30100]


def test_a_url_is_free_again_when_its_input_is_deleted_and_in_other_apps(app: App, site: Site) -> None:
    url = site.show(picture(1))
    app.post(of_url(url, "a"))
    app.call("DeleteInput", input_id="a")

    assert app.post(of_url(url, "b")) == ["b"]


def test_the_same_bytes_are_never_a_duplicate(app: App) -> None:
    assert len(app.indexed(of_bytes(picture(1)), of_bytes(picture(1)))) == 2


def test_of_concurrent_posts_of_one_id_exactly_one_is_accepted(app: App, site: Site) -> None:
    urls = [site.show(picture(n)) for n in range(8)]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda url: app.ask("PostInputs", inputs=[of_url(url, "one")]), urls))

    statuses = [answer.inputs[0].status for answer in answers]
    assert [status.code for status in statuses].count(PENDING) == 1
    refused = {(status.code, status.details) for status in statuses if status.code != PENDING}
    assert refused == {(30104, DUPLICATE_ID)}
    assert count(app) == 1


def test_of_concurrent_posts_of_one_url_exactly_one_is_accepted(app: App, site: Site) -> None:
    url = site.show(picture(1))

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: app.ask("PostInputs", inputs=[of_url(url, f"url-{n}")]), range(8)))

    codes = sorted(answer.inputs[0].status.code for answer in answers)
    assert codes == [PENDING, *[30100] * 7]


def test_concurrent_posts_with_suffix_are_all_accepted(app: App) -> None:
    def post(number: int) -> str:
        inputs = [of_bytes(picture(number), "s")]
        return str(app.call("PostInputs", inputs=inputs, input_id_conflict_resolution="SUFFIX").inputs[0].id)

    with ThreadPoolExecutor(6) as pool:
        names = list(pool.map(post, range(6)))

    assert sorted(names) == ["s", *(f"s-{n}" for n in range(1, 6))]


def test_concurrent_calls_with_the_same_inputs_in_opposite_order_share_them(app: App) -> None:
    inputs = [of_url(f"http://{HOST}:1/{n}", f"i{n}", concepts=[Concept(id=f"c{n}", value=1)]) for n in range(40)]

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda n: app.ask("PostInputs", inputs=inputs[:: (-1) ** n]), range(4)))

    assert {answer.status.code for answer in answers} <= {SUCCESS, MIXED, FAILURE}
    codes = [item.status.code for answer in answers for item in answer.inputs]
    assert codes.count(PENDING) == 40
    assert set(codes) == {PENDING, 30104}


# Other media --------------------------------------------------------------------------------------------------------


def elsewhere(medium: str, input_id: str, **fields: Any) -> Input:
    kind = {"video": resources_pb2.Video, "audio": resources_pb2.Audio, "text": resources_pb2.Text}[medium]
    return Input(id=input_id, data=Data(**{medium: kind(**fields)}))  # type: ignore[arg-type, operator]


def media_but_images() -> list[Input]:
    return [
        elsewhere("audio", "audio-bytes", base64=b"a"),
        elsewhere("audio", "audio-url", url="http://example.org/a.mp3"),
        elsewhere("text", "text-url", url="http://example.org/a.txt"),
    ]


def test_what_is_not_indexed_fails_and_says_so(app: App) -> None:
    for name in app.post(*media_but_images()):
        found = app.finished(name)
        assert found.status.code == FAILED, found
        assert "is not indexed by this version of sightrank" in found.status.details
    app.indexed(elsewhere("text", "both", raw="words", url="http://example.org/b.txt"))


def test_the_empty_workflow_takes_every_medium_as_it_is(server: Server, stub: service_pb2_grpc.V2Stub) -> None:
    made = App(server=server, stub=stub, id=f"empty-{uuid.uuid4().hex[:12]}")
    request = service_pb2.PostAppsRequest(
        user_app_id=resources_pb2.UserAppIDSet(user_id=USER),
        apps=[resources_pb2.App(id=made.id, default_workflow_id="Empty")],
    )
    stub.PostApps(request, metadata=(("authorization", f"Key {PAT}"),))

    posted = [*media_but_images(), elsewhere("text", "raw", raw="words"), elsewhere("video", "video", base64=b"v")]

    made.indexed(*posted)
    made.indexed(elsewhere("video", "video-url", url="http://example.org/a.mp4"))

    assert made.call("GetInputCount").counts.processed == len(posted) + 1


def test_text_is_kept_beside_an_image_and_alone(app: App) -> None:
    text = resources_pb2.Text(raw="a caption")
    both = Input(id="both", data=Data(image=resources_pb2.Image(base64=picture(1)), text=text))
    alone = Input(id="alone", data=Data(text=text))

    app.indexed(both, alone)

    for name in ("both", "alone"):
        assert app.call("GetInput", input_id=name).input.data.text.raw == "a caption"
    assert app.call("GetInput", input_id="both").input.data.image.url
