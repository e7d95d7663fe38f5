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

    def of(self, part: Box) -> Box:
        """What is this box in ``part``, in shares of the whole picture."""
        height, width = part.bottom - part.top, part.right - part.left
        return Box(
            top=part.top + self.top * height,
            left=part.left + self.left * width,
            bottom=min(part.top + self.bottom * height, part.bottom),
            right=min(part.left + self.right * width, part.right),
        )

    def wider(self, margin: float) -> Box:
        """With ``margin`` of its height and width more on each side, within the picture."""
        down, across = margin * (self.bottom - self.top), margin * (self.right - self.left)
        return Box(
            top=max(self.top - down, 0.0),
            left=max(self.left - across, 0.0),
            bottom=min(self.bottom + down, 1.0),
            right=min(self.right + across, 1.0),
        )
