"""One input as the networks of several eyes see it: looked at when it is asked for, and each part once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sightrank.errors import InputInvalid
from sightrank.vision.box import Box
from sightrank.vision.detector import Detection
from sightrank.vision.encoder import ImageEncoder
from sightrank.vision.eye import Eye, Pixels
from sightrank.vision.threads import Lane
from sightrank.vision.together import Together

Vectors = NDArray[np.float32]


class Sight(Protocol):
    """An input, or a frame of one. Raises an AppError for what cannot be seen in it."""

    async def vectors(self, eye: Eye, boxes: Sequence[Box | None]) -> Vectors:
        """Unit vectors [boxes, dims]; None stands for the whole."""
        ...

    async def detections(self, eye: Eye, boxes: Sequence[Box | None]) -> Sequence[Sequence[Detection]]:
        """What the eye's detector finds in each, by its place in the whole; None stands for the whole."""
        ...


class PictureSight:
    """An image file, or a frame of a film [height, width, 3]. ``detecting`` are the eyes whose detections in the whole
    will be asked for: a file is decoded once for them and for what their encoders see. ``places``: what one call does
    in threads, as many pictures at a time as there are places, so that whoever comes to the same threads with a
    question of their own is behind a few of them only. ``together``: those with which it shares runs of networks.
    """

    def __init__(
        self,
        data: bytes | Pixels,
        lane: Lane,
        detecting: Sequence[Eye] = (),
        places: asyncio.Semaphore | None = None,
        together: Together | None = None,
    ) -> None:
        self._data = data
        self._lane = lane
        self._detecting = detecting
        self._together = together
        self._place = places or nullcontext()
        self._pixels: dict[tuple[ImageEncoder, Box | None], Pixels] = {}
        self._vectors: dict[tuple[ImageEncoder, Box | None], Vectors] = {}
        self._detections: dict[tuple[Eye, Box | None], tuple[Detection, ...]] = {}

    async def vectors(self, eye: Eye, boxes: Sequence[Box | None]) -> Vectors:
        """Raises InputFailed or InputOverLimit for what is no usable image."""
        missing = [box for box in dict.fromkeys(boxes) if (eye.encoder, box) not in self._vectors]
        if missing:
            pixels = await self._cut(eye, missing)
            embedded = self._together.embed(eye, pixels) if self._together else eye.embed(pixels, self._lane)
            for box, vector in zip(missing, await embedded, strict=True):
                self._vectors[eye.encoder, box] = vector
        if not boxes:
            return np.empty((0, eye.encoder.dims), np.float32)
        return np.stack([self._vectors[eye.encoder, box] for box in boxes])

    async def detections(self, eye: Eye, boxes: Sequence[Box | None]) -> Sequence[Sequence[Detection]]:
        """Raises InputFailed or InputOverLimit for what is no usable image."""
        if None in boxes:
            await self._detect(eye)
        missing = [box for box in dict.fromkeys(boxes) if box is not None and (eye, box) not in self._detections]
        if missing:
            async with self._place:
                found_in_parts = await eye.detect_in(self._data, missing, self._lane)
            self._detections |= {(eye, box): found for box, found in zip(missing, found_in_parts, strict=True)}
        return [self._detections[eye, box] for box in boxes]

    async def _detect(self, eye: Eye) -> None:
        if (eye, None) in self._detections:
            return
        async with self._place:
            prepared = await eye.prepare(self._data, (), self._lane, detect=True)
        parts = [None, *(detection.box for detection in prepared.detections)]
        self._pixels |= {(eye.encoder, part): pixels for part, pixels in zip(parts, prepared.pixels, strict=True)}
        self._detections[eye, None] = prepared.detections

    async def _cut(self, eye: Eye, boxes: Sequence[Box | None]) -> Pixels:
        for detecting in self._detecting:
            if detecting.encoder is eye.encoder:
                await self._detect(detecting)
        missing = [box for box in boxes if (eye.encoder, box) not in self._pixels]
        if missing:
            wanted = [box for box in missing if box is not None]
            async with self._place:
                prepared = await eye.prepare(self._data, wanted, self._lane, detect=False)
            self._pixels |= {
                (eye.encoder, part): pixels for part, pixels in zip([None, *wanted], prepared.pixels, strict=True)
            }
        # Their vectors are kept, so nobody wants these again; a film has thousands of them.
        return np.stack([self._pixels.pop((eye.encoder, box)) for box in boxes])


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

    async def detections(self, eye: Eye, boxes: Sequence[Box | None]) -> Sequence[Sequence[Detection]]:
        """Raises InputInvalid."""
        raise InputInvalid("This model looks at images and videos only; the input has a text.")
