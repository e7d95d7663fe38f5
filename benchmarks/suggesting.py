"""How many labels suggestions save: labelling what is suggested, beside labelling at random."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.figures import Row, console, show
from benchmarks.labelled import THINGS, Photos, labelled
from benchmarks.stage import Stage
from benchmarks.teaching import Floats, Truth, average_precision, model
from sightrank.search import suggest

FIRST = 5  # labels of either kind to begin with
BATCH, ROUNDS = 10, 20
_LEAST_PHOTOS = 1000

#: Chooses the places of the next labels by the probabilities and vectors of what has none.
Choice = Callable[[Floats, Floats, np.random.Generator], NDArray[np.intp]]


def run(stage: Stage) -> None:
    """One table, over the things of the larger sources."""
    sources = [photos for photos in labelled(stage.data) if len(photos.names) >= _LEAST_PHOTOS]
    if not sources:
        console.print(f"suggesting: {stage.data} has no labelled photographs (eval-*.zip)")
        return
    at_random, by_suggestion = _mean(sources, _random), _mean(sources, _suggested)
    rows = [
        Row(f"{labels} labels", f"{random:.3f} -> {suggested:.3f}", f"{suggested / random:.2f}")
        for labels, random, suggested in list(zip(_labels(), at_random, by_suggestion, strict=True))[::2]
    ]
    target = float(at_random[-1])
    enough = next(labels for labels, found in zip(_labels(), by_suggestion, strict=True) if found >= target)
    usual = next(labels for labels, found in zip(_labels(), at_random, strict=True) if found >= target)
    rows.append(Row(f"labels until {target:.3f}", f"{usual} -> {enough}"))
    show(
        "What to label next: average precision, labelled at random -> as suggested",
        rows,
        caption=f"From {2 * FIRST} labels on, {BATCH} at a time, a new model each time; mean over the things of the"
        " larger sources. Half of a source's photos may be labelled, the other half is ranked.",
    )


def _labels() -> range:
    return range(2 * FIRST, 2 * FIRST + BATCH * ROUNDS + 1, BATCH)


def _mean(sources: Sequence[Photos], choice: Choice) -> Floats:
    things = [(photos, thing) for photos in sources for thing in THINGS[photos.source]]
    curves = [list(_curve(photos.vectors, photos.show(thing), choice)) for photos, thing in things]
    return np.mean(np.array(curves), axis=0)


def _curve(vectors: Floats, shown: Truth, choice: Choice) -> Iterator[float]:
    """Average precision after each round."""
    random = np.random.default_rng(0)
    shuffled = random.permutation(len(vectors))
    own, judged = np.split(shuffled, [len(vectors) // 2])
    chosen = np.concatenate([own[shown[own]][:FIRST], own[~shown[own]][:FIRST]])
    for _ in _labels():
        rest = np.setdiff1d(own, chosen)
        learnt = model(vectors[chosen], shown[chosen], vectors[rest])
        yield average_precision(learnt.probabilities(vectors[judged])[:, 0], shown[judged])
        places = choice(learnt.probabilities(vectors[rest])[:, 0], vectors[rest], random)
        chosen = np.concatenate([chosen, rest[places]])


def _random(probabilities: Floats, vectors: Floats, random: np.random.Generator) -> NDArray[np.intp]:
    return random.choice(len(probabilities), BATCH, replace=False).astype(np.intp)


def _suggested(probabilities: Floats, vectors: Floats, random: np.random.Generator) -> NDArray[np.intp]:
    """As a search does that asks for suggestions."""
    uncertain = 1 - np.abs(2 * probabilities.astype(np.float64) - 1)
    pool = np.argsort(-uncertain, kind="stable")[: suggest.POOL]
    return pool[suggest.diverse(uncertain[pool], vectors[pool].astype(np.float64), BATCH)]
