"""Regions that the detector of a wanted workflow finds: put aside until the app changes over, then made areas of it.

They wait in a table of their own with their vectors. Both workflows may have one embedder, and so one table of vectors,
in which every search would see them. A region that is an area already, because somebody has annotated it, waits there
under its own id for what the detector says of it; if it is gone when the app changes over, it is made anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightrank.ingest.job import Outcome
from sightrank.ingest.rows import box_info, forget_removals, new_id, to_json
from sightrank.ingest.workflow import Workflow
from sightrank.store import queries, vectors
from sightrank.store.database import Connection
from sightrank.store.vectors import EmbedderTable
from sightrank.vision.detector import Detection

_SQL = queries.load("reindex")


@dataclass(frozen=True, slots=True, kw_only=True)
class _AsideRegion:
    """A row of ``reindexed_regions``; ``vector`` in pgvector's notation."""

    region_id: str
    input_number: int
    box_top: float
    box_left: float
    box_bottom: float
    box_right: float
    data: dict[str, Any]
    detector_id: str
    detector_version_id: str
    detected_id: str
    detected_value: float
    tagger_id: str
    tagger_version_id: str
    concept_ids: Sequence[str]
    concept_values: Sequence[float]
    vector: str


async def put_aside(
    connection: Connection, bucket: int, workflow: Workflow, outcomes: Sequence[Outcome]
) -> dict[tuple[int, int], str]:
    """Keeps the regions found in these inputs, in place of those that were found in them before; their ids by number
    and place."""
    numbers = [outcome.job.number for outcome in outcomes]
    await connection.execute(_SQL["drop_aside_regions"], {"bucket": bucket, "numbers": numbers})
    found = {(outcome.job.number, place): row for outcome in outcomes for place, row in _aside(workflow, outcome)}
    if found:
        await connection.execute(_SQL["put_regions_aside"], {"bucket": bucket, "rows": to_json([*found.values()])})
    return {key: row.region_id for key, row in found.items()}


async def take_over(connection: Connection, bucket: int, version: int, table: EmbedderTable) -> None:
    """Removes the regions that models found for the old workflow and makes areas of those put aside, with vectors of
    ``version`` in ``table`` and annotations. Regions that somebody has annotated stay.
    """
    await drop_found(connection, bucket, version)
    keys = {"bucket": bucket}
    await connection.execute(_SQL["take_regions"], keys)
    await vectors.insert_reindexed(connection, table, bucket, version)
    await connection.execute(_SQL["take_detections"], keys)
    await connection.execute(_SQL["take_tags_of_regions"], keys)


async def drop_found(connection: Connection, bucket: int, version: int, numbers: Sequence[int] | None = None) -> None:
    """Removes regions that models found and nobody has annotated, with all that was said of them: of all inputs or of
    these, which the caller's transaction has locked.
    """
    keys = {"bucket": bucket, "version": version, "numbers": None if numbers is None else list(numbers)}
    dropped = await connection.execute(_SQL["drop_found_regions"], keys)
    if dropped.rowcount:
        await forget_removals(connection, bucket, version)


async def inputs_with_found(connection: Connection, bucket: int, at_most: int) -> list[int]:
    """Numbers of inputs with regions that models found and nobody has annotated."""
    cursor = await connection.execute(_SQL["inputs_with_found_regions"], {"bucket": bucket, "limit": at_most})
    return [number for (number,) in await cursor.fetchall()]


def _aside(workflow: Workflow, outcome: Outcome) -> list[tuple[int, _AsideRegion]]:
    areas = outcome.job.areas
    found = [(place, areas[place].region_id, detection) for place, detection in sorted(outcome.found_again.items())]
    found += [(place, new_id(), detection) for place, detection in enumerate(outcome.detections, len(areas))]
    if not found:
        return []
    assert outcome.vectors is not None, "nothing is detected where nothing is embedded"
    return [
        (place, _row(workflow, outcome.job.number, name, detection, outcome.vectors[place], outcome.concepts[place]))
        for place, name, detection in found
    ]


def _row(
    workflow: Workflow,
    input_number: int,
    region_id: str,
    detection: Detection,
    vector: NDArray[np.float32],
    concepts: Sequence[tuple[str, float]],
) -> _AsideRegion:
    box = detection.box
    return _AsideRegion(
        region_id=region_id,
        input_number=input_number,
        box_top=box.top,
        box_left=box.left,
        box_bottom=box.bottom,
        box_right=box.right,
        data={"regions": [{"region_info": box_info(box)}]},
        detector_id=workflow.detector_id,
        detector_version_id=workflow.detector_version_id,
        detected_id=detection.concept_id,
        detected_value=round(detection.value, 6),
        tagger_id=workflow.tagger_id,
        tagger_version_id=workflow.tagger_version_id,
        concept_ids=[concept_id for concept_id, _ in concepts],
        concept_values=[round(value, 6) for _, value in concepts],
        vector=str(vector.astype(np.float16).astype(float).tolist()),
    )
