"""Random searches against the oracle: the same hits, in the same order, with the same scores, by every plan and ranker.

SIGHTRANK_FUZZ_QUERIES asks for more of them than a test run needs, from a new seed each time (`make fuzz`). In
the first test chance alone makes the searches; in the second hypothesis looks for odd ones.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from tests.oracle.bench import Bench
from tests.oracle.comparison import Mismatch, expected_of
from tests.oracle.conftest import SEED
from tests.oracle.modes import lower_bounds
from tests.oracle.oracle import Oracle
from tests.oracle.searches import Asked
from tests.oracle.shrinking import shrunk

from sightrank.search.heads import Head, Heads

FUZZING = "SIGHTRANK_FUZZ_QUERIES" in os.environ
#: What takes long is asked so seldom.
_SLOW_EVERY = 8
#: Models come and go between searches.
_TAUGHT_EVERY = 20
QUERIES = int(os.environ.get("SIGHTRANK_FUZZ_QUERIES", "2000"))


def test_random_searches_are_worth_comparing(apps: Bench) -> None:
    """Enough of them have hits, ranks, filters that leave something out, and pages that end before the hits do.

    This comes first: the others have models come and go, as many as there are searches.
    """
    kinds: Counter[str] = Counter()
    for seed in range(1000):
        oracle, asked = apps.asked(Random(seed))
        expected = expected_of(oracle, asked)
        if isinstance(expected, frozenset):
            kinds.update(f"refused with {code}" for code in expected)
        elif isinstance(expected, int):
            kinds["counts"] += 0 < expected < len(oracle.app.inputs)
        else:
            scores = {hit.score for hit in expected}
            kinds["ranked"] += len(scores) > 1
            kinds["ends before the hits do"] += len(expected) > asked.offset + asked.limit
            kinds["ties"] += 1 < len(scores) < len(expected)
            for kind in _kinds(oracle, asked):
                kinds[kind] += bool(expected)
                kinds[f"{kind}, ranked"] += len(scores) > 1

    wanted = {
        "ranked": 250,
        "ends before the hits do": 150,
        "ties": 150,
        "counts": 10,
        "refused with 40002": 30,
        "refused with 43004": 3,
        "refused with 11101": 3,
        "filtered": 150,
        "filtered, ranked": 100,
        "two filters": 50,
        "two filters, ranked": 20,
        "four filters": 3,
        "negated": 60,
        "legacy": 60,
        "legacy, ranked": 30,
        "in the past": 60,
        "in the past, ranked": 40,
        "by a model version, ranked": 20,
        "by a model, ranked": 60,
    }
    assert {kind: kinds[kind] for kind in wanted if kinds[kind] < wanted[kind]} == {}


def test_random_searches_answer_what_the_oracle_answers(apps: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    lower_bounds(monkeypatch)
    answers = 0
    with apps.modes() as modes:

        def complaint(number: int, oracle: Oracle, asked: Asked) -> str:
            nonlocal answers
            try:
                answers += apps.check_all(modes, oracle, asked, thorough=number % _SLOW_EVERY == 0)
            except Mismatch as mismatch:
                return str(mismatch)
            return ""

        for number in range(QUERIES):
            if number % _TAUGHT_EVERY == 0:
                apps.teach(Random(f"{SEED} models {number}"))
            oracle, asked = apps.asked(Random(f"{SEED} {number}"))
            first = complaint(number, oracle, asked)
            if first:
                smallest = shrunk(asked, partial(_is_alike, first, partial(complaint, number, oracle)))
                pytest.fail(
                    f"SIGHTRANK_FUZZ_SEED={SEED}, search {number}, app of {len(oracle.app.inputs)} inputs:"
                    f" {complaint(number, oracle, smallest)}\nat first: {first}"
                )
    assert answers > 2 * QUERIES


def _is_alike(first: str, complaint: Callable[[Asked], str], smaller: Asked) -> bool:
    """A refusal that only leaving things out brings about is no smaller form of another complaint."""
    found = complaint(smaller).partition("\n")[0]
    return bool(found) and ("refus" in found) == ("refus" in first.partition("\n")[0])


def test_odd_searches_answer_what_the_oracle_answers(apps: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    lower_bounds(monkeypatch)
    with apps.modes() as modes:

        @settings(
            max_examples=max(QUERIES // 8, 1),
            deadline=None,
            database=None,
            derandomize=not FUZZING,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        )
        @given(st.randoms(use_true_random=False, note_method_calls=False))
        def same_answer(random: Random) -> None:
            oracle, asked = apps.asked(random)
            note(f"app of {len(oracle.app.inputs)} inputs, language {oracle.app.language}")
            apps.check_all(modes, oracle, asked)

        same_answer()


def test_oracle_notices_who_never_looks_for_models_again(apps: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Heads.of_app
    kept: dict[int, Sequence[Head]] = {}

    async def of_app(its: Heads, bucket: int, *given: Any) -> Sequence[Head]:
        if bucket not in kept:
            kept[bucket] = await original(its, bucket, *given)
        return kept[bucket]

    monkeypatch.setattr(Heads, "of_app", of_app)
    engine = apps.engine()

    def teach_and_ask() -> None:
        for number in range(2000):
            apps.teach(Random(f"{SEED} again {number}"))
            apps.check(engine, *apps.asked(Random(number)))

    with pytest.raises(Mismatch):
        teach_and_ask()


def _kinds(oracle: Oracle, asked: Asked) -> list[str]:
    query = asked.search.query
    taught = {name for version in oracle.app.models for name in version.concept_ids}
    found = {
        "filtered": len(query.filters) >= 1,
        "two filters": len(query.filters) >= 2,
        "four filters": len(query.filters) >= 4,
        "negated": any(item.negate for item in query.filters),
        "legacy": asked.legacy,
        "in the past": asked.search.HasField("as_of"),
        "by a model": any(concept.id in taught for rank in query.ranks for concept in rank.annotation.data.concepts),
        "by a model version": any(rank.annotation.model_version_id for rank in query.ranks),
    }
    return [kind for kind, is_so in found.items() if is_so]
