"""Two optimisers: orthogonalised momentum for the convolutions, AdamW for the rest.

A step of a convolution's kernel is made orthogonal (Muon, Jordan et al. 2024), so that all its directions learn at the
same pace; with a few dozen epochs on two cores that is worth more than its cost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

KERNEL_RATE = 0.02
OTHER_RATE = 2e-3
DECAY = 0.02


class Muon(torch.optim.Optimizer):
    """Momentum whose steps are orthogonal matrices."""

    def __init__(self, parameters: list[nn.Parameter], lr: float, momentum: float = 0.9) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for kernel in group["params"]:
                memory: dict[str, Any] = self.state[kernel]
                if "momentum" not in memory:
                    memory["momentum"] = torch.zeros_like(kernel)
                speed = memory["momentum"].mul_(group["momentum"]).add_(kernel.grad)
                ahead = kernel.grad.add(speed, alpha=group["momentum"])
                kernel.mul_(1 - group["lr"] * DECAY)
                kernel.add_(orthogonal(ahead.flatten(1)).view_as(kernel), alpha=-group["lr"])


def orthogonal(matrix: torch.Tensor, rounds: int = 4) -> torch.Tensor:
    """The nearest orthogonal matrix, roughly: Newton-Schulz steps that pull all singular values towards 1.

    Scaled so that each entry's typical size does not depend on the kernel's shape.
    """
    rows, columns = matrix.shape
    x = matrix.T if rows > columns else matrix
    x = (x / (x.norm() + 1e-7)).bfloat16()
    for _ in range(rounds):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    found = x.T if rows > columns else x
    return found.to(matrix.dtype) * max(1.0, rows / columns) ** 0.5


def build(model: nn.Module) -> list[torch.optim.Optimizer]:
    """Kernels with a real matrix shape go to Muon; norms, gates' biases, heads and the stem to AdamW."""
    kernels, others, plain = [], [], []
    for name, parameter in model.named_parameters():
        if parameter.ndim == 4 and ".blocks." in name:
            kernels.append(parameter)
        elif parameter.ndim > 1:
            others.append(parameter)
        else:
            plain.append(parameter)
    adam = torch.optim.AdamW(
        [{"params": others, "weight_decay": DECAY}, {"params": plain, "weight_decay": 0.0}], lr=OTHER_RATE
    )
    found: list[torch.optim.Optimizer] = [Muon(kernels, KERNEL_RATE), adam]
    for each in found:
        for group in each.param_groups:
            group["full_rate"] = group["lr"]
    return found


def set_rate(optimisers: list[torch.optim.Optimizer], share: float) -> None:
    """Set every group to a share of its full rate."""
    for each in optimisers:
        for group in each.param_groups:
            group["lr"] = group["full_rate"] * share
