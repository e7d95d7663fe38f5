"""Random Search messages over an app. All chance comes from a ``random.Random``, so hypothesis can shrink it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

from clarifai_grpc.grpc.api import resources_pb2
from tests.oracle.apps import ANNOTATION_STATUSES, DATASETS, DIMS, OWN, PUBLIC, USERS, App

from sightrank.search.query import Unit

_VALUES = (1.0, 0.0, 1.0, 0.5, 0.3, 0.8)
_NAMES = ("dog", "犬", "Hund", "palm", "sea", "Gift", "DOG", "cat", "Rex", "nobody has it", "Meer")
_LANGUAGES = ("", "", "", "en", "ja", "de", "xx")
_WINDOWS = ((0, 5), (0, 1000), (3, 7), (0, 1), (20, 40), (128, 128), (5, 1), (60, 10))
_CONDITIONS = (
    *("concepts", "concepts", "concepts", "note", "input", "user", "trusted", "trusted", "level", "status"),
    *("owner", "media", "dataset", "dataset", "indexed", "nothing"),
)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One search as a client sends it."""

    search: resources_pb2.Search
    unit: Unit
    offset: int
    limit: int

    def __repr__(self) -> str:
        return f"{self.unit} [{self.offset}:+{self.limit}] {self.search}"


def random_search(random: Random, app: App, images: Iterable[str]) -> Asked:
    """Mostly searches that make sense; now and then one that must be refused."""
    maker = _Maker(random, app, sorted(images))
    query = resources_pb2.Query(
        ranks=[maker.rank() for _ in range(random.choice((1, 1, 1, 2, 2, 3, 0)))],
        filters=[maker.filter() for _ in range(random.choice((0, 0, 1, 1, 1, 2)))],
        language=maker.language(),
    )
    offset, limit = random.choice(_WINDOWS)
    return Asked(
        search=resources_pb2.Search(query=query, min_value=random.choice((0.0, 0.0, 0.0, 0.3, 0.5, 0.9, 1.0))),
        unit=random.choice((Unit.ANNOTATION, Unit.INPUT)),
        offset=offset,
        limit=limit,
    )


class _Maker:
    def __init__(self, random: Random, app: App, images: list[str]) -> None:
        self._random = random
        self._app = app
        self._images = images

    def language(self) -> str:
        return self._random.choice(_LANGUAGES)

    def rank(self) -> resources_pb2.Rank:
        rank = resources_pb2.Rank(negate=self._random.random() < 0.25)
        for _ in range(self._random.choice((1, 1, 1, 2, 3))):
            self._add_term(rank.annotation)
        return rank

    def _add_term(self, annotation: resources_pb2.Annotation) -> None:
        kind = self._random.choice(("concept", "concept", "concept", "image", "embedding", "input", "nothing"))
        data = annotation.data
        if kind == "concept":
            data.concepts.append(self._concept())
        elif kind == "image" and not data.image.ListFields():
            name = self._random.choice(self._images)
            if self._random.random() < 0.5:
                data.image.url = name
            else:
                data.image.base64 = name.encode()
        elif kind == "embedding":
            data.embeddings.add(vector=self._vector())
        elif kind == "input":
            # Mostly one that can be ranked by.
            inputs = [item.id for item in self._app.inputs if item.status == 30000 and item.media != "text"]
            others = ["no-such-input", *(item.id for item in self._app.inputs)]
            annotation.input_id = self._random.choice(inputs if inputs and self._random.random() < 0.9 else others)
        if not data.ListFields():
            annotation.ClearField("data")

    def _vector(self) -> list[float]:
        dims = DIMS if self._random.random() < 0.98 else DIMS - 1
        zero = self._random.random() > 0.98
        return [0.0 if zero else self._random.uniform(-1.0, 1.0) for _ in range(dims)]

    def _concept(self) -> resources_pb2.Concept:
        concept = resources_pb2.Concept(value=self._random.choice(_VALUES))
        if self._random.random() > 0.97:
            concept.name = "no such thing"
            return concept
        kind = self._random.choice(("id", "id", "name", "name", "name as id", "both"))
        if kind in {"id", "both"}:
            concept.id = self._random.choice((*PUBLIC, *OWN))
        if kind in {"name", "both"}:
            concept.name = self._random.choice(_NAMES)
            concept.language = self.language()
        if kind == "name as id":
            concept.id = self._random.choice(_NAMES)
        return concept

    def filter(self) -> resources_pb2.Filter:
        message = resources_pb2.Filter(negate=self._random.random() < 0.25)
        for _ in range(self._random.choice((1, 1, 2))):
            self._add_condition(message)
        return message

    def _add_condition(self, message: resources_pb2.Filter) -> None:
        random, annotation, owner = self._random, message.annotation, message.input
        kind = random.choice(_CONDITIONS)
        if kind == "concepts":
            annotation.data.concepts.extend(self._concept() for _ in range(random.choice((1, 1, 2))))
        elif kind == "note" and self._app.inputs:
            annotation.id = random.choice(random.choice(self._app.inputs).annotations).id
        elif kind in {"input", "owner"} and self._app.inputs:
            target = annotation if kind == "input" else owner
            setattr(target, "input_id" if kind == "input" else "id", random.choice(self._app.inputs).id)
        elif kind == "user":
            annotation.user_id = random.choice((*USERS, "nobody"))
        elif kind == "trusted":
            annotation.trusted = True
        elif kind == "level":
            annotation.input_level = True
        elif kind == "status":
            annotation.status.code = random.choice(ANNOTATION_STATUSES)
        elif kind == "media":
            for media in {random.choice(("image", "video", "text", "audio")) for _ in range(2)}:
                getattr(owner.data, media).SetInParent()
        elif kind == "dataset":
            owner.dataset_ids.extend(random.choice((*DATASETS, "unknown")) for _ in range(random.choice((1, 2))))
        elif kind == "indexed":
            owner.status.code = random.choice((30000, 30001, 30002))
        # The official client always sends both, empty or not.
        annotation.SetInParent()
        owner.SetInParent()
