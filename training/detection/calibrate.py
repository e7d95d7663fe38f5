"""What a detector's scores are worth: measured on pictures drawn from photos that it did not learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch

from training import network, tagger
from training.detection import boxes, score
from training.detection.canvas import SURE, Canvas
from training.detection.teacher import Found

Floats = npt.NDArray[np.float32]
LEAST = 0.02
"""Scores below are nothing: looking at them would only cost time."""
OVERLAP = 0.55
PRIOR = 15.0
"""How much the calibration of all classes together counts beside a class's own boxes."""
LEAST_VALUE, MOST_VALUE = 0.3, 0.6
"""Bounds of the value from which a box is shown."""
LEAST_KNOWN, LEAST_PRECISION = 20, 0.2
"""A class is shipped from so many known boxes, and so much average precision, in the pictures drawn."""


@dataclass(frozen=True)
class Evidence:
    """Boxes that were found of one class: their scores, whether each was right, and how many were there to be found."""

    scores: Floats
    right: npt.NDArray[np.bool_]
    known: int

    @property
    def average_precision(self) -> float:
        return score.average_precision(self.scores, self.right, self.known)

    @property
    def is_enough(self) -> bool:
        return self.known >= LEAST_KNOWN and self.average_precision >= LEAST_PRECISION


@dataclass(frozen=True)
class Calibration:
    """Value of a box: sigmoid(scale * logit(score) + bias), shown from `threshold` on."""

    scale: float
    bias: float
    threshold: float

    def values(self, scores: Floats) -> Floats:
        return 1 / (1 + np.exp(-(self.scale * logits(scores) + self.bias)))


def logits(scores: Floats) -> Floats:
    certain = np.clip(scores, 1e-6, 1 - 1e-6)
    return np.log(certain / (1 - certain))


class Looker:
    """The exported network over pictures of its own size."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def look(self, pixels: npt.NDArray[np.uint8]) -> Found:
        """Boxes of one picture [side, side, 3], the best of those that overlap; classes are the network's columns."""
        batch = network.normalise(torch.from_numpy(pixels[None]).permute(0, 3, 1, 2).float()).contiguous().numpy()
        scores, found = self.session.run(["scores", "boxes"], {"pixels": batch})
        places, columns = np.nonzero(scores[0] >= LEAST)
        sure = scores[0][places, columns]
        order = np.argsort(-sure, kind="stable")[:300]
        places, columns, sure = places[order], columns[order].astype(np.int64), sure[order]
        cut = np.clip(found[0][places], 0, 1)
        stay = boxes.keep(cut, sure, columns, OVERLAP)
        return Found(cut[stay], columns[stay], sure[stay])


def gather(looker: Looker, drawn: Sequence[Canvas], members: Sequence[int]) -> list[Evidence]:
    """One for each of `members`, classes of COCO in the order of the network's columns."""
    found = [looker.look(canvas.pixels) for canvas in drawn]
    return [_of_class(found, drawn, column, member) for column, member in enumerate(members)]


def _of_class(found: Sequence[Found], drawn: Sequence[Canvas], column: int, member: int) -> Evidence:
    scores, right, known = [], [], 0
    for some, canvas in zip(found, drawn, strict=True):
        mine = some.classes == column
        wanted = canvas.classes == member
        truth = canvas.boxes / canvas.pixels.shape[0]
        sure, doubtful = truth[wanted & (canvas.scores >= SURE)], truth[wanted & (canvas.scores < SURE)]
        own_scores, own_right, own_known = score.hits([sure], [(some.boxes[mine], some.scores[mine])])
        # In `hits` the surest come first. A box over something the teacher was not sure of proves nothing.
        own = some.boxes[mine][np.argsort(-some.scores[mine], kind="stable")]
        vague = (
            (boxes.overlaps(own, doubtful) >= score.ENOUGH).any(axis=1) if len(doubtful) else np.zeros(len(own), bool)
        )
        counted = own_right | ~vague
        scores.append(own_scores[counted])
        right.append(own_right[counted])
        known += own_known
    return Evidence(np.concatenate(scores), np.concatenate(right), known)


def calibrate(evidence: Sequence[Evidence]) -> list[Calibration]:
    """Platt's slope and shift for each class, drawn towards those of all together where boxes are few."""
    longest = max(len(each.scores) for each in evidence)
    raw = np.zeros((longest, len(evidence)))
    wanted, known = np.zeros_like(raw), np.zeros_like(raw)
    for column, each in enumerate(evidence):
        count = len(each.scores)
        raw[:count, column], wanted[:count, column], known[:count, column] = logits(each.scores), each.right, 1.0
    tensors = [torch.from_numpy(each) for each in (raw, wanted, known)]
    common = tagger.platt(*tensors, torch.zeros(2, 1, dtype=torch.float64), 0.0, shared=True)
    slopes, shifts = tagger.platt(*tensors, common, PRIOR, shared=False).numpy()
    return [
        _with_threshold(each, float(np.exp(slope)), float(shift))
        for each, slope, shift in zip(evidence, slopes, shifts, strict=True)
    ]


def _with_threshold(evidence: Evidence, scale: float, bias: float) -> Calibration:
    """The value from which the harmonic mean of precision and recall is best, within bounds."""
    values = Calibration(scale, bias, 0.0).values(evidence.scores)
    order = np.argsort(-values, kind="stable")
    met = np.cumsum(evidence.right[order])
    balance = 2 * met / (np.arange(1, len(met) + 1) + max(evidence.known, 1))
    best = float(values[order][balance.argmax()]) if len(met) else MOST_VALUE
    return Calibration(scale, bias, round(min(max(best, LEAST_VALUE), MOST_VALUE), 3))
