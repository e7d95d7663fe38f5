"""Films for tests: a picture for each second, each different from the others."""

from __future__ import annotations

import io
from collections.abc import Sequence

import av
import numpy as np
from PIL import Image
from tests.integration.serving import encoded, pixels

SIZE = (160, 120)


def scene(seed: int) -> Image.Image:
    """What a film shows for a second."""
    return pixels(seed, *SIZE)


def still(seed: int) -> bytes:
    """A photograph of that scene."""
    return encoded(scene(seed), "PNG")


def film(scenes: Sequence[int], *, seconds_each: int = 1, frames_a_second: int = 5, kind: str = "mp4") -> bytes:
    """An MP4 (``webm``, ``mov`` …) that shows the scenes one after the other."""
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as container:
        stream = container.add_stream("libvpx" if kind == "webm" else "libx264", rate=frames_a_second)
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        for seed in scenes:
            frame = av.VideoFrame.from_ndarray(np.asarray(scene(seed)), format="rgb24")
            for _ in range(seconds_each * frames_a_second):
                container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


def moving(scenes: Sequence[int], *, milliseconds_each: int = 1000) -> bytes:
    """A GIF that shows the scenes one after the other."""
    file = io.BytesIO()
    first, *others = [scene(seed) for seed in scenes]
    first.save(file, "GIF", save_all=True, append_images=others, duration=milliseconds_each, loop=0)
    return file.getvalue()
