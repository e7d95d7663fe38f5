"""Sizes of stored images: made once, upright, never larger than asked."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests import films

from sightrank.errors import DoesNotExist, InputFailed, InputOverLimit
from sightrank.store.blobs import BlobStore, variant
from sightrank.vision import thumbnail as module
from sightrank.vision.thumbnail import LONGEST_SIDES, THUMBNAIL, MediaSizes, still, thumbnail


def image(width: int, height: int, kind: str = "JPEG", mode: str = "RGB", **options: object) -> bytes:
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (4, 6, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    small.resize((width, height), Image.Resampling.BICUBIC).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def small(data: bytes, longest_side: int) -> Image.Image:
    made = Image.open(io.BytesIO(thumbnail(data, longest_side, max_pixels=85_000_000, max_bytes=20_000_000)))
    made.load()
    assert made.format == "JPEG"
    return made


@pytest.mark.parametrize("longest_side", [112, 320, 1024])
@pytest.mark.parametrize(("width", "height"), [(1500, 1000), (1000, 1500), (1500, 1500), (2000, 20), (1, 1400)])
def test_longest_side(longest_side: int, width: int, height: int) -> None:
    made = small(image(width, height), longest_side)
    assert max(made.size) == longest_side
    share = longest_side / max(width, height)
    assert made.size == (max(1, round(width * share)), max(1, round(height * share)))
    expected = Image.open(io.BytesIO(image(width, height))).resize(made.size, Image.Resampling.LANCZOS)
    if min(width, height) >= 1000:
        assert np.abs(np.asarray(made).astype(int) - np.asarray(expected)).mean() < 3


def test_small_pictures_keep_their_size() -> None:
    assert small(image(50, 40), 112).size == (50, 40)


def test_orientation_and_transparency() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    made = small(image(600, 300, exif=exif.tobytes()), 112)
    assert made.size == (56, 112)
    assert 0x0112 not in made.getexif()
    buffer = io.BytesIO()
    Image.new("RGBA", (200, 100), (0, 0, 0, 0)).save(buffer, "PNG")
    assert np.asarray(small(buffer.getvalue(), 112)).min() > 250
    for kind, mode in (("PNG", "L"), ("PNG", "P"), ("WEBP", "RGB"), ("TIFF", "CMYK"), ("JPEG", "CMYK"), ("GIF", "P")):
        assert small(image(300, 200, kind, mode), 112).mode == "RGB"


def with_store(path: Path, work: Callable[[BlobStore, MediaSizes], Awaitable[None]]) -> None:
    async def run() -> None:
        store = BlobStore(path)
        sizes = MediaSizes(store, max_pixels=85_000_000, max_bytes=20_000_000)
        try:
            await work(store, sizes)
        finally:
            sizes.close()
            store.close()

    asyncio.run(run())


def test_media(tmp_path: Path) -> None:
    async def work(store: BlobStore, sizes: MediaSizes) -> None:
        data = image(640, 480, "PNG")
        key = await store.put(1, data)
        for size, longest_side in LONGEST_SIDES.items():
            made = await sizes.media(key, size)
            picture = Image.open(io.BytesIO(made))
            assert (picture.format, max(picture.size)) == ("JPEG", min(640, longest_side))
            assert await store.get(variant(key, size)) == made
            assert (await sizes.media(key, size)) == made
        with pytest.raises(DoesNotExist, match="sizes are orig, large, small, tiny"):
            await sizes.media(key, "huge")
        await store.delete(key)
        with pytest.raises(DoesNotExist):
            await sizes.media(key, "small")
        noise = await store.put(1, b"no image at all")
        with pytest.raises(InputFailed):
            await sizes.media(noise, "tiny")

    with_store(tmp_path, work)


def test_a_hundred_askers_cost_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def counted(data: bytes, longest_side: int, *, max_pixels: int, max_bytes: int) -> bytes:
        made.append(longest_side)
        return thumbnail(data, longest_side, max_pixels=max_pixels, max_bytes=max_bytes)

    monkeypatch.setattr(module, "thumbnail", counted)

    async def work(store: BlobStore, sizes: MediaSizes) -> None:
        key = await store.put(1, image(1500, 1000))
        askers = [asyncio.create_task(sizes.media(key, "small")) for _ in range(100)]
        await asyncio.sleep(0.005)
        askers[0].cancel()
        found = await asyncio.gather(*askers[1:])
        assert len(set(found)) == 1
        assert made == [320]
        assert await sizes.media(key, "small") == found[0]
        assert made == [320]

    with_store(tmp_path, work)


def test_images_do_not_wait_for_the_stills_of_videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, begun = threading.Event(), threading.Semaphore(0)
    at_once: list[int] = []
    running = 0

    def slow(data: bytes, longest_side: int, *, max_pixels: int) -> bytes:
        nonlocal running
        running += 1
        at_once.append(running)
        begun.release()
        go_on.wait(30)
        running -= 1
        return still(data, longest_side, max_pixels=max_pixels)

    monkeypatch.setattr(module, "still", slow)

    async def work(store: BlobStore, sizes: MediaSizes) -> None:
        keys = [await store.put(1, films.film(seconds)) for seconds in (1.0, 2.0, 3.0)]
        photo = await store.put(1, image(640, 480))
        askers = [asyncio.create_task(sizes.media(key, THUMBNAIL)) for key in keys]
        await asyncio.to_thread(begun.acquire)
        try:
            async with asyncio.timeout(60):
                made = await sizes.media(photo, "tiny")
        finally:
            go_on.set()
        assert Image.open(io.BytesIO(made)).size == (112, 84)
        assert [Image.open(io.BytesIO(one)).size for one in await asyncio.gather(*askers)] == [(96, 64)] * 3
        assert at_once == [1, 1, 1]

    with_store(tmp_path, work)


def test_a_video_whose_beginning_takes_too_much_work_has_no_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STILL_WORK_S", 0.0)

    with pytest.raises(InputOverLimit, match="takes longer than"):
        still(films.film(2.0), 320, max_pixels=1_000_000)
