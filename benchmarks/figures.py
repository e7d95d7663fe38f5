"""What every measurement needs: repeated timing, and one way to print."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

Call = Callable[[], object]
#: Makes the next call, message and all, so that what is timed is the call and not the making of its message.
Prepare = Callable[[], Call]

#: Wide enough for every table here, so that a file or a pipe gets unbroken lines.
console = Console(width=110)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table. ``target`` is a bound the project has set itself, and ``met`` whether it holds."""

    what: str
    value: str
    ratio: str = ""
    target: str = ""
    met: bool | None = None


def show(title: str, rows: Sequence[Row], *, caption: str) -> None:
    """Prints one table; ``caption`` says how the figures came about."""
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    table.add_column("what")
    for name in ("value", "ratio", "target"):
        table.add_column(name, justify="right")
    table.add_column("")
    for row in rows:
        verdict = "" if row.met is None else ("[green]met[/]" if row.met else "[red]missed[/]")
        table.add_row(row.what, row.value, row.ratio, row.target, verdict)
    console.print(table)


def interleaved(calls: Mapping[str, Prepare], *, rounds: int, warm_up: int = 10) -> dict[str, list[float]]:
    """Milliseconds of each call, the calls taking turns, so that whatever else the machine does hits all alike."""
    for prepare in calls.values():
        for _ in range(warm_up):
            prepare()()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, prepare in calls.items():
            times[name].append(timed(prepare()))
    return times


def paced(calls: Mapping[str, Prepare], *, seconds: float, pause_s: float) -> dict[str, list[float]]:
    """Milliseconds of each call, the calls taking turns for so long, with a pause after each."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for name, prepare in calls.items():
            times[name].append(timed(prepare()))
            time.sleep(pause_s)
    return times


def timed(call: Call) -> float:
    """Milliseconds of one call."""
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1000


def p50(milliseconds: Sequence[float]) -> float:
    return statistics.median(milliseconds)


def p95(milliseconds: Sequence[float]) -> float:
    return statistics.quantiles(milliseconds, n=20)[-1]
