"""NanoDet's boxes: what stands for truth in training, and the ceiling when measuring."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import ncnn
import numpy as np
import numpy.typing as npt
from PIL import Image

from training.detection import boxes
from training.detector import COCO, MEAN_BGR, SCALE_BGR, STRIDES

LEAST_SCORE = 0.12
OVERLAP = 0.55
SIDES = 8
"""Places of the distribution that each distance to a side is the mean of."""


@dataclass(frozen=True)
class Found:
    """Boxes in shares of the picture (left, top, right, bottom), classes of COCO and scores."""

    boxes: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]


class Teacher:
    """NanoDet-m. `sides` are the input sizes it looks with; what they find is put together."""

    def __init__(self, folder: Path, sides: tuple[int, ...], threads: int = 1) -> None:
        self.network = ncnn.Net()
        self.network.opt.num_threads = threads
        self.network.load_param(str(folder / "nanodet-m.param"))
        self.network.load_model(str(folder / "nanodet-m.bin"))
        self.sides = sides

    def look(self, pixels: npt.NDArray[np.uint8], least: float = LEAST_SCORE) -> Found:
        """What is in an RGB picture of any shape."""
        parts = [self._look(pixels, side, least) for side in self.sides]
        found = Found(*(np.concatenate(each) for each in zip(*parts, strict=True)))
        stay = boxes.keep(found.boxes, found.scores, found.classes, OVERLAP)[:60]
        return Found(found.boxes[stay], found.classes[stay], found.scores[stay])

    def _look(self, pixels: npt.NDArray[np.uint8], side: int, least: float) -> tuple[npt.NDArray[np.generic], ...]:
        height, width = pixels.shape[:2]
        scale = side / max(height, width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        canvas = np.zeros((side, side, 3), dtype=np.uint8)
        canvas[: size[1], : size[0]] = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
        # The matrix borrows the array's memory: `canvas` must live until the outputs are read.
        matrix = ncnn.Mat.from_pixels(canvas, ncnn.Mat.PixelType.PIXEL_RGB2BGR, side, side)
        matrix.substract_mean_normalize(MEAN_BGR, SCALE_BGR)
        extractor = self.network.create_extractor()
        extractor.input("input.1", matrix)
        levels = [self._level(extractor, stride, side, least) for stride in STRIDES]
        found, classes, scores = (np.concatenate(each) for each in zip(*levels, strict=True))
        found = np.clip(found / np.array([size[0], size[1]] * 2, np.float32), 0, 1)
        return found.astype(np.float32), classes, scores

    def _level(
        self, extractor: ncnn.Extractor, stride: int, side: int, least: float
    ) -> tuple[npt.NDArray[np.generic], ...]:
        """Boxes in pixels of the canvas, classes and scores of one level's places that are sure enough."""
        scores = np.array(extractor.extract(f"cls_pred_stride_{stride}")[1]).reshape(-1, len(COCO))
        sides = np.array(extractor.extract(f"dis_pred_stride_{stride}")[1]).reshape(-1, 4, SIDES)
        places, classes = np.nonzero(scores >= least)
        shares = np.exp(sides[places] - sides[places].max(axis=2, keepdims=True))
        distances = (shares / shares.sum(axis=2, keepdims=True)) @ np.arange(SIDES, dtype=np.float32) * stride
        columns = side // stride
        centre = (np.stack([places % columns, places // columns], axis=1) + 0.5) * stride
        found = np.concatenate([centre - distances[:, :2], centre + distances[:, 2:]], axis=1)
        return found, classes, scores[places, classes]
