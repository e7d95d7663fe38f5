"""Random Search messages over an app. All chance comes from a ``random.Random``, so hypothesis can shrink it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from clarifai_grpc.grpc.api import resources_pb2
from tests.oracle.apps import DATASETS, MODEL_VERSIONS, USERS
from tests.oracle.conditions import (
    ANNOTATION_KINDS,
    INPUT_KINDS,
    Conditions,
    Target,
    add_nothing,
    random_target,
    timestamp,
)
from tests.oracle.records import App
from tests.oracle.teaching import PUBLIC_VERSIONS

from sightrank.search.query import Unit

NAMES = ("dog", "犬", "Hund", "palm", "sea", "Gift", "DOG", "cat", "Rex", "nobody has it", "Meer")
LANGUAGES = ("", "", "", "en", "ja", "de", "xx")
_ODD_KINDS = ("model", "concepts", "concepts")
_WINDOWS = (
    (0, 1000),
    (0, 1000),
    (0, 1000),
    (0, 5),
    (0, 5),
    (3, 7),
    (0, 1),
    (20, 40),
    (128, 128),
    (5, 1),
    (60, 10),
    (0, 41),
)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One search as a client sends it. ``legacy``: by PostSearches; ``counts``: only how many."""

    search: resources_pb2.Search
    unit: Unit
    offset: int = 0
    limit: int = 0
    legacy: bool = False
    counts: bool = False

    def __repr__(self) -> str:
        kind = "legacy " if self.legacy else "count of " if self.counts else ""
        return f"{kind}{self.unit} [{self.offset}:+{self.limit}]\n{self.search}"


@dataclass(frozen=True, kw_only=True)
class Words:
    """What searches over an app may name."""

    images: Sequence[str | bytes]
    names: Sequence[str] = NAMES
    languages: Sequence[str] = LANGUAGES
    datasets: Sequence[str] = DATASETS
    users: Sequence[str] = USERS
    model_versions: Sequence[str] = MODEL_VERSIONS


def random_search(random: Random, app: App, words: Words) -> Asked:
    """Mostly searches that make sense; now and then one that must be refused."""
    maker = _Maker(random, app, words)
    shape = random.random()
    if shape < 0.05:
        return _counting(maker, random)
    search = resources_pb2.Search(min_value=random.choice((0.0, 0.0, 0.0, 0.0, 0.3, 0.5, 0.9, 1.0)))
    maker.begin(search)
    legacy = shape < 0.25
    if legacy:
        maker.add_ands(search.query)
    if not legacy or random.random() < 0.3:
        maker.add_ranks(search.query, (0, 1, 1, 1, 2, 2, 3))
        maker.add_filters(search.query, (0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 4))
    search.query.language = random.choice(words.languages)
    if random.random() < 0.02:
        search.algorithm = random.choice(("brute_force", "fastest"))
    offset, limit = random.choice(_WINDOWS)
    unit = Unit.INPUT if legacy else random.choice((Unit.ANNOTATION, Unit.INPUT))
    return Asked(search=search, unit=unit, offset=offset, limit=limit, legacy=legacy)


def _counting(maker: _Maker, random: Random) -> Asked:
    search = resources_pb2.Search()
    maker.begin(search)
    maker.add_filters(search.query, (0, 1, 1, 2, 3))
    return Asked(search=search, unit=Unit.INPUT, counts=True)


def page_of(asked: Asked, offset: int, limit: int) -> Asked:
    return replace(asked, offset=offset, limit=limit)


class _Maker:
    def __init__(self, random: Random, app: App, words: Words) -> None:
        self._random = random
        self._app = app
        self._images = words.images
        self._conditions = Conditions(
            random=random,
            app=app,
            names=words.names,
            languages=words.languages,
            datasets=words.datasets,
            users=words.users,
            model_versions=words.model_versions,
        )
        self._as_of_us: int | None = None
        self._target: Target | None = None

    def begin(self, search: resources_pb2.Search) -> None:
        """As of now, of the future, or of the past, there often of the very moment of a change."""
        random = self._random
        if random.random() < 0.3:
            self._set_as_of(search)
        self._target = random_target(random, self._app, self._as_of_us)

    def _set_as_of(self, search: resources_pb2.Search) -> None:
        random = self._random
        times = self._app.times_us() or [10**15]
        at_us = random.choice((random.choice(times), random.choice(times), times[-1], times[-1] + 10**13, times[0]))
        self._as_of_us = at_us + random.choice((0, 0, -1, 1))
        search.as_of.CopyFrom(timestamp(self._as_of_us, random.choice((0, 0, 500))))

    def add_ranks(self, query: resources_pb2.Query, counts: Sequence[int]) -> None:
        for _ in range(self._random.choice(counts)):
            rank = query.ranks.add(negate=self._random.random() < 0.25)
            for _ in range(self._random.choice((1, 1, 1, 2, 3))):
                self._add_term(rank.annotation)
            if self._random.random() < 0.12:
                self._name_version(rank.annotation)

    def add_filters(self, query: resources_pb2.Query, counts: Sequence[int]) -> None:
        for _ in range(self._random.choice(counts)):
            self._fill(query.filters.add(negate=self._random.random() < 0.25))

    def add_ands(self, query: resources_pb2.Query) -> None:
        random = self._random
        for _ in range(random.choice((1, 1, 2, 3))):
            one = query.ands.add(negate=random.random() < 0.2)
            kind = random.choice(("input", "input", "output", "output", "annotation", "several", "nothing"))
            if kind in {"input", "several"}:
                self._add_legacy_input(one.input)
            if kind in {"output", "several"}:
                self._add_legacy_output(one.output)
            if kind == "annotation":
                near = self._near()
                for name in random.sample(ANNOTATION_KINDS, random.choice((1, 2))):
                    self._conditions.add_to_annotation(one.annotation, name, near)

    # Filters -------------------------------------------------------------------------------------------------------

    def _near(self) -> Target | None:
        """The one annotation that most filters of this search are about, or another, or none."""
        chance = self._random.random()
        if chance < 0.7:
            return self._target
        return random_target(self._random, self._app, self._as_of_us) if chance < 0.9 else None

    def _fill(self, message: resources_pb2.Filter) -> None:
        random, near = self._random, self._near()
        for _ in range(random.choice((1, 1, 1, 2, 3))):
            chance = random.random()
            if chance < 0.72:
                # What a negation means is a question of its own for these, and so is what is asked of predictions.
                is_odd = message.negate or (near is not None and bool(near.annotation.model_version_id))
                kinds = _ODD_KINDS if is_odd and random.random() < 0.4 else ANNOTATION_KINDS
                self._conditions.add_to_annotation(message.annotation, random.choice(kinds), near)
            elif chance < 0.92:
                self._conditions.add_to_input(message.input, random.choice(INPUT_KINDS), near)
            elif chance < 0.97:
                self._conditions.changed(message.last_updated_time_range, near)
            else:
                add_nothing(random, message)
        if message.negate and random.random() < 0.5:
            for concept in message.annotation.data.concepts:
                concept.value = 0.0
        # The official client always sends both, empty or not.
        message.annotation.SetInParent()
        message.input.SetInParent()

    def _add_legacy_input(self, wanted: resources_pb2.Input) -> None:
        random, near = self._random, self._near()
        for kind in random.sample(("concepts", "geo", "metadata", "url", "owner", "dataset", "indexed"), 1):
            if kind == "concepts":
                wanted.data.concepts.append(self._conditions.concept(near))
            elif kind == "geo":
                self._conditions.add_geo(wanted.data.geo, near)
            elif kind == "metadata":
                self._conditions.add_metadata(wanted.data, near)
            elif kind == "url":
                wanted.data.image.url = (near.item.url if near else "") or "http://pictures.test/none.jpg"
            else:
                self._conditions.add_to_input(wanted, kind, near)

    # Ranks ---------------------------------------------------------------------------------------------------------

    def _add_legacy_output(self, output: resources_pb2.Output) -> None:
        kind = self._random.choice(("concept", "concept", "image", "input"))
        if kind == "concept":
            output.data.concepts.append(self._conditions.concept())
        elif kind == "image":
            self._set_image(output.input.data.image)
        else:
            output.input.id = self._input_id()

    def _add_term(self, annotation: resources_pb2.Annotation) -> None:
        kind = self._random.choice(("concept", "concept", "concept", "image", "embedding", "input", "nothing"))
        data = annotation.data
        if kind == "concept":
            data.concepts.append(self._conditions.concept())
        elif kind == "image" and not data.image.ListFields():
            self._set_image(data.image)
        elif kind == "embedding":
            data.embeddings.add(vector=self._vector())
        elif kind == "input":
            annotation.input_id = self._input_id()
        if not data.ListFields() and self._random.random() < 0.8:
            annotation.ClearField("data")
        elif self._random.random() < 0.02:
            self._random.choice((data, data.image, data.text, annotation)).SetInParent()

    def _name_version(self, annotation: resources_pb2.Annotation) -> None:
        """The model version to rank by, which mostly knows what it is asked about."""
        random = self._random
        known = {version.id: version.concept_ids for version in self._app.models}
        annotation.model_version_id = random.choice([*known, *known, *PUBLIC_VERSIONS, "no such version"])
        if random.random() < 0.8 and annotation.model_version_id in known:
            for concept in annotation.data.concepts:
                concept.id = random.choice(known[annotation.model_version_id])

    def _set_image(self, image: resources_pb2.Image) -> None:
        chosen = self._random.choice(self._images)
        if isinstance(chosen, str):
            image.url = chosen
        else:
            image.base64 = chosen

    def _input_id(self) -> str:
        """Mostly one that can be ranked by."""
        inputs = [item.id for item in self._app.inputs if item.embedded]
        others = ["no-such-input", *(item.id for item in self._app.inputs)]
        return self._random.choice(inputs if inputs and self._random.random() < 0.9 else others)

    def _vector(self) -> list[float]:
        dims = self._app.dims if self._random.random() < 0.98 else self._app.dims - 1
        zero = self._random.random() > 0.98
        return [0.0 if zero else self._random.uniform(-1.0, 1.0) for _ in range(dims)]
