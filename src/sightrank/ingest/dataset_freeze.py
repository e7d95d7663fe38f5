"""The instant at which versions of datasets are fixed, and how whoever writes keeps clear of it.

Annotations and memberships bear instants that are taken before they are committed, and clocks of processes differ. So
that a version tells the same each time it is read, whoever says something first waits for versions that are being made,
and is told the instant of the last one; whoever makes a version waits until nobody is writing.
"""

from __future__ import annotations

from datetime import datetime

from sightrank.errors import DoesNotExist
from sightrank.store import queries
from sightrank.store.clock import Clock
from sightrank.store.database import Connection

_SQL = queries.load("dataset_versions")


async def between_versions(connection: Connection, bucket: int) -> datetime:
    """From here to the end of the transaction no version of the app's datasets is made; when the last one was made.

    To be called before instants are taken, which must be after that one. Raises DoesNotExist when the app is gone.
    """
    row = await (await connection.execute(_SQL["between_versions"], {"bucket": bucket})).fetchone()
    if row is None or row[0] is None:
        raise DoesNotExist("The app was deleted.")
    last: datetime = row[0]
    return last


async def freeze(connection: Connection, clock: Clock, bucket: int, dataset_id: str) -> datetime:
    """The instant of a version that is made in this transaction, after all that was committed, and before all else.

    Others wait to write from here to the end of the transaction, which should be near.
    """
    named = {"bucket": bucket, "dataset_id": dataset_id}
    await connection.execute(_SQL["await_writers"], named)
    row = await (await connection.execute(_SQL["last_said"], named)).fetchone()
    if row is None:
        raise DoesNotExist("The app was deleted.")
    (as_of,) = clock.take(1, after=row[0])
    await connection.execute(_SQL["set_as_of"], {**named, "as_of": as_of})
    return as_of
