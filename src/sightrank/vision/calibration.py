"""From scores to probabilities that mean what they say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
Truth = NDArray[np.bool_]

#: A score that tells nothing on examples it was not learnt from keeps its order, at almost one probability.
_LEAST_SLOPE = 0.05
_MOST_ROUNDS = 200
_RAREST = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """p = sigmoid(slope * score + offset); ``slope`` is positive."""

    slope: float
    offset: float

    def logits(self, scores: Scores) -> Scores:
        return self.slope * scores + self.offset


def link(scores: Scores, truth: Truth) -> Link:
    """Platt scaling of ``scores`` [n], which were learnt without the examples that they are of.

    Platt's targets stay off 0 and 1 by what so few examples leave open, so that perfect scores do not become certain.
    Needs an example of either kind.
    """
    from sklearn.linear_model import LogisticRegression

    spread = max(float(scores.std()), 1e-9)
    standard = ((scores - scores.mean()) / spread)[:, None]
    positive = np.where(truth, (truth.sum() + 1) / (truth.sum() + 2), 1 / ((~truth).sum() + 2))
    fitted = LogisticRegression(C=1e3, tol=1e-6).fit(
        np.concatenate([standard, standard]),
        np.repeat([True, False], len(scores)),
        sample_weight=np.concatenate([positive, 1 - positive]),
    )
    slope, offset = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    if slope < _LEAST_SLOPE:
        slope, offset = _LEAST_SLOPE, _logit(float(positive.mean()))
    return Link(slope=slope / spread, offset=offset - slope * float(scores.mean()) / spread)


def adapted(logits: Scores, share: float) -> Scores:
    """Probabilities of areas [n] among which positives may be rarer or more frequent than the ``share`` of the labels
    that ``logits`` are calibrated on: their frequency is what makes them expect it (Saerens, Latinne, Decaestecker
    2002, by expectation maximisation).
    """
    frequency = share
    probabilities = np.empty_like(logits)
    for _ in range(_MOST_ROUNDS):
        shifted = logits - _logit(share) + _logit(frequency)
        probabilities = 1 / (1 + np.exp(-np.clip(shifted, -60, 60)))
        before, frequency = frequency, float(np.clip(probabilities.mean(), _RAREST, 1 - _RAREST))
        if abs(frequency - before) < _RAREST / 10:
            break
    return probabilities


def sharpness(logits: Scores, classes: NDArray[np.intp]) -> float:
    """The factor, from 1/8 to 8, of ``logits`` [n, classes] before a softmax; they were not learnt from their examples.

    It makes the right classes likeliest (temperature scaling).
    """
    factors = np.geomspace(1 / 8, 8, 49)
    losses = []
    for factor in factors:
        scaled = factor * (logits - logits.max(axis=1, keepdims=True))
        losses.append((np.log(np.exp(scaled).sum(axis=1)) - scaled[np.arange(len(classes)), classes]).mean())
    return float(factors[np.argmin(losses)])


def _logit(share: float) -> float:
    return float(np.log(share / (1 - share)))
