"""What a vector must beat: raw pixels, and colour histograms with oriented gradients."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
HOG_SIDE, HOG_CELL, HOG_BINS = 64, 8, 9
COLOUR_BINS = 4


def raw_pixels(pixels: npt.NDArray[np.uint8]) -> Floats:
    """Photos of 16 px as vectors, each centred."""
    flat = pixels.reshape(len(pixels), -1).astype(np.float32)
    return flat - flat.mean(axis=1, keepdims=True)


def colour_and_gradients(pixels: npt.NDArray[np.uint8]) -> Floats:
    """Colour histogram per quadrant and gradients per cell, each part of length one."""
    parts = [colours(pixels), gradients(pixels)]
    return np.concatenate([part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-9) for part in parts], 1)


def colours(pixels: npt.NDArray[np.uint8]) -> Floats:
    """Square roots of joint colour histograms of the four quadrants."""
    half = pixels.shape[1] // 2
    binned = (pixels // (256 // COLOUR_BINS)).astype(np.int64)
    code = (binned[..., 0] * COLOUR_BINS + binned[..., 1]) * COLOUR_BINS + binned[..., 2]
    quadrants = [code[:, y : y + half, x : x + half] for y in (0, half) for x in (0, half)]
    counts = [
        np.stack([np.bincount(photo.ravel(), minlength=COLOUR_BINS**3) for photo in quadrant]) for quadrant in quadrants
    ]
    return np.sqrt(np.concatenate(counts, axis=1)).astype(np.float32)


def gradients(pixels: npt.NDArray[np.uint8]) -> Floats:
    """Histograms of unsigned gradient directions per cell, normalised over 2x2 cells."""
    grey = pixels.astype(np.float32).mean(axis=3)
    across = np.zeros_like(grey)
    down = np.zeros_like(grey)
    across[:, :, 1:-1] = grey[:, :, 2:] - grey[:, :, :-2]
    down[:, 1:-1] = grey[:, 2:] - grey[:, :-2]
    strength = np.hypot(across, down)
    direction = (np.arctan2(down, across) % np.pi / np.pi * HOG_BINS).astype(np.int64) % HOG_BINS
    cells = grey.shape[1] // HOG_CELL
    histogram = np.zeros((len(grey), cells, cells, HOG_BINS), dtype=np.float32)
    for bin_ in range(HOG_BINS):
        voted = np.where(direction == bin_, strength, 0)
        histogram[..., bin_] = voted.reshape(len(grey), cells, HOG_CELL, cells, HOG_CELL).sum(axis=(2, 4))
    around = [histogram[:, y : cells - 1 + y, x : cells - 1 + x] for y in (0, 1) for x in (0, 1)]
    blocks = np.concatenate(around, axis=3)
    return (blocks / (np.linalg.norm(blocks, axis=3, keepdims=True) + 1.0)).reshape(len(grey), -1)
