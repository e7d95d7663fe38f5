"""From what an eye saw of a picture to what is to be written of its areas. No I/O."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sightrank.ingest.jobs import Job, Outcome
from sightrank.ingest.rows import same_box
from sightrank.vision.detector import Detection
from sightrank.vision.eye import Prepared


def outcome_of(
    job: Job,
    blob: str,
    prepared: Prepared,
    vectors: NDArray[np.float32],
    concepts: Sequence[Sequence[tuple[str, float]]],
) -> Outcome:
    """Gives every area its vector and concepts: the whole image's for a region without extent.

    ``prepared`` was made with the boxes of the job's areas; ``vectors`` and ``concepts`` are those of its pixels. Then
    come the detections, but for those whose region somebody has annotated since it was found before: it is among the
    areas.
    """
    cuts = iter(range(1, len(vectors)))
    places = [0 if area.box is None else next(cuts) for area in job.areas]
    detections: list[Detection] = []
    for place, detection in zip(cuts, prepared.detections, strict=True):
        if not any(same_box(area.box, detection.box) for area in job.areas):
            places.append(place)
            detections.append(detection)
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
    )
