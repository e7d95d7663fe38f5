"""Model versions that are to be evaluated, as a queue: any number of processes share it, each takes one at a time."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import IntEnum
from typing import Any

from psycopg.types.json import Jsonb

from sightrank.store import queries
from sightrank.store.database import Database
from sightrank.teach.examples import Source
from sightrank.vision.metrics import Metrics

ATTEMPTS = 3
_SQL = queries.load("evaluations")


class State(IntEnum):
    """How far an evaluation is, and why one failed, in Clarifai's numbers."""

    EVALUATED = 21300
    EVALUATING = 21301
    NOT_EVALUATED = 21302
    QUEUED = 21303
    UNKNOWN_ERROR = 21312
    PREDICTION_FAILED = 21313
    NEED_LABELS = 21315
    NEED_INPUTS = 21316
    FAILED = 21317


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """A leased evaluation of a version that is done with training, well or not (``version_status``); it was
    made at ``version_made_at``.

    ``source`` names no dataset where it is to be judged by what it was trained with. ``workflow_id``: what indexes its
    app.
    """

    bucket: int
    id: str
    version_id: str
    source: Source
    attempts: int
    workflow_id: str
    version_status: int
    version_details: str
    version_made_at: datetime
    concept_ids: tuple[str, ...]
    training: Mapping[str, Any]


class EvaluationQueue:
    """The queue as one process sees it. ``owner`` names the process in the leases it takes."""

    def __init__(self, database: Database, *, owner: str, lease_s: float) -> None:
        self._database = database
        self._owner = owner
        self._lease_s = lease_s

    async def claim(self, workflow_ids: Collection[str]) -> Evaluation | None:
        """The one that waits longest, of apps with one of these base workflows."""
        apps = {"workflow_ids": list(workflow_ids)}
        for bucket, workflow_id in await self._database.rows(_SQL["buckets_with_work"], apps):
            claimed = await self._claim_from(bucket, workflow_id)
            if claimed is not None:
                return claimed
        return None

    async def _claim_from(self, bucket: int, workflow_id: str) -> Evaluation | None:
        lease = {"owner": self._owner, "lease_s": self._lease_s}
        row = await self._database.row(_SQL["claim"], {**lease, "bucket": bucket})
        if row is None:
            return None
        id, version_id, dataset_id, dataset_version_id, attempts, status, details, made_at, concept_ids, training = row
        return Evaluation(
            bucket=bucket,
            id=id,
            version_id=version_id,
            source=Source(dataset_id, dataset_version_id),
            attempts=attempts,
            workflow_id=workflow_id,
            version_status=status,
            version_details=details,
            version_made_at=made_at,
            concept_ids=tuple(concept_ids),
            training=training,
        )

    async def keep(self, evaluation: Evaluation) -> bool:
        """Renews the lease; False where the evaluation is not ours any more: its version or its app was deleted."""
        return await self._write("renew", evaluation, lease_s=self._lease_s)

    async def examples(self, evaluation: Evaluation) -> bytes | None:
        """What the version was trained with (``teach.examples.thawed``); None where that was not kept."""
        row = await self._database.row(
            _SQL["examples"], {"bucket": evaluation.bucket, "version_id": evaluation.version_id}
        )
        return bytes(row[0]) if row is not None and row[0] is not None else None

    async def finish(self, evaluation: Evaluation, metrics: Metrics, *, details: str) -> bool:
        """Writes what was measured; False where the evaluation is not ours any more, and nothing is written."""
        summary = Jsonb(asdict(metrics.summary))
        return await self._write("finish", evaluation, metrics=metrics.dump(), summary=summary, details=details)

    async def fail(self, evaluation: Evaluation, state: State, details: str) -> bool:
        """Ends it for good, with the reason that people read."""
        return await self._write("fail", evaluation, status=int(state), details=details)

    async def put_off(self, evaluation: Evaluation, *, pause_s: float, blameless: bool) -> None:
        """Gives it back; ``blameless``: what stopped it had nothing to do with it."""
        await self._write("put_off", evaluation, pause_s=pause_s, blameless=blameless)

    async def _write(self, statement: str, evaluation: Evaluation, **values: Any) -> bool:
        key = {"bucket": evaluation.bucket, "id": evaluation.id, "owner": self._owner}
        return await self._database.execute(_SQL[statement], key | values) > 0
