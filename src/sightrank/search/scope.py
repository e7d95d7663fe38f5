"""The app a search runs in: where its vectors are, and the models of its base workflow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sightrank.search.compile import predicted_direction
from sightrank.store.vectors import EmbedderTable
from sightrank.vision.eye import Eye
from sightrank.vision.tagger import Tagger


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchScope:
    """The app a search runs in. ``table`` and ``eye`` are None when its base workflow embeds nothing or cannot run:
    then ``lacks`` says why. ``model_version_ids`` are those of the workflow's models.
    """

    bucket: int
    default_language: str
    table: EmbedderTable | None
    eye: Eye | None
    model_version_ids: frozenset[str] = frozenset()
    detector_id: str = ""
    lacks: str = ""

    @property
    def tagger(self) -> Tagger | None:
        return self.eye.tagger if self.eye else None

    def only_detects(self, concept_ids: Sequence[str]) -> bool:
        """Whether a concept, under any of its ids, is one that the detector finds and the tagger does not know."""
        detector = self.eye.detector if self.eye else None
        found = detector is not None and not set(concept_ids).isdisjoint(detector.concept_ids)
        return found and predicted_direction(self.tagger, concept_ids) is None
