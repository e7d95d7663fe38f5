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
from tests.watching import watched_eye

from sightrank.errors import InputFailed
from sightrank.vision import viewing
from sightrank.vision.threads import Lane, Threads
from sightrank.vision.video import Sample
from sightrank.vision.viewing import Watched, view, watch

DEADLINE_S = 60.0


class Watching:
    """An eye on one thread, and the sizes of the batches it ran."""

    def __init__(self, threads: Threads) -> None:
        self.runs: list[int] = []
        self.threads = threads
        self.eye = watched_eye(threads, self.runs.append)

    async def watch(self, data: bytes, sample_ms: int = 1000) -> Watched:
        return await watch(self.eye, data, Lane.INTERACTIVE, sample_ms=sample_ms)

    async def view(self, data: bytes, sample_ms: int = 1000) -> list[Sequence[Sample]]:
        """The groups in which the frames came."""
        async with aclosing(view(self.eye, data, Lane.INTERACTIVE, sample_ms=sample_ms)) as groups:
            return [group async for group in groups]


@asynccontextmanager
async def watching() -> AsyncIterator[Watching]:
    threads = Threads(1)
    try:
        async with asyncio.timeout(DEADLINE_S):
            yield Watching(threads)
    finally:
        await asyncio.to_thread(threads.close)


def test_every_frame_has_its_time_and_its_vector() -> None:
    async def scenario() -> Watched:
        async with watching() as watched:
            return await watched.watch(films.film(3.0))

    film = asyncio.run(scenario())

    assert [(frame.index, frame.time_ms, frame.number) for frame in film.frames] == [
        (0, 500, 5),
        (1, 1500, 15),
        (2, 2500, 25),
    ]
    assert [films.named((vector * 255)[None]) for vector in film.vectors] == [RED, GREEN, BLUE]
    assert (film.width, film.height, film.format, film.duration_ms) == (96, 64, "MP4", 3000)


def test_frames_are_seen_in_full_size() -> None:
    async def scenario() -> list[Sequence[Sample]]:
        async with watching() as watched:
            return await watched.view(films.film(2.0))

    frames = [frame for group in asyncio.run(scenario()) for frame in group]

    assert [frame.time.time_ms for frame in frames] == [500, 1500]
    assert [frame.pixels.shape for frame in frames] == [(64, 96, 3)] * 2
    assert [films.named(frame.pixels) for frame in frames] == [RED, GREEN]


def test_hundreds_of_frames_come_in_small_groups() -> None:
    async def scenario() -> tuple[Watched, list[int], list[Sequence[Sample]]]:
        async with watching() as watched:
            return await watched.watch(films.film(60.0), 100), watched.runs, await watched.view(films.film(60.0), 100)

    film, runs, groups = asyncio.run(scenario())

    times = list(range(50, 60_000, 100))
    assert [frame.time_ms for frame in film.frames] == times
    assert (sum(runs), max(runs)) == (600, 16)
    assert [frame.time.time_ms for group in groups for frame in group] == times
    assert {len(group) for group in groups} <= {16, 600 % 16}


def test_large_frames_come_in_smaller_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewing, "_GROUP_BYTES", 3 * 64 * 96 * 3)

    async def scenario() -> list[Sequence[Sample]]:
        async with watching() as watched:
            return await watched.view(films.film(8.0))

    assert [len(group) for group in asyncio.run(scenario())] == [3, 3, 2]


def test_a_picture_that_stays_is_held_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewing, "_GROUP_BYTES", 2 * 64 * 96 * 3)
    still = films.film_of([(plain(RED), 0.0), (plain(RED), 7.9)])

    async def scenario() -> list[Sequence[Sample]]:
        async with watching() as watched:
            return await watched.view(still, 1000)

    (group,) = asyncio.run(scenario())

    assert len(group) == 8
    assert len({id(frame.pixels) for frame in group}) == 1


def test_others_have_their_turn_while_a_film_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewing, "_TURN_S", 0.0)

    async def scenario() -> int:
        async with watching() as watched:
            film = asyncio.create_task(watched.watch(films.film(20.0)))
            turns = 0
            while not film.done():
                await watched.threads.decode(Lane.INTERACTIVE, lambda: None)
                turns += 1
            assert len(film.result().frames) == 20
            return turns

    # One thread, 200 frames: whoever comes between two of them is served before the film ends.
    assert asyncio.run(scenario()) > 100


def test_what_is_wrong_with_a_film_is_raised_where_it_is_found() -> None:
    async def scenario() -> None:
        async with watching() as watched:
            for look in (watched.view, watched.watch):
                with pytest.raises(InputFailed, match="plain text"):
                    await look(b"text")
                with pytest.raises(InputFailed, match="ends early"):
                    await look(films.moov_first(films.film(3.0))[:-300])

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
