"""Views: what teacher and student both look at.

Distillation works best when both see the same picture, so the crops and collages are drawn once, by seed, and stored
as numbers. A view is one box of one photo, laid over (or mixed with) a box of a partner photo.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as functional

Floats = npt.NDArray[np.float32]
WHOLE = (0.0, 0.0, 1.0, 1.0)
PLAIN, BLEND, PASTE = 0, 1, 2


@dataclass(frozen=True)
class Views:
    """One view per photo. Boxes are x0, y0, x1, y1 as fractions of the side."""

    box: Floats
    kind: npt.NDArray[np.int64]
    partner: npt.NDArray[np.int64]
    partner_box: Floats
    weight: Floats
    """Share of the photo in a blend."""
    window: Floats
    """Where a pasted photo lies on its partner."""

    def __len__(self) -> int:
        return len(self.kind)


def random_boxes(rng: np.random.Generator, count: int, low: float, high: float) -> Floats:
    """Boxes with an area share in [low, high] and a mild change of aspect."""
    area = rng.uniform(low, high, count)
    aspect = np.exp(rng.uniform(np.log(0.75), np.log(1 / 0.75), count))
    width = np.minimum(np.sqrt(area * aspect), 1.0)
    height = np.minimum(np.sqrt(area / aspect), 1.0)
    left = rng.uniform(0, 1, count) * (1 - width)
    top = rng.uniform(0, 1, count) * (1 - height)
    return np.stack([left, top, left + width, top + height], axis=1).astype(np.float32)


def draw(kind: str, count: int, seed: int = 7) -> Views:
    """The views named `kind` ("full", "crop" or "collage") of `count` photos."""
    rng = np.random.default_rng([seed, *kind.encode()])
    whole = np.tile(np.array(WHOLE, dtype=np.float32), (count, 1))
    partner = rng.permutation(count)
    weight = rng.uniform(0.3, 0.7, count).astype(np.float32)
    if kind == "full":
        return Views(whole, np.full(count, PLAIN), partner, whole, weight, whole)
    if kind == "crop":
        return Views(random_boxes(rng, count, 0.25, 0.85), np.full(count, PLAIN), partner, whole, weight, whole)
    return Views(
        box=random_boxes(rng, count, 0.4, 1.0),
        kind=np.where(rng.uniform(size=count) < 0.4, BLEND, PASTE),
        partner=partner,
        partner_box=random_boxes(rng, count, 0.5, 1.0),
        weight=weight,
        window=random_boxes(rng, count, 0.2, 0.6),
    )


def cut(pixels: torch.Tensor, boxes: torch.Tensor, side: int, flip: torch.Tensor | None = None) -> torch.Tensor:
    """The boxes of float pixels [N,3,H,W], resampled to `side`."""
    x0, y0, x1, y1 = boxes.unbind(1)
    sign = torch.ones_like(x0) if flip is None else 1.0 - 2.0 * flip.to(x0.dtype)
    zero = torch.zeros_like(x0)
    rows_x = torch.stack([(x1 - x0) * sign, zero, x0 + x1 - 1], dim=1)
    rows_y = torch.stack([zero, y1 - y0, y0 + y1 - 1], dim=1)
    theta = torch.stack([rows_x, rows_y], dim=1)
    grid = functional.affine_grid(theta, [len(pixels), 3, side, side], align_corners=False)
    return functional.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)


def render(
    pixels: npt.NDArray[np.uint8],
    views: Views,
    index: npt.NDArray[np.int64],
    side: int,
    jitter: float = 0.0,
    rng: torch.Generator | None = None,
) -> torch.Tensor:
    """The views of the photos at `index` as float RGB in 0..255; `jitter` flips and shifts the boxes a little."""
    first = load(pixels, index)
    boxes = torch.from_numpy(views.box[index])
    flip = None
    if jitter:
        boxes = boxes + (torch.rand(boxes.shape, generator=rng) - 0.5) * 2 * jitter
        flip = torch.rand(len(boxes), generator=rng) < 0.5
    drawn = cut(first, boxes, side, flip)
    mixed = np.flatnonzero(views.kind[index] != PLAIN)
    if len(mixed):
        chosen = index[mixed]
        second = load(pixels, views.partner[chosen])
        behind = cut(second, torch.from_numpy(views.partner_box[chosen]), side, None if flip is None else flip[mixed])
        drawn[mixed] = combine(drawn[mixed], behind, views, chosen, flip[mixed] if flip is not None else None)
    return drawn


def load(pixels: npt.NDArray[np.uint8], index: npt.NDArray[np.int64]) -> torch.Tensor:
    """Photos as float [N,3,H,W]."""
    return torch.from_numpy(pixels[index]).permute(0, 3, 1, 2).float()


def combine(
    front: torch.Tensor, behind: torch.Tensor, views: Views, index: npt.NDArray[np.int64], flip: torch.Tensor | None
) -> torch.Tensor:
    """Blend the pictures, or shrink the front one into its window on the other."""
    side = front.shape[-1]
    result = behind
    weight = torch.from_numpy(views.weight[index])
    for row, photo in enumerate(index):
        if views.kind[photo] == BLEND:
            result[row] = weight[row] * front[row] + (1 - weight[row]) * behind[row]
            continue
        x0, y0, x1, y1 = (round(float(edge) * side) for edge in views.window[photo])
        if flip is not None and bool(flip[row]):
            x0, x1 = side - x1, side - x0
        x1, y1 = max(x1, x0 + 8), max(y1, y0 + 8)
        small = functional.interpolate(front[row : row + 1], (y1 - y0, x1 - x0), mode="area")[0]
        result[row, :, y0:y1, x0:x1] = small[:, : side - y0, : side - x0]
    return result
