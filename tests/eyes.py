"""Eyes for tests that bring their own vectors: no network is behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from sightrank.vision.detector import Detector
from sightrank.vision.eye import Eye
from sightrank.vision.tagger import Tagger, TaggerRow


@dataclass(frozen=True)
class _Told:
    """Knows the vectors of some texts, and a tagger."""

    tagger: Tagger | None
    texts: Mapping[str, NDArray[Any]] | None
    rows: Mapping[str, TaggerRow]
    detector: Detector | None = None

    @property
    def reads(self) -> bool:
        return self.texts is not None

    async def read(self, text: str) -> NDArray[np.float32]:
        assert self.texts is not None
        return self.texts[text].astype(np.float32)

    async def name_row(self, name: str) -> TaggerRow:
        return self.rows[name]


@dataclass(frozen=True)
class _Finds:
    """A detector of these concepts that looks at nothing."""

    concept_ids: tuple[str, ...]


def blind_eye(tagger: Tagger | None = None, detected: tuple[str, ...] = ()) -> Eye:
    """An eye for searches by vectors and concepts, and for workflows that are only named; its detector, if any, finds
    the concepts ``detected``.
    """
    return cast(Eye, _Told(tagger, None, {}, cast(Detector, _Finds(detected)) if detected else None))


def reading_eye(texts: Mapping[str, NDArray[Any]], rows: Mapping[str, TaggerRow] | None = None) -> Eye:
    """An eye that reads these texts, and knows what is called so."""
    return cast(Eye, _Told(None, texts, rows or {}))
