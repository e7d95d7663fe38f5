"""The training photos with the teacher's boxes: looked at once, kept in parts, so that a stopped run goes on."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from training import data
from training.detection.teacher import Teacher

SIDES = {"places": 256, "pets": 256, "clothing": 224, "grocery": 224, "objects64": 160}
"""The sources looked at, and the teacher's input size: more would only be blur."""
PART = 1000
HELD_OUT = 20
"""Every so many photos one is kept from the student."""


@dataclass(frozen=True)
class Labelled:
    """One photo, and the boxes (shares: left, top, right, bottom), classes and scores that the teacher found."""

    pixels: npt.NDArray[np.uint8]
    boxes: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    source: str


def label(photo_dir: Path, work: Path, shard: int, shards: int) -> None:
    """Look at every `shards`-th part of the sources and write those that are not there yet."""
    for source, side in SIDES.items():
        teacher = Teacher(photo_dir / "teachers", (side,))
        for part, members in enumerate(_parts(data.photos(photo_dir / f"train-{source}.zip"))):
            target = work / f"{source}-{part:02}.npz"
            if part % shards == shard and not target.exists():
                _write(target, [np.asarray(photo.image) for photo in members], teacher)


def _parts(photos: Iterator[data.Photo]) -> Iterator[list[data.Photo]]:
    while members := list(itertools.islice(photos, PART)):
        yield members


def _write(target: Path, pictures: list[npt.NDArray[np.uint8]], teacher: Teacher) -> None:
    found = [teacher.look(picture) for picture in pictures]
    partial = target.with_suffix(".partial.npz")
    np.savez(
        partial,
        pixels=np.concatenate([picture.reshape(-1) for picture in pictures]),
        shapes=np.array([picture.shape[:2] for picture in pictures]),
        counts=np.array([len(each.scores) for each in found]),
        boxes=np.concatenate([each.boxes for each in found]),
        classes=np.concatenate([each.classes for each in found]),
        scores=np.concatenate([each.scores for each in found]),
    )
    os.replace(partial, target)


def load(work: Path, *, held_out: bool = False) -> list[Labelled]:
    """The photos of all parts that are there: those to learn from, or the twentieth that calibration is done on."""
    found: list[Labelled] = []
    for path in sorted(work.glob("*-??.npz")):
        with np.load(path) as part:
            pixels, shapes, counts = part["pixels"], part["shapes"], part["counts"]
            ends = np.cumsum(shapes.prod(axis=1) * 3)
            rows = np.cumsum(counts)
            columns = part["boxes"], part["classes"], part["scores"]
            for (height, width), end, row, count in zip(shapes, ends, rows, counts, strict=True):
                picture = pixels[end - height * width * 3 : end].reshape(height, width, 3)
                own = (column[row - count : row] for column in columns)
                found.append(Labelled(picture, *own, source=path.name.rpartition("-")[0]))
    return [photo for at, photo in enumerate(found) if (at % HELD_OUT == 0) == held_out]


if __name__ == "__main__":
    label(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
