"""The pictures that training sees: cut-outs and collages of the photos, so that things come in every size.

The photos have 104 pixels on their short side and mostly small things in them. Windows around single boxes show them as
large as people are in full photographs, collages show several at once, smaller; both reach the network's input at about
the sharpness that a full photograph has when it is shrunk to it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from training.detection.photos import Labelled
from training.detector import COCO

SURE, DOUBTFUL = 0.33, 0.2
"""The teacher's scores from which a box is learnt, and from which its place is at least not called empty."""
WORTH_A_WINDOW = 0.5
LEAST_WINDOW, LEAST_BOX = 20, 5
"""Pixels: the smallest side of a box in a photo that a window is cut around; of a box in a canvas that is learnt."""
SPLITS = (0.5, 0.35)
ZOOMED, PEOPLE = 0.55, 0.45
SHARES = {"places": 0.72, "objects64": 0.14, "pets": 0.05, "clothing": 0.04, "grocery": 0.05}


@dataclass(frozen=True)
class Canvas:
    """One picture, its boxes in pixels, their classes and the teacher's scores (below `SURE`: not to be learnt)."""

    pixels: npt.NDArray[np.uint8]
    boxes: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Window:
    """A part of a photo, in its pixels."""

    photo: Labelled
    left: float
    top: float
    width: float
    height: float


class Painter:
    """Draws canvases of `side` pixels from `photos`."""

    def __init__(self, photos: list[Labelled], side: int) -> None:
        self.photos, self.side = photos, side
        self.members = {name: [each for each in photos if each.source == name] for name in SHARES}
        self.targets: dict[int, list[tuple[Labelled, int]]] = {}
        for photo in photos:
            size = photo.pixels.shape[1::-1] * (photo.boxes[:, 2:] - photo.boxes[:, :2])
            for row in np.flatnonzero(
                (photo.scores >= WORTH_A_WINDOW) & (size.min(axis=1, initial=1e9) >= LEAST_WINDOW)
                if len(size)
                else np.zeros(0, bool)
            ):
                self.targets.setdefault(int(photo.classes[row]), []).append((photo, int(row)))
        self.others = [each for each in sorted(self.targets) if each != COCO.index("person")]
        frequency = np.array([len(self.targets[each]) for each in self.others], dtype=float) ** 0.5
        self.odds = frequency / frequency.sum()

    def draw(self, rng: np.random.Generator) -> Canvas:
        """One canvas; every pixel of it belongs to some photo."""
        pixels = np.empty((self.side, self.side, 3), np.uint8)
        parts = [self._fill(pixels, cell, rng) for cell in self._cells((0, 0, self.side, self.side), 0, rng)]
        boxes, classes, scores = (np.concatenate(each) for each in zip(*parts, strict=True))
        return Canvas(_refocus(pixels, rng), boxes, classes, scores)

    def _cells(
        self, cell: tuple[int, int, int, int], depth: int, rng: np.random.Generator
    ) -> list[tuple[int, int, int, int]]:
        """The canvas cut in one to four."""
        if depth == len(SPLITS) or rng.random() > SPLITS[depth]:
            return [cell]
        left, top, right, bottom = cell
        at = rng.uniform(0.3, 0.7)
        if right - left > (bottom - top) * rng.uniform(0.7, 1.4):
            middle = round(left + at * (right - left))
            halves = ((left, top, middle, bottom), (middle, top, right, bottom))
        else:
            middle = round(top + at * (bottom - top))
            halves = ((left, top, right, middle), (left, middle, right, bottom))
        return [small for half in halves for small in self._cells(half, depth + 1, rng)]

    def _fill(
        self, pixels: npt.NDArray[np.uint8], cell: tuple[int, int, int, int], rng: np.random.Generator
    ) -> tuple[npt.NDArray[np.generic], ...]:
        """Paint a photo's window into the cell; its boxes in pixels of the canvas, classes and scores."""
        left, top, right, bottom = cell
        width, height = right - left, bottom - top
        window = self._window(width, height, rng)
        photo = window.photo
        x, y = round(window.left), round(window.top)
        patch = photo.pixels[y : y + max(2, round(window.height)), x : x + max(2, round(window.width))]
        scale = np.array([width / patch.shape[1], height / patch.shape[0]] * 2, np.float32)
        boxes = (photo.boxes * (photo.pixels.shape[1::-1] * 2) - np.array([x, y, x, y])) * scale
        shrunk = patch.shape[0] > height
        patch = cv2.resize(patch, (width, height), interpolation=cv2.INTER_AREA if shrunk else cv2.INTER_LINEAR)
        if rng.random() < 0.5:
            patch = patch[:, ::-1]
            boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
        pixels[top:bottom, left:right] = patch
        return _visible(boxes, photo, (left, top, width, height))

    def _window(self, width: int, height: int, rng: np.random.Generator) -> Window:
        aspect = width / height * math.exp(rng.normal(0, 0.22))
        if rng.random() < ZOOMED:
            # A window smaller than a third of its cell would be blur.
            least = min(width, height) / 3.2
            for _ in range(4):
                window = self._around(aspect, rng)
                if min(window.width, window.height) >= least:
                    return window
        name = rng.choice(list(SHARES), p=list(SHARES.values()))
        members = self.members[name] or self.photos
        photo = members[rng.integers(len(members))]
        rows, columns = photo.pixels.shape[:2]
        whole = min(columns, rows * aspect) * rng.uniform(0.7, 1.0)
        return _window(photo, whole, whole / aspect, rng.random(), rng.random())

    def _around(self, aspect: float, rng: np.random.Generator) -> Window:
        """A window that one box fills to a half and more, sometimes cut by its edge."""
        person = COCO.index("person")
        known = person in self.targets and rng.random() < PEOPLE
        members = self.targets[person if known else int(rng.choice(self.others, p=self.odds))]
        photo, row = members[rng.integers(len(members))]
        rows, columns = photo.pixels.shape[:2]
        left, top, right, bottom = photo.boxes[row] * (columns, rows, columns, rows)
        fill = rng.uniform(0.4, 1.05)
        width = min(max((right - left) / fill, (bottom - top) / fill * aspect), columns)
        height = min(width / aspect, rows)
        slack_x, slack_y = width - (right - left), height - (bottom - top)
        x, y = left - slack_x * rng.uniform(0, 1), top - slack_y * rng.uniform(0, 1)
        x, y = min(max(x, 0), columns - width), min(max(y, 0), rows - height)
        return Window(photo, x, y, width, height)


def _window(photo: Labelled, width: float, height: float, x: float, y: float) -> Window:
    """A window at the shares x, y of the room that is left."""
    rows, columns = photo.pixels.shape[:2]
    width, height = min(width, columns), min(height, rows)
    return Window(photo, x * (columns - width), y * (rows - height), width, height)


def _visible(
    boxes: npt.NDArray[np.float32], photo: Labelled, cell: tuple[int, int, int, int]
) -> tuple[npt.NDArray[np.generic], ...]:
    """The boxes cut at the cell's edges; what is cut away mostly, or tiny, is no longer sure."""
    left, top, width, height = cell
    cut = np.clip(boxes, 0, np.array([width, height] * 2, np.float32))
    size = cut[:, 2:] - cut[:, :2]
    shown = size.prod(axis=1) / np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), 1e-6)
    there = (photo.scores >= DOUBTFUL) & (shown > 0.05) & (size.min(axis=1, initial=1e9) > 1 if len(size) else True)
    sure = (shown > 0.3) & (size.min(axis=1, initial=1e9) >= LEAST_BOX if len(size) else True)
    scores = np.where(sure, photo.scores, np.minimum(photo.scores, SURE - 0.01))
    moved = cut + np.array([left, top, left, top], np.float32)
    return moved[there].astype(np.float32), photo.classes[there], scores[there].astype(np.float32)


def _refocus(pixels: npt.NDArray[np.uint8], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Some sharpened, since enlarged photos are softer than shrunk ones; some grey."""
    if rng.random() < 0.4:
        amount = rng.uniform(0.3, 1.5)
        pixels = cv2.addWeighted(
            pixels, 1 + amount, cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.8, 1.6)), -amount, 0
        )
    if rng.random() < 0.15:
        pixels = np.repeat(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    return pixels
