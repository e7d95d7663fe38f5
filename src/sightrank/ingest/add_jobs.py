"""Jobs of adding many inputs: the name under which several calls add, and how far their inputs are."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from psycopg import sql

from sightrank.errors import DoesNotExist, InvalidRequest, quoted
from sightrank.store import queries
from sightrank.store.database import Connection, Database, retrying

_SQL = queries.load("inputs_add_jobs")


@dataclass(frozen=True, slots=True)
class JobShare:
    """What one call adds to a job, beside its inputs: ``refused`` counts those that were refused before."""

    id: str
    refused: int = 0


@dataclass(frozen=True, slots=True)
class AddJob:
    """A job and its inputs as they are now. Inputs that were deleted since are not counted.

    ``refused`` inputs never became rows; ``failed`` are rows that could not be processed.
    """

    id: str
    cancelled: bool
    refused: int
    created_at: datetime
    modified_at: datetime
    pending: int
    in_progress: int
    done: int
    failed: int


class AddJobs:
    """The jobs of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, bucket: int, job_id: str) -> AddJob:
        """Raises DoesNotExist."""
        statement = sql.SQL(_SQL["progress"]).format(jobs=sql.SQL(_SQL["one"]))
        row = await self._database.row(statement, {"bucket": bucket, "id": job_id})
        if row is None:
            raise _unknown(job_id)
        return AddJob(*row)

    async def newest(self, bucket: int, page: sql.Composable) -> list[AddJob]:
        """One page of them, newest first; ``page`` is its LIMIT clause."""
        jobs = sql.SQL("{} {}").format(sql.SQL(_SQL["newest"]), page)
        rows = await self._database.rows(sql.SQL(_SQL["progress"]).format(jobs=jobs), {"bucket": bucket})
        return [AddJob(*row) for row in rows]

    async def cancel(self, bucket: int, job_id: str) -> AddJob:
        """Fails the inputs that still wait, and lets no more be added; those that are being worked on are finished.

        A job with nothing left to do stays as it is. Raises DoesNotExist.
        """
        keys = {"bucket": bucket, "id": job_id}
        details = f"The job {job_id} was cancelled before this input was processed; delete it, then post it again."

        async def cancelled() -> None:
            async with self._database.transaction() as connection:
                if await (await connection.execute(_SQL["lock"], keys)).fetchone() is None:
                    raise _unknown(job_id)
                await connection.execute(_SQL["cancel"], keys)
                await connection.execute(_SQL["fail_waiting"], {**keys, "details": details})

        await retrying(cancelled, busy="The inputs of this job are being written to; try again in a moment.")
        return await self.read(bucket, job_id)


async def extend(connection: Connection, bucket: int, share: JobShare) -> None:
    """Makes the job or adds to it, in the transaction that inserts its inputs. Raises InvalidRequest for one that was
    cancelled."""
    cursor = await connection.execute(_SQL["extend"], {"bucket": bucket, "id": share.id, "refused": share.refused})
    row = await cursor.fetchone()
    if row is not None and row[0]:
        raise InvalidRequest(
            f"The job {share.id!r} was cancelled, so nothing is added to it; post with another inputs_add_job_id."
        )


def _unknown(job_id: str) -> DoesNotExist:
    return DoesNotExist(
        f"There is no job {quoted(job_id)} of adding inputs; PostInputs with inputs_add_job_id makes one."
    )
