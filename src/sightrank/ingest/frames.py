"""Frames of videos that annotations name: those that were indexed. None is taken for an annotation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sightrank.errors import AnnotationInvalid
from sightrank.ingest.areas import Area, frame_info
from sightrank.vision.video import FrameTime


def named_frame(areas: Sequence[Area], posted: Sequence[dict[str, Any]], input_id: str) -> Area | None:
    """The area of the frame that an annotation of a video is about; None for one about the whole video.

    ``posted`` are its frames in proto JSON. Of index, time and number, those that are not 0 count; a frame without any
    is the first. Raises AnnotationInvalid for several frames, regions in a frame, or a frame that is no area.
    """
    if not posted:
        return None
    if len(posted) > 1:
        raise AnnotationInvalid(
            f"The annotation of input {input_id!r} has {len(posted)} frames; post one annotation for each frame."
        )
    if posted[0].get("data", {}).get("regions"):
        raise AnnotationInvalid(
            f"The annotation of input {input_id!r} has a region in a frame; frames are annotated as a whole."
        )
    frames = [area for area in areas if area.frame is not None]
    wanted = _wanted(posted[0])
    found = next((area for area in frames if area.frame is not None and _is(area.frame, wanted)), None)
    if found is None:
        raise AnnotationInvalid(_no_such_frame(input_id, wanted, [a.frame for a in frames if a.frame is not None]))
    return found


def check_no_frames(data: Mapping[str, Any] | None, what: str) -> None:
    """Raises AnnotationInvalid for frames, in proto JSON, on what is no video."""
    if data and data.get("frames"):
        raise AnnotationInvalid(f"{what} has frames, but the input is no video; annotate the whole of it.")


def check_no_segments(data: Mapping[str, Any], what: str) -> None:
    """Raises AnnotationInvalid for time segments, in proto JSON, in an annotation of a frame."""
    if data.get("time_segments"):
        raise AnnotationInvalid(f"{what} has time_segments beside a frame; post one annotation for each.")


def on_frame(data: dict[str, Any], frame: FrameTime) -> dict[str, Any]:
    """The data of an annotation with all that is known of its frame."""
    said = (data.get("frames") or [{}])[0]
    return {**data, "frames": [{**said, "frame_info": frame_info(frame)}]}


def same_frame(posted: dict[str, Any], frame: FrameTime) -> bool:
    """Whether a frame in proto JSON, if it names one at all, names this."""
    return not posted.get("frame_info") or _is(frame, _wanted(posted))


def _wanted(posted: dict[str, Any]) -> FrameTime:
    info = posted.get("frame_info", {})
    # Proto JSON writes 64-bit numbers as texts.
    return FrameTime(index=info.get("index", 0), time_ms=int(info.get("time", 0)), number=info.get("number", 0))


def _is(frame: FrameTime, wanted: FrameTime) -> bool:
    if wanted == FrameTime(index=0, time_ms=0, number=0):
        return frame.index == 0
    pairs = ((frame.index, wanted.index), (frame.time_ms, wanted.time_ms), (frame.number, wanted.number))
    return all(named in (0, own) for own, named in pairs)


def _distance(frame: FrameTime, wanted: FrameTime) -> int:
    if wanted.time_ms:
        return abs(frame.time_ms - wanted.time_ms)
    return abs(frame.number - wanted.number) if wanted.number else abs(frame.index - wanted.index)


def _no_such_frame(input_id: str, wanted: FrameTime, frames: Sequence[FrameTime]) -> str:
    named = f"index {wanted.index}, time {wanted.time_ms}, number {wanted.number}"
    if not frames:
        return f"Input {input_id!r} has no frames to annotate yet: a workflow that runs models makes them."
    nearest = min(frames, key=lambda frame: _distance(frame, wanted))
    return (
        f"Input {input_id!r} has no such frame ({named}). Its {len(frames)} frames are those that were indexed; the"
        f" nearest has index {nearest.index}, time {nearest.time_ms}, number {nearest.number}."
    )
