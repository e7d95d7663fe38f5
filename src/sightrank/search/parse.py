"""Search messages to the algebra of ``search.query``. No I/O.

Filters are read by ``search.filters``, ranks by ``search.terms``, the legacy form by ``search.legacy``; what holds for
a search as a whole is here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from clarifai_grpc.grpc.api import resources_pb2

from sightrank.errors import SearchInvalid
from sightrank.search import suggest
from sightrank.search.fields import ME, Reading
from sightrank.search.filters import read_filter
from sightrank.search.legacy import read_and
from sightrank.search.naming import instant
from sightrank.search.query import Filter, Query, Rank, Unit, conditions
from sightrank.search.terms import read_rank

#: What one search may ask for: generous for people, a bound for programs.
MAX_TERMS = 64
MAX_CONDITIONS = 256
_SUGGESTING = "active_learning"
_ALGORITHMS = frozenset({"", "nearest_neighbor", "brute_force", "avg_concept_brute_force", _SUGGESTING})


def parse_search(message: resources_pb2.Search, unit: Unit, *, offset: int, limit: int, me: str = ME) -> Query:
    """One Search message. Raises SearchInvalid naming the field that is wrong or not supported.

    ``me`` is the id of the user whom a filter calls "me". Whether the search is to be saved is not asked here.
    """
    if message.query.ands:
        raise SearchInvalid(
            "query.ands is the legacy form, which only PostSearches (/v2/searches) reads; use query.filters and"
            " query.ranks here."
        )
    return _parsed(message.query, message, unit, offset=offset, limit=limit, me=me)


def parse_legacy(
    query: resources_pb2.Query, search: resources_pb2.Search | None, *, offset: int, limit: int, me: str = ME
) -> Query:
    """A search of PostSearches: ``ands``, filters and ranks, all of them together. Raises SearchInvalid.

    ``search`` gives min_value, as_of and algorithm; its own query is not looked at.
    """
    return _parsed(query, search or resources_pb2.Search(), Unit.INPUT, offset=offset, limit=limit, me=me)


def _parsed(
    query: resources_pb2.Query, search: resources_pb2.Search, unit: Unit, *, offset: int, limit: int, me: str
) -> Query:
    if search.algorithm not in _ALGORITHMS:
        raise SearchInvalid(f"algorithm {search.algorithm!r} is unknown; use one of {sorted(_ALGORITHMS - {''})}.")
    if not 0.0 <= search.min_value <= 1.0:
        raise SearchInvalid(f"min_value is {search.min_value:g}; scores lie between 0 and 1.")
    _check_size(query)
    reading = Reading(language=query.language, me=me)
    filters, ranks = _of_ands(query.ands, reading)
    found = [
        read_filter(item, replace(reading, negate=item.negate), f"filters[{i}]") for i, item in enumerate(query.filters)
    ]
    wanted = [read_rank(rank, query.language, f"ranks[{i}]") for i, rank in enumerate(query.ranks)]
    parsed = Query(
        unit=unit,
        filters=(*filters, *(item for item in found if item is not None)),
        ranks=(*ranks, *(rank for rank in wanted if rank is not None)),
        min_value=search.min_value,
        offset=offset,
        limit=limit,
        as_of=instant(search.as_of, "as_of") if search.HasField("as_of") else None,
        suggests=search.algorithm == _SUGGESTING,
    )
    if parsed.suggests:
        suggest.check(parsed)
    asked = sum(1 for _ in conditions(parsed))
    if asked > MAX_CONDITIONS:
        raise SearchInvalid(f"filters name {asked} conditions in all; at most {MAX_CONDITIONS} can be searched by.")
    return parsed


def _of_ands(ands: Sequence[resources_pb2.And], reading: Reading) -> tuple[list[Filter], list[Rank]]:
    filters: list[Filter] = []
    ranks: list[Rank] = []
    for i, one in enumerate(ands):
        its_filters, its_ranks = read_and(one, reading, f"ands[{i}]")
        filters += its_filters
        ranks += its_ranks
    return filters, ranks


def _check_size(query: resources_pb2.Query) -> None:
    """Bounds what one search may cost, before it is read. Raises SearchInvalid."""
    terms = sum(len(rank.annotation.data.concepts) + len(rank.annotation.data.embeddings) + 1 for rank in query.ranks)
    terms += sum(len(one.output.data.concepts) + one.HasField("output") for one in query.ands)
    if terms > MAX_TERMS:
        raise SearchInvalid(
            f"ranks name {terms} concepts, embeddings and ranks in all; at most {MAX_TERMS} make sense."
        )
    filters = len(query.filters) + len(query.ands)
    if filters > MAX_CONDITIONS:
        raise SearchInvalid(f"the query has {filters} filters; at most {MAX_CONDITIONS} can be searched by.")
