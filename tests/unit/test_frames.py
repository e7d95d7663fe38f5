"""Which frame of a video an annotation names, and what is written of a video that was watched."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from sightrank.errors import AnnotationInvalid
from sightrank.ingest import outcomes
from sightrank.ingest.areas import Area
from sightrank.ingest.frames import named_frame, on_frame, same_frame
from sightrank.ingest.job import Job
from sightrank.ingest.outcomes import outcome_of_video
from sightrank.vision.video import FrameTime
from sightrank.vision.viewing import Watched

THEN = datetime(2026, 1, 1, tzinfo=UTC)
TIMES = tuple(FrameTime(index=n, time_ms=1000 * n + 500, number=25 * n + 12) for n in range(3))
WHOLE = Area(id=1, created_at=THEN, box=None)
FRAMES = tuple(Area(id=10 + time.index, created_at=THEN, box=None, frame=time) for time in TIMES)


def posted(**info: Any) -> dict[str, Any]:
    return {"frame_info": info}


@pytest.mark.parametrize(
    ("info", "index"),
    [
        ({}, 0),
        ({"time": "500"}, 0),
        ({"time": "1500"}, 1),
        ({"index": 2}, 2),
        ({"number": 37}, 1),
        ({"index": 1, "time": "1500", "number": 37}, 1),
    ],
)
def test_a_frame_is_named_by_whatever_is_said_of_it(info: dict[str, Any], index: int) -> None:
    assert named_frame([WHOLE, *FRAMES], [posted(**info)], "film") == FRAMES[index]
    assert same_frame(posted(**info), TIMES[index])


def test_no_frame_is_the_whole_video() -> None:
    assert named_frame([WHOLE, *FRAMES], [], "film") is None


@pytest.mark.parametrize(
    ("areas", "frames", "reason"),
    [
        ([WHOLE, *FRAMES], [posted(time="1400")], "the nearest has index 1, time 1500, number 37"),
        ([WHOLE, *FRAMES], [posted(number=60)], "the nearest has index 2"),
        ([WHOLE, *FRAMES], [posted(index=1, time="2500")], "no such frame"),
        ([WHOLE, *FRAMES], [posted(), posted()], "2 frames"),
        ([WHOLE, *FRAMES], [{"data": {"regions": [{"id": "r"}]}}], "a region in a frame"),
        ([WHOLE], [posted(time="500")], "makes them"),
    ],
)
def test_what_is_no_frame_of_the_video_is_refused(areas: list[Area], frames: list[dict[str, Any]], reason: str) -> None:
    with pytest.raises(AnnotationInvalid) as refused:
        named_frame(areas, frames, "film")
    assert reason in refused.value.details


def test_what_is_stored_says_all_of_the_frame() -> None:
    data = {"frames": [{"frame_info": {"time": "1500"}, "data": {"text": {"raw": "t"}}}], "text": {"raw": "x"}}

    assert on_frame(data, TIMES[1]) == {
        "frames": [{"frame_info": {"index": 1, "time": 1500, "number": 37}, "data": {"text": {"raw": "t"}}}],
        "text": {"raw": "x"},
    }
    assert not same_frame(posted(time="500"), TIMES[1])
    assert same_frame({}, TIMES[1])


# What is written ----------------------------------------------------------------------------------------------------

VECTORS = np.array([[1, 0, 0], [0, 1, 0], [0, 0.6, 0.8]], np.float32)
FILM = Watched(frames=TIMES, vectors=VECTORS, width=96, height=64, format="MP4", duration_ms=3000)


def job(*areas: Area) -> Job:
    return Job(
        bucket=1,
        workflow_id="General",
        number=7,
        id="film",
        media="video",
        url="",
        blob="b",
        attempts=1,
        areas=areas,
        sample_ms=1000,
    )


def largest(vectors: np.ndarray[Any, Any]) -> list[list[tuple[str, float]]]:
    return [[(str(int(vector.argmax())), float(vector.max()))] for vector in vectors]


def test_the_whole_video_is_the_mean_of_its_frames() -> None:
    outcome = outcome_of_video(job(WHOLE), "b", FILM, largest)

    assert outcome.vectors is not None
    mean = VECTORS.mean(axis=0)
    np.testing.assert_allclose(outcome.vectors[0], mean / np.linalg.norm(mean), rtol=1e-6)
    np.testing.assert_array_equal(outcome.vectors[1:], VECTORS)
    assert outcome.frames == TIMES
    assert [concepts[0][0] for concepts in outcome.concepts] == ["1", "0", "1", "2"]
    assert (outcome.width, outcome.height, outcome.format, outcome.duration_ms) == (96, 64, "MP4", 3000)


def test_frames_that_cancel_each_other_out_leave_the_first() -> None:
    opposite = Watched(
        frames=TIMES[:2],
        vectors=np.array([[1, 0, 0], [-1, 0, 0]], np.float32),
        width=1,
        height=1,
        format="GIF",
        duration_ms=2000,
    )

    outcome = outcome_of_video(job(WHOLE), "b", opposite, largest)

    assert outcome.vectors is not None
    np.testing.assert_array_equal(outcome.vectors[0], [1, 0, 0])


def test_frames_that_are_areas_get_their_vector_and_a_region_that_of_the_whole() -> None:
    region = Area(id=2, created_at=THEN, box=None, region_id="region")

    outcome = outcome_of_video(job(WHOLE, region, FRAMES[2], FRAMES[0]), "b", FILM, largest)

    assert outcome.vectors is not None
    np.testing.assert_array_equal(outcome.vectors[1], outcome.vectors[0])
    np.testing.assert_array_equal(outcome.vectors[2:], VECTORS[[2, 0, 1]])
    assert outcome.frames == (TIMES[1],)


def test_a_frame_that_the_decoder_leaves_out_now_gets_the_vector_of_the_nearest() -> None:
    without_first = Watched(frames=TIMES[1:], vectors=VECTORS[1:], width=96, height=64, format="MP4", duration_ms=3000)

    outcome = outcome_of_video(job(WHOLE, FRAMES[0], FRAMES[1]), "b", without_first, largest)

    assert outcome.vectors is not None
    np.testing.assert_array_equal(outcome.vectors[1:], VECTORS[[1, 1, 2]])
    assert outcome.frames == (TIMES[2],)


def test_frames_of_a_long_film_are_not_compared_with_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[object] = []
    monkeypatch.setattr(outcomes, "_nearest", lambda frames, wanted: compared.append(wanted) or 0)

    outcome_of_video(job(WHOLE, FRAMES[2], FRAMES[0]), "b", FILM, largest)

    assert compared == []
