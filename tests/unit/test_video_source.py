"""Where videos come from, and how many of them are in memory."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests import films

from sightrank.errors import InputOverLimit
from sightrank.ingest.fetch import Fetcher
from sightrank.ingest.media import HostedImage, HostedUrls, ImageSource
from sightrank.store.blobs import BlobStore, key_of
from sightrank.vision.eye import ImageLimits
from sightrank.vision.threads import Lane
from sightrank.vision.thumbnail import MediaSizes

FILM = films.film(2.0)
HOSTED = HostedImage(size="orig", user_id="me", app_id="app", input_id="film")


class _OneVideo:
    """The rows of an app that holds ``FILM``."""

    async def row(self, statement: str, parameters: Mapping[str, Any]) -> tuple[str, str]:
        return (key_of(1, FILM), "video") if "id" in parameters else ("me", "app")


@asynccontextmanager
async def source(folder: Path) -> AsyncIterator[tuple[ImageSource, BlobStore]]:
    """With no more of a database than hosted URLs ask."""
    database: Any = _OneVideo()
    blobs = BlobStore(folder)
    sizes = MediaSizes(blobs, max_pixels=10_000, max_bytes=10)
    try:
        limits = ImageLimits(max_bytes=10, max_pixels=10)
        yield ImageSource(database, blobs, sizes, Fetcher(), HostedUrls("http://here"), limits), blobs
    finally:
        sizes.close()
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


def test_a_hosted_file_may_be_no_larger_than_one_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with source(tmp_path) as (images, blobs):
            await blobs.put(1, FILM)
            url = HostedUrls("http://here").url(HOSTED)
            with pytest.raises(InputOverLimit, match=f"has {len(FILM)} bytes; at most 10 are accepted"):
                await images.load(1, url=url, blob="")
            async with images.video(1, Lane.INGEST, url=url) as data:
                assert data == FILM
            monkeypatch.setattr("sightrank.ingest.media.MAX_VIDEO_BYTES", len(FILM) - 1)
            with pytest.raises(InputOverLimit, match=f"at most {len(FILM) - 1} are accepted"):
                async with images.video(1, Lane.INGEST, url=url):
                    raise AssertionError("it was read")

    asyncio.run(scenario())


def test_the_thumbnail_of_a_video_is_an_image(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with source(tmp_path) as (images, blobs):
            await blobs.put(1, FILM)
            data = await images.load(1, url=HostedUrls("http://here").url(replace(HOSTED, size="thumbnail")), blob="")
            picture = Image.open(io.BytesIO(data))
            assert (picture.format, picture.size) == ("JPEG", (96, 64))

    asyncio.run(scenario())


async def watch(images: ImageSource, lane: Lane) -> bytes:
    async with images.video(1, lane, data=b"x") as data:
        return data
