"""What a filter says of an annotation (api-spec 4.2 to 4.4), plainly: loops, recursion, the haversine.

Every function answers for one filter, its negation aside, and one annotation of one input.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from clarifai_grpc.grpc.api import resources_pb2
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from tests.oracle.names import Naming
from tests.oracle.records import App, Input, Note

EARTH_KM = 6371.0088
MILE_KM = 1.609344
GEOMETRIES = ("bounding_box", "mask", "polygon", "point", "span", "token")
MEDIA = ("image", "video", "text", "audio")


class Refused(Exception):
    """The search is wrong; ``codes`` are the statuses it may be answered with, one for each thing that is wrong."""

    def __init__(self, *codes: int) -> None:
        super().__init__(codes)
        self.codes = frozenset(codes)


@dataclass(frozen=True)
class Context:
    """Whom an annotation may ask: its input, and its input's own annotation of the same time."""

    item: Input
    note: Note
    input_level: Note | None

    def metadata(self) -> Any:
        own = self.note.version.metadata
        return own if own is not None or self.input_level is None else self.input_level.version.metadata

    def place(self) -> tuple[float, float] | None:
        own = self.note.version.place
        return own if own is not None or self.input_level is None else self.input_level.version.place


Check = Callable[[Context], bool]


@dataclass(frozen=True, kw_only=True)
class Sieve:
    """A filter, or the part of a legacy And that filters. ``opens``: it asks for what a model wrote; ``of_inputs``: it
    asks nothing of annotations.
    """

    checks: tuple[Check, ...]
    negate: bool
    opens: bool = False
    of_inputs: bool = False

    def says(self, context: Context) -> bool:
        return all(check(context) for check in self.checks)


@dataclass(frozen=True)
class Filters:
    """Reads filters over one app. ``me`` is whom a filter calls "me"."""

    app: App
    naming: Naming
    me: str

    def of_filter(self, message: resources_pb2.Filter, language: str) -> Sieve | None:
        """None for a filter that says nothing. Raises Refused."""
        annotation = message.annotation
        checks = [
            *self._scalars(annotation),
            *self._data(annotation, language, message.negate),
            *_input(message.input),
            *_changed(message.last_updated_time_range),
        ]
        model = annotation.worker.model
        names_model = bool(annotation.model_version_id or model.model_version.id or model.id)
        of_inputs = not _of_annotation(annotation) and not _says(message.last_updated_time_range)
        return _sieve(checks, message.negate, opens=names_model and not message.negate, of_inputs=of_inputs)

    def of_legacy_annotation(self, message: resources_pb2.And, language: str) -> Sieve | None:
        return self.of_filter(resources_pb2.Filter(annotation=message.annotation, negate=message.negate), language)

    def of_legacy_input(self, message: resources_pb2.And, language: str) -> Sieve | None:
        """Only what is trusted counts (api-spec 4.9)."""
        data = message.input.data
        annotation = resources_pb2.Annotation(
            data=resources_pb2.Data(concepts=data.concepts, geo=data.geo, metadata=data.metadata)
        )
        said = list(self._data(annotation, language, message.negate))
        if said:
            said.append(lambda context: context.note.version.trusted)
        plain = resources_pb2.Input(
            id=message.input.id, dataset_ids=message.input.dataset_ids, status=message.input.status
        )
        checks = [*said, *_input(plain)]
        if data.image.url:
            checks.append(lambda context: context.item.url == data.image.url)
        return _sieve(checks, message.negate, of_inputs=not said)

    def _scalars(self, wanted: resources_pb2.Annotation) -> Iterator[Check]:
        if wanted.id:
            yield lambda context: context.note.annotation.id == wanted.id
        if wanted.input_id:
            yield lambda context: context.item.id == wanted.input_id
        if wanted.task_id:
            yield lambda context: context.note.annotation.task_id == wanted.task_id
        for user_id in filter(None, (wanted.user_id, wanted.worker.user.id)):
            user = self.me if user_id == "me" else user_id
            yield lambda context, user=user: context.note.annotation.user_id == user
        for version in filter(None, (wanted.model_version_id, wanted.worker.model.model_version.id)):
            yield lambda context, version=version: context.note.annotation.model_version_id == version
        if wanted.worker.model.id:
            yield lambda context: context.note.annotation.model_id == wanted.worker.model.id
        if wanted.worker.workflow.version.id:
            yield lambda context: False  # nothing here is written by a workflow
        if wanted.trusted:
            yield lambda context: context.note.version.trusted
        if wanted.input_level:
            yield lambda context: context.note.annotation.input_level
        if wanted.status.code:
            yield lambda context: context.note.version.status == wanted.status.code
        info = MessageToDict(wanted.annotation_info)
        if info:
            yield lambda context: _any_key(context.note.version.info, info)

    def _data(self, annotation: resources_pb2.Annotation, language: str, negated: bool) -> Iterator[Check]:
        data = annotation.data
        if annotation.HasField("data") and not data.ListFields():
            yield lambda context: not _in_space_or_time(context.note)
        kinds = list(_kinds(data))
        if kinds:
            yield lambda context: any(kind(context) for kind in kinds)
        tracks = {region.track_id for region in data.regions if region.track_id}
        if tracks:
            yield lambda context: any(region.track_id in tracks for region in context.note.version.data.regions)
        regions = {region.id for region in data.regions if region.id}
        if regions:
            yield lambda context: context.note.version.area.region_id in regions
        if data.image.url:
            yield lambda context: context.item.url == data.image.url
        inner = [concept for part in (*data.regions, *data.frames) for concept in part.data.concepts]
        said = [*data.concepts, *inner]
        asserted = [(self._ids(concept, language), _positive(concept, negated)) for concept in said]
        if asserted:
            yield lambda context: any(
                concept in ids and (value >= 0.5) == positive
                for ids, positive in asserted
                for concept, value in context.note.version.concepts
            )
        if data.HasField("geo"):
            yield from _geo(data.geo)
        metadata = MessageToDict(data.metadata)
        if metadata:
            yield lambda context: _any_key(context.metadata(), metadata)

    def _ids(self, concept: resources_pb2.Concept, language: str) -> set[str]:
        if not (concept.id or concept.name):
            raise Refused(40002)
        return {name for ids in self.naming.meant(concept, language) for name in ids}


def _of_annotation(wanted: resources_pb2.Annotation) -> bool:
    """Whether more is asked of an annotation than which input it belongs to."""
    rest = resources_pb2.Annotation()
    rest.CopyFrom(wanted)
    rest.ClearField("input_id")
    if rest.data.image.url:
        rest.data.ClearField("image")
        if not rest.data.ByteSize():
            rest.ClearField("data")
    return _says(rest) or rest.HasField("data")


def _says(message: Message) -> bool:
    """Whether anything in it is set that is not itself empty."""
    return any(not isinstance(value, Message) or _says(value) for _, value in message.ListFields())


def _sieve(checks: list[Check], negate: bool, *, opens: bool = False, of_inputs: bool = False) -> Sieve | None:
    return Sieve(checks=tuple(checks), negate=negate, opens=opens, of_inputs=of_inputs) if checks else None


def _positive(concept: resources_pb2.Concept, negated: bool) -> bool:
    """Under negate an absent value, which is 0 on the wire, refers to having the concept."""
    return concept.value >= 0.5 or (negated and concept.value == 0.0)


def _input(wanted: resources_pb2.Input) -> Iterator[Check]:
    if wanted.id:
        yield lambda context: context.item.id == wanted.id
    if wanted.dataset_ids:
        yield lambda context: any(dataset in context.item.datasets for dataset in wanted.dataset_ids)
    if wanted.data.image.url:
        yield lambda context: context.item.url == wanted.data.image.url
    media = [name for name in MEDIA if wanted.data.HasField(name)]  # type: ignore[arg-type]
    if media or wanted.status.code:
        yield lambda context: context.item.media in media or context.item.status == wanted.status.code


def _changed(wanted: resources_pb2.TimeRange) -> Iterator[Check]:
    if wanted.HasField("start_time"):
        start_us = wanted.start_time.ToNanoseconds() / 1000
        yield lambda context: context.note.version.modified_us >= start_us
    if wanted.HasField("end_time"):
        end_us = wanted.end_time.ToNanoseconds() / 1000
        yield lambda context: context.note.version.modified_us <= end_us


# Kinds of data -----------------------------------------------------------------------------------------------------


def _kinds(wanted: resources_pb2.Data) -> Iterator[Check]:
    for region in wanted.regions:
        for name in GEOMETRIES:
            if region.region_info.HasField(name):  # type: ignore[arg-type]
                yield lambda context, name=name: _has_geometry(context.note, name)
    if any(frame.HasField("frame_info") for frame in wanted.frames):
        yield lambda context: bool(context.note.version.data.frames)
    if any(segment.HasField("time_info") for segment in wanted.time_segments):
        yield lambda context: bool(context.note.version.data.time_segments)
    if wanted.HasField("text"):
        yield lambda context: context.note.version.data.HasField("text")


def _has_geometry(note: Note, name: str) -> bool:
    """A region that the annotation only refers to shows its box."""
    regions = note.version.data.regions
    posted = regions[0].region_info if regions and regions[0].HasField("region_info") else None
    if posted is not None:
        return posted.HasField(name)  # type: ignore[arg-type]
    return name == "bounding_box" and note.version.area.has_box


def _in_space_or_time(note: Note) -> bool:
    data = note.version.data
    return bool(note.version.area.is_region or data.regions or data.frames or data.time_segments)


# Places ------------------------------------------------------------------------------------------------------------


def _geo(wanted: resources_pb2.Geo) -> Iterator[Check]:
    """Raises Refused for what is no place."""
    if wanted.HasField("geo_point") or wanted.HasField("geo_limit"):
        if not (wanted.HasField("geo_point") and wanted.HasField("geo_limit")):
            raise Refused(40002)
        centre = (wanted.geo_point.latitude, wanted.geo_point.longitude)
        limit = radians(wanted.geo_limit)
        yield lambda context: (place := context.place()) is not None and central_angle(centre, place) <= limit
    if wanted.geo_box:
        if len(wanted.geo_box) != 2:
            raise Refused(40002)
        latitudes = sorted(corner.geo_point.latitude for corner in wanted.geo_box)
        longitudes = sorted(corner.geo_point.longitude for corner in wanted.geo_box)
        yield (
            lambda context: (
                (place := context.place()) is not None
                and latitudes[0] <= place[0] <= latitudes[1]
                and longitudes[0] <= place[1] <= longitudes[1]
            )
        )


def radians(limit: resources_pb2.GeoLimit) -> float:
    """The central angle of a limit. Raises Refused."""
    units = {
        "withinMiles": MILE_KM / EARTH_KM,
        "withinKilometers": 1.0 / EARTH_KM,
        "withinDegrees": math.pi / 180.0,
        "withinRadians": 1.0,
    }
    if limit.type not in units or not limit.value >= 0.0:
        raise Refused(40002)
    return limit.value * units[limit.type]


def central_angle(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Between two places (latitude, longitude), in radians: the haversine."""
    latitude, longitude, latitude2, longitude2 = map(math.radians, (*one, *other))
    share = (
        math.sin((latitude2 - latitude) / 2) ** 2
        + math.cos(latitude) * math.cos(latitude2) * math.sin((longitude2 - longitude) / 2) ** 2
    )
    return 2.0 * math.asin(math.sqrt(min(share, 1.0)))


# Containment -------------------------------------------------------------------------------------------------------


def _any_key(stored: Any, wanted: dict[str, Any]) -> bool:
    """Top-level keys are alternatives."""
    return stored is not None and any(contains(stored, {key: value}) for key, value in wanted.items())


def contains(stored: Any, wanted: Any) -> bool:
    """Whether everything in ``wanted`` is in ``stored``, at the same place, lists in any order."""
    if isinstance(wanted, dict):
        return isinstance(stored, dict) and all(
            key in stored and contains(stored[key], value) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(stored, list) and all(any(contains(item, value) for item in stored) for value in wanted)
    if isinstance(stored, dict | list) or isinstance(wanted, bool) != isinstance(stored, bool):
        return False
    return bool(stored == wanted)
