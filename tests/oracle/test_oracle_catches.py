"""The oracle is worth something: each of these small mistakes makes it object within some hundred searches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random

import pytest
from tests.oracle.bench import Bench
from tests.oracle.comparison import Mismatch, Outcome, check, expected_of
from tests.oracle.mistakes import FILTERING, HISTORY, READING, Mistake
from tests.oracle.modes import lower_bounds
from tests.oracle.ranking_mistakes import SCORING, TURNS, Turn
from tests.oracle.searches import Asked

SEARCHES = 3000
MISTAKES: Mapping[str, Mistake] = {**READING, **FILTERING, **HISTORY, **SCORING}


#: The searches in which a mistake of its kind can show, which are asked first.
_TELLING: Sequence[tuple[Mapping[str, Mistake], Callable[[Asked], bool]]] = (
    (HISTORY, lambda asked: asked.search.HasField("as_of")),
    (SCORING, lambda asked: bool(asked.search.query.ranks)),
    ({**READING, **FILTERING}, lambda asked: asked.legacy or bool(asked.search.query.filters)),
)


class Questions:
    """The same searches for all mistakes, and what the oracle says to those that are asked."""

    def __init__(self, apps: Bench) -> None:
        self.made = [apps.asked(Random(seed)) for seed in range(SEARCHES)]
        self._answers: dict[int, Outcome] = {}

    def expected(self, number: int) -> Outcome:
        if number not in self._answers:
            self._answers[number] = expected_of(*self.made[number])
        return self._answers[number]

    def in_order(self, key: Callable[[Asked], int]) -> list[int]:
        return sorted(range(SEARCHES), key=lambda number: key(self.made[number][1]))


@pytest.fixture(scope="module")
def questions(apps: Bench) -> Questions:
    return Questions(apps)


@pytest.mark.parametrize("name", MISTAKES)
def test_oracle_notices_a_search_that(
    name: str, apps: Bench, questions: Questions, monkeypatch: pytest.MonkeyPatch
) -> None:
    MISTAKES[name](monkeypatch)

    [telling] = [tells for kind, tells in _TELLING if name in kind]
    numbers = questions.in_order(lambda asked: not telling(asked))
    with pytest.raises(Mismatch):
        _ask_all(apps, questions, numbers)


@pytest.mark.parametrize("name", TURNS)
def test_oracle_notices_a_plan_or_ranker_that(
    name: str, apps: Bench, questions: Questions, monkeypatch: pytest.MonkeyPatch
) -> None:
    lower_bounds(monkeypatch)
    TURNS[name].mistake(monkeypatch)

    with pytest.raises(Mismatch):
        _ask_one_way(apps, questions, TURNS[name])


def test_oracle_has_nothing_to_say_otherwise(apps: Bench, questions: Questions) -> None:
    for number in range(500):
        oracle, asked = questions.made[number]
        check(asked, questions.expected(number), apps.actual(apps.engine(), oracle, asked))


def _ask_all(apps: Bench, questions: Questions, numbers: Sequence[int]) -> None:
    engine = apps.engine()
    for number in numbers:
        oracle, asked = questions.made[number]
        check(asked, questions.expected(number), apps.actual(engine, oracle, asked))


def _ask_one_way(apps: Bench, questions: Questions, turn: Turn) -> None:
    with apps.modes(turn.choice) as modes:
        [mode] = [mode for mode in modes.modes if (mode.choice, mode.forced) == (turn.choice, turn.forced)]
        # Short pages first: they are where an engine leaves most unseen.
        for number in questions.in_order(lambda asked: asked.limit):
            oracle, asked = questions.made[number]
            if asked.search.query.ranks and not asked.counts:
                check(asked, questions.expected(number), apps.actual(mode.engine, oracle, asked))
