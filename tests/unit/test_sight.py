"""What is looked at for the nodes of a workflow: each part of an input once, and what cannot be looked at."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Iterator
from typing import cast

import numpy as np
import pytest
from PIL import Image
from tests.watching import CORNER, watched_eye

from sightrank.errors import InputFailed, InputInvalid
from sightrank.teach.steps import Looks
from sightrank.vision.box import Box
from sightrank.vision.eye import Eye
from sightrank.vision.operators import Said
from sightrank.vision.sight import FrameSight, PictureSight, TextSight
from sightrank.vision.threads import Lane, Threads
from sightrank.vision.video import FrameTime
from sightrank.vision.viewing import Viewed

RIGHT = Box(top=0.0, left=0.5, bottom=1.0, right=1.0)


@pytest.fixture
def threads() -> Iterator[Threads]:
    threads = Threads(1)
    yield threads
    threads.close()


def picture() -> bytes:
    """96 x 64: red on the left, green on the right."""
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[:, :48, 0] = pixels[:, 48:, 1] = 230
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
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
        (found,) = await sight.detections(eye)
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
        for refused in (sight.vectors(eye, [None]), sight.vectors(eye, [RIGHT]), sight.detections(eye)):
            with pytest.raises(InputFailed):
                await refused

    asyncio.run(scenario())


def test_of_a_frame_only_what_was_looked_at_is_known(threads: Threads) -> None:
    eye = watched_eye(threads)
    time = FrameTime(index=0, time_ms=500, number=12)
    vector = np.array([1.0, 0.0, 0.0], np.float32)
    parts = {CORNER: np.array([0.0, 1.0, 0.0], np.float32)}
    viewed = Viewed(time=time, vector=vector, detections=(), width=96, height=64, parts=parts)
    sight = FrameSight({eye: viewed})

    async def scenario() -> None:
        assert (await sight.vectors(eye, [None, CORNER])).tolist() == [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
        assert (await sight.vectors(eye, [])).shape == (0, 3)
        assert list(await sight.detections(eye)) == []
        with pytest.raises(InputFailed, match="take the frame as an image"):
            await sight.vectors(eye, [RIGHT])

    asyncio.run(scenario())


def test_a_text_is_for_eyes_that_read(threads: Threads) -> None:
    eye = watched_eye(threads)

    class Reading:
        reads = True

        async def read(self, text: str) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
            return np.array([len(text), 0.0], np.float32)

    async def scenario() -> None:
        sight = TextSight("four")
        assert (await sight.vectors(cast(Eye, Reading()), [None])).tolist() == [[4.0, 0.0]]
        for refused in (sight.vectors(eye, [None]), sight.detections(eye)):
            with pytest.raises(InputInvalid, match="images and videos only"):
                await refused

    asyncio.run(scenario())
