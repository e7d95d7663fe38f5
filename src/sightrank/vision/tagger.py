"""Unit vectors to concept probabilities: one calibrated linear row for each concept.

A concept's row is a unit direction ``w`` with ``scale`` and ``bias``: p = sigmoid(scale * cos(w, x) + bias). That makes
"rank by this concept" a search along ``w`` (docs/architecture.md, "Every rank is a direction").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sightrank.vision.bundle import Bundle, BundleError

#: Concepts of one area that count as predicted: as many are written when it is indexed, shown unless a call says
#: otherwise, and passed on by an installed model to the next nodes of a workflow.
DEFAULT_CONCEPTS: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class TaggerRow:
    """One concept of the tagger."""

    direction: NDArray[np.float32]
    scale: float
    bias: float


class Tagger:
    """A concept head: ``ids[i]`` belongs to row i of ``directions`` [concepts, dims], ``scale`` and ``bias``."""

    def __init__(
        self,
        ids: Sequence[str],
        directions: NDArray[np.float32],
        scale: NDArray[np.float32],
        bias: NDArray[np.float32],
    ) -> None:
        self.ids = tuple(ids)
        self._directions = np.ascontiguousarray(directions, np.float32)
        self._scale = scale.astype(np.float32)
        self._bias = bias.astype(np.float32)
        self._rows = {concept_id: row for row, concept_id in enumerate(self.ids)}

    @classmethod
    def load(cls, bundle: Bundle) -> Tagger:
        """The tagger of a General bundle. Raises BundleError when it does not belong to the bundle's vectors."""
        with np.load(bundle.tagger, allow_pickle=False) as arrays:
            ids = [str(concept_id) for concept_id in arrays["ids"]]
            tagger = cls(ids, arrays["directions"], arrays["scale"], arrays["bias"])
        if tagger._directions.shape != (len(ids), bundle.dims):
            shape = tagger._directions.shape
            raise BundleError(f"{bundle.tagger}: directions have shape {shape}, not (concepts, dims).")
        return tagger

    def row(self, concept_id: str) -> TaggerRow | None:
        """The concept's direction, or None when the tagger does not know it."""
        row = self._rows.get(concept_id)
        if row is None:
            return None
        return TaggerRow(direction=self._directions[row], scale=float(self._scale[row]), bias=float(self._bias[row]))

    def probabilities(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """[n, dims] unit vectors to [n, concepts] probabilities."""
        logits = (vectors @ self._directions.T) * self._scale + self._bias
        return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logits, -60.0, 60.0))), np.float32)

    def top(self, vectors: NDArray[np.float32], count: int) -> list[list[tuple[str, float]]]:
        """For each vector its ``count`` likeliest concepts as (id, probability), likeliest first."""
        probabilities = self.probabilities(vectors)
        count = min(count, len(self.ids))
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :count]
        return [
            [(self.ids[row], float(values[row])) for row in best]
            for best, values in zip(order, probabilities, strict=True)
        ]
