"""Small mistakes, made on purpose, of those who score, order, plan, remember and look for neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from tests.oracle.mistakes import Mistake, instead

from sightrank.search import (
    bounds,
    candidates,
    detections,
    engine,
    evidence,
    follow,
    heads,
    matrix_ranker,
    order,
    rank,
    sql,
    sql_ranker,
)
from sightrank.search.bounds import Laws
from sightrank.search.compile import predicted_direction
from sightrank.search.compiled import NO_LABELS, Labels
from sightrank.search.evidence import EvidenceBook
from sightrank.search.follow import Matrices, RankerChoice
from sightrank.search.matrix import Matrix
from sightrank.search.matrix_ranker import MatrixRanker
from sightrank.search.plan import Plan
from sightrank.search.scope import SearchScope
from sightrank.search.score import Array, Link, highest_of_groups, mean_log_score

# Scoring, by the exact ranker --------------------------------------------------------------------------------------


def _arithmetic(scores: Sequence[Array], *, negate: bool = False) -> Array:
    with np.errstate(divide="ignore"):
        mean = np.log(np.mean(np.exp(np.stack(scores)), axis=0))
    return mean_log_score([mean], negate=negate)


def _mean(mistaken: Any) -> Mistake:
    def mistake(patch: pytest.MonkeyPatch) -> None:
        for module in (order, rank):
            patch.setattr(module, "mean_log_score", mistaken)

    return mistake


def _lowest(probability: Any, starts: Any) -> Any:
    turned = highest_of_groups(type(probability)(probability.no, probability.yes), starts)
    return type(probability)(turned.no, turned.yes)


def _latest_labels(old: str, new: str) -> Mistake:
    text = follow._SQL["latest_labels"]
    assert old in text, f"{old!r} is not in latest_labels any more"
    return lambda patch: patch.setitem(follow._SQL, "latest_labels", text.replace(old, new))  # type: ignore[arg-type]


def _in_detections(old: str, new: str) -> Mistake:
    text = detections._SQL["detections"]
    assert old in text, f"{old!r} is not in detections any more"
    return lambda patch: patch.setitem(detections._SQL, "detections", text.replace(old, new))  # type: ignore[arg-type]


def _without_mean(_: Any) -> Any:
    async def mean(*given: Any) -> None:
        return None

    return mean


def _labels_of_now(original: Any) -> Any:
    return lambda matrices, bucket, ids, versions, as_of=None: original(matrices, bucket, ids, versions)


def _in_heads(old: str, new: str) -> Mistake:
    text = heads._SQL["heads"]
    assert old in text, f"{old!r} is not in heads any more"
    return lambda patch: patch.setitem(heads._SQL, "heads", text.replace(old, new))  # type: ignore[arg-type]


def _unless_tagged(original: Any) -> Any:
    async def fitted(its: Any, scope: Any, speakers: Any, ids: Any) -> Any:
        found = await original(its, scope, speakers, ids)
        return None if predicted_direction(scope.tagger, ids) is not None else found

    return fitted


def _unless_detected(original: Any) -> Any:
    async def fitted(its: Any, scope: Any, speakers: Any, ids: Any) -> Any:
        return None if scope.only_detects(ids) else await original(its, scope, speakers, ids)

    return fitted


def _unless_labelled(original: Any) -> Any:
    async def fitted_alone(*given: Any) -> Any:
        direction, labels = await original(*given)
        return (direction, NO_LABELS) if direction.link is Link.SIGMOID else (direction, labels)

    return fitted_alone


def _sigmoid(original: Any) -> Any:
    def fitted(model: Any, ids: Any) -> Any:
        found = original(model, ids)
        return replace(found, rivals=()) if found is not None else None

    return fitted


def _whatever_is_named(original: Any) -> Any:
    return lambda its, scope, found, version_id: original(its, scope, found, "")


SCORING: Mapping[str, Mistake] = {
    "forgets negated ranks": _mean(lambda scores, **_: mean_log_score(scores)),
    "takes the arithmetic mean": _mean(_arithmetic),
    "ignores labels": lambda patch: patch.setattr(order, "_labelled", lambda matrix, prediction, *_: prediction),
    "takes the oldest label": _latest_labels("DESC, annotation_id DESC", ", annotation_id"),
    "believes labels that nobody trusts": _latest_labels("AND trusted", ""),
    "takes the labels of now for the past": instead(Matrices, "labels", _labels_of_now),
    "has no detector": instead(SearchScope, "only_detects", lambda _: lambda *given: False),
    "lets the detector overrule the tagger": instead(
        SearchScope, "only_detects", lambda _: lambda its, ids: "ai_dog" in ids
    ),
    "takes what a model of the app says for a detection": _in_detections("AND NOT a.own_model", ""),
    "lets the detector overrule people": instead(Labels, "over", lambda over: lambda its, other: over(other, its)),
    "lets the tagger overrule trained models": instead(EvidenceBook, "_fitted", _unless_tagged),
    "lets the detector overrule trained models": instead(EvidenceBook, "_fitted", _unless_detected),
    "lets models overrule people": instead(EvidenceBook, "_evidence", _unless_labelled),
    "ranks by the first version of a model": _in_heads("v.created_at DESC, v.id DESC)", "v.created_at, v.id)"),
    "prefers the model that was trained first": _in_heads("completed_at DESC NULLS LAST", "completed_at"),
    "ranks by models that are not trained": _in_heads("AND v.status = 21100", ""),
    "takes concepts that exclude each other for independent ones": instead(evidence, "fitted_direction", _sigmoid),
    "forgets which model version a rank names": instead(EvidenceBook, "_speakers", _whatever_is_named),
    "lets others speak for a model version that is named": instead(
        evidence._Speakers, "know", lambda _: lambda *given: True
    ),
    "takes the worst area of an input": lambda patch: patch.setattr(order, "highest_of_groups", _lowest),
    "has no mean of positives": instead(MatrixRanker, "mean_of_areas", _without_mean),
    "orders ties from new to old": lambda patch: patch.setattr(
        Matrix, "created_us", property(lambda its, original=Matrix.created_us: -original.fget(its))
    ),
    "loses the last hit of a page": instead(engine, "_page", lambda page: lambda *given: page(*given)[:-1]),
    "confuses rows": instead(Matrix, "exact_cosines", lambda cosines: lambda *given: cosines(*given)[::-1]),
}

# Plans and rankers, one of them at a time --------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A mistake that shows only in one way to answer."""

    mistake: Mistake
    choice: RankerChoice
    forced: Plan | None = None


def _of_plan(mistake: Mistake, forced: Plan) -> Turn:
    return Turn(mistake=mistake, choice="exact", forced=forced)


def _without_the_last(original: Any) -> Any:
    async def read(*given: Any, **named: Any) -> Any:
        found = await original(*given, **named)
        names = found.annotation_ids
        return replace(found, area_ids=found.area_ids[:-1], annotation_ids=names[:-1] if names is not None else None)

    return read


def _gives_up(original: Any) -> Any:
    async def rank_then_filter(*given: Any) -> Any:
        return await original(*given) or []

    return rank_then_filter


def _everybody_survives(original: Any) -> Any:
    return lambda query, scope, numbers: original(replace(query, filters=()), scope, numbers)


def _half_of_them(original: Any) -> Any:
    return lambda query, scope, numbers: original(query, scope, numbers[: len(numbers) // 2])


def _as_if_rising(original: Any) -> Any:
    def alone(ranks: Any) -> Any:
        found = original(ranks)
        return replace(found, sign=1.0) if found is not None else None

    return alone


def _without_rivals(original: Any) -> Any:
    return lambda ranks: original(_plain(ranks))


def _told_apart_without_rivals(patch: pytest.MonkeyPatch) -> None:
    for module in (rank, matrix_ranker):
        patch.setattr(module, "single_direction", _without_rivals(module.single_direction))
        patch.setattr(
            module, "is_told_apart", lambda ranks, *given, told=module.is_told_apart: told(_plain(ranks), *given)
        )


def _plain(ranks: Any) -> Any:
    """The same ranks, where nothing excludes anything."""
    [first, *others] = ranks
    [term, *terms] = first.terms
    plain = tuple((replace(direction, rivals=()), labels) for direction, labels in term.alternatives)
    return (replace(first, terms=(replace(term, alternatives=plain), *terms)), *others)


def _rivals_turned(original: Any) -> Any:
    def guides(*given: Any) -> Any:
        own, *rivals = original(*given)
        return [own, *(replace(rival, sign=-rival.sign) for rival in rivals)]

    return guides


def _the_other_way(original: Any) -> Any:
    def line(*given: Any) -> Any:
        found = original(*given)
        return replace(found, direction=-found.direction, offset=found.offset - 10.0) if found is not None else None

    return line


def _without_the_nearest(original: Any) -> Any:
    def nearest(its: Any, direction: Any, count: int) -> Any:
        rows, products = original(its, direction, count)
        return (rows[1:], products[1:]) if len(rows) > 1 else (rows, products)

    return nearest


def _farthest(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(matrix_ranker, "single_direction", _as_if_rising(matrix_ranker.single_direction))
    patch.setattr(matrix_ranker, "is_told_apart", lambda *given: True)


class _Short(int):
    """A bound that at most half of what it allows is read for."""

    def __add__(self, other: int) -> int:
        return int(self) // 2 + 1


def _keeps_too_little(original: Any) -> Any:
    return lambda its, chosen: original(its, chosen[: max(len(chosen) // 2, 1)])


_FILTER_FIRST, _RANK_FIRST = Plan.FILTER_THEN_RANK, Plan.RANK_THEN_FILTER
TURNS: Mapping[str, Turn] = {
    "loses a candidate": _of_plan(instead(candidates, "read", _without_the_last), _FILTER_FIRST),
    "remembers candidates without their filters": Turn(
        mistake=instead(candidates, "key_of", lambda _: lambda query, scope: (scope.bucket, query.unit.value)),
        choice="exact",
    ),
    "stops after the first look": _of_plan(instead(engine, "_ends_below", lambda _: lambda *given: True), _RANK_FIRST),
    "lets every hit survive": _of_plan(instead(sql, "surviving", _everybody_survives), _RANK_FIRST),
    "shows half of the hits to the filter": _of_plan(instead(sql, "surviving", _half_of_them), _RANK_FIRST),
    "gives up instead of filtering first": Turn(
        mistake=instead(engine.SearchEngine, "_rank_then_filter", _gives_up), choice="exact"
    ),
    "takes some candidates for all": Turn(
        mistake=instead(engine, "candidate_bound", lambda bound: lambda *given: _Short(bound(*given))), choice="exact"
    ),
    "misses the nearest": Turn(mistake=instead(Matrix, "nearest", _without_the_nearest), choice="exact"),
    "takes every score for a rising one": Turn(
        mistake=lambda patch: patch.setattr(rank, "_sign", lambda *given: 1.0), choice="exact"
    ),
    "confuses rows in the full scan": Turn(
        mistake=instead(Matrix, "cosines", lambda cosines: lambda *given: cosines(*given)[::-1]), choice="exact"
    ),
    "looks along a tangent the other way": Turn(mistake=instead(rank, "tangent", _the_other_way), choice="exact"),
    "never sees that hits tie": Turn(
        mistake=instead(rank, "is_told_apart", lambda _: lambda *given: True), choice="exact"
    ),
    "overlooks what excludes a direction": Turn(mistake=_told_apart_without_rivals, choice="exact"),
    "overlooks what excludes a direction of the graph": Turn(mistake=_told_apart_without_rivals, choice="graph"),
    "confuses the parts of a scan": Turn(
        mistake=instead(rank, "_joined", lambda joined: lambda parts: joined(parts[::-1])), choice="exact"
    ),
    "bounds what excludes a direction from the wrong side": Turn(
        mistake=instead(bounds, "_guides", _rivals_turned), choice="sql"
    ),
    "takes the graph for everything there is": Turn(
        mistake=lambda patch: patch.setattr(matrix_ranker, "_joined", lambda first, exact: first), choice="graph"
    ),
    "asks the graph for the farthest": Turn(mistake=_farthest, choice="graph"),
    "forgets what is labelled beside the graph": Turn(
        mistake=instead(matrix_ranker, "known", lambda _: lambda rows: rows[:0]), choice="graph"
    ),
    "lets neighbours in the graph pass for inputs": Turn(
        mistake=lambda patch: patch.setattr(Matrix, "one_area_each", property(lambda its: True)), choice="graph"
    ),
    "takes neighbours in PostgreSQL for the answer": Turn(
        mistake=lambda patch: patch.setattr(Laws, "unlabelled", lambda its, cosines: np.full(len(cosines), -np.inf)),
        choice="sql",
    ),
    "forgets what is labelled beside neighbours in PostgreSQL": Turn(
        mistake=lambda patch: patch.setattr(Laws, "labelled", lambda its: np.empty(0, np.int64)), choice="sql"
    ),
    "bounds scores in PostgreSQL from the wrong side": Turn(
        mistake=lambda patch: patch.setattr(bounds, "_sign", lambda *given, original=bounds._sign: -original(*given)),
        choice="sql",
    ),
    "lets contenders in PostgreSQL go": Turn(
        mistake=instead(sql_ranker.Contenders, "_keep", _keeps_too_little), choice="sql"
    ),
    "forgets a part of the vectors from PostgreSQL": Turn(
        mistake=instead(
            sql_ranker, "_first_created", lambda _: lambda matrix, numbers: np.zeros(len(numbers), np.int64)
        ),
        choice="sql",
    ),
}
