"""The tagger: one calibrated direction per concept over the unit vectors."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as functional

from training.evidence import NO, UNKNOWN, YES, Marks, Vocabulary

Floats = npt.NDArray[np.float32]
FEWEST_POSITIVES = 10
STEPS, BATCH, RATE, DECAY = 1500, 2048, 0.01, 2e-4
DOUBT = 0.1
PRIOR_POSITIVES = 8.0
"""How many photos' worth of trust the common calibration has against a concept's own."""


@dataclass(frozen=True)
class Tagger:
    """p = sigmoid(scale * cos(vector, direction) + bias), per concept."""

    ids: npt.NDArray[np.str_]
    directions: Floats
    scale: Floats
    bias: Floats

    def logits(self, vectors: Floats) -> Floats:
        found: Floats = (vectors @ self.directions.T) * self.scale + self.bias
        return found

    def probabilities(self, vectors: Floats) -> Floats:
        found: Floats = 1 / (1 + np.exp(-self.logits(vectors)))
        return found

    def write(self, path: Path) -> None:
        """Write the file whole or not at all."""
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.savez(file, ids=self.ids, directions=self.directions, scale=self.scale, bias=self.bias)
        os.replace(partial, path)

    @classmethod
    def read(cls, path: Path) -> Tagger:
        with np.load(path, allow_pickle=False) as found:
            return cls(found["ids"], found["directions"], found["scale"], found["bias"])


@dataclass(frozen=True)
class Examples:
    """Vectors, and what is known about the pictures they stand for."""

    vectors: Floats
    marks: Marks

    def join(self, other: Examples) -> Examples:
        return Examples(np.concatenate([self.vectors, other.vectors]), np.concatenate([self.marks, other.marks]))

    def only(self, rows: npt.NDArray[np.bool_]) -> Examples:
        return Examples(self.vectors[rows], self.marks[rows])


def fit(lessons: Examples, held_back: Examples, vocabulary: Vocabulary) -> Tagger:
    """Fit on the lessons, calibrate on what was held back, leave out concepts with too few positives."""
    seen, unseen = (lessons.marks == YES).sum(axis=0), (lessons.marks == NO).sum(axis=0)
    kept = np.flatnonzero((seen >= FEWEST_POSITIVES) & (unseen >= FEWEST_POSITIVES))
    weights, bias = separate(lessons.vectors, np.ascontiguousarray(lessons.marks[:, kept]))
    length = np.linalg.norm(weights, axis=1)
    slope, shift = calibrate(held_back.vectors @ weights.T + bias, held_back.marks[:, kept])
    return Tagger(
        ids=np.array([vocabulary.ids[column] for column in kept]),
        directions=(weights / length[:, None]).astype(np.float32),
        scale=(length * slope).astype(np.float32),
        bias=(bias * slope + shift).astype(np.float32),
    )


def separate(vectors: Floats, marks: Marks) -> tuple[Floats, Floats]:
    """Weights and biases of one logistic regression per concept over the photos where it is known."""
    rng = np.random.default_rng(7)
    positives = (marks == YES).sum(axis=0)
    negatives = (marks == NO).sum(axis=0)
    # Rare concepts would drown in their negatives; calibration puts the odds right again.
    emphasis = torch.from_numpy(np.sqrt(negatives / np.maximum(positives, 1)).clip(1, 20).astype(np.float32))
    scaled = torch.from_numpy(vectors) * 16
    weights = torch.zeros(marks.shape[1], vectors.shape[1], requires_grad=True)
    bias = torch.full((marks.shape[1],), -2.0, requires_grad=True)
    optimiser = torch.optim.Adam([weights, bias], lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for _ in range(STEPS):
        rows = rng.integers(len(vectors), size=BATCH)
        wanted = torch.from_numpy(marks[rows])
        weight = weight_of(wanted) * torch.where(wanted == YES, emphasis, torch.ones(()))
        logits = scaled[torch.from_numpy(rows)] @ weights.T + bias
        loss = functional.binary_cross_entropy_with_logits(logits, wanted.clamp_min(0).float(), weight, reduction="sum")
        # Sum over concepts, mean over photos: each concept is its own regression with its own decay.
        total = loss / BATCH + DECAY * weights.square().sum()
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        schedule.step()
    return weights.detach().numpy() * 16, bias.detach().numpy()


def weight_of(wanted: torch.Tensor) -> torch.Tensor:
    """How much each mark counts. What nobody marked is mostly not there: it counts as a small no.

    Without it a concept that few sources speak of (plant, wood) would be found in everything else.
    """
    return torch.where(wanted == UNKNOWN, DOUBT, 1.0)


def calibrate(raw: Floats, marks: Marks) -> tuple[Floats, Floats]:
    """Platt's slope and shift per concept, drawn towards those of all concepts together where positives are few."""
    logits, wanted = torch.from_numpy(raw.astype(np.float64)), torch.from_numpy(marks.astype(np.float64))
    known = weight_of(wanted).double()
    common = platt(logits, wanted, known, torch.zeros(2, 1, dtype=torch.float64), 0.0, shared=True)
    own = platt(logits, wanted, known, common, PRIOR_POSITIVES, shared=False)
    slope, shift = own[0].exp(), own[1]
    return slope.numpy().astype(np.float32), shift.numpy().astype(np.float32)


def platt(logits: torch.Tensor, wanted: torch.Tensor, known: torch.Tensor, start: torch.Tensor, trust: float,
          shared: bool) -> torch.Tensor:  # fmt: skip
    """Log-slope and shift, [2, concepts] or [2, 1], by Newton-like steps on the exact likelihood."""
    width = 1 if shared else logits.shape[1]
    found = start.expand(2, width).clone().requires_grad_(True)
    solver = torch.optim.LBFGS([found], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        solver.zero_grad()
        adjusted = logits * found[0].exp() + found[1]
        cost = functional.binary_cross_entropy_with_logits(adjusted, wanted.clamp_min(0), known, reduction="sum")
        cost = cost + trust * (found - start).square().sum()
        cost.backward()
        return cost

    solver.step(loss)
    return found.detach()
