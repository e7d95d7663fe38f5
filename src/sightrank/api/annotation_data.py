"""``Data`` messages of inputs and annotations to what is stored of them, and back. Pure.

Concepts, metadata, the geo point and the region's box have columns; the rest of the message is kept as proto JSON.
On an annotation of a region, a frame or a time segment its concepts are those inside of that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from clarifai_grpc.grpc.api import resources_pb2
from google.protobuf import json_format

from sightrank.errors import AnnotationInvalid, ConceptsInvalid, InputInvalid
from sightrank.ingest.rows import Content, NamedConcept
from sightrank.search.concepts import MAX_ID_CHARACTERS, check_concept
from sightrank.search.contents import struct_to_json
from sightrank.vision.box import Box

_Medium = Literal["image", "video", "text", "audio"]
_MEDIA: tuple[_Medium, ...] = ("image", "video", "text", "audio")
_ELSEWHERE: tuple[_Medium | Literal["concepts", "metadata", "geo"], ...] = (*_MEDIA, "concepts", "metadata", "geo")


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """The region of an annotation: its id if the client gave one, and its extent if it has one. ``is_named`` says that
    it is nothing but the id of a region that exists."""

    id: str
    box: Box | None
    is_named: bool = False


def content_of(data: resources_pb2.Data, where: str) -> Content:
    """Everything but the medium. Raises InputInvalid or ConceptsInvalid naming the field."""
    rest = resources_pb2.Data()
    rest.CopyFrom(data)
    concepts = [*data.concepts]
    for field in _ELSEWHERE:
        rest.ClearField(field)
    if data.text.raw:
        rest.text.CopyFrom(data.text)
    for part in _parts(rest):
        concepts += part.data.concepts
        part.data.ClearField("concepts")
    latitude, longitude = _geo(data, where)
    return Content(
        concepts=named_concepts(concepts, f"{where}.concepts"),
        metadata=struct_to_json(data.metadata) if data.HasField("metadata") else None,
        latitude=latitude,
        longitude=longitude,
        data=_rest_to_json(rest, where) if rest.ByteSize() else None,
    )


def _parts(
    data: resources_pb2.Data,
) -> Sequence[resources_pb2.Region | resources_pb2.Frame | resources_pb2.TimeSegment]:
    """What of the medium an annotation is about. Several frames or segments keep their concepts, unsearched."""
    stretches = [*(data.frames if len(data.frames) == 1 else ())]
    return [*data.regions, *stretches, *(data.time_segments if len(data.time_segments) == 1 else ())]


def named_concepts(concepts: Sequence[resources_pb2.Concept], where: str) -> tuple[NamedConcept, ...]:
    """Concepts as posted; the last of several with one id stands. Raises ConceptsInvalid for an empty one."""
    named: dict[tuple[str, str], NamedConcept] = {}
    for i, concept in enumerate(concepts):
        check_concept(concept.id, concept.name)
        if not 0.0 <= concept.value <= 1.0:
            raise ConceptsInvalid(f"{where}[{i}].value is {concept.value:g}; it lies between 0 and 1.")
        key = (concept.id, "" if concept.id else concept.name)
        named[key] = NamedConcept(id=concept.id, name=concept.name, value=concept.value)
    return tuple(named.values())


def region_of(data: resources_pb2.Data, where: str) -> Region | None:
    """The one region of an annotation, or None. Raises AnnotationInvalid for two regions or a box out of order."""
    if len(data.regions) > 1:
        raise AnnotationInvalid(
            f"{where}.regions has {len(data.regions)} regions; post one annotation for each region."
        )
    if not data.regions:
        return None
    region = data.regions[0]
    check_id(region.id, f"{where}.regions[0].id")
    info = region.region_info
    if info.HasField("bounding_box"):
        return Region(id=region.id, box=_box(info.bounding_box, f"{where}.regions[0].region_info.bounding_box"))
    if info.HasField("polygon") and info.polygon.points:
        rows = [point.row for point in info.polygon.points]
        columns = [point.col for point in info.polygon.points]
        extent = resources_pb2.BoundingBox(
            top_row=min(rows), left_col=min(columns), bottom_row=max(rows), right_col=max(columns)
        )
        return Region(id=region.id, box=_box(extent, f"{where}.regions[0].region_info.polygon"))
    is_named = not region.HasField("region_info")
    if is_named and not region.id:
        raise AnnotationInvalid(f"{where}.regions[0] has neither region_info nor the id of a region of this input.")
    return Region(id=region.id, box=None, is_named=is_named)


def check_id(value: str, where: str) -> None:
    """Raises AnnotationInvalid for an id that cannot be stored."""
    if "\x00" in value:
        raise AnnotationInvalid(f"{where} holds a zero character, which the database cannot store.")
    if len(value) > MAX_ID_CHARACTERS:
        raise AnnotationInvalid(f"{where} has {len(value)} characters; at most {MAX_ID_CHARACTERS} are allowed.")


def fill_data(
    data: resources_pb2.Data,
    *,
    rest: Mapping[str, Any] | None,
    metadata: Mapping[str, Any] | None,
    latitude: float | None,
    longitude: float | None,
) -> None:
    """Writes stored content into a message, except its concepts."""
    if rest:
        json_format.ParseDict(dict(rest), data, ignore_unknown_fields=True)
    if metadata is not None:
        data.metadata.SetInParent()
        data.metadata.update(metadata)
    if latitude is not None and longitude is not None:
        data.geo.geo_point.latitude = latitude
        data.geo.geo_point.longitude = longitude
        data.geo.geo_point.SetInParent()


def place_of_concepts(data: resources_pb2.Data) -> Any:
    """Where the concepts of an annotation belong in its message, whose region or frame is there already."""
    part = next(iter(_parts(data)), None)
    return (data if part is None else part.data).concepts


def info_of(annotation: resources_pb2.Annotation) -> dict[str, Any] | None:
    """Its ``annotation_info``; None for one that has none. Raises InputInvalid for what cannot be stored."""
    if not annotation.HasField("annotation_info"):
        return None
    return struct_to_json(annotation.annotation_info, where="annotation_info")


def _rest_to_json(rest: resources_pb2.Data, where: str) -> dict[str, Any]:
    text = json_format.MessageToJson(rest, preserving_proto_field_name=True, indent=None)
    if "\\u0000" in text:
        raise InputInvalid(f"{where} holds a zero character, which the database cannot store.")
    made: dict[str, Any] = json.loads(text)
    return made


def _geo(data: resources_pb2.Data, where: str) -> tuple[float | None, float | None]:
    if not data.HasField("geo") or not data.geo.HasField("geo_point"):
        return None, None
    point = data.geo.geo_point
    if not (-90.0 <= point.latitude <= 90.0 and -180.0 <= point.longitude <= 180.0):
        raise InputInvalid(
            f"{where}.geo.geo_point is longitude {point.longitude:g}, latitude {point.latitude:g};"
            " longitude lies in -180..180 and latitude in -90..90."
        )
    return point.latitude, point.longitude


def _box(box: resources_pb2.BoundingBox, where: str) -> Box:
    inside = 0.0 <= box.top_row <= box.bottom_row <= 1.0 and 0.0 <= box.left_col <= box.right_col <= 1.0
    if not inside or box.top_row == box.bottom_row or box.left_col == box.right_col:
        raise AnnotationInvalid(
            f"{where} is top {box.top_row:g}, left {box.left_col:g}, bottom {box.bottom_row:g},"
            f" right {box.right_col:g};"
            " rows and columns are shares of the picture in 0..1, top above bottom, left before right."
        )
    return Box(top=box.top_row, left=box.left_col, bottom=box.bottom_row, right=box.right_col)
