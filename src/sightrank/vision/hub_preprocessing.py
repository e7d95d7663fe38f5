"""How a model from the Hub wants its pictures: what its ``preprocessor_config.json`` says, and nothing else.

Resized (to a square, or so that the shorter side fits), its middle cut out, divided by 255, mean and deviation taken
off; each step only if the file asks for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sightrank.vision.bundle import BundleError
from sightrank.vision.decode import Pixels
from sightrank.vision.hub_files import PREPROCESSOR, read_json

# A strip of a picture is cut to this ratio before it is enlarged: what lies further out is cut away afterwards anyhow.
_LONGEST_RATIO = 8


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HubPreprocessing:
    """``resize`` is (height, width), or (shorter side,), or empty for none. What exceeds ``size`` is cut off.

    The network sees ``pixels * factor - offset`` of a picture [size, size, 3], for each channel.
    """

    size: int
    resize: tuple[int, ...]
    resample: Image.Resampling
    factor: NDArray[np.float32]
    offset: NDArray[np.float32]

    @classmethod
    def read(cls, folder: Path) -> HubPreprocessing:
        """Raises BundleError naming what ``preprocessor_config.json`` says wrongly or leaves out."""
        values = read_json(folder, PREPROCESSOR)
        try:
            return _parse(values)
        except (KeyError, TypeError, ValueError) as error:
            reason = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
            raise BundleError(f"{folder / PREPROCESSOR}: {reason}.") from error

    def fit(self, pixels: Pixels) -> Pixels:
        """An RGB picture [height, width, 3] of any size to [size, size, 3]."""
        return _middle(self._resized(pixels) if self.resize else pixels, self.size)

    def normalize(self, pixels: Pixels) -> NDArray[np.float32]:
        """[n, size, size, 3] pixels to the network's [n, 3, size, size]."""
        return (pixels * self.factor - self.offset).transpose(0, 3, 1, 2)

    def _resized(self, pixels: Pixels) -> Pixels:
        if len(self.resize) == 1:
            pixels = _without_far_ends(pixels)
            height, width = _shorter_side_to(self.resize[0], *pixels.shape[:2])
        else:
            height, width = self.resize
        if pixels.shape[:2] == (height, width):
            return pixels
        return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).resize((width, height), self.resample))


def _parse(values: dict[str, Any]) -> HubPreprocessing:
    if values.get("do_pad", False):
        raise ValueError("do_pad is not supported")
    crop = bool(values.get("do_center_crop", "crop_size" in values))
    resize = _resize(values["size"], squash=not crop) if values.get("do_resize", True) else ()
    rescale = float(values.get("rescale_factor", 1 / 255)) if values.get("do_rescale", True) else 1.0
    mean, std = np.zeros(3), np.ones(3)
    if values.get("do_normalize", "image_mean" in values):
        mean, std = _three(values["image_mean"], "image_mean"), _three(values["image_std"], "image_std")
        if not (std > 0).all():
            raise ValueError("image_std is not above 0")
    return HubPreprocessing(
        size=_square(_sides(values["crop_size"]) if crop else resize),
        resize=resize,
        # Bicubic is what the image processors of dual encoders take where the file is silent.
        resample=Image.Resampling(int(values.get("resample", Image.Resampling.BICUBIC))),
        factor=(rescale / std).astype(np.float32),
        offset=(mean / std).astype(np.float32),
    )


def _resize(value: Any, *, squash: bool) -> tuple[int, ...]:
    """A bare number is the shorter side where the middle is cut out, and both sides of a square where it is not."""
    if isinstance(value, dict) and "shortest_edge" in value:
        return (_side(value["shortest_edge"]),)
    if isinstance(value, dict) or squash:
        return _sides(value)
    return (_side(value),)


def _sides(value: Any) -> tuple[int, ...]:
    if isinstance(value, dict):
        return _side(value["height"]), _side(value["width"])
    return _side(value), _side(value)


def _square(sides: tuple[int, ...]) -> int:
    if len(sides) != 2 or sides[0] != sides[1]:
        raise ValueError("pictures would not all become squares of one size (do_resize, size, do_center_crop)")
    return sides[0]


def _side(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 4096:
        raise ValueError(f"{value!r} is not a side in pixels")
    return value


def _three(values: Any, name: str) -> NDArray[np.float64]:
    three = np.asarray(values, np.float64)
    if three.shape != (3,) or not np.isfinite(three).all():
        raise ValueError(f"{name} is not three numbers")
    return three


def _shorter_side_to(side: int, height: int, width: int) -> tuple[int, int]:
    if height <= width:
        return side, int(side * width / height)
    return int(side * height / width), side


def _without_far_ends(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    most = _LONGEST_RATIO * min(height, width)
    top, left = max(0, (height - most) // 2), max(0, (width - most) // 2)
    return pixels[top : top + most, left : left + most]


def _middle(pixels: Pixels, size: int) -> Pixels:
    """The middle square; where the picture is smaller, black lies around it."""
    height, width = pixels.shape[:2]
    if (height, width) == (size, size):
        return pixels
    if height < size or width < size:
        framed = np.zeros((max(height, size), max(width, size), 3), np.uint8)
        # Rounded up, as the reference does, so that an odd remainder lies on the same side.
        top, left = (len(framed) - height + 1) // 2, (framed.shape[1] - width + 1) // 2
        framed[top : top + height, left : left + width] = pixels
        pixels, (height, width) = framed, framed.shape[:2]
    top, left = (height - size) // 2, (width - size) // 2
    return np.ascontiguousarray(pixels[top : top + size, left : left + size])
