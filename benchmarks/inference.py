"""Inference shared by many: searches by 16 clients against one, and searches by picture while ingest runs flat out."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from clarifai_grpc.grpc.api import resources_pb2, service_pb2

from benchmarks.beside import Signals, beside
from benchmarks.figures import Call, Row, p50, p95, paced, show
from benchmarks.photos import distinct, photos
from benchmarks.server import Client
from benchmarks.stage import Stage

_CLIENTS = 16
_LEAST_GAIN = 2.0
_ROUNDS, _ROUND_S = 4, 5.0
_BUSY_S, _PAUSE_S = 20.0, 0.05
_MOST = 3.0
_INPUTS = 1024  # in the app before anything is measured
_BATCH, _BACKLOG = 64, 512  # inputs in one PostInputs; how many wait for ingest at any time
_POSTER_NICENESS = 10
_PATIENCE_S = 300.0

#: Makes the next search of a client.
Searching = Callable[[Client], Call]


def run(stage: Stage) -> None:
    """Prints searches a second of one client and of 16, and the p95 of a search idle and beside ingest."""
    files, source = photos(stage.data)
    client = stage.client()
    _post(client, distinct(files, _INPUTS, serial=2 * 10**9))
    _until_indexed(client)
    pictures = itertools.count(3 * 10**9)

    def search(asking: Client) -> Call:
        number = next(pictures)
        (data,) = distinct([files[number % len(files)]], 1, serial=number)
        return lambda: _hits(asking, data)

    alone, together = _throughput(stage, search)
    gain = together / alone
    idle = _paced(client, search)
    before, started = _indexed(client), time.monotonic()
    with beside(_flood, stage.server.grpc_port, list(files)):
        busy = _paced(client, search)
        rate = (_indexed(client) - before) / (time.monotonic() - started)
    _until_indexed(client)
    ratio = p95(busy) / p95(idle)
    show(
        "Inference: searches by picture, never the same",
        [
            Row("1 client", f"{alone:.0f}/s", "1.00"),
            Row(f"{_CLIENTS} clients", f"{together:.0f}/s", f"{gain:.2f}", f">= {_LEAST_GAIN:g}", gain >= _LEAST_GAIN),
            Row("idle", _text(idle), "1.00"),
            Row(f"{rate:.0f} photographs/s indexed", _text(busy), f"{ratio:.2f}", f"<= {_MOST:g}", ratio <= _MOST),
        ],
        caption=f"640 px JPEGs ({source}). {_ROUNDS} rounds of {_ROUND_S:.0f} s each way, clients on the same cores;"
        f" then one search every {_PAUSE_S * 1000:.0f} ms for {_BUSY_S:.0f} s, p95, {_BACKLOG} inputs always waiting.",
    )


def _hits(client: Client, data: bytes) -> None:
    rank = resources_pb2.Rank(
        annotation=resources_pb2.Annotation(data=resources_pb2.Data(image=resources_pb2.Image(base64=data)))
    )
    request = service_pb2.PostAnnotationsSearchesRequest(
        user_app_id=client.ids,
        searches=[resources_pb2.Search(query=resources_pb2.Query(ranks=[rank]))],
        pagination=service_pb2.Pagination(page=1, per_page=20),
    )
    found = len(client.call("PostAnnotationsSearches", request).hits)
    assert found == 20, f"{found} hits, not 20"


def _throughput(stage: Stage, search: Searching) -> tuple[float, float]:
    """Searches a second of one client and of many, the two taking turns."""
    clients = [stage.client() for _ in range(_CLIENTS)]
    done: dict[int, int] = {1: 0, _CLIENTS: 0}
    with ThreadPoolExecutor(_CLIENTS) as pool:
        for number in range(_ROUNDS + 1):
            for count in done:
                answered = sum(pool.map(lambda asking: _ask(asking, search), clients[:count]))
                done[count] += answered if number else 0  # the first round warms up
    return done[1] / (_ROUNDS * _ROUND_S), done[_CLIENTS] / (_ROUNDS * _ROUND_S)


def _ask(client: Client, search: Searching) -> int:
    """How many searches a client has answered in a round."""
    end, answered = time.monotonic() + _ROUND_S, 0
    while time.monotonic() < end:
        search(client)()
        answered += 1
    return answered


def _paced(client: Client, search: Searching) -> list[float]:
    return paced({"search": lambda: search(client)}, seconds=_BUSY_S, pause_s=_PAUSE_S)["search"]


def _text(times: Sequence[float]) -> str:
    return f"p50 {p50(times):.1f}, p95 {p95(times):.1f} ms"


def _indexed(client: Client) -> int:
    return int(_counts(client).processed)


def _counts(client: Client) -> resources_pb2.InputCount:
    request = service_pb2.GetInputCountRequest(user_app_id=client.ids)
    return client.call("GetInputCount", request).counts


def _post(client: Client, files: Sequence[bytes]) -> None:
    for first in range(0, len(files), _BATCH):
        inputs = [
            resources_pb2.Input(data=resources_pb2.Data(image=resources_pb2.Image(base64=data)))
            for data in files[first : first + _BATCH]
        ]
        client.call("PostInputs", service_pb2.PostInputsRequest(user_app_id=client.ids, inputs=inputs))


def _waiting(client: Client) -> int:
    counts = _counts(client)
    return int(counts.to_process + counts.processing)


def _until_indexed(client: Client) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while _waiting(client):
        if time.monotonic() > deadline:
            raise RuntimeError("The inputs were not indexed in time.")
        time.sleep(0.2)


# In a process beside -------------------------------------------------------------------------------------------------


def _flood(signals: Signals, port: int, files: Sequence[bytes]) -> None:
    """Keeps ingest supplied, at a lower priority: on a machine of its own a poster would take nothing of this one."""
    os.nice(_POSTER_NICENESS)
    client, serial = Client(port), 4 * 10**9
    go_on = True
    while go_on:
        posted = 0
        if _waiting(client) < _BACKLOG:
            _post(client, distinct(files, _BATCH, serial=serial))
            serial += _BATCH
            posted = _BATCH
        go_on = signals.go_on(posted, until=time.monotonic() + (0.0 if posted else 0.05))
