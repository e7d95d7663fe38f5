"""What a detector finds in a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sightrank.vision.box import Box


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """One thing that was found: what it is, where, and how surely (0..1)."""

    box: Box
    concept_id: str
    value: float


class Detector(Protocol):
    """Pictures to regions. Safe to call from several threads."""

    concept_ids: tuple[str, ...]
    provider: str

    def detect(self, pixels: NDArray[np.uint8]) -> list[Detection]:
        """What is in an upright RGB picture [height, width, 3] of any size, surest first, a bounded number."""
        ...
