"""Decides how a search runs. No I/O.

Filters are SQL, ranks are arithmetic over the matrix; a plan says which goes first. Every plan is exact.
"""

from __future__ import annotations

from enum import Enum

from sightrank.search.query import Query


class Plan(Enum):
    """``FILTER``: no ranks, SQL answers in order of creation. ``RANK``: score every area, read the page from the
    database. ``FILTER_THEN_RANK``: SQL names the candidates, their rows are gathered and scored.
    """

    FILTER = "filter"
    RANK = "rank"
    FILTER_THEN_RANK = "filter then rank"


def plan(query: Query) -> Plan:
    """The plan of a query."""
    if not query.ranks:
        return Plan.FILTER
    return Plan.FILTER_THEN_RANK if query.filters else Plan.RANK
