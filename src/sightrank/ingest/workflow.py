"""What looks at the inputs of an app, and the annotations by which its models say what they see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sightrank.ingest.areas import Area
from sightrank.ingest.rows import AnnotationRow, box_info, new_id
from sightrank.store.status import ANNOTATION_SUCCESS
from sightrank.store.vectors import EmbedderTable
from sightrank.vision.detector import Detection
from sightrank.vision.eye import Eye


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """What looks at an app's inputs, and the model versions that write into it.

    ``tagger_id`` and ``detector_id`` are '' where the workflow has no such model.
    """

    eye: Eye
    table: EmbedderTable
    tagger_id: str = ""
    tagger_version_id: str = ""
    detector_id: str = ""
    detector_version_id: str = ""


def detection_row(
    workflow: Workflow, input_number: int, area: Area, created_at: datetime, detection: Detection
) -> AnnotationRow:
    """The annotation by which the detector says what it found in a region."""
    value = round(detection.value, 6)
    data = {"regions": [{"region_info": box_info(detection.box), "value": value}]}
    model = (workflow.detector_id, workflow.detector_version_id)
    return _said(model, input_number, area, created_at, [(detection.concept_id, value)], data)


def prediction_row(
    workflow: Workflow, input_number: int, area: Area, created_at: datetime, concepts: Sequence[tuple[str, float]]
) -> AnnotationRow:
    """The annotation by which the tagger says what it sees in an area."""
    model = (workflow.tagger_id, workflow.tagger_version_id)
    return _said(model, input_number, area, created_at, concepts, area.data())


def _said(
    model: tuple[str, str],
    input_number: int,
    area: Area,
    created_at: datetime,
    concepts: Sequence[tuple[str, float]],
    data: dict[str, Any] | None,
) -> AnnotationRow:
    """What a model (its id, its version's) says of an area. It is not trusted until a person has agreed."""
    model_id, model_version_id = model
    return AnnotationRow(
        input_number=input_number,
        id=new_id(),
        area_id=area.id,
        created_at=created_at,
        status=ANNOTATION_SUCCESS,
        trusted=False,
        model_id=model_id,
        model_version_id=model_version_id,
        concept_ids=[concept_id for concept_id, _ in concepts],
        concept_values=[round(value, 6) for _, value in concepts],
        data=data,
    )
