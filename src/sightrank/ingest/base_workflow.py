"""Which workflow an app's inputs are indexed by, and asking for another one.

An app keeps its workflow until everything is there for the wanted one (``reindexer``). Until then its writers write for
the old one, so each of them asks again once it holds the bucket's row, which the switch needs too.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
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


async def has_workflows(connection: Connection, bucket: int, workflow_id: str, own_workflow_id: str) -> bool:
    """As ``has_workflow``, with the app's own workflow besides."""
    row = await (await connection.execute(_SQL["workflow"], {"bucket": bucket})).fetchone()
    return (_workflow_id(row), row and row[1]) == (workflow_id, own_workflow_id)


async def warn_of_absent(database: Database, workflow_ids: Collection[str]) -> None:
    """Tells in the log which apps have a workflow that cannot run here: their new inputs wait until it can."""
    rows = await database.rows(_SQL["apps_with_other_workflows"], {"workflow_ids": sorted(workflow_ids)})
    for workflow_id, apps in rows:
        _log.warning("inputs wait for a workflow that cannot run here", workflow=workflow_id, apps=apps)


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedWorkflow:
    """What a patch asks for. ``own_id``: the app's own workflow that runs besides, '' for none; ``indexes``: it runs a
    model on inputs; ``alike``: what is indexed can stay as it is."""

    id: str
    own_id: str
    indexes: bool
    alike: bool
    reindex: bool


async def want_workflow(
    connection: Connection, bucket: int, current: tuple[str, str], wanted: WantedWorkflow
) -> tuple[str, str]:
    """Takes note of what is wanted, in a transaction that holds the app's row; returns the workflow that the app has
    from now on, and its own one: those wanted where nothing has to be indexed for them, else still the current ones.

    Asking for the current ones calls off a change that is under way.
    """
    ids = (wanted.id, wanted.own_id)
    keys = {"bucket": bucket, "workflow_id": wanted.id, "own_workflow_id": wanted.own_id}
    under_way = await (await connection.execute(_SQL["lock"], keys)).fetchone()
    if wanted.alike and not wanted.reindex:
        await connection.execute(_SQL["stop"], keys)
        if ids != current:
            await next_version(connection, bucket, labels=False)
        return ids
    # Whoever is about to commit inputs indexed by the current workflow has done so now, or will be told.
    await next_version(connection, bucket, labels=False)
    row = await (await connection.execute(_SQL["has_indexed"], keys)).fetchone()
    if row is None or not row[0] or not wanted.indexes:
        await connection.execute(_SQL["want"], {**keys, "workflow_id": None, "own_workflow_id": ""})
        return ids
    await connection.execute(_SQL["want"], keys)
    if under_way == (*ids, "failed"):
        await connection.execute(_SQL["forget_failures"], keys)
        await connection.execute(_SQL["go_on"], keys)
    return current


def _workflow_id(row: Sequence[str] | None) -> str:
    if row is None:
        raise DoesNotExist("The app was deleted.")
    return row[0]
