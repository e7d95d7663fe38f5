"""Boxes that show the same thing: of those that overlap, the surest stays (non-maximum suppression)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float32]


def overlap(box: Boxes, others: Boxes) -> NDArray[np.float32]:
    """Intersection over union, 0..1, of a box [4] with others [n, 4]: left, top, right, bottom.

    A box without area overlaps nothing.
    """
    start = np.maximum(box[:2], others[:, :2])
    end = np.minimum(box[2:], others[:, 2:])
    common = np.clip(end - start, 0, None).prod(axis=1)
    union = _areas(box[None]) + _areas(others) - common
    shares: NDArray[np.float32] = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return shares


def surest(boxes: Boxes, values: NDArray[np.float32], *, limit: float, most: int) -> NDArray[np.intp]:
    """Places of at most ``most`` boxes, surest first, none of which overlaps a surer one by more than ``limit``."""
    left = np.argsort(-values, kind="stable")
    kept: list[int] = []
    while len(left) and len(kept) < most:
        kept.append(int(left[0]))
        left = left[1:][overlap(boxes[left[0]], boxes[left[1:]]) <= limit]
    return np.array(kept, dtype=np.intp)


def _areas(boxes: Boxes) -> NDArray[np.float32]:
    areas: NDArray[np.float32] = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1)
    return areas
