"""What makes vectors: of pictures, and of texts in the same space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class ImageEncoder(Protocol):
    """Pictures to unit vectors. Safe to call from several threads."""

    size: int
    dims: int
    provider: str

    def fit(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """One upright RGB picture [height, width, 3] as the network wants it, [size, size, 3].

        The picture may be reduced already, to no less than twice ``size`` on its shorter side.
        """
        ...

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """[n, size, size, 3] pixels to unit vectors [n, dims]; any n."""
        ...

    def warm_up(self) -> None:
        """Runs the network once in every shape it will meet, so that the first user does not wait for it."""
        ...


class TextEncoder(Protocol):
    """The text tower of a dual encoder: its vectors lie among those of its pictures. Safe to call from threads."""

    dims: int

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors [n, dims]; texts beyond what the tower reads are cut."""
        ...
