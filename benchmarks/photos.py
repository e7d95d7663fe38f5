"""JPEG photographs of 640 pixels: the real ones where they are at hand, else generated ones."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

_GENERATED = 64
_SIZES = ((640, 480), (480, 640), (640, 427))


def photos(data: Path) -> tuple[list[bytes], str]:
    """Photographs, and a word on where they are from."""
    return _unpacked(data / "photos.zip") or ([_generated(seed) for seed in range(_GENERATED)], "generated")


def small_photos(data: Path) -> tuple[list[bytes], str]:
    """Photographs of about 64 pixels: posting them costs the machine little beside inference."""
    small = _unpacked(data / "eval-scenes64.zip")
    return small or ([_generated(seed, shrink=8) for seed in range(_GENERATED)], "generated")


def _unpacked(archive: Path) -> tuple[list[bytes], str] | None:
    if not archive.exists():
        return None
    with zipfile.ZipFile(archive) as opened:
        return [opened.read(name) for name in sorted(opened.namelist()) if name.endswith(".jpg")], archive.name


def distinct(files: Sequence[bytes], count: int, *, serial: int) -> list[bytes]:
    """``count`` files by turns, each made unique by a JPEG comment: nothing can be had from a cache of equal bytes."""
    return [_with_comment(files[i % len(files)], serial + i) for i in range(count)]


def _with_comment(jpeg: bytes, number: int) -> bytes:
    text = f"{number:012d}".encode()
    return jpeg[:2] + b"\xff\xfe" + struct.pack(">H", len(text) + 2) + text + jpeg[2:]


def _generated(seed: int, *, shrink: int = 1) -> bytes:
    """Soft shapes under fine noise: about as many bytes as a real photograph of this size."""
    random = np.random.default_rng(seed)
    width, height = _SIZES[seed % len(_SIZES)]
    size = (width // shrink, height // shrink)
    coarse = Image.fromarray(random.integers(0, 256, (9, 12, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
    noise = random.normal(0.0, 9.0, (size[1], size[0], 3))
    pixels = np.clip(np.asarray(coarse, np.float64) + noise, 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=75)
    return buffer.getvalue()
