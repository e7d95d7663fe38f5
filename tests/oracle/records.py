"""What an app holds, as plain records: all that the oracle reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from clarifai_grpc.grpc.api import resources_pb2
from google.protobuf.json_format import MessageToDict
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Names = Mapping[str, str]  # language to name


@dataclass(kw_only=True, eq=False)
class Area:
    """The whole input, a region (``is_gone`` once nobody speaks of it any more), or the ``frame`` of that index."""

    id: int
    created_us: int
    is_region: bool = False
    has_box: bool = False
    region_id: str = ""
    frame: int | None = None
    is_gone: bool = False
    #: As stored, in float64; None for areas of inputs that were never embedded.
    vector: Vector | None = None


@dataclass(kw_only=True, eq=False)
class Version:
    """What an annotation said from ``modified_us`` on, until ``until_us`` (None: it says so now).

    ``data`` is what was posted, concepts of regions among its own concepts.
    """

    modified_us: int
    until_us: int | None = None
    status: int
    trusted: bool
    area: Area
    data: resources_pb2.Data
    info: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        self.concepts = [(concept.id, concept.value) for concept in self.data.concepts]
        self.metadata = MessageToDict(self.data.metadata) if self.data.HasField("metadata") else None
        point = self.data.geo.geo_point
        self.place = (point.latitude, point.longitude) if self.data.HasField("geo") else None


@dataclass(kw_only=True, eq=False)
class Annotation:
    """An annotation with its history, the oldest version first."""

    id: str
    created_us: int
    input_level: bool = False
    user_id: str = ""
    task_id: str = ""
    model_id: str = ""
    model_version_id: str = ""
    own_model: bool = False
    versions: list[Version] = field(default_factory=list)

    def at(self, as_of_us: int | None) -> Note | None:
        """What it says now, or said then; None when there is nothing of it."""
        for version in self.versions:
            if as_of_us is None:
                if version.until_us is None:
                    return Note(self, version)
            elif version.modified_us <= as_of_us and (version.until_us is None or as_of_us < version.until_us):
                return Note(self, version)
        return None


@dataclass(frozen=True)
class Note:
    """An annotation at one time."""

    annotation: Annotation
    version: Version

    @property
    def order(self) -> tuple[int, str]:
        return self.annotation.created_us, self.annotation.id

    @property
    def by_model(self) -> bool:
        return bool(self.annotation.model_version_id)


@dataclass(kw_only=True, eq=False)
class Input:
    """``areas`` begins with the whole image and leaves out those that are gone."""

    id: str
    number: int
    created_us: int
    status: int
    media: str
    url: str = ""
    datasets: tuple[str, ...] = ()
    areas: list[Area] = field(default_factory=list)
    annotations: list[Annotation] = field(default_factory=list)

    def notes(self, as_of_us: int | None) -> list[Note]:
        """What is, or was then, said of it, in order of creation."""
        found = [note for annotation in self.annotations if (note := annotation.at(as_of_us)) is not None]
        return sorted(found, key=lambda note: note.order)

    def area_of(self, note: Note) -> Area:
        """Where a note stands: on the whole image once its area is gone."""
        return self.areas[0] if note.version.area.is_gone else note.version.area

    @property
    def embedded(self) -> list[Area]:
        return [area for area in self.areas if area.vector is not None]

    def embedded_at(self, as_of_us: int | None) -> list[Area]:
        """Those that were there already."""
        return [area for area in self.embedded if as_of_us is None or area.created_us <= as_of_us]


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelVersion:
    """A version of a model of the app. Trained, it predicts each of ``concept_ids`` by the row of ``directions`` in its
    place; ``exclusive``: their probabilities sum to 1. ``is_fitted``: to the vectors that the app is searched by.
    """

    id: str
    model_id: str
    created_us: int
    completed_us: int
    status: int
    is_fitted: bool
    concept_ids: tuple[str, ...]
    exclusive: bool
    directions: Vector
    scale: Vector
    bias: Vector

    @property
    def predicts(self) -> bool:
        return self.status == 21100 and self.is_fitted


@dataclass(kw_only=True, eq=False)
class App:
    """One app: ``own`` concepts by id (name in the app's language, names in others), ``public`` ones by id."""

    bucket: int
    language: str
    dims: int
    inputs: list[Input]
    own: Mapping[str, tuple[str, Names]]
    public: Mapping[str, Names]
    user_id: str = ""
    models: list[ModelVersion] = field(default_factory=list)

    def versions(self) -> Iterator[tuple[Input, Annotation, Version]]:
        for item in self.inputs:
            for annotation in item.annotations:
                for version in annotation.versions:
                    yield item, annotation, version

    def times_us(self) -> list[int]:
        """The moments at which something was said or changed, or began to be."""
        times = {version.modified_us for _, _, version in self.versions()}
        ends = {version.until_us for _, _, version in self.versions() if version.until_us is not None}
        return sorted(times | ends | {area.created_us for item in self.inputs for area in item.areas})
