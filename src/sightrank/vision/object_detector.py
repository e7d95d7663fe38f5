"""The detector of people and common objects: a small one-stage network, run by ONNX Runtime.

Its bundle is a folder with ``detector.onnx`` and this manifest; each column of the network's scores has one entry in
``classes``, and several columns may mean one concept::

    {"id": "general-image-detection", "kind": "detector", "version": "...", "licence": "...",
     "preprocessing": {"size": 192, "resize": "squash", "interpolation": "bilinear", "mean": [...], "std": [...]},
     "files": {"detector": "detector.onnx"}, "overlap": 0.55,
     "classes": [{"label": "person", "concept": "ai_...", "scale": 1.1, "bias": 0.2, "threshold": 0.3}, ...],
     "sha256": {"detector.onnx": "..."}}
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from sightrank.vision import decode, overlaps
from sightrank.vision.box import Box
from sightrank.vision.bundle import BundleError, Preprocessing, checked_manifest, read_preprocessing
from sightrank.vision.detector import Detection
from sightrank.vision.session import Provider, open_session

MOST_REGIONS = 20
#: Overlap from which boxes of two concepts show the same thing: more than a rider and the horse have.
_SAME_THING = 0.75
#: Boxes looked at for overlaps; a picture with more than so many sure places has no more to tell.
_MOST_CANDIDATES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectedClass:
    """What a column of the network's scores means: ``value`` is sigmoid(scale * logit(score) + bias), shown from
    ``threshold`` on.
    """

    label: str
    concept_id: str
    scale: float
    bias: float
    threshold: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorBundle:
    """A checked detector folder. ``overlap`` is that from which two boxes of one concept show the same thing."""

    id: str
    version: str
    licence: str
    network: Path
    preprocessing: Preprocessing
    classes: tuple[DetectedClass, ...]
    overlap: float


def built_in_detector() -> Path:
    """The folder of the detector inside the package."""
    return Path(str(files("sightrank.detection")))


def load_detector_bundle(folder: Path) -> DetectorBundle:
    """Reads the manifest and verifies the checksums. Raises BundleError when something is missing or altered."""
    manifest = checked_manifest(folder)
    try:
        return DetectorBundle(
            id=manifest["id"],
            version=manifest["version"],
            licence=manifest["licence"],
            network=folder / manifest["files"]["detector"],
            preprocessing=read_preprocessing(manifest, folder),
            classes=tuple(
                DetectedClass(
                    label=entry["label"],
                    concept_id=entry["concept"],
                    scale=float(entry["scale"]),
                    bias=float(entry["bias"]),
                    threshold=float(entry["threshold"]),
                )
                for entry in manifest["classes"]
            ),
            overlap=float(manifest["overlap"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{folder / 'manifest.json'}: missing or wrong entry ({error}).") from error


class ObjectDetector:
    """The network of a detector bundle. ``threads`` is the number of cores one run may use. Thread-safe."""

    def __init__(self, bundle: DetectorBundle, *, threads: int, provider: Provider = "cpu") -> None:
        self._session = open_session(bundle.network, threads=threads, provider=provider)
        self.provider = self._session.get_providers()[0]
        self._size = bundle.preprocessing.size
        self._overlap = bundle.overlap
        mean = np.asarray(bundle.preprocessing.mean, np.float32)
        std = np.asarray(bundle.preprocessing.std, np.float32)
        self._factor = (1.0 / (255.0 * std)).astype(np.float32)
        self._offset = (mean / std).astype(np.float32)
        self._scale = np.array([each.scale for each in bundle.classes], np.float32)
        self._bias = np.array([each.bias for each in bundle.classes], np.float32)
        self._threshold = np.array([each.threshold for each in bundle.classes], np.float32)
        self.concept_ids = tuple(dict.fromkeys(each.concept_id for each in bundle.classes))
        self._concepts = np.array([self.concept_ids.index(each.concept_id) for each in bundle.classes])

    def warm_up(self) -> None:
        """Runs the network once, so that the first user does not wait for it."""
        self.detect(np.zeros((self._size, self._size, 3), np.uint8))

    def detect(self, pixels: NDArray[np.uint8]) -> list[Detection]:
        """What is in an upright RGB picture [height, width, 3] of any size: at most 20 regions, surest first."""
        squashed = decode.resize(pixels, self._size)
        batch = (squashed * self._factor - self._offset).transpose(2, 0, 1)[None]
        scores, boxes = cast(
            "list[NDArray[np.float32]]", self._session.run(["scores", "boxes"], {"pixels": np.ascontiguousarray(batch)})
        )
        return self._regions(self._values(scores[0]), np.clip(boxes[0], 0, 1))

    def _values(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Calibrated values [places, classes] of raw scores."""
        certain = np.clip(scores, 1e-6, 1 - 1e-6)
        logits = np.log(certain / (1 - certain))
        values: NDArray[np.float32] = 1 / (1 + np.exp(-(self._scale * logits + self._bias)))
        return values

    def _regions(self, values: NDArray[np.float32], boxes: NDArray[np.float32]) -> list[Detection]:
        places, columns = np.nonzero(values >= self._threshold)
        sure = values[places, columns]
        order = np.argsort(-sure, kind="stable")[:_MOST_CANDIDATES]
        places, sure, concepts = places[order], sure[order], self._concepts[columns[order]]
        kept = np.concatenate(
            [
                own[overlaps.surest(boxes[places[own]], sure[own], limit=self._overlap, most=MOST_REGIONS)]
                for own in (np.flatnonzero(concepts == concept) for concept in np.unique(concepts))
            ]
            or [np.empty(0, np.intp)]
        )
        # What is found as a bus, a train and a truck in one place is one thing, and one region.
        kept = kept[overlaps.surest(boxes[places[kept]], sure[kept], limit=_SAME_THING, most=MOST_REGIONS)]
        found = [_detection(boxes[places[at]], self.concept_ids[concepts[at]], float(sure[at])) for at in kept]
        # A box whose sides meet has nothing in it to look at.
        return [each for each in found if each.box.top < each.box.bottom and each.box.left < each.box.right]


def _detection(box: NDArray[np.float32], concept_id: str, value: float) -> Detection:
    left, top, right, bottom = (float(side) for side in box)
    return Detection(box=Box(top=top, left=left, bottom=bottom, right=right), concept_id=concept_id, value=value)
