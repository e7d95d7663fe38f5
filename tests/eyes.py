"""Eyes for tests that bring their own vectors: they have a tagger at most, and no network behind them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from sightrank.vision.eye import Eye
from sightrank.vision.tagger import Tagger


@dataclass(frozen=True)
class _Blind:
    tagger: Tagger | None
    reads: bool = False


def blind_eye(tagger: Tagger | None = None) -> Eye:
    """An eye for searches by vectors and concepts, and for workflows that are only named."""
    return cast(Eye, _Blind(tagger))
