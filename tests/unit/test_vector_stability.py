"""How a picture reaches the network must not change its vector: decoding at reduced size, orientation, batch padding.

The bound is the issue's: cosine >= 0.995 against the plain path, for the worst of 200 photos.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sightrank.vision import decode
from sightrank.vision.bundle import built_in_bundle, load_bundle
from sightrank.vision.embedder import Embedder

DATA = Path(__file__).parents[3] / "shared" / "data"
LOWEST_COSINE = 0.995
COUNT = 200
#: Exif orientation 6: the camera was turned; the stored picture must be turned a quarter clockwise to stand upright.
TURNED = 6


@cache
def embedder() -> Embedder:
    return Embedder(load_bundle(built_in_bundle()), threads=1)


def photo_files() -> Iterator[bytes]:
    """200 photographs: the library first, then larger ones of the evaluation sets."""
    for name in ("photos.zip", "eval-places.zip"):
        with zipfile.ZipFile(DATA / name) as archive:
            for entry in sorted(archive.namelist()):
                if entry.lower().endswith((".jpg", ".jpeg")):
                    yield archive.read(entry)


def drawn_photo(seed: int) -> bytes:
    """A JPEG with the statistics of a photograph: smooth shading, an edge or two, a little grain."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (6, 8, 3), np.uint8)).resize((640, 480), Image.Resampling.BICUBIC)
    pixels = np.asarray(coarse).astype(np.int16)
    top, left = random.integers(0, 300, 2)
    pixels[top : top + 150, left : left + 200] = random.integers(0, 256, 3)
    pixels += random.normal(0, 4, pixels.shape).astype(np.int16)
    stream = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(stream, "JPEG", quality=90)
    return stream.getvalue()


@pytest.fixture(scope="module", params=["drawn", "real"])
def photos(request: pytest.FixtureRequest) -> list[bytes]:
    if request.param == "drawn":
        return [drawn_photo(seed) for seed in range(24)]
    if not (DATA / "photos.zip").exists():
        pytest.skip(f"needs the photographs in {DATA.name}, which is not beside this checkout")
    files = photo_files()
    return [next(files) for _ in range(COUNT)]


def small(data: bytes, size: int | None) -> NDArray[np.uint8]:
    picture = decode.decode(data, size=size, max_pixels=10**8, max_bytes=10**8)
    return decode.resize(picture.pixels, embedder().size)


def plain(data: bytes) -> NDArray[np.uint8]:
    """The reference: the whole file decoded by Pillow, resized by Pillow."""
    side = embedder().size
    image = Image.open(io.BytesIO(data)).convert("RGB")
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))


def lowest_cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(np.einsum("ij,ij->i", one.astype(np.float64), other.astype(np.float64)).min())


def test_decoding_at_reduced_size_keeps_the_vector(photos: list[bytes]) -> None:
    reduced = embedder().embed(np.stack([small(data, embedder().size) for data in photos]))
    reference = embedder().embed(np.stack([plain(data) for data in photos]))
    assert lowest_cosine(reduced, reference) >= LOWEST_COSINE


def test_a_turned_camera_keeps_the_vector(photos: list[bytes]) -> None:
    upright, turned = [], []
    for data in photos[:64]:
        image = Image.open(io.BytesIO(data)).convert("RGB")
        stored, exif = io.BytesIO(), Image.Exif()
        exif[0x0112] = TURNED
        image.transpose(Image.Transpose.ROTATE_90).save(stored, "PNG", exif=exif)
        upright.append(plain(data))
        turned.append(small(stored.getvalue(), embedder().size))
    assert lowest_cosine(embedder().embed(np.stack(turned)), embedder().embed(np.stack(upright))) >= LOWEST_COSINE


@pytest.mark.parametrize("count", [2, 3, 5, 16, 17])
def test_a_batch_keeps_the_vectors_of_its_pictures(photos: list[bytes], count: int) -> None:
    pixels = np.stack([small(data, embedder().size) for data in photos[:count]])
    alone = np.concatenate([embedder().embed(one[None]) for one in pixels])
    together = embedder().embed(pixels)
    assert lowest_cosine(together, alone) >= 1 - 1e-5
    assert np.allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-5)
