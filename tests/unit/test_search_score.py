"""The score laws (design, "Score laws"): values, ends, and numbers too small for a float."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightrank.search.score import (
    Direction,
    Link,
    LogProbability,
    highest_of_groups,
    likeliest,
    log_complement,
    log_probability,
    mean_log_score,
    term_log_score,
    to_score,
    unit,
    with_labels,
)

X = np.array([1.0, 0.0])
SHARES = st.floats(0.0, 1.0)


def probability(*values: float) -> LogProbability:
    """As it comes from a prediction: both logarithms exact."""
    with np.errstate(divide="ignore"):
        return LogProbability(np.log(np.array(values)), np.log1p(-np.array(values)))


def scores(log_scores: np.ndarray) -> list[float]:
    return [float(score) for score in to_score(log_scores)]


# Links ---------------------------------------------------------------------------------------------------------------


def test_similarity_runs_from_opposite_over_unrelated_to_same() -> None:
    p = log_probability(Direction(vector=X), np.array([-1.0, 0.0, 1.0]))

    assert scores(p.yes) == [0.0, 0.5, 1.0]
    assert scores(p.no) == [1.0, 0.5, 0.0]


def test_similarity_of_vectors_a_little_too_long_is_clamped() -> None:
    p = log_probability(Direction(vector=X), np.array([-1.0004, 1.0004]))

    assert scores(p.yes) == [0.0, 1.0]
    assert scores(p.no) == [1.0, 0.0]


@pytest.mark.parametrize("logit", [-1000.0, -50.0, -1.0, 0.0, 2.0, 50.0, 1000.0])
def test_sigmoid_keeps_logarithms_that_probabilities_would_lose(logit: float) -> None:
    p = log_probability(Direction(vector=X, link=Link.SIGMOID, scale=logit, bias=0.0), np.array([1.0]))

    with localcontext() as context:
        context.prec = 60
        yes = float(-(1 + (-Decimal(logit)).exp()).ln())
        no = float(-(1 + Decimal(logit).exp()).ln())
    assert p.yes[0] == pytest.approx(yes, rel=1e-13, abs=1e-300)
    assert p.no[0] == pytest.approx(no, rel=1e-13, abs=1e-300)


def test_sigmoid_uses_scale_and_bias() -> None:
    p = log_probability(Direction(vector=X, link=Link.SIGMOID, scale=4.0, bias=-2.0), np.array([0.5, 1.0, -0.5]))

    assert scores(p.yes) == pytest.approx([0.5, 0.880797077977882, 0.017986209962092])


def test_what_excludes_each_other_sums_to_one() -> None:
    kinds = [
        Direction(vector=X, link=Link.SIGMOID, scale=scale, bias=bias) for scale, bias in ((4, 1), (-3, 0), (2, 2))
    ]
    cosines = [np.array([0.5, -1.0, 0.0]), np.array([0.9, 0.2, 0.0]), np.array([-0.3, 0.1, 0.0])]
    logits = np.stack([kind.scale * c + kind.bias for kind, c in zip(kinds, cosines, strict=True)])

    found = [
        log_probability(replace(kind, rivals=(*kinds[:i], *kinds[i + 1 :])), cosines[i], cosines[:i] + cosines[i + 1 :])
        for i, kind in enumerate(kinds)
    ]

    expected = np.exp(logits) / np.exp(logits).sum(axis=0)
    assert [scores(p.yes) for p in found] == [pytest.approx(list(of_kind)) for of_kind in expected]
    assert [scores(p.no) for p in found] == [pytest.approx(list(1 - of_kind)) for of_kind in expected]


def test_certainty_among_rivals_is_told_apart_at_both_ends() -> None:
    steep = Direction(vector=X, link=Link.SIGMOID, scale=2000.0)

    p = log_probability(replace(steep, rivals=(steep,)), np.array([1.0, -1.0]), [np.array([-1.0, 1.0])])

    assert p.yes.tolist() == [0.0, -4000.0]
    assert p.no.tolist() == [-4000.0, 0.0]


def test_a_direction_without_positives_is_nowhere() -> None:
    p = log_probability(Direction(vector=None), np.zeros(3))

    assert scores(p.yes) == [0.0, 0.0, 0.0]
    assert scores(p.no) == [1.0, 1.0, 1.0]


# Labels, alternatives, groups ----------------------------------------------------------------------------------------


def test_a_label_stands_instead_of_the_prediction() -> None:
    p = with_labels(
        probability(0.9, 0.9, 0.1, 0.3), np.array([True, False, True, True]), np.array([0.0, 0.0, 1.0, 0.25])
    )

    assert scores(p.yes) == pytest.approx([0.0, 0.9, 1.0, 0.25])
    assert scores(p.no) == pytest.approx([1.0, 0.1, 0.0, 0.75])


def test_the_likeliest_meaning_counts_for_each_area() -> None:
    p = likeliest([probability(0.1, 0.8, 0.0), probability(0.3, 0.2, 0.0), probability(0.2, 0.4, 0.0)])

    assert scores(p.yes) == pytest.approx([0.3, 0.8, 0.0])
    assert scores(p.no) == pytest.approx([0.7, 0.2, 1.0])


def test_an_input_has_a_concept_if_any_of_its_areas_has_it() -> None:
    p = highest_of_groups(probability(0.1, 0.7, 0.2, 0.4, 0.0), np.array([0, 3, 4]))

    assert scores(p.yes) == pytest.approx([0.7, 0.4, 0.0])
    assert scores(p.no) == pytest.approx([0.3, 0.6, 1.0])


# Terms and ranks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.0, 0.3, 0.5, 0.8, 1.0])
def test_value_of_a_concept_mixes_having_and_not_having(value: float) -> None:
    p = np.array([0.0, 0.2, 0.5, 1.0])

    assert scores(term_log_score(probability(*p), value)) == pytest.approx(list(value * p + (1 - value) * (1 - p)))


def test_value_zero_tells_very_small_probabilities_apart() -> None:
    p = log_probability(Direction(vector=X, link=Link.SIGMOID, scale=1.0, bias=0.0), np.array([-600.0, -700.0]))

    without = term_log_score(p, 0.0)

    assert without[0] < without[1] < 0.0


def test_several_terms_give_their_geometric_mean() -> None:
    log_scores = [np.log([0.9, 0.25]), np.log([0.4, 1.0]), np.log([0.1, 0.5])]

    assert scores(mean_log_score(log_scores)) == pytest.approx([(0.9 * 0.4 * 0.1) ** (1 / 3), 0.5])


def test_one_impossible_term_makes_the_whole_impossible() -> None:
    with np.errstate(divide="ignore"):
        mean = mean_log_score([np.log([0.0]), np.log([0.9])])

    assert scores(mean) == [0.0]


def test_the_mean_orders_what_a_product_could_not_hold() -> None:
    mean = mean_log_score([np.array([-1000.0, -1000.1]), np.array([-2000.0, -2000.0])])

    assert scores(mean) == [0.0, 0.0]
    assert mean[0] > mean[1]


def test_negate_turns_the_mean_round() -> None:
    with np.errstate(divide="ignore"):
        log_scores = [np.log([0.9, 0.0, 1.0]), np.log([0.4, 0.7, 1.0])]

    assert scores(mean_log_score(log_scores, negate=True)) == pytest.approx([1 - 0.36**0.5, 1.0, 0.0])
    assert scores(mean_log_score(log_scores[:1], negate=True)) == pytest.approx([0.1, 1.0, 0.0])


@given(st.lists(st.tuples(SHARES, SHARES), min_size=1, max_size=20))
def test_scores_stay_between_0_and_1(pairs: list[tuple[float, float]]) -> None:
    for negate in (False, True):
        terms = [term_log_score(probability(p), value) for p, value in pairs]

        assert 0.0 <= scores(mean_log_score(terms, negate=negate))[0] <= 1.0


@given(st.one_of(st.floats(-700.0, 0.0), st.floats(-1e-8, 0.0), st.floats(-1.0, -0.5)))
def test_log_complement_is_accurate_everywhere(x: float) -> None:
    found = float(log_complement(np.array([x]))[0])

    if x == 0.0:
        assert found == -np.inf
        return
    with localcontext() as context:
        context.prec = 400
        exact = float((1 - Decimal(x).exp()).ln())
    assert found == pytest.approx(exact, rel=1e-14)


def test_log_complement_at_its_ends() -> None:
    assert log_complement(np.array([-np.inf, 0.0, 1e-17])).tolist() == [0.0, -np.inf, -np.inf]


def test_negating_twice_comes_back() -> None:
    x = np.array([-30.0, -1.0, -np.log(2.0), -0.1, -1e-9])

    assert log_complement(log_complement(x)) == pytest.approx(x, rel=1e-6)


# Vectors -------------------------------------------------------------------------------------------------------------


def test_unit_has_length_one() -> None:
    assert unit(np.array([3.0, 4.0])) == pytest.approx([0.6, 0.8])


def test_unit_of_nothing_is_none() -> None:
    assert unit(np.array([0.0, 1e-10])) is None
