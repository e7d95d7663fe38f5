"""Search latency while inputs are committed: real photographs through the API, and ready-made areas past it."""

from __future__ import annotations

import asyncio
import time

from clarifai_grpc.grpc.api import resources_pb2, service_pb2

from benchmarks.areas import Models, writing
from benchmarks.beside import Signals, beside
from benchmarks.figures import Prepare, Row, p50, p95, paced, show
from benchmarks.photos import distinct, small_photos
from benchmarks.queries import HITS, Searches
from benchmarks.questions import kinds
from benchmarks.server import APP, Client
from benchmarks.shares import HUNDREDTH, only
from benchmarks.stage import Stage

_A_SECOND = 100  # inputs
_BATCH = 10
_SECONDS = 20.0
_PAUSE_S = 0.03  # between searches, so that the searches themselves are no load to speak of
_MOST = 2.0


def run(stage: Stage) -> None:
    """Idle, then photographs posted at a fixed rate, then commits at a fixed rate, each searched for the same time."""
    stage.fill()
    stage.use()
    client = stage.client()
    files, source = small_photos(stage.data)
    rows: list[Row] = []
    idle = _search(stage)
    rows += [Row(f"{name}: idle", _text(times), "1.00") for name, times in idle.items()]
    before, started = _indexed(client), time.monotonic()
    with beside(_post, stage.server.grpc_port, distinct(files, int(_A_SECOND * (_SECONDS + 60)), serial=10**9)):
        busy = _search(stage)
        rate = (_indexed(client) - before) / (time.monotonic() - started)
    rows += _compare(f"{rate:.0f} photographs a second indexed", idle, busy)
    _until_indexed(client)
    first = stage.areas
    with beside(_commit, stage.server.database_url(), stage.models, first) as commits:
        busy = _search(stage)
    stage.note(commits.done, portion=_BATCH)
    rows += _compare(f"{_A_SECOND} ready-made areas a second", idle, busy)
    show(
        f"Search during commits: {first:,} areas, {HITS} hits, p95 as a multiple of idle",
        rows,
        caption=f"A search every {_PAUSE_S * 1000:.0f} ms for {_SECONDS:.0f} s each. Photographs ({source}):"
        f" {_A_SECOND} a second in calls of {_BATCH} by another process, inference on the same cores."
        f" Ready-made areas: commits of {_BATCH} straight into the store.",
    )


def _search(stage: Stage) -> dict[str, list[float]]:
    searches, picture = Searches(stage.client()), kinds(stage.models)["image"]
    calls: dict[str, Prepare] = {
        "image": lambda: searches.annotations(picture()),
        "image, 1 % pass": lambda: searches.annotations(picture(), [only(HUNDREDTH)]),
    }
    return paced(calls, seconds=_SECONDS, pause_s=_PAUSE_S)


def _compare(what: str, idle: dict[str, list[float]], busy: dict[str, list[float]]) -> list[Row]:
    rows = []
    for name, times in busy.items():
        ratio = p95(times) / p95(idle[name])
        rows.append(Row(f"{name}: {what}", _text(times), f"{ratio:.2f}", f"<= {_MOST:g}", ratio <= _MOST))
    return rows


def _text(times: list[float]) -> str:
    return f"p50 {p50(times):.2f}, p95 {p95(times):.2f} ms"


def _indexed(client: Client) -> int:
    request = service_pb2.GetInputCountRequest(user_app_id=client.ids)
    return int(client.call("GetInputCount", request).counts.processed)


def _until_indexed(client: Client) -> None:
    """Waits for the queue to run dry, so that the next phase has the cores to itself."""
    request = service_pb2.GetInputCountRequest(user_app_id=client.ids)
    deadline = time.monotonic() + 300
    while (counts := client.call("GetInputCount", request).counts).to_process + counts.processing:
        if time.monotonic() > deadline:
            raise RuntimeError("The inputs were not indexed in time.")
        time.sleep(0.2)


# In a process beside -------------------------------------------------------------------------------------------------


def _post(signals: Signals, port: int, files: list[bytes]) -> None:
    client, due = Client(port), time.monotonic()
    for first in range(0, len(files), _BATCH):
        batch = files[first : first + _BATCH]
        inputs = [
            resources_pb2.Input(data=resources_pb2.Data(image=resources_pb2.Image(base64=data))) for data in batch
        ]
        client.call("PostInputs", service_pb2.PostInputsRequest(user_app_id=client.ids, inputs=inputs))
        due += _BATCH / _A_SECOND
        if not signals.go_on(len(batch), until=due):
            return


def _commit(signals: Signals, url: str, models: Models, start: int) -> None:
    async def write() -> None:
        first, due = start, time.monotonic()
        async with writing(url, APP, models) as writer:
            while True:
                await writer.add(first, _BATCH)
                first += _BATCH
                due += _BATCH / _A_SECOND
                if not signals.go_on(_BATCH, until=due):
                    return

    asyncio.run(write())
