"""What models have said of inputs bears their id and follows when a model gets another: in portions, it may be much.

Until then a filter by the new id finds those of its predictions that have it already. A model whose predictions are yet
to follow is marked in the database, so that a server that ends in between goes on after its start.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import structlog

from sightrank.store import queries
from sightrank.store.buckets import next_version
from sightrank.store.database import Database, retrying

_LOOK_S = 5.0
_SQL = queries.load("model_ids")
_log = structlog.get_logger(__name__)


class RenamedModels:
    """Any number of processes may do this at once."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def follow(self, bucket: int, model_id: str, *, seconds: float) -> None:
        """Calls the model by its id in all that its versions have said, and takes the mark off; stops after so long, or
        where the model gets yet another id or is deleted."""
        end = time.monotonic() + seconds
        keys: dict[str, Any] = {"bucket": bucket, "id": model_id}
        mark = await self._database.row(_SQL["mark"], keys)
        if mark is None:
            return
        keys["renamed_at"] = mark[0]
        for (version_id,) in await self._database.rows(_SQL["versions"], keys):
            last: tuple[Any, str] | None = ("-infinity", "")
            while last is not None:
                if time.monotonic() > end:
                    return
                portion = {**keys, "version_id": version_id, "created_at": last[0], "after_id": last[1]}
                last = await retrying(partial(self._portion, portion), busy="These annotations are being written to.")
        await self._database.execute(_SQL["followed"], keys)

    async def _portion(self, portion: Mapping[str, Any]) -> tuple[Any, str] | None:
        """When the last annotation of the portion was made, and its id; None where there is nothing left to do."""
        async with self._database.transaction() as connection:
            if await (await connection.execute(_SQL["hold_renamed"], portion)).fetchone() is None:
                return None
            row = await (await connection.execute(_SQL["follow"], portion)).fetchone()
            if row is None:
                return None
            created_at, id, changed = row
            if changed:
                # Filters by models find others now.
                await next_version(connection, portion["bucket"], labels=False)
            return created_at, id

    async def keep_followed(self) -> None:
        """For all models of all apps, until cancelled."""
        while True:
            with _logged():
                for bucket, model_id in await self._database.rows(_SQL["renamed"]):
                    with _logged():
                        await self.follow(bucket, model_id, seconds=float("inf"))
            await asyncio.sleep(_LOOK_S)


@contextmanager
def _logged() -> Iterator[None]:
    """An error ends the block, and nothing else; the next look tries again."""
    try:
        yield
    except Exception:
        _log.exception("predictions of renamed models could not follow")
