"""Where videos come from, and how many of them are in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sightrank.ingest.fetch import Fetcher
from sightrank.ingest.media import HostedUrls, ImageSource
from sightrank.store.blobs import BlobStore
from sightrank.vision.eye import ImageLimits
from sightrank.vision.threads import Lane


@asynccontextmanager
async def source(folder: Path) -> AsyncIterator[tuple[ImageSource, BlobStore]]:
    """Without a database: only hosted URLs ask it."""
    database: Any = None
    blobs = BlobStore(folder)
    try:
        limits = ImageLimits(max_bytes=10, max_pixels=10)
        yield ImageSource(database, blobs, Fetcher(), HostedUrls("http://here"), limits), blobs
    finally:
        blobs.close()


def test_two_videos_of_a_lane_are_in_memory_and_the_next_waits(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with source(tmp_path) as (images, blobs):
            kept = await blobs.put(1, b"kept, and longer than an image may be")
            async with AsyncExitStack() as second:
                first = await second.enter_async_context(images.video(1, Lane.INTERACTIVE, blob=kept))
                async with images.video(1, Lane.INTERACTIVE, data=b"sent") as sent:
                    assert (first, sent) == (b"kept, and longer than an image may be", b"sent")
                    third = asyncio.create_task(watch(images, Lane.INTERACTIVE))
                    assert await watch(images, Lane.INGEST) == b"x"
                    assert not third.done()
                assert await third == b"x"

    asyncio.run(scenario())


def test_a_video_that_fails_gives_its_place_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with source(tmp_path) as (images, _):
            for _ in range(5):
                with pytest.raises(RuntimeError, match="no film"):
                    async with images.video(1, Lane.INGEST, data=b"x"):
                        raise RuntimeError("no film")
            assert await watch(images, Lane.INGEST) == b"x"

    asyncio.run(scenario())


async def watch(images: ImageSource, lane: Lane) -> bytes:
    async with images.video(1, lane, data=b"x") as data:
        return data
