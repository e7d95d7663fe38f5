"""Random searches against the oracle: the same hits, in the same order, with the same scores.

SIGHTRANK_FUZZ_QUERIES asks for more of them than a test run needs, from a new seed each time (`make fuzz`).
"""

from __future__ import annotations

import os
from collections import Counter
from random import Random

from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from tests.oracle.bench import Bench

QUERIES = int(os.environ.get("SIGHTRANK_FUZZ_QUERIES", "600"))


def test_random_searches_answer_what_the_oracle_answers(apps: Bench) -> None:
    engine = apps.engine()

    @settings(
        max_examples=QUERIES,
        deadline=None,
        database=None,
        derandomize="SIGHTRANK_FUZZ_QUERIES" not in os.environ,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    @given(st.randoms(use_true_random=False, note_method_calls=False))
    def same_answer(random: Random) -> None:
        oracle, asked = apps.asked(random)
        note(f"app of {len(oracle.app.inputs)} inputs, language {oracle.app.language}: {asked}")
        apps.check(engine, oracle, asked)

    same_answer()


def test_random_searches_are_worth_comparing(apps: Bench) -> None:
    """Enough of them have hits, ranks, filters that leave something out, and pages that end before the hits do."""
    kinds: Counter[str] = Counter()
    for seed in range(300):
        oracle, asked = apps.asked(Random(seed))
        expected = apps.expected(oracle, asked)
        if isinstance(expected, frozenset):
            kinds.update(f"refused with {code}" for code in expected)
            continue
        ranked = any(rank.annotation.ListFields() for rank in asked.search.query.ranks)
        scores = {hit.score for hit in expected}
        kinds["hits"] += bool(expected)
        kinds["ranked"] += ranked and len(scores) > 1
        kinds["ranked and filtered"] += ranked and len(scores) > 1 and bool(asked.search.query.filters)
        kinds["ends before the hits do"] += len(expected) > asked.offset + asked.limit
        kinds["ties"] += ranked and len(scores) < len(expected)

    assert kinds["hits"] > 100
    assert kinds["ranked"] > 60
    assert kinds["ranked and filtered"] > 20
    assert kinds["ends before the hits do"] > 40
    assert kinds["ties"] > 40
    assert kinds["refused with 40002"] > 10
    assert kinds["refused with 43004"] > 1
