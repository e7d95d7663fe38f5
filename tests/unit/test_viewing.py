"""Films through the networks: every frame once, a few in memory, and turns for those who ask about something else."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager

import pytest
from tests import films
from tests.films import BLUE, GREEN, RED, plain
from tests.watching import CORNER, watched_eye

from sightrank.errors import InputFailed
from sightrank.vision import viewing
from sightrank.vision.box import Box
from sightrank.vision.threads import Lane, Threads
from sightrank.vision.viewing import Viewed, view

DEADLINE_S = 60.0


class Watched:
    """An eye on one thread, and the sizes of the batches it ran."""

    def __init__(self, threads: Threads) -> None:
        self.runs: list[int] = []
        self.threads = threads
        self.eye = watched_eye(threads, self.runs.append)

    async def view(
        self, data: bytes, sample_ms: int = 1000, *, detect: bool = False, margins: Sequence[float] = ()
    ) -> list[Viewed]:
        frames = view(self.eye, data, Lane.INTERACTIVE, sample_ms=sample_ms, detect=detect, margins=margins)
        async with aclosing(frames):
            return [frame async for frame in frames]


@asynccontextmanager
async def watching() -> AsyncIterator[Watched]:
    threads = Threads(1)
    try:
        async with asyncio.timeout(DEADLINE_S):
            yield Watched(threads)
    finally:
        await asyncio.to_thread(threads.close)


def colours(frames: Sequence[Viewed]) -> list[films.Colour]:
    return [films.named((frame.vector * 255)[None]) for frame in frames]


def test_every_frame_has_its_time_and_its_vector() -> None:
    async def scenario() -> list[Viewed]:
        async with watching() as watched:
            return await watched.view(films.film(3.0))

    frames = asyncio.run(scenario())

    assert [(frame.time.index, frame.time.time_ms, frame.time.number) for frame in frames] == [
        (0, 500, 5),
        (1, 1500, 15),
        (2, 2500, 25),
    ]
    assert colours(frames) == [RED, GREEN, BLUE]
    assert all(frame.detections == () for frame in frames)


def test_a_detector_sees_each_frame_in_full_size() -> None:
    async def scenario() -> list[Viewed]:
        async with watching() as watched:
            return await watched.view(films.film(2.0), detect=True)

    frames = asyncio.run(scenario())

    assert [[found.concept_id for found in frame.detections] for frame in frames] == [[str(RED)], [str(GREEN)]]


def test_what_is_found_in_frames_is_looked_at_with_margins_around_it() -> None:
    async def scenario() -> tuple[list[Viewed], list[int]]:
        async with watching() as watched:
            return await watched.view(films.film(60.0), 500, detect=True, margins=[0.0, 0.5]), watched.runs

    frames, runs = asyncio.run(scenario())

    assert len(frames) == 120
    wider = Box(top=0.0, left=0.0, bottom=0.75, right=0.75)
    assert all(list(frame.parts) == [CORNER, wider] for frame in frames)
    assert all(frame.parts[CORNER] == pytest.approx(frame.vector, abs=0.02) for frame in frames)
    assert max(runs) <= 16


def test_hundreds_of_frames_run_in_small_groups() -> None:
    async def scenario() -> tuple[list[Viewed], list[int]]:
        async with watching() as watched:
            return await watched.view(films.film(60.0), 100), watched.runs

    frames, runs = asyncio.run(scenario())

    assert [frame.time.time_ms for frame in frames] == list(range(50, 60_000, 100))
    assert (sum(runs), max(runs)) == (600, 16)


def test_others_have_their_turn_while_a_film_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewing, "_TURN_S", 0.0)

    async def scenario() -> int:
        async with watching() as watched:
            film = asyncio.create_task(watched.view(films.film(20.0)))
            turns = 0
            while not film.done():
                await watched.threads.decode(Lane.INTERACTIVE, lambda: None)
                turns += 1
            assert len(film.result()) == 20
            return turns

    # One thread, 200 frames: whoever comes between two of them is served before the film ends.
    assert asyncio.run(scenario()) > 100


def test_what_is_wrong_with_a_film_is_raised_where_it_is_found() -> None:
    async def scenario() -> None:
        async with watching() as watched:
            with pytest.raises(InputFailed, match="plain text"):
                await watched.view(b"text")
            with pytest.raises(InputFailed, match="ends early"):
                await watched.view(films.moov_first(films.film(3.0))[:-300])

    asyncio.run(scenario())


def test_whoever_gives_up_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewing, "_TURN_S", 0.0)
    readings: list[weakref.ref[viewing.Reading]] = []
    begun = threading.Event()

    class Kept(viewing.Reading):
        def __init__(self, data: bytes, *, sample_ms: int, max_pixels: int) -> None:
            super().__init__(data, sample_ms=sample_ms, max_pixels=max_pixels)
            readings.append(weakref.ref(self))
            begun.set()

    monkeypatch.setattr(viewing, "Reading", Kept)

    async def scenario() -> None:
        async with watching() as watched:
            task = asyncio.create_task(watched.view(films.film(20.0)))
            assert await asyncio.to_thread(begun.wait, DEADLINE_S)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert len(await watched.view(films.film_of([(plain(RED), n / 10) for n in range(10)]))) == 1

    asyncio.run(scenario())
    gc.collect()

    assert [reading() for reading in readings] == [None, None]
    assert not [thread for thread in threading.enumerate() if "decode" in thread.name]
