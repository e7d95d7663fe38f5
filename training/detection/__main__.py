"""``python -m training.detection --data DATA --work WORK``: look at the photos, train the student, write the weights.

A run that was stopped goes on where it was, with at most two minutes lost.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from training import augment, quantise, resume
from training.detection import losses, photos
from training.detection.canvas import SURE, Canvas, Painter
from training.detection.network import Student, places
from training.network import normalise

SAVE_S = 120.0
REPORT_STEPS = 50
WARM_UP = 0.03
AHEAD = 3
RATE, TRUNK_SHARE, DECAY = 1.5e-3, 0.4, 0.02
"""AdamW's rate for what is new; the trunk, which has learnt photos before, moves by a share of it."""


@dataclass(frozen=True)
class Plan:
    """How long and how fast to learn; whichever of `steps` and `minutes` comes first ends it."""

    steps: int
    minutes: float
    batch: int
    side: int
    start: Path

    def rate(self, progress: float) -> float:
        """Share of the full rate: up in a line, down in a cosine."""
        rising = min(1.0, progress / WARM_UP)
        return max(0.02, rising * (0.5 + 0.5 * math.cos(math.pi * progress)))


class Run:
    """A training run: the student, the running average of its weights, and where it stands."""

    def __init__(self, plan: Plan, painter: Painter, path: Path) -> None:
        torch.manual_seed(1)
        self.plan, self.painter, self.path = plan, painter, path
        self.student = Student()
        self.step, self.seconds = 0, 0.0
        if not path.exists():
            resume.fill(plan.start, self.student.trunk)
            drawn = np.stack([painter.draw(np.random.default_rng(seed)).pixels for seed in range(96)])
            resume.settle(self.student.trunk, torch.from_numpy(drawn).permute(0, 3, 1, 2).float())
        self.student = self.student.to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.student).requires_grad_(False)
        self.optimiser = _optimiser(self.student)
        if path.exists():
            self.restore()
        self.centres, _ = places(plan.side)

    def restore(self) -> None:
        state = torch.load(self.path, weights_only=True)
        self.student.load_state_dict(state["student"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds = state["step"], state["seconds"]

    def save(self) -> None:
        state = {
            "student": self.student.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        partial = self.path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.path)

    @property
    def progress(self) -> float:
        return min(1.0, max(self.step / self.plan.steps, self.seconds / 60 / self.plan.minutes))

    def batches(self) -> Iterator[tuple[torch.Tensor, losses.Truth]]:
        """Batches drawn by seed and step, a few ahead in a thread of their own."""
        with ThreadPoolExecutor(1) as drawing:
            ahead: list[Future[tuple[torch.Tensor, losses.Truth]]] = []
            step = self.step
            while self.progress < 1:
                while len(ahead) < AHEAD:
                    ahead.append(drawing.submit(self.draw, step))
                    step += 1
                yield ahead.pop(0).result()

    def draw(self, step: int) -> tuple[torch.Tensor, losses.Truth]:
        torch.set_num_threads(1)
        drawn = [self.painter.draw(np.random.default_rng((step, place))) for place in range(self.plan.batch)]
        pixels = torch.from_numpy(np.stack([each.pixels for each in drawn])).permute(0, 3, 1, 2).float()
        pixels = augment.augment(pixels.contiguous(), torch.Generator().manual_seed(step))
        return normalise(pixels), truth(drawn)

    def learn(self, pixels: torch.Tensor, known: losses.Truth) -> tuple[float, float]:
        """One step: forward, back, and the running average of the weights."""
        for group in self.optimiser.param_groups:
            group["lr"] = group["full_rate"] * self.plan.rate(self.progress)
        self.student.train()
        with torch.autocast("cpu", torch.bfloat16):
            logits, found = self.student(pixels)
        classes, sides = losses.loss(logits, found, known, self.centres)
        self.optimiser.zero_grad(set_to_none=True)
        (classes + sides).backward()
        torch.nn.utils.clip_grad_norm_(self.student.parameters(), 20.0)
        self.optimiser.step()
        self.step += 1
        self.follow()
        return float(classes.detach()), float(sides.detach())

    @torch.no_grad()
    def follow(self) -> None:
        """Move the averaged weights; a young run follows closely, so that it forgets its first steps."""
        keep = min(0.998, (1 + self.step) / (10 + self.step))
        for mine, theirs in zip(self.average.state_dict().values(), self.student.state_dict().values(), strict=True):
            if mine.dtype.is_floating_point:
                mine.lerp_(theirs, 1 - keep)
            else:
                mine.copy_(theirs)

    def go(self) -> None:
        """Learn until the plan is done, saving now and then."""
        saved = last = time.monotonic()
        costs: list[tuple[float, float]] = []
        for pixels, known in self.batches():
            costs.append(self.learn(pixels, known))
            now = time.monotonic()
            self.seconds, last = self.seconds + now - last, now
            if self.step % REPORT_STEPS == 0:
                classes, sides = np.mean(costs, axis=0)
                print(f"{self.step} {self.seconds:.0f}s classes {classes:.3f} boxes {sides:.3f}", flush=True)
                costs.clear()
            if now - saved > SAVE_S:
                self.save()
                saved = now
        self.save()


def _optimiser(student: Student) -> torch.optim.Optimizer:
    """All but the first layers: edges and colours are known already, and cost most to learn again."""
    for each in (student.trunk.stem, student.trunk.stem_norm, student.trunk.blocks[0]):
        each.requires_grad_(False)
    groups = []
    for trunk in (True, False):
        for plain in (True, False):
            members = [
                parameter for name, parameter in student.named_parameters()
                if parameter.requires_grad and name.startswith("trunk.") == trunk and (parameter.ndim == 1) == plain
            ]  # fmt: skip
            rate = RATE * (TRUNK_SHARE if trunk else 1.0)
            groups.append({"params": members, "weight_decay": 0.0 if plain else DECAY, "full_rate": rate})
    return torch.optim.AdamW(groups, lr=RATE)


def truth(drawn: list[Canvas]) -> losses.Truth:
    """The boxes of a batch in tensors: those to be learnt, and those of which nothing is said."""
    sure = [each.scores >= SURE for each in drawn]
    most, unsure = max(1, *(int(each.sum()) for each in sure)), max(1, *(int((~each).sum()) for each in sure))
    shape = (len(drawn), most)
    found = losses.Truth(
        torch.zeros(*shape, 4),
        torch.zeros(shape, dtype=torch.long),
        torch.zeros(shape),
        torch.zeros(*shape[:1], unsure, 5),
    )
    for row, (each, at) in enumerate(zip(drawn, sure, strict=True)):
        count, rest = int(at.sum()), int((~at).sum())
        found.boxes[row, :count] = torch.from_numpy(each.boxes[at])
        found.classes[row, :count] = torch.from_numpy(each.classes[at])
        found.trust[row, :count] = torch.from_numpy(np.clip(each.scores[at] * 1.5, 0.5, 1.0))
        found.unsure[row, :rest, :4] = torch.from_numpy(each.boxes[~at])
        found.unsure[row, :rest, 4] = torch.from_numpy(each.classes[~at].astype(np.float32))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path(".cache/detection"))
    parser.add_argument("--start", type=Path, default=quantise.TRAINED)
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--side", type=int, default=192)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(1)
    photos.label(options.data, options.work, 0, 1)
    painter = Painter(photos.load(options.work), options.side)
    plan = Plan(options.steps, options.minutes, options.batch, options.side, options.start)
    Run(plan, painter, options.work / "student.pt").go()


if __name__ == "__main__":
    main()
