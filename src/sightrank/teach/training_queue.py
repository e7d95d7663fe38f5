"""Model versions to be trained, as a queue: any number of processes share it, and one that dies leaves its lease."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from sightrank.store import queries
from sightrank.store.buckets import next_version
from sightrank.store.database import Connection, Database
from sightrank.store.vectors import EmbedderTable
from sightrank.teach.leases import LeaseLost
from sightrank.vision.fitting import EFFORT_OF_CONCEPT

ATTEMPTS = 4
PATIENCE_S = 600.0  # how long from the call a version waits for labelled inputs that are yet to be indexed
_AWAITED = 100  # inputs are indexed in the order in which they came: when the last of them are done, others hardly wait
ANY_EFFORT = 2**62
_APPS_IN_TURN = 1000  # whose turn is remembered
_SQL = queries.load("training")
UNFITTED = sql.SQL(_SQL["buckets_with_unfitted"]).format(spaces=sql.SQL(_SQL["spaces"]))
UNFITTED_IN_CHANGE = sql.SQL(_SQL["buckets_with_unfitted"]).format(spaces=sql.SQL(_SQL["spaces_in_change"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """A leased version. ``training``: how it is to be fitted; ``workflow_id``: what its app is indexed by.

    ``behind``: inputs of the app that were posted before it are yet to be indexed; ``overdue``: it has waited for such
    long enough.
    """

    bucket: int
    id: str
    model_id: str
    concept_ids: tuple[str, ...]
    training: Mapping[str, Any]
    attempts: int
    workflow_id: str
    behind: bool = False
    overdue: bool = False

    @property
    def hopeless(self) -> bool:
        """Whether it has ended so many attempts that it is to be left alone."""
        return self.attempts > ATTEMPTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Refit(Training):
    """A trained version that is to be fitted to other vectors: those of ``table``, with the same ``examples``."""

    examples: bytes
    table: EmbedderTable


class TrainingQueue:
    """The queue as one process sees it. ``owner`` names the process in the leases it takes."""

    def __init__(self, database: Database, *, owner: str, lease_s: float) -> None:
        self._database = database
        self._lease = {"owner": owner, "lease_s": lease_s}
        self._served: list[int] = []  # buckets of which something was claimed, the latest last

    async def claim(self, workflow_ids: Collection[str], *, most: int = ANY_EFFORT) -> Training | None:
        """A version of an app that has one of these workflows, and no more work than ``most``. Apps take turns; of one
        app it is the version that waits longest.
        """
        which = {"most": most, "effort_of_concept": EFFORT_OF_CONCEPT, "patience_s": PATIENCE_S}
        apps = {"workflow_ids": list(workflow_ids), "served": self._served, **which}
        for bucket, workflow_id in await self._database.rows(_SQL["buckets_with_work"], apps):
            row = await self._database.row(_SQL["claim"], {**self._lease, **which, "bucket": bucket})
            if row is not None:
                self._served = [*(one for one in self._served if one != bucket), bucket][-_APPS_IN_TURN:]
                *version, behind, overdue = row
                known = _of_row(bucket, version)
                return Training(**known, workflow_id=workflow_id, behind=behind, overdue=overdue)
        return None

    async def wait_for(self, training: Training, inputs: Sequence[int], reason: str) -> None:
        """Gives the version back until these inputs are indexed or have failed, in order of their numbers."""
        values = {"numbers": list(inputs[-_AWAITED:]), "reason": reason}
        await self._database.execute(_SQL["wait_for"], self._keys(training) | values)

    async def wait_as_large(self, training: Training, effort: int) -> None:
        """Gives the version back, to be claimed by whoever has room for so much work."""
        await self._database.execute(_SQL["wait_as_large"], self._keys(training) | {"effort": effort})

    async def claim_unfitted(self, tables: Mapping[str, EmbedderTable], *, everywhere: bool) -> Refit | None:
        """A trained version without a fit for the vectors that its app is about to have; ``everywhere``: or has now, by
        workflow, which reads the indexes of all versions there are.
        """
        embedder_ids = [table.id for table in tables.values()]
        wanted = {"workflow_ids": list(tables), "embedder_ids": embedder_ids, "attempts": ATTEMPTS}
        lacking = await self._database.rows(UNFITTED if everywhere else UNFITTED_IN_CHANGE, wanted)
        for bucket, embedder_id, dims in lacking:
            keys = {"bucket": bucket, "embedder_id": embedder_id, "attempts": ATTEMPTS}
            row = await self._database.row(_SQL["claim_unfitted"], self._lease | keys)
            if row is not None:
                *version, examples = row
                table = EmbedderTable(id=embedder_id, dims=dims)
                return Refit(**_of_row(bucket, version), workflow_id="", examples=examples, table=table)
        return None

    async def keep(self, training: Training, progress: float) -> bool:
        """Renews the lease and says how far the work is, 0 to 1; False where the version is not ours any more."""
        return await self._database.execute(_SQL["keep"], {**self._keys(training), "progress": progress}) > 0

    async def hand_back(self, training: Training, *, pause_s: float, blameless: bool) -> None:
        """Gives the version back untrained; ``blameless``: it did not fail for a reason of its own."""
        await self._database.execute(
            _SQL["hand_back"], {**self._keys(training), "pause_s": pause_s, "blameless": blameless}
        )

    async def any_awaited(self, training: Training, area_ids: list[int]) -> bool:
        """Whether one of these areas is of an input that is yet to be indexed, before its app changes over."""
        row = await self._database.row(_SQL["any_awaited"], {"bucket": training.bucket, "area_ids": area_ids})
        return row == (True,)

    async def finish(
        self, training: Training, *, table: EmbedderTable, fitted: bytes, examples: bytes, inputs: int, details: str
    ) -> None:
        """Makes the version a trained one, in one commit with what it learnt. Raises LeaseLost."""
        async with self._held(training) as connection:
            values = {"examples": examples, "inputs": inputs, "details": details}
            await connection.execute(_SQL["trained"], self._keys(training) | values)
            await self._insert_fit(connection, training, table, fitted)

    async def finish_refit(self, refit: Refit, fitted: bytes) -> None:
        """Adds what the version learnt of the other vectors. Raises LeaseLost."""
        async with self._held(refit) as connection:
            await connection.execute(_SQL["fitted_anew"], self._keys(refit))
            await self._insert_fit(connection, refit, refit.table, fitted)

    async def fail(self, training: Training, status: int, reason: str) -> None:
        """Ends the training without a model. Raises LeaseLost."""
        async with self._held(training) as connection:
            await connection.execute(_SQL["failed"], {**self._keys(training), "status": status, "reason": reason})

    @asynccontextmanager
    async def _held(self, training: Training) -> AsyncIterator[Connection]:
        async with self._database.transaction() as connection:
            await connection.execute(_SQL["hold_app"], {"bucket": training.bucket})
            cursor = await connection.execute(_SQL["hold"], self._keys(training))
            if await cursor.fetchone() is None:
                raise LeaseLost
            yield connection

    async def _insert_fit(
        self, connection: Connection, training: Training, table: EmbedderTable, fitted: bytes
    ) -> None:
        values = {"embedder_id": table.id, "fitted": fitted}
        await connection.execute(_SQL["insert_fit"], self._keys(training) | values)
        await next_version(connection, training.bucket, labels=True)

    def _keys(self, training: Training) -> dict[str, Any]:
        return {**self._lease, "bucket": training.bucket, "id": training.id}


def _of_row(bucket: int, row: Sequence[Any]) -> dict[str, Any]:
    id, model_id, concept_ids, training, attempts = row
    return {
        "bucket": bucket,
        "id": id,
        "model_id": model_id,
        "concept_ids": tuple(concept_ids),
        "training": training,
        "attempts": attempts,
    }


async def lacks_fits(database: Database, bucket: int, embedder_id: int) -> bool:
    """Whether a trained version of the app can still be fitted to the vectors of this embedder and has not been."""
    row = await database.row(_SQL["any_unfitted"], {"bucket": bucket, "embedder_id": embedder_id, "attempts": ATTEMPTS})
    return row == (True,)
