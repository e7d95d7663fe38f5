"""What "the same answer" means (design, decision 7): scores within 1e-5, neighbours closer than that may swap, areas
that no rank can tell apart follow their creation, and pages are windows of one order."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from tests.oracle.filters import Refused
from tests.oracle.oracle import Expected, Oracle
from tests.oracle.searches import Asked

from sightrank.search.engine import Hit

TOLERANCE = 1e-5


class Mismatch(AssertionError):
    """The server's answer is not the oracle's."""


#: What a search can come to: hits, a number of them, or the statuses it may be refused with.
Outcome = list[Expected] | int | frozenset[int]


def expected_of(oracle: Oracle, asked: Asked) -> Outcome:
    try:
        return oracle.count(asked.search) if asked.counts else oracle.answer(asked.search, asked.unit)
    except Refused as refusal:
        return refusal.codes


def check(asked: Asked, expected: Outcome, actual: list[Hit] | int | Refused) -> None:
    """Raises Mismatch, which prints the search."""
    try:
        _check(asked, expected, actual)
    except Mismatch as mismatch:
        raise Mismatch(f"{mismatch}\n{asked}") from None


def _check(asked: Asked, expected: Outcome, actual: list[Hit] | int | Refused) -> None:
    if isinstance(expected, frozenset):
        if not isinstance(actual, Refused) or not actual.codes <= expected:
            raise Mismatch(f"answered {actual}, expected a refusal with one of {set(expected)}")
    elif isinstance(actual, Refused):
        raise Mismatch(f"refused with {set(actual.codes)}, expected {_short(expected)}")
    elif isinstance(expected, int) or isinstance(actual, int):
        if actual != expected:
            raise Mismatch(f"counted {actual}, expected {_short(expected)}")
    else:
        compare(actual, expected, min_value=asked.search.min_value, offset=asked.offset, limit=asked.limit)


def _short(expected: list[Expected] | int) -> str:
    return f"{len(expected)} hits" if isinstance(expected, list) else str(expected)


def compare(hits: Sequence[Hit], order: Sequence[Expected], *, min_value: float, offset: int, limit: int) -> None:
    """``order`` is all that could be hit, best first. Raises Mismatch."""
    window = order[offset : offset + limit]
    surely = sum(expected.score > min_value + TOLERANCE for expected in window)
    perhaps = sum(expected.score >= min_value - TOLERANCE for expected in window)
    if not surely <= len(hits) <= perhaps:
        raise Mismatch(f"{len(hits)} hits, not {surely} to {perhaps} of {len(order)}")
    by_annotation = {
        (expected.input_number, expected.annotation_id): expected for expected in order if expected.area_id is None
    }
    by_area = {
        (expected.input_number, area_id): expected
        for expected in order
        if expected.area_id is not None
        for area_id in expected.as_good or [expected.area_id]
    }
    rising = [-expected.score for expected in order]
    found: list[Expected] = []
    for place, hit in enumerate(hits, start=offset):
        if hit.area_id is None:
            expected = by_annotation.get((hit.input_number, hit.annotation_id))
        else:
            expected = by_area.get((hit.input_number, hit.area_id))
        if expected is None:
            raise Mismatch(f"hit {place} should not be there: {hit}")
        if (hit.input_number, hit.annotation_id) != (expected.input_number, expected.annotation_id):
            raise Mismatch(f"hit {place} is {hit}, expected {expected.key}")
        if abs(hit.score - expected.score) > TOLERANCE:
            raise Mismatch(f"hit {place} has score {hit.score}, not {expected.score}: {expected.key}")
        if abs(expected.score - order[place].score) > TOLERANCE:
            raise Mismatch(f"hit {place} has score {expected.score}; that place belongs to {order[place].score}")
        _check_place(expected, order, place, rising)
        found.append(expected)
    if len({expected.key for expected in found}) != len(found):
        raise Mismatch("a hit came twice")
    _check_twins(found, order)


def _check_place(expected: Expected, order: Sequence[Expected], place: int, rising: Sequence[float]) -> None:
    """Where all that is close is alike, the place is certain."""
    close = order[bisect_left(rising, rising[place] - TOLERANCE) : bisect_right(rising, rising[place] + TOLERANCE)]
    if len({other.likeness for other in close}) == 1 and expected.key != order[place].key:
        raise Mismatch(f"hit {place} is {expected.key}; {order[place].key} came first, and nothing tells them apart")


def _check_twins(found: Sequence[Expected], order: Sequence[Expected]) -> None:
    """Hits that are alike come in the order they were made, without leaving one out."""
    ranks: dict[object, list[Expected]] = {}
    for expected in order:
        ranks.setdefault(expected.likeness, []).append(expected)
    seen: dict[object, list[Expected]] = {}
    for expected in found:
        seen.setdefault(expected.likeness, []).append(expected)
    for likeness, group in seen.items():
        twins = sorted(ranks[likeness], key=lambda twin: twin.since)
        first = twins.index(group[0])
        if twins[first : first + len(group)] != group:
            raise Mismatch(f"{[twin.key for twin in group]} are alike and out of order")
