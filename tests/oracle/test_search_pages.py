"""Pages are windows of one order: nothing is skipped, nothing comes twice, whatever plan and ranker make them."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from clarifai_grpc.grpc.api import resources_pb2
from tests.oracle.bench import Bench
from tests.oracle.comparison import compare, expected_of
from tests.oracle.modes import ALL_CHOICES, Mode, Modes, lower_bounds
from tests.oracle.oracle import Expected, Oracle
from tests.oracle.searches import Asked, page_of

from sightrank.search.engine import Hit
from sightrank.search.follow import RankerChoice
from sightrank.search.query import Unit

_SEARCHES = 8
_PAGE = 7


def _walk(apps: Bench, mode: Mode, oracle: Oracle, asked: Asked, page: int, most: int) -> list[Hit]:
    """All hits, page by page, until a page is empty."""
    hits: list[Hit] = []
    for offset in range(0, most + 2 * page, page):
        found = apps.actual(mode.engine, oracle, page_of(asked, offset, page))
        assert isinstance(found, list)
        hits += found
        if not found:
            break
    return hits


@pytest.fixture(scope="module")
def filtered_and_ranked(apps: Bench) -> list[tuple[Oracle, Asked, list[Expected]]]:
    """Searches with more hits than a page has, by filters and ranks."""
    chosen: list[tuple[Oracle, Asked, list[Expected]]] = []
    for seed in range(2000):
        oracle, asked = apps.asked(Random(f"pages {seed}"))
        search = resources_pb2.Search()
        search.CopyFrom(asked.search)
        search.min_value = 0.0
        asked = replace(asked, search=search)
        expected = expected_of(oracle, asked)
        is_mixed = bool(search.query.ranks and search.query.filters) and not asked.counts
        if is_mixed and isinstance(expected, list) and 2 * _PAGE < len(expected) < 12 * _PAGE:
            chosen.append((oracle, asked, expected))
        if len(chosen) == _SEARCHES:
            break
    return chosen


@pytest.mark.parametrize("choice", ALL_CHOICES)
def test_pages_together_are_the_whole_order(
    choice: RankerChoice,
    apps: Bench,
    filtered_and_ranked: list[tuple[Oracle, Asked, list[Expected]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lower_bounds(monkeypatch)
    assert len(filtered_and_ranked) == _SEARCHES

    with apps.modes(choice) as modes:
        for mode in modes.modes:
            for oracle, asked, expected in filtered_and_ranked[: 3 if choice == "sql" else None]:
                hits = _walk(apps, mode, oracle, asked, _PAGE, len(expected))

                whole = apps.actual(mode.engine, oracle, page_of(asked, 0, 1000))
                assert hits == whole, f"{mode}: {asked}"
                compare(hits, expected, min_value=0.0, offset=0, limit=1000)


@pytest.fixture(scope="module")
def largest(apps: Bench) -> Oracle:
    return apps.oracles[-1]


def _query(filters: list[resources_pb2.Filter], ranks: int) -> resources_pb2.Search:
    query = resources_pb2.Query(filters=filters)
    for concept in ("ai_dog", "ai_cat")[:ranks]:
        query.ranks.add().annotation.data.concepts.add(id=concept, value=1.0)
    return resources_pb2.Search(query=query)


def _people(item: str) -> resources_pb2.Filter:
    return resources_pb2.Filter(annotation=resources_pb2.Annotation(user_id=item))


@pytest.mark.parametrize("ranks", [0, 1, 2])
@pytest.mark.parametrize("wanted", [1, 41, 100, 1000])
def test_as_many_hits_as_asked_for_when_there_are_so_many(
    wanted: int, ranks: int, apps: Bench, largest: Oracle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all, of most (50 %) and of few; 0 % answers empty."""
    lower_bounds(monkeypatch)
    filters: list[list[resources_pb2.Filter]] = [
        [],
        [resources_pb2.Filter(annotation=resources_pb2.Annotation(trusted=True))],
        [_people("ann")],
        [_people("nobody")],
    ]
    with apps.modes("auto", "exact", "sql") as modes:
        for unit in Unit:
            sizes = [_asked_for(apps, modes, largest, _query(item, ranks), unit, wanted) for item in filters]
            assert sizes[-1] == 0
            assert sizes[0] > 150


def _asked_for(apps: Bench, modes: Modes, oracle: Oracle, search: resources_pb2.Search, unit: Unit, wanted: int) -> int:
    """How many hits there are in all; asserts that every mode gives as many as are wanted of them."""
    asked = Asked(search=search, unit=unit, offset=0, limit=wanted)
    expected = expected_of(oracle, asked)
    assert isinstance(expected, list)
    for mode in modes.modes:
        hits = apps.actual(mode.engine, oracle, asked)
        assert isinstance(hits, list)
        assert len(hits) == min(wanted, len(expected)), f"{mode}: {asked}"
    return len(expected)
