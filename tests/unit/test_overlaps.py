"""Boxes that show the same thing: how much they overlap, and which of them stay."""

from __future__ import annotations

import numpy as np
import pytest

from sightrank.vision.overlaps import overlap, surest

WHOLE = [0.0, 0.0, 1.0, 1.0]
LEFT_HALF = [0.0, 0.0, 0.5, 1.0]
RIGHT_HALF = [0.5, 0.0, 1.0, 1.0]
EMPTY = [0.3, 0.3, 0.3, 0.9]


def boxes(*items: list[float]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.array(items, np.float32).reshape(-1, 4)


def test_overlap_is_what_is_common_of_what_is_covered() -> None:
    shares = overlap(np.array(WHOLE, np.float32), boxes(WHOLE, LEFT_HALF, EMPTY))

    assert shares == pytest.approx([1.0, 0.5, 0.0])
    assert overlap(np.array(LEFT_HALF, np.float32), boxes(RIGHT_HALF)) == pytest.approx([0.0])
    assert overlap(np.array(EMPTY, np.float32), boxes(EMPTY)) == pytest.approx([0.0])


def test_the_surest_of_those_that_overlap_stays() -> None:
    values = np.array([0.5, 0.9, 0.8], np.float32)

    kept = surest(boxes(WHOLE, LEFT_HALF, RIGHT_HALF), values, limit=0.4, most=9)

    assert kept.tolist() == [1, 2]


def test_an_overlap_of_just_the_limit_is_allowed_and_the_number_is_bounded() -> None:
    values = np.array([0.5, 0.9, 0.8], np.float32)

    assert surest(boxes(WHOLE, LEFT_HALF, RIGHT_HALF), values, limit=0.5, most=9).tolist() == [1, 2, 0]
    assert surest(boxes(WHOLE, LEFT_HALF, RIGHT_HALF), values, limit=0.5, most=1).tolist() == [1]
    assert surest(boxes(), np.empty(0, np.float32), limit=0.5, most=9).tolist() == []
