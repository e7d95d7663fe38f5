"""Which p (design): what tells how surely a concept is in an area.

The latest trusted label, else the model version that the rank names, else the latest trained model of the app that
knows the concept, else the base workflow's tagger, else its detector, else likeness to the mean of what is labelled,
else what the concept's name says to a workflow that reads, else nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sightrank.errors import SearchInvalid
from sightrank.search.compile import (
    ConceptOfRank,
    Evidence,
    fitted_direction,
    predicted_direction,
    row_direction,
)
from sightrank.search.follow import Matrices
from sightrank.search.heads import Head
from sightrank.search.names import Meanings
from sightrank.search.query import ConceptTerm, Query, Rank
from sightrank.search.ranker import Ranker
from sightrank.search.scope import SearchScope
from sightrank.search.score import Direction, unit
from sightrank.search.versions import Versions
from sightrank.store import queries
from sightrank.store.database import Database
from sightrank.store.status import MODEL_TRAINED

_SQL = queries.load("search")
_FITS = queries.load("fits")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Speakers:
    """Who predicts the concepts of a rank, the first that knows one; ``only``: nobody else does."""

    heads: Sequence[Head]
    only: bool = False

    def know(self, concept_ids: Sequence[str]) -> bool:
        return not self.only or any(head.knows(concept_ids) for head in self.heads)


class EvidenceBook:
    """What is known of concepts: a direction that predicts one, and the labels that override it."""

    def __init__(self, database: Database, matrices: Matrices) -> None:
        self._database = database
        self._matrices = matrices

    async def read(
        self, scope: SearchScope, query: Query, concepts: Meanings, ranker: Ranker, versions: Versions
    ) -> Mapping[ConceptOfRank, Evidence]:
        """Of each concept of each rank, as of ``versions`` or later; of a time, the labels of then and the models of
        now. Of all that a name means, what a model version named by the rank does not know is left out.

        Raises SearchInvalid for a model version that cannot predict the concepts of its rank.
        """
        if not any(item.model_version_id or _concept_terms(item) for item in query.ranks):
            return {}
        assert scope.table is not None, "who ranks has vectors"
        heads = await self._matrices.heads.of_app(scope.bucket, scope.table.id, versions)
        found: dict[ConceptOfRank, Evidence] = {}
        for item in query.ranks:
            speakers = await self._speakers(scope, heads, item.model_version_id)
            for term in _concept_terms(item):
                known = [ids for ids in concepts[term.concept] if speakers.know(ids)]
                if not known:
                    raise SearchInvalid(
                        f"Model version {item.model_version_id!r} knows no concept with {term.concept.describe()};"
                        " leave model_version_id out to rank by whatever does."
                    )
                for ids in known:
                    if (item.model_version_id, ids) not in found:
                        evidence = await self._evidence(scope, query, speakers, ids, ranker, versions)
                        found[item.model_version_id, ids] = evidence
        return found

    async def _speakers(self, scope: SearchScope, heads: Sequence[Head], version_id: str) -> _Speakers:
        if not version_id:
            return _Speakers(heads=heads)
        if version_id in scope.model_version_ids:
            return _Speakers(heads=())
        assert scope.table is not None, "who ranks has vectors"
        named = await self._matrices.heads.of_version(scope.bucket, scope.table.id, version_id)
        if named is not None:
            return _Speakers(heads=(named,), only=True)
        row = await self._database.row(_FITS["version"], {"bucket": scope.bucket, "version_id": version_id})
        if row is None:
            raise SearchInvalid(
                f"model_version_id {version_id!r} is neither a version of a model of this app nor part of its base"
                f" workflow ({', '.join(sorted(scope.model_version_ids))}); leave it out to rank by the latest."
            )
        model_id, status = row
        raise SearchInvalid(
            f"Version {version_id!r} of model {model_id!r} has learnt nothing about the vectors of this app's base"
            " workflow; train a new version to rank by."
            if status == MODEL_TRAINED
            else f"Version {version_id!r} of model {model_id!r} has status {status}; rank by it once it has"
            f" {MODEL_TRAINED}."
        )

    async def _evidence(
        self,
        scope: SearchScope,
        query: Query,
        speakers: _Speakers,
        ids: tuple[str, ...],
        ranker: Ranker,
        versions: Versions,
    ) -> Evidence:
        assert scope.table is not None, "who ranks has vectors"
        labels = await self._matrices.labels(scope.bucket, ids, versions, query.as_of)
        predicted = await self._fitted(scope, speakers, ids) or predicted_direction(scope.tagger, ids)
        if predicted is not None:
            return predicted, labels
        if scope.only_detects(ids):
            detections = self._matrices.detections
            found = await detections.found(scope.table, scope.bucket, ids, scope.detector_id, versions)
            return Direction(vector=None), labels.over(found)
        mean = await ranker.mean_of_areas(labels.area_ids[labels.values >= 0.5])
        if mean is None and scope.eye is not None and scope.eye.reads:
            row = await self._database.row(_SQL["concept_name"], {"bucket": scope.bucket, "ids": list(ids)})
            return row_direction(await scope.eye.name_row(row[0] if row else ids[0])), labels
        return Direction(vector=None if mean is None else unit(mean)), labels

    async def _fitted(self, scope: SearchScope, speakers: _Speakers, ids: tuple[str, ...]) -> Direction | None:
        assert scope.table is not None, "who ranks has vectors"
        for head in speakers.heads:
            if not head.knows(ids):
                continue
            fit = await self._matrices.heads.fit(scope.bucket, scope.table.id, head)
            direction = fitted_direction(fit, ids) if fit is not None else None
            if direction is not None:
                return direction
            if speakers.only:
                raise SearchInvalid(f"Version {head.version_id!r} of model {head.model_id!r} has just been deleted.")
        return None


def _concept_terms(item: Rank) -> list[ConceptTerm]:
    return [term for term in item.terms if isinstance(term, ConceptTerm)]
