"""Several ranks as one direction: bounds of scores that are concave in their cosines. No I/O.

The logarithms of (1 ± cos) / 2 and of a sigmoid are concave, and so is any mean of them. Such a score lies below each
of its tangents, and a tangent is linear in the cosines: a product with one direction, however many ranks there are.
What stands far enough down in the order along that direction cannot be among the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightrank.search.score import Array, Direction, Link

#: A tangent is taken a little inside the ends, where (1 ± cos) / 2 has a logarithm.
_INSIDE = 0.999


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tangent:
    """``offset + slope * product`` with the unit vector ``direction`` is never below the log score."""

    direction: NDArray[np.float64]
    slope: float
    offset: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """One term of a score: its share of the log score, its direction, and its law, a + b cos or sigmoid(a + b cos)."""

    share: float
    direction: NDArray[np.float64]
    link: Link
    a: float
    b: float

    @staticmethod
    def of(direction: Direction, value: float, share: float) -> Part | None:
        """A term v p + (1 - v) (1 - p); None where its logarithm is not concave in one cosine, or not finite."""
        if direction.vector is None or direction.rivals:
            return None
        if direction.link is Link.HALF:
            return Part(share=share, direction=direction.vector, link=Link.HALF, a=0.5, b=value - 0.5)
        if value not in (0.0, 1.0):
            return None
        sign = 1.0 if value else -1.0
        return Part(
            share=share,
            direction=direction.vector,
            link=Link.SIGMOID,
            a=sign * direction.bias,
            b=sign * direction.scale,
        )

    def line(self, cosine: float) -> tuple[float, float]:
        """The tangent of the logarithm near this cosine: its value there, and its slope."""
        if self.link is Link.HALF:
            inside = min(max(cosine, -_INSIDE), _INSIDE)
            probability = self.a + self.b * inside
            slope = self.b / probability
            return float(np.log(probability)) + slope * (cosine - inside), slope
        logit = self.a + self.b * cosine
        return -float(np.logaddexp(0.0, -logit)), self.b * float(np.exp(-np.logaddexp(0.0, logit)))


def tangent(parts: Sequence[Part], cosines: Sequence[float]) -> Tangent | None:
    """The tangent of the sum of ``parts`` near these cosines; None where the score does not change in any direction."""
    offset = 0.0
    gradient: Array = np.zeros(len(parts[0].direction))
    for part, cosine in zip(parts, cosines, strict=True):
        value, slope = part.line(cosine)
        offset += part.share * (value - slope * cosine)
        gradient += part.share * slope * part.direction
    length = float(np.linalg.norm(gradient))
    return None if length < 1e-9 else Tangent(direction=gradient / length, slope=length, offset=offset)
