"""Hosted images: the originals and thumbnails of inputs, and their URLs as images (api-spec 3.1)."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from clarifai_grpc.grpc.api import service_pb2
from PIL import Image
from tests.integration.serving import (
    API_KEY,
    FAILED,
    PAT,
    App,
    Server,
    Site,
    by_image,
    encoded,
    hit_inputs,
    of_bytes,
    of_url,
    picture,
    pixels,
)

BIG = encoded(pixels(1, 1600, 900), "JPEG")


def hosted(app: App, input_id: str, size: str = "orig") -> str:
    image = app.call("GetInput", input_id=input_id).input.data.image.hosted
    return f"{image.prefix}/{size}/{image.suffix}"


def get(app: App, url: str, **options: Any) -> Any:
    return app.server.rest("GET", url, **({"key": None} | options))


def test_the_original_is_byte_for_byte_what_was_posted(app: App, site: Site) -> None:
    url = site.show(picture(2, "PNG"))
    app.indexed(of_bytes(BIG, "bytes"), of_url(url, "url"))

    uploaded = app.call("GetInput", input_id="bytes").input.data.image
    fetched = app.call("GetInput", input_id="url").input.data.image

    assert uploaded.url == hosted(app, "bytes")
    assert fetched.url == url
    assert uploaded.hosted.crossorigin == "use-credentials"
    assert list(uploaded.hosted.sizes) == ["orig", "large", "small", "tiny"]
    answer = get(app, uploaded.url, key=PAT)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    assert answer.content == BIG
    answer = get(app, hosted(app, "url"), key=PAT)
    assert (answer.content, answer.headers["content-type"]) == (picture(2, "PNG"), "image/png")


def blob_of(server: Server, app: App, input_id: str) -> str:
    """The path of its file in the folder of blobs."""
    ((blob,),) = server.sql(
        "SELECT i.blob FROM inputs i JOIN apps a ON a.first_bucket = i.bucket WHERE a.id = %s AND i.id = %s",
        app.id,
        input_id,
    )
    return str(blob)


@pytest.mark.parametrize(
    ("asked", "status", "part"),
    [
        ("bytes=0-99", 206, slice(0, 100)),
        ("bytes=100-", 206, slice(100, None)),
        ("bytes=-50", 206, slice(-50, None)),
        ("bytes=10-99999999999", 206, slice(10, None)),
        ("bytes=-99999999999", 206, slice(None)),
        ("bytes=99999999999-", 416, slice(0, 0)),
        ("bytes=9-3", 200, slice(None)),
        ("bytes=-", 200, slice(None)),
        ("bytes=0-9,20-29", 200, slice(None)),
        ("lines=0-9", 200, slice(None)),
    ],
)
def test_a_part_of_a_file_is_sent_where_one_is_asked_for(app: App, asked: str, status: int, part: slice) -> None:
    app.indexed(of_bytes(BIG, "big"))

    answer = get(app, hosted(app, "big"), key=PAT, headers={"Range": asked})

    start, stop, _ = part.indices(len(BIG))
    shown = {200: None, 206: f"bytes {start}-{stop - 1}/{len(BIG)}", 416: f"bytes */{len(BIG)}"}
    assert (answer.status_code, answer.headers["accept-ranges"]) == (status, "bytes")
    assert answer.headers.get("content-range") == shown[status]
    assert answer.content == BIG[part]


@pytest.mark.parametrize("size", ["orig", "tiny"])
def test_what_a_client_has_already_is_not_sent_again(app: App, size: str) -> None:
    app.indexed(of_bytes(BIG, "a"))
    url = hosted(app, "a", size)
    first = get(app, url, key=PAT)
    tag = first.headers["etag"]

    assert first.headers["cache-control"] == "private, no-cache"
    for same in (tag, f'"other", {tag}', "*", tag.removeprefix("W/")):
        answer = get(app, url, key=PAT, headers={"If-None-Match": same})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == tag
        assert answer.headers["cache-control"] == "private, no-cache"
    assert get(app, url, key=PAT, headers={"If-None-Match": '"other"'}).content == first.content
    assert get(app, url, headers={"If-None-Match": tag}).status_code == 404
    other = get(app, hosted(app, "a", "small"), key=PAT, headers={"If-None-Match": tag})
    assert (other.status_code, other.headers["etag"] != tag) == (200, True)


def test_an_image_of_the_same_id_is_another_image(app: App) -> None:
    app.indexed(of_bytes(BIG, "a"))
    url = hosted(app, "a")
    before = get(app, url, key=PAT).headers["etag"]
    app.call("DeleteInput", input_id="a")
    assert get(app, url, key=PAT, headers={"If-None-Match": before}).status_code == 404

    app.indexed(of_bytes(picture(3), "a"))

    answer = get(app, url, key=PAT, headers={"If-None-Match": before})
    assert (answer.status_code, answer.content) == (200, picture(3))


def test_a_file_is_gone_on_with_only_while_it_is_the_same(app: App) -> None:
    app.indexed(of_bytes(BIG, "a"))
    url, part = hosted(app, "a"), {"Range": "bytes=100-"}
    tag = get(app, url, key=PAT).headers["etag"]

    same = get(app, url, key=PAT, headers=part | {"If-Range": tag})
    changed = get(app, url, key=PAT, headers=part | {"If-Range": '"other"'})

    assert (same.status_code, same.content) == (206, BIG[100:])
    assert (changed.status_code, changed.content) == (200, BIG)


def test_what_a_client_has_already_is_not_read_again(server: Server, app: App) -> None:
    app.indexed(of_bytes(BIG, "a"))
    url = hosted(app, "a")
    tag = get(app, url, key=PAT).headers["etag"]

    (server.data_dir / "blobs" / blob_of(server, app, "a")).unlink()

    assert get(app, url, key=PAT, headers={"If-None-Match": tag}).status_code == 304
    assert get(app, url, key=PAT).status_code == 404


@pytest.mark.parametrize(("size", "longest"), [("large", 1024), ("small", 320), ("tiny", 112)])
def test_thumbnails_are_jpegs_of_their_size(app: App, size: str, longest: int) -> None:
    app.indexed(of_bytes(BIG, "big"), of_bytes(picture(3, "PNG"), "little"))

    for _ in range(2):
        answer = get(app, hosted(app, "big", size), key=PAT)
        made = Image.open(io.BytesIO(answer.content))
        assert (answer.headers["content-type"], made.format) == ("image/jpeg", "JPEG")
        assert made.size == (longest, round(longest * 9 / 16))
    assert Image.open(io.BytesIO(get(app, hosted(app, "little", size), key=PAT).content)).size == (96, 72)


@pytest.mark.parametrize(
    "options",
    [
        {"key": PAT},
        {"headers": {"X-Clarifai-Session-Token": PAT}},
        {"headers": {"Cookie": f"x-clarifai-api-key={PAT}"}},
        {"headers": {"Cookie": f"a=b; x_clarifai_session_token={PAT}"}},
    ],
    ids=["header", "session token", "key cookie", "session cookie"],
)
def test_every_way_to_send_a_key_opens_an_image(app: App, options: dict[str, Any]) -> None:
    app.post(of_bytes(BIG, "a"))

    assert get(app, hosted(app, "a"), **options).content == BIG


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({}, 404),
        ({"key": "0" * 32}, 401),
        ({"headers": {"Cookie": "x-clarifai-api-key=wrong"}}, 401),
        ({"headers": {"X-Clarifai-Session-Token": "wrong"}}, 401),
        ({"key": API_KEY}, 401),
    ],
    ids=["none", "wrong key", "wrong cookie", "wrong token", "key of another app"],
)
def test_without_the_right_key_there_is_no_image(app: App, options: dict[str, Any], status: int) -> None:
    app.post(of_bytes(BIG, "a"))

    answer = get(app, hosted(app, "a"), **options)

    assert answer.status_code == status
    assert answer.json()["status"]["code"]


def test_a_wrong_key_is_told_what_to_do_everywhere(app: App) -> None:
    app.post(of_bytes(BIG, "a"))
    wrong = "0" * 32

    metadata = (("authorization", f"Key {wrong}"),)
    over_grpc = app.stub.GetInput(service_pb2.GetInputRequest(input_id="a"), metadata=metadata)
    statuses = [get(app, url, key=wrong).json()["status"] for url in ("/v2/inputs/a", hosted(app, "a"))]

    assert {over_grpc.status.description, *(status["description"] for status in statuses)} == {
        "Invalid API key or Invalid API key/application pair"
    }
    for details in (over_grpc.status.details, *(status["details"] for status in statuses)):
        assert "`sightrank env` prints the keys of this server" in details


def test_a_large_original_comes_whole_and_its_size_without_it(app: App) -> None:
    noise = np.random.default_rng(5).bytes(3_000_000)
    app.post(of_bytes(noise, "noise"))
    url = hosted(app, "noise")

    assert get(app, url, key=PAT).content == noise
    head = app.server.rest("HEAD", url)
    assert (head.content, head.headers["content-length"]) == (b"", "3000000")


def test_unknown_images_and_sizes_do_not_exist(app: App, site: Site) -> None:
    app.post(of_bytes(BIG, "a"), of_url(site.show(status=404), "failed"))
    app.finished("failed")
    url = hosted(app, "a")

    for wrong in (url.replace("/orig/", "/huge/"), f"{url}x", url.replace(app.id, "noapp"), f"{url[:-1]}failed"):
        assert get(app, wrong, key=PAT).status_code == 404
    assert app.call("GetInput", input_id="failed").input.data.image.hosted.prefix == ""


def test_a_thumbnail_of_what_is_no_image_is_an_error_that_says_so(app: App) -> None:
    app.post(of_bytes(b"<html></html>", "page"))
    app.finished("page")

    assert get(app, hosted(app, "page"), key=PAT).content == b"<html></html>"
    answer = get(app, hosted(app, "page", "tiny"), key=PAT)
    assert (answer.status_code, answer.json()["status"]["code"]) == (400, FAILED)


def test_an_image_is_gone_with_its_input(app: App) -> None:
    app.post(of_bytes(BIG, "a"))
    url = hosted(app, "a")
    app.call("DeleteInput", input_id="a")

    assert get(app, url, key=PAT).status_code == 404


def test_a_hosted_url_is_a_query_and_an_input_of_its_app(app: App) -> None:
    app.indexed(of_bytes(BIG, "a"), of_bytes(picture(7), "b"))
    url = hosted(app, "a")

    hits = app.rank(by_image(url=url))
    assert (hit_inputs(hits)[0], hits[0].score > 0.99) == ("a", True)
    app.indexed(of_url(url, "again"))
    assert get(app, hosted(app, "again"), key=PAT).content == BIG


@pytest.mark.parametrize(
    ("origin", "credentials"),
    [
        ("http://127.0.0.1:3000", True),
        ("https://127.0.0.1", True),
        ("http://127.0.0.2:3000", False),
        ("http://localhost:3000", False),
        ("http://127.0.0.1.evil.example", False),
        ("http://evil.example/127.0.0.1", False),
        ("http://127.0.0.1@evil.example", False),
        ("http://evil.example@127.0.0.1", False),
        ("http://[127.0.0.1", False),
        ("file://127.0.0.1", False),
        ("null", False),
        ("", False),
    ],
)
def test_only_pages_of_the_same_host_may_use_cookies(app: App, origin: str, credentials: bool) -> None:
    app.post(of_bytes(BIG, "a"))
    url, headers = hosted(app, "a"), {"Origin": origin}
    tag = get(app, url, key=PAT).headers["etag"]

    answers = [
        get(app, url, key=PAT, headers=headers),
        get(app, url, headers=headers),
        get(app, url, key=PAT, headers=headers | {"If-None-Match": tag}),
        app.server.rest("OPTIONS", url, headers=headers | {"Access-Control-Request-Method": "GET"}),
    ]

    assert [answer.status_code for answer in answers] == [200, 404, 304, 204]
    for answer in answers:
        assert answer.headers.get_list("access-control-allow-origin") == [origin if credentials else "*"]
        assert answer.headers.get("access-control-allow-credentials") == ("true" if credentials else None)
        assert answer.headers["vary"] == "Origin"
    of_api = app.server.rest("GET", f"{app.path}/inputs", headers=headers)
    assert of_api.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in of_api.headers
