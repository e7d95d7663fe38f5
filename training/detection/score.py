"""How good boxes are: average precision against known ones, and recall by size."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from training import data
from training.detection import boxes
from training.detection.teacher import Found
from training.detector import COCO

Floats = npt.NDArray[np.float32]
ENOUGH = 0.5
"""Overlap from which a box is the one that was meant."""


def known(path: Path) -> list[tuple[npt.NDArray[np.uint8], Found]]:
    """The measured photos with their boxes, every score 1."""
    found = []
    for photo in data.photos(path):
        rows = json.loads(photo.label)
        classes = np.array([COCO.index(row[0]) for row in rows], dtype=np.int64)
        centre = np.array([row[1:] for row in rows], dtype=np.float32).reshape(-1, 4)
        corners = np.concatenate([centre[:, :2] - centre[:, 2:] / 2, centre[:, :2] + centre[:, 2:] / 2], axis=1)
        found.append((np.asarray(photo.image), Found(corners, classes, np.ones(len(rows), np.float32))))
    return found


def hits(truth: Sequence[Floats], found: Sequence[tuple[Floats, Floats]]) -> tuple[Floats, npt.NDArray[np.bool_], int]:
    """Scores of all boxes of a class, whether each is the first to meet a known one, and how many are known."""
    scores, right = [], []
    for known_boxes, (some, some_scores) in zip(truth, found, strict=True):
        taken = np.zeros(len(known_boxes), dtype=bool)
        for place in np.argsort(-some_scores, kind="stable"):
            overlap = boxes.overlaps(some[place : place + 1], known_boxes)[0] * ~taken
            best = int(overlap.argmax()) if len(overlap) else -1
            hit = best >= 0 and bool(overlap[best] >= ENOUGH)
            if hit:
                taken[best] = True
            scores.append(float(some_scores[place]))
            right.append(hit)
    return np.array(scores, np.float32), np.array(right, bool), sum(map(len, truth))


def average_precision(scores: Floats, right: npt.NDArray[np.bool_], total: int) -> float:
    """Area below precision over recall, precision made non-increasing."""
    if not total or not len(scores):
        return 0.0
    order = np.argsort(-scores, kind="stable")
    met = np.cumsum(right[order])
    precision = np.maximum.accumulate((met / np.arange(1, len(met) + 1))[::-1])[::-1]
    return float((precision * right[order]).sum() / total)


def of_class(
    truth: Sequence[Found], found: Sequence[Found], members: Sequence[int]
) -> tuple[Floats, npt.NDArray[np.bool_], int]:
    """`hits` of several classes taken for one."""
    return hits(
        [each.boxes[np.isin(each.classes, members)] for each in truth],
        [(each.boxes[at], each.scores[at]) for each in found for at in [np.isin(each.classes, members)]],
    )


def in_photo(truth: Sequence[Found], found: Sequence[Found], members: Sequence[int]) -> float:
    """Average precision of "this photo has one", by its surest box."""
    present = np.array([np.isin(each.classes, members).any() for each in truth])
    best = np.array([each.scores[np.isin(each.classes, members)].max(initial=0) for each in found], np.float32)
    return average_precision(best, present, int(present.sum()))


def large_recall(
    truth: Sequence[Found], found: Sequence[Found], members: Sequence[int], *, share: float, least: float
) -> tuple[int, int]:
    """How many known boxes of at least `share` of the photo a box of at least `least` meets, and how many exist."""
    met = total = 0
    for known_boxes, some in zip(truth, found, strict=True):
        large = known_boxes.boxes[np.isin(known_boxes.classes, members) & (boxes.areas(known_boxes.boxes) >= share)]
        sure = some.boxes[np.isin(some.classes, members) & (some.scores >= least)]
        total += len(large)
        met += int((boxes.overlaps(large, sure) >= ENOUGH).any(axis=1).sum()) if len(sure) else 0
    return met, total
