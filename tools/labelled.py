"""Photographs with labels that no model was trained on, and what is true of each."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sightrank.vision.bundle import built_in_bundle, load_bundle
from sightrank.vision.vocabulary import Vocabulary
from tools.demo.photos import Photo

#: What every label of every set means in the vocabulary; training reads it too.
LABEL_MAP = Path(__file__).parent.parent / "training" / "label_map.json"
#: Photographs inside scikit-image that its documentation calls CC0 or public domain: sheets of them may be shown.
FREE = (
    ("astronaut.png", "astronaut"),
    ("camera.png", "photographer"),
    ("chelsea.png", "cat"),
    ("coffee.png", "coffee"),
    ("clock_motion.png", "clock"),
    ("rocket.jpg", "rocket"),
    ("hubble_deep_field.jpg", "galaxies"),
    ("brick.png", "bricks"),
    ("grass.png", "grass"),
    ("gravel.png", "gravel"),
)
FREE_WORDS = ("people", "cat")
WORDS = ("people", "beach", "dog", "car", "food", "mountain")
EVALUATION_SOURCES = ("places", "objects64", "scenes64", "clothing", "grocery")


class LibraryError(Exception):
    """The photographs cannot be read; the text says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a photo's labels say: its concepts, those it surely has not, and nothing of all others."""

    label: str
    there: frozenset[str]
    absent: frozenset[str]

    def shows(self, concept: str) -> bool | None:
        """Whether the concept is there; None where the labels leave it open."""
        if concept in self.there:
            return True
        return False if concept in self.absent else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """Photos with their truths by input id, and what to search them for. ``id`` is also the id of their app."""

    id: str
    title: str
    words: tuple[str, ...]
    photos: tuple[Photo, ...]
    shown: Mapping[str, Shown]

    def positives(self, concept: str) -> int:
        return sum(bool(shown.shows(concept)) for shown in self.shown.values())


def libraries(data: Path) -> tuple[Library, Library]:
    """The full photographs, and all evaluation sets together. Raises LibraryError."""
    try:
        meanings = json.loads(LABEL_MAP.read_text(encoding="utf-8"))
        names = frozenset(term.name for term in Vocabulary.load(load_bundle(built_in_bundle()).vocabulary))
        full = list(_photographs(data / "photos.zip", meanings["teachers"]["coco"]))
        parts: list[tuple[Photo, Shown]] = []
        for source in EVALUATION_SOURCES:
            labels = meanings["sources"][source]["labels"]
            parts += _evaluation(data / f"eval-{source}.zip", source, labels, names)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise LibraryError(
            f"The labelled photographs in {data} cannot be read ({error}). Name another DATA=."
        ) from error
    return (
        _library("photographs", f"{len(full)} full photographs (COCO)", full),
        _library("evaluation", f"{len(parts):,} photos of the evaluation sets", parts),
    )


def free_photographs(packages: Path) -> Library:
    """Ten photographs that anybody may show; what they show is only told. Raises LibraryError."""
    photos = tuple(Photo(id=label, title=label, path=packages / "skimage" / "data" / file) for file, label in FREE)
    missing = [str(photo.path) for photo in photos if not photo.path.is_file()]
    if missing:
        raise LibraryError(f"{missing[0]} is not there. Delete {packages} and run `make sheets` again.")
    nothing: frozenset[str] = frozenset()
    shown = {photo.id: Shown(label=photo.title, there=nothing, absent=nothing) for photo in photos}
    return Library(id="free", title="Ten free photographs", words=FREE_WORDS, photos=photos, shown=shown)


def _library(id: str, title: str, items: list[tuple[Photo, Shown]]) -> Library:
    shown = {photo.id: truth for photo, truth in items}
    return Library(id=id, title=title, words=WORDS, photos=tuple(photo for photo, _ in items), shown=shown)


def _photographs(archive: Path, classes: Mapping[str, list[str]]) -> Iterator[tuple[Photo, Shown]]:
    """A concept is there when a box of one of its classes is; concepts without a class are left open."""
    known = frozenset(concept for concepts in classes.values() for concept in concepts)
    for file, label in _rows(archive):
        shares: dict[str, float] = defaultdict(float)
        for name, _x, _y, width, height in json.loads(label):
            shares[name] += width * height
        there = frozenset(concept for name in shares for concept in classes.get(name, ()))
        largest = sorted(shares, key=lambda name: -shares[name])[:2]
        photo = Photo(id=f"photo-{Path(file).stem}", title=", ".join(largest), path=archive, member=file)
        yield photo, Shown(label=photo.title or "nothing labelled", there=there, absent=known - there)


def _evaluation(
    archive: Path, source: str, labels: Mapping[str, Mapping[str, list[str]]], names: frozenset[str]
) -> Iterator[tuple[Photo, Shown]]:
    for file, label in _rows(archive):
        key, _, rest = label.partition("|")
        meaning = labels[key if source == "objects64" else label]
        name = rest.split(",")[0] if source == "objects64" else key.replace("_", " ")
        photo = Photo(id=f"{source}-{Path(file).stem}", title=name, path=archive, member=file)
        there = frozenset(meaning["yes"])
        yield photo, Shown(label=name, there=there, absent=names - there - frozenset(meaning.get("maybe", ())))


def _rows(archive: Path) -> list[tuple[str, str]]:
    with zipfile.ZipFile(archive) as opened, opened.open("labels.tsv") as handle:
        rows = csv.DictReader(io.TextIOWrapper(handle, "utf-8", newline=""), delimiter="\t")
        return [(row["file"], row["labels"]) for row in rows]
