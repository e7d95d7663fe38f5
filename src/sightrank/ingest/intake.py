"""Accepting inputs: from checked messages to committed rows. The row is the job; a worker finds it there.

Nothing is half-written: an input, its whole-image area, its input-level annotation and its labels appear together or
not at all. Uploaded bytes reach the blob store before their row does.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import Any

from sightrank.errors import AppError, DoesNotExist, InputDuplicateUrl, InputInvalid, quoted
from sightrank.ingest.add_jobs import JobShare, extend
from sightrank.ingest.dataset_freeze import between_versions
from sightrank.ingest.removal import Removal
from sightrank.ingest.rows import (
    AnnotationRow,
    Content,
    concept_ids,
    distinct_concepts,
    insert_annotations,
    new_id,
    to_json,
)
from sightrank.search.concepts import ConceptBook
from sightrank.store import queries
from sightrank.store.blobs import BlobStore
from sightrank.store.buckets import next_version
from sightrank.store.clock import Clock
from sightrank.store.database import Connection, Database, TryAgain, retrying
from sightrank.store.status import ANNOTATION_SUCCESS, INPUT_PENDING

_SQL = queries.load("inputs")
DUPLICATE_ID = "Input has a duplicate ID."  # the official SDK compares this text


class IdConflict(Enum):
    """What happens when an id is taken (api-spec 3.1)."""

    SKIP = "skip"
    SUFFIX = "suffix"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewInput:
    """A checked input. ``id`` may be '' (one is made up). ``url`` or ``data`` or ``text_raw`` holds the medium.
    ``blob``: the key of what is at the URL, where this app has it already."""

    id: str
    media: str
    content: Content
    url: str = ""
    data: bytes = b""
    blob: str = ""
    text_raw: str = ""
    allow_duplicate_url: bool = False
    dataset_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    id: str
    created_at: datetime
    status: int
    media: str
    url: str
    unique_url: bool
    blob: str
    text_raw: str
    add_job_id: str | None


class Intake:
    """Writes new inputs."""

    def __init__(self, database: Database, blobs: BlobStore, removal: Removal, book: ConceptBook, clock: Clock) -> None:
        self._database = database
        self._blobs = blobs
        self._removal = removal
        self._book = book
        self._clock = clock

    async def accept(
        self,
        bucket: int,
        user_id: str,
        inputs: Sequence[NewInput],
        conflict: IdConflict,
        job: JobShare | None = None,
    ) -> list[str | AppError]:
        """For each input its id, or why it was refused, in the order given.

        ``job`` is made or extended with them. Raises InvalidRequest, with nothing written, when it was cancelled.
        """
        keys = iter(await self._blobs.put_all(bucket, [item.data for item in inputs if item.data]))
        blobs = [next(keys) if item.data else item.blob for item in inputs]
        unused = set(blobs)
        try:
            results = await self._accept_all(bucket, user_id, inputs, blobs, conflict, job)
            unused = {blob for blob, result in zip(blobs, results, strict=True) if isinstance(result, AppError)}
            return results
        finally:
            await self._removal.drop_blobs(bucket, unused)

    async def settled(self, bucket: int) -> datetime:
        """An instant up to which every input of the app can be seen; none will come that was created before it.

        Calls commit in another order than they begin: who reads on from the last input that was seen, in the order of
        creation, would miss what was created before it and committed after it.
        """
        async with self._database.transaction() as connection:
            await connection.execute(_SQL["await_intakes"], {"bucket": bucket})
            (instant,) = self._clock.take(1)
        return instant

    async def _accept_all(
        self,
        bucket: int,
        user_id: str,
        inputs: Sequence[NewInput],
        blobs: Sequence[str],
        conflict: IdConflict,
        job: JobShare | None,
    ) -> list[str | AppError]:
        async def accepted() -> list[str | AppError]:
            async with self._database.transaction() as connection:
                cursor = await connection.execute(_SQL["begin_intake"], {"bucket": bucket})
                if await cursor.fetchone() is None:
                    raise DoesNotExist("The app was deleted.")
                return await self._accept(connection, bucket, user_id, inputs, blobs, conflict, job)

        return await retrying(
            accepted, busy="Other calls keep taking the ids and URLs of these inputs; try again in a moment."
        )

    async def _accept(
        self,
        connection: Connection,
        bucket: int,
        user_id: str,
        inputs: Sequence[NewInput],
        blobs: Sequence[str],
        conflict: IdConflict,
        job: JobShare | None,
    ) -> list[str | AppError]:
        known_ids, known_urls, known_datasets = await _known(connection, bucket, inputs)
        last = await between_versions(connection, bucket) if known_datasets else None
        instants = self._clock.take(len(inputs), after=last)
        ids = _choose_ids(inputs, known_ids, conflict)
        refusals = [_refusal(item, name, known_urls, known_datasets) for item, name in zip(inputs, ids, strict=True)]
        rows = [
            _Row(
                id=name,
                created_at=created_at,
                status=INPUT_PENDING,
                media=item.media,
                url=item.url,
                unique_url=bool(item.url) and not item.allow_duplicate_url,
                blob=blob,
                text_raw=item.text_raw,
                add_job_id=job.id if job else None,
            )
            for item, name, created_at, blob in zip(inputs, ids, instants, blobs, strict=True)
        ]
        chosen = _first_of_each_url([i for i, refusal in enumerate(refusals) if refusal is None], inputs, refusals)
        await self._write(connection, bucket, user_id, [(inputs[i], rows[i]) for i in chosen])
        if job:
            await extend(connection, bucket, replace(job, refused=job.refused + len(inputs) - len(chosen)))
        if any(inputs[i].content.concepts for i in chosen):
            await next_version(connection, bucket, labels=True)
        return [refusal or name for refusal, name in zip(refusals, ids, strict=True)]

    async def _write(
        self,
        connection: Connection,
        bucket: int,
        user_id: str,
        items: Sequence[tuple[NewInput, _Row]],
    ) -> None:
        if not items:
            return
        cursor = await connection.execute(
            _SQL["insert"], {"bucket": bucket, "rows": to_json([row for _, row in items])}
        )
        numbers: dict[str, int] = dict(await cursor.fetchall())
        if len(numbers) < len(items):
            raise TryAgain  # another call took an id or a URL between our look and our insert
        cursor = await connection.execute(
            _SQL["insert_whole_areas"], {"bucket": bucket, "numbers": list(numbers.values())}
        )
        areas: dict[int, int] = dict(await cursor.fetchall())
        contents = [item.content for item, _ in items]
        annotations = [
            _input_level(numbers[row.id], areas[numbers[row.id]], row.created_at, user_id, item.content, ids)
            for (item, row), ids in zip(items, await concept_ids(connection, self._book, bucket, contents), strict=True)
        ]
        await insert_annotations(connection, bucket, annotations)
        await _join_datasets(connection, bucket, items, numbers)


def _input_level(
    number: int, area_id: int, created_at: datetime, user_id: str, content: Content, ids: Sequence[str]
) -> AnnotationRow:
    distinct_ids, values = distinct_concepts(content, ids)
    return AnnotationRow(
        input_number=number,
        id=new_id(),
        area_id=area_id,
        created_at=created_at,
        status=ANNOTATION_SUCCESS,
        trusted=True,
        input_level=True,
        user_id=user_id,
        concept_ids=distinct_ids,
        concept_values=values,
        metadata=content.metadata,
        latitude=content.latitude,
        longitude=content.longitude,
        data=content.data,
    )


async def _known(
    connection: Connection, bucket: int, inputs: Sequence[NewInput]
) -> tuple[set[str], set[str], set[str]]:
    """Ids, URLs and datasets of these inputs that the app has already."""
    urls = [item.url for item in inputs if item.url and not item.allow_duplicate_url]
    ids = [item.id + suffix for item in inputs if item.id for suffix in ("", *_SUFFIXES)]
    parameters: Mapping[str, Any] = {
        "bucket": bucket,
        "ids": ids,
        "urls": urls,
        "url_hashes": [hashlib.sha256(url.encode()).digest() for url in urls],
    }
    cursor = await connection.execute(_SQL["existing"], parameters)
    rows = await cursor.fetchall()
    wanted = sorted({name for item in inputs for name in item.dataset_ids if "\x00" not in name})
    datasets: set[str] = set()
    if wanted:
        cursor = await connection.execute(_SQL["existing_datasets"], {"bucket": bucket, "ids": wanted})
        datasets = {name for (name,) in await cursor.fetchall()}
    return {name for name, _ in rows if name is not None}, {url for _, url in rows if url is not None}, datasets


_SUFFIXES = tuple(f"-{i}" for i in range(1, 10))


def _choose_ids(inputs: Sequence[NewInput], known: set[str], conflict: IdConflict) -> list[str]:
    """The id each input will have; '' for one that is refused because its id is taken."""
    taken = set(known)
    posted: set[str] = set()
    chosen = []
    for item in inputs:
        name = item.id or new_id()
        if name in posted:
            name = ""  # the same id twice in one call is always an error (api-spec 3.1)
        elif name in taken:
            name = _suffixed(name, taken) if conflict is IdConflict.SUFFIX else ""
        posted.add(item.id or name)
        taken.add(name)
        chosen.append(name)
    return chosen


def _suffixed(name: str, taken: set[str]) -> str:
    free = next((name + suffix for suffix in _SUFFIXES if name + suffix not in taken), None)
    return free or f"{name}-{random.getrandbits(48):012x}"


def _refusal(item: NewInput, name: str, known_urls: set[str], known_datasets: set[str]) -> AppError | None:
    if not name:
        return InputInvalid(DUPLICATE_ID)
    if item.url and not item.allow_duplicate_url and item.url in known_urls:
        return InputDuplicateUrl(_url_taken(item))
    unknown = [dataset_id for dataset_id in item.dataset_ids if dataset_id not in known_datasets]
    if unknown:
        return InputInvalid(f"There is no dataset {quoted(unknown[0])} in this app; create it with PostDatasets first.")
    return None


def _first_of_each_url(places: Sequence[int], inputs: Sequence[NewInput], refusals: list[AppError | None]) -> list[int]:
    seen: set[str] = set()
    kept = []
    for place in places:
        item = inputs[place]
        if item.url and item.url in seen and not item.allow_duplicate_url:
            refusals[place] = InputDuplicateUrl(_url_taken(item))
            continue
        seen.add(item.url)
        kept.append(place)
    return kept


def _url_taken(item: NewInput) -> str:
    return f"Another input of this app has the URL {item.url}; set allow_duplicate_url to add it again."


async def _join_datasets(
    connection: Connection, bucket: int, written: Sequence[tuple[NewInput, _Row]], numbers: Mapping[str, int]
) -> None:
    rows = [
        {"dataset_id": dataset_id, "input_number": numbers[row.id], "created_at": row.created_at.isoformat()}
        for item, row in written
        for dataset_id in item.dataset_ids
    ]
    if rows:
        await connection.execute(_SQL["insert_dataset_inputs"], {"bucket": bucket, "rows": json.dumps(rows)})
