"""Searching 50,000 areas, against the empty rpc: what ranking costs beyond saying hello."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.areas import COMMON, RARE
from benchmarks.figures import Row, interleaved, p50, p95, show
from benchmarks.queries import HITS, Rest, Searches, concept_ranks, labelled, negated, vector_ranks
from benchmarks.stage import Stage

_ROUNDS = 300
_MOST = 2.5


def run(stage: Stage) -> None:
    """Prints the p50 of each kind of search as a multiple of the empty rpc's, all taking turns in one run."""
    stage.fill()
    client, rest = stage.client(), Rest(stage.server)
    searches = Searches(client)
    vector, concept = vector_ranks(stage.models.dims), concept_ranks(stage.models.concepts)
    by_vector = "rank by embeddings"
    calls: dict[str, Callable[[], object]] = {
        "empty rpc": client.empty,
        by_vector: lambda: searches.annotations([vector()]),
        "rank by embeddings, negated": lambda: searches.annotations([negated(vector())]),
        "rank by a predicted concept": lambda: searches.annotations([concept()]),
        "two ranks: concept and embeddings": lambda: searches.annotations([concept(), vector()]),
        "inputs search by embeddings": lambda: searches.inputs([vector()]),
        "embeddings among 100 labelled": lambda: searches.annotations([vector()], [labelled(RARE)]),
        "embeddings among 2,400 labelled": lambda: searches.annotations([vector()], [labelled(COMMON)]),
        "REST: empty": rest.empty,
        "REST: rank by embeddings": lambda: rest.annotations(vector()),
    }
    times = interleaved(calls, rounds=_ROUNDS)
    floor = p50(times["empty rpc"])
    rows = []
    for name, milliseconds in times.items():
        ratio, bound = p50(milliseconds) / floor, name == by_vector
        value = f"{p50(milliseconds):.2f} ms (p95 {p95(milliseconds):.2f})"
        rows.append(Row(name, value, f"{ratio:.2f}", f"<= {_MOST}" if bound else "", ratio <= _MOST if bound else None))
    show(
        f"Search: {stage.areas:,} areas, {HITS} hits, p50 as a multiple of the empty rpc",
        rows,
        caption=f"{_ROUNDS} calls each, taking turns, official Python client; the empty rpc is ListCollaborators"
        " (key and app are checked, then an empty list).",
    )
