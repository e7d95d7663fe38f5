"""Pictures to unit vectors, by ONNX Runtime.

A session is thread-safe. Batches have a few fixed sizes, because every new input shape makes ONNX Runtime plan and
allocate again. A padded place costs as much as a picture, so what does not nearly fill a size is run in several smaller
ones; neither changes a vector (tested).
"""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

from sightrank.vision import decode
from sightrank.vision.bundle import Bundle
from sightrank.vision.session import Provider, open_session

BATCH_SIZES = (1, 2, 4, 8, 16)
LARGEST_BATCH = BATCH_SIZES[-1]


class Embedder:
    """The embedding network of a bundle. ``threads`` is the number of cores one run may use."""

    def __init__(self, bundle: Bundle, *, threads: int, provider: Provider = "cpu") -> None:
        self._session = open_session(bundle.embedder, threads=threads, provider=provider)
        self.size = bundle.preprocessing.size
        self.dims = bundle.dims
        self.provider = self._session.get_providers()[0]
        mean = np.asarray(bundle.preprocessing.mean, np.float32)
        std = np.asarray(bundle.preprocessing.std, np.float32)
        self._factor = (1.0 / (255.0 * std)).astype(np.float32)
        self._offset = (mean / std).astype(np.float32)

    def warm_up(self) -> None:
        """Runs every batch size once, so that the first user does not wait for it."""
        for count in BATCH_SIZES:
            self.embed(np.zeros((count, self.size, self.size, 3), np.uint8))

    def fit(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The whole picture, squashed to a square."""
        return decode.resize(pixels, self.size)

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """``pixels`` [n, size, size, 3] RGB to unit vectors [n, dims]; any n, run in batches of at most 16."""
        vectors = np.empty((len(pixels), self.dims), np.float32)
        start = 0
        while start < len(pixels):
            size = batch_size_for(len(pixels) - start)
            part = pixels[start : start + size]
            vectors[start : start + len(part)] = self._run(part, size)
            start += len(part)
        return vectors

    def _run(self, pixels: NDArray[np.uint8], count: int) -> NDArray[np.float32]:
        batch = np.zeros((count, 3, self.size, self.size), np.float32)
        batch[: len(pixels)] = (pixels * self._factor - self._offset).transpose(0, 3, 1, 2)
        vectors = cast("NDArray[np.float32]", self._session.run(["embedding"], {"pixels": batch})[0])
        return vectors[: len(pixels)]


def batch_size_for(count: int) -> int:
    """The batch size to run next: the smallest that holds all, if that is three quarters full, else the one below."""
    above = next((size for size in BATCH_SIZES if size >= count), LARGEST_BATCH)
    return above if 4 * count >= 3 * above else max(size for size in BATCH_SIZES if size <= count)
