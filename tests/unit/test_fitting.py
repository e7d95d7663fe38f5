"""What is learnt from labels: worlds in which the right answer is known."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from threadpoolctl import threadpool_info, threadpool_limits

from sightrank.vision import calibration
from sightrank.vision.fitting import Examples, FitOptions, fit, read_options

DIMS = 24
Floats = NDArray[np.float32]


def unit(vectors: NDArray[np.float64]) -> Floats:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def cloud(count: int, axis: int | None, *, seed: int, spread: float = 0.7) -> Floats:
    """Vectors around one axis, or anywhere; and all of them lean to the last axis, as those of photos do to a mean."""
    vectors = np.random.default_rng(seed).normal(0, spread / np.sqrt(DIMS), (count, DIMS))
    vectors[:, -1] += 0.7
    if axis is not None:
        vectors[:, axis] += 1.0
    return unit(vectors)


def examples(
    vectors: Floats,
    labels: object,
    *,
    background: Floats | None = None,
    inputs: NDArray[np.int64] | None = None,
) -> Examples:
    said = np.asarray(labels, np.float32)
    said = said[:, None] if said.ndim == 1 else said
    return Examples(
        concept_ids=tuple(f"concept-{column}" for column in range(said.shape[1])),
        area_ids=np.arange(len(vectors)),
        input_numbers=np.arange(len(vectors)) if inputs is None else inputs,
        vectors=vectors,
        labels=said,
        background=np.empty((0, DIMS), np.float32) if background is None else background,
    )


def taught(learnt: Examples, vectors: Floats, options: FitOptions | None = None) -> Floats:
    """Probabilities [n, concepts] by what was learnt."""
    return fit(learnt, options or FitOptions(), lambda share: None).probabilities(vectors)


def roc_auc(positive: Floats, negative: Floats) -> float:
    return float((positive[:, None] > negative[None, :]).mean())


def average_precision(scores: Floats, truth: NDArray[np.bool_]) -> float:
    found = truth[np.argsort(-scores, kind="stable")]
    return float((np.cumsum(found) / np.arange(1, len(found) + 1))[found].mean())


def calibration_error(probabilities: Floats, truth: NDArray[np.bool_]) -> float:
    """Expected calibration error over ten bins."""
    bins = np.minimum((probabilities * 10).astype(int), 9)
    gaps = [abs(probabilities[bins == one].sum() - truth[bins == one].sum()) for one in range(10)]
    return float(sum(gaps) / len(truth))


ONE, TWO = cloud(20, 0, seed=1), cloud(20, 1, seed=2)
MORE_OF_ONE, MORE_OF_TWO, ANYTHING = cloud(200, 0, seed=3), cloud(200, 1, seed=4), cloud(400, None, seed=5)
BOTH = np.concatenate([ONE, TWO])
SAID = np.repeat([1.0, 0.0], 20)


def test_two_clouds_are_told_apart() -> None:
    learnt = examples(BOTH, SAID)

    assert taught(learnt, MORE_OF_ONE).min() > 0.75
    assert taught(learnt, MORE_OF_TWO).max() < 0.25


def test_each_concept_has_a_direction_of_unit_length_and_the_probabilities_are_its() -> None:
    model = fit(examples(BOTH, np.stack([SAID, 1 - SAID], 1)), FitOptions(), lambda share: None)
    row = model.row("concept-1")

    assert model.ids == ("concept-0", "concept-1")
    assert row is not None
    assert np.linalg.norm(row.direction) == pytest.approx(1.0, abs=1e-6)
    assert row.scale > 0
    logits = row.scale * (ANYTHING @ row.direction) + row.bias
    assert model.probabilities(ANYTHING)[:, 1] == pytest.approx(1 / (1 + np.exp(-logits)), abs=1e-6)


def test_concepts_do_not_depend_on_each_other() -> None:
    alone = taught(examples(BOTH, SAID), ANYTHING)
    together = taught(examples(BOTH, np.stack([SAID, np.full(40, np.nan)], 1)), ANYTHING)

    assert together[:, 0] == pytest.approx(alone[:, 0], abs=1e-6)


def test_rare_positives_are_found_among_many_negatives() -> None:
    rare, many = cloud(5, 0, seed=6), cloud(500, None, seed=7)
    found = taught(examples(np.concatenate([rare, many]), [1.0] * 5 + [0.0] * 500), MORE_OF_ONE)
    others = taught(examples(np.concatenate([rare, many]), [1.0] * 5 + [0.0] * 500), ANYTHING)

    assert roc_auc(found[:, 0], others[:, 0]) > 0.99
    assert np.median(found) > 0.5
    assert others.mean() < 0.05


def test_what_nobody_labelled_helps_where_labels_are_few() -> None:
    truth, labels = np.repeat([True, False], [30, 570]), [1.0] * 10 + [0.0] * 10

    def world(positive: int, negative: int, seed: int) -> Floats:
        either = cloud(positive, 0, seed=seed, spread=1.8), cloud(negative, None, seed=seed + 1, spread=1.8)
        return np.concatenate(either)

    without, within = 0.0, 0.0
    for seed in range(0, 40, 4):
        few, rest = world(10, 10, seed), world(30, 570, seed + 2)
        without += average_precision(taught(examples(few, labels), rest)[:, 0], truth)
        within += average_precision(taught(examples(few, labels, background=rest), rest)[:, 0], truth)

    assert within > 1.15 * without


def test_what_nobody_labelled_does_no_harm_where_most_of_it_has_the_concept() -> None:
    spread = 1.5
    labelled = np.concatenate([cloud(20, 0, seed=12, spread=spread), cloud(20, None, seed=13, spread=spread)])
    positive, negative = cloud(380, 0, seed=14, spread=spread), cloud(20, None, seed=15, spread=spread)
    world = np.concatenate([positive, negative])

    def auc(learnt: Examples) -> float:
        return roc_auc(taught(learnt, positive)[:, 0], taught(learnt, negative)[:, 0])

    assert auc(examples(labelled, SAID, background=world)) > auc(examples(labelled, SAID)) - 0.02


def test_one_positive_example_trains() -> None:
    found = taught(examples(ONE[:1], [1.0], background=ANYTHING), MORE_OF_ONE)
    others = taught(examples(ONE[:1], [1.0], background=ANYTHING), MORE_OF_TWO)

    assert roc_auc(found[:, 0], others[:, 0]) > 0.9
    assert found.mean() > others.mean()


def test_one_negative_example_trains() -> None:
    learnt = examples(ONE[:1], [0.0], background=ANYTHING)

    assert taught(learnt, MORE_OF_ONE).mean() < taught(learnt, MORE_OF_TWO).mean()
    assert taught(learnt, ONE[:1])[0, 0] < 0.5


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_example_and_nothing_else_still_trains(label: float) -> None:
    learnt = examples(ONE[:1], [label])

    near, far = taught(learnt, ONE[:1])[0, 0], taught(learnt, -ONE[:1])[0, 0]

    assert (near > 0.9 and far < 0.1) if label else (near < 0.2 and far >= 0.5)


def test_negatives_only_push_away_from_what_is_like_them() -> None:
    learnt = examples(ONE, np.zeros(20), background=ANYTHING)

    assert roc_auc(taught(learnt, MORE_OF_TWO)[:, 0], taught(learnt, MORE_OF_ONE)[:, 0]) > 0.95


def test_a_concept_that_nobody_ever_found_is_hardly_ever_likely() -> None:
    labels = np.stack([SAID, 1 - SAID, np.zeros(40)], 1)
    learnt = examples(BOTH, labels, background=ANYTHING)

    found, elsewhere = taught(learnt, MORE_OF_ONE)[:, 2], taught(learnt, ANYTHING)[:, 2]

    assert elsewhere.max() < 0.5
    assert elsewhere.mean() < 0.15
    assert roc_auc(elsewhere, found) > 0.9  # and still ranks first what is unlike the negatives


def test_a_concept_of_which_nothing_was_said_is_even_odds() -> None:
    model = fit(examples(BOTH, np.stack([SAID, np.full(40, np.nan)], 1)), FitOptions(), lambda share: None)
    row = model.row("concept-1")

    assert model.probabilities(ANYTHING)[:, 1] == pytest.approx(0.5)
    assert row is not None
    assert np.linalg.norm(row.direction) == pytest.approx(1.0)


def test_areas_that_were_only_labelled_otherwise_stand_in_for_missing_negatives() -> None:
    labels = np.array([[1.0, np.nan]] * 20 + [[np.nan, 1.0]] * 20)
    of_one, of_two = taught(examples(BOTH, labels), MORE_OF_ONE), taught(examples(BOTH, labels), MORE_OF_TWO)

    assert of_one[:, 0].min() > 0.5 > of_two[:, 0].max()
    assert of_two[:, 1].min() > 0.5 > of_one[:, 1].max()


def test_exclusive_concepts_share_one_probability() -> None:
    three = np.concatenate([BOTH, cloud(20, 2, seed=16)])
    found = taught(
        examples(three, np.repeat(np.eye(3), 20, axis=0)),
        np.concatenate([MORE_OF_ONE, MORE_OF_TWO, ANYTHING]),
        FitOptions(exclusive=True),
    )

    assert found.sum(axis=1) == pytest.approx(1.0, abs=1e-5)
    assert (found[:200].argmax(axis=1) == 0).all()
    assert (found[200:400].argmax(axis=1) == 1).all()
    assert found[:200, 0].min() > 0.6


def test_where_concepts_exclude_each_other_one_label_says_all() -> None:
    labels = np.where(np.eye(2)[np.repeat([0, 1], 20)] == 1, 1.0, np.nan)
    negative = np.where(np.eye(2)[np.repeat([1, 0], 20)] == 1, 0.0, np.nan)
    options = FitOptions(exclusive=True)

    told = taught(examples(BOTH, np.stack([SAID, 1 - SAID], 1)), ANYTHING, options)

    assert taught(examples(BOTH, labels), ANYTHING, options) == pytest.approx(told, abs=1e-6)
    assert taught(examples(BOTH, negative), ANYTHING, options) == pytest.approx(told, abs=1e-6)


def test_an_only_concept_excludes_nothing() -> None:
    exclusive = taught(examples(BOTH, SAID), MORE_OF_TWO, FitOptions(exclusive=True))

    assert exclusive == pytest.approx(taught(examples(BOTH, SAID), MORE_OF_TWO), abs=1e-6)


def test_probabilities_mean_what_they_say() -> None:
    random = np.random.default_rng(17)
    vectors = unit(random.normal(size=(6000, DIMS)))
    direction = unit(random.normal(size=(1, DIMS)))[0]
    real = 1 / (1 + np.exp(-(9 * vectors @ direction - 1)))
    truth = random.random(6000) < real

    found = taught(examples(vectors[:800], truth[:800]), vectors[800:])[:, 0]

    assert calibration_error(found, truth[800:]) < 0.03
    assert np.abs(found - real[800:]).mean() < 0.06
    assert ((found - truth[800:]) ** 2).mean() < ((real[800:] - truth[800:]) ** 2).mean() + 0.01


def test_a_label_that_tells_nothing_makes_no_certainty() -> None:
    random = np.random.default_rng(18)
    found = taught(examples(ANYTHING[:60], random.integers(0, 2, 60)), ANYTHING[60:])

    assert found.max() - found.min() < 0.2


def test_areas_of_one_input_do_not_vouch_for_each_other() -> None:
    """Each input is shown ten times and labelled at random: only whoever peeks at the copies could tell."""
    random = np.random.default_rng(19)
    vectors = np.repeat(ANYTHING[:30], 10, axis=0)
    labels, inputs = np.repeat(random.integers(0, 2, 30), 10), np.repeat(np.arange(30), 10)

    together = taught(examples(vectors, labels, inputs=inputs), ANYTHING[30:])
    apart = taught(examples(vectors, labels), ANYTHING[30:])

    assert together.std() < apart.std() / 2


def test_the_same_seed_gives_the_same_bytes() -> None:
    many = np.concatenate([ANYTHING] * 12)  # more than takes part
    learnt = examples(BOTH, np.stack([SAID, np.full(40, 1.0)], 1), background=many)

    def fitted(seed: int) -> bytes:
        return fit(learnt, FitOptions(seed=seed), lambda share: None).dump()

    assert fitted(3) == fitted(3)
    assert fitted(3) != fitted(4)


@pytest.mark.parametrize("seed", range(40))
def test_whatever_was_said_gives_probabilities(seed: int) -> None:
    """Few examples, copies, contradictions, nothing said, nothing else there: and no library warns."""
    random = np.random.default_rng(seed)
    count, columns, rest = (int(random.choice(sizes)) for sizes in ([0, 1, 2, 3, 5, 40], [1, 2, 4], [0, 1, 300]))
    vectors = unit(random.normal(size=(count + rest, DIMS)))
    if random.random() < 0.4:
        vectors = np.repeat(vectors[::4], 4, axis=0)[: len(vectors)]
    labels = random.choice([0, 1, np.nan], (count, columns), p=random.dirichlet([1, 1, 1]))
    learnt = examples(
        vectors[:count], labels, background=vectors[count:], inputs=random.integers(0, max(1, count // 3), count)
    )
    exclusive = bool(random.random() < 0.5)

    found = taught(learnt, ANYTHING, FitOptions(exclusive=exclusive))

    assert np.isfinite(found).all()
    assert found.min() >= 0
    assert found.max() <= 1
    assert not exclusive or columns == 1 or found.sum(axis=1) == pytest.approx(1.0, abs=1e-5)


def test_progress_rises_to_1() -> None:
    shares: list[float] = []
    fit(examples(BOTH, np.stack([SAID, 1 - SAID], 1), background=ANYTHING), FitOptions(), shares.append)

    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert len(shares) > 20


def test_what_progress_raises_ends_the_work() -> None:
    seen: list[float] = []

    def stop(share: float) -> None:
        seen.append(share)
        if share > 0.3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fit(examples(BOTH, np.stack([SAID] * 5, 1)), FitOptions(), stop)
    assert seen[-1] < 0.5


def test_a_server_learns_on_one_core_for_each_training() -> None:
    """For the whole process and from its start: what one training sets, another that overlaps it would undo."""
    program = (
        "import sightrank.cli, sklearn.linear_model, threadpoolctl;"
        "print(sorted({pool['num_threads'] for pool in threadpoolctl.threadpool_info()}))"
    )
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}

    done = subprocess.run([sys.executable, "-c", program], check=True, env=environment, capture_output=True, text=True)

    assert done.stdout.strip() == "[1]"


def test_learning_leaves_the_threads_of_the_process_alone() -> None:
    def threads() -> dict[str, int]:
        return {pool["filepath"]: pool["num_threads"] for pool in threadpool_info()}

    fit(examples(BOTH, SAID), FitOptions(), lambda share: None)
    within: list[dict[str, int]] = []

    with threadpool_limits(2):
        before = threads()
        fit(examples(BOTH, SAID), FitOptions(), lambda share: within.append(threads()))
        after = threads()

    assert set(before.values()) == {2}
    assert all(one == before for one in within)
    assert after == before


def test_a_server_that_never_trains_does_not_load_the_library() -> None:
    program = "import sys, sightrank.vision.fitting; sys.exit('sklearn' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_options_are_read_from_what_a_version_keeps() -> None:
    assert read_options({}) == FitOptions()
    assert read_options({"exclusive": True, "seed": 7, "strength": 3, "other": "x"}) == FitOptions(
        exclusive=True, seed=7, strength=3.0
    )


def test_any_number_is_a_seed() -> None:
    seeds = [read_options({"seed": seed}).seed for seed in (-1, 7.0, 2.0**60, "3")]

    assert seeds == [2**32 - 1, 7, 2**60 % 2**32, 3]


@pytest.mark.parametrize(
    ("training", "mentions"),
    [
        ({"strength": 0}, "strength is 0; it must be more than 0"),
        ({"strength": "much"}, "strength is 'much', which is no number"),
        ({"strength": float("inf")}, "strength is not finite"),
        ({"background_weight": -1.0}, "background_weight is -1; it cannot be less than 0"),
        ({"seed": {"a": 1}}, "seed is {'a': 1}, which is no number"),
        ({"seed": float("nan")}, "seed is not finite"),
        ({"seed": 1.5}, "seed is 1.5; it must be a whole number"),
        ({"seed": 1e300}, r"seed is 1e\+300; it must be a whole number of at most 64 bits"),
    ],
)
def test_an_option_that_makes_no_sense_is_named(training: dict[str, object], mentions: str) -> None:
    with pytest.raises(ValueError, match=mentions):
        read_options(training)


def test_nothing_unlabelled_counts_when_its_weight_is_0() -> None:
    learnt = examples(BOTH, SAID)
    without = taught(learnt, ANYTHING)
    far = taught(replace(learnt, background=MORE_OF_ONE), ANYTHING, FitOptions(background_weight=0.0))
    heavy = taught(replace(learnt, background=MORE_OF_ONE), ANYTHING)

    assert roc_auc(far[:, 0], without[:, 0]) == pytest.approx(0.5, abs=0.1)
    assert np.corrcoef(far[:, 0], without[:, 0])[0, 1] > np.corrcoef(heavy[:, 0], without[:, 0])[0, 1]


@pytest.mark.parametrize("frequency", [0.02, 0.3, 0.8])
def test_how_frequent_a_concept_is_shows_in_the_probabilities_it_is_expected_with(frequency: float) -> None:
    random = np.random.default_rng(20)
    truth = random.random(4000) < frequency
    logits = random.normal(np.where(truth, 2.0, -2.0), 2.0)  # of classes this far apart, half of either

    assert calibration.adapted(logits, 0.5).mean() == pytest.approx(frequency, abs=0.03)


def test_sharpness_undoes_a_factor() -> None:
    random = np.random.default_rng(21)
    logits = random.normal(0, 2, (4000, 3))
    odds = np.exp(logits)
    classes = np.array([random.choice(3, p=row / row.sum()) for row in odds])

    assert calibration.sharpness(logits, classes) == pytest.approx(1.0, rel=0.1)
    assert calibration.sharpness(logits / 3, classes) == pytest.approx(3.0, rel=0.1)
