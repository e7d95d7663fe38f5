"""Decides how a search runs. No I/O.

Filters are SQL, ranks are arithmetic over vectors; a plan says which goes first. Every plan is exact at any
selectivity; they differ in what they cost. With few candidates the filter goes first: SQL names them all, and only they
are scored. With many, scores go first: the hits in their order are shown to the filter, part by part, until the page is
full.
"""

from __future__ import annotations

import math
from enum import Enum

from sightrank.search.query import Query, Unit

#: A filter that leaves n of N areas costs n by going first, each named in 1 us and then scored; by going second it
#: costs end * N / n, each looked at in 4 us, and every area is scored. Measured at 200,000 areas and pages of 20 they
#: meet at 16,000 candidates: eight times sqrt(end * N).
_BOUND = 8
_LEAST_BOUND = 10_000
_FIRST_LOOK = 100  # hits: what a graph has at once
_LARGEST_STEP = 8
_MOST_LOOKED_AT = 20_000


class Plan(Enum):
    """``FILTER``: no ranks, SQL answers in order of creation. ``RANK``: nothing is left out, score every area.
    ``FILTER_THEN_RANK``: SQL names the candidates, which are scored. ``RANK_THEN_FILTER``: score every area, then ask
    SQL which of the first ones survive.
    """

    FILTER = "filter"
    RANK = "rank"
    FILTER_THEN_RANK = "filter then rank"
    RANK_THEN_FILTER = "rank then filter"


def plan(query: Query, *, has_many: bool = False) -> Plan:
    """The plan of a query. ``has_many``: its filters are known to leave more candidates than the bound."""
    if not query.ranks:
        return Plan.FILTER
    if not query.narrows:
        return Plan.RANK
    return Plan.RANK_THEN_FILTER if has_many else Plan.FILTER_THEN_RANK


def may_rank_first(query: Query) -> bool:
    """Whether the areas there are now tell the score of a hit: not that of an input of another time, which may have got
    more of them since.
    """
    return query.unit is Unit.ANNOTATION or query.as_of is None


def candidate_bound(query: Query, areas: int) -> int:
    """The most candidates that are named before they are scored, in an app of so many areas."""
    return max(_LEAST_BOUND, _BOUND * math.isqrt((query.offset + query.limit) * areas))


def look_further(*, wanted: int, looked_at: int, survived: int, usual_share: float) -> int | None:
    """How many hits in order to have shown to the filter next, all in all; None to let the filter go first after all.

    ``survived`` of the first ``looked_at`` hits survived, and ``wanted`` are needed. ``usual_share`` is what survived
    last time, 1 when there was none.
    """
    most = max(_MOST_LOOKED_AT, 2 * wanted)
    # A quarter more than at the rate so far, and one for nothing yet.
    if looked_at == 0:
        expected = wanted if usual_share == 1.0 else math.ceil(1.25 * (wanted + 1) / usual_share)
        return min(max(expected, _FIRST_LOOK), most)
    expected = math.ceil(1.25 * wanted * looked_at / (survived + 1))
    further = max(2 * looked_at, min(expected, _LARGEST_STEP * looked_at))
    return further if further <= most else None
