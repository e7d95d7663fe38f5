"""How good predictions are: against values worked out by hand, and by counting pairs and areas one by one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sightrank.vision import metrics as metrics_module
from sightrank.vision.concept_model import ConceptModel
from sightrank.vision.curves import THRESHOLDS, curve
from sightrank.vision.evaluation import Judged, cross_validate, judge
from sightrank.vision.fitting import Examples, FitOptions
from sightrank.vision.folds import fold_numbers
from sightrank.vision.metrics import Metrics, measure

NAN = np.nan
Floats = NDArray[np.float32]


def judged(labels: list[list[float]], probabilities: list[list[float]], *, folds: list[int] | None = None) -> Judged:
    count = len(labels)
    return Judged(
        concept_ids=tuple("abcdefgh"[: len(labels[0])]),
        area_ids=np.arange(count) + 100,
        input_numbers=np.arange(count),
        labels=np.asarray(labels, np.float32),
        probabilities=np.asarray(probabilities, np.float32),
        folds=np.asarray(folds or [0] * count),
        fold_count=len(set(folds or [])),
    )


def examples(
    labels: Floats, *, input_numbers: NDArray[np.int64] | None = None, seed: int = 0, dims: int = 16
) -> Examples:
    """Areas of which those that share labels look alike, with some noise."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(labels.shape[1], dims))
    vectors = np.nan_to_num(labels) @ centres + random.normal(scale=0.4, size=(len(labels), dims))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Examples(
        concept_ids=tuple(f"concept-{i}" for i in range(labels.shape[1])),
        area_ids=np.arange(len(labels)) + 1000,
        input_numbers=np.arange(len(labels)) if input_numbers is None else input_numbers,
        vectors=vectors.astype(np.float32),
        labels=labels.astype(np.float32),
        background=np.empty((0, dims), np.float32),
    )


def nothing(_share: float) -> None: ...


def test_metrics_worked_out_by_hand() -> None:
    # a: of 2 x 3 pairs the positive has more in 5; at 0.5 one hit, one miss, one false alarm.
    # b: every positive has more than every negative; all of it right at 0.5.
    found = measure(
        judged(
            [[1, 0], [1, 0], [0, 1], [0, 1], [0, 0]],
            [[0.9, 0.1], [0.4, 0.2], [0.6, 0.8], [0.2, 0.7], [0.1, 0.3]],
        )
    )

    assert found.roc_auc.tolist() == pytest.approx([5 / 6, 1.0])
    assert found.average_precision.tolist() == pytest.approx([(1 / 1 + 2 / 3) / 2, 1.0])
    assert found.precision.tolist() == pytest.approx([1 / 2, 1.0])
    assert found.recall.tolist() == pytest.approx([1 / 2, 1.0])
    assert found.f1.tolist() == pytest.approx([1 / 2, 1.0])
    assert found.positives.tolist() == [2, 2]
    assert found.negatives.tolist() == [3, 3]
    summary = found.summary
    assert summary.roc_auc == pytest.approx(11 / 12)
    assert summary.roc_auc_std == pytest.approx(1 / 12)
    assert summary.f1 == pytest.approx(3 / 4)
    assert summary.f1_std == pytest.approx(1 / 4)
    assert (summary.precision, summary.recall) == pytest.approx((3 / 4, 3 / 4))
    assert summary.average_precision == pytest.approx((5 / 6 + 1) / 2)
    assert (summary.top1, summary.top5) == (1.0, 1.0)


def test_confusion_says_which_share_of_what_is_one_thing_is_taken_for_another() -> None:
    found = measure(
        judged(
            [[1, 0], [1, 0], [0, 1], [1, 1]],
            [[0.9, 0.6], [0.2, 0.3], [0.7, 0.8], [0.9, 0.1]],
        )
    )

    # Of three that are a: two are predicted a, one b. Of two that are b: two are predicted a, one b.
    assert found.confusion.tolist() == [pytest.approx([2 / 3, 1 / 3]), pytest.approx([1.0, 1 / 2])]
    assert found.cooccurrence.tolist() == [[3, 1], [1, 2]]


def test_what_nobody_said_counts_for_nothing() -> None:
    with_it = measure(judged([[1, NAN], [0, 1], [0, 0]], [[0.8, 0.99], [0.1, 0.6], [0.3, 0.2]]))

    assert with_it.positives.tolist() == [1, 1]
    assert with_it.negatives.tolist() == [2, 1]
    assert with_it.precision.tolist() == [1.0, 1.0]
    assert with_it.roc_auc.tolist() == [1.0, 1.0]


def test_what_cannot_be_measured_has_a_value_by_definition() -> None:
    found = measure(judged([[1, 0], [1, 0]], [[0.9, 0.1], [0.2, 0.7]]))

    assert found.roc_auc.tolist() == [0.5, 0.5]
    assert found.average_precision.tolist() == [1.0, 0.0]
    assert found.precision.tolist() == [1.0, 0.0]
    assert found.recall.tolist() == [0.5, 0.0]
    assert found.summary.roc_auc == 0.5
    assert found.summary.roc_auc_std == 0.0
    assert found.summary.recall == 0.5  # of the concept that has positives


def test_no_positives_at_all() -> None:
    summary = measure(judged([[0]], [[0.7]])).summary

    assert (summary.roc_auc, summary.f1, summary.precision, summary.recall, summary.average_precision) == (
        0.5,
        0,
        0,
        0,
        0,
    )
    assert (summary.top1, summary.top5) == (0.0, 0.0)


def test_top_counts_areas_that_have_a_concept() -> None:
    probabilities = [[0.7, 0.2, 0.1, 0.6, 0.5, 0.4], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [0.9, 0.1, 0.1, 0.1, 0.1, 0.1]]
    found = measure(judged([[1, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]], probabilities))

    assert found.summary.top1 == 0.5
    assert found.summary.top5 == 0.5  # the second's is its sixth


def test_curves_have_the_same_thresholds_for_every_concept_and_the_hundredths_among_them() -> None:
    labels, probabilities = [[1, 0], [0, 1], [1, 0], [0, 0]], [[0.9, 0.2], [0.5, 0.6], [0.5, 0.1], [0.3, 0.1]]
    found = measure(judged(labels, probabilities))

    assert found.curves.shape == (2, 3, len(THRESHOLDS))
    assert len(THRESHOLDS) < 128
    assert {round(float(value), 2) for value in THRESHOLDS} == {step / 100 for step in range(101)}
    half = int(np.searchsorted(THRESHOLDS, 0.5))
    false_positive_rate, recall, precision = found.curves[0, :, half]
    assert (false_positive_rate, recall) == (0.5, 1.0)
    assert precision == pytest.approx(2 / 3)
    assert found.curves[0, :, 0].tolist() == [1.0, 1.0, 0.5]  # everything is predicted
    assert found.curves[0, :, -1].tolist() == [0.0, 0.0, 1.0]  # nothing is


def test_calibration_compares_what_was_said_with_what_was_true() -> None:
    found = measure(judged([[1], [0], [1], [1]], [[0.72], [0.78], [0.71], [1.0]]))

    said, true, counts = found.calibration
    assert counts.tolist() == [0, 0, 0, 0, 0, 0, 0, 3, 0, 1]
    assert said[7] == pytest.approx((0.72 + 0.78 + 0.71) / 3)
    assert true[7] == pytest.approx(2 / 3)
    assert (said[9], true[9]) == (1.0, 1.0)


def test_the_test_set_is_one_fold_in_the_order_of_its_inputs() -> None:
    found = measure(judged([[1], [0], [1], [0]], [[0.9], [0.1], [0.8], [0.2]], folds=[1, 0, 1, 0]))

    assert found.test_area_ids.tolist() == [101, 103]
    assert found.test_labels.tolist() == [[0.0], [0.0]]
    assert found.test_probabilities[:, 0].tolist() == pytest.approx([0.1, 0.2])


def test_the_test_set_is_bounded() -> None:
    few = judged([[1.0]] * 3000, [[0.5]] * 3000)
    many = judged([[1.0] * 8] * 3000, [[0.5] * 8] * 3000)
    wide = Judged(
        concept_ids=tuple(f"c{i}" for i in range(200)),
        area_ids=np.arange(900),
        input_numbers=np.arange(900),
        labels=np.zeros((900, 200), np.float32),
        probabilities=np.zeros((900, 200), np.float32),
        folds=np.zeros(900, np.int64),
        fold_count=0,
    )

    assert [len(measure(one).test_area_ids) for one in (few, many, wide)] == [1000, 1000, 100]


def test_metrics_survive_the_database() -> None:
    found = measure(judged([[1, NAN], [0, 1]], [[0.9, 0.1], [0.4, 0.7]], folds=[0, 1]))

    again = Metrics.load(found.dump())

    assert again.concept_ids == found.concept_ids
    assert (again.input_count, again.area_count, again.fold_count) == (2, 2, 2)
    assert again.summary == found.summary
    np.testing.assert_array_equal(again.curves, found.curves)
    np.testing.assert_array_equal(again.test_labels, found.test_labels)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(1, 6))
def test_random_worlds_against_counting(seed: int, count: int, concepts: int) -> None:
    random = np.random.default_rng(seed)
    labels = random.choice([0.0, 1.0, NAN], size=(count, concepts), p=[0.5, 0.4, 0.1])
    probabilities = np.round(random.random((count, concepts)), 1)  # many ties
    found = measure(judged(labels.tolist(), probabilities.tolist()))
    probabilities = probabilities.astype(np.float32)

    for column in range(concepts):
        positive = [p for p, label in zip(probabilities[:, column], labels[:, column], strict=True) if label == 1]
        negative = [p for p, label in zip(probabilities[:, column], labels[:, column], strict=True) if label == 0]
        assert found.roc_auc[column] == pytest.approx(_roc_auc(positive, negative), abs=1e-6)
        assert found.average_precision[column] == pytest.approx(_average_precision(positive, negative), abs=1e-6)
        hits, alarms = sum(p >= 0.5 for p in positive), sum(p >= 0.5 for p in negative)
        assert found.precision[column] == pytest.approx(hits / (hits + alarms) if hits + alarms else 0.0)
        assert found.recall[column] == pytest.approx(hits / len(positive) if positive else 0.0)
        for place in range(0, len(THRESHOLDS), 7):
            above = sum(p >= THRESHOLDS[place] for p in positive)
            wrong = sum(p >= THRESHOLDS[place] for p in negative)
            assert found.curves[column, 1, place] == pytest.approx(above / max(len(positive), 1))
            assert found.curves[column, 0, place] == pytest.approx(wrong / max(len(negative), 1))
        for other in range(concepts):
            actual = labels[:, column] == 1
            taken = int((actual & (probabilities[:, other] >= 0.5)).sum())
            assert found.confusion[column, other] == pytest.approx(taken / actual.sum() if actual.any() else 0.0)


def _roc_auc(positive: list[float], negative: list[float]) -> float:
    """How often a positive has more than a negative, over all pairs; a tie is half."""
    if not positive or not negative:
        return 0.5
    wins = sum((p > n) + 0.5 * (p == n) for p in positive for n in negative)
    return float(wins / (len(positive) * len(negative)))


def _average_precision(positive: list[float], negative: list[float]) -> float:
    """Precision at each value that finds more of the positives, weighted by how many more."""
    total = 0.0
    for value in set(positive):
        new = sum(p == value for p in positive)
        found = sum(p >= value for p in positive)
        total += new * found / (found + sum(n >= value for n in negative))
    return total / len(positive) if positive else 0.0


def test_folds_keep_inputs_together_and_concepts_apart_evenly() -> None:
    random = np.random.default_rng(3)
    input_numbers = np.repeat(np.arange(200), 3)
    column = (random.random(200) < 0.1).astype(np.float32)
    labels = np.stack([np.repeat(column, 3), np.repeat(1 - column, 3)], axis=1)
    one = examples(labels, input_numbers=input_numbers)

    folds = fold_numbers(one, seed=0)

    assert set(folds) == {0, 1, 2, 3, 4}
    assert all(len(set(folds[input_numbers == number])) == 1 for number in range(200))
    sizes = np.bincount(folds) / 3
    assert sizes.max() - sizes.min() <= 1
    rare = np.bincount(folds[labels[:, 0] == 1], minlength=5) / 3
    assert rare.max() - rare.min() <= 1
    np.testing.assert_array_equal(folds, fold_numbers(one, seed=0))
    assert (folds != fold_numbers(one, seed=1)).any()


@pytest.mark.parametrize(("inputs", "expected"), [(1, 1), (2, 2), (4, 4), (5, 5), (7, 5)])
def test_few_inputs_make_fewer_folds(inputs: int, expected: int) -> None:
    labels = (np.arange(inputs) % 2).astype(np.float32)[:, None]

    assert len(set(fold_numbers(examples(labels), seed=0))) == expected


def test_inputs_of_which_nothing_was_said_are_spread_too() -> None:
    labels = np.full((10, 1), NAN, np.float32)

    assert np.bincount(fold_numbers(examples(labels), seed=0)).tolist() == [2, 2, 2, 2, 2]


def test_cross_validation_judges_by_models_that_have_not_seen_the_area() -> None:
    # Labels that follow from nothing can only be remembered: who has not seen them guesses.
    random = np.random.default_rng(5)
    labels = (random.random((60, 1)) < 0.5).astype(np.float32)
    one = examples(np.zeros((60, 1), np.float32), dims=128)
    one = Examples(**{name: getattr(one, name) for name in Examples.__slots__} | {"labels": labels})

    honest = measure(cross_validate(one, FitOptions(), nothing))

    assert honest.fold_count == 5
    assert 0.25 < honest.summary.roc_auc < 0.75


def test_cross_validation_finds_what_can_be_learnt_and_is_deterministic() -> None:
    random = np.random.default_rng(6)
    labels = (random.random((80, 3)) < 0.4).astype(np.float32)
    one = examples(labels)
    shares: list[float] = []

    first = cross_validate(one, FitOptions(), shares.append)
    second = cross_validate(one, FitOptions(), nothing)

    assert measure(first).summary.roc_auc > 0.9
    np.testing.assert_array_equal(first.probabilities, second.probabilities)
    np.testing.assert_array_equal(first.area_ids, one.area_ids)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_one_image_and_one_concept_can_be_evaluated(value: float) -> None:
    found = measure(cross_validate(examples(np.full((1, 1), value, np.float32)), FitOptions(), nothing))

    assert found.fold_count == 0
    assert found.area_count == 1
    assert found.summary.roc_auc == 0.5
    assert len(found.test_area_ids) == 1


def test_what_progress_raises_ends_the_work() -> None:
    class Stopped(Exception): ...

    def stop(share: float) -> None:
        if share > 0.5:
            raise Stopped

    labels = (np.arange(20) % 2).astype(np.float32)[:, None]

    with pytest.raises(Stopped):
        cross_validate(examples(labels), FitOptions(), stop)


def test_measuring_and_dealing_out_can_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopped(Exception): ...

    monkeypatch.setattr(metrics_module, "_ROWS", 7)
    labels = (np.random.default_rng(2).random((30, 6)) < 0.4).astype(np.float32)
    given = cross_validate(examples(labels), FitOptions(), lambda share: None)
    shares: list[float] = []

    found = measure(given, shares.append)

    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[-1] == 1
    assert np.array_equal(found.cooccurrence, (labels.T @ labels).astype(np.int64))
    for last in range(len(shares)):
        told = iter(range(last))

        def stop(share: float, told: Iterator[int] = told) -> None:
            if next(told, None) is None:
                raise Stopped

        with pytest.raises(Stopped):
            measure(given, stop)

    def stop_at_once() -> None:
        raise Stopped

    with pytest.raises(Stopped):
        fold_numbers(examples(labels), seed=0, between=stop_at_once)


def test_a_model_is_judged_as_it_is_by_the_concepts_of_the_examples() -> None:
    model = ConceptModel(
        ["concept-1", "concept-0"],
        np.asarray([[1, 0], [0, 1]], np.float32),
        np.asarray([10, 10], np.float32),
        np.asarray([0, 0], np.float32),
    )
    one = Examples(
        concept_ids=("concept-0", "concept-1"),
        area_ids=np.asarray([7]),
        input_numbers=np.asarray([3]),
        vectors=np.asarray([[0, 1]], np.float32),
        labels=np.asarray([[1, 0]], np.float32),
        background=np.empty((0, 2), np.float32),
    )

    found = judge(one, model)

    assert found.fold_count == 0
    assert found.probabilities[0, 0] > 0.99
    assert found.probabilities[0, 1] == pytest.approx(0.5)


@pytest.mark.parametrize("count", [3, 19, 26, 61, 1000])
def test_rates_times_their_total_cut_off_are_counts(count: int) -> None:
    """So does the official Python client tell true and false positives."""
    probabilities = np.linspace(0.0, 1.0, count, dtype=np.float32)
    labels = np.repeat([True, False], count)

    false_positive_rate, recall, _ = curve(labels, np.tile(probabilities, 2)).tolist()

    expected = [int((probabilities >= threshold).sum()) for threshold in THRESHOLDS]
    assert [int(rate * count) for rate in recall] == expected
    assert [int(rate * count) for rate in false_positive_rate] == expected
    assert max(recall) == 1.0
