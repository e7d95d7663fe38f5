"""Train the student on what the teachers said and on the photos' own labels."""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as functional

from training import augment, data, network, optimiser, resume, teachers, views
from training.retrieval import precision_at

TEMPERATURE = 2.0
NEIGHBOUR_TEMPERATURE = 0.1
CHECKPOINT_EVERY = 100
IGNORED = -1


@dataclass(frozen=True)
class Plan:
    """How long and at which sizes to train. Progress is the larger of steps done and minutes passed."""

    steps: int
    minutes: float
    batch: int = 256
    sides: tuple[int, ...] = (64, 64, 64, 96, 96)
    """Small pictures first: most of the learning costs half as much there. Multiples of 32."""
    kinds: tuple[str, ...] = teachers.VIEW_KINDS
    shares: tuple[float, ...] = (0.4, 0.35, 0.25)
    seed: int = 7
    warmup: float = 0.03
    start: str = ""
    """An embedder.onnx to go on from; empty starts from nothing."""
    rate_share: float = 1.0
    """Share of the full learning rate at its highest; less spares what an earlier run has learnt."""

    def side(self, progress: float) -> int:
        return self.sides[min(int(progress * len(self.sides)), len(self.sides) - 1)]

    def rate(self, progress: float) -> float:
        """Share of the full learning rate: a short climb, then straight down to almost nothing."""
        if progress < self.warmup:
            return self.rate_share * max(progress / self.warmup, 0.02)
        return self.rate_share * max((1 - progress) / (1 - self.warmup), 0.002)


@dataclass(frozen=True)
class Lessons:
    """All that the training reads, by photo."""

    train: data.TrainSet
    usable: npt.NDArray[np.int64]
    classes: npt.NDArray[np.int64]
    """Class of each photo among all sources' classes."""
    source_masks: torch.Tensor
    """For each source, 0 on its own classes and -inf elsewhere: a source says nothing about another's classes."""
    source_of: npt.NDArray[np.int64]
    people: npt.NDArray[np.float32]
    views: list[views.Views]
    targets: list[teachers.Targets]
    features: list[teachers.Targets]
    """The v1 teacher's embeddings of the same views."""
    geometry: Geometry
    feature_geometry: Geometry

    def taught(self, kind: int) -> npt.NDArray[np.int64]:
        """Usable photos whose view the teacher has seen."""
        seen = (self.targets[kind].done[self.usable] > 0) & (self.features[kind].done[self.usable] > 0)
        return self.usable[seen]


@dataclass(frozen=True)
class Geometry:
    """A teacher's space of pictures: centred outputs on their main axes, half whitened."""

    mean: torch.Tensor
    axes: torch.Tensor

    @classmethod
    def fit(cls, outputs: npt.NDArray[np.float32]) -> Geometry:
        values = torch.from_numpy(outputs)
        mean = values.mean(0)
        centred = functional.normalize(values - mean)
        spread, axes = torch.linalg.eigh(centred.T @ centred / len(values))
        keep = slice(-network.DIMS, None)
        return cls(mean, axes[:, keep] / spread[keep].clamp_min(1e-8) ** 0.25)

    def place(self, outputs: torch.Tensor) -> torch.Tensor:
        return functional.normalize(functional.normalize(outputs - self.mean) @ self.axes)


def load_lessons(teacher_dir: Path, work: Path, plan: Plan) -> Lessons:
    """Read everything: the photos into memory, the teachers' answers as they are asked for."""
    train = data.load_train(work, in_memory=True)
    names = np.array([f"{s}\t{c}" for s, c in zip(train.sources, train.labels, strict=True)])
    known, classes = np.unique(names, return_inverse=True)
    sources, source_of = np.unique(train.sources, return_inverse=True)
    owner = np.searchsorted(sources, np.array([name.split("\t")[0] for name in known]))
    masks = torch.full((len(sources), len(known)), -torch.inf)
    masks[torch.from_numpy(owner), torch.arange(len(known))] = 0.0
    targets = [teachers.open_targets(work, "v2", kind, len(classes), "r") for kind in plan.kinds]
    features = [teachers.open_targets(work, "v1", kind, len(classes), "r") for kind in plan.kinds]
    sample = np.flatnonzero((targets[0].done > 0) & (features[0].done > 0))[::4]
    return Lessons(
        train=train,
        usable=np.flatnonzero(~train.held_back),
        classes=classes,
        source_masks=masks,
        source_of=source_of,
        people=teachers.people_scores(teacher_dir, work),
        views=[views.draw(kind, len(classes)) for kind in plan.kinds],
        targets=targets,
        features=features,
        geometry=Geometry.fit(teachers.logits(targets[0].values[sample])),
        feature_geometry=Geometry.fit(features[0].values[sample].astype(np.float32)),
    )


@dataclass(frozen=True)
class Batch:
    """One step's pictures and everything known about them."""

    pixels: torch.Tensor
    logits: torch.Tensor
    features: torch.Tensor
    classes: torch.Tensor
    masks: torch.Tensor
    people: torch.Tensor
    whole: torch.Tensor
    """True where the picture is the whole photo, which is what its labels speak of."""


def draw_batch(lessons: Lessons, plan: Plan, side: int, step: int) -> Batch:
    """Random photos, each in one of its views; the same for the same step."""
    rng = np.random.default_rng([plan.seed, step])
    torch_rng = torch.Generator().manual_seed(plan.seed * 1_000_003 + step)
    ready = [lessons.taught(kind) for kind in range(len(plan.kinds))]
    shares = np.array([share * len(found) for share, found in zip(plan.shares, ready, strict=True)])
    counts = rng.multinomial(plan.batch, shares / shares.sum())
    pixels, indices, logits, features, kinds = [], [], [], [], []
    for kind, count in enumerate(counts):
        if not count:
            continue
        index = np.sort(rng.choice(ready[kind], count, replace=False))
        pixels.append(views.render(lessons.train.pixels, lessons.views[kind], index, side, 0.04, torch_rng))
        logits.append(teachers.logits(lessons.targets[kind].values[index]))
        features.append(lessons.features[kind].values[index].astype(np.float32))
        indices.append(index)
        kinds.append(np.full(len(index), kind))
    chosen, kind_of = np.concatenate(indices), np.concatenate(kinds)
    labelled = np.where(kind_of < 2, lessons.classes[chosen], IGNORED)
    return Batch(
        pixels=network.normalise(augment.augment(torch.cat(pixels), torch_rng)),
        logits=torch.from_numpy(np.concatenate(logits)),
        features=torch.from_numpy(np.concatenate(features)),
        classes=torch.from_numpy(labelled),
        masks=lessons.source_masks[torch.from_numpy(lessons.source_of[chosen])],
        people=torch.from_numpy(lessons.people[chosen]),
        whole=torch.from_numpy(kind_of == 0),
    )


def loss_parts(answers: network.Answers, batch: Batch, lessons: Lessons) -> dict[str, torch.Tensor]:
    """The four lessons: a teacher's classes, both teachers' neighbours, the labels, and whether people are seen."""
    likeness = alike(lessons.geometry.place(batch.logits)) + alike(lessons.feature_geometry.place(batch.features))
    soft = functional.log_softmax(batch.logits / TEMPERATURE, dim=1)
    classes = functional.kl_div(
        functional.log_softmax(answers.imagenet / TEMPERATURE, dim=1), soft, reduction="batchmean", log_target=True
    )
    return {
        "teacher": classes * TEMPERATURE,
        "neighbours": neighbour_loss(answers.unit, likeness / 2),
        "labels": functional.cross_entropy(answers.labels + batch.masks, batch.classes, ignore_index=IGNORED),
        "people": functional.binary_cross_entropy_with_logits(answers.people[batch.whole], batch.people[batch.whole]),
    }


WEIGHTS = {"teacher": 1.0, "neighbours": 1.0, "labels": 0.35, "people": 0.2}


def alike(unit: torch.Tensor) -> torch.Tensor:
    """The cosine of every pair of the batch."""
    return unit @ unit.T


def neighbour_loss(unit: torch.Tensor, likeness: torch.Tensor) -> torch.Tensor:
    """How far the student's nearest neighbours in the batch differ from those by `likeness`."""
    hide = torch.eye(len(unit)) * -1e4
    wanted = functional.log_softmax(likeness / NEIGHBOUR_TEMPERATURE + hide, dim=1)
    found = functional.log_softmax(alike(unit) / NEIGHBOUR_TEMPERATURE + hide, dim=1)
    return functional.kl_div(found, wanted, reduction="batchmean", log_target=True)


class Run:
    """A training run that can be stopped and gone on with."""

    def __init__(self, lessons: Lessons, plan: Plan, work: Path, name: str) -> None:
        torch.manual_seed(plan.seed)
        self.lessons, self.plan = lessons, plan
        self.path = work / f"{name}.pt"
        self.student = network.Student(lessons.source_masks.shape[1]).to(memory_format=torch.channels_last)
        if plan.start and not self.path.exists():
            resume.load(Path(plan.start), self.student.embedder, lessons.train, plan.sides[0])
        self.average = copy.deepcopy(self.student).requires_grad_(False)
        self.optimisers = optimiser.build(self.student)
        self.step, self.seconds = 0, 0.0
        if self.path.exists():
            self.restore()

    def restore(self) -> None:
        state = torch.load(self.path, weights_only=True)
        self.student.load_state_dict(state["student"])
        self.average.load_state_dict(state["average"])
        for each, saved in zip(self.optimisers, state["optimisers"], strict=True):
            each.load_state_dict(saved)
        self.step, self.seconds = state["step"], state["seconds"]

    def save(self) -> None:
        state = {
            "student": self.student.state_dict(),
            "average": self.average.state_dict(),
            "optimisers": [each.state_dict() for each in self.optimisers],
            "step": self.step,
            "seconds": self.seconds,
        }
        partial = self.path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.path)

    @property
    def progress(self) -> float:
        return min(1.0, max(self.step / self.plan.steps, self.seconds / 60 / self.plan.minutes))

    def learn(self, batch: Batch) -> dict[str, float]:
        """One step: forward, back, and the running average of the weights."""
        optimiser.set_rate(self.optimisers, self.plan.rate(self.progress))
        with torch.autocast("cpu", torch.bfloat16):
            answers = self.student(batch.pixels)
        parts = loss_parts(answers, batch, self.lessons)
        total = torch.stack([WEIGHTS[name] * part for name, part in parts.items()]).sum()
        for each in self.optimisers:
            each.zero_grad(set_to_none=True)
        total.backward()
        for each in self.optimisers:
            each.step()
        self.follow()
        return {name: float(part.detach()) for name, part in parts.items()}

    @torch.no_grad()
    def follow(self) -> None:
        """Move the averaged weights; a young run follows closely, so that it forgets its first steps."""
        keep = min(0.998, (1 + self.step) / (10 + self.step))
        for mine, theirs in zip(self.average.state_dict().values(), self.student.state_dict().values(), strict=True):
            if mine.dtype.is_floating_point:
                mine.lerp_(theirs, 1 - keep)
            else:
                mine.copy_(theirs)

    def batches(self) -> Iterator[Batch]:
        """Batches from a thread of its own: drawing keeps one core busy, learning should not wait for it."""

        def drawn(step: int) -> Batch:
            torch.set_num_threads(1)
            return draw_batch(self.lessons, self.plan, self.plan.side(self.progress), step)

        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(drawn, self.step)
            while self.progress < 1.0:
                batch = ahead.result()
                ahead = pool.submit(drawn, self.step + 1)
                yield batch

    def go(self) -> None:
        """Train to the end of the plan, saying now and then how it goes."""
        recent: list[dict[str, float]] = []
        self.student.train()
        started = time.monotonic()
        for batch in self.batches():
            recent.append(self.learn(batch))
            self.step += 1
            now = time.monotonic()
            self.seconds, started = self.seconds + now - started, now
            if self.step % 50 == 0:
                self.report(recent)
                recent = []
            if self.step % CHECKPOINT_EVERY == 0:
                self.save()
        self.save()

    def report(self, recent: list[dict[str, float]]) -> None:
        means = {name: round(float(np.mean([each[name] for each in recent])), 4) for name in recent[0]}
        facts: dict[str, object] = {"step": self.step, "minutes": round(self.seconds / 60, 1), **means}
        facts["photos/s"] = round(self.step * self.plan.batch / self.seconds)
        if self.step % 500 == 0:
            facts["precision"] = self.judge()
        print(json.dumps(facts), flush=True)

    def judge(self) -> dict[str, float]:
        """Precision at 9 of the averaged network on photos held back from training."""
        found = {}
        train = self.lessons.train
        for source in ("objects64", "places"):
            index = np.flatnonzero(train.held_back & (train.sources == source))
            vectors = embed(self.average.embedder, train.pixels, index, self.plan.sides[-1])
            found[source] = round(precision_at(vectors, train.labels[index], 9), 3)
        return found


@torch.no_grad()
def embed(
    embedder: network.Embedder, pixels: npt.NDArray[np.uint8], index: npt.NDArray[np.int64], side: int
) -> npt.NDArray[np.float32]:
    """Unit vectors of whole photos of an array."""
    training = embedder.training
    embedder.eval()
    whole = views.draw("full", len(pixels))
    parts = []
    for block in range(0, len(index), 256):
        drawn = views.render(pixels, whole, index[block : block + 256], side)
        parts.append(embedder(network.normalise(drawn)).numpy())
    embedder.train(training)
    return np.concatenate(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--name", default="student")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--sides", type=int, nargs="+", default=list(Plan.sides))
    parser.add_argument("--kinds", nargs="+", default=list(teachers.VIEW_KINDS))
    parser.add_argument("--start", default="", help="an embedder.onnx to go on from, as an earlier run shipped it")
    parser.add_argument("--rate-share", type=float, default=1.0)
    chosen = parser.parse_args()
    shares = Plan.shares[: len(chosen.kinds)]
    plan = Plan(
        chosen.steps,
        chosen.minutes,
        sides=tuple(chosen.sides),
        kinds=tuple(chosen.kinds),
        shares=shares,
        start=chosen.start,
        rate_share=chosen.rate_share,
    )
    print(json.dumps(asdict(plan)), flush=True)
    Run(load_lessons(chosen.data / "teachers", chosen.work, plan), plan, chosen.work, chosen.name).go()


if __name__ == "__main__":
    main()
