"""Which workflow an app's inputs are indexed by, and asking for another one.

An app keeps its workflow until everything is there for the wanted one (``reindexer``). Until then its writers write for
the old one, so each of them asks again once it holds the bucket's row, which the switch needs too.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import structlog

from sightrank.errors import DoesNotExist
from sightrank.store import queries
from sightrank.store.buckets import next_version
from sightrank.store.database import Connection, Database

_log = structlog.get_logger()
_SQL = queries.load("reindex")


async def workflow_of(database: Database, bucket: int) -> str:
    """The id of the app's base workflow now. Raises DoesNotExist when the app was deleted."""
    row = await database.row(_SQL["workflow"], {"bucket": bucket})
    return _workflow_id(row)


async def has_workflow(connection: Connection, bucket: int, workflow_id: str) -> bool:
    """Whether the app has this workflow still. After ``next_version`` that stays so until the commit."""
    row = await (await connection.execute(_SQL["workflow"], {"bucket": bucket})).fetchone()
    return _workflow_id(row) == workflow_id


async def warn_of_absent(database: Database, workflow_ids: Collection[str]) -> None:
    """Tells in the log which apps have a workflow that cannot run here: their new inputs wait until it can."""
    rows = await database.rows(_SQL["apps_with_other_workflows"], {"workflow_ids": sorted(workflow_ids)})
    for workflow_id, apps in rows:
        _log.warning("inputs wait for a workflow that cannot run here", workflow=workflow_id, apps=apps)


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedWorkflow:
    """What a patch asks for. ``indexes``: it runs a model on inputs; ``alike``: what is indexed can stay as it is."""

    id: str
    indexes: bool
    alike: bool
    reindex: bool


async def want_workflow(connection: Connection, bucket: int, current: str, wanted: WantedWorkflow) -> str:
    """Takes note of what is wanted, in a transaction that holds the app's row; returns the workflow that the app has
    from now on: the wanted one where nothing has to be indexed for it, else still the current one.

    Asking for the current one calls off a change that is under way.
    """
    keys = {"bucket": bucket, "workflow_id": wanted.id}
    under_way = await (await connection.execute(_SQL["lock"], keys)).fetchone()
    if wanted.alike and not wanted.reindex:
        await connection.execute(_SQL["stop"], keys)
        if wanted.id != current:
            await next_version(connection, bucket, labels=False)
        return wanted.id
    # Whoever is about to commit inputs indexed by the current workflow has done so now, or will be told.
    await next_version(connection, bucket, labels=False)
    row = await (await connection.execute(_SQL["has_indexed"], keys)).fetchone()
    if row is None or not row[0] or not wanted.indexes:
        await connection.execute(_SQL["want"], {**keys, "workflow_id": None})
        return wanted.id
    await connection.execute(_SQL["want"], keys)
    if under_way == (wanted.id, "failed"):
        await connection.execute(_SQL["forget_failures"], keys)
        await connection.execute(_SQL["go_on"], keys)
    return current


def _workflow_id(row: tuple[str, ...] | None) -> str:
    if row is None:
        raise DoesNotExist("The app was deleted.")
    return row[0]
