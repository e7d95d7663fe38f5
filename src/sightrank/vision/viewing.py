"""Films through the networks of a workflow, a few frames at a time, while others use the same threads.

A film may take a minute of decoding. It is read in short turns, between which the threads serve whoever waits, and its
frames run through the network in small groups, so it holds a few of them at a time and takes one place in the queue.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sightrank.vision.box import Box
from sightrank.vision.decode import crop
from sightrank.vision.detector import Detection
from sightrank.vision.eye import Eye
from sightrank.vision.threads import Lane
from sightrank.vision.video import FrameTime, Pixels, Reading, Sample

_TURN_S = 0.05
_GROUP = 16


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Viewed:
    """One sampled frame as the networks see it: a unit vector [dims], and what the detector found. ``width`` and
    ``height`` are those of the upright film. ``parts`` has a vector of each box that was to be looked at.
    """

    time: FrameTime
    vector: NDArray[np.float32]
    detections: tuple[Detection, ...]
    width: int
    height: int
    parts: Mapping[Box, NDArray[np.float32]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Watched:
    """A whole film: its sampled frames, at least one, and their unit vectors [frames, dims].

    ``width`` and ``height`` are those of the upright film; ``format`` as ``Reading`` says it.
    """

    frames: tuple[FrameTime, ...]
    vectors: NDArray[np.float32]
    width: int
    height: int
    format: str
    duration_ms: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Prepared:
    """``pixels`` [1 + boxes, size, size, 3]: the whole frame, then its parts."""

    time: FrameTime
    pixels: Pixels
    boxes: tuple[Box, ...]
    detections: tuple[Detection, ...]
    width: int
    height: int


async def view(
    eye: Eye, data: bytes, lane: Lane, *, sample_ms: int, detect: bool, margins: Sequence[float] = ()
) -> AsyncGenerator[Viewed, None]:
    """The frames that a ``Reading`` samples, in their order. Raises what it raises.

    ``detect`` looks for regions in each frame too; those are looked at with each of ``margins`` around them.
    """
    reading = await _begin(eye, data, lane, sample_ms)
    async with aclosing(_view(eye, reading, lane, detect=detect, margins=margins)) as frames:
        async for frame in frames:
            yield frame


async def watch(eye: Eye, data: bytes, lane: Lane, *, sample_ms: int) -> Watched:
    """The frames that a ``Reading`` samples, all at once. Raises what it raises."""
    reading = await _begin(eye, data, lane, sample_ms)
    async with aclosing(_view(eye, reading, lane, detect=False)) as frames:
        seen = [frame async for frame in frames]
    return Watched(
        frames=tuple(frame.time for frame in seen),
        vectors=np.stack([frame.vector for frame in seen]),
        width=seen[0].width,
        height=seen[0].height,
        format=reading.format,
        duration_ms=reading.duration_ms,
    )


async def _begin(eye: Eye, data: bytes, lane: Lane, sample_ms: int) -> Reading:
    most = eye.limits.max_pixels
    return await eye.threads.decode(lane, lambda: Reading(data, sample_ms=sample_ms, max_pixels=most))


async def _view(
    eye: Eye, reading: Reading, lane: Lane, *, detect: bool, margins: Sequence[float] = ()
) -> AsyncGenerator[Viewed, None]:
    prepared = _prepared(eye, reading.steps(), detect=detect, margins=margins)
    ended = False
    group: list[_Prepared] = []
    while not ended:
        # Whoever gives up drops the iterator, and with it, at the end of its turn, all that FFmpeg holds.
        more, ended = await eye.threads.decode(lane, lambda: _turn(prepared))
        group += more
        while sum(len(frame.pixels) for frame in group) >= _GROUP or (ended and group):
            now, group = _first(group)
            vectors = iter(await eye.embed(np.concatenate([frame.pixels for frame in now]), lane))
            for frame in now:
                yield Viewed(
                    time=frame.time,
                    vector=next(vectors),
                    detections=frame.detections,
                    width=frame.width,
                    height=frame.height,
                    parts={box: next(vectors) for box in frame.boxes},
                )


def _first(frames: list[_Prepared]) -> tuple[list[_Prepared], list[_Prepared]]:
    """As many frames as make a group of pictures, one at least, and the others."""
    pictures = 0
    for count, frame in enumerate(frames):
        pictures += len(frame.pixels)
        if pictures > _GROUP and count:
            return frames[:count], frames[count:]
    return frames, []


def _prepared(
    eye: Eye, steps: Iterator[Sample | None], *, detect: bool, margins: Sequence[float]
) -> Iterator[_Prepared | None]:
    detector = eye.detector if detect else None
    last: Sample | None = None
    fitted: Pixels | None = None
    boxes: tuple[Box, ...] = ()
    detections: tuple[Detection, ...] = ()
    for sample in steps:
        if sample is None:
            yield None
            continue
        if fitted is None or last is None or sample.pixels is not last.pixels:
            detections = tuple(detector.detect(sample.pixels)) if detector else ()
            boxes = tuple(dict.fromkeys(found.box.wider(margin) for found in detections for margin in margins))
            cuts = [crop(sample.pixels, box.top, box.left, box.bottom, box.right) for box in boxes]
            fitted = np.stack([eye.encoder.fit(part) for part in (sample.pixels, *cuts)])
        last = sample
        height, width = sample.pixels.shape[:2]
        yield _Prepared(time=sample.time, pixels=fitted, boxes=boxes, detections=detections, width=width, height=height)


def _turn(frames: Iterator[_Prepared | None]) -> tuple[list[_Prepared], bool]:
    """What a short time brings, a group at most, and whether that was all."""
    found: list[_Prepared] = []
    until = time.monotonic() + _TURN_S
    for frame in frames:
        if frame is not None:
            found.append(frame)
        if len(found) >= _GROUP or time.monotonic() >= until:
            return found, False
    return found, True
