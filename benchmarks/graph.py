"""Building the graph: how long it takes, what it costs searches meanwhile and what it gives them afterwards."""

from __future__ import annotations

import threading

from benchmarks.figures import Row, p50, p95, paced, show
from benchmarks.queries import HITS, Searches
from benchmarks.questions import kinds
from benchmarks.stage import Stage
from benchmarks.waiting import until_ranked_by
from sightrank.search.graph import GRAPH_FROM_AREAS

_SECONDS = 10.0
_PAUSE_S = 0.03
_MOST = 2.0


def run(stage: Stage) -> None:
    """Starts the server anew, so that it has no graph, and searches before, during and after the building."""
    stage.fill()
    stage.use("exact")
    before = _search(stage, _SECONDS)
    stage.server.restart(**({} if stage.areas >= GRAPH_FROM_AREAS else {"SIGHTRANK_RANKER": "graph"}))
    Searches(stage.client()).annotations(kinds(stage.models)["image"]())()
    built: list[float] = []
    waiting = threading.Thread(
        target=lambda: built.append(until_ranked_by(stage.server.database_url(), "graph")), daemon=True
    )
    waiting.start()
    during: list[float] = []
    while waiting.is_alive():
        during += _search(stage, 1.0)
    after = _search(stage, _SECONDS)
    if not built:
        raise RuntimeError("The graph was not built.")
    slower = p95(during) / p95(before)
    show(
        f"Building the graph: {stage.areas:,} areas, {HITS} hits",
        [
            Row(
                "from the first search to the graph",
                f"{built[0]:.0f} s",
                f"{stage.areas / built[0] / 1000:.1f} areas/ms",
            ),
            Row("search by image without a graph", _text(before), "1.00"),
            Row("while it is built", _text(during), f"{slower:.2f}", f"<= {_MOST:g}", slower <= _MOST),
            Row("with the graph", _text(after), f"{p95(after) / p95(before):.2f}"),
        ],
        caption=f"A search every {_PAUSE_S * 1000:.0f} ms; ratio of the p95. The graph is noticed within five seconds.",
    )


def _search(stage: Stage, seconds: float) -> list[float]:
    searches, picture = Searches(stage.client()), kinds(stage.models)["image"]
    return paced({"search": lambda: searches.annotations(picture())}, seconds=seconds, pause_s=_PAUSE_S)["search"]


def _text(times: list[float]) -> str:
    return f"p50 {p50(times):.2f}, p95 {p95(times):.2f} ms"
