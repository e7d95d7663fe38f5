"""What a trained model version predicts: concepts that people taught it, by linear rows over stored vectors.

Rows are those of a tagger (``vision.tagger``). Where the concepts exclude each other, their logits become probabilities
that sum to 1 (a softmax); such a concept is no longer a direction of its own.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sightrank.vision.tagger import Tagger, TaggerRow


class ConceptModel:
    """Immutable. ``directions`` [concepts, dims] are unit vectors; ``scale`` and ``bias`` [concepts] make logits of
    cosines."""

    def __init__(
        self,
        ids: Sequence[str],
        directions: NDArray[np.float32],
        scale: NDArray[np.float32],
        bias: NDArray[np.float32],
        *,
        exclusive: bool = False,
    ) -> None:
        self._directions = np.ascontiguousarray(directions, np.float32)
        self._scale = scale.astype(np.float32)
        self._bias = bias.astype(np.float32)
        self._independent = Tagger(ids, self._directions, self._scale, self._bias)
        self.exclusive = exclusive and len(ids) > 1
        """Whether the probabilities of all concepts sum to 1."""

    @property
    def ids(self) -> tuple[str, ...]:
        """The concepts, in the order of the columns of ``probabilities``."""
        return self._independent.ids

    @property
    def arrays(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Directions, scale and bias, in the order of ``ids``; not to be written to."""
        return self._directions, self._scale, self._bias

    def row(self, concept_id: str) -> TaggerRow | None:
        """The concept's direction; None for one it does not know, and for concepts that exclude each other."""
        return None if self.exclusive else self._independent.row(concept_id)

    def logits(self, concept_id: str) -> tuple[TaggerRow, ...]:
        """The rows whose logits tell the concept's probability: its own, then those of all that exclude it. None for a
        concept it does not know."""
        own = self._independent.row(concept_id)
        if own is None:
            return ()
        others = [id for id in self.ids if self.exclusive and id != concept_id]
        return (own, *(row for id in others if (row := self._independent.row(id)) is not None))

    def probabilities(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """[n, dims] unit vectors to [n, concepts] probabilities."""
        if not self.exclusive:
            return self._independent.probabilities(vectors)
        logits = (vectors @ self._directions.T) * self._scale + self._bias
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(odds / odds.sum(axis=1, keepdims=True), np.float32)

    def dump(self) -> bytes:
        """As the database keeps it."""
        with io.BytesIO() as file:
            np.savez(
                file,
                ids=np.array(self.ids, np.str_),
                directions=self._directions,
                scale=self._scale,
                bias=self._bias,
                exclusive=np.array(self.exclusive),
            )
            return file.getvalue()

    @classmethod
    def load(cls, data: bytes) -> ConceptModel:
        """What ``dump`` made."""
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return cls(
                [str(concept_id) for concept_id in arrays["ids"]],
                arrays["directions"],
                arrays["scale"],
                arrays["bias"],
                exclusive=bool(arrays["exclusive"]),
            )
