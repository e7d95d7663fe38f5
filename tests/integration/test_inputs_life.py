"""From posted to searchable, or to failed with the reason (api-spec 3.1, life cycle)."""

from __future__ import annotations

import io
import os
import struct
import threading
import zlib
from pathlib import Path

import pytest
from clarifai_grpc.grpc.api.resources_pb2 import Data, Input, Text
from PIL import Image
from tests.integration.serving import (
    FAILED,
    HOST,
    INDEXED,
    WORKING,
    App,
    Site,
    by_concept,
    by_image,
    encoded,
    of_bytes,
    of_url,
    picture,
    pixels,
    wait_for,
)
from tests.ports import free_ports

FAILED_TEXT = "Download failed or we could not process it. Check URL or bytes you send in the request."
PDF = b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n"
HTML = b"<!doctype html><html><body>Not here</body></html>"


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header promises a huge picture."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def frames() -> bytes:
    """An animated GIF: first red, then blue."""
    red, blue = (Image.new("RGB", (96, 72), color) for color in ((255, 0, 0), (0, 0, 255)))
    file = io.BytesIO()
    red.save(file, "GIF", save_all=True, append_images=[blue, blue], duration=100)
    return file.getvalue()


def turned(orientation: int) -> bytes:
    """A JPEG whose pixels lie on the side and whose EXIF data say so."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(pixels(5).transpose(Image.Transpose.ROTATE_90), "JPEG", quality=95, exif=exif)


def best(app: App, data: bytes) -> tuple[str, bool]:
    hit = app.rank(by_image(data))[0]
    return hit.input.id, hit.score > 0.99


# Success -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"])
def test_every_format_is_indexed_whatever_the_site_says_it_is(app: App, site: Site, kind: str) -> None:
    data = picture(5, kind)

    app.indexed(of_url(site.show(data, kind="text/plain"), "url"), of_bytes(data, "bytes"))

    for name in ("url", "bytes"):
        info = app.call("GetInput", input_id=name).input.data.image.image_info
        assert (info.width, info.height, info.format) == (96, 72, kind)
    assert [hit.score > 0.99 for hit in app.rank(by_image(data))] == [True, True]


def test_an_empty_app_can_be_searched_until_it_fills(app: App) -> None:
    assert [app.rank(by_concept(name)) for name in ("dog", "cat", "dog", "beach")] == [[], [], [], []]

    app.indexed(of_bytes(picture(5), "first"))

    for name in ("dog", "cat", "beach", "people"):
        assert [hit.input.id for hit in app.rank(by_concept(name))] == ["first"]


def test_of_an_animation_the_first_frame_counts(app: App) -> None:
    app.indexed(of_bytes(frames(), "moving"), of_bytes(encoded(Image.new("RGB", (96, 72), (0, 0, 255))), "blue"))

    red = encoded(Image.new("RGB", (96, 72), (255, 0, 0)))
    assert best(app, red) == ("moving", True)


def test_a_turned_photo_is_indexed_upright(app: App) -> None:
    app.indexed(of_bytes(turned(6), "turned"), *(of_bytes(picture(n), f"o{n}") for n in range(6, 10)))

    info = app.call("GetInput", input_id="turned").input.data.image.image_info
    assert (info.width, info.height) == (96, 72)
    assert best(app, encoded(pixels(5), "JPEG", quality=95)) == ("turned", True)


def test_a_redirect_is_followed(app: App, site: Site) -> None:
    url = site.show(status=302, location=site.show(status=301, location=site.show(picture(1))))

    app.indexed(of_url(url, "redirected"))

    assert app.call("GetInput", input_id="redirected").input.data.image.url == url


def test_an_input_is_found_as_soon_as_it_is_said_to_be_indexed(app: App) -> None:
    for seed in range(60):
        data = picture(seed)
        name = app.post(of_bytes(data, f"n{seed}"))[0]
        app.finished(name)
        hits = {hit.input.id: hit.score for hit in app.rank(by_image(data))}
        assert hits.get(name, 0) > 0.99, f"{name} of {len(hits)}"


def test_what_becomes_searchable_raises_the_version_of_the_app_whether_or_not_it_is_embedded(app: App) -> None:
    def version() -> int:
        row = app.server.sql(
            "SELECT b.version FROM app_buckets b JOIN apps a ON a.first_bucket = b.bucket WHERE a.id = %s", app.id
        )
        return int(row[0][0])

    app.indexed(of_bytes(picture(1), "image"))
    before = version()
    app.indexed(Input(id="text", data=Data(text=Text(raw="Dear all"))))

    assert before > 0
    assert version() > before


def test_the_states_in_between_and_the_counts(app: App, site: Site) -> None:
    gate = threading.Event()
    urls = [site.show(picture(n), gate=gate) for n in range(3)]
    app.post(*(of_url(url, f"slow{n}") for n, url in enumerate(urls)))
    app.post(of_bytes(picture(9), "done"), of_bytes(b"x", "bad"))
    app.finished("done")
    app.finished("bad")

    state = wait_for(
        "the download to begin",
        lambda: next((s for s in [app.call("GetInput", input_id="slow0").input.status] if s.code == WORKING), None),
    )
    counts = app.rest("GET", "/inputs/status")["counts"]

    assert state.description == "Download in progress"
    assert (counts["processed"], counts["errors"], counts["processing"] + counts["to_process"]) == (1, 1, 3)
    assert counts["reindexed"] == 0
    gate.set()
    assert {app.finished(f"slow{n}").status.code for n in range(3)} == {INDEXED}
    assert app.call("GetInputCount").counts.processed == 4


def test_an_input_deleted_while_it_is_ingested_stays_away(app: App, site: Site) -> None:
    gate = threading.Event()
    url = site.show(picture(1), gate=gate)
    app.post(of_url(url, "gone"))
    wait_for("the download to begin", lambda: url.removeprefix(site.base) in site.asked)

    app.call("DeleteInput", input_id="gone")
    gate.set()
    app.indexed(of_bytes(picture(2), "after"))

    assert app.ask("GetInput", input_id="gone").status.code == 11101
    assert [hit.input.id for hit in app.rank(by_image(picture(1)))] == ["after"]
    assert app.call("GetInputCount").counts.processed == 1


# Failure -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "mentions"),
    [
        (b"\0", "image"),
        (HTML, "HTML"),
        (b"Just some words.\n" * 20, "text"),
        (PDF, "PDF"),
        (picture(1)[:-600], "ends early"),
        (picture(1, "PNG")[:-60], "ends early"),
        (picture(1)[:100], "JPEG"),
        (bomb(60_000, 60_000), "3600000000 pixels"),
        (bomb(300, 200), "PNG"),
    ],
    ids=["zero", "html", "text", "pdf", "cut jpeg", "cut png", "head of a jpeg", "bomb", "lying png"],
)
def test_bytes_that_are_no_image_fail_with_the_reason(app: App, data: bytes, mentions: str) -> None:
    app.post(of_bytes(data, "bad"))

    status = app.finished("bad").status

    assert (status.code, status.description) == (FAILED, FAILED_TEXT)
    assert mentions in status.details
    assert app.rank(by_image(picture(1))) == []


@pytest.mark.parametrize(
    ("page", "mentions"),
    [
        ({"status": 404}, "404"),
        ({"status": 410}, "410"),
        ({"body": b""}, "empty"),
        ({"body": HTML, "kind": "image/jpeg"}, "HTML"),
        ({"status": 302, "location": f"http://{HOST}:1/self"}, ""),
        ({"status": 302, "location": "ftp://example.org/a.jpg"}, "ftp"),
        ({"status": 302, "location": "http://10.0.0.1/a.jpg"}, "private"),
    ],
    ids=["404", "410", "empty", "html", "to nowhere", "to ftp", "to a private address"],
)
def test_a_url_that_gives_no_image_fails_with_the_reason(
    app: App, site: Site, page: dict[str, object], mentions: str
) -> None:
    app.post(of_url(site.show(**page), "bad"))  # type: ignore[arg-type]

    status = app.finished("bad").status

    assert status.code in (FAILED, 30106, 39996)
    assert status.description
    assert mentions in status.details, status


def test_endless_redirects_end(app: App, site: Site) -> None:
    url = site.show(status=302)
    site.pages[url.removeprefix(site.base)].location = url
    app.post(of_url(url, "loop"))

    status = app.finished("loop").status

    assert status.code == FAILED
    assert "redirects" in status.details


def test_a_refused_connection_has_a_code_of_its_own(app: App) -> None:
    (port,) = free_ports(1)
    app.post(of_url(f"http://{HOST}:{port}/a.jpg", "refused"), of_url("http://nowhere.invalid/a.jpg", "unknown"))

    for name in ("refused", "unknown"):
        status = app.finished(name).status
        assert (status.code, status.description) == (39996, "Connection attempts to the input URL failed")
        assert status.details


@pytest.mark.parametrize("host", ["10.0.0.1", "169.254.169.254", "[::1]", "0.0.0.0", "192.168.1.1"])
def test_a_private_address_that_nobody_allowed_is_not_fetched(app: App, host: str) -> None:
    app.post(of_url(f"http://{host}/a.jpg", "inside"))

    status = app.finished("inside").status

    assert (status.code, status.description) == (30106, "Input URL is invalid")
    assert "SIGHTRANK_FETCH_ALLOW" in status.details


def test_a_failed_input_keeps_its_labels_and_can_be_deleted(app: App) -> None:
    app.post(of_bytes(b"x", "bad"))
    app.finished("bad")

    assert [item.id for item in app.call("ListInputs").inputs] == ["bad"]
    assert len(app.annotations()) == 1
    app.call("DeleteInput", input_id="bad")
    assert not app.call("ListInputs").inputs


# List, get, delete -------------------------------------------------------------------------------------------------


def test_the_list_is_newest_first_with_pages_ids_and_states(app: App) -> None:
    app.indexed(*(of_bytes(picture(n), f"i{n}") for n in range(5)))
    app.post(of_bytes(b"x", "bad"))
    app.finished("bad")

    def ids(**fields: object) -> list[str]:
        return [item.id for item in app.call("ListInputs", **fields).inputs]

    assert ids() == ["bad", "i4", "i3", "i2", "i1", "i0"]
    assert ids(per_page=1) == ["bad"]
    assert [ids(page=page, per_page=4) for page in (1, 2, 3)] == [["bad", "i4", "i3", "i2"], ["i1", "i0"], []]
    assert ids(page=1000, per_page=500) == []
    assert ids(ids=["i1", "i3", "nobody", "zero\0"]) == ["i3", "i1"]
    assert ids(ids=["zero\0"]) == []
    assert ids(status={"code": FAILED}) == ["bad"]
    assert ids(status={"code": INDEXED}, per_page=2) == ["i4", "i3"]
    assert app.ask("ListInputs", per_page=1001).status.code == 11102
    past = app.rest("GET", "/inputs?page=1000&per_page=500")
    assert (past["status"]["code"], past.get("inputs", [])) == (10000, [])


@pytest.mark.parametrize("name", ["nobody", "zero\0", "ä" * 500])
def test_an_unknown_input_does_not_exist(app: App, name: str) -> None:
    assert app.ask("GetInput", input_id=name).status.code == 11101
    assert app.ask("DeleteInput", input_id=name).status.code == 11101
    assert app.call("DeleteInputs", ids=[name]).status.code == 10000


def test_deleted_inputs_are_gone_at_once(app: App) -> None:
    app.indexed(*(of_bytes(picture(n), f"i{n}") for n in range(6)))
    app.rank(by_image(picture(0)))

    app.call("DeleteInput", input_id="i0")
    app.call("DeleteInputs", ids=["i1", "i2", "nobody"])

    assert {hit.input.id for hit in app.rank(by_image(picture(0)))} == {"i3", "i4", "i5"}
    assert {hit.input.id for hit in app.rank(by_image(picture(0)), inputs=True)} == {"i3", "i4", "i5"}
    assert [app.ask("GetInput", input_id=f"i{n}").status.code for n in range(3)] == [11101] * 3
    assert {item.input_id for item in app.annotations(list_all_annotations=True)} == {"i3", "i4", "i5"}


def test_deleting_nothing_deletes_nothing(app: App) -> None:
    app.post(of_bytes(picture(1), "stays"))

    assert app.ask("DeleteInputs", ids=[]).status.code == 11102
    assert app.ask("DeleteInputs", ids=[f"i{n}" for n in range(129)]).status.code == 11102
    assert [item.id for item in app.call("ListInputs").inputs] == ["stays"]


def test_the_files_of_deleted_inputs_are_removed_unless_shared(app: App) -> None:
    app.indexed(of_bytes(picture(1), "one"), of_bytes(picture(1), "two"), of_bytes(picture(2), "other"))
    app.server.rest("GET", app.call("GetInput", input_id="one").input.data.image.url.replace("orig", "tiny"))
    bucket = app.server.sql("SELECT first_bucket FROM apps WHERE id = %s", app.id)[0][0]

    def files() -> list[Path]:
        return [path for path in (app.server.data_dir / "blobs" / str(bucket)).rglob("*") if path.is_file()]

    assert len(files()) == 3
    for path in files():
        _make_old(path)

    app.call("DeleteInputs", ids=["one", "other"])
    assert len(files()) == 2
    app.call("DeleteInput", input_id="two")

    assert files() == []


def _make_old(path: Path) -> None:
    old = path.stat().st_mtime - 3600
    os.utime(path, (old, old))
