"""Searching without filters, against the empty rpc: what ranking costs beyond saying hello."""

from __future__ import annotations

from functools import partial

from benchmarks.figures import Call, Prepare, Row, interleaved, p50, p95, show, timed
from benchmarks.queries import HITS, Rest, Searches, exactly
from benchmarks.questions import Kind, kinds, of_concepts
from benchmarks.stage import Stage

_ROUNDS = 300
_MOST = 3.0


def run(stage: Stage) -> None:
    """Prints the p50 of each kind of search as a multiple of the empty rpc's, the two taking turns.

    Kinds are measured one after the other: a scan of the whole matrix takes the caches from whatever comes after it.
    """
    stage.fill()
    stage.use()
    client, rest = stage.client(), Rest(stage.server)
    searches, questions = Searches(client), kinds(stage.models)
    picture = questions["image"]
    calls: dict[str, Prepare] = {}
    for name, kind in questions.items():
        calls[f"rank by {name}"] = partial(_ranked, searches, kind)
    calls["inputs search by image"] = lambda: exactly(HITS, searches.inputs(picture()))
    calls["no ranks: the first inputs"] = lambda: exactly(HITS, searches.inputs(None))
    calls["REST: rank by image"] = lambda: rest.annotations(picture())
    rows = [_row(name, prepare, client.empty, rest.empty) for name, prepare in calls.items()]
    show(
        f"Search: {stage.areas:,} areas, {HITS} hits, p50 as a multiple of the empty rpc",
        rows,
        caption=f"{_ROUNDS} calls each, taking turns with the empty rpc, no query twice, official Python client;"
        f" {stage.beside:,} areas in another app. The empty rpc is ListCollaborators (key and app are checked, then an"
        " empty list), for REST over REST.",
    )
    _taught(stage, searches)


def _taught(stage: Stage, searches: Searches) -> None:
    """A concept that people taught beside one of the tagger's; what excludes others is no single direction."""
    public = kinds(stage.models)["concept"]
    rows = []
    for what, concepts, exclusive in (
        ("one of 50 trained concepts", 50, False),
        ("one of 5 that exclude each other", 5, True),
        ("one of 50 that exclude each other", 50, True),
    ):
        kind = of_concepts(stage.teach(f"taught-{len(rows)}", concepts=concepts, exclusive=exclusive))
        first, second = (timed(searches.annotations(kind())) for _ in range(2))
        stage.add(1)
        after_one = timed(searches.annotations(kind()))
        times = interleaved(
            {"public": partial(_ranked, searches, public), what: partial(_ranked, searches, kind)}, rounds=_ROUNDS
        )
        once = f"first {first:.1f}, second {second:.1f}, after one new input {after_one:.1f}"
        rows.append(Row(what, f"{p50(times[what]):.2f} ms; {once}", f"{p50(times[what]) / p50(times['public']):.2f}"))
    show(
        f"Trained concepts: {stage.areas:,} areas, {HITS} hits, p50 as a multiple of a public concept's",
        rows,
        caption=f"{_ROUNDS} calls each, taking turns with a rank by a public concept; the first is the next search"
        " after the commit that the version is trained, the input comes by another process.",
    )


def _row(name: str, prepare: Prepare, empty: Prepare, empty_rest: Prepare) -> Row:
    floor = empty_rest if name.startswith("REST") else empty
    times = interleaved({"empty": floor, name: prepare}, rounds=_ROUNDS)
    ratio = p50(times[name]) / p50(times["empty"])
    value = f"{p50(times[name]):.2f} ms (p95 {p95(times[name]):.2f}), empty {p50(times['empty']):.2f}"
    if name.startswith("rank by"):
        return Row(name, value, f"{ratio:.2f}", f"<= {_MOST:g}", ratio <= _MOST)
    return Row(name, value, f"{ratio:.2f}")


def _ranked(searches: Searches, kind: Kind) -> Call:
    return exactly(HITS, searches.annotations(kind()))
