"""Image files to pixels: JPEG, PNG, WebP, TIFF, BMP, GIF.

Pure functions, safe to call from many threads; decoding and resizing release the GIL. Nothing but ``AppError`` comes
out.

What a picture becomes: 8-bit RGB; the EXIF orientation is applied; transparency is laid over white; 16-bit and float
samples are scaled to 8 bits; CMYK is converted without a profile and colour profiles are ignored. Of an animation or a
file of several pages the first frame counts.
"""

from __future__ import annotations

import io
import math
import struct
import threading
import warnings
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from simplejpeg import decode_jpeg  # type: ignore[attr-defined]  # its __all__ holds no names

from sightrank.errors import AppError, InputFailed, InputOverLimit
from sightrank.vision import signature

Pixels = NDArray[np.uint8]

# Pillow's own limit warns or raises at a size of its choosing; ``decode`` checks every header against the caller's.
Image.MAX_IMAGE_PIXELS = None
# Remarks about odd metadata ("Corrupt EXIF data") are no concern of whoever runs a server.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

_MAX_JPEG_SCANS = 256
_LARGE_PIXELS = 20_000_000
# A picture of 85 megapixels takes up to a gigabyte while it is decoded: those above the bound go one after the other.
_one_large = threading.Lock()
_STRIP_PIXELS = 2**20
_ENDS_EARLY = ("truncated", "unexpected end", "not enough", "end of file", "eof", "failed to read next frame")
_COLOR_MODES = {"1": "GRAY", "L": "GRAY", "LA": "GRAYA", "P": "PALETTE", "PA": "PALETTE", "F": "GRAY", "I": "GRAY"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """``pixels`` [height, width, 3] RGB, perhaps reduced; ``width`` and ``height`` are those of the upright original.

    ``format`` is JPEG, PNG, WEBP, TIFF, BMP or GIF; ``color_mode`` the file's: RGB, RGBA, GRAY, GRAYA, PALETTE, CMYK …
    """

    pixels: Pixels
    width: int
    height: int
    format: str
    color_mode: str


def decode(data: bytes, *, size: int | None, max_pixels: int, max_bytes: int) -> Decoded:
    """Decodes an image file.

    With ``size``, JPEG pixels may come reduced, as long as both sides keep at least twice ``size``; with None they are
    complete. Only the bytes tell what the file is. Raises InputOverLimit for more than ``max_bytes`` or, before any
    pixel is decoded, more than ``max_pixels``, and InputFailed with the reason for what is no whole, valid image.
    """
    if len(data) > max_bytes:
        raise InputOverLimit(f"The image has {len(data)} bytes; the limit is {max_bytes}.")
    name = signature.image_format(data)
    if name is None:
        hint = " Send it as a video; to search by it, a still." if signature.video_format(data) else ""
        raise InputFailed(
            f"The content is {signature.looks_like(data)}; only JPEG, PNG, WebP, TIFF, BMP and GIF images can be read."
            f"{hint}"
        )
    try:
        if name == "WEBP":
            # Pillow makes room for the whole WebP canvas when it opens the file, so its size is read here first.
            width, height = _webp_size(data)
            _check_size(width, height, max_pixels)
            with _turn(width, height), _open(data, name) as image:
                _check_size(*image.size, max_pixels)
                return _decode_other(image, name)
        with _open(data, name) as image:
            _check_size(*image.size, max_pixels)
            with _turn(*image.size):
                return _decode_jpeg(data, image, size) if name == "JPEG" else _decode_other(image, name)
    except AppError:
        raise
    except Exception as error:
        # Damaged files make the libraries raise nearly everything (OSError, SyntaxError, struct.error, KeyError …).
        raise _failure(name, error) from error


def resize(pixels: Pixels, size: int) -> Pixels:
    """Squashes a picture to [size, size, 3]: bilinear, antialiased when it shrinks. The sides' ratio is not kept."""
    if pixels.shape[:2] == (size, size):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR))


def crop(pixels: Pixels, top: float, left: float, bottom: float, right: float) -> Pixels:
    """Cuts out a box given in shares of height and width (0..1, clamped); always at least one pixel."""
    height, width = pixels.shape[:2]
    first_row, last_row = _span(top, bottom, height)
    first_column, last_column = _span(left, right, width)
    return np.ascontiguousarray(pixels[first_row:last_row, first_column:last_column])


def _span(start: float, end: float, length: int) -> tuple[int, int]:
    if not (math.isfinite(start) and math.isfinite(end)):
        return 0, length
    first = min(max(math.floor(start * length + 0.5), 0), length - 1)
    return first, max(first + 1, min(math.floor(end * length + 0.5), length))


def _open(data: bytes, name: str) -> Image.Image:
    # A camera's multi-picture JPEG (MPO) is found by the JPEG plugin; its first picture is the photo.
    return Image.open(io.BytesIO(data), formats=("JPEG", "MPO") if name == "JPEG" else (name,))


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width <= 0 or height <= 0:
        raise InputFailed(f"The image says it is {width} x {height} pixels.")
    if width * height > max_pixels:
        raise InputOverLimit(f"The image has {width} x {height} = {width * height} pixels; the limit is {max_pixels}.")


def _turn(width: int, height: int) -> AbstractContextManager[object]:
    return _one_large if width * height > _LARGE_PIXELS else nullcontext()


def _decode_jpeg(data: bytes, image: Image.Image, size: int | None) -> Decoded:
    if data.count(b"\xff\xda") > _MAX_JPEG_SCANS:
        # Each scan of a progressive JPEG costs a pass over all pixels, but only a few bytes to write.
        raise InputFailed(f"The JPEG has more than {_MAX_JPEG_SCANS} scans.")
    orientation, (width, height) = _orientation(image), image.size
    mode = _color_mode(image)
    pixels = _jpeg_pixels(data, size) if image.mode in {"RGB", "L"} else None
    if pixels is None:
        if size is not None:
            image.draft(None, (2 * size, 2 * size))
        pixels = _to_rgb(image)
    if orientation >= 5:
        width, height = height, width
    return Decoded(pixels=_upright(pixels, orientation), width=width, height=height, format="JPEG", color_mode=mode)


def _jpeg_pixels(data: bytes, size: int | None) -> Pixels | None:
    """The fast way; None where it has doubts, for Pillow to judge, which forgives stray bytes but no missing ones."""
    try:
        if size is None:
            return np.asarray(decode_jpeg(data))
        # Scales of 1/2, 1/4, 1/8 have fast code; the ones between take longer than a full decode.
        return np.asarray(decode_jpeg(data, min_height=2 * size, min_width=2 * size, min_factor=2))
    except ValueError:
        return None


def _decode_other(image: Image.Image, name: str) -> Decoded:
    mode = _color_mode(image)
    image.load()
    # After loading: PNG may carry its EXIF behind the pixels, and TIFF is turned upright while it loads.
    pixels = _upright(_to_rgb(image), _orientation(image))
    height, width = pixels.shape[:2]
    return Decoded(pixels=pixels, width=width, height=height, format=name, color_mode=mode)


def _color_mode(image: Image.Image) -> str:
    return "GRAY" if image.mode.startswith("I;16") else _COLOR_MODES.get(image.mode, image.mode)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1..8. Broken EXIF data count as none: the picture is still good."""
    try:
        value = image.getexif().get(0x0112, 1)
        return int(value) if 1 <= value <= 8 else 1
    except Exception:
        return 1


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in {3, 4, 7, 8}:
        pixels = pixels[::-1]
    if orientation in {2, 3, 6, 7}:
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _to_rgb(image: Image.Image) -> Pixels:
    if image.mode == "F" or image.mode.startswith("I"):
        gray = _to_8_bits(np.asarray(image), sixteen_bits=image.mode.startswith("I;16"))
        return np.repeat(gray[:, :, None], 3, axis=2)
    if image.mode in {"LA", "PA", "RGBA", "La", "RGBa"} or "transparency" in image.info:
        image.load()
        return _over_white(image)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _over_white(image: Image.Image) -> Pixels:
    """In strips, so that no second and third copy of a large picture is made on the way."""
    width, height = image.size
    pixels = np.empty((height, width, 3), np.uint8)
    rows = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height))).convert("RGBA")
        ground = Image.new("RGB", strip.size, (255, 255, 255))
        ground.paste(strip, mask=strip.getchannel("A"))
        pixels[top : top + rows] = np.asarray(ground)
    return pixels


def _to_8_bits(samples: NDArray[np.generic], *, sixteen_bits: bool) -> Pixels:
    """16-bit samples by their range, integers and floats by the first of 1, 255, 65535 that holds them."""
    values = np.nan_to_num(samples.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    peak = float(values.max(initial=0.0))
    if sixteen_bits:
        top = 65535.0
    elif peak <= 1.0 and samples.dtype.kind == "f":
        top = 1.0
    else:
        top = 255.0 if peak <= 255.0 else max(65535.0, peak)
    return np.asarray(np.clip(values * (255.0 / top) + 0.5, 0.0, 255.0), dtype=np.uint8)


def _webp_size(data: bytes) -> tuple[int, int]:
    """Width and height from a WebP header, which also says how long the file is."""
    kind, announced = data[12:16], int.from_bytes(data[4:8], "little") + 8
    if len(data) < max(30, announced):
        raise EOFError(f"{len(data)} of {announced} bytes are here")
    if kind == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise ValueError("unknown first chunk")


def _failure(name: str, error: Exception) -> InputFailed:
    reason = (str(error) or type(error).__name__).splitlines()[0][:200]
    if isinstance(error, EOFError) or any(sign in reason.lower() for sign in _ENDS_EARLY):
        return InputFailed(f"The {name} ends early: bytes are missing ({reason}).")
    if isinstance(error, MemoryError):
        return InputFailed(f"The {name} needs more memory than there is.")
    return InputFailed(f"The {name} is damaged or of an unsupported kind ({reason}).")
