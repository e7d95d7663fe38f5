"""After an upgrade with another built-in model: everything is embedded anew.

Vectors belong to the model that made them, so a new version starts with an empty table. Until an input has its new
vectors it waits like a fresh one (30001) and is not ranked: the old ones are of no use without their model, which would
have to look at what is searched for.
"""

from __future__ import annotations

from psycopg import sql

from sightrank.ingest.jobs import Workflow
from sightrank.store import queries
from sightrank.store.database import Database

_SQL = queries.load("ingest")


async def requeue_after_upgrade(database: Database, workflow: Workflow, workflow_id: str) -> int:
    """Sends indexed images and videos of apps with this workflow back to the queue when its model has no vectors.

    Returns how many. Every server start may call it: with vectors there, or no inputs, it changes nothing.
    """
    parameters = {
        "workflow_id": workflow_id,
        "model_id": workflow.tagger_id,
        "model_version_id": workflow.tagger_version_id,
    }
    async with database.transaction() as connection:
        empty = await connection.execute(sql.SQL("SELECT FROM {} LIMIT 1").format(workflow.table.name))
        if await empty.fetchone() is not None:
            return 0
        cursor = await connection.execute(_SQL["requeue_indexed"], parameters)
        if cursor.rowcount and workflow.tagger_id:
            await connection.execute(_SQL["delete_predictions_of_other_versions"], parameters)
        if cursor.rowcount:
            await connection.execute(_SQL["raise_versions"], parameters)
        return cursor.rowcount
