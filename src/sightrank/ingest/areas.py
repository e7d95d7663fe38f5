"""Areas of inputs as rows: what a vector describes, the whole input, a region of an image or a frame of a video."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sightrank.ingest.rows import box_info, to_json
from sightrank.store import queries
from sightrank.store.database import Connection
from sightrank.vision.box import Box
from sightrank.vision.video import FrameTime

_SQL = queries.load("ingest")


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """What one vector will describe; ``box`` and ``frame`` None is the whole input or a region without extent."""

    id: int
    created_at: datetime
    box: Box | None
    region_id: str = ""
    frame: FrameTime | None = None

    @property
    def is_region(self) -> bool:
        return self.region_id != ""

    def data(self) -> dict[str, Any] | None:
        """What a prediction about it stores of its place: filters by kind of geometry ask what annotations say."""
        if self.frame is not None:
            return {"frames": [{"frame_info": frame_info(self.frame)}]}
        if not self.is_region:
            return None
        return {"regions": [{} if self.box is None else {"region_info": box_info(self.box)}]}


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFrame:
    """A frame that is to become an area, as a row of ``areas``."""

    input_number: int
    created_at: datetime
    frame_index: int
    frame_time_ms: int
    frame_number: int

    @classmethod
    def of(cls, input_number: int, frame: FrameTime, created_at: datetime) -> NewFrame:
        return cls(
            input_number=input_number,
            created_at=created_at,
            frame_index=frame.index,
            frame_time_ms=frame.time_ms,
            frame_number=frame.number,
        )


def frame_info(frame: FrameTime) -> dict[str, int]:
    """Which frame it is, as an annotation stores it: FrameInfo in proto JSON."""
    return {"index": frame.index, "time": frame.time_ms, "number": frame.number}


async def read_areas(connection: Connection, bucket: int, numbers: Sequence[int]) -> Mapping[int, tuple[Area, ...]]:
    """The areas of inputs by their numbers, the whole input first."""
    cursor = await connection.execute(_SQL["areas"], {"bucket": bucket, "numbers": list(numbers)})
    areas: dict[int, tuple[Area, ...]] = {}
    for number, area_id, created_at, region_id, top, left, bottom, right, *of_frame in await cursor.fetchall():
        area = Area(
            id=area_id,
            created_at=created_at,
            box=None if top is None else Box(top=top, left=left, bottom=bottom, right=right),
            region_id=region_id or "",
            frame=_frame(*of_frame),
        )
        areas[number] = (*areas.get(number, ()), area)
    return areas


async def make_frames(connection: Connection, bucket: int, frames: Sequence[NewFrame]) -> dict[int, tuple[Area, ...]]:
    """Makes areas of frames; returns them by the number of their video, in the order given."""
    if not frames:
        return {}
    cursor = await connection.execute(_SQL["insert_frames"], {"bucket": bucket, "rows": to_json(frames)})
    ids = {(number, index): area_id for number, index, area_id in await cursor.fetchall()}
    areas: dict[int, tuple[Area, ...]] = {}
    for row in frames:
        area = Area(
            id=ids[row.input_number, row.frame_index],
            created_at=row.created_at,
            box=None,
            frame=_frame(row.frame_index, row.frame_time_ms, row.frame_number),
        )
        areas[row.input_number] = (*areas.get(row.input_number, ()), area)
    return areas


def _frame(index: int | None, time_ms: int | None, number: int | None) -> FrameTime | None:
    if index is None or time_ms is None or number is None:
        return None
    return FrameTime(index=index, time_ms=time_ms, number=number)
