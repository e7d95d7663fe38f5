"""What was measured of each concept of the built-in tagger: ``quality.json`` beside the weights.

It is told to people and decides nothing, so it is no part of what the manifest vouches for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from sightrank.vision.bundle import BundleError


class Verdict(Enum):
    """How far a concept can be relied on."""

    GOOD = "good"
    WEAK_ON_PHOTOGRAPHS = "weak on photographs"
    WEAK = "weak"
    UNMEASURED = "unmeasured"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """On one set of photos: how many show the concept; average precision and ROC AUC, both from 0 to 1."""

    positives: int
    average_precision: float
    roc_auc: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ConceptQuality:
    """A concept's measures by set: ``evaluation`` and ``photographs``, where enough photos show it."""

    verdict: Verdict
    sets: Mapping[str, Measure]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """The measures of a bundle's version, by concept id."""

    version: str
    concepts: Mapping[str, ConceptQuality]

    @classmethod
    def load(cls, folder: Path) -> Quality:
        """Reads a bundle's ``quality.json``. Raises BundleError when it is missing or something else."""
        path = folder / "quality.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            concepts = {
                concept_id: ConceptQuality(
                    verdict=Verdict(entry["verdict"]),
                    sets={name: _measure(figures) for name, figures in entry["sets"].items()},
                )
                for concept_id, entry in content["concepts"].items()
            }
            return cls(version=str(content["version"]), concepts=concepts)
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise BundleError(f"{path} cannot be read as measures of concepts: {error}.") from error

    def of(self, concept_id: str) -> ConceptQuality:
        """That of a concept; one that the file does not name was not measured."""
        return self.concepts.get(concept_id) or ConceptQuality(verdict=Verdict.UNMEASURED, sets={})


def _measure(figures: Mapping[str, float]) -> Measure:
    return Measure(
        positives=int(figures["positives"]),
        average_precision=float(figures["average_precision"]),
        roc_auc=float(figures["roc_auc"]),
    )
