"""The photo sets: reading the zips, and one array of squashed training photos on disk."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

TRAIN_SOURCES = ("places", "objects64", "objects32", "scenes64", "pets", "clothing", "grocery")
EVAL_SOURCES = ("places", "objects64", "scenes64", "clothing", "grocery")
STORED_SIDE = 112
"""Side of a stored training photo: a little above the network's, so that crops keep their detail."""


@dataclass(frozen=True)
class Photo:
    """One photo of a zip: its file name, its raw label and its decoded pixels."""

    name: str
    label: str
    image: Image.Image


@dataclass(frozen=True)
class TrainSet:
    """Every training photo, squashed to a square, with the place it came from."""

    pixels: npt.NDArray[np.uint8]
    sources: npt.NDArray[np.str_]
    labels: npt.NDArray[np.str_]
    held_back: npt.NDArray[np.bool_]
    """Photos no head is fitted on: they calibrate the tagger and choose settings."""


def rows(archive: zipfile.ZipFile) -> list[tuple[str, str]]:
    """The (file, label) pairs of a zip's table; a label of several fields is JSON."""
    table = io.StringIO(archive.read("labels.tsv").decode("utf-8"))
    return [(row["file"], row["labels"]) for row in csv.DictReader(table, delimiter="\t")]


def photos(path: Path) -> Iterator[Photo]:
    """The photos of a zip in the order of its table, upright and in RGB."""
    with zipfile.ZipFile(path) as archive:
        for name, label in rows(archive):
            with Image.open(io.BytesIO(archive.read(name))) as image:
                yield Photo(name, label, ImageOps.exif_transpose(image).convert("RGB"))


def photo_bytes(path: Path) -> list[bytes]:
    """The encoded photos of a zip, for checks that decode them in several ways."""
    with zipfile.ZipFile(path) as archive:
        return [archive.read(name) for name, _ in rows(archive)]


def squash(image: Image.Image, side: int) -> npt.NDArray[np.uint8]:
    """The whole picture in a square, the way the server does it."""
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR), dtype=np.uint8)


def load_eval(path: Path, side: int) -> tuple[npt.NDArray[np.uint8], list[str]]:
    """All photos of a zip squashed to `side`, with their raw labels."""
    pixels, labels = [], []
    for photo in photos(path):
        pixels.append(squash(photo.image, side))
        labels.append(photo.label)
    return np.stack(pixels), labels


def prepare(data: Path, work: Path) -> None:
    """Write all training photos into one array under `work`, once."""
    target = work / "train.json"
    if target.exists():
        return
    work.mkdir(parents=True, exist_ok=True)
    sources: list[str] = []
    labels: list[str] = []
    for source in TRAIN_SOURCES:
        with zipfile.ZipFile(data / f"train-{source}.zip") as archive:
            found = rows(archive)
        sources += [source] * len(found)
        labels += [label for _, label in found]
    shape = (len(labels), STORED_SIDE, STORED_SIDE, 3)
    pixels = np.lib.format.open_memmap(work / "train-pixels.npy", mode="w+", dtype=np.uint8, shape=shape)
    position = 0
    for source in TRAIN_SOURCES:
        for photo in photos(data / f"train-{source}.zip"):
            pixels[position] = squash(photo.image, STORED_SIDE)
            position += 1
    pixels.flush()
    target.write_text(json.dumps({"sources": sources, "labels": labels}))


def load_train(work: Path, in_memory: bool = False) -> TrainSet:
    """The array of `prepare`; every twelfth photo of a source is held back."""
    facts = json.loads((work / "train.json").read_text())
    sources = np.array(facts["sources"])
    held_back = np.zeros(len(sources), dtype=bool)
    for source in np.unique(sources):
        held_back[np.flatnonzero(sources == source)[::12]] = True
    pixels = np.load(work / "train-pixels.npy", mmap_mode=None if in_memory else "r")
    return TrainSet(pixels, sources, np.array(facts["labels"]), held_back)
