"""Photographs that trained nothing, as the server stores them, and what is in them."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sightrank.vision import decode
from sightrank.vision.bundle import built_in_bundle, load_bundle
from sightrank.vision.embedder import Embedder

_BATCH = 32
_MOST = 100_000_000

#: Things that people may want to find and that the tagger has no word for, as the labels of each source that mean them.
THINGS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "clothing": {"longsleeve": ("longsleeve",), "legwear": ("pants", "shorts", "skirt")},
    "grocery": {
        "carton": ("Juice", "Milk", "Oat-Milk", "Soy-Milk", "Sour-Milk"),
        "tropical fruit": (
            "Avocado",
            "Banana",
            "Kiwi",
            "Mango",
            "Papaya",
            "Passion-Fruit",
            "Pineapple",
            "Pomegranate",
        ),
        "root vegetable": ("Carrots", "Garlic", "Ginger", "Onion", "Potato", "Red-Beet"),
    },
    "objects64": {
        "sea creature": (
            "American lobster",
            "brain coral",
            "coral reef",
            "dugong",
            "jellyfish",
            "sea cucumber",
            "sea slug",
            "spiny lobster",
        ),
        "hoofed animal": ("Arabian camel", "bighorn", "bison", "gazelle", "hog", "ox"),
        "robe": ("academic gown", "kimono", "military uniform", "poncho", "vestment"),
        "medical": ("gasmask", "neck brace", "pill bottle", "syringe"),
        "coin machine": ("cash machine", "parking meter", "pay-phone", "turnstile"),
        "cooked dish": ("guacamole", "mashed potato", "meat loaf", "potpie"),
        "gadget": ("CD player", "iPod", "magnetic compass", "remote control", "stopwatch"),
        "pole": ("flagpole", "maypole", "obelisk", "pole", "water tower"),
        "public transport": ("bullet train", "school bus", "trolleybus"),
    },
    "places": {
        "sports ground": ("baseball_field", "golf_course", "racecourse", "stadium/football", "track/outdoor"),
        "hall": ("auditorium", "ballroom", "banquet_hall"),
        "arid land": ("badlands", "canyon", "desert/sand", "rock_arch"),
        "place for children": ("amusement_park", "kindergarden_classroom", "playground"),
        "holy place": ("abbey", "church/outdoor", "monastery/outdoor", "temple/east_asia"),
    },
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Photos:
    """``vectors`` [n, dims] of unit length, rounded as stored; ``names``: the label of each photo."""

    source: str
    vectors: NDArray[np.float32]
    names: NDArray[np.str_]

    def show(self, thing: str) -> NDArray[np.bool_]:
        """Which photos show it."""
        return np.isin(self.names, THINGS[self.source][thing])


def labelled(data: Path) -> list[Photos]:
    """Those of every source; none where the data are not at hand."""
    archives = {source: data / f"eval-{source}.zip" for source in THINGS}
    if not all(archive.exists() for archive in archives.values()):
        return []
    embedder = Embedder(load_bundle(built_in_bundle()), threads=1, provider="cpu")
    return [_photos(source, archive, embedder) for source, archive in archives.items()]


def _photos(source: str, archive: Path, embedder: Embedder) -> Photos:
    with zipfile.ZipFile(archive) as opened:
        text = io.TextIOWrapper(opened.open("labels.tsv"), encoding="utf-8")
        rows = list(csv.DictReader(text, delimiter="\t", quoting=csv.QUOTE_NONE))
        parts = []
        for first in range(0, len(rows), _BATCH):
            files = [opened.read(row["file"]) for row in rows[first : first + _BATCH]]
            parts.append(embedder.embed(np.stack([_pixels(file, embedder) for file in files])))
    return Photos(
        source=source,
        vectors=np.concatenate(parts).astype(np.float16).astype(np.float32),
        names=np.array([_name(source, row["labels"]) for row in rows]),
    )


def _pixels(file: bytes, embedder: Embedder) -> NDArray[np.uint8]:
    picture = decode.decode(file, size=embedder.size, max_pixels=_MOST, max_bytes=_MOST)
    return embedder.fit(picture.pixels)


def _name(source: str, label: str) -> str:
    """The first word for what a label of the source means: a synset has several, groceries have a coarse one."""
    if source == "objects64":
        return label.split("|")[1].split(",")[0]
    return label.split("|")[0]
