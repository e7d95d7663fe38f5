"""What a change of an app's base workflow writes: areas looked at anew, the switch, and what is removed afterwards."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sightrank.ingest import reindex_regions, reindex_remarks
from sightrank.ingest.areas import read_areas
from sightrank.ingest.dataset_freeze import between_versions
from sightrank.ingest.history import remembering
from sightrank.ingest.job import Job, Outcome, finished_rows, vector_rows
from sightrank.ingest.jobs import with_frames
from sightrank.ingest.reindex_queue import ReindexQueue, State, Turn, TurnLost
from sightrank.ingest.rows import lock_inputs
from sightrank.ingest.workflow import Workflow
from sightrank.search.concepts import ConceptBook
from sightrank.store import queries, vectors
from sightrank.store.buckets import next_version
from sightrank.store.clock import Clock
from sightrank.store.database import Connection, Database, retrying
from sightrank.store.status import INPUT_INDEXED
from sightrank.store.vectors import EmbedderTable

_SQL = queries.load("reindex")
_DROP_PREDICTIONS = remembering(_SQL["drop_predictions"])
_SWEPT = 5000  # rows removed from a table in one transaction
_NAMED = 20  # inputs that a failure names
_BUSY = "The inputs of this app are being written to."


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What a batch came to. ``refused``: number of an input to why it could not be looked at."""

    outcomes: Sequence[Outcome] = ()
    refused: Mapping[int, str] = field(default_factory=dict)


class ReindexRows:
    """Writes of one process. Each transaction holds the turn, so that nothing is written after it was lost."""

    def __init__(
        self,
        database: Database,
        queue: ReindexQueue,
        workflows: Mapping[str, Workflow],
        idle: Collection[str],
        book: ConceptBook,
        *,
        clock: Clock,
    ) -> None:
        """``idle``: the workflows that run no model."""
        self._database = database
        self._book = book
        self._queue = queue
        self._workflows = workflows
        self._idle = idle
        self._clock = clock

    async def missing(self, turn: Turn, limit: int) -> list[Job]:
        """The next inputs, with their areas, that have one which the wanted workflow has not looked at."""
        rows = await self._database.rows(
            _SQL["missing"], {"bucket": turn.bucket, "after_number": turn.after_number, "limit": limit}
        )
        async with self._database.connection() as connection:
            areas = await read_areas(connection, turn.bucket, [row[0] for row in rows])
        return [
            Job(
                bucket=turn.bucket,
                workflow_id=turn.workflow_id or "",
                number=number,
                id=name,
                media=media,
                url=url,
                blob=blob,
                attempts=turn.attempts,
                areas=areas.get(number, ()),
                sample_ms=sample_ms,
                own_workflow_id=turn.own_workflow_id,
            )
            for number, name, media, url, blob, sample_ms in rows
        ]

    async def is_complete(self, turn: Turn) -> bool:
        """Whether the wanted workflow has looked at every area."""
        row = await self._database.row(_SQL["any_missing"], {"bucket": turn.bucket})
        return row == (False,)

    async def is_working(self, turn: Turn) -> bool:
        """Whether ingest still works on inputs of the app."""
        row = await self._database.row(_SQL["any_working"], {"bucket": turn.bucket})
        return row == (True,)

    async def failures(self, turn: Turn) -> Sequence[tuple[str, str]]:
        """Ids of inputs that could not be looked at, and why."""
        return [(name, reason) for name, reason in await self._database.rows(_SQL["failures"], {"bucket": turn.bucket})]

    async def advance(self, turn: Turn, *, state: State, embedder_id: int | None, after_number: int = 0) -> None:
        """Says where to go on."""
        async with self._queue.held(turn) as connection:
            await _advance(connection, turn, state, embedder_id, after_number)

    async def fail(self, turn: Turn, failures: Sequence[tuple[str, str]]) -> str:
        """Ends the change: the app keeps its workflow. Returns the reason that people are told."""
        named = "; ".join(f"{name}: {reason}" for name, reason in failures[:_NAMED])
        more = f"; and {len(failures) - _NAMED} more" if len(failures) > _NAMED else ""
        wanted = turn.own_workflow_id or turn.workflow_id
        failure = f"{len(failures)} input(s) could not be indexed by {wanted}: {named}{more}"
        await self.end(turn, failure)
        return failure

    async def end(self, turn: Turn, failure: str) -> None:
        """Ends the change for this reason: the app keeps its workflow."""
        async with self._queue.held(turn) as connection:
            await connection.execute(_SQL["fail"], {"bucket": turn.bucket, "failure": failure})

    async def stage(self, turn: Turn, workflow: Workflow, looked: Looked, after_number: int) -> None:
        """Keeps what was seen, beside what the app has: vectors in the table of the wanted workflow, predictions aside.

        Inputs that changed meanwhile are left out; they are missing in the next pass too.
        """
        await retrying(lambda: self._stage(turn, workflow, looked, after_number), busy=_BUSY)

    async def switch(self, turn: Turn) -> bool:
        """Gives the app the wanted workflow, with its predictions instead of the old ones, in one transaction.

        False, and nothing is changed, when there is an area it has not looked at.
        """
        try:
            await retrying(lambda: self._switch(turn), busy=_BUSY, attempts=5)
        except _Incomplete:
            return False
        return True

    async def sweep(self, turn: Turn) -> bool:
        """Removes a bounded part of what does not belong to the app; whether there may be more."""
        async with self._queue.held(turn) as connection:
            keys = {"bucket": turn.bucket, "limit": _SWEPT}
            await connection.execute(_SQL["forget_failures"], keys)
            statements = ("sweep_staged", "sweep_aside_regions", "sweep_aside_annotations")
            swept = [(await connection.execute(_SQL[statement], keys)).rowcount for statement in statements]
            row = await (await connection.execute(_SQL["workflow"], keys)).fetchone()
            current = row[0] if row else ""
            if current in self._workflows:
                swept += await _sweep_vectors(connection, turn.bucket, kept=self._workflows[current].table.id)
            elif current in self._idle:
                swept += await self._sweep_all(connection, turn.bucket)
            # Else its model is gone from here. Which vectors are its own nobody knows; they go after the switch.
            if max(swept) >= _SWEPT:
                return True
            if turn.workflow_id is None:
                await connection.execute(_SQL["end"], keys)
            else:
                embedder_id = self._workflows[turn.workflow_id].table.id
                await _advance(connection, turn, State.RUNNING, embedder_id, 0)
            return False

    async def _sweep_all(self, connection: Connection, bucket: int) -> list[int]:
        """How many rows of each kind went that a workflow left behind which ran models, before one that runs none."""
        # Before a look at what is said of the regions: nobody may be about to say something.
        numbers = await reindex_regions.inputs_with_found(connection, bucket, _SWEPT)
        await lock_inputs(connection, bucket, numbers)
        swept = await _sweep_vectors(connection, bucket, kept=0)
        keys = {"bucket": bucket, "limit": _SWEPT}
        swept.append((await connection.execute(_SQL["sweep_predictions"], keys)).rowcount)
        version = await next_version(connection, bucket, labels=False)
        await reindex_regions.drop_found(connection, bucket, version, numbers)
        return [*swept, len(numbers)]

    async def _stage(self, turn: Turn, workflow: Workflow, looked: Looked, after_number: int) -> None:
        bucket = turn.bucket
        async with self._queue.held(turn) as connection:
            ready = await _unchanged(connection, bucket, looked.outcomes)
            if looked.refused:
                rows = [{"number": number, "reason": reason} for number, reason in looked.refused.items()]
                await connection.execute(_SQL["refuse"], {"bucket": bucket, "rows": json.dumps(rows)})
            await _advance(connection, turn, turn.state, turn.embedder_id, after_number)
            if not ready:
                return
            await connection.execute(_SQL["keep_pictures"], {"bucket": bucket, "rows": finished_rows(ready)})
            # A workflow that indexes nothing took no frames of a video.
            ready = await with_frames(connection, self._clock, bucket, ready)
            await connection.execute(_SQL["stage"], {"bucket": bucket, "rows": _staged(workflow, ready)})
            regions = await reindex_regions.put_aside(connection, bucket, workflow, ready)
            await reindex_remarks.put_aside(connection, bucket, ready, regions)
            rows_of_vectors = vector_rows([_of_areas(outcome) for outcome in ready])
            # Read by nobody yet. But whoever follows the table from an earlier time will look for later versions only.
            version = await next_version(connection, bucket, labels=False)
            await vectors.delete(connection, workflow.table, bucket, rows_of_vectors.area_ids)
            await vectors.insert(connection, workflow.table, bucket, version, rows_of_vectors)

    async def _switch(self, turn: Turn) -> None:
        keys = {"bucket": turn.bucket}
        async with self._database.transaction() as connection:
            if await (await connection.execute(_SQL["lock_app"], keys)).fetchone() is None:
                raise TurnLost
            await self._queue.hold(connection, turn)
            await connection.execute(_SQL["lock_inputs"], keys)
            await _check_complete(connection, turn.bucket)
            await reindex_remarks.make_concepts(connection, self._book, turn.bucket)
            await between_versions(connection, turn.bucket)
            await connection.execute(_DROP_PREDICTIONS, keys)
            await connection.execute(_SQL["take_predictions"], keys)
            # As a change of labels: what a detector says of areas that stay changes without their vectors.
            version = await next_version(connection, turn.bucket, labels=True)
            # Only now nobody can commit another input that the old workflow has indexed.
            await _check_complete(connection, turn.bucket)
            await reindex_regions.take_over(connection, turn.bucket, version, self._table_of(turn))
            await reindex_remarks.take_over(connection, self._book, turn.bucket)
            await connection.execute(_SQL["set_workflow"], keys)
            await connection.execute(_SQL["forget_failures"], keys)
            await connection.execute(_SQL["stop"], keys)

    def _table_of(self, turn: Turn) -> EmbedderTable:
        assert turn.workflow_id is not None, "nothing is indexed for no workflow"
        return self._workflows[turn.workflow_id].table


class _Incomplete(Exception):
    """There is an area that the wanted workflow has not looked at."""


async def _check_complete(connection: Connection, bucket: int) -> None:
    row = await (await connection.execute(_SQL["any_missing"], {"bucket": bucket})).fetchone()
    if row != (False,):
        raise _Incomplete


async def _advance(
    connection: Connection, turn: Turn, state: State, embedder_id: int | None, after_number: int
) -> None:
    place = {"state": state.value, "embedder_id": embedder_id, "after_number": after_number}
    await connection.execute(_SQL["advance"], {"bucket": turn.bucket, **place})


async def _unchanged(connection: Connection, bucket: int, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Those whose inputs are still there, with the areas that were looked at; they are held still."""
    numbers = [outcome.job.number for outcome in outcomes]
    status = await lock_inputs(connection, bucket, numbers)
    areas = await read_areas(connection, bucket, numbers)
    return [
        outcome
        for outcome in outcomes
        if status.get(outcome.job.number) == INPUT_INDEXED and areas.get(outcome.job.number, ()) == outcome.job.areas
    ]


async def _sweep_vectors(connection: Connection, bucket: int, *, kept: int) -> list[int]:
    """How many went from each table of vectors but the one of the embedder ``kept``."""
    cursor = await connection.execute(_SQL["other_embedders"], {"kept": kept})
    tables = [EmbedderTable(id=number, dims=dims) for number, dims in await cursor.fetchall()]
    return [await vectors.delete_some(connection, table, bucket, _SWEPT) for table in tables]


def _of_areas(outcome: Outcome) -> Outcome:
    """The outcome without what was found: areas that there are."""
    vectors_of_areas = None if outcome.vectors is None else outcome.vectors[: len(outcome.job.areas)]
    return replace(outcome, vectors=vectors_of_areas, detections=(), found_again={})


def _staged(workflow: Workflow, outcomes: Sequence[Outcome]) -> str:
    """Rows of ``reindexed_areas`` in JSON."""
    seen = [
        (outcome.job.number, area, concepts)
        for outcome in outcomes
        for area, concepts in zip(outcome.job.areas, outcome.concepts, strict=False)
    ]
    return json.dumps(
        [
            {
                "area_id": area.id,
                "input_number": number,
                "model_id": workflow.tagger_id,
                "model_version_id": workflow.tagger_version_id,
                "concept_ids": [concept_id for concept_id, _ in concepts],
                "concept_values": [round(value, 6) for _, value in concepts],
                "data": area.data(),
            }
            for number, area, concepts in seen
        ]
    )
