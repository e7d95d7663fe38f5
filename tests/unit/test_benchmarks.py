"""The measurements judge answers: what they call right must be right, and what is wrong must be called so."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.questions import Question, Term
from benchmarks.shares import ALL, HUNDREDTH, NOTHING, TENTH, never_asked, only
from benchmarks.truth import Truth
from clarifai_grpc.grpc.api.resources_pb2 import Hit, Input, Rank

VECTORS = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.6, 0.8]])
EVERYTHING = np.ones(4, np.bool_)


def term(*direction: float, negate: bool = False, scale: float | None = None, bias: float = 0.0) -> Term:
    return Term(message=Rank(negate=negate), direction=np.array(direction), scale=scale, bias=bias)


def hits(*found: tuple[int, float]) -> list[Hit]:
    return [Hit(score=score, input=Input(id=f"bench-{row}")) for row, score in found]


def test_scores_follow_the_laws() -> None:
    likeness = Question((term(1.0, 0.0),)).scores(VECTORS)
    negated = Question((term(1.0, 0.0, negate=True),)).scores(VECTORS)
    predicted = Question((term(0.0, 1.0, scale=2.0, bias=-1.0),)).scores(VECTORS)
    both = Question((term(1.0, 0.0), term(0.0, 1.0, scale=2.0, bias=-1.0))).scores(VECTORS)

    assert likeness == pytest.approx([1.0, 0.5, 0.0, 0.8])
    assert negated == pytest.approx([0.0, 0.5, 1.0, 0.2])
    assert predicted == pytest.approx(1 / (1 + np.exp(-np.array([-1.0, 1.0, -1.0, 0.6]))))
    assert both == pytest.approx(np.sqrt(likeness * predicted))


def test_the_best_hits_in_their_order_are_exact() -> None:
    truth, question = Truth(VECTORS), Question((term(1.0, 0.0),))
    scores = truth.scores(question)

    verdict = truth.judge(scores, EVERYTHING, 3, hits((0, 1.0), (3, 0.8), (1, 0.5)))

    assert (verdict.exact, verdict.recall) == (True, 1.0)
    assert truth.judge(scores, EVERYTHING, 9, hits((0, 1.0), (3, 0.8), (1, 0.5), (2, 0.0))).exact
    assert truth.judge(scores, ~EVERYTHING, 3, []).exact


@pytest.mark.parametrize(
    ("found", "recall"),
    [
        ([(3, 0.8), (0, 1.0)], 1.0),  # order
        ([(0, 1.0), (1, 0.5)], 0.5),  # a better one is missing
        ([(0, 1.0)], 0.5),  # too few
        ([(0, 1.0), (3, 0.81)], 1.0),  # a score that is not its own
        ([(0, 1.0), (0, 1.0)], 0.0),  # twice
        ([(0, 1.0), (2, 0.8)], 0.0),  # one that the filter does not leave
    ],
)
def test_anything_else_is_not(found: list[tuple[int, float]], recall: float) -> None:
    truth, question = Truth(VECTORS), Question((term(1.0, 0.0),))
    allowed = np.array([True, True, False, True])

    verdict = truth.judge(truth.scores(question), allowed, 2, hits(*found))

    assert (verdict.exact, verdict.recall) == (False, recall)


def test_hits_of_equal_scores_may_change_places() -> None:
    truth = Truth(np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    scores = truth.scores(Question((term(1.0, 0.0),)))

    assert truth.judge(scores, np.ones(3, np.bool_), 1, hits((1, 1.0))).exact


def test_shares_are_what_they_say() -> None:
    assert [int(share.has(1000).sum()) for share in (ALL, TENTH, HUNDREDTH, NOTHING)] == [1000, 100, 10, 0]
    assert [share.percent for share in (ALL, TENTH, HUNDREDTH, NOTHING)] == ["100 %", "10 %", "1 %", "0 %"]


def test_a_filter_never_asked_before_differs_from_all_others() -> None:
    fresh = never_asked()
    made = [fresh(TENTH).SerializeToString() for _ in range(100)] + [only(TENTH).SerializeToString()]

    assert len(set(made)) == len(made)
