"""An eye whose networks are a few lines: a picture's vector is its mean colour, and what it finds is its corner."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from tests import films

from sightrank.vision.batcher import Batcher
from sightrank.vision.box import Box
from sightrank.vision.decode import resize
from sightrank.vision.detector import Detection
from sightrank.vision.eye import Eye, ImageLimits
from sightrank.vision.threads import Threads

Pixels = NDArray[np.uint8]
CORNER = Box(top=0.0, left=0.0, bottom=0.5, right=0.5)


class Encoder:
    """Makes a picture's mean colour its vector."""

    size, dims, provider = 4, 3, "cpu"

    def fit(self, pixels: Pixels) -> Pixels:
        return resize(pixels, self.size)

    def embed(self, pixels: Pixels) -> NDArray[np.float32]:
        means = pixels.reshape(len(pixels), -1, 3).mean(axis=1)
        return (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)

    def warm_up(self) -> None:
        """Nothing to warm up."""


class Corner:
    """Finds one thing in every picture of 96 x 64, called by the colour of its corner."""

    concept_ids, provider = ("corner",), "cpu"

    def detect(self, pixels: Pixels) -> list[Detection]:
        assert pixels.shape == (64, 96, 3)
        return [Detection(box=CORNER, concept_id=str(films.named(pixels[:32, :48])), value=0.9)]


def watched_eye(threads: Threads, ran: Callable[[int], None] = lambda _: None) -> Eye:
    """``ran`` is told the size of every batch."""
    encoder = Encoder()

    def run(items: Sequence[Pixels]) -> NDArray[np.float32]:
        ran(len(items))
        return encoder.embed(np.stack(items))

    pictures: Batcher[Pixels] = Batcher("mean", run, threads=threads, sizes=(1, 4, 16, 32))
    limits = ImageLimits(max_bytes=10**7, max_pixels=10**6)
    return Eye(encoder, pictures, threads=threads, limits=limits, detector=Corner())
