"""After an upgrade with another built-in model: everything is embedded anew.

Vectors belong to the model that made them, so a new version starts with an empty table. Until an input has its new
vectors it waits like a fresh one (30001) and is not ranked: the old ones are of no use without their model, which would
have to look at what is searched for.
"""

from __future__ import annotations

from psycopg import sql

from sightrank.ingest.workflow import Workflow
from sightrank.store import queries
from sightrank.store.database import Database

_SQL = queries.load("ingest")


async def requeue_after_upgrade(database: Database, workflow: Workflow, workflow_id: str) -> int:
    """Sends indexed images and videos back to the queue that have no vectors of this workflow's model, with all such
    inputs of their app; returns how many. Workflows may share a table of vectors, so each app is looked at by itself.

    Every server start may call it: where vectors are there, or nothing to be looked at, it changes nothing.
    """
    async with database.transaction() as connection:
        await connection.execute(_SQL["lock_requeue"])
        found = await connection.execute(_on(workflow, "buckets_to_requeue"), {"workflow_id": workflow_id})
        buckets = [bucket for (bucket,) in await found.fetchall()]
        if not buckets:
            return 0
        version_ids = [workflow.tagger_version_id, workflow.detector_version_id]
        parameters = {"buckets": buckets, "version_ids": version_ids}
        requeued = await connection.execute(_on(workflow, "requeue_indexed"), parameters)
        await connection.execute(_SQL["delete_predictions_of_other_versions"], parameters)
        await connection.execute(_SQL["raise_versions"], parameters)
        return requeued.rowcount


def _on(workflow: Workflow, statement: str) -> sql.Composed:
    return sql.SQL(_SQL[statement]).format(vectors=workflow.table.name)
