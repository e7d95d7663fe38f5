"""The student: the General embedder's residual trunk, a small pyramid, and one head for all its levels."""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import nn

from training.detector import COCO
from training.network import Embedder

STRIDES = (8, 16, 32)
WIDTH = 64
RARE = -4.0
"""Where the classes' logits begin: hardly any place shows any class."""


class Layer(nn.Sequential):
    """A 3x3 or 1x1 convolution, its norm, and a rectifier."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
        )


class Student(nn.Module):
    """Pixels [n,3,side,side] to logits of the classes and to boxes in pixels, for every place of every level."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = Embedder()
        del self.trunk.project, self.trunk.centre
        widths = (64, 192, 384)
        self.lateral = nn.ModuleList(Layer(width, WIDTH, 1) for width in widths)
        self.smooth = nn.ModuleList(Layer(WIDTH, WIDTH, 3) for _ in widths)
        self.class_tower = nn.Sequential(Layer(WIDTH, WIDTH, 3), Layer(WIDTH, WIDTH, 3))
        self.box_tower = nn.Sequential(Layer(WIDTH, WIDTH, 3), Layer(WIDTH, WIDTH, 3))
        self.classes = nn.Conv2d(WIDTH, len(COCO), 1)
        self.sides = nn.Conv2d(WIDTH, 4, 1)
        nn.init.normal_(self.classes.weight, std=0.01)
        nn.init.constant_(self.classes.bias, RARE)
        nn.init.normal_(self.sides.weight, std=0.01)
        nn.init.constant_(self.sides.bias, 1.0)

    def levels(self, x: torch.Tensor) -> list[torch.Tensor]:
        """One map of `WIDTH` channels for each stride."""
        x = functional.relu_(self.trunk.stem_norm(self.trunk.stem(x)))
        seen = []
        for block in self.trunk.blocks:
            x = block(x)
            seen.append(x)
        fine, middle, coarse = (layer(seen[at]) for layer, at in zip(self.lateral, (2, 5, 6), strict=True))
        middle = middle + functional.interpolate(coarse, scale_factor=2.0, mode="nearest")
        fine = fine + functional.interpolate(middle, scale_factor=2.0, mode="nearest")
        return [smooth(level) for smooth, level in zip(self.smooth, (fine, middle, coarse), strict=True)]

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits [n,places,classes] and left, top, right, bottom in pixels [n,places,4]."""
        side = x.shape[-1]
        classes, sides = [], []
        for level, stride in zip(self.levels(x), STRIDES, strict=True):
            classes.append(self.classes(self.class_tower(level)).flatten(2))
            sides.append(functional.softplus(self.sides(self.box_tower(level)).float()).flatten(2) * stride)
        distances = torch.cat(sides, 2).transpose(1, 2)
        centre, _ = places(side)
        found = torch.cat([centre - distances[..., :2], centre + distances[..., 2:]], 2)
        return torch.cat(classes, 2).transpose(1, 2).float(), found


def places(side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Centres [places,2] in pixels, and the stride of each place."""
    centres, strides = [], []
    for stride in STRIDES:
        line = (torch.arange(side // stride) + 0.5) * stride
        rows, columns = torch.meshgrid(line, line, indexing="ij")
        centres.append(torch.stack([columns.flatten(), rows.flatten()], 1))
        strides.append(torch.full((len(line) ** 2,), float(stride)))
    return torch.cat(centres), torch.cat(strides)
