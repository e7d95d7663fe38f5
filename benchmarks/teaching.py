"""How well a concept is learnt from a few labels, how far its probabilities can be trusted, and how long it takes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.figures import Row, console, show
from benchmarks.labelled import THINGS, Photos, labelled
from benchmarks.stage import Stage
from sightrank.vision.bundle import built_in_bundle, load_bundle
from sightrank.vision.concept_model import ConceptModel
from sightrank.vision.fitting import Examples, FitOptions, fit
from sightrank.vision.tagger import Tagger
from sightrank.vision.vocabulary import Vocabulary

Floats = NDArray[np.float32]
Truth = NDArray[np.bool_]

LABELLED = 20
SEEDS = 5
TARGET = 1.3
_BINS = 10
_INPUTS, _CONCEPTS = 10_000, 50
#: Labels of either kind for what the tagger knows: of so many concepts of a source, that so many photos show at least.
_FEW, _KNOWN, _SHOWN = (1, 2, 5, 10, 20), 20, 9
_LEFT = 4  # photos of a concept that have no label


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lesson:
    """Photos that somebody labelled, and the rest of the app, which is at these places: what shows it only the judge
    knows.
    """

    positive: Floats
    negative: Floats
    rest: Floats
    truth: Truth
    places: NDArray[np.intp]


def run(stage: Stage) -> None:
    """What ranking gains, for things that the tagger has no word for and for some it knows; and what learning takes."""
    sources = labelled(stage.data)
    if not sources:
        console.print(f"teaching: {stage.data} has no labelled photographs (eval-*.zip)")
        return
    vocabulary = Vocabulary.load(load_bundle(built_in_bundle()).vocabulary)
    known = [thing for things in THINGS.values() for thing in things if vocabulary.by_name(thing)]
    assert not known, f"the tagger knows {known}"
    _ranking(sources)
    _beside_the_tagger(sources, vocabulary)
    _probabilities(sources)
    _time(sources)


def lessons(photos: Photos, shown: Truth, *, count: int = LABELLED) -> Iterator[Lesson]:
    """What is ``shown`` taught by other photos in turn; negatives are any that do not show it."""
    for seed in range(SEEDS):
        random = np.random.default_rng(seed)
        positive = random.choice(np.flatnonzero(shown), min(count, int(shown.sum()) - _LEFT), replace=False)
        negative = random.choice(np.flatnonzero(~shown), count, replace=False)
        rest = np.ones(len(shown), np.bool_)
        rest[positive] = rest[negative] = False
        yield Lesson(
            positive=photos.vectors[positive],
            negative=photos.vectors[negative],
            rest=photos.vectors[rest],
            truth=shown[rest],
            places=np.flatnonzero(rest),
        )


def model(vectors: Floats, truth: Truth, rest: Floats) -> ConceptModel:
    """What is learnt of one thing: vectors that show it or not, and others of the same app."""
    numbers = np.arange(len(vectors))
    examples = Examples(
        concept_ids=("thing",),
        area_ids=numbers,
        input_numbers=numbers,
        vectors=vectors,
        labels=truth.astype(np.float32)[:, None],
        background=rest,
    )
    return fit(examples, FitOptions(), lambda share: None)


def taught(lesson: Lesson) -> Floats:
    """The probabilities of the rest."""
    vectors = np.concatenate([lesson.positive, lesson.negative])
    truth = np.repeat([True, False], [len(lesson.positive), len(lesson.negative)])
    return model(vectors, truth, lesson.rest).probabilities(lesson.rest)[:, 0]


def average_precision(scores: Floats, truth: Truth) -> float:
    found = truth[np.argsort(-scores, kind="stable")]
    return float((np.cumsum(found) / np.arange(1, len(found) + 1))[found].mean())


def calibration_error(probabilities: Floats, truth: Truth) -> float:
    """Expected calibration error: how far the mean of the probabilities in a tenth of the scale is from the truth."""
    bins = np.minimum((probabilities * _BINS).astype(int), _BINS - 1)
    gaps = [abs(float(probabilities[bins == one].sum()) - int(truth[bins == one].sum())) for one in range(_BINS)]
    return sum(gaps) / len(truth)


def _ranking(sources: Sequence[Photos]) -> None:
    rows, ratios = [], []
    for photos in sources:
        for thing in THINGS[photos.source]:
            of_mean, of_model = [], []
            for lesson in lessons(photos, photos.show(thing)):
                of_mean.append(average_precision(lesson.rest @ lesson.positive.mean(axis=0), lesson.truth))
                of_model.append(average_precision(taught(lesson), lesson.truth))
            before, after = float(np.mean(of_mean)), float(np.mean(of_model))
            ratios.append(after / before)
            what = f"{thing} ({photos.show(thing).sum()} of {len(photos.names):,} {photos.source})"
            rows.append(Row(what, f"{before:.3f} -> {after:.3f}", f"{ratios[-1]:.2f}"))
    mean = float(np.mean(ratios))
    geometric = float(np.exp(np.mean(np.log(ratios))))
    better = sum(ratio >= TARGET for ratio in ratios)
    rows.append(Row("mean of the ratios", "", f"{mean:.2f}", f">= {TARGET}", mean >= TARGET))
    rows.append(Row("geometric mean of the ratios", "", f"{geometric:.2f}"))
    rows.append(Row(f"things with a ratio of {TARGET} or more", f"{better} of {len(ratios)}"))
    show(
        f"Taught by {LABELLED} photos that show it and {LABELLED} that do not: mean of the positives -> trained model",
        rows,
        caption=f"Average precision over the photos without a label, mean of {SEEDS} choices of labelled photos."
        " Negatives are any other photos of the source.",
    )


def _beside_the_tagger(sources: Sequence[Photos], vocabulary: Vocabulary) -> None:
    """From how many labels on it pays to train what the tagger knows already."""
    known = [one for photos in sources for one in _known(photos, vocabulary)]
    rows = []
    for count in _FEW:
        figures = []
        for photos, shown, own in known:
            if shown.sum() < count + _LEFT:
                continue
            for lesson in lessons(photos, shown, count=count):
                scores = (own[lesson.places], lesson.rest @ lesson.positive.mean(axis=0), taught(lesson))
                figures.append([average_precision(one, lesson.truth) for one in scores])
        of_tagger, of_mean, of_model = np.mean(figures, axis=0)
        better = np.mean([model > tagger for tagger, _, model in figures])
        what = f"{count} + {count} labels, {len(figures) // SEEDS} concepts"
        value = f"{of_tagger:.3f}, {of_mean:.3f}, {of_model:.3f}"
        rows.append(Row(what, f"{value} (better in {better:.0%})", f"{of_model / of_tagger:.2f}"))
    show(
        "What General knows: by General's own head, likeness to the positives, the trained model",
        rows,
        caption=f"Average precision over the photos without a label, mean of {SEEDS} choices of labelled photos."
        " Ratio: of the trained model to General's own head.",
    )


def _known(photos: Photos, vocabulary: Vocabulary) -> Iterator[tuple[Photos, Truth, Floats]]:
    """Some labels of the source that the tagger knows: which photos show it, and what the tagger says of all photos."""
    tagger = Tagger.load(load_bundle(built_in_bundle()))
    probabilities = tagger.probabilities(photos.vectors)
    columns = {concept_id: column for column, concept_id in enumerate(tagger.ids)}
    found = 0
    for name in np.random.default_rng(0).permutation(np.unique(photos.names)):
        same = [columns[id] for id in vocabulary.by_name(str(name).replace("_", " ")) if id in columns]
        shown = photos.names == name
        if same and shown.sum() >= _SHOWN and found < _KNOWN:
            found += 1
            yield photos, shown, probabilities[:, same].max(axis=1)


def _probabilities(sources: Sequence[Photos]) -> None:
    """As many photos that show it as such that do not, as among the labels."""
    said, true = [], []
    for photos in sources:
        for thing in THINGS[photos.source]:
            for lesson in lessons(photos, photos.show(thing)):
                showing = np.flatnonzero(lesson.truth)
                others = np.flatnonzero(~lesson.truth)[: len(showing)]
                judged = np.concatenate([showing[: len(others)], others])
                said.append(taught(lesson)[judged])
                true.append(lesson.truth[judged])
    probabilities, truth = np.concatenate(said), np.concatenate(true)
    brier = float(((probabilities - truth) ** 2).mean())
    show(
        "Probabilities of photos without a label",
        [
            Row("expected calibration error", f"{calibration_error(probabilities, truth):.3f}"),
            Row("Brier score (0.25 for a guess)", f"{brier:.3f}"),
            *_said_and_true(probabilities, truth),
        ],
        caption=f"{len(truth):,} judgements; half show what they are judged for, as half of the labelled.",
    )


def _said_and_true(probabilities: Floats, truth: Truth) -> Iterator[Row]:
    for low, high in ((0.0, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 1.01)):
        within = (probabilities >= low) & (probabilities < high)
        share = f"{truth[within].mean():.0%} of {within.sum():,} show it"
        yield Row(f"called {probabilities[within].mean():.0%} likely", share)


def _time(sources: Sequence[Photos]) -> None:
    random = np.random.default_rng(0)
    real = np.concatenate([photos.vectors for photos in sources])
    vectors = real[random.integers(len(real), size=_INPUTS)]
    vectors = vectors + random.normal(0, 0.3 / np.sqrt(real.shape[1]), vectors.shape)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    scores = vectors @ random.normal(size=(real.shape[1], _CONCEPTS)) + random.normal(0, 0.2, (_INPUTS, _CONCEPTS))
    examples = Examples(
        concept_ids=tuple(f"concept-{number}" for number in range(_CONCEPTS)),
        area_ids=np.arange(_INPUTS),
        input_numbers=np.arange(_INPUTS),
        vectors=vectors,
        labels=(scores > np.quantile(scores, 0.9, axis=0)).astype(np.float32),
        background=real,
    )
    looks = [time.perf_counter()]
    fit(examples, FitOptions(), lambda share: looks.append(time.perf_counter()))
    show(
        f"Learning {_CONCEPTS} concepts from {_INPUTS:,} labelled inputs",
        [
            Row("on one core", f"{looks[-1] - looks[0]:.1f} s"),
            Row("longest until it could be cancelled", f"{max(np.diff(looks)):.2f} s", "", "<= 1 s"),
        ],
        caption="Every input is labelled for every concept; one in ten has it.",
    )
