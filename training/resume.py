"""Take a shipped embedder up again: its ONNX file back to a network that can be trained on.

The file has the batch norms folded away. Here each norm gets the statistics that its input really has on training
photos, and the scale and shift that make it do nothing but add the folded bias: so the first step starts from the very
vectors that the file makes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

from training import data, network, views

PHOTOS = 1024


class Weights:
    """The file's weights, in the order in which `export.build` wrote them."""

    def __init__(self, path: Path) -> None:
        self._left = [
            torch.from_numpy(numpy_helper.to_array(each).astype(np.float32))
            for each in onnx.load(str(path)).graph.initializer
        ]

    def take(self) -> torch.Tensor:
        return self._left.pop(0)

    def into(self, kernel: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
        """A convolution and, as its norm's shift, the bias folded into it."""
        kernel.weight.copy_(self.take())
        norm.bias.copy_(self.take())

    def into_gate(self, gate: network.Gate) -> None:
        for layer in (gate.shrink, gate.grow):
            assert layer.bias is not None
            layer.weight.copy_(self.take())
            layer.bias.copy_(self.take())


@torch.no_grad()
def load(path: Path, embedder: network.Embedder, train: data.TrainSet, side: int) -> None:
    """Fill `embedder` so that it makes the vectors of the file at `path`, in training mode too (at `side`)."""
    weights = fill(path, embedder)
    embedder.project.weight.copy_(weights.take())
    index = np.sort(np.random.default_rng(7).permutation(np.flatnonzero(~train.held_back))[:PHOTOS])
    drawn = views.render(train.pixels, views.draw("full", len(train.labels)), index, side)
    vectors = embedder.project(settle(embedder, drawn))
    assert embedder.centre.running_mean is not None
    assert embedder.centre.running_var is not None
    embedder.centre.running_mean.copy_(vectors.mean(0))
    embedder.centre.running_var.copy_(vectors.var(0))


@torch.no_grad()
def fill(path: Path, embedder: network.Embedder) -> Weights:
    """The kernels of the blocks, with the folded biases as the norms' shifts; what is left after them."""
    weights = Weights(path)
    weights.into(embedder.stem, embedder.stem_norm)
    for block in embedder.blocks:
        assert isinstance(block, network.Block)
        weights.into(block.first, block.first_norm)
        weights.into(block.second, block.second_norm)
        weights.into_gate(block.gate)
        if isinstance(block.shortcut, nn.Sequential):
            _pool, kernel, norm = block.shortcut
            assert isinstance(kernel, nn.Conv2d)
            assert isinstance(norm, nn.BatchNorm2d)
            weights.into(kernel, norm)
    return weights


@torch.no_grad()
def settle(embedder: network.Embedder, drawn: torch.Tensor) -> torch.Tensor:
    """Set each norm, in the order of the network, by what arrives at it from pixels 0..255; the pooled features."""

    def set_norm(norm: nn.Module, arrived: tuple[torch.Tensor, ...]) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        variance, mean = torch.var_mean(arrived[0], dim=(0, 2, 3), correction=0)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.weight.copy_(torch.sqrt(variance + norm.eps))
        norm.bias.add_(mean)

    norms = [each for each in embedder.modules() if isinstance(each, nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(set_norm) for norm in norms]
    embedder.eval()
    features = embedder.features(network.normalise(drawn))
    for hook in hooks:
        hook.remove()
    return features
