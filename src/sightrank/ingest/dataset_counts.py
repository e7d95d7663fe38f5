"""Counts what is in new versions of datasets, and works out what the annotation filter of one leaves.

A version is fixed when it is made, so it does not matter when it is counted, how often, or by which process.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import psycopg
import structlog
from clarifai_grpc.grpc.api import resources_pb2
from psycopg import sql

from sightrank.errors import ServerBusy
from sightrank.search.concepts import ConceptBook
from sightrank.search.dataset_version import FIRST, DatasetVersion, read_members
from sightrank.search.parse import parse_search
from sightrank.search.query import ConceptCondition, Query, Unit, conditions
from sightrank.search.sql import FilterScope, page
from sightrank.store import queries
from sightrank.store.database import Connection, Database, number_array

#: The fields of DatasetVersionMetrics that are counted, in the order of the statement ``count``; four places follow,
#: for the quarters of an image that regions appear in.
METRICS = (
    "inputs_count",
    "unlabeled_inputs_count",
    "inputs_with_metadata_count",
    "inputs_with_geo_count",
    "regions_count",
    "bounding_boxes_count",
    "polygons_count",
    "points_count",
    "masks_count",
    "region_inputs_count",
    "region_frames_count",
    "frames_count",
    "frame_inputs_count",
    "positive_input_tags_count",
    "positive_region_tags_count",
    "positive_frame_tags_count",
)
_INPUT_TYPE, _CONCEPT = 2, 10
_INPUT_TYPES = {"image": "images", "video": "videos"}
_PORTION = 5_000  # members that one statement counts
_IDLE_S = 10.0  # how often it is looked for what another process left
_AGAIN_S = 5.0
_SQL = queries.load("dataset_versions")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """A version that is to be counted. ``filter``: of which annotations, as the bytes of a Search."""

    version: DatasetVersion
    filter: bytes | None
    user_id: str
    language: str


class DatasetCounts:
    """``wake`` is set by whoever has just made a version."""

    def __init__(self, database: Database, book: ConceptBook, wake: asyncio.Event) -> None:
        self._database = database
        self._book = book
        self._wake = wake

    async def keep_counted(self) -> None:
        """Counts one version after the other, until cancelled."""
        while True:
            self._wake.clear()
            try:
                while await self.count_next():
                    pass
                pause_s = _IDLE_S
            except (psycopg.OperationalError, ServerBusy, OSError) as error:
                _log.warning("counting datasets put off", reason=str(error))
                pause_s = _AGAIN_S
            try:
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def count_next(self) -> bool:
        """Counts the version that waits longest; False where none does."""
        row = await self._database.row(_SQL["to_count"])
        if row is None:
            return False
        job = _job(row)
        try:
            await self._count(job)
        except (psycopg.OperationalError, ServerBusy, OSError):
            raise
        except Exception as error:
            names = {"bucket": job.version.bucket, "dataset": job.version.dataset_id, "version": job.version.id}
            _log.exception("counting a dataset failed", **names)
            details = f"What is in it could not be counted: {type(error).__name__}: {error}"[:500]
            await self._database.execute(_SQL["failed"], {**job.version.parameters, "details": details})
        return True

    async def _count(self, job: _Job) -> None:
        version = job.version
        if job.filter is None:
            groups = await self._counted(version)
        async with self._database.transaction() as connection:
            if await (await connection.execute(_SQL["hold_to_count"], version.parameters)).fetchone() is None:
                return  # it was deleted, or another process has counted it
            if job.filter is not None:
                await self._apply(connection, job, job.filter)
                groups = await self._count_on(connection, version)
            rows = _shown(groups)
            await connection.execute(_SQL["insert_groups"], {**version.parameters, "groups": json.dumps(rows)})
            metrics = json.dumps(rows[0]["metrics"])
            await connection.execute(_SQL["counted"], {**version.parameters, "metrics": metrics})

    async def _counted(self, version: DatasetVersion) -> dict[tuple[int, str], list[int]]:
        async with self._database.connection() as connection:
            return await self._count_on(connection, version)

    async def _count_on(self, connection: Connection, version: DatasetVersion) -> dict[tuple[int, str], list[int]]:
        """Sums by type and value, the latter as JSON."""
        groups: dict[tuple[int, str], list[int]] = {}
        last, full = FIRST, True
        while full:
            members = await read_members(connection, version, after=last, limit=_PORTION)
            numbers = number_array(member.number for member in members)
            cursor = await connection.execute(_SQL["count"], {**version.parameters, "numbers": numbers})
            _add(groups, await cursor.fetchall())
            full = len(members) == _PORTION
            last = members[-1] if members else last
        return groups

    async def _apply(self, connection: Connection, job: _Job, search: bytes) -> None:
        """Notes which annotations the filter leaves, as of the version."""
        version = job.version
        message = resources_pb2.Search.FromString(search)
        query = parse_search(message, Unit.ANNOTATION, offset=0, limit=2**62, me=job.user_id)
        found = page(replace(query, as_of=version.as_of), await self._scope(connection, job, query))
        statement = sql.SQL(_SQL["keep_annotations"]).format(
            bucket=sql.Literal(version.bucket),
            dataset_id=sql.Literal(version.dataset_id),
            version_id=sql.Literal(version.id),
            as_of=sql.Literal(version.as_of),
            found=found,
        )
        await connection.execute(statement)

    async def _scope(self, connection: Connection, job: _Job, query: Query) -> FilterScope:
        names = list({item.concept for item in conditions(query) if isinstance(item, ConceptCondition)})
        bucket = job.version.bucket
        meanings = await self._book.resolve_all(connection, bucket, names, job.language)
        return FilterScope(bucket=bucket, concepts=dict(zip(names, meanings, strict=True)))


def _job(row: Sequence[Any]) -> _Job:
    bucket, dataset_id, version_id, as_of, search, ignore_empty, user_id, language = row
    version = DatasetVersion(
        bucket=bucket,
        dataset_id=dataset_id,
        id=version_id,
        as_of=as_of,
        filtered=search is not None,
        ignore_empty=ignore_empty,
    )
    return _Job(version=version, filter=search, user_id=user_id, language=language)


def _add(groups: dict[tuple[int, str], list[int]], rows: Iterable[Sequence[Any]]) -> None:
    """Adds a portion's sums; what has no value, as the size of a text, is in no group of that type."""
    for type_, value, sums in rows:
        if value is None:
            continue
        known = groups.setdefault((type_, json.dumps(value)), [0] * len(sums))
        known[:] = [one + (another or 0) for one, another in zip(known, sums, strict=True)]


def _shown(groups: dict[tuple[int, str], list[int]]) -> list[dict[str, Any]]:
    """The rows to be stored: the total first, then by type; concepts that most inputs have first, others by value."""

    def place(item: tuple[tuple[int, str], list[int]]) -> tuple[int, int, float, str]:
        (type_, text), sums = item
        value = json.loads(text)
        number = float(value) if isinstance(value, int | float) else 0.0
        return type_, -sums[0] if type_ == _CONCEPT else 0, number, text

    rows = []
    for i, ((type_, text), sums) in enumerate(sorted(groups.items(), key=place)):
        value = json.loads(text)
        if type_ == _INPUT_TYPE:
            value = _INPUT_TYPES.get(value, value)
        metrics: dict[str, Any] = dict(zip(METRICS, sums, strict=False))
        metrics["region_location_matrix"] = {"n_cols": 2, "data": sums[len(METRICS) :]}
        rows.append({"place": i, "type": type_, "value": value, "metrics": metrics})
    return rows
