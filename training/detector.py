"""NanoDet over the training photos: which of COCO's 80 classes are visible, and how surely."""

from __future__ import annotations

import sys
from pathlib import Path

import ncnn
import numpy as np
import numpy.typing as npt
from PIL import Image

from training import data

SIDE = 224
"""Smaller than the detector's usual 320: stored photos have 104 px, more would only be blur."""
STRIDES = (8, 16, 32)
MEAN_BGR = (103.53, 116.28, 123.675)
SCALE_BGR = (1 / 57.375, 1 / 57.12, 1 / 58.395)
LOOKED_AT = ("places",)
"""Sources worth a look: photos with more in them than their label says, and large enough to see it."""
COCO = [
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant",
    "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard",
    "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli",
    "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet",
    "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink",
    "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
]  # fmt: skip


class Detector:
    """The highest score of each class anywhere in a picture; boxes are not needed here."""

    def __init__(self, teacher_dir: Path, threads: int = 1) -> None:
        self.network = ncnn.Net()
        self.network.opt.num_threads = threads
        self.network.load_param(str(teacher_dir / "nanodet-m.param"))
        self.network.load_model(str(teacher_dir / "nanodet-m.bin"))

    def scores(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Scores of the 80 classes for RGB pixels of any shape."""
        boxed = letterbox(pixels)
        # The matrix borrows the array's memory: `boxed` must live until the outputs are read.
        matrix = ncnn.Mat.from_pixels(boxed, ncnn.Mat.PixelType.PIXEL_RGB2BGR, SIDE, SIDE)
        matrix.substract_mean_normalize(MEAN_BGR, SCALE_BGR)
        extractor = self.network.create_extractor()
        extractor.input("input.1", matrix)
        best = np.zeros(len(COCO), dtype=np.float32)
        for stride in STRIDES:
            _, found = extractor.extract(f"cls_pred_stride_{stride}")
            best = np.maximum(best, np.array(found).reshape(-1, len(COCO)).max(axis=0))
        return best


def letterbox(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The picture inside a black square, its sides kept in proportion."""
    height, width = pixels.shape[:2]
    scale = SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    canvas = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
    left, top = (SIDE - size[0]) // 2, (SIDE - size[1]) // 2
    resized = Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)
    canvas[top : top + size[1], left : left + size[0]] = np.asarray(resized)
    return canvas


def run_shard(photo_dir: Path, work: Path, shard: int, shards: int) -> None:
    """Scores of every `shards`-th photo of the sources looked at; NaN means not looked at."""
    train = data.load_train(work)
    detector = Detector(photo_dir / "teachers")
    scores = np.load(open_scores(work, len(train.labels)), mmap_mode="r+")
    for source in LOOKED_AT:
        members = np.flatnonzero(train.sources == source)
        for position, photo in enumerate(data.photos(photo_dir / f"train-{source}.zip")):
            if position % shards == shard and np.isnan(scores[members[position], 0]):
                scores[members[position]] = detector.scores(np.asarray(photo.image))


def open_scores(work: Path, count: int) -> Path:
    """The file of scores, created full of NaN when missing."""
    path = work / "detector-scores.npy"
    if not path.exists():
        empty = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(count, len(COCO)))
        empty[:] = np.nan
        empty.flush()
    return path


if __name__ == "__main__":
    run_shard(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
