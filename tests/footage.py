"""Films for searches: a picture for each second, each different from the others. (Films to read: films.py.)"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image
from tests import films
from tests.integration.serving import encoded, pixels

SIZE = (160, 120)


def scene(seed: int) -> Image.Image:
    """What a film shows for a second."""
    return pixels(seed, *SIZE)


def still(seed: int) -> bytes:
    """A photograph of that scene."""
    return encoded(scene(seed), "PNG")


def film(scenes: Sequence[int], *, seconds_each: int = 1, rate: int = 5, kind: str = "mp4") -> bytes:
    """An MP4 (``webm``, ``mov`` …) that shows the scenes one after the other; ``rate`` is frames a second."""
    shown = [np.asarray(scene(seed)) for seed in scenes for _ in range(seconds_each * rate)]
    codec = "libvpx" if kind == "webm" else "libx264"
    return films.film_of([(one, n / rate) for n, one in enumerate(shown)], rate=rate, format=kind, codec=codec)


def moving(scenes: Sequence[int]) -> bytes:
    """A GIF that shows the scenes one after the other, each for a second."""
    return films.gif([scene(seed) for seed in scenes], 1000)
