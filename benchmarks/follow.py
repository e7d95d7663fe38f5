"""Read your writes: what the first search after a commit costs, and the first search of a fresh process."""

from __future__ import annotations

from benchmarks.figures import Row, interleaved, p50, show, timed
from benchmarks.queries import Searches
from benchmarks.questions import kinds
from benchmarks.stage import Stage

_COMMITS = 7
_SIZES = (1, 100, 1000)


def run(stage: Stage) -> None:
    """Commits areas of various numbers behind the server's back and times the next search."""
    stage.fill()
    stage.server.stop()
    stage.server.start()
    client = stage.client()
    searches, picture = Searches(client), kinds(stage.models)["image"]
    client.empty()()
    started_with = stage.areas
    cold = timed(searches.annotations(picture()))
    steady = p50(interleaved({"search": lambda: searches.annotations(picture())}, rounds=50)["search"])
    rows = [
        Row("first search of a fresh process", f"{cold:.0f} ms", f"{started_with / cold:.0f} rows/ms"),
        Row("search when nothing has changed", f"{steady:.2f} ms", "1.00"),
    ]
    for size in _SIZES:
        times = []
        for _ in range(_COMMITS):
            stage.add(size)
            times.append(timed(searches.annotations(picture())))
        text = f"first search after a commit of {size:,} area{'s' if size > 1 else ''}"
        rows.append(Row(text, f"{p50(times):.2f} ms", f"{p50(times) / steady:.2f}"))
    show(
        f"Following the database: {started_with:,} areas",
        rows,
        caption=f"Median of {_COMMITS} commits each, made by another process; ratio to a search without a change.",
    )
