"""The student: a small residual network that turns a square photo into a unit vector."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import nn

DIMS = 256
WIDTHS = (32, 64, 192, 384)
DEPTHS = (1, 2, 3, 1)
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class Gate(nn.Module):
    """Squeeze and excite: a weight per channel from the whole picture."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shrink = nn.Conv2d(channels, channels // 8, 1)
        self.grow = nn.Conv2d(channels // 8, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen = functional.adaptive_avg_pool2d(x, 1)
        weight: torch.Tensor = torch.sigmoid(self.grow(functional.relu(self.shrink(seen))))
        return x * weight


class Block(nn.Module):
    """Two 3x3 convolutions, gated, beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        self.gate = Gate(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            # Averaging before the 1x1 keeps the pixels that a strided 1x1 would drop.
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(stride), nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu_(self.first_norm(self.first(x)))
        y = self.gate(self.second_norm(self.second(y)))
        return functional.relu_(y + self.shortcut(x))


class Embedder(nn.Module):
    """Pixels to unit vectors. The last normalisation centres each dimension, so unrelated photos have cosine near 0."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTHS[0], 7, 4, 2, bias=False)
        self.stem_norm = nn.BatchNorm2d(WIDTHS[0])
        blocks: list[nn.Module] = []
        channels = WIDTHS[0]
        for stage, (width, depth) in enumerate(zip(WIDTHS, DEPTHS, strict=True)):
            for position in range(depth):
                blocks.append(Block(channels, width, 2 if stage and not position else 1))
                channels = width
        self.blocks = nn.Sequential(*blocks)
        self.project = nn.Linear(channels, DIMS, bias=False)
        self.centre = nn.BatchNorm1d(DIMS, affine=False)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """The pooled feature before the projection."""
        x = functional.relu_(self.stem_norm(self.stem(x)))
        return functional.adaptive_avg_pool2d(self.blocks(x), 1).flatten(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", enabled=False):
            return functional.normalize(self.centre(self.project(self.features(x).float())))


@dataclass(frozen=True)
class Answers:
    """What the heads read from the unit vectors."""

    unit: torch.Tensor
    imagenet: torch.Tensor
    labels: torch.Tensor
    people: torch.Tensor


class Student(nn.Module):
    """The embedder and the heads that teach it; only the embedder is shipped.

    All heads read the unit vector, so what they need must be in the vector the server stores.
    """

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.embedder = Embedder()
        self.imagenet = nn.Linear(DIMS, 1001)
        self.labels = nn.Linear(DIMS, labels)
        self.people = nn.Linear(DIMS, 1)

    def forward(self, x: torch.Tensor) -> Answers:
        unit = self.embedder(x)
        lifted = unit * DIMS**0.5
        return Answers(unit, self.imagenet(lifted), self.labels(lifted), self.people(lifted)[:, 0])


def normalise(pixels: torch.Tensor) -> torch.Tensor:
    """Pixels 0..255 to the network's input."""
    mean = torch.tensor(MEAN).view(1, 3, 1, 1)
    std = torch.tensor(STD).view(1, 3, 1, 1)
    return ((pixels / 255 - mean) / std).contiguous(memory_format=torch.channels_last)
