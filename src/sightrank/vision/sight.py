"""One input as the networks of several eyes see it: looked at when it is asked for, and each part once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sightrank.errors import InputFailed, InputInvalid
from sightrank.vision.box import Box
from sightrank.vision.detector import Detection
from sightrank.vision.encoder import ImageEncoder
from sightrank.vision.eye import Eye, Pixels
from sightrank.vision.threads import Lane
from sightrank.vision.viewing import Viewed

Vectors = NDArray[np.float32]


class Sight(Protocol):
    """An input, or a frame of one. Raises an AppError for what cannot be seen in it."""

    async def vectors(self, eye: Eye, boxes: Sequence[Box | None]) -> Vectors:
        """Unit vectors [boxes, dims]; None stands for the whole."""
        ...

    async def detections(self, eye: Eye) -> Sequence[Detection]:
        """What the eye's detector finds."""
        ...


class PictureSight:
    """An image file. ``detecting`` are the eyes whose detections will be asked for: the file is decoded once for them
    and for what their encoders see.
    """

    def __init__(self, data: bytes, lane: Lane, detecting: Sequence[Eye] = ()) -> None:
        self._data = data
        self._lane = lane
        self._detecting = detecting
        self._pixels: dict[tuple[ImageEncoder, Box | None], Pixels] = {}
        self._vectors: dict[tuple[ImageEncoder, Box | None], Vectors] = {}
        self._detections: dict[Eye, tuple[Detection, ...]] = {}

    async def vectors(self, eye: Eye, boxes: Sequence[Box | None]) -> Vectors:
        """Raises InputFailed or InputOverLimit for what is no usable image."""
        missing = [box for box in dict.fromkeys(boxes) if (eye.encoder, box) not in self._vectors]
        if missing:
            pixels = await self._cut(eye, missing)
            for box, vector in zip(missing, await eye.embed(pixels, self._lane), strict=True):
                self._vectors[eye.encoder, box] = vector
        if not boxes:
            return np.empty((0, eye.encoder.dims), np.float32)
        return np.stack([self._vectors[eye.encoder, box] for box in boxes])

    async def detections(self, eye: Eye) -> Sequence[Detection]:
        """Raises InputFailed or InputOverLimit for what is no usable image."""
        if eye not in self._detections:
            prepared = await eye.prepare(self._data, (), self._lane, detect=True)
            parts = [None, *(detection.box for detection in prepared.detections)]
            self._pixels |= {(eye.encoder, part): pixels for part, pixels in zip(parts, prepared.pixels, strict=True)}
            self._detections[eye] = prepared.detections
        return self._detections[eye]

    async def _cut(self, eye: Eye, boxes: Sequence[Box | None]) -> Pixels:
        for detecting in self._detecting:
            if detecting.encoder is eye.encoder:
                await self.detections(detecting)
        missing = [box for box in boxes if (eye.encoder, box) not in self._pixels]
        if missing:
            wanted = [box for box in missing if box is not None]
            prepared = await eye.prepare(self._data, wanted, self._lane, detect=False)
            self._pixels |= {
                (eye.encoder, part): pixels for part, pixels in zip([None, *wanted], prepared.pixels, strict=True)
            }
        return np.stack([self._pixels[eye.encoder, box] for box in boxes])


class FrameSight:
    """A frame of a film: what each eye saw of it while the film was read."""

    def __init__(self, seen: Mapping[Eye, Viewed]) -> None:
        self._seen = seen

    async def vectors(self, eye: Eye, boxes: Sequence[Box | None]) -> Vectors:
        """Raises InputFailed for a region that none of these eyes has looked at."""
        seen = [viewed for one, viewed in self._seen.items() if one.encoder is eye.encoder]
        known = {box: vector for viewed in seen for box, vector in ((None, viewed.vector), *viewed.parts.items())}
        if not boxes:
            return np.empty((0, eye.encoder.dims), np.float32)
        if any(box not in known for box in boxes):
            raise InputFailed(
                "Regions of a video are looked at by the model that finds them only; take the frame as an image."
            )
        return np.stack([known[box] for box in boxes])

    async def detections(self, eye: Eye) -> Sequence[Detection]:
        return self._seen[eye].detections


class TextSight:
    """A text, for eyes that read."""

    def __init__(self, text: str) -> None:
        self._text = text

    async def vectors(self, eye: Eye, boxes: Sequence[Box | None]) -> Vectors:
        """Raises InputInvalid where the eye reads no texts."""
        if not eye.reads or any(box is not None for box in boxes):
            raise InputInvalid("This model looks at images and videos only; the input has a text.")
        vector = await eye.read(self._text)
        return np.stack([vector for _ in boxes])

    async def detections(self, eye: Eye) -> Sequence[Detection]:
        """Raises InputInvalid."""
        raise InputInvalid("This model looks at images and videos only; the input has a text.")
