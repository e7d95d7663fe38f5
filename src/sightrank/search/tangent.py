"""Several ranks as one direction: bounds of scores that are concave in their cosines. No I/O.

The logarithms of (1 ± cos) / 2, of a sigmoid and of a softmax are concave, and so is any mean of them. Such a score
lies below each of its tangents, and a tangent is linear in the cosines: a product with one direction, however many
there are. What stands far enough down in the order along that direction cannot be among the first.
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
    """One term of a score: its share of the log score, its ``directions`` [n, dims], and its law: a + b cos, its
    sigmoid, or with several directions the softmax, of which it is the first. ``a`` and ``b`` [n].
    """

    share: float
    directions: Array
    link: Link
    a: Array
    b: Array

    @staticmethod
    def of(direction: Direction, value: float, share: float) -> Part | None:
        """A term v p + (1 - v) (1 - p); None where its logarithm is not concave, or not finite."""
        if direction.vector is None:
            return None
        directions = np.stack(direction.vectors)
        if direction.link is Link.HALF:
            a, b = np.array([0.5]), np.array([value - 0.5])
            return Part(share=share, directions=directions, link=Link.HALF, a=a, b=b)
        if value not in (0.0, 1.0) or (direction.rivals and value == 0.0):
            return None
        sign = 1.0 if value else -1.0
        laws = (direction, *direction.rivals)
        return Part(
            share=share,
            directions=directions,
            link=Link.SIGMOID,
            a=sign * np.array([law.bias for law in laws]),
            b=sign * np.array([law.scale for law in laws]),
        )

    def line(self, cosines: Array) -> tuple[float, Array]:
        """The tangent of the logarithm near these cosines [n]: its value there, and its slopes [n]."""
        if self.link is Link.HALF:
            inside = np.clip(cosines, -_INSIDE, _INSIDE)
            probability = self.a + self.b * inside
            slopes = self.b / probability
            return float((np.log(probability) + slopes * (cosines - inside))[0]), slopes
        logits = self.a + self.b * cosines
        if len(logits) == 1:
            return -float(np.logaddexp(0.0, -logits[0])), self.b * np.exp(-np.logaddexp(0.0, logits))
        log_shares = logits - np.logaddexp.reduce(logits)
        wanted = np.zeros(len(logits))
        wanted[0] = 1.0
        return float(log_shares[0]), self.b * (wanted - np.exp(log_shares))


def tangent(parts: Sequence[Part], cosines: Sequence[Array]) -> Tangent | None:
    """The tangent of the sum of ``parts`` near the cosines of each; None where it does not change in any direction."""
    offset = 0.0
    gradient: Array = np.zeros(parts[0].directions.shape[1])
    for part, at in zip(parts, cosines, strict=True):
        value, slopes = part.line(at)
        offset += part.share * (value - float(slopes @ at))
        gradient += part.share * (slopes @ part.directions)
    length = float(np.linalg.norm(gradient))
    return None if length < 1e-9 else Tangent(direction=gradient / length, slope=length, offset=offset)
