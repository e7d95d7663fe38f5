"""Searching with filters that leave more or less: against the same search without one, and against the empty rpc."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from clarifai_grpc.grpc.api import resources_pb2

from benchmarks.figures import Call, Prepare, Row, interleaved, p50, show
from benchmarks.queries import HITS, Searches, exactly
from benchmarks.questions import Kind, kinds
from benchmarks.shares import HUNDREDTH, SHARES, Share, never_asked, only
from benchmarks.stage import Stage

_ROUNDS = 100
_MOST = 1.1

Filters = Callable[[Share], resources_pb2.Filter]


def run(stage: Stage) -> None:
    """One table for each kind of rank: every share, with a filter asked before and with one never asked before."""
    stage.fill()
    stage.use()
    fresh = never_asked()
    for name, kind in kinds(stage.models).items():
        _measure(stage, name, kind, fresh)


def _measure(stage: Stage, name: str, kind: Kind, fresh: Filters) -> None:
    client = stage.client()
    searches = Searches(client)

    def search(share: Share, filters: Filters) -> Call:
        wanted = min(HITS, int(share.has(stage.areas).sum()))
        return exactly(wanted, searches.annotations(kind(), [filters(share)]))

    beside: dict[str, Prepare] = {
        "empty": client.empty,
        "no filter": lambda: exactly(HITS, searches.annotations(kind())),
    }
    rows = []
    for share in SHARES:
        for asked, filters in (("asked before", only), ("first time", fresh)):
            calls = beside | {"filtered": partial(search, share, filters)}
            found = {what: p50(times) for what, times in interleaved(calls, rounds=_ROUNDS, warm_up=5).items()}
            ratio = found["filtered"] / found["no filter"]
            aimed = name == "image" and share is HUNDREDTH
            value = f"{found['filtered']:.2f} ms, {found['filtered'] / found['empty']:.2f} empty rpcs"
            met = ratio <= _MOST if aimed else None
            rows.append(
                Row(f"{share.percent} pass, {asked}", value, f"{ratio:.2f}", f"<= {_MOST:g}" if aimed else "", met)
            )
    show(
        f"Filtered search by {name}: {stage.areas:,} areas, {HITS} hits, ratio to no filter",
        rows,
        caption=f"p50 of {_ROUNDS} calls each, taking turns with the empty rpc and a search without a filter, no query"
        " twice. The filters are labels of people spread at random, of 100 % a dataset. First time: the filter's text"
        " has never been asked before.",
    )
