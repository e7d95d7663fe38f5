"""What an annotation says after a patch: merge, overwrite and remove (api-spec 3.1 and 3.3). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from clarifai_grpc.grpc.api import resources_pb2

from sightrank.api.annotation_data import Region, content_of, info_of, region_of
from sightrank.api.records import AnnotationRecord
from sightrank.errors import AnnotationInvalid, ConceptsInvalid, InvalidRequest
from sightrank.ingest.frames import check_no_frames, check_no_segments, on_frame, same_frame
from sightrank.ingest.revision import ChangedAnnotation
from sightrank.ingest.rows import Content, NamedConcept, same_box
from sightrank.vision.box import Box
from sightrank.vision.video import FrameTime


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


@dataclass(frozen=True, slots=True, kw_only=True)
class InVideo:
    """The place of an annotation of a video: the whole of it, or a frame."""

    frame: FrameTime | None


def patched(
    stored: AnnotationRecord,
    message: resources_pb2.Annotation,
    action: Action,
    where: str,
    in_video: InVideo | None = None,
) -> ChangedAnnotation:
    """The stored annotation with ``message`` applied. A status is taken over by every action.

    Without ``data`` its data stay as they are. With it, overwrite leaves exactly what is sent, but for the place of the
    annotation; of an input it leaves exactly the concepts that are sent, and fields that are not sent. Remove
    takes concepts by id, metadata by their rules, and any other field that is named, whatever it says. An annotation of
    a video stays where it is.
    """
    data = message.data if action is not Action.REMOVE else _without_values(message.data, f"{where}.data")
    sent = content_of(data, f"{where}.data")
    region = region_of(data, f"{where}.data")
    if in_video is not None:
        _check_in_video(sent, in_video, f"{where}.data")
    elif action is not Action.REMOVE:
        check_no_frames(sent.data, f"{where}.data")
    moves = region is not None and action is not Action.REMOVE and _moves(stored, region, f"{where}.data.regions[0]")
    info = info_of(message)
    return ChangedAnnotation(
        input_number=stored.input_number,
        input_id=stored.input_id,
        id=stored.id,
        area_id=stored.area_id,
        content=_kept_in_video(_content(stored, sent, action, message), stored, in_video),
        status=message.status.code or stored.status,
        annotation_info=_patched_json(stored.annotation_info, info, action),
        read_at=stored.modified_at,
        input_level=stored.input_level,
        moves=moves,
        box=region.box if region and moves else None,
    )


def is_empty(content: Content) -> bool:
    """Whether nothing but the place of an annotation is left."""
    rest = content.data or {}
    inside = any(part.get("data") for field in ("regions", "frames") for part in rest.get(field, ()))
    nothing_else = rest.keys() <= {"regions", "frames"} and not inside
    return not content.concepts and not content.metadata and content.latitude is None and nothing_else


def _check_in_video(sent: Content, place: InVideo, where: str) -> None:
    """Raises AnnotationInvalid where another place is given than that of the annotation."""
    data = sent.data or {}
    if "regions" in data:
        raise AnnotationInvalid(f"{where}.regions: the input is a video, whose annotations have no regions.")
    frames = data.get("frames", ())
    if frames and (place.frame is None or len(frames) > 1 or not same_frame(frames[0], place.frame)):
        raise AnnotationInvalid(f"{where}.frames: an annotation stays where it is; post another one for that frame.")
    if place.frame is not None:
        check_no_segments(data, where)


def _kept_in_video(content: Content, stored: AnnotationRecord, place: InVideo | None) -> Content:
    if place is None or place.frame is None:
        return content
    said = (stored.data or {}).get("frames")
    data = {**(content.data or {}), **({"frames": said} if said else {})}
    return replace(content, data=on_frame(data, place.frame))


def _without_values(data: resources_pb2.Data, where: str) -> resources_pb2.Data:
    """What is to be removed: concepts go by id, and their values mean nothing. Raises ConceptsInvalid without an id."""
    named = resources_pb2.Data()
    named.CopyFrom(data)
    for concept in [*named.concepts, *(concept for region in named.regions for concept in region.data.concepts)]:
        if not concept.id:
            raise ConceptsInvalid(f"{where}: concept {concept.name!r} has no id; concepts are removed by id.")
        concept.ClearField("value")
    return named


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


def _content(stored: AnnotationRecord, sent: Content, action: Action, message: resources_pb2.Annotation) -> Content:
    pairs = zip(stored.concept_ids, stored.concept_values, strict=True)
    old = tuple(NamedConcept(id=concept_id, name="", value=value) for concept_id, value in pairs)
    was = Content(
        concepts=old,
        metadata=stored.metadata,
        latitude=stored.latitude,
        longitude=stored.longitude,
        data=stored.data,
    )
    if not message.HasField("data"):
        return was
    rest = _rest(stored.data or {}, sent.data or {}, action, of_input=stored.input_level)
    if action is Action.OVERWRITE and stored.input_level:
        point = sent if message.data.HasField("geo") else was
        metadata = was.metadata if sent.metadata is None else sent.metadata
        return replace(sent, metadata=metadata, latitude=point.latitude, longitude=point.longitude, data=rest or None)
    if action is Action.OVERWRITE:
        return replace(sent, data=rest or None)
    if action is Action.MERGE:
        point = was if sent.latitude is None else sent
        concepts = _merged(old, sent.concepts)
    else:
        point = Content() if message.data.HasField("geo") else was
        gone = {concept.id for concept in sent.concepts}
        concepts = tuple(concept for concept in old if concept.id not in gone)
    return Content(
        concepts=concepts,
        metadata=_patched_json(stored.metadata, sent.metadata, action),
        latitude=point.latitude,
        longitude=point.longitude,
        data=rest or None,
    )


def _rest(stored: Mapping[str, Any], sent: Mapping[str, Any], action: Action, *, of_input: bool) -> dict[str, Any]:
    """The fields of Data that have no column. The region stays where no other is sent; so does the text of an input,
    which is its medium."""
    kept = {"regions", "text"} if of_input else {"regions"}
    other = {field: value for field, value in sent.items() if field not in kept}
    if action is Action.REMOVE:
        return {field: value for field, value in stored.items() if field not in other}
    stays = action is Action.MERGE or of_input
    rest = {field: value for field, value in stored.items() if field in kept or stays} | other
    if "regions" in sent:
        rest["regions"] = [_region(stored.get("regions", [{}])[0], sent["regions"][0], action)]
    return rest


def _region(stored: Mapping[str, Any], sent: Mapping[str, Any], action: Action) -> dict[str, Any]:
    """One that is sent without geometry is the same place; a merge keeps what else was said of it."""
    said = {field: value for field, value in sent.items() if field != "id" and value != {}}
    kept = {field: value for field, value in stored.items() if action is Action.MERGE or field == "region_info"}
    kept.pop("id", None)  # the area has it
    return kept | said


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
    return remove_json(old or {}, new) or None


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
