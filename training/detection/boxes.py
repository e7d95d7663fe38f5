"""Boxes as rows of left, top, right, bottom, and what is asked of them everywhere."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


def overlaps(one: Floats, other: Floats) -> Floats:
    """Intersection over union of every box of `one` [n,4] with every box of `other` [m,4]."""
    start = np.maximum(one[:, None, :2], other[None, :, :2])
    end = np.minimum(one[:, None, 2:], other[None, :, 2:])
    common = np.clip(end - start, 0, None).prod(axis=2)
    return common / np.maximum(areas(one)[:, None] + areas(other)[None] - common, 1e-9)


def areas(boxes: Floats) -> Floats:
    return np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1)


def keep(boxes: Floats, scores: Floats, classes: npt.NDArray[np.int64], limit: float) -> npt.NDArray[np.int64]:
    """Non-maximum suppression class by class: the places that stay, surest first."""
    order = np.argsort(-scores, kind="stable")
    apart = boxes + (classes * 10.0 * (1 + np.abs(boxes).max(initial=0)))[:, None].astype(np.float32)
    found: list[int] = []
    while len(order):
        first, order = order[0], order[1:]
        found.append(int(first))
        order = order[overlaps(apart[first : first + 1], apart[order])[0] <= limit]
    return np.array(found, dtype=np.int64)
