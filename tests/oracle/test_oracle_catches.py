"""The oracle is worth something: each of these small mistakes makes it object within some hundred searches."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from random import Random

import pytest
from tests.oracle.bench import Bench
from tests.oracle.comparison import Mismatch, Outcome, check, expected_of
from tests.oracle.mistakes import FILTERING, HISTORY, READING, Mistake
from tests.oracle.modes import lower_bounds
from tests.oracle.oracle import Oracle
from tests.oracle.ranking_mistakes import SCORING, TURNS, Turn
from tests.oracle.searches import Asked

SEARCHES = 3000
MISTAKES: Mapping[str, Mistake] = {**READING, **FILTERING, **HISTORY, **SCORING}


class Questions:
    """The same searches for all mistakes, and what the oracle says to them."""

    def __init__(self, apps: Bench) -> None:
        self._apps = apps

    @cached_property
    def answered(self) -> list[tuple[Oracle, Asked, Outcome]]:
        made = [self._apps.asked(Random(seed)) for seed in range(SEARCHES)]
        return [(oracle, asked, expected_of(oracle, asked)) for oracle, asked in made]


@pytest.fixture(scope="module")
def questions(apps: Bench) -> Questions:
    return Questions(apps)


@pytest.mark.parametrize("name", MISTAKES)
def test_oracle_notices_a_search_that(
    name: str, apps: Bench, questions: Questions, monkeypatch: pytest.MonkeyPatch
) -> None:
    MISTAKES[name](monkeypatch)

    with pytest.raises(Mismatch):
        _ask_all(apps, questions)


@pytest.mark.parametrize("name", TURNS)
def test_oracle_notices_a_plan_or_ranker_that(
    name: str, apps: Bench, questions: Questions, monkeypatch: pytest.MonkeyPatch
) -> None:
    lower_bounds(monkeypatch)
    TURNS[name].mistake(monkeypatch)

    with pytest.raises(Mismatch):
        _ask_one_way(apps, questions, TURNS[name])


def test_oracle_has_nothing_to_say_otherwise(apps: Bench, questions: Questions) -> None:
    for oracle, asked, expected in questions.answered[:500]:
        check(asked, expected, apps.actual(apps.engine(), oracle, asked))


def _ask_all(apps: Bench, questions: Questions) -> None:
    engine = apps.engine()
    for oracle, asked, expected in questions.answered:
        check(asked, expected, apps.actual(engine, oracle, asked))


def _ask_one_way(apps: Bench, questions: Questions, turn: Turn) -> None:
    with apps.modes(turn.choice) as modes:
        [mode] = [mode for mode in modes.modes if (mode.choice, mode.forced) == (turn.choice, turn.forced)]
        # Short pages first: they are where an engine leaves most unseen.
        for oracle, asked, expected in sorted(questions.answered, key=lambda question: question[1].limit):
            if asked.search.query.ranks and not asked.counts:
                check(asked, expected, apps.actual(mode.engine, oracle, asked))
