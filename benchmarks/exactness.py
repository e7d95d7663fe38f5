"""Whether the hits are the right ones: by the matrix, the graph and PostgreSQL, against float64 over all vectors."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.figures import Row, show
from benchmarks.queries import HITS, Searches
from benchmarks.questions import kinds
from benchmarks.shares import ALL, SHARES, only
from benchmarks.stage import Stage
from benchmarks.truth import Truth, Verdict

_QUESTIONS = 20
_LEAST = 0.99
_FILTERS = [("no filter", ALL, []), *((f"{share.percent} pass", share, [only(share)]) for share in SHARES)]


def run(stage: Stage) -> None:
    """One table for each ranker."""
    stage.fill()
    truth = Truth(stage.vectors())
    for ranker in ("graph", "sql", "exact"):
        stage.use(ranker)
        _measure(stage, ranker, truth)


def _measure(stage: Stage, ranker: str, truth: Truth) -> None:
    searches = Searches(stage.client())
    verdicts: dict[str, list[Verdict]] = {}
    for name, kind in kinds(stage.models).items():
        for _ in range(_QUESTIONS):
            question = kind()
            scores = truth.scores(question)
            for what, share, filters in _FILTERS:
                hits = searches.annotations(question, filters)()
                verdict = truth.judge(scores, share.has(len(truth)), HITS, hits)
                verdicts.setdefault(f"{name}, {what}", []).append(verdict)
    show(
        f"Right hits with SIGHTRANK_RANKER={ranker}: {len(truth):,} areas",
        [_row(what, found, must_be_exact=ranker == "exact") for what, found in verdicts.items()],
        caption=f"{_QUESTIONS} searches each; the first {HITS} hits against numpy in float64 over the stored vectors,"
        " order and scores to 1e-5.",
    )


def _row(what: str, found: Sequence[Verdict], *, must_be_exact: bool) -> Row:
    exact = sum(verdict.exact for verdict in found)
    recall = statistics.mean(verdict.recall for verdict in found)
    value = f"{exact} of {len(found)} exact"
    if must_be_exact:
        return Row(what, value, f"{recall:.4f}", "all exact", exact == len(found))
    return Row(what, value, f"{recall:.4f}", f">= {_LEAST}", recall >= _LEAST)
