"""The base workflow's networks and the threads they run on.

One ``Eye`` serves interactive queries and ingest. Decoding and inference have a pool of threads each. A batch runs on
one thread: several batches side by side get more out of the cores than one that is spread over them (`make bench`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sightrank.errors import ServerBusy
from sightrank.vision import decode
from sightrank.vision.bundle import Bundle
from sightrank.vision.embedder import Embedder
from sightrank.vision.tagger import Tagger

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLimits:
    """What an image may be: bytes of the file, pixels of the picture."""

    max_bytes: int
    max_pixels: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A region in shares of the picture's height and width, 0..1."""

    top: float
    left: float
    bottom: float
    right: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A decoded picture: ``pixels`` [1 + boxes, size, size, 3], the whole picture first, then each box."""

    pixels: NDArray[np.uint8]
    width: int
    height: int
    format: str
    color_mode: str


class Eye:
    """Embedder and tagger of the base workflow. ``close()`` ends its threads."""

    def __init__(self, bundle: Bundle, *, threads: int, limits: ImageLimits) -> None:
        self.bundle = bundle
        self.embedder = Embedder(bundle, threads=1)
        self.tagger = Tagger(bundle)
        self.limits = limits
        self.threads = threads
        self._decoders = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._inference = ThreadPoolExecutor(threads, thread_name_prefix="infer")
        self._queries = asyncio.Semaphore(256)

    def close(self) -> None:
        self._decoders.shutdown(wait=True, cancel_futures=True)
        self._inference.shutdown(wait=True, cancel_futures=True)

    async def prepare(self, data: bytes, boxes: tuple[Box, ...] = ()) -> Prepared:
        """Decodes an image file and cuts out ``boxes``. Raises InputFailed or InputOverLimit for what is no usable
        image.
        """
        return await self._in(self._decoders, lambda: self._prepare(data, boxes))

    async def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """[n, size, size, 3] pixels to unit vectors [n, dims]."""
        return await self._in(self._inference, lambda: self.embedder.embed(pixels))

    @asynccontextmanager
    async def query(self) -> AsyncIterator[None]:
        """A place among the image queries, held from before the image is there. Raises ServerBusy when all are full."""
        if self._queries.locked():
            raise ServerBusy("Too many image queries are waiting; try again in a moment.")
        async with self._queries:
            yield

    async def look(self, data: bytes) -> NDArray[np.float32]:
        """The unit vector [dims] of one image file, for a query."""
        prepared = await self.prepare(data)
        vector: NDArray[np.float32] = (await self.embed(prepared.pixels))[0]
        return vector

    def _prepare(self, data: bytes, boxes: tuple[Box, ...]) -> Prepared:
        size = self.embedder.size
        picture = decode.decode(
            data,
            # A crop needs the picture at full size; the whole picture alone only at twice the network's input.
            size=None if boxes else size,
            max_pixels=self.limits.max_pixels,
            max_bytes=self.limits.max_bytes,
        )
        parts = [picture.pixels, *(decode.crop(picture.pixels, b.top, b.left, b.bottom, b.right) for b in boxes)]
        return Prepared(
            pixels=np.stack([decode.resize(part, size) for part in parts]),
            width=picture.width,
            height=picture.height,
            format=picture.format,
            color_mode=picture.color_mode,
        )

    @staticmethod
    async def _in(pool: ThreadPoolExecutor, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(pool, work)
