"""Keeps PostgreSQL's statistics near the truth while tables grow.

A plan made for an app as it was a thousand times smaller can take a thousand times as long. PostgreSQL looks for tables
that have changed once a minute unless told otherwise; an import, and the searches after it, do not wait for that.
"""

from __future__ import annotations

import asyncio

import psycopg
import structlog
from psycopg import sql

from sightrank.errors import AppError
from sightrank.store import queries
from sightrank.store.database import Database

_SQL = queries.load("statistics")
_LOOK_S = 5.0
_log = structlog.get_logger(__name__)


async def refresh(database: Database) -> list[str]:
    """Analyzes the tables that have changed by a fifth since they last were; returns their names."""
    names = [name for (name,) in await database.rows(_SQL["outgrown"])]
    for name in names:
        await database.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(name)))
    return names


async def keep_fresh(database: Database) -> None:
    """Refreshes now and then, until cancelled."""
    while True:
        try:
            await refresh(database)
        except (psycopg.Error, AppError) as error:
            _log.warning("statistics could not be refreshed", reason=str(error))
        await asyncio.sleep(_LOOK_S)
