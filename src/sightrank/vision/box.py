"""Where a region lies in a picture."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A region in shares of the picture's height and width, 0..1."""

    top: float
    left: float
    bottom: float
    right: float
