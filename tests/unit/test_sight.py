"""What is looked at for the nodes of a workflow: each part of an input once, and what cannot be looked at."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image
from tests.watching import CORNER, watched_eye

from sightrank.errors import InputFailed, InputInvalid
from sightrank.teach.steps import Looks
from sightrank.vision.box import Box
from sightrank.vision.detector import Detection
from sightrank.vision.eye import Eye
from sightrank.vision.operators import Said
from sightrank.vision.sight import PictureSight, TextSight
from sightrank.vision.threads import Lane, Threads
from sightrank.vision.together import Together

RIGHT = Box(top=0.0, left=0.5, bottom=1.0, right=1.0)


@pytest.fixture
def threads() -> Iterator[Threads]:
    threads = Threads(1)
    yield threads
    threads.close()


def pixels() -> np.ndarray:
    """96 x 64: red on the left, green on the right."""
    both = np.zeros((64, 96, 3), np.uint8)
    both[:, :48, 0] = both[:, 48:, 1] = 230
    return both


def picture() -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels()).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("aside", [False, True])
def test_what_takes_long_to_say_is_said_in_a_thread(threads: Threads, aside: bool) -> None:
    eye = watched_eye(threads, lambda count: None)
    sight = PictureSight(picture(), Lane.INTERACTIVE, [eye])
    where: list[threading.Thread] = []

    def says(vectors: np.ndarray) -> list[Said]:
        where.append(threading.current_thread())
        return [Said(concepts=(("seen", 1.0),)) for _ in vectors]

    data = asyncio.run(Looks(eye=eye, says=says, aside=aside).run(None, sight))

    assert data.whole.concepts == (("seen", 1.0),)
    assert (where[0] is not threading.main_thread()) == aside


def test_each_part_of_a_picture_is_embedded_once(threads: Threads) -> None:
    runs: list[int] = []
    eye = watched_eye(threads, runs.append)
    sight = PictureSight(picture(), Lane.INTERACTIVE, [eye])

    async def scenario() -> None:
        whole, right = await sight.vectors(eye, [None, RIGHT])
        ((found,),) = await sight.detections(eye, [None])
        again = await sight.vectors(eye, [RIGHT, None, found.box, RIGHT])

        assert found.box == CORNER
        assert whole == pytest.approx([0.7071, 0.7071, 0.0], abs=0.01)
        assert right == pytest.approx([0.0, 1.0, 0.0], abs=0.01)
        assert again[0] == pytest.approx(right)
        assert again[1] == pytest.approx(whole)
        assert again[2] == pytest.approx([1.0, 0.0, 0.0], abs=0.01)

    asyncio.run(scenario())

    assert runs == [2, 1]  # the whole and the right side together, then the corner


def test_what_is_no_picture_cannot_be_looked_at(threads: Threads) -> None:
    eye = watched_eye(threads)
    sight = PictureSight(b"no picture", Lane.INTERACTIVE)

    async def scenario() -> None:
        assert (await sight.vectors(eye, [])).shape == (0, 3)
        for refused in (sight.vectors(eye, [None]), sight.vectors(eye, [RIGHT]), sight.detections(eye, [None])):
            with pytest.raises(InputFailed):
                await refused

    asyncio.run(scenario())


def test_a_frame_of_a_film_is_seen_as_a_picture_is(threads: Threads) -> None:
    """By any eye, in any of its parts."""
    eye, other = watched_eye(threads), watched_eye(threads)
    frame, file = (PictureSight(data, Lane.INTERACTIVE, [eye]) for data in (pixels(), picture()))

    async def scenario() -> None:
        for one in (eye, other):
            assert np.array_equal(await frame.vectors(one, [None, RIGHT]), await file.vectors(one, [None, RIGHT]))
        assert await frame.detections(eye, [None]) == await file.detections(eye, [None])

    asyncio.run(scenario())


@pytest.mark.parametrize("data", [picture(), pixels()], ids=["file", "frame"])
def test_what_is_found_in_a_part_is_placed_in_the_whole(threads: Threads, data: Any) -> None:
    eye = watched_eye(threads)
    eye.detector = Middle()
    sight = PictureSight(data, Lane.INTERACTIVE)
    parts = [Box(top=0.25 * n, left=0.5, bottom=0.25 * n + 0.25, right=1.0) for n in range(4)] + [RIGHT]

    async def scenario() -> None:
        found = await sight.detections(eye, [*parts, parts[0]])

        middles = [Box(top=0.25 * n + 0.0625, left=0.625, bottom=0.25 * n + 0.1875, right=0.875) for n in range(4)]
        middles += [Box(top=0.25, left=0.625, bottom=0.75, right=0.875)]
        assert [[one.box for one in some] for some in found] == [[middle] for middle in [*middles, middles[0]]]
        assert eye.detector.shapes == [(16, 48, 3)] * 4 + [(64, 48, 3)], "each part once"
        vectors = await sight.vectors(eye, middles)
        assert vectors == pytest.approx(np.array([[0.0, 1.0, 0.0]] * 5), abs=0.01)

    asyncio.run(scenario())


def test_sights_that_are_seen_together_share_runs_of_the_network(threads: Threads) -> None:
    runs: list[int] = []
    eye, other = watched_eye(threads, runs.append), watched_eye(threads, runs.append)
    together = Together(6, Lane.INTERACTIVE)

    async def look(place: int) -> np.ndarray:
        sight = PictureSight(pixels(), Lane.INTERACTIVE, together=together)
        seen = [await sight.vectors(eye, [None, RIGHT])] if place else []
        if place > 2:  # these look twice, half of them by another eye
            seen.append(await sight.vectors(eye if place > 4 else other, [CORNER]))
        await together.leave()
        return np.concatenate(seen) if seen else np.empty((0, 3), np.float32)

    async def scenario() -> list[np.ndarray]:
        async with asyncio.timeout(20.0):
            return await asyncio.gather(*map(look, range(6)))

    seen = asyncio.run(scenario())

    assert [len(vectors) for vectors in seen] == [0, 2, 2, 3, 3, 3]
    for vectors in seen[3:]:
        assert vectors == pytest.approx(np.array([[0.7071, 0.7071, 0.0], [0, 1, 0], [1, 0, 0]]), abs=0.01)
    assert sorted(runs) == [1, 2, 10], "ten by the first eye, then two by the other beside one by the first"


def test_whoever_asks_something_else_waits_for_one_of_many_that_share_places(threads: Threads) -> None:
    done: list[str] = []
    searching, gate = threading.Event(), threading.Event()

    class Gated(Middle):
        def detect(self, pixels: np.ndarray) -> list[Detection]:
            searching.set()
            assert gate.wait(60)
            done.append("frame")
            return super().detect(pixels)

    eye = watched_eye(threads)
    eye.detector = Gated()
    places = asyncio.Semaphore(threads.cores)

    async def look() -> None:
        sight = PictureSight(pixels(), Lane.INTERACTIVE, (), places)
        for boxes in ([None], [RIGHT]):
            await sight.detections(eye, boxes)

    async def scenario() -> None:
        async with asyncio.timeout(60):
            frames = [asyncio.create_task(look()) for _ in range(8)]
            await asyncio.to_thread(searching.wait)
            asking = asyncio.create_task(threads.decode(Lane.INTERACTIVE, lambda: done.append("question")))
            await asyncio.sleep(0)
            gate.set()
            await asyncio.gather(asking, *frames)

    asyncio.run(scenario())

    assert done == ["frame", "question", *["frame"] * 15]


class Middle:
    """Finds one thing in the middle of every picture."""

    concept_ids, provider = ("middle",), "cpu"

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def detect(self, pixels: np.ndarray) -> list[Detection]:
        self.shapes.append(pixels.shape)
        middle = Box(top=0.25, left=0.25, bottom=0.75, right=0.75)
        return [Detection(box=middle, concept_id="middle", value=0.9)]


def test_a_text_is_for_eyes_that_read(threads: Threads) -> None:
    eye = watched_eye(threads)

    class Reading:
        reads = True

        async def read(self, text: str) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
            return np.array([len(text), 0.0], np.float32)

    async def scenario() -> None:
        sight = TextSight("four")
        assert (await sight.vectors(cast(Eye, Reading()), [None])).tolist() == [[4.0, 0.0]]
        for refused in (sight.vectors(eye, [None]), sight.detections(eye, [None])):
            with pytest.raises(InputInvalid, match="images and videos only"):
                await refused

    asyncio.run(scenario())
