"""Changes that must not change the vector: light, colour, focus, and what decoders do."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as functional

JPEG_BLOCK = 8


def augment(pixels: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Float RGB 0..255 [N,3,S,S], changed differently for each photo."""
    pixels = colour(pixels, rng)
    count = len(pixels)
    order = torch.randperm(count, generator=rng)
    soft, coded, erased = order[: count // 6], order[count // 6 : count // 3], order[count // 3 : count // 2]
    pixels[soft] = soften(pixels[soft], 0.4 + 0.5 * float(torch.rand(1, generator=rng)))
    pixels[coded] = encode(pixels[coded], 8 + 40 * float(torch.rand(1, generator=rng)))
    for row in erased.tolist():
        erase(pixels[row], rng)
    return pixels.clamp(0, 255)


def colour(pixels: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Brightness, contrast, saturation and a slight tint, each by its own random factor."""
    shape = (len(pixels), 1, 1, 1)

    def factor(spread: float, channels: int = 1) -> torch.Tensor:
        return 1 + spread * (2 * torch.rand((shape[0], channels, 1, 1), generator=rng) - 1)

    middle = pixels.mean((1, 2, 3), keepdim=True)
    pixels = (middle + (pixels - middle) * factor(0.25)) * factor(0.2)
    grey = pixels.mean(1, keepdim=True)
    return (grey + (pixels - grey) * factor(0.35)) * factor(0.05, 3)


def soften(pixels: torch.Tensor, share: float) -> torch.Tensor:
    """A smaller copy, enlarged again: the soft picture of a small or scaled original."""
    side = pixels.shape[-1]
    small = functional.interpolate(pixels, (max(8, round(side * share)),) * 2, mode="area")
    return functional.interpolate(small, (side, side), mode="bilinear", align_corners=False)


def encode(pixels: torch.Tensor, step: float) -> torch.Tensor:
    """What JPEG does to a picture: each 8x8 block's cosines rounded, the fine ones more coarsely."""
    count, channels, height, width = pixels.shape
    basis = cosines()
    blocks = pixels - 128
    blocks = blocks.view(count, channels, height // 8, 8, width // 8, 8).permute(0, 1, 2, 4, 3, 5)
    ramp = torch.arange(JPEG_BLOCK, dtype=torch.float32)
    steps = step * (0.4 + 0.15 * (ramp[:, None] + ramp[None, :]))
    waves = ((basis @ blocks @ basis.T) / steps).round() * steps
    back = (basis.T @ waves @ basis).permute(0, 1, 2, 4, 3, 5)
    return back.reshape(count, channels, height, width) + 128


def cosines() -> torch.Tensor:
    """The orthonormal cosine basis of a block."""
    n = torch.arange(JPEG_BLOCK, dtype=torch.float32)
    basis = torch.cos(math.pi * (2 * n[None, :] + 1) * n[:, None] / (2 * JPEG_BLOCK))
    basis[0] /= math.sqrt(2)
    return basis * math.sqrt(2 / JPEG_BLOCK)


def erase(picture: torch.Tensor, rng: torch.Generator) -> None:
    """Grey out a small window, in place, so that no single spot decides."""
    side = picture.shape[-1]
    size, left, top = (torch.rand(3, generator=rng) * torch.tensor([0.3, 1.0, 1.0])).tolist()
    extent = max(2, int(side * (0.1 + size)))
    x, y = int(left * (side - extent)), int(top * (side - extent))
    picture[:, y : y + extent, x : x + extent] = picture.mean((1, 2), keepdim=True)
