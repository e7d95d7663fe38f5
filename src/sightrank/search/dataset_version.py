"""A version of a dataset: the dataset as of an instant, read in portions, with what people had said by then.

Nothing of it is copied (store/migrations/0014_dataset_versions.sql), so it costs a row, and is read as of its instant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from psycopg import sql

from sightrank.errors import ServerBusy
from sightrank.store import queries
from sightrank.store.database import Connection, number_array
from sightrank.store.status import DATASET_VERSION_READY

_SQL = queries.load("dataset_versions")


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetVersion:
    """``filtered``: only the annotations count that a filter left when it was made; ``ignore_empty``: and of the inputs
    only those that have some of these.
    """

    bucket: int
    dataset_id: str
    id: str
    as_of: datetime
    filtered: bool = False
    ignore_empty: bool = False

    @property
    def parameters(self) -> dict[str, Any]:
        """What every statement about a version takes."""
        return {
            "bucket": self.bucket,
            "dataset_id": self.dataset_id,
            "version_id": self.id,
            "as_of": self.as_of,
            "filtered": self.filtered,
            "ignore_empty": self.ignore_empty,
        }


async def find_version(connection: Connection, bucket: int, dataset_id: str, version_id: str) -> DatasetVersion | None:
    """A version to read; None where there is none of that id. Raises ServerBusy while its filter is being applied."""
    named = {"bucket": bucket, "dataset_id": dataset_id, "id": version_id}
    row = await (await connection.execute(_SQL["as_of"], named)).fetchone()
    if row is None:
        return None
    as_of, filtered, ignore_empty, status = row
    if filtered and status != DATASET_VERSION_READY:
        raise ServerBusy(f"Version {version_id!r} of dataset {dataset_id!r} is being made; try again in a moment.")
    return DatasetVersion(
        bucket=bucket,
        dataset_id=dataset_id,
        id=version_id,
        as_of=as_of,
        filtered=filtered,
        ignore_empty=ignore_empty,
    )


class Member(NamedTuple):
    """An input of a version."""

    number: int
    id: str
    joined_at: datetime


#: Before every member.
FIRST = Member(0, "", datetime.min.replace(tzinfo=UTC))


async def read_members(
    connection: Connection, version: DatasetVersion, *, after: Member = FIRST, limit: int
) -> list[Member]:
    """The next members after that one, in the order in which they joined; fewer than ``limit`` are the last."""
    statement = sql.SQL(_SQL["members"]).format(limit=sql.Literal(limit))
    parameters = {**version.parameters, "after": after.joined_at, "after_number": after.number}
    return [Member(*row) for row in await (await connection.execute(statement, parameters)).fetchall()]


async def read_annotations(
    connection: Connection, version: DatasetVersion, numbers: Sequence[int]
) -> list[tuple[Any, ...]]:
    """What people had said of these members, in the columns of ``api.records.AnnotationRecord``, by input."""
    parameters = {**version.parameters, "numbers": number_array(list(numbers))}
    return list(await (await connection.execute(_SQL["annotations"], parameters)).fetchall())
