"""Films through the networks of a workflow, a few frames at a time, while others use the same threads.

A film may take a minute of decoding. It is read in short turns, between which the threads serve whoever waits, and its
frames run through the network in small groups, so it holds a few of them at a time and takes one place in the queue.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightrank.vision.detector import Detection
from sightrank.vision.eye import Eye
from sightrank.vision.threads import Lane
from sightrank.vision.video import FrameTime, Pixels, Reading, Sample

_TURN_S = 0.05
_GROUP = 16


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Viewed:
    """One sampled frame as the networks see it: a unit vector [dims], and what the detector found. ``width`` and
    ``height`` are those of the upright film.
    """

    time: FrameTime
    vector: NDArray[np.float32]
    detections: tuple[Detection, ...]
    width: int
    height: int


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
    time: FrameTime
    pixels: Pixels
    detections: tuple[Detection, ...]
    width: int
    height: int


async def view(eye: Eye, data: bytes, lane: Lane, *, sample_ms: int, detect: bool) -> AsyncGenerator[Viewed, None]:
    """The frames that a ``Reading`` samples, in their order. Raises what it raises.

    ``detect`` looks for regions in each frame too.
    """
    reading = await _begin(eye, data, lane, sample_ms)
    async with aclosing(_view(eye, reading, lane, detect=detect)) as frames:
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


async def _view(eye: Eye, reading: Reading, lane: Lane, *, detect: bool) -> AsyncGenerator[Viewed, None]:
    prepared = _prepared(eye, reading.steps(), detect=detect)
    ended = False
    group: list[_Prepared] = []
    while not ended:
        # Whoever gives up drops the iterator, and with it, at the end of its turn, all that FFmpeg holds.
        more, ended = await eye.threads.decode(lane, lambda: _turn(prepared))
        group += more
        while len(group) >= _GROUP or (ended and group):
            now, group = group[:_GROUP], group[_GROUP:]
            vectors = await eye.embed(np.stack([frame.pixels for frame in now]), lane)
            for frame, vector in zip(now, vectors, strict=True):
                yield Viewed(
                    time=frame.time,
                    vector=vector,
                    detections=frame.detections,
                    width=frame.width,
                    height=frame.height,
                )


def _prepared(eye: Eye, steps: Iterator[Sample | None], *, detect: bool) -> Iterator[_Prepared | None]:
    detector = eye.detector if detect else None
    last: Sample | None = None
    fitted: Pixels | None = None
    detections: tuple[Detection, ...] = ()
    for sample in steps:
        if sample is None:
            yield None
            continue
        if fitted is None or last is None or sample.pixels is not last.pixels:
            fitted = eye.encoder.fit(sample.pixels)
            detections = tuple(detector.detect(sample.pixels)) if detector else ()
        last = sample
        height, width = sample.pixels.shape[:2]
        yield _Prepared(time=sample.time, pixels=fitted, detections=detections, width=width, height=height)


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
