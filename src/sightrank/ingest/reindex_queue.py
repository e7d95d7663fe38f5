"""Apps whose base workflow is to change, as a queue: any number of processes take turns at it, a step at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum

from sightrank.store import queries
from sightrank.store.database import Connection, Database

_SQL = queries.load("reindex")
_SUSPECT = 3  # turns that came to nothing after which inputs are looked at one by one
_ATTEMPTS = 5


class State(Enum):
    """How far a change of workflow is; see migration 0004."""

    SWEEPING = "sweeping"
    RUNNING = "running"
    SWITCHING = "switching"
    FAILED = "failed"


class TurnLost(Exception):
    """Somebody called the change off, or another process has the turn now; nothing of the step is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A leased step. ``workflow_id`` is None where nothing is left but to remove what no longer belongs to the app;
    ``own_workflow_id`` is the app's own that is wanted besides, or ''."""

    bucket: int
    workflow_id: str | None
    own_workflow_id: str
    embedder_id: int | None
    state: State
    after_number: int
    attempts: int

    @property
    def careful(self) -> bool:
        """Whether an input may be what ended earlier turns, so that each is to be looked at alone."""
        return self.attempts > _SUSPECT

    @property
    def hopeless(self) -> bool:
        """Whether the next input has ended so many turns that it is to be left alone."""
        return self.attempts > _ATTEMPTS


class ReindexQueue:
    """The queue as one process sees it. ``owner`` names the process in the leases it takes."""

    def __init__(self, database: Database, *, owner: str, lease_s: float) -> None:
        self._database = database
        self._owner = owner
        self._lease_s = lease_s

    async def claim(self, workflow_ids: Collection[str]) -> Turn | None:
        """The step whose turn it is, of apps that want one of these workflows, or have one and want no other."""
        apps = {"workflow_ids": list(workflow_ids)}
        for (bucket,) in await self._database.rows(_SQL["buckets_with_work"], apps):
            turn = await self._claim_from(bucket, apps)
            if turn is not None:
                return turn
        return None

    async def _claim_from(self, bucket: int, apps: Mapping[str, object]) -> Turn | None:
        lease = {"owner": self._owner, "lease_s": self._lease_s}
        row = await self._database.row(_SQL["claim"], {**apps, **lease, "bucket": bucket})
        if row is None:
            return None
        workflow_id, own_workflow_id, embedder_id, state, after_number, attempts = row
        return Turn(
            bucket=bucket,
            workflow_id=workflow_id,
            own_workflow_id=own_workflow_id,
            embedder_id=embedder_id,
            state=State(state),
            after_number=after_number,
            attempts=attempts,
        )

    async def keep(self, turn: Turn) -> None:
        """Keeps the lease alive until cancelled."""
        while True:
            await asyncio.sleep(self._lease_s / 4)
            await self._database.execute(
                _SQL["renew"], {"bucket": turn.bucket, "owner": self._owner, "lease_s": self._lease_s}
            )

    async def release(self, turn: Turn, *, pause_s: float) -> None:
        """Gives the turn on after a step that went well; the app's next one comes in ``pause_s`` at the earliest."""
        await self._give_up("release", turn, pause_s=pause_s, suspect_from=_SUSPECT)

    async def put_off(self, turn: Turn, *, pause_s: float, blameless: bool) -> None:
        """Gives the turn on after a step that failed; ``blameless``: not for a reason of its own."""
        await self._give_up("put_off", turn, pause_s=pause_s, blameless=blameless)

    @asynccontextmanager
    async def held(self, turn: Turn) -> AsyncIterator[Connection]:
        """A transaction in which the turn is ours and stays so. Raises TurnLost where it is not."""
        async with self._database.transaction() as connection:
            await self.hold(connection, turn)
            yield connection

    async def hold(self, connection: Connection, turn: Turn) -> None:
        """As ``held``, in a transaction that has locked the app already."""
        cursor = await connection.execute(
            _SQL["hold"], {"bucket": turn.bucket, "owner": self._owner, "state": turn.state.value}
        )
        if await cursor.fetchone() is None:
            raise TurnLost

    async def _give_up(self, statement: str, turn: Turn, **values: float) -> None:
        await self._database.execute(_SQL[statement], {"bucket": turn.bucket, "owner": self._owner, **values})
