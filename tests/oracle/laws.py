"""The score laws (design): what a rank gives to the areas of one hit. Float64, the plain formulas, no logarithm."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from clarifai_grpc.grpc.api import resources_pb2
from tests.oracle.filters import Refused
from tests.oracle.names import Naming
from tests.oracle.records import App, Area, ModelVersion, Vector

from sightrank.vision.tagger import Tagger


@dataclass(frozen=True, slots=True)
class Share:
    """A probability and what is missing to 1, which can be far too small to be had by a subtraction."""

    yes: float
    no: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Probability:
    """How sure it is that an area shows something: the label where there is one."""

    labels: Mapping[int, float]
    otherwise: Callable[[Area], Share]

    def of(self, area: Area) -> Share:
        if area.id in self.labels:
            return Share(yes=self.labels[area.id], no=1.0 - self.labels[area.id])
        return self.otherwise(area)


@dataclass(frozen=True, kw_only=True, eq=False)
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


@dataclass(frozen=True, kw_only=True, eq=False)
class Law:
    """One rank. The areas are those of one hit."""

    terms: tuple[LawTerm, ...]
    negate: bool

    def score(self, areas: list[Area]) -> float:
        shares = [term.score(areas) for term in self.terms]
        if self.negate and len(shares) == 1:
            return shares[0].no
        mean = geometric_mean([share.yes for share in shares])
        return 1.0 - mean if self.negate else mean

    def likeness(self, areas: list[Area]) -> Hashable:
        """All that the rank can know about these areas."""
        return frozenset(
            (
                vector(area).tobytes(),
                tuple(probability.labels.get(area.id) for term in self.terms for probability in term.probabilities),
            )
            for area in areas
        )


@dataclass
class Laws:
    """Makes laws of ranks over one app. ``images`` are the vectors of query images, by url or bytes."""

    app: App
    naming: Naming
    tagger: Tagger
    images: Mapping[str | bytes, Vector]
    #: Model versions a rank may name.
    versions: frozenset[str] = frozenset()
    #: The model that finds regions, and what it finds.
    detector_id: str = ""
    detected: frozenset[str] = frozenset()
    _labels: dict[tuple[frozenset[str], int | None], dict[int, float]] = field(default_factory=dict)

    def of_rank(self, rank: resources_pb2.Rank, language: str, as_of_us: int | None) -> Law | None:
        """None for a rank that says nothing. Raises Refused, with the codes of everything that is wrong."""
        made: list[LawTerm] = []
        codes: set[int] = set()
        for make in self._terms(rank, language, as_of_us):
            try:
                made.append(make())
            except Refused as refusal:
                codes |= refusal.codes
        version = rank.annotation.model_version_id
        if (made or codes) and version and version not in self.versions and not self._named(version):
            codes.add(40002)
        if codes:
            raise Refused(*codes)
        return Law(terms=tuple(made), negate=rank.negate) if made else None

    def _terms(self, rank: resources_pb2.Rank, language: str, as_of_us: int | None) -> Iterator[Callable[[], LawTerm]]:
        data = rank.annotation.data
        for concept in data.concepts:
            yield partial(self._concept_term, concept, language, rank, as_of_us)
        for image in (data.image.url, data.image.base64):
            if image:
                yield partial(_similar, self.images[image])
        if rank.annotation.input_id:
            yield lambda: _similar(self._of_input(rank.annotation.input_id))
        if data.embeddings:
            yield lambda: _similar(_of_embeddings(data.embeddings, self.app.dims))
        if data.text.raw:
            yield _refuse  # the workflow cannot read

    def _concept_term(
        self, concept: resources_pb2.Concept, language: str, rank: resources_pb2.Rank, as_of_us: int | None
    ) -> LawTerm:
        meant = sorted(self.naming.meant(concept, language), key=sorted)
        version = rank.annotation.model_version_id
        models = self._named(version) if version else self._latest()
        if version and version not in self.versions:
            meant = [ids for ids in meant for model in models if ids & set(model.concept_ids)]
        if not meant:
            raise Refused(40002)
        value = 1.0 if rank.negate and concept.value == 0.0 else concept.value
        return LawTerm(probabilities=tuple(self._concept(ids, as_of_us, models) for ids in meant), value=value)

    def _named(self, version_id: str) -> list[ModelVersion]:
        """The model version that a rank names, if it is one of the app that can predict."""
        return [version for version in self.app.models if version.id == version_id and version.predicts]

    def _latest(self) -> list[ModelVersion]:
        """The latest version of each model, who was completed last first."""
        latest: dict[str, ModelVersion] = {}
        for version in sorted(self.app.models, key=lambda version: (version.created_us, version.id)):
            if version.predicts:
                latest[version.model_id] = version
        return sorted(latest.values(), key=lambda version: (version.completed_us, version.id), reverse=True)

    def _of_input(self, input_id: str) -> Vector:
        found = [item for item in self.app.inputs if item.id == input_id]
        if not found:
            raise Refused(11101)
        if found[0].status != 30000 or not found[0].embedded:
            raise Refused(43004)
        return _not_zero(np.mean([vector(area) for area in found[0].embedded], axis=0))

    def _concept(self, ids: frozenset[str], as_of_us: int | None, models: Iterable[ModelVersion]) -> Probability:
        """The label, else the first model that knows it, else the tagger, else the detector, else likeness to what is
        labelled, else nothing."""
        labels = self.labels(ids, as_of_us)
        for model in models:
            for place, name in enumerate(model.concept_ids):
                if name in ids:
                    return Probability(labels=labels, otherwise=partial(_learnt, model, place))
        row = next((row for concept in ids if (row := self.tagger.row(concept)) is not None), None)
        if row is not None:
            return Probability(labels=labels, otherwise=partial(_predicted, row.direction, row.scale, row.bias))
        if ids & self.detected:
            return Probability(labels={**self.found(ids), **labels}, otherwise=_nothing)
        positives = [
            vector(area) for item in self.app.inputs for area in item.embedded if labels.get(area.id, 0.0) >= 0.5
        ]
        if not positives or np.linalg.norm(np.mean(positives, axis=0)) < 1e-9:
            return Probability(labels=labels, otherwise=_nothing)
        return Probability(labels=labels, otherwise=partial(_half, _unit(np.mean(positives, axis=0))))

    def labels(self, ids: frozenset[str], as_of_us: int | None) -> dict[int, float]:
        """Area to what the latest trusted annotation of a person says, or said then, of the concept there."""
        key = (ids, as_of_us)
        if key not in self._labels:
            said = [
                (note.version.modified_us, note.annotation.id, item.area_of(note).id, value)
                for item in self.app.inputs
                for note in item.notes(as_of_us)
                if note.version.trusted and not note.by_model
                for name, value in note.version.concepts
                if name in ids
            ]
            self._labels[key] = {area_id: value for _, _, area_id, value in sorted(said)}
        return self._labels[key]

    def found(self, ids: frozenset[str]) -> dict[int, float]:
        """Area to how surely the detector has found the concept there, by now. A model of the app that is called so is
        none."""
        said = [
            (value, item.area_of(note).id)
            for item in self.app.inputs
            for note in item.notes(None)
            if note.annotation.model_id == self.detector_id and not note.annotation.own_model
            for name, value in note.version.concepts
            if name in ids
        ]
        return {area_id: value for value, area_id in sorted(said)}


def geometric_mean(scores: list[float]) -> float:
    product = math.prod(min(max(score, 0.0), 1.0) for score in scores)
    return float(product ** (1.0 / len(scores)))


def vector(area: Area) -> Vector:
    assert area.vector is not None
    return area.vector


def _predicted(direction: Vector, scale: float, bias: float, area: Area) -> Share:
    logit = float(scale * (vector(area) @ direction.astype(np.float64)) + bias)
    return Share(yes=1.0 / (1.0 + math.exp(-logit)), no=1.0 / (1.0 + math.exp(logit)))


def _learnt(model: ModelVersion, place: int, area: Area) -> Share:
    logits = model.scale * (model.directions @ vector(area)) + model.bias
    if not model.exclusive or len(logits) == 1:
        return Share(yes=1.0 / (1.0 + math.exp(-logits[place])), no=1.0 / (1.0 + math.exp(logits[place])))
    odds = np.exp(logits - logits.max())
    return Share(yes=float(odds[place] / odds.sum()), no=float(np.delete(odds, place).sum() / odds.sum()))


def _nothing(area: Area) -> Share:
    return Share(yes=0.0, no=1.0)


def _similar(direction: Vector) -> LawTerm:
    return LawTerm(probabilities=(Probability(labels={}, otherwise=partial(_half, _unit(direction))),), value=1.0)


def _half(unit: Vector, area: Area) -> Share:
    cosine = min(max(float(vector(area) @ unit), -1.0), 1.0)
    return Share(yes=(1.0 + cosine) / 2.0, no=(1.0 - cosine) / 2.0)


def _unit(direction: Vector) -> Vector:
    return np.asarray(direction / np.linalg.norm(direction))


def _of_embeddings(embeddings: Iterable[resources_pb2.Embedding], dims: int) -> Vector:
    units = []
    for embedding in embeddings:
        numbers = np.array(embedding.vector, np.float64)
        if len(numbers) != dims:
            raise Refused(40002)
        units.append(_unit(_not_zero(numbers)))
    return _not_zero(np.mean(units, axis=0))


def _not_zero(direction: Vector) -> Vector:
    """Raises Refused for what is no direction."""
    if np.linalg.norm(direction) < 1e-9:
        raise Refused(40002)
    return np.asarray(direction)


def _refuse() -> LawTerm:
    raise Refused(40002)
