"""The detector of faces: OpenCV's Haar cascades, one for faces from the front and one for both profiles.

OpenCV is an extra (``pip install 'sightrank[faces]'``), so it is imported when a detector is made and not before.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sightrank.vision import overlaps
from sightrank.vision.box import Box
from sightrank.vision.detector import Detection
from sightrank.vision.object_detector import MOST_REGIONS
from sightrank.vision.vocabulary import Term

if TYPE_CHECKING:
    import cv2

#: Changes with the cascades and with everything below that decides what is found.
_VERSION = "haar-1"
#: Clarifai's concept of its first face model, with the names it has in the languages of the public vocabulary.
FACE = Term(
    id="ai_8jtPl3Xj",
    names=MappingProxyType(
        {
            "ar": "وجه",
            "bn": "মুখ",
            "da": "ansigt",
            "de": "Gesicht",
            "en": "face",
            "es": "cara",
            "fi": "kasvot",
            "fr": "visage",
            "hi": "चेहरा",
            "hu": "arc",
            "it": "viso",
            "ja": "顔",
            "ko": "얼굴",
            "nl": "gezicht",
            "no": "ansikt",
            "pa": "ਚਿਹਰਾ",
            "pl": "twarz",
            "pt": "rosto",
            "ru": "лицо",
            "sv": "ansikte",
            "tr": "yüz",
            "zh": "脸",
            "zh-TW": "臉",
        }
    ),
    hypernyms=(),
    definition="The front of a person's head.",
)

_LONGEST_SIDE = 640  # pixels; a larger picture is reduced to it
_STEP = 1.2  # from one size of faces looked for to the next
_NEIGHBOURS = 2  # places close by that must agree
_OVERLAP = 0.3  # from which two boxes show the same face
_LEAST_VALUE = 0.85


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cascade:
    """A cascade of OpenCV: ``smallest`` is the least side in pixels of what it looks for, and a face is as likely as
    sigmoid(scale * weight + bias), where ``weight`` is that of the last stage it passed. Fitted on 128 photographs of
    COCO, on which the faces among all candidates were marked by eye.
    """

    file: str
    smallest: int
    scale: float
    bias: float


_FRONTAL = _Cascade(file="haarcascade_frontalface_alt.xml", smallest=24, scale=1.338, bias=-141.055)
#: Trained on faces that look to the left; the others are found in the mirrored picture.
_PROFILE = _Cascade(file="haarcascade_profileface.xml", smallest=36, scale=0.645, bias=0.305)


class FaceDetector:
    """Faces, at least about 4 % of a picture's longer side wide. Thread-safe: every thread has cascades of its own.

    Raises ImportError where OpenCV is not installed or cannot be loaded.
    """

    concept_ids: tuple[str, ...] = (FACE.id,)
    provider = "OpenCV"
    version = _VERSION

    def __init__(self) -> None:
        self._cv, self._folder = _opencv()
        self._own = threading.local()

    def detect(self, pixels: NDArray[np.uint8]) -> list[Detection]:
        """The faces in an upright RGB picture [height, width, 3] of any size: at most 20, surest first."""
        grey = self._grey(pixels)
        mirrored = np.ascontiguousarray(grey[:, ::-1])
        frontal, profile = self._cascades()
        width = grey.shape[1]
        found = [
            *_places(frontal, _FRONTAL, grey),
            *_places(profile, _PROFILE, grey),
            *(
                (width - right, top, width - left, bottom, value)
                for left, top, right, bottom, value in _places(profile, _PROFILE, mirrored)
            ),
        ]
        return _detections(np.array(found, np.float32).reshape(-1, 5), grey.shape)

    def _grey(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The brightness of a picture, reduced to a bounded size, its contrast made even."""
        cv = self._cv
        height, width = pixels.shape[:2]
        factor = _LONGEST_SIDE / max(height, width)
        if factor < 1:
            size = (max(1, round(width * factor)), max(1, round(height * factor)))
            pixels = cv.resize(pixels, size, interpolation=cv.INTER_AREA)
        grey: NDArray[np.uint8] = cv.equalizeHist(cv.cvtColor(pixels, cv.COLOR_RGB2GRAY))
        return grey

    def _cascades(self) -> tuple[cv2.CascadeClassifier, cv2.CascadeClassifier]:
        """Those of the calling thread: a cascade keeps what it works on inside."""
        if not hasattr(self._own, "cascades"):
            load = self._cv.CascadeClassifier
            self._own.cascades = tuple(load(str(self._folder / cascade.file)) for cascade in (_FRONTAL, _PROFILE))
        frontal, profile = self._own.cascades
        return frontal, profile


def _opencv() -> tuple[ModuleType, Path]:
    """OpenCV and the folder of its cascades. It is told to work in the thread it is called in: pictures are looked at
    side by side, one core each. Nothing else in this process uses it.
    """
    import cv2

    folder = Path(cv2.__file__).parent / "data"
    if not all((folder / cascade.file).is_file() for cascade in (_FRONTAL, _PROFILE)):
        raise ImportError(f"OpenCV {cv2.__version__} has no cascades of faces in {folder}")
    cv2.setNumThreads(1)
    return cv2, folder


def _places(
    cascade: cv2.CascadeClassifier, kind: _Cascade, grey: NDArray[np.uint8]
) -> Iterator[tuple[float, float, float, float, float]]:
    """Left, top, right and bottom in pixels, and the value, of every place where the cascade sees a face."""
    boxes, _, weights = cascade.detectMultiScale3(
        grey,
        scaleFactor=_STEP,
        minNeighbors=_NEIGHBOURS,
        minSize=(kind.smallest, kind.smallest),
        outputRejectLevels=True,
    )
    for (left, top, width, height), weight in zip(boxes, np.ravel(weights), strict=True):
        value = 1 / (1 + np.exp(-(kind.scale * float(weight) + kind.bias)))
        yield left, top, left + width, top + height, value


def _detections(found: NDArray[np.float32], shape: tuple[int, ...]) -> list[Detection]:
    """``found`` has a row of four sides and a value for each place; what overlaps a surer one is the same face."""
    height, width = shape[:2]
    found = found[found[:, 4] >= _LEAST_VALUE]
    extent = np.array([width, height, width, height], np.float32)
    boxes: NDArray[np.float32] = np.clip(found[:, :4] / extent, 0, 1)
    kept = overlaps.surest(boxes, found[:, 4], limit=_OVERLAP, most=MOST_REGIONS)
    return [
        Detection(
            box=Box(
                left=float(boxes[at, 0]), top=float(boxes[at, 1]), right=float(boxes[at, 2]), bottom=float(boxes[at, 3])
            ),
            concept_id=FACE.id,
            value=float(found[at, 4]),
        )
        for at in kept
    ]
