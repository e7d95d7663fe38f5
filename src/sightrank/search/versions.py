"""How far an app has been changed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """A bucket's commit versions: of anything a search sees, and of labels alone."""

    all: int
    labels: int


NO_VERSIONS = Versions(all=0, labels=0)
