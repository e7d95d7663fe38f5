"""The score laws, as pure functions over arrays. Ranks are computed and ordered as logarithms, in float64.

    p      = (1 + cos) / 2                       similarity: a picture, an input, a vector, the mean of positives
           = sigmoid(scale * cos + bias)         a predicted concept
           = softmax of several such logits      a predicted concept that excludes others
           = the label, where somebody gave one
    term   = v * p + (1 - v) * (1 - p)           v is the concept's value, 1 unless said otherwise
    rank   = geometric mean of its terms;        negated: 1 - that
    score  = geometric mean of the ranks         0..1

A mean of logarithms of exact small numbers orders hits that a product of rounded scores would call equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Link(Enum):
    """How a cosine becomes a probability."""

    HALF = "half"
    SIGMOID = "sigmoid"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Direction:
    """What a rank compiles to: a unit vector and a link; ``vector`` None means that p is 0 everywhere.

    ``rivals`` are the directions of what excludes this: all their probabilities and this one's sum to 1.
    """

    vector: NDArray[np.float64] | None
    link: Link = Link.HALF
    scale: float = 1.0
    bias: float = 0.0
    rivals: tuple[Direction, ...] = ()

    @property
    def vectors(self) -> tuple[NDArray[np.float64], ...]:
        """All that an area's cosine must be known with: this direction's own vector first."""
        return tuple(d.vector for d in (self, *self.rivals) if d.vector is not None)


@dataclass(frozen=True, slots=True)
class LogProbability:
    """log p and log (1 - p), both kept because neither can be had exactly from the other near 0 and 1."""

    yes: Array
    no: Array


def log_probability(direction: Direction, cosines: Array, rival_cosines: Sequence[Array] = ()) -> LogProbability:
    """The probability that ``direction`` is in areas whose cosines with it are given, any shape, and of the same shape
    those with each of its rivals."""
    if direction.vector is None:
        return LogProbability(np.full(cosines.shape, -np.inf), np.zeros(cosines.shape))
    if direction.link is Link.HALF:
        clamped = np.clip(cosines, -1.0, 1.0)
        with np.errstate(divide="ignore"):
            return LogProbability(np.log((1.0 + clamped) / 2.0), np.log((1.0 - clamped) / 2.0))
    logits = _logits(direction, cosines)
    if direction.rivals:
        # A softmax is a sigmoid of what the logit has over the sum of the others' odds.
        others = np.stack([_logits(d, c) for d, c in zip(direction.rivals, rival_cosines, strict=True)])
        highest = others.max(axis=0)
        logits = logits - highest - np.log(np.exp(others - highest).sum(axis=0))
    return LogProbability(-np.logaddexp(0.0, -logits), -np.logaddexp(0.0, logits))


def _logits(direction: Direction, cosines: Array) -> Array:
    return direction.scale * cosines + direction.bias


def with_labels(prediction: LogProbability, labelled: NDArray[np.bool_], values: Array) -> LogProbability:
    """Where ``labelled``, the label's value stands instead of the prediction."""
    with np.errstate(divide="ignore"):
        return LogProbability(
            np.where(labelled, np.log(values), prediction.yes), np.where(labelled, np.log1p(-values), prediction.no)
        )


def likeliest(alternatives: Sequence[LogProbability]) -> LogProbability:
    """The highest of several probabilities, for a name that stands for several concepts."""
    best = alternatives[0]
    for other in alternatives[1:]:
        higher = other.yes > best.yes
        best = LogProbability(np.where(higher, other.yes, best.yes), np.where(higher, other.no, best.no))
    return best


def highest_of_groups(probability: LogProbability, starts: NDArray[np.intp]) -> LogProbability:
    """The maximum over consecutive runs of areas beginning at ``starts``: an input has a concept if any area has it."""
    return LogProbability(np.maximum.reduceat(probability.yes, starts), np.minimum.reduceat(probability.no, starts))


def term_log_score(probability: LogProbability, value: float) -> Array:
    """log(v * p + (1 - v) * (1 - p))."""
    if value == 1.0:
        return probability.yes
    if value == 0.0:
        return probability.no
    if value == 0.5:
        # Half of p and half of 1 - p, whatever p is: computed, it would differ in the last bit, and order by that.
        return np.full(probability.yes.shape, np.log(0.5))
    score: Array = np.logaddexp(np.log(value) + probability.yes, np.log1p(-value) + probability.no)
    return score


def mean_log_score(log_scores: Sequence[Array], *, negate: bool = False) -> Array:
    """The geometric mean of scores given as logarithms; ``negate``: the logarithm of 1 - that."""
    mean: Array = log_scores[0] if len(log_scores) == 1 else np.mean(np.stack(log_scores), axis=0)
    return log_complement(mean) if negate else mean


def log_complement(log_score: Array) -> Array:
    """log(1 - exp(x)) for x <= 0, exact at both ends (Mächler, 2012)."""
    clamped = np.minimum(log_score, 0.0)
    with np.errstate(divide="ignore"):
        near_one, near_zero = np.log(-np.expm1(clamped)), np.log1p(-np.exp(np.minimum(clamped, -np.log(2.0))))
    complement: Array = np.where(clamped > -np.log(2.0), near_one, near_zero)
    return complement


def to_score(log_score: Array) -> Array:
    """0..1."""
    return np.clip(np.exp(log_score), 0.0, 1.0)


def unit(vector: Array) -> Array | None:
    """The vector at length 1, or None for one without a direction."""
    length = float(np.linalg.norm(vector))
    return None if length < 1e-9 else np.divide(vector, length)
