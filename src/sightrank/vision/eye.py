"""What one workflow sees with: its networks, and the way from an image file to vectors.

Decoding and inference have threads of their own in two lanes (vision/threads); the pictures of all that is under way
share runs of a network (vision/batcher). A run takes one thread: several side by side get more out of the cores than
one that is spread over them (`make bench`).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sightrank.errors import ServerBusy
from sightrank.vision import decode
from sightrank.vision.batcher import Batcher
from sightrank.vision.box import Box
from sightrank.vision.detector import Detection, Detector
from sightrank.vision.encoder import ImageEncoder
from sightrank.vision.tagger import Tagger, TaggerRow
from sightrank.vision.threads import Lane, Threads

_Value = TypeVar("_Value")
Pixels = NDArray[np.uint8]
Vectors = NDArray[np.float32]
_MOST_QUERIES = 256
_KEPT = 1024  # texts and names whose vectors are remembered
_PARTS = 4  # parts of a picture that are searched in one turn of a thread: less than a second


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLimits:
    """What an image may be: bytes of the file, pixels of the picture."""

    max_bytes: int
    max_pixels: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prepared:
    """A decoded picture. ``pixels`` [1 + boxes + detections, size, size, 3]: first the whole picture, then the
    boxes asked for, then the detections. ``format`` and ``color_mode`` are those of its file, '' without one.
    """

    pixels: Pixels
    width: int
    height: int
    format: str
    color_mode: str
    detections: tuple[Detection, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reader:
    """The text tower beside a picture tower: ``texts`` makes vectors, ``row`` a tagger's row for a name."""

    texts: Batcher[str]
    row: Callable[[str], TaggerRow]


class Queries:
    """Places for image queries of all workflows, held from before the image is there."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(_MOST_QUERIES)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Raises ServerBusy when all are taken."""
        if self._places.locked():
            raise ServerBusy("Too many image queries are waiting; try again in a moment.")
        async with self._places:
            yield


class Eye:
    """The networks of one workflow. Eyes with the same encoder share its batcher, and all share their threads."""

    def __init__(
        self,
        encoder: ImageEncoder,
        pictures: Batcher[Pixels],
        *,
        threads: Threads,
        limits: ImageLimits,
        tagger: Tagger | None = None,
        detector: Detector | None = None,
        reader: Reader | None = None,
    ) -> None:
        self.encoder = encoder
        self.tagger = tagger
        self.detector = detector
        self.limits = limits
        self.threads = threads
        self._pictures = pictures
        self._reader = reader
        self._texts_read: OrderedDict[str, Vectors] = OrderedDict()
        self._names_read: OrderedDict[str, TaggerRow] = OrderedDict()

    def with_detector(self, detector: Detector) -> Eye:
        """An eye with the same networks that also finds regions."""
        return Eye(
            self.encoder,
            self._pictures,
            threads=self.threads,
            limits=self.limits,
            tagger=self.tagger,
            detector=detector,
            reader=self._reader,
        )

    @property
    def reads(self) -> bool:
        """Whether a text can be made a vector among those of the pictures."""
        return self._reader is not None

    async def prepare(self, data: bytes | Pixels, boxes: Sequence[Box], lane: Lane, *, detect: bool) -> Prepared:
        """Decodes an image file, cuts out ``boxes`` and, with ``detect``, what the detector finds. ``data`` may also be
        an upright picture [height, width, 3] that is decoded already, such as a frame of a film.

        Raises InputFailed or InputOverLimit for what is no usable image.
        """
        return await self.threads.decode(lane, lambda: self._prepare(data, boxes, detect=detect))

    async def detect_in(self, data: bytes | Pixels, boxes: Sequence[Box], lane: Lane) -> list[tuple[Detection, ...]]:
        """What the detector finds in each of these parts of a picture, by its place in the whole of it. Raises what
        ``prepare`` does.
        """
        found: list[tuple[Detection, ...]] = []
        for start in range(0, len(boxes), _PARTS):
            # A file is decoded anew at each turn: nobody keeps a picture in full size while others have theirs.
            some = boxes[start : start + _PARTS]
            found += await self.threads.decode(lane, partial(self._detect_in, data, some))
        return found

    async def embed(self, pixels: Pixels, lane: Lane) -> Vectors:
        """[n, size, size, 3] pixels to unit vectors [n, dims]."""
        return await self._pictures.submit(list(pixels), lane)

    async def look(self, data: bytes) -> Vectors:
        """The unit vector [dims] of one image file, for a query."""
        prepared = await self.prepare(data, (), Lane.INTERACTIVE, detect=False)
        vector: Vectors = (await self.embed(prepared.pixels, Lane.INTERACTIVE))[0]
        return vector

    async def read(self, text: str) -> Vectors:
        """The unit vector [dims] of a text, for a query. Only where ``reads``."""
        assert self._reader is not None, "this workflow has no text tower"
        vector = self._texts_read.get(text)
        if vector is None:
            vector = (await self._reader.texts.submit([text], Lane.INTERACTIVE))[0]
        _remember(self._texts_read, text, vector)
        return vector

    async def name_row(self, name: str) -> TaggerRow:
        """How a tagger would predict what is called so, without ever having been shown it. Only where ``reads``."""
        reader = self._reader
        assert reader is not None, "this workflow has no text tower"
        row = self._names_read.get(name)
        if row is None:
            row = await self.threads.infer(Lane.INTERACTIVE, lambda: reader.row(name))
        _remember(self._names_read, name, row)
        return row

    def top(self, vectors: Vectors, count: int) -> list[list[tuple[str, float]]]:
        """For each vector the likeliest concepts as (id, probability); none without a tagger."""
        return self.tagger.top(vectors, count) if self.tagger else [[] for _ in vectors]

    def _detect_in(self, data: bytes | Pixels, boxes: Sequence[Box]) -> list[tuple[Detection, ...]]:
        assert self.detector is not None, "who detects has a detector"
        pixels = self._decoded(data, None).pixels
        return [
            tuple(
                replace(found, box=found.box.of(box))
                for found in self.detector.detect(decode.crop(pixels, box.top, box.left, box.bottom, box.right))
            )
            for box in boxes
        ]

    def _decoded(self, data: bytes | Pixels, size: int | None) -> decode.Decoded:
        if isinstance(data, np.ndarray):
            height, width = data.shape[:2]
            return decode.Decoded(pixels=data, width=width, height=height, format="", color_mode="")
        return decode.decode(data, size=size, max_pixels=self.limits.max_pixels, max_bytes=self.limits.max_bytes)

    def _prepare(self, data: bytes | Pixels, boxes: Sequence[Box], *, detect: bool) -> Prepared:
        detector = self.detector if detect else None
        # A crop needs the picture at full size; the whole picture alone only at twice the network's input.
        picture = self._decoded(data, None if boxes or detector else self.encoder.size)
        detections = tuple(detector.detect(picture.pixels)) if detector else ()
        cuts = [*boxes, *(detection.box for detection in detections)]
        parts = [picture.pixels, *(decode.crop(picture.pixels, b.top, b.left, b.bottom, b.right) for b in cuts)]
        return Prepared(
            pixels=np.stack([self.encoder.fit(part) for part in parts]),
            width=picture.width,
            height=picture.height,
            format=picture.format,
            color_mode=picture.color_mode,
            detections=detections,
        )


def _remember(kept: OrderedDict[str, _Value], key: str, value: _Value) -> None:
    """Keeps what was used last."""
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > _KEPT:
        kept.popitem(last=False)
