"""Films through the networks of a workflow, a few frames at a time, while others use the same threads.

A film may take a minute of decoding. It is read in short turns, between which the threads serve whoever waits, and its
frames come in small groups, so it holds a few of them at a time and takes one place in the queue.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sightrank.vision.eye import Eye
from sightrank.vision.threads import Lane
from sightrank.vision.video import FrameTime, Pixels, Reading, Sample

_TURN_S = 0.05
_GROUP = 16
_GROUP_BYTES = 2**26  # ten frames of 1920 x 1080, two of 3840 x 2160


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
class _Fitted(Sample):
    """A frame as the network wants it, small enough for many to be held; ``width`` and ``height`` are the film's."""

    width: int
    height: int


_Sample = TypeVar("_Sample", bound=Sample)


async def view(eye: Eye, data: bytes, lane: Lane, *, sample_ms: int) -> AsyncGenerator[Sequence[Sample], None]:
    """The frames that a ``Reading`` samples, in their order and full size, as many at a time as may be held. Raises
    what it raises. ``eye`` lends its threads and limits.
    """
    reading = await _begin(eye, data, lane, sample_ms)
    async with aclosing(_groups(eye, lane, reading.steps())) as groups:
        async for group in groups:
            yield group


async def watch(eye: Eye, data: bytes, lane: Lane, *, sample_ms: int) -> Watched:
    """The frames that a ``Reading`` samples, all at once. Raises what it raises."""
    reading = await _begin(eye, data, lane, sample_ms)
    frames: list[FrameTime] = []
    vectors: list[NDArray[np.float32]] = []
    async with aclosing(_groups(eye, lane, _fitted(eye, reading.steps()))) as groups:
        async for group in groups:
            frames += [frame.time for frame in group]
            vectors.append(await eye.embed(np.stack([frame.pixels for frame in group]), lane))
            width, height = group[0].width, group[0].height
    return Watched(
        frames=tuple(frames),
        vectors=np.concatenate(vectors),
        width=width,
        height=height,
        format=reading.format,
        duration_ms=reading.duration_ms,
    )


async def _begin(eye: Eye, data: bytes, lane: Lane, sample_ms: int) -> Reading:
    most = eye.limits.max_pixels
    return await eye.threads.decode(lane, lambda: Reading(data, sample_ms=sample_ms, max_pixels=most))


async def _groups(eye: Eye, lane: Lane, steps: Iterator[_Sample | None]) -> AsyncGenerator[Sequence[_Sample], None]:
    """None of them empty."""
    ended = False
    while not ended:
        group: list[_Sample] = []
        while not ended and not _is_full(group):
            # Whoever gives up drops the iterator, and with it, at the end of its turn, all that FFmpeg holds.
            ended = await eye.threads.decode(lane, partial(_turn, steps, group))
        if group:
            yield group


def _turn(steps: Iterator[_Sample | None], group: list[_Sample]) -> bool:
    """Adds what a short time brings until the group is full; whether that was all."""
    until = time.monotonic() + _TURN_S
    for sample in steps:
        if sample is not None:
            group.append(sample)
        if _is_full(group) or time.monotonic() >= until:
            return False
    return True


def _is_full(group: Sequence[Sample]) -> bool:
    """A picture that stays for several frames is in memory once."""
    pictures = {id(sample.pixels): sample.pixels.nbytes for sample in group}
    return len(group) >= _GROUP or sum(pictures.values()) >= _GROUP_BYTES


def _fitted(eye: Eye, steps: Iterator[Sample | None]) -> Iterator[_Fitted | None]:
    shown: Sample | None = None
    fitted: Pixels | None = None
    for sample in steps:
        if sample is None:
            yield None
            continue
        if fitted is None or shown is None or sample.pixels is not shown.pixels:
            fitted = eye.encoder.fit(sample.pixels)
        shown = sample
        height, width = sample.pixels.shape[:2]
        yield _Fitted(time=sample.time, pixels=fitted, width=width, height=height)
