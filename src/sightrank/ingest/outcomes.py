"""From what an eye saw of a picture or a video to what is to be written of its areas. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sightrank.ingest.areas import Area
from sightrank.ingest.job import Job, Outcome
from sightrank.ingest.rows import same_box
from sightrank.vision.detector import Detection
from sightrank.vision.eye import Prepared, Vectors
from sightrank.vision.video import FrameTime
from sightrank.vision.viewing import Watched

Concepts = Sequence[Sequence[tuple[str, float]]]


def outcome_of(job: Job, blob: str, prepared: Prepared, vectors: Vectors, concepts: Concepts) -> Outcome:
    """Gives every area its vector and concepts: the whole image's for a region without extent.

    ``prepared`` was made with the boxes of the job's areas; ``vectors`` and ``concepts`` are those of its pixels. Then
    come the detections, but for those whose region somebody has annotated since it was found before: it is among the
    areas, and found again.
    """
    cuts = iter(range(1, len(vectors)))
    places = [0 if area.box is None else next(cuts) for area in job.areas]
    detections: list[Detection] = []
    found_again: dict[int, Detection] = {}
    for place, detection in zip(cuts, prepared.detections, strict=True):
        again = _area_of(detection, job.areas, found_again)
        if again is None:
            places.append(place)
            detections.append(detection)
        else:
            found_again[again] = detection
    return Outcome(
        job=job,
        blob=blob,
        width=prepared.width,
        height=prepared.height,
        format=prepared.format,
        color_mode=prepared.color_mode,
        vectors=vectors[places],
        concepts=[concepts[place] for place in places],
        detections=tuple(detections),
        found_again=found_again,
    )


def _area_of(detection: Detection, areas: Sequence[Area], taken: Collection[int]) -> int | None:
    """The place of the area that has the very box of a detection; of several each is found once."""
    for place, area in enumerate(areas):
        if place not in taken and same_box(area.box, detection.box):
            return place
    return None


def outcome_of_video(job: Job, blob: str, video: Watched, top: Callable[[Vectors], Concepts]) -> Outcome:
    """Gives the whole video the mean of its frames, and every frame its own vector.

    Of a long film this is work for a thread. ``top`` tells the likeliest concepts of vectors. A region that was marked
    on the video at large has the vector of all of it. Frames that are areas already stay these areas.
    """
    seen = {frame.index: place for place, frame in enumerate(video.frames)}
    known = {area.frame.index for area in job.areas if area.frame is not None}
    new = tuple(frame for frame in video.frames if frame.index not in known)
    places = [0 if area.frame is None else 1 + _place(seen, video.frames, area.frame) for area in job.areas]
    places += [1 + seen[frame.index] for frame in new]
    all_vectors = np.concatenate([_mean_direction(video.vectors)[None], video.vectors])
    concepts = top(all_vectors)
    return Outcome(
        job=job,
        blob=blob,
        width=video.width,
        height=video.height,
        format=video.format,
        duration_ms=video.duration_ms,
        vectors=all_vectors[places],
        concepts=[concepts[place] for place in places],
        frames=new,
    )


def _mean_direction(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The unit vector [dims] of the mean of [n, dims]; the first of them where they cancel out."""
    mean = vectors.mean(axis=0)
    length = float(np.linalg.norm(mean))
    return np.asarray(mean / length, np.float32) if length > 1e-6 else vectors[0]


def _place(seen: Mapping[int, int], frames: Sequence[FrameTime], wanted: FrameTime) -> int:
    place = seen.get(wanted.index)
    return _nearest(frames, wanted) if place is None else place


def _nearest(frames: Sequence[FrameTime], wanted: FrameTime) -> int:
    """The place of the frame nearest in time: a decoder of another version may leave out one that is damaged."""
    return min(range(len(frames)), key=lambda place: abs(frames[place].time_ms - wanted.time_ms))
