"""A claimed input, and what became of it: what the stages of ingest hand on to each other."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sightrank.ingest.areas import Area
from sightrank.ingest.remarks import Remark
from sightrank.store.clock import microseconds
from sightrank.store.vectors import VectorRows
from sightrank.vision.detector import Detection
from sightrank.vision.video import FrameTime

#: Attempts that came to nothing after which an input is no longer worked on together with others.
SUSPECT: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A claimed input. ``areas`` starts with the whole of it. ``sample_ms`` is how far apart frames are taken;
    ``own_workflow_id`` names the app's own workflow that looks at it after the base models, if there is one."""

    bucket: int
    workflow_id: str
    number: int
    id: str
    media: str
    url: str
    blob: str
    attempts: int
    areas: tuple[Area, ...]
    sample_ms: int = 0
    own_workflow_id: str = ""

    @property
    def suspect(self) -> bool:
        """Whether it may be the one that ended earlier workers: every input they held has counted an attempt."""
        return self.attempts > SUSPECT


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcome:
    """What the base workflow made of a job: a unit vector [areas + detections + frames, dims] and the likeliest
    concepts of each area, then of each region that the detector found, or of each frame that is no area yet.

    ``found_again``: place of an area to what the detector says of it. ``vectors`` is None when nothing is to be
    embedded (the workflow is Empty, or the input is a text). ``remarks`` is what the nodes of the app's own workflow
    say; ``trouble`` tells why they say nothing, where they should have.
    """

    job: Job
    blob: str = ""
    width: int = 0
    height: int = 0
    format: str = ""
    color_mode: str = ""
    duration_ms: int = 0
    vectors: NDArray[np.float32] | None = None
    concepts: Sequence[Sequence[tuple[str, float]]] = ()
    detections: tuple[Detection, ...] = ()
    found_again: Mapping[int, Detection] = field(default_factory=dict)
    frames: tuple[FrameTime, ...] = ()
    remarks: tuple[Remark, ...] = ()
    trouble: str = ""


def vector_rows(outcomes: Sequence[Outcome]) -> VectorRows:
    """The vectors of all areas of these outcomes."""
    areas = [(outcome.job.number, area) for outcome in outcomes for area in outcome.job.areas]
    return VectorRows(
        area_ids=np.array([area.id for _, area in areas], np.int64),
        input_numbers=np.array([number for number, _ in areas], np.int64),
        created_us=np.array([microseconds(area.created_at) for _, area in areas], np.int64),
        vectors=np.concatenate([o.vectors for o in outcomes if o.vectors is not None]).astype(np.float16),
    )


def finished_rows(outcomes: Sequence[Outcome]) -> str:
    """What became known of the inputs' files, in JSON."""
    return json.dumps(
        [
            {
                "number": outcome.job.number,
                "blob": outcome.blob or outcome.job.blob,
                "width": outcome.width,
                "height": outcome.height,
                "format": outcome.format,
                "color_mode": outcome.color_mode,
                "duration_ms": outcome.duration_ms,
                "details": outcome.trouble,
                "sample_ms": outcome.job.sample_ms if outcome.job.media == "video" and outcome.width else 0,
            }
            for outcome in outcomes
        ]
    )
