"""The photographs of the demo, and what is known about them.

Three sets, the first that applies: a folder of the caller's own; the project's photo library when its folder is there
(full photographs with known contents, and some cats and dogs); the photographs inside two packages, which show people,
a cat, coffee, motorcycles, a flower, but no dog.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import unicodedata
import zipfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from tools.demo import DemoError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
PETS = 60
LARGEST_BYTES = 20_000_000

#: Photographs inside the two wheels: folder, file, what it shows.
PACKAGED = (
    ("skimage/data", "chelsea.png", "cat"),
    ("skimage/data", "astronaut.png", "astronaut, person"),
    ("skimage/data", "coffee.png", "cup of coffee"),
    ("skimage/data", "motorcycle_left.png", "motorcycle"),
    ("skimage/data", "motorcycle_right.png", "motorcycle, from the right"),
    ("skimage/data", "rocket.jpg", "rocket"),
    ("skimage/data", "camera.png", "photographer, person"),
    ("skimage/data", "hubble_deep_field.jpg", "galaxies"),
    ("skimage/data", "moon.png", "moon"),
    ("skimage/data", "brick.png", "bricks"),
    ("skimage/data", "grass.png", "grass"),
    ("skimage/data", "gravel.png", "gravel"),
    ("skimage/data", "coins.png", "coins"),
    ("skimage/data", "clock_motion.png", "clock"),
    ("skimage/data", "page.png", "printed page"),
    ("sklearn/datasets/images", "china.jpg", "temple"),
    ("sklearn/datasets/images", "flower.jpg", "flower"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Photo:
    """One photograph: its input id, a title for people, and where its bytes are."""

    id: str
    title: str
    path: Path
    member: str | None = None

    def load(self) -> bytes:
        if self.member is None:
            return self.path.read_bytes()
        with zipfile.ZipFile(self.path) as archive:
            return archive.read(self.member)

    def picture(self) -> Image.Image:
        """The pixels, upright, in RGB."""
        with Image.open(io.BytesIO(self.load())) as image:
            return ImageOps.exif_transpose(image).convert("RGB")


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """A concept named in some language, with what to write where that script cannot be shown."""

    name: str
    language: str
    english: str
    language_name: str
    spelled: str


INU = Word(name="犬", language="ja", english="dog", language_name="Japanese", spelled="inu")
NEKO = Word(name="猫", language="ja", english="cat", language_name="Japanese", spelled="neko")


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoSet:
    """Photographs and the parts of the searches that depend on them. ``name`` keeps the sets' data apart."""

    name: str
    description: str
    photos: tuple[Photo, ...]
    custom: str
    labels: tuple[tuple[str, Photo], ...]
    wanted: str
    word: Word
    by_url: Photo
    by_bytes: Photo
    by_id: Photo
    known: bool

    def labelled(self, concept: str) -> frozenset[str]:
        return frozenset(photo.id for name, photo in self.labels if name == concept)


def choose(*, images: Path | None, data: Path, packages: Path) -> PhotoSet:
    """The photo set to show; raises DemoError when none can be read."""
    if images is not None:
        return from_folder(images)
    if (data / "photos.zip").is_file():
        return from_library(data)
    return from_packages(packages)


def from_library(data: Path) -> PhotoSet:
    """128 photographs with known contents and the first cats and dogs of the pets."""
    photos: list[Photo] = []
    by_largest: dict[str, list[tuple[float, Photo]]] = defaultdict(list)
    archive = data / "photos.zip"
    for file, labels in _labels(archive):
        shares: dict[str, float] = defaultdict(float)
        for name, _x, _y, width, height in json.loads(labels):
            shares[name] += width * height
        ordered = sorted(shares, key=lambda name: -shares[name])
        photo = Photo(id=f"photo-{Path(file).stem}", title=", ".join(ordered[:3]) or "photo", path=archive, member=file)
        photos.append(photo)
        if ordered:
            by_largest[ordered[0]].append((shares[ordered[0]], photo))
    cats: list[Photo] = []
    pets = data / "train-pets.zip"
    if pets.is_file():
        for file, kind in _labels(pets)[:PETS]:
            photo = Photo(id=f"pet-{Path(file).stem}", title=kind, path=pets, member=file)
            photos.append(photo)
            if kind == "cat":
                cats.append(photo)

    def clearest(kind: str, otherwise: int) -> Photo:
        return max(by_largest[kind], key=lambda pair: pair[0])[1] if by_largest[kind] else photos[otherwise]

    labelled = [clearest("cat", 0), *cats[:2]]
    return PhotoSet(
        name="",
        description="the photo library and some cats and dogs",
        photos=tuple(photos),
        custom="my-cat",
        labels=(*(("my-cat", photo) for photo in labelled), *(("cat", photo) for photo in labelled)),
        wanted="cat",
        word=INU,
        by_url=clearest("bus", 1),
        by_bytes=clearest("elephant", 2),
        by_id=clearest("pizza", 3),
        known=True,
    )


def from_packages(packages: Path) -> PhotoSet:
    """The photographs that come inside scikit-image and scikit-learn."""
    photos = {
        Path(file).stem: Photo(id=_slug(Path(file).stem), title=title, path=packages / folder / file)
        for folder, file, title in PACKAGED
        if (packages / folder / file).is_file()
    }
    missing = {"chelsea", "motorcycle_left", "coffee", "flower"} - photos.keys()
    if missing:
        raise DemoError(
            f"The photographs {', '.join(sorted(missing))} are not under {packages}. Delete that folder and run"
            " `make demo` again, or use your own: make demo IMAGES=folder"
        )
    cat = photos["chelsea"]
    return PhotoSet(
        name="packaged",
        description="the photographs inside scikit-image and scikit-learn (there is no dog among them)",
        photos=tuple(photos.values()),
        custom="my-cat",
        labels=(("my-cat", cat),),
        wanted="my-cat",
        word=NEKO,
        by_url=photos["motorcycle_left"],
        by_bytes=photos["flower"],
        by_id=photos["coffee"],
        known=True,
    )


def from_folder(folder: Path) -> PhotoSet:
    """Every image under a folder; ids and titles come from the file names."""
    folder = folder.expanduser().resolve()
    if not folder.is_dir():
        raise DemoError(f"{folder} is not a folder. Give one with images: make demo IMAGES=folder")
    photos: list[Photo] = []
    taken: set[str] = set()
    skipped = 0
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if hidden or path.suffix.lower() not in SUFFIXES or not path.is_file():
            continue
        if path.stat().st_size > LARGEST_BYTES or not _readable(path):
            skipped += 1
            continue
        identifier = _unused(path.relative_to(folder), taken)
        taken.add(identifier)
        photos.append(Photo(id=identifier, title=path.stem, path=path))
    if not photos:
        raise DemoError(
            f"No image under {folder} can be used. It takes JPEG, PNG, WebP, GIF, BMP or TIFF files of at most"
            f" {LARGEST_BYTES // 10**6} MB."
        )
    count = len(photos)
    return PhotoSet(
        name=f"{_slug(folder.name) or 'own'}-{hashlib.sha256(str(folder).encode()).hexdigest()[:6]}",
        description=f"the images under {folder}" + (f" ({skipped} could not be read)" if skipped else ""),
        photos=tuple(photos),
        custom="my-pick",
        labels=(("my-pick", photos[0]),),
        wanted="my-pick",
        word=INU,
        by_url=photos[count // 4],
        by_bytes=photos[count // 2],
        by_id=photos[3 * count // 4],
        known=False,
    )


def _labels(archive: Path) -> list[tuple[str, str]]:
    try:
        with zipfile.ZipFile(archive) as opened, opened.open("labels.tsv") as handle:
            rows = csv.DictReader(io.TextIOWrapper(handle, "utf-8", newline=""), delimiter="\t")
            return [(row["file"], row["labels"]) for row in rows]
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise DemoError(
            f"{archive} cannot be read ({error}). Name another folder by DATA=, or use your own photographs by IMAGES=."
        ) from error


def _readable(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            return image.width > 0
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError):
        return False


def _slug(text: str) -> str:
    """Letters, digits, ``-`` and ``_``: what an input id may consist of."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9_-]+", "-", plain).strip("-")[:40]


def _unused(path: Path, taken: set[str]) -> str:
    """An id from the file name; with the folders before it, then with a number, when others have it."""
    base = _slug(path.stem) or "image"
    candidates = [base, _slug("-".join((*path.parent.parts, path.stem))) or base]
    number = 2
    while candidates[0] in taken:
        candidates.pop(0)
        if not candidates:
            candidates.append(f"{base}-{number}")
            number += 1
    return candidates[0]
