"""The search laws once more, said plainly: loops over records, float64, no SQL, no index, no logarithm.

It reads the Search message itself (api-spec 4 and the design's score laws), so that a misreading in ``search.parse``
shows as well. What the server answers is compared with this by ``comparison``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import numpy as np
from clarifai_grpc.grpc.api import resources_pb2
from numpy.typing import NDArray
from tests.oracle.apps import DIMS, OWN, PUBLIC, Annotation, App, Area, Input

from sightrank.search.query import Unit
from sightrank.vision.tagger import Tagger

Vector = NDArray[np.float64]
S = TypeVar("S")
T = TypeVar("T")


class Refused(Exception):
    """The search is wrong; ``codes`` are the statuses it may be answered with, one for each thing that is wrong."""

    def __init__(self, *codes: int) -> None:
        super().__init__(codes)
        self.codes = frozenset(codes)


@dataclass(frozen=True, kw_only=True)
class Expected:
    """A hit as it must be. Hits with equal ``likeness`` must follow ``since``: nothing in a rank tells them apart."""

    input_number: int
    area_id: int | None
    annotation_id: str | None
    score: float
    since: tuple[int, Hashable]
    likeness: Hashable = None
    #: Areas that stand for the hit as well as ``area_id`` does.
    as_good: frozenset[int] = frozenset()

    @property
    def key(self) -> tuple[int, int | None, str | None]:
        return self.input_number, self.area_id, self.annotation_id


@dataclass
class Oracle:
    """Answers searches over one app."""

    app: App
    tagger: Tagger
    images: Mapping[str, Vector]
    _labels: dict[frozenset[str], dict[int, float]] = field(default_factory=dict)

    def answer(self, search: resources_pb2.Search, unit: Unit) -> list[Expected]:
        """All hits in order, before ``min_value`` and pages. Raises Refused."""
        ranks = [rank for rank in search.query.ranks if rank.annotation.ListFields()]
        filters = [item for item in search.query.filters if _says_something(item)]
        language = search.query.language
        laws = _all_or_refused(self._law, ranks, language)
        if unit is Unit.ANNOTATION:
            hits = list(self._annotation_hits(filters, laws, language))
        else:
            hits = list(self._input_hits(filters, laws, language))
        return sorted(hits, key=lambda hit: (-hit.score, hit.since))

    # Units ---------------------------------------------------------------------------------------------------------

    def _annotation_hits(
        self, filters: list[resources_pb2.Filter], laws: list[Law], language: str
    ) -> Iterator[Expected]:
        for item in self.app.inputs:
            surviving = sorted(
                (
                    note
                    for note in item.annotations
                    if not note.by_model and all(self._holds(f, item, note, language) != f.negate for f in filters)
                ),
                key=lambda note: (note.created_us, note.id),
            )
            if not laws:
                yield from (
                    Expected(
                        input_number=item.number,
                        area_id=None,
                        annotation_id=note.id,
                        score=1.0,
                        since=(note.created_us, note.id),
                    )
                    for note in surviving
                )
                continue
            for area in _with_vectors(item):
                speaking = [note.id for note in surviving if note.area_id == area.id]
                if speaking or not filters:
                    yield Expected(
                        input_number=item.number,
                        area_id=area.id,
                        annotation_id=speaking[0] if filters else None,
                        score=_mean([law.score([area]) for law in laws]),
                        since=(area.created_us, area.id),
                        likeness=tuple(law.likeness([area]) for law in laws),
                    )

    def _input_hits(self, filters: list[resources_pb2.Filter], laws: list[Law], language: str) -> Iterator[Expected]:
        for item in self.app.inputs:
            people = [note for note in item.annotations if not note.by_model]
            if not all(any(self._holds(f, item, note, language) for note in people) != f.negate for f in filters):
                continue
            areas = _with_vectors(item)
            if not laws:
                wanted = [f for f in filters if not f.negate]
                first = min(
                    people,
                    key=lambda note: (
                        not any(self._holds(f, item, note, language) for f in wanted),
                        note.created_us,
                        note.id,
                    ),
                )
                yield Expected(
                    input_number=item.number,
                    area_id=None,
                    annotation_id=first.id,
                    score=1.0,
                    since=(item.created_us, item.id),
                )
            elif areas:
                alone = {area.id: _mean([law.score([area]) for law in laws]) for area in areas}
                best = max(alone.values())
                yield Expected(
                    input_number=item.number,
                    area_id=min(area_id for area_id, score in alone.items() if score == best),
                    as_good=frozenset(area_id for area_id, score in alone.items() if score > best - 1e-5),
                    annotation_id=None,
                    score=_mean([law.score(areas) for law in laws]),
                    since=(item.created_us, item.id),
                    likeness=tuple(law.likeness(areas) for law in laws),
                )

    # Filters -------------------------------------------------------------------------------------------------------

    def _holds(self, message: resources_pb2.Filter, item: Input, note: Annotation, language: str) -> bool:
        """Whether everything the filter says, its negation aside, is so for this annotation of this input."""
        wanted, owner = message.annotation, message.input
        checks = [
            not wanted.id or wanted.id == note.id,
            not wanted.input_id or wanted.input_id == item.id,
            not wanted.user_id or wanted.user_id == note.user_id,
            not wanted.trusted or note.trusted,
            not wanted.input_level or note.input_level,
            not wanted.status.code or wanted.status.code == note.status,
            not owner.id or owner.id == item.id,
            not owner.dataset_ids or any(dataset in item.datasets for dataset in owner.dataset_ids),
        ]
        kinds = [item.media == media for media in ("image", "video", "text", "audio") if owner.data.HasField(media)]
        if owner.status.code:
            kinds.append(owner.status.code == item.status)
        checks.append(not kinds or any(kinds))
        says = [self._says(concept, note, language, message.negate) for concept in wanted.data.concepts]
        checks.append(not says or any(says))
        return all(checks)

    def _says(self, concept: resources_pb2.Concept, note: Annotation, language: str, negated: bool) -> bool:
        positive = concept.value >= 0.5 or (negated and concept.value == 0.0)
        meant = {name for ids in self.meant(concept, language) for name in ids}
        return any(name in meant and (value >= 0.5) == positive for name, value in note.concepts)

    def meant(self, concept: resources_pb2.Concept, language: str) -> set[frozenset[str]]:
        """The concepts a reference means, each with all ids that are this one concept."""
        return {self._same(name) for name in self._named(concept, language)}

    def _same(self, concept_id: str) -> frozenset[str]:
        """An own concept and the public one of the same name in the app's language are one concept."""
        public = self._public(concept_id)
        return frozenset({public, *(name for name in OWN if self._public(name) == public)})

    def _public(self, concept_id: str) -> str:
        if concept_id in PUBLIC:
            return concept_id
        name = self._own_name(concept_id, self.app.language).lower()
        same = [public for public, words in PUBLIC.items() if words.get(self.app.language, words["en"]).lower() == name]
        return same[0] if same else concept_id

    def _named(self, concept: resources_pb2.Concept, language: str) -> set[str]:
        """By id, else by name in its language, else the app's, else English."""
        if concept.id in PUBLIC or concept.id in OWN:
            return {concept.id}
        for text in filter(None, (concept.id, concept.name)):
            for spoken in (concept.language or language or self.app.language, self.app.language, "en"):
                found = {name for name, words in PUBLIC.items() if words.get(spoken, "").lower() == text.lower()}
                found |= {name for name in OWN if self._own_name(name, spoken).lower() == text.lower()}
                if found:
                    return found
        return set()

    def _own_name(self, concept_id: str, language: str) -> str:
        name, others = OWN[concept_id]
        return name if language == self.app.language else others.get(language, "")

    # Ranks ---------------------------------------------------------------------------------------------------------

    def _law(self, rank: resources_pb2.Rank, language: str) -> Law:
        terms = _all_or_refused(lambda make, _: make(), list(self._terms(rank, language)), language)
        return Law(terms=tuple(terms), negate=rank.negate)

    def _terms(self, rank: resources_pb2.Rank, language: str) -> Iterator[Callable[[], LawTerm]]:
        data = rank.annotation.data
        for concept in data.concepts:
            yield partial(self._concept_term, concept, language, rank.negate)
        for image in (data.image.url, data.image.base64.decode()):
            if image:
                yield partial(_similar, self.images[image])
        if rank.annotation.input_id:
            yield lambda: _similar(self._of_input(rank.annotation.input_id))
        if data.embeddings:
            yield lambda: _similar(_of_embeddings(data.embeddings))

    def _concept_term(self, concept: resources_pb2.Concept, language: str, negated: bool) -> LawTerm:
        meant = sorted(self.meant(concept, language), key=sorted)
        if not meant:
            raise Refused(40002)
        value = 1.0 if negated and concept.value == 0.0 else concept.value
        return LawTerm(probabilities=tuple(self._concept(ids) for ids in meant), value=value)

    def _of_input(self, input_id: str) -> Vector:
        found = [item for item in self.app.inputs if item.id == input_id]
        if not found:
            raise Refused(11101)
        areas = _with_vectors(found[0])
        if found[0].status != 30000 or not areas:
            raise Refused(43004)
        mean = np.mean([_vector(area) for area in areas], axis=0)
        if np.linalg.norm(mean) < 1e-9:
            raise Refused(40002)
        return np.asarray(mean)

    def _concept(self, ids: frozenset[str]) -> Probability:
        labels = self.labels(ids)
        row = next(filter(None, map(self.tagger.row, ids)), None)
        if row is not None:
            direction = row.direction.astype(np.float64)
            scale, bias = row.scale, row.bias

            def predicted(area: Area) -> Share:
                logit = float(scale * (_vector(area) @ direction) + bias)
                return Share(yes=1.0 / (1.0 + math.exp(-logit)), no=1.0 / (1.0 + math.exp(logit)))

            return Probability(labels=labels, otherwise=predicted)
        positives = [
            _vector(area) for item in self.app.inputs for area in _with_vectors(item) if labels.get(area.id, 0.0) >= 0.5
        ]
        if not positives or np.linalg.norm(np.mean(positives, axis=0)) < 1e-9:
            return Probability(labels=labels, otherwise=lambda area: Share(yes=0.0, no=1.0))
        mean = np.mean(positives, axis=0)
        return Probability(labels=labels, otherwise=lambda area: _half(area, mean))

    def labels(self, ids: frozenset[str]) -> dict[int, float]:
        """Area to what the latest trusted annotation says of the concept there."""
        if ids not in self._labels:
            said = [
                (note.modified_us, note.id, note.area_id, value)
                for item in self.app.inputs
                for note in item.annotations
                if note.trusted and not note.by_model
                for name, value in note.concepts
                if name in ids
            ]
            self._labels[ids] = {area_id: value for _, _, area_id, value in sorted(said)}
        return self._labels[ids]


@dataclass(frozen=True, kw_only=True)
class Share:
    """A probability and what is missing to 1, which can be far too small to be had by a subtraction."""

    yes: float
    no: float


@dataclass(frozen=True, kw_only=True)
class Probability:
    """How sure it is that an area shows something: the label where there is one."""

    labels: Mapping[int, float]
    otherwise: Callable[[Area], Share]

    def of(self, area: Area) -> Share:
        if area.id in self.labels:
            return Share(yes=self.labels[area.id], no=1.0 - self.labels[area.id])
        return self.otherwise(area)


@dataclass(frozen=True, kw_only=True)
class LawTerm:
    """The likeliest of several meanings, wanted with ``value``."""

    probabilities: tuple[Probability, ...]
    value: float

    def score(self, areas: list[Area]) -> Share:
        shares = [probability.of(area) for area in areas for probability in self.probabilities]
        p = max(shares, key=lambda share: (share.yes, -share.no))
        return Share(
            yes=self.value * p.yes + (1.0 - self.value) * p.no, no=self.value * p.no + (1.0 - self.value) * p.yes
        )


@dataclass(frozen=True, kw_only=True)
class Law:
    """One rank. The areas are those of one hit."""

    terms: tuple[LawTerm, ...]
    negate: bool

    def score(self, areas: list[Area]) -> float:
        shares = [term.score(areas) for term in self.terms]
        if self.negate and len(shares) == 1:
            return shares[0].no
        mean = _mean([share.yes for share in shares])
        return 1.0 - mean if self.negate else mean

    def likeness(self, areas: list[Area]) -> Hashable:
        """All that the rank can know about these areas."""
        return frozenset(
            (
                _vector(area).tobytes(),
                tuple(probability.labels.get(area.id) for term in self.terms for probability in term.probabilities),
            )
            for area in areas
        )


def _all_or_refused(make: Callable[[S, str], T], parts: list[S], language: str) -> list[T]:
    """All that can be made; raises one Refused for everything that cannot."""
    made: list[T] = []
    codes: set[int] = set()
    for part in parts:
        try:
            made.append(make(part, language))
        except Refused as refusal:
            codes |= refusal.codes
    if codes:
        raise Refused(*codes)
    return made


def _mean(scores: list[float]) -> float:
    return float(np.clip(np.prod(np.clip(scores, 0.0, 1.0)) ** (1.0 / len(scores)), 0.0, 1.0))


def _similar(direction: Vector) -> LawTerm:
    return LawTerm(probabilities=(Probability(labels={}, otherwise=lambda area: _half(area, direction)),), value=1.0)


def _half(area: Area, direction: Vector) -> Share:
    cosine = float(np.clip(_vector(area) @ direction / np.linalg.norm(direction), -1.0, 1.0))
    return Share(yes=(1.0 + cosine) / 2.0, no=(1.0 - cosine) / 2.0)


def _of_embeddings(embeddings: Iterable[resources_pb2.Embedding]) -> Vector:
    units = []
    for embedding in embeddings:
        vector = np.array(embedding.vector, np.float64)
        if len(vector) != DIMS or np.linalg.norm(vector) < 1e-9:
            raise Refused(40002)
        units.append(vector / np.linalg.norm(vector))
    mean = np.mean(units, axis=0)
    if np.linalg.norm(mean) < 1e-9:
        raise Refused(40002)
    return np.asarray(mean)


def _says_something(item: resources_pb2.Filter) -> bool:
    return bool(item.annotation.ListFields() or item.input.ListFields())


def _with_vectors(item: Input) -> list[Area]:
    return [area for area in item.areas if area.vector is not None]


def _vector(area: Area) -> Vector:
    assert area.vector is not None
    return area.vector
