"""A model is a folder: ``manifest.json``, ONNX files, a vocabulary. This module reads and checks such a folder.

The manifest of a General bundle::

    {"id": "general", "kind": "general", "version": "...", "dims": 256, "licence": "...",
     "preprocessing": {"size": 96, "resize": "squash", "interpolation": "bilinear", "mean": [...], "std": [...]},
     "files": {"embedder": "embedder.onnx", "tagger": "tagger.npz", "vocabulary": "vocabulary.json",
               "words": "words.json"},
     "sha256": {"embedder.onnx": "...", ...}}
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any


class BundleError(RuntimeError):
    """A bundle cannot be used; the text says which file and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """How a picture becomes the network's input: squashed to ``size`` x ``size`` RGB, then (x / 255 - mean) / std."""

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A checked model folder."""

    id: str
    version: str
    dims: int
    preprocessing: Preprocessing
    embedder: Path
    tagger: Path
    vocabulary: Path
    words: Path
    licence: str


def built_in_bundle() -> Path:
    """The folder of the General bundle inside the package."""
    return Path(str(files("sightrank.general")))


def load_bundle(folder: Path) -> Bundle:
    """Reads the manifest and verifies the checksum of every file it names.

    Raises BundleError when a file is missing, altered, or of a kind this version cannot run.
    """
    manifest = checked_manifest(folder)
    try:
        names = manifest["files"]
        return Bundle(
            id=manifest["id"],
            version=manifest["version"],
            dims=int(manifest["dims"]),
            preprocessing=read_preprocessing(manifest, folder),
            embedder=folder / names["embedder"],
            tagger=folder / names["tagger"],
            vocabulary=folder / names["vocabulary"],
            words=folder / names["words"],
            licence=manifest["licence"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{folder / 'manifest.json'}: missing or wrong entry ({error}).") from error


def checked_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a model folder, once every file it names has the checksum it gives. Raises BundleError."""
    manifest = _manifest(folder)
    try:
        for name, digest in manifest["sha256"].items():
            _verify(folder / name, digest)
    except (KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{folder / 'manifest.json'}: missing or wrong entry ({error}).") from error
    return manifest


def read_preprocessing(manifest: dict[str, Any], folder: Path) -> Preprocessing:
    """Raises BundleError for a way of making the input that is not known; KeyError and the like for a missing entry."""
    preprocessing = manifest["preprocessing"]
    if preprocessing["resize"] != "squash" or preprocessing["interpolation"] != "bilinear":
        raise BundleError(f"{folder}: preprocessing {preprocessing} is not one this version of sightrank knows.")
    return Preprocessing(
        size=int(preprocessing["size"]), mean=_triple(preprocessing["mean"]), std=_triple(preprocessing["std"])
    )


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} cannot be read: {error}.") from error
    if not isinstance(manifest, dict):
        raise BundleError(f"{path} does not hold a JSON object.")
    return manifest


def _verify(path: Path, digest: str) -> None:
    try:
        actual = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error}.") from error
    if actual != digest:
        raise BundleError(f"{path} is not the file its manifest describes (SHA-256 differs). Install the bundle again.")


def _triple(values: list[float]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
