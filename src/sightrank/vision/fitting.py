"""Learning concepts from labelled vectors: one linear row for each concept, with calibrated probabilities.

Each concept is a logistic regression. What nobody labelled takes part as well, as negatives of little weight: of most
concepts most areas of an app have none, and a few labels say little about where those lie. Probabilities are calibrated
on labels that the scores were not learnt from (Platt scaling over the folds of a cross-validation).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightrank.vision import calibration
from sightrank.vision.concept_model import ConceptModel

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Truth = NDArray[np.bool_]
Places = NDArray[np.intp]
Progress = Callable[[float], None]

_FOLDS, _FOLDS_OF_MANY, _MANY = 5, 2, 1000
_MOST_OTHERS = 4000  # more teach nothing that these do not, and take longer
_MOST_OF_A_LABEL = 0.7  # what nobody labelled may have the concept: it never counts as much as a label
_FEW = 40  # labels that are fewer count as so many, beside the length of the direction
_MOST_OF_STAND_INS = 2.0  # the largest logit, where nobody said what has the concept
_FILLED_IN = 20
EFFORT_OF_CONCEPT = 5_000  # a concept with few labels takes about as long as one with so many


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Examples:
    """What people said of areas, and other areas of the same app.

    ``labels`` [n, concepts]: 1 has the concept, 0 has it not, NaN nothing was said. ``vectors`` [n, dims] and
    ``background`` [m, dims] are unit vectors; ``background`` are areas without labels and may be empty. Areas of one
    input have one ``input_numbers`` and never help to judge each other.
    """

    concept_ids: tuple[str, ...]
    area_ids: NDArray[np.int64]
    input_numbers: NDArray[np.int64]
    vectors: Floats
    labels: Floats
    background: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class FitOptions:
    """How to learn. ``exclusive``: an area has exactly one of the concepts. ``seed``: the same gives the same fit.

    ``strength``: how much each label counts against a plain direction (the C of scikit-learn).
    ``background_weight``: how many negative labels everything that nobody labelled is worth; 0 leaves it out.
    """

    exclusive: bool = False
    seed: int = 0
    strength: float = 20.0
    background_weight: float = 200.0


_MAX_SEED = 2.0**63


def read_options(training: Mapping[str, Any]) -> FitOptions:
    """The options within what a model version keeps of its training; defaults for those that are not there.

    Raises ValueError naming the one that is no number, or none that it can be.
    """
    known = FitOptions()
    strength = _number(training, "strength", known.strength)
    if strength <= 0:
        raise ValueError(f"strength is {strength:g}; it must be more than 0.")
    background_weight = _number(training, "background_weight", known.background_weight)
    if background_weight < 0:
        raise ValueError(f"background_weight is {background_weight:g}; it cannot be less than 0.")
    seed = _number(training, "seed", known.seed)
    if seed != int(seed) or abs(seed) > _MAX_SEED:
        raise ValueError(f"seed is {seed:g}; it must be a whole number of at most 64 bits.")
    return FitOptions(
        exclusive=bool(training.get("exclusive", known.exclusive)),
        seed=int(seed) % 2**32,
        strength=strength,
        background_weight=background_weight,
    )


def _number(training: Mapping[str, Any], name: str, default: float) -> float:
    try:
        number = float(training.get(name, default))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} is {repr(training[name])[:80]}, which is no number.") from error
    if not math.isfinite(number):
        raise ValueError(f"{name} is not finite.")
    return number


def effort(examples: Examples) -> int:
    """How much work it is to learn from these, to compare by: labelled areas times concepts, and what a concept takes
    anyhow.
    """
    return len(examples.concept_ids) * (EFFORT_OF_CONCEPT + len(examples.area_ids))


def fit(examples: Examples, options: FitOptions, progress: Progress) -> ConceptModel:
    """Learns the concepts. ``progress`` is told shares from 0 to 1; what it raises ends the work.

    On as many cores as the process gives to matrix products; several may learn at once, so nothing is set here.
    """
    count = len(examples.concept_ids)
    exclusive = options.exclusive and count > 1
    labels = _completed(examples.labels) if exclusive else examples.labels
    learnt = []
    for column in range(count):

        def report(share: float, done: int = column) -> None:
            progress((done + share) / count)

        lesson = _lesson(examples, labels[:, column], (options.seed, column))
        one = _learn(lesson, options, report)
        never = not exclusive and not (labels[:, column] == 1).any()
        learnt.append(_as_rare_as_said(one, int((labels[:, column] == 0).sum())) if never else one)
    progress(1.0)
    weights = np.stack([one.weights for one in learnt])
    biases = np.array([one.bias for one in learnt])
    if exclusive:
        factor = _sharpness(labels, learnt)
        weights, biases = weights * factor, biases * factor
    return _model(examples.concept_ids, weights, biases, exclusive=exclusive)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Lesson:
    """One concept: which vectors have it, and others that nobody said it of.

    ``places``: their rows in the examples, -1 for random ones. ``inputs``: whose areas they are.
    """

    vectors: Floats
    truth: Truth
    places: Places
    inputs: NDArray[np.int64]
    others: Floats
    random: np.random.Generator


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Learnt:
    """logit = ``weights`` · vector + ``bias``. ``unseen``: the logits at ``places`` by what did not learn from them."""

    weights: Doubles
    bias: float
    places: Places
    unseen: Doubles


def _completed(labels: Floats) -> Floats:
    """What follows where concepts exclude each other: one of them is no other; none of the others is the last one."""
    done = labels.copy()
    open_to_doubt = np.isnan(labels)
    one, none = (labels == 1).any(axis=1), (labels == 0).sum(axis=1) == labels.shape[1] - 1
    done[open_to_doubt & one[:, None]] = 0
    done[open_to_doubt & (none & ~one)[:, None]] = 1
    return done


def _lesson(examples: Examples, labels: Floats, seed: tuple[int, int]) -> _Lesson:
    random = np.random.default_rng(seed)
    said = np.flatnonzero(~np.isnan(labels))
    others = _some(np.concatenate([examples.background, examples.vectors[np.isnan(labels)]]), _MOST_OTHERS, random)
    truth = labels[said] == 1
    lesson = _Lesson(
        vectors=examples.vectors[said],
        truth=truth,
        places=said,
        inputs=examples.input_numbers[said],
        others=others,
        random=random,
    )
    if not len(said):
        return lesson
    if truth.all():
        return _filled_in(lesson, False)
    if not truth.any():
        # Nobody knows what has it: whatever is unlike the negatives may. So the others are no negatives here.
        return replace(_filled_in(lesson, True), others=others[:0])
    return lesson


def _filled_in(lesson: _Lesson, truth: bool) -> _Lesson:
    """Random others stand in for the kind of example that nobody gave."""
    extra = _some(lesson.others, _FILLED_IN, lesson.random)
    return replace(
        lesson,
        vectors=np.concatenate([lesson.vectors, extra]),
        truth=np.concatenate([lesson.truth, np.full(len(extra), truth)]),
        places=np.concatenate([lesson.places, np.full(len(extra), -1)]),
        inputs=np.concatenate([lesson.inputs, -1 - np.arange(len(extra))]),
    )


def _some(vectors: Floats, most: int, random: np.random.Generator) -> Floats:
    if len(vectors) <= most:
        return vectors
    return vectors[np.sort(random.choice(len(vectors), most, replace=False))]


def _learn(lesson: _Lesson, options: FitOptions, report: Progress) -> _Learnt:
    """From the labels alone, then once more with the others as negatives as far as they do not look like positives."""
    report(0.0)
    if lesson.truth.all() or not lesson.truth.any():
        return _by_resemblance(lesson)
    centre = np.concatenate([lesson.vectors, lesson.others]).mean(axis=0)
    centred = replace(lesson, vectors=lesson.vectors - centre, others=lesson.others - centre)
    share = min(_MOST_OF_A_LABEL, options.background_weight / max(1, len(lesson.others)))
    twice = len(lesson.others) > 0 and share > 0 and len(lesson.truth) < _MANY
    half = 0.5 if twice else 1.0
    alone = replace(centred, others=centred.others[:0])
    learnt = _validated(alone, np.empty(0), options, lambda done: report(done * half))
    if twice:
        report(0.5)
        logits = centred.others @ learnt.weights + learnt.bias
        doubt = 1 - calibration.adapted(logits, float(lesson.truth.mean()))
        learnt = _validated(centred, share * doubt, options, lambda done: report(0.5 + done / 2))
    return replace(learnt, bias=learnt.bias - float(centre @ learnt.weights))


def _validated(lesson: _Lesson, counts: Doubles, options: FitOptions, report: Progress) -> _Learnt:
    """Learns from everything, and for the link from all folds but one in turn."""
    weights, bias = _regression(lesson, np.ones_like(lesson.truth), counts, options)
    # Of an only example nothing is known but its score by what learnt from it, and half of that is hindsight.
    unseen = (lesson.vectors @ weights).astype(np.float64) / 2 + bias
    folds = _folds(lesson)
    for fold in range(folds.max() + 1):
        report((fold + 1) / (folds.max() + 2))
        kept = folds != fold
        if lesson.truth[kept].any() and not lesson.truth[kept].all():
            part, offset = _regression(lesson, kept, counts, options)
            unseen[~kept] = lesson.vectors[~kept] @ part + offset
    link = calibration.link(unseen, lesson.truth)
    return _Learnt(
        weights=link.slope * weights.astype(np.float64),
        bias=link.slope * bias + link.offset,
        places=lesson.places,
        unseen=link.logits(unseen),
    )


def _regression(lesson: _Lesson, kept: Truth, counts: Doubles, options: FitOptions) -> tuple[Floats, float]:
    """Weights and bias by the examples that are ``kept`` and the others, which count as so many negatives each.

    Positives count as much together as all negatives do.
    """
    from sklearn.linear_model import LogisticRegression

    vectors, truth = lesson.vectors[kept], lesson.truth[kept]
    positive = np.concatenate([truth, np.zeros(len(counts))])
    negative = np.concatenate([~truth, counts])
    fitted = LogisticRegression(C=options.strength * max(len(truth), _FEW) / 2, tol=1e-3, max_iter=300).fit(
        np.concatenate([vectors, lesson.others]),
        positive > 0,
        sample_weight=positive / positive.sum() + negative / negative.sum(),
    )
    return np.asarray(fitted.coef_[0], np.float32), float(fitted.intercept_[0])


def _folds(lesson: _Lesson) -> Places:
    """The fold of each example: areas of one input together, positives spread evenly, negatives too."""
    inputs, of_input = np.unique(lesson.inputs, return_inverse=True)
    has_it = np.zeros(len(inputs), np.bool_)
    np.logical_or.at(has_it, of_input, lesson.truth)
    order = lesson.random.permutation(len(inputs))
    order = order[np.argsort(~has_it[order], kind="stable")]
    most = _FOLDS if len(lesson.truth) < _MANY else _FOLDS_OF_MANY
    folds = np.empty(len(inputs), np.intp)
    folds[order] = np.arange(len(inputs)) % most
    return folds[of_input]


def _by_resemblance(lesson: _Lesson) -> _Learnt:
    """Without anything to tell examples from: the more alike the likelier. Even odds where nothing was said at all."""
    mean = lesson.vectors.astype(np.float64).sum(axis=0)
    mean /= max(float(np.linalg.norm(mean)), 1e-9)
    if not len(lesson.truth):
        weights, bias = np.zeros_like(mean), 0.0
    elif lesson.truth.all():
        weights, bias = 8.0 * mean, -5.0
    else:
        weights, bias = -_MOST_OF_STAND_INS * mean, 0.0
    return _Learnt(weights=weights, bias=bias, places=lesson.places, unseen=lesson.vectors @ weights + bias)


def _as_rare_as_said(learnt: _Learnt, count: int) -> _Learnt:
    """Of what nobody found in any of ``count`` areas the odds are about 1 to ``count`` + 1 (rule of succession). Else a
    concept that was never seen would be the likeliest of all wherever the others are not. What the stand-ins taught
    moves the odds by no more than likeness does.
    """
    trusted = min(1.0, _MOST_OF_STAND_INS / max(1e-9, float(np.abs(learnt.unseen).max(initial=0.0))))
    less = float(np.log1p(count))
    return replace(
        learnt,
        weights=trusted * learnt.weights,
        bias=trusted * learnt.bias - less,
        unseen=trusted * learnt.unseen - less,
    )


def _sharpness(labels: Floats, learnt: Sequence[_Learnt]) -> float:
    """The factor for all logits before they share one probability."""
    logits = np.full(labels.shape, np.nan)
    for column, one in enumerate(learnt):
        known = one.places >= 0
        logits[one.places[known], column] = one.unseen[known]
    sure = ((labels == 1).sum(axis=1) == 1) & ~np.isnan(logits).any(axis=1)
    if not sure.any():
        return 1.0
    return calibration.sharpness(logits[sure], labels[sure].argmax(axis=1))


def _model(concept_ids: Sequence[str], weights: Doubles, biases: Doubles, *, exclusive: bool) -> ConceptModel:
    scale = np.linalg.norm(weights, axis=1)
    anywhere = np.eye(1, weights.shape[1])  # a direction must have one, even where it counts for nothing
    directions = np.where((scale > 0)[:, None], weights / np.maximum(scale, 1e-12)[:, None], anywhere)
    return ConceptModel(
        concept_ids,
        directions.astype(np.float32),
        scale.astype(np.float32),
        biases.astype(np.float32),
        exclusive=exclusive,
    )
