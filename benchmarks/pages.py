"""How many hits a search gives when many are asked for, and whether deep pages neither skip nor repeat one."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial

from clarifai_grpc.grpc.api import resources_pb2

from benchmarks.figures import Call, Prepare, Row, interleaved, p50, show
from benchmarks.queries import HITS, Searches, exactly
from benchmarks.questions import Question, kinds
from benchmarks.shares import ALL, TENTH, only
from benchmarks.stage import Stage

_COUNTS = (1, 41, 100, 1000)
_ROUNDS = 15
_DEEPEST = 10_000  # hits, the bound of the API
_PAGE = 500


def run(stage: Stage) -> None:
    """Times one page of several sizes, then reads all pages there are, with and without a filter."""
    stage.fill()
    stage.use()
    client = stage.client()
    searches, picture = Searches(client), kinds(stage.models)["image"]

    def ask(count: int) -> Call:
        return exactly(count, searches.annotations(picture(), per_page=count))

    calls: dict[str, Prepare] = {"empty rpc": client.empty}
    for count in _COUNTS:
        calls[f"{count:,} hits"] = partial(ask, count)
    times = interleaved(calls, rounds=_ROUNDS, warm_up=2)
    floor = p50(times["empty rpc"])
    rows = [Row(name, f"{p50(each):.2f} ms", f"{p50(each) / floor:.2f}") for name, each in times.items()]
    for name, kind in kinds(stage.models).items():
        for share in (ALL, TENTH):
            wanted = min(_DEEPEST, int(share.has(stage.areas).sum()))
            filters = [] if share is ALL else [only(share)]
            rows.append(_deep(searches, f"all pages by {name}, {share.percent} pass", kind(), filters, wanted))
    show(
        f"Pages: {stage.areas:,} areas, ratio to the empty rpc",
        rows,
        caption=f"All pages: {_PAGE} hits each down to hit {_DEEPEST:,}, no input twice, scores falling, the first"
        f" {HITS} as a search for {HITS} gives them.",
    )


def _deep(
    searches: Searches, what: str, question: Question, filters: Sequence[resources_pb2.Filter], wanted: int
) -> Row:
    pages = range(1, _DEEPEST // _PAGE + 1)
    hits = [hit for page in pages for hit in searches.annotations(question, filters, page=page, per_page=_PAGE)()]
    ids, scores = [hit.input.id for hit in hits], [hit.score for hit in hits]
    first = [hit.input.id for hit in searches.annotations(question, filters)()]
    right = (
        len(set(ids)) == len(ids) == wanted
        and all(one >= following for one, following in itertools.pairwise(scores))
        and first == ids[:HITS]
    )
    return Row(what, f"{len(set(ids)):,} distinct hits", "", f"{wanted:,}", right)
