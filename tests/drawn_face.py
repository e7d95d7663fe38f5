"""A face that is always at hand: drawn by the shades a cascade looks for."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

SIZE = (400, 300)
#: Where it is, in pixels: left, top, right, bottom.
HEAD = (140, 65, 260, 230)


def drawn_face(background: tuple[int, int, int] = (90, 110, 90)) -> NDArray[np.uint8]:
    """An RGB picture [300, 400, 3] of one person, from the front, and nothing else."""
    image = Image.new("RGB", SIZE, background)
    draw = ImageDraw.Draw(image)
    draw.ellipse((125, 40, 275, 170), fill=(40, 30, 20))  # hair
    draw.ellipse(HEAD, fill=(215, 175, 150))
    for middle in (174, 226):
        draw.ellipse((middle - 17, 118, middle + 17, 142), fill=(150, 110, 90))
        draw.ellipse((middle - 9, 125, middle + 9, 137), fill=(30, 20, 20))
        draw.rectangle((middle - 19, 108, middle + 19, 114), fill=(60, 40, 30))  # brow
    draw.rectangle((193, 125, 207, 165), fill=(235, 200, 175))  # nose
    draw.ellipse((186, 160, 214, 172), fill=(170, 125, 105))
    draw.ellipse((176, 188, 224, 202), fill=(120, 50, 50))  # mouth
    draw.rectangle((170, 230, 230, 300), fill=(190, 150, 130))  # neck
    return np.asarray(image.filter(ImageFilter.GaussianBlur(3)))


def jpeg(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=92)
    return file.getvalue()
