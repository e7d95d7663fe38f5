"""The version of an app's bucket, which every commit that a search should see raises."""

from __future__ import annotations

from sightrank.errors import DoesNotExist
from sightrank.store import queries
from sightrank.store.database import Connection

_SQL = queries.load("buckets")


async def next_version(connection: Connection, bucket: int, *, labels: bool) -> int:
    """Raises the bucket's version; the caller's transaction holds it until the commit, so take it last.

    ``labels``: what is known of concepts has changed, by labels or by trained models. Raises DoesNotExist when the app
    was deleted meanwhile, which undoes what the transaction wrote.
    """
    cursor = await connection.execute(_SQL["next_version"], {"bucket": bucket, "labels": labels})
    row = await cursor.fetchone()
    if row is None:
        raise DoesNotExist("The app was deleted while this was being written.")
    return int(row[0])
