"""What the right hits are: every stored vector scored by numpy in float64, and the server's answer held against it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from clarifai_grpc.grpc.api import resources_pb2
from numpy.typing import NDArray

from benchmarks.questions import Array, Question

#: Scores may differ by this (docs/architecture.md, "Score laws"): answers carry them as single floats.
_TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True)
class Verdict:
    """``exact``: the best hits in their order; ``recall``: the share of the best hits that is there, 0..1."""

    exact: bool
    recall: float


class Truth:
    """Knows the vectors [n, dims] of inputs ``bench-0`` and so on."""

    def __init__(self, vectors: Array) -> None:
        self._vectors = vectors

    def __len__(self) -> int:
        return len(self._vectors)

    def scores(self, question: Question) -> Array:
        """Of all inputs, in their order."""
        return question.scores(self._vectors)

    def judge(
        self, scores: Array, allowed: NDArray[np.bool_], wanted: int, hits: Sequence[resources_pb2.Hit]
    ) -> Verdict:
        """``allowed``: the inputs that the filter leaves. Hits whose scores are equal within 1e-5 may change places."""
        best = np.sort(scores[allowed])[::-1][:wanted]
        rows = [int(hit.input.id.removeprefix("bench-")) for hit in hits]
        if len(set(rows)) != len(rows) or not all(allowed[row] for row in rows):
            return Verdict(exact=False, recall=0.0)
        found, told = scores[rows], np.array([hit.score for hit in hits], np.float64)
        if not len(best):
            return Verdict(exact=not rows, recall=1.0)
        recall = float(np.count_nonzero(found >= best[-1] - _TOLERANCE) / len(best))
        exact = len(rows) == len(best) and bool(
            np.all(np.abs(found - best) <= _TOLERANCE) and np.all(np.abs(told - found) <= _TOLERANCE)
        )
        return Verdict(exact=exact, recall=min(recall, 1.0))
