"""Check that a photo's vector does not depend on how the photo was decoded, batched or stored.

Compared with the full decode: a decode scaled by the JPEG library to no less than twice the network's side, a batch
filled up with empty pictures, and the same photo stored lying down with an EXIF orientation.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from training import bundle, data, export

NEEDED = 0.995
PHOTOS = 200
ORIENTATION_TAG, ROTATE_TO_SHOW = 0x0112, 6
QUALITY = 92

Pixels = npt.NDArray[np.uint8]


def samples(path: Path) -> list[bytes]:
    """The photographs, and from the first ones their upper left three quarters, until there are enough."""
    whole = data.photo_bytes(path)
    cut = [stored(opened.crop((0, 0, opened.width * 3 // 4, opened.height * 3 // 4))) for opened in map(decode, whole)]
    return (whole + cut)[:PHOTOS]


def decode(content: bytes) -> Image.Image:
    """The server's slow path: every pixel, upright, RGB."""
    return ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")


def decode_scaled(content: bytes, side: int) -> Image.Image:
    """The server's fast path: the JPEG library leaves out detail above twice the side."""
    image = Image.open(io.BytesIO(content))
    image.draft("RGB", (2 * side, 2 * side))
    return ImageOps.exif_transpose(image).convert("RGB")


def stored(image: Image.Image, orientation: int | None = None) -> bytes:
    """The picture as JPEG."""
    exif = Image.Exif()
    if orientation:
        exif[ORIENTATION_TAG] = orientation
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY, exif=exif)
    return buffer.getvalue()


def worst(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> float:
    return float((first * second).sum(axis=1).min())


def check(photos: Path, folder: Path) -> dict[str, float]:
    """The smallest cosine of each comparison."""
    side = json.loads((folder / "manifest.json").read_text())["preprocessing"]["size"]
    session = export.session(folder / "embedder.onnx")
    contents = samples(photos)

    def vectors(images: list[Image.Image]) -> npt.NDArray[np.float32]:
        return bundle.vectors_of(session, np.stack([data.squash(image, side) for image in images]))

    full = [decode(content) for content in contents]
    plain = vectors(full)
    pixels = np.stack([data.squash(image, side) for image in full])
    alone = np.concatenate([bundle.vectors_of(session, pixels[row : row + 1]) for row in range(len(pixels))])
    padded = np.concatenate([padded_vector(session, pixels[row]) for row in range(len(pixels))])
    upright = vectors([decode(stored(image)) for image in full])
    lying = [stored(image.transpose(Image.Transpose.ROTATE_90), ROTATE_TO_SHOW) for image in full]
    return {
        "scaled decode": worst(plain, vectors([decode_scaled(content, side) for content in contents])),
        "alone": worst(plain, alone),
        "padded batch": worst(plain, padded),
        "EXIF twin": worst(upright, vectors([decode(content) for content in lying])),
    }


def padded_vector(session: object, picture: Pixels) -> npt.NDArray[np.float32]:
    """The vector of a picture among empty ones."""
    batch = np.zeros((8, *picture.shape), dtype=np.uint8)
    batch[0] = picture
    return bundle.vectors_of(session, batch)[:1]  # type: ignore[arg-type]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    chosen = parser.parse_args()
    found = check(chosen.data / "photos.zip", chosen.folder)
    for name, value in found.items():
        print(f"{name}: worst cosine {value:.5f} {'ok' if value >= NEEDED else 'TOO LOW'}")
    sys.exit(0 if min(found.values()) >= NEEDED else 1)


if __name__ == "__main__":
    main()
