"""Image files of every kind to upright RGB pixels, and nothing but AppError for the rest."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from sightrank.errors import AppError, InputFailed, InputOverLimit
from sightrank.vision.decode import Decoded, crop, decode, resize

Pixels = NDArray[np.uint8]
PHOTOS = Path(__file__).resolve().parents[3] / "shared" / "data" / "photos.zip"


def photo(width: int, height: int, seed: int = 0) -> Pixels:
    """Soft colour fields, a few hard edges and a little grain."""
    rng = np.random.default_rng(seed)
    field = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
    field = field.resize((width, height), Image.Resampling.BICUBIC)
    pixels = np.asarray(field).astype(np.int16)
    for _ in range(8):
        top, left = rng.integers(0, height), rng.integers(0, width)
        pixels[top : top + height // 4, left : left + width // 5] += rng.integers(-60, 61, 3, dtype=np.int16)
    pixels += rng.integers(-4, 5, pixels.shape, dtype=np.int16)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def encoded(image: Image.Image | Pixels, kind: str, **options: object) -> bytes:
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def read(data: bytes, size: int | None = None, max_pixels: int = 85_000_000, max_bytes: int = 20_000_000) -> Decoded:
    return decode(data, size=size, max_pixels=max_pixels, max_bytes=max_bytes)


def test_transparency_over_white_is_the_same_in_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.dstack([photo(61, 47), np.random.default_rng(1).integers(0, 256, (47, 61), dtype=np.uint8)])
    palette = Image.fromarray(photo(61, 47)).quantize(16)
    files = [encoded(pixels, "PNG"), encoded(palette, "PNG", transparency=3)]
    whole = [read(data).pixels for data in files]
    monkeypatch.setattr("sightrank.vision.decode._STRIP_PIXELS", 200)

    assert all(np.array_equal(read(data).pixels, once) for data, once in zip(files, whole, strict=True))


def test_large_pictures_are_decoded_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sightrank.vision.decode._LARGE_PIXELS", 64 * 64 - 1)
    running, most = 0, 0
    load = PngImageFile.load

    def counted(image: PngImageFile) -> object:
        nonlocal running, most
        running += 1
        most = max(most, running)
        time.sleep(0.02)
        running -= 1
        return load(image)

    monkeypatch.setattr(PngImageFile, "load", counted)
    data = encoded(photo(64, 64), "PNG")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(read, [data] * 4))
        assert most == 1
        small = encoded(photo(63, 64), "PNG")
        list(pool.map(read, [small] * 4))
    assert most > 1


def error_of(a: Pixels, b: Pixels) -> float:
    assert a.shape == b.shape
    return float(np.abs(a.astype(np.int16) - b.astype(np.int16)).mean())


@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        ("JPEG", {"quality": 95}, 4.0),
        ("JPEG", {"quality": 95, "progressive": True}, 4.0),
        ("PNG", {}, 0.0),
        ("WEBP", {"lossless": True}, 0.0),
        ("WEBP", {"quality": 95}, 4.0),
        ("TIFF", {}, 0.0),
        ("TIFF", {"compression": "tiff_lzw"}, 0.0),
        ("TIFF", {"compression": "tiff_deflate"}, 0.0),
        ("BMP", {}, 0.0),
        ("GIF", {}, 12.0),
    ],
)
def test_every_format(kind: str, options: dict[str, object], tolerance: float) -> None:
    pixels = photo(97, 61)
    found = read(encoded(pixels, kind, **options))
    assert (found.width, found.height, found.format) == (97, 61, kind)
    assert found.color_mode == ("PALETTE" if kind == "GIF" else "RGB")
    assert found.pixels.dtype == np.uint8
    assert error_of(found.pixels, pixels) <= tolerance


def test_multi_picture_jpeg_gives_its_first_picture() -> None:
    pixels = photo(64, 48)
    second = Image.fromarray(photo(64, 48, seed=1))
    found = read(encoded(pixels, "MPO", save_all=True, append_images=[second], quality=95))
    assert found.format == "JPEG"
    assert error_of(found.pixels, pixels) < 6


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_frame_of_several(kind: str) -> None:
    first, second = (Image.new("RGB", (20, 10), color) for color in ("red", "blue"))
    found = read(encoded(first, kind, save_all=True, append_images=[second]))
    assert found.pixels.shape == (10, 20, 3)
    assert error_of(found.pixels, np.asarray(first)) < 4


def turned(pixels: Pixels, orientation: int) -> Pixels:
    """The stored pixels that this orientation turns into ``pixels``, by Pillow's own tables."""
    inverse = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    image = Image.fromarray(pixels)
    return np.asarray(image if inverse is None else image.transpose(inverse))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(kind: str, orientation: int) -> None:
    upright = photo(120, 80)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, object] = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    if kind == "WEBP":
        options = {"lossless": True}
    if kind == "TIFF":
        options = {"tiffinfo": {0x0112: orientation}}
    else:
        options["exif"] = exif.tobytes()
    data = encoded(turned(upright, orientation), kind, **options)
    found = read(data)
    assert (found.width, found.height) == (120, 80)
    assert error_of(found.pixels, upright) < 6
    small = read(data, size=20)
    assert (small.width, small.height) == (120, 80)
    assert error_of(resize(small.pixels, 20), resize(upright, 20)) < 6


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")  # as in a server, see the next test
def test_broken_exif_does_not_spoil_the_picture() -> None:
    pixels = photo(40, 30)
    for exif in (b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01" * 30):
        assert np.array_equal(read(encoded(pixels, "JPEG", exif=exif)).pixels, read(encoded(pixels, "JPEG")).pixels)


def test_remarks_of_the_libraries_reach_nobody(tmp_path: Path) -> None:
    exif = b"Exif\0\0II*\0\xff\xff\xff\xff"
    (tmp_path / "a.jpg").write_bytes(encoded(photo(40, 30), "JPEG", exif=exif))
    (tmp_path / "b.tif").write_bytes(encoded(photo(40, 30), "TIFF", compression="tiff_lzw")[:900])
    (tmp_path / "c.png").write_bytes(encoded(Image.new("1", (12_000, 8_000)), "PNG")[:9000])
    program = (
        "import pathlib, sys\n"
        "from sightrank.errors import AppError\n"
        "from sightrank.vision.decode import decode\n"
        "for name in sys.argv[1:]:\n"
        "    try: decode(pathlib.Path(name).read_bytes(), size=8, max_pixels=10**9, max_bytes=10**9)\n"
        "    except AppError: pass\n"
    )
    command = [sys.executable, "-c", program, *map(str, sorted(tmp_path.iterdir()))]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout + done.stderr == ""


def test_cmyk_jpeg() -> None:
    pixels = photo(64, 48)
    image = Image.fromarray(pixels).convert("CMYK")
    found = read(encoded(image, "JPEG", quality=95))  # Pillow writes it as Adobe does: inverted
    assert found.color_mode == "CMYK"
    assert error_of(found.pixels, np.asarray(image.convert("RGB"))) < 6
    assert min(read(encoded(image, "JPEG"), size=8).pixels.shape[:2]) >= 16


def test_gray_palette_and_one_bit() -> None:
    gray = Image.fromarray(photo(50, 40)).convert("L")
    expected = np.repeat(np.asarray(gray)[:, :, None], 3, axis=2)
    for kind in ("PNG", "TIFF", "BMP", "JPEG"):
        found = read(encoded(gray, kind))
        assert found.color_mode == "GRAY" or kind == "BMP"
        assert error_of(found.pixels, expected) < 3
    palette = Image.fromarray(photo(50, 40)).quantize(64)
    assert error_of(read(encoded(palette, "PNG")).pixels, np.asarray(palette.convert("RGB"))) == 0
    bits = gray.convert("1")
    assert set(np.unique(read(encoded(bits, "PNG")).pixels)) <= {0, 255}


def test_transparency_is_laid_over_white() -> None:
    half = Image.new("RGBA", (4, 4), (255, 0, 0, 128))
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    for kind in ("PNG", "WEBP", "TIFF"):
        options = {"lossless": True} if kind == "WEBP" else {}
        assert np.abs(read(encoded(half, kind, **options)).pixels.astype(int) - [255, 127, 127]).max() <= 1
        assert read(encoded(clear, kind, **options)).pixels.min() == 255
    gray = Image.new("LA", (4, 4), (10, 0))
    assert read(encoded(gray, "PNG")).pixels.min() == 255
    keyed = Image.new("RGB", (4, 4), (1, 2, 3))
    assert read(encoded(keyed, "PNG", transparency=(1, 2, 3))).pixels.min() == 255
    palette = Image.new("P", (4, 4), 5)
    palette.putpalette(bytes(range(96)))
    assert read(encoded(palette, "PNG", transparency=5)).pixels.min() == 255
    assert read(encoded(palette, "GIF", transparency=5)).pixels.min() == 255


def test_sixteen_bit_and_float_samples() -> None:
    ramp = np.linspace(0, 65535, 64, dtype=np.float64).astype(np.uint16).reshape(8, 8)
    expected = (ramp.astype(np.float64) / 257).round()
    for kind in ("PNG", "TIFF"):
        found = read(encoded(Image.fromarray(ramp), kind))
        assert found.color_mode == "GRAY"
        assert np.abs(found.pixels[:, :, 1] - expected).max() <= 1
    floats = Image.fromarray((ramp / 65535).astype(np.float32))
    assert np.abs(read(encoded(floats, "TIFF")).pixels[:, :, 0] - expected).max() <= 1
    integers = Image.fromarray(ramp.astype(np.int32))
    assert np.abs(read(encoded(integers, "TIFF")).pixels[:, :, 0] - expected).max() <= 1


def test_sixteen_bit_colour_png() -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    row = b"\0" + struct.pack(">6H", 65535, 32768, 0, 257, 0, 65535)
    body = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(row))
    found = read(b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b""))
    assert np.abs(found.pixels[0].astype(int) - [[255, 128, 0], [1, 0, 255]]).max() <= 1


def test_pixel_limit_is_checked_before_decoding() -> None:
    for kind in ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"):
        data = encoded(photo(40, 30), kind)
        assert read(data, max_pixels=1200).width == 40
        with pytest.raises(InputOverLimit, match="40 x 30 = 1200 pixels; the limit is 1199"):
            read(data, max_pixels=1199)
    with pytest.raises(InputOverLimit, match="bytes; the limit is 100"):
        read(encoded(photo(40, 30), "PNG"), max_bytes=100)


def test_bombs_cost_nothing() -> None:
    png = bytearray(encoded(Image.new("L", (8, 8)), "PNG"))
    png[16:24] = struct.pack(">II", 100_000, 100_000)
    png[29:33] = struct.pack(">I", zlib.crc32(bytes(png[12:29])))
    with pytest.raises(InputOverLimit):
        read(bytes(png))
    webp = b"RIFF\x3e\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff\xff\xff" * 2 + b"\0" * 40
    with pytest.raises(InputOverLimit):
        read(webp)
    gif = b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x02\x02\x44\x01\0;"
    with pytest.raises(InputOverLimit):
        read(gif)


def test_endless_progressive_scans_are_refused() -> None:
    data = encoded(photo(64, 64), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    with pytest.raises(InputFailed, match="scans"):
        read(data[:-2] + data[last:-2] * 300 + b"\xff\xd9")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html><body>404</body>", "an HTML page"),
        (b"  \n<!-- hi --><HTML>", "an HTML page"),
        (b"%PDF-1.7 ...", "a PDF document"),
        (b"<?xml version='1.0'?><svg xmlns='x'/>", "an SVG drawing"),
        (b"<svg/>", "an SVG drawing"),
        (b"<?xml version='1.0'?><a/>", "an XML document"),
        (b"\0\0\0\x20ftypheic\0\0\0\0", "a HEIC image"),
        (b"\0\0\0\x20ftypavif\0\0\0\0", "an AVIF image"),
        (b"\0\0\0\x20ftypisom\0\0\0\0", "an MP4 video"),
        (b"BMW is a car maker of note", "plain text"),
        ("größe".encode(), "plain text"),
        (b'{"error": 1}', "JSON text"),
        (b"PK\x03\x04....", "a ZIP archive"),
        (b"\x01\x02\x03\x04", "data of an unknown kind"),
        (b"<!-- -->" * 5000, "plain text"),
    ],
)
def test_what_is_no_image_is_named(data: bytes, text: str) -> None:
    with pytest.raises(InputFailed) as caught:
        read(data)
    assert text in caught.value.details


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"])
def test_truncated_files_fail(kind: str) -> None:
    data = encoded(photo(80, 60), kind)
    rng = np.random.default_rng(1)
    for end in rng.integers(3, int(len(data) * 0.97), 60):
        with pytest.raises(InputFailed):
            read(data[:end], size=16 if end % 2 else None)
    with pytest.raises(InputFailed, match=f"The {kind} ends early"):
        read(data[: len(data) // 2])


@pytest.mark.parametrize("kind", ["JPEG", "PROGRESSIVE", "PNG", "WEBP", "TIFF", "LZW", "BMP", "GIF", "MPO"])
def test_damaged_files_raise_nothing_else(kind: str) -> None:
    base = {"PROGRESSIVE": "JPEG", "LZW": "TIFF"}.get(kind, kind)
    options = {"PROGRESSIVE": {"progressive": True}, "LZW": {"compression": "tiff_lzw"}}
    data = encoded(photo(48, 40), base, **options.get(kind, {}))
    rng = np.random.default_rng(2)
    for _ in range(120):
        damaged = bytearray(data)
        for place in rng.integers(0, len(data) if rng.random() < 0.5 else 120, rng.integers(1, 6)):
            damaged[place] = rng.integers(0, 256)
        try:
            found = read(bytes(damaged), size=None, max_pixels=1_000_000)
        except AppError:
            continue
        else:
            assert found.pixels.shape == (found.height, found.width, 3)


def test_random_bytes_raise_nothing_else() -> None:
    rng = np.random.default_rng(3)
    starts = (b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\0", b"MM\0*", b"RIFF\0\0\0\0WEBP", b"BM")
    for index in range(400):
        with pytest.raises(AppError):
            read(starts[index % len(starts)] + rng.bytes(int(rng.integers(0, 300))), max_pixels=1_000_000)


def test_a_wrong_name_does_not_matter_only_the_bytes_do() -> None:
    data = encoded(photo(20, 20), "PNG")
    assert read(data).format == "PNG"
    with pytest.raises(InputFailed):
        read(b"\xff\xd8\xff" + data)


@pytest.mark.parametrize(("width", "height"), [(640, 427), (1000, 2000), (449, 448), (300, 60)])
def test_reduced_decode_keeps_twice_the_size(width: int, height: int) -> None:
    found = read(encoded(photo(width, height), "JPEG"), size=112)
    assert (found.width, found.height) == (width, height)
    assert min(found.pixels.shape[:2]) >= min(224, width, height)


def differences(files: list[bytes], size: int) -> list[float]:
    return [error_of(resize(read(data, size=size).pixels, size), resize(read(data).pixels, size)) for data in files]


def test_reduced_decode_looks_like_full_decode() -> None:
    files = [encoded(photo(1400, 1000, seed=seed), "JPEG", quality=88) for seed in range(6)]
    found = differences(files, 224)
    assert max(found) < 1.0, found


def test_reduced_decode_looks_like_full_decode_on_photos() -> None:
    if not PHOTOS.exists():
        pytest.skip(f"needs {PHOTOS.name} in the shared data folder")
    with zipfile.ZipFile(PHOTOS) as archive:
        names = [name for name in archive.namelist() if name.lower().endswith((".jpg", ".jpeg"))]
        files = [archive.read(name) for name in names[:: max(1, len(names) // 40)]]
    reduced = [data for data in files if read(data, size=64).pixels.shape != read(data).pixels.shape]
    assert reduced
    found = differences(reduced, 64)
    assert np.mean(found) < 1.5, found
    assert max(found) < 4.5, found


def test_crop_and_resize() -> None:
    pixels = photo(100, 50)
    assert np.array_equal(crop(pixels, 0, 0, 1, 1), pixels)
    assert np.array_equal(crop(pixels, 0.5, 0.25, 1.0, 0.75), pixels[25:, 25:75])
    assert np.array_equal(crop(pixels, -3, -1, 7, 2), pixels)
    for box in ((0.5, 0.5, 0.5, 0.5), (1, 1, 1, 1), (0, 0, 0, 0), (0.9, 0.9, 0.1, 0.1)):
        assert crop(pixels, *box).shape == (1, 1, 3)
    assert resize(crop(pixels, 1, 1, 1, 1), 32).shape == (32, 32, 3)
    assert resize(pixels, 17).shape == (17, 17, 3)
    assert crop(pixels, float("nan"), 0, 1, 1).size
