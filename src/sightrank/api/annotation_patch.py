"""What an annotation says after a patch: merge, overwrite and remove (api-spec 3.1 and 3.3). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from clarifai_grpc.grpc.api import resources_pb2

from sightrank.api.annotation_data import Region, content_of, region_of, struct_to_json
from sightrank.api.records import AnnotationRecord
from sightrank.errors import AnnotationInvalid, InvalidRequest
from sightrank.ingest.labelling import ChangedAnnotation
from sightrank.ingest.rows import Content, NamedConcept, same_box
from sightrank.vision.eye import Box


class Action(Enum):
    """``overwrite`` replaces what is sent, ``merge`` adds to what is there, ``remove`` takes away what is named."""

    MERGE = "merge"
    OVERWRITE = "overwrite"
    REMOVE = "remove"

    @classmethod
    def named(cls, name: str) -> Action:
        """Raises InvalidRequest for an unknown action."""
        try:
            return cls(name)
        except ValueError:
            raise InvalidRequest(f"action is {name!r}; use merge, overwrite or remove.") from None


def patched(
    stored: AnnotationRecord, message: resources_pb2.Annotation, action: Action, where: str
) -> ChangedAnnotation:
    """The stored annotation with ``message`` applied. A status is taken over by every action."""
    sent = content_of(message.data, f"{where}.data")
    region = region_of(message.data, f"{where}.data")
    moves = region is not None and action is not Action.REMOVE and _moves(stored, region, f"{where}.data.regions[0]")
    content = _content(stored, sent, action, has_data=message.HasField("data"))
    info = struct_to_json(message.annotation_info) if message.HasField("annotation_info") else None
    return ChangedAnnotation(
        input_number=stored.input_number,
        input_id=stored.input_id,
        id=stored.id,
        area_id=stored.area_id,
        content=content,
        status=message.status.code or stored.status,
        annotation_info=_patched_json(stored.annotation_info, info, action),
        read_at=stored.modified_at,
        moves=moves,
        box=region.box if region and moves else None,
    )


def is_empty(content: Content) -> bool:
    """Whether nothing but the place of an annotation is left."""
    rest = content.data or {}
    return not content.concepts and not content.metadata and content.latitude is None and rest.keys() <= {"regions"}


def _moves(stored: AnnotationRecord, region: Region, where: str) -> bool:
    """Whether ``region`` is another place than the annotation's. Raises AnnotationInvalid where none may be given."""
    if stored.input_level:
        raise AnnotationInvalid(
            f"{where}: the input-level annotation is about the whole input; post another for a region."
        )
    if region.is_named:
        if region.id != stored.region_id:
            raise AnnotationInvalid(f"{where}.id is not the annotation's region; send region_info to move it.")
        return False
    return stored.region_id is None or not same_box(region.box, _stored_box(stored))


def _content(stored: AnnotationRecord, sent: Content, action: Action, *, has_data: bool) -> Content:
    pairs = zip(stored.concept_ids, stored.concept_values, strict=True)
    old = tuple(NamedConcept(id=concept_id, name="", value=value) for concept_id, value in pairs)
    rest = {key: value for key, value in (sent.data or {}).items() if key != "regions" or "region_info" in value[0]}
    if not has_data:
        concepts, data = old, stored.data
    elif action is Action.OVERWRITE:
        concepts, data = sent.concepts, {**_kept_region(stored.data), **rest} or None
    elif action is Action.MERGE:
        concepts, data = _merged(old, sent.concepts), {**(stored.data or {}), **rest} or None
    else:
        gone = {concept.id for concept in sent.concepts}
        concepts, data = tuple(concept for concept in old if concept.id not in gone), stored.data
    has_point = sent.latitude is not None and action is not Action.REMOVE
    return Content(
        concepts=concepts,
        metadata=_patched_json(stored.metadata, sent.metadata, action),
        latitude=sent.latitude if has_point else stored.latitude,
        longitude=sent.longitude if has_point else stored.longitude,
        data=data,
    )


def _kept_region(data: Mapping[str, Any] | None) -> dict[str, Any]:
    """The place of an annotation stays unless another one is sent."""
    return {"regions": data["regions"]} if data and "regions" in data else {}


def _merged(old: tuple[NamedConcept, ...], new: tuple[NamedConcept, ...]) -> tuple[NamedConcept, ...]:
    """Known concepts keep their place and take the new value; others follow."""
    values = {concept.id: concept for concept in new}
    known = {concept.id for concept in old}
    return (
        *(values.get(concept.id, concept) for concept in old),
        *(concept for concept in new if concept.id not in known),
    )


def _patched_json(
    old: Mapping[str, Any] | None, new: Mapping[str, Any] | None, action: Action
) -> dict[str, Any] | None:
    if new is None:
        return dict(old) if old is not None else None
    if action is Action.OVERWRITE:
        return dict(new)
    if action is Action.MERGE:
        return merge_json(old or {}, new)
    return remove_json(old or {}, new)


def merge_json(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Objects are merged key by key and lists of objects with ids id by id, other lists are appended to; an empty one
    replaces, null changes nothing, anything else is overwritten (guide, "Patching")."""
    merged = dict(old)
    for key, value in new.items():
        before = merged.get(key)
        if value is None:
            continue
        if isinstance(value, dict) and value and isinstance(before, dict):
            merged[key] = merge_json(before, value)
        elif isinstance(value, list) and value and isinstance(before, list):
            merged[key] = _merged_lists(before, value)
        else:
            merged[key] = value
    return merged


def remove_json(old: Mapping[str, Any], named: Mapping[str, Any]) -> dict[str, Any]:
    """``true``, or the very value, removes a key; objects and lists of objects with ids lose what is named in them; an
    empty object and null change nothing; another value overwrites, another list is appended (guide, "Patching")."""
    left = dict(old)
    for key, value in named.items():
        if key not in left or value is None or value == {}:
            continue
        before = left[key]
        if value is True or value == before:
            del left[key]
        elif isinstance(value, dict) and isinstance(before, dict):
            left[key] = remove_json(before, value)
        elif isinstance(value, list) and isinstance(before, list):
            gone = [_id(item) for item in value]
            kept = [item for item in before if _id(item) is None or _id(item) not in gone]
            left[key] = [*before, *value] if None in gone else kept
        else:
            left[key] = value
    return left


def _merged_lists(old: list[Any], new: list[Any]) -> list[Any]:
    """Items with ids take the place of those with the same id; all others follow."""
    values = {_id(item): item for item in new if _id(item) is not None}
    known = {_id(item) for item in old}
    kept = [merge_json(item, values[_id(item)]) if _id(item) in values else item for item in old]
    return [*kept, *(item for item in new if _id(item) is None or _id(item) not in known)]


def _id(item: Any) -> str | None:
    """The id of an object in a list, if it has one."""
    found = item.get("id") if isinstance(item, dict) else None
    return found if isinstance(found, str) else None


def _stored_box(stored: AnnotationRecord) -> Box | None:
    if stored.box_top is None or stored.box_left is None or stored.box_bottom is None or stored.box_right is None:
        return None
    return Box(top=stored.box_top, left=stored.box_left, bottom=stored.box_bottom, right=stored.box_right)
