"""Streaming the inputs of an app page by page (api-spec 3.1)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from clarifai_grpc.grpc.api import service_pb2_grpc
from clarifai_grpc.grpc.api.resources_pb2 import Data, Input, Text
from tests.integration.serving import App, Server, new_app, wait_for


def text(input_id: str) -> Input:
    return Input(id=input_id, data=Data(text=Text(raw=input_id)))


def page(app: App, **fields: Any) -> list[str]:
    return [item.id for item in app.call("StreamInputs", **fields).inputs]


def stream(app: App, **fields: Any) -> Iterator[str]:
    """The loop of the guide: go on from the last id until nothing comes."""
    last_id = ""
    while ids := page(app, last_id=last_id, **fields):
        yield from ids
        last_id = ids[-1]


#: Ids whose order is not the order of posting.
POSTED = [f"n{n * 37 % 50:02}" for n in range(50)]


@pytest.fixture
def full(app: App) -> App:
    app.post(*(text(name) for name in POSTED))
    return app


@pytest.mark.parametrize("per_page", [0, 1, 7, 50, 1000])
def test_everything_comes_once_oldest_first(full: App, per_page: int) -> None:
    assert list(stream(full, per_page=per_page)) == POSTED


def test_a_page_has_twenty_unless_told_otherwise(full: App) -> None:
    assert page(full) == POSTED[:20]
    assert page(full, last_id=POSTED[19]) == POSTED[20:40]
    assert page(full, last_id=POSTED[44]) == POSTED[45:]
    assert page(full, last_id=POSTED[-1]) == []


def test_newest_first(full: App) -> None:
    assert list(stream(full, per_page=9, descending=True)) == POSTED[::-1]


@pytest.mark.parametrize("descending", [False, True])
def test_by_id(full: App, descending: bool) -> None:
    expected = sorted(POSTED, reverse=descending)

    assert list(stream(full, per_page=9, order_by_id=True, descending=descending)) == expected


def test_what_is_added_meanwhile_shifts_nothing(full: App) -> None:
    seen: list[str] = []
    for n, name in enumerate(stream(full, per_page=10)):
        seen.append(name)
        if n % 10 == 4:
            full.post(text(f"later{n:02}"))
        assert n < 100, "the stream has no end"

    # Five more come in after the first fifty; on the way through them comes one more.
    assert seen == [*POSTED, *(f"later{n:02}" for n in (4, 14, 24, 34, 44, 54))]


def test_newest_first_sees_nothing_that_comes_later(full: App) -> None:
    seen: list[str] = []
    for n, name in enumerate(stream(full, per_page=10, descending=True)):
        seen.append(name)
        if n % 10 == 4:
            full.post(text(f"later{n:02}"))

    assert seen == POSTED[::-1]


def test_an_unknown_last_id_is_refused_by_time_and_a_place_by_id(full: App) -> None:
    answer = full.ask("StreamInputs", last_id="nobody")

    assert answer.status.code == 11101
    assert "'nobody'" in answer.status.details
    assert "order_by_id" in answer.status.details
    assert page(full, last_id="n48x", order_by_id=True) == ["n49"]
    assert full.ask("StreamInputs", last_id="zero\0").status.code == 11101
    assert full.ask("StreamInputs", last_id="zero\0", order_by_id=True).status.code == 11101


def test_a_loop_that_deletes_what_it_has_seen_goes_by_id(full: App) -> None:
    seen: list[str] = []
    for name in stream(full, per_page=10, order_by_id=True):
        seen.append(name)
        full.call("DeleteInput", input_id=name)

    assert seen == sorted(POSTED)
    assert page(full) == []


def test_another_app_is_not_seen(full: App, server: Server, stub: service_pb2_grpc.V2Stub) -> None:
    other = new_app(server, stub)
    other.post(text("n00"), text("zzz"))

    assert page(other) == ["n00", "zzz"]
    assert page(full, per_page=1000) == POSTED
    assert full.ask("StreamInputs", last_id="zzz").status.code == 11101
    assert full.ask("StreamInputs", per_page=1001).status.code == 11102


def test_the_stream_tells_what_get_tells(app: App) -> None:
    app.post(text("a"), text("b"))
    wait_for("both to be done", lambda: app.call("GetInputCount").counts.processed == 2)

    found = app.call("StreamInputs").inputs

    assert [app.call("GetInput", input_id=item.id).input for item in found] == list(found)


def test_the_stream_over_rest(full: App) -> None:
    first = full.rest("GET", "/inputs/stream?per_page=3")
    second = full.rest("GET", f"/inputs/stream?per_page=2&last_id={first['inputs'][-1]['id']}")
    by_id = full.rest("GET", "/inputs/stream?per_page=2&order_by_id=true&descending=True")

    assert [item["id"] for item in first["inputs"] + second["inputs"]] == POSTED[:5]
    assert [item["id"] for item in by_id["inputs"]] == ["n49", "n48"]
    assert full.rest("GET", f"/inputs/stream?last_id={POSTED[-1]}").get("inputs", []) == []


def test_who_follows_the_stream_misses_nothing_that_many_post_at_once(app: App) -> None:
    done = threading.Event()

    def post(n: int) -> None:
        # Calls of different sizes take different times: begun first does not mean committed first.
        app.post(*(text(f"c{n}-{m}") for m in range(1 + n % 3 * 30)))

    def follow() -> list[str]:
        seen: list[str] = []
        while True:
            finished = done.is_set()
            ids = page(app, last_id=seen[-1] if seen else "", per_page=1000)
            seen += ids
            if finished and not ids:
                return seen

    with ThreadPoolExecutor(9) as pool:
        following = pool.submit(follow)
        list(pool.map(post, range(90)))
        done.set()
        seen = following.result()

    assert sorted(seen) == sorted(f"c{n}-{m}" for n in range(90) for m in range(1 + n % 3 * 30))
    assert seen == list(stream(app, per_page=1000))
