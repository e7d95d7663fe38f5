"""Smaller versions of stored images and stills of videos, made when somebody first asks, kept beside the original."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import Final

import numpy as np
from PIL import Image
from simplejpeg import encode_jpeg  # type: ignore[attr-defined]  # its __all__ holds no names

from sightrank.errors import DoesNotExist
from sightrank.store.blobs import BlobMissingError, BlobStore, variant
from sightrank.vision.decode import Pixels, decode
from sightrank.vision.video import Reading

ORIGINAL: Final = "orig"
# The longest side of each size, in pixels.
LONGEST_SIDES: Final = {"large": 1024, "small": 320, "tiny": 112}
SIZES: Final = (ORIGINAL, *LONGEST_SIDES)
# A video has one still, as large as a small image.
THUMBNAIL: Final = "thumbnail"
VIDEO_SIZES: Final = (ORIGINAL, THUMBNAIL)
_STILL_MS: Final = 1000  # the still shows the middle of the first second
_STILL_WORK_S: Final = 5.0
_QUALITY: Final = 85


def thumbnail(data: bytes, longest_side: int, *, max_pixels: int, max_bytes: int) -> bytes:
    """A JPEG of the upright picture whose longest side is ``longest_side`` pixels; smaller pictures keep their size.

    Transparency becomes white. Raises InputFailed or InputOverLimit as ``decode`` does.
    """
    picture = decode(data, size=(longest_side + 1) // 2, max_pixels=max_pixels, max_bytes=max_bytes)
    return _reduced(picture.pixels, picture.width, picture.height, longest_side)


def still(data: bytes, longest_side: int, *, max_pixels: int) -> bytes:
    """A JPEG of the beginning of a video, as ``thumbnail`` makes one of a picture. Raises what ``Reading`` raises, and
    InputOverLimit for a video whose beginning takes more than a few seconds of work.
    """
    with closing(Reading(data, sample_ms=_STILL_MS, max_pixels=max_pixels, max_work_s=_STILL_WORK_S)) as reading:
        pixels = next(sample.pixels for sample in reading.steps() if sample is not None)
    return _reduced(pixels, pixels.shape[1], pixels.shape[0], longest_side)


def _reduced(pixels: Pixels, width: int, height: int, longest_side: int) -> bytes:
    """``width`` and ``height`` are those of the original, of which ``pixels`` may be a reduced version."""
    share = min(1.0, longest_side / max(width, height))
    width, height = max(1, round(width * share)), max(1, round(height * share))
    if pixels.shape[:2] != (height, width):
        pixels = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))
    return bytes(encode_jpeg(np.ascontiguousarray(pixels), quality=_QUALITY, colorsubsampling="420"))


class MediaSizes:
    """Serves the sizes of stored images; however many ask at once, each is made once. ``close()`` ends its threads."""

    def __init__(self, store: BlobStore, *, max_pixels: int, max_bytes: int, threads: int = 2) -> None:
        self._store = store
        self._max_pixels = max_pixels
        self._max_bytes = max_bytes
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="thumbnail")
        self._making: dict[str, asyncio.Task[bytes]] = {}
        # A still takes a while, and a whole video, up to 300 MB: one at a time, so that images find a thread.
        self._stills = asyncio.Semaphore(1)

    def close(self) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)

    async def media(self, key: str, size: str) -> bytes:
        """The image of ``key`` as a JPEG of one of ``LONGEST_SIDES``, or the ``THUMBNAIL`` of the video of that key.

        Raises DoesNotExist for an unknown key or size, InputFailed when the original is no image, or no video, that can
        be read, and InputOverLimit when it takes too much.
        """
        if size not in (*LONGEST_SIDES, THUMBNAIL):
            raise DoesNotExist(f"There is no size {size[:40]!r}; the sizes are {', '.join(SIZES)}.")
        name = variant(key, size)
        try:
            return await self._store.get(name)
        except BlobMissingError:
            return await self._made(key, size, name)

    async def _made(self, key: str, size: str, name: str) -> bytes:
        task = self._making.get(name)
        if task is None:
            task = asyncio.create_task(self._make(key, size))
            self._making[name] = task
            task.add_done_callback(lambda done: self._forget(name, done))
        # Shielded: a caller that goes away must not spoil it for the others.
        return await asyncio.shield(task)

    def _forget(self, name: str, task: asyncio.Task[bytes]) -> None:
        del self._making[name]
        if not task.cancelled():
            task.exception()  # read here, in case every caller has gone away

    async def _make(self, key: str, size: str) -> bytes:
        if size == THUMBNAIL:
            async with self._stills:
                film = await self._original(key)
                made = await self._run(lambda: still(film, LONGEST_SIDES["small"], max_pixels=self._max_pixels))
        else:
            original = await self._original(key)
            made = await self._run(
                lambda: thumbnail(original, LONGEST_SIDES[size], max_pixels=self._max_pixels, max_bytes=self._max_bytes)
            )
        with suppress(BlobMissingError):  # deleted just now: this answer is the last one
            await self._store.put_variant(key, size, made)
        return made

    async def _run(self, work: Callable[[], bytes]) -> bytes:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def _original(self, key: str) -> bytes:
        try:
            return await self._store.get(key)
        except BlobMissingError:
            raise DoesNotExist("The file is no longer there.") from None
