"""Labelled inputs that a training waits for: they were posted before it was asked for, and are yet to be indexed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sightrank.search.concepts import ConceptBook
from sightrank.store import queries
from sightrank.store.database import Database
from sightrank.teach.examples import Source, labelled_as
from sightrank.teach.training_queue import PATIENCE_S, Training

_SQL = queries.load("training")
Numbers = NDArray[np.int64]


async def awaited_inputs(database: Database, book: ConceptBook, training: Training) -> Numbers:
    """Their numbers, sorted. Raises DoesNotExist when the app is gone."""
    if not training.behind:
        return np.empty(0, np.int64)
    source = Source.of(training.training)
    async with database.connection() as connection:
        concept_ids, _ = await labelled_as(connection, book, training.bucket, training.concept_ids)
        parameters = {
            "bucket": training.bucket,
            "id": training.id,
            "concept_ids": concept_ids,
            "dataset_id": source.dataset_id,
            "dataset_version_id": source.version_id,
        }
        row = await (await connection.execute(_SQL["awaited"], parameters, binary=True)).fetchone()
    return np.frombuffer((row and row[0]) or b"", ">i8").astype(np.int64)


def waiting_for(count: int) -> str:
    """What people read meanwhile."""
    return f"Waiting for {_inputs(count)} to be indexed, {_minutes()} from the call at most."


def left_out(count: int) -> str:
    """What people read once the wait is over in vain; '' where nothing was left out."""
    if not count:
        return ""
    were = "was" if count == 1 else "were"
    return (
        f"{_inputs(count)} {were} left out, not being indexed {_minutes()} after the call. Train again when they are at"
        " 30000."
    )


def _inputs(count: int) -> str:
    return "1 labelled input" if count == 1 else f"{count:,} labelled inputs"


def _minutes() -> str:
    return f"{PATIENCE_S / 60:g} minutes"
