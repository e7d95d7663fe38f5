"""What people said of an app's areas, as examples to learn from (api-spec 5.4).

The latest trusted label of a concept on an area counts, of inputs that are indexed. Whoever says what is in an area has
looked at it, so what a model could have said of it and nobody did is not there: a positive label of one concept is a
negative one of the model's others, and so is a negative label. One thing is left open: a part of an input may show
what somebody said of the whole, and the whole shows what is in its parts.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg import sql

from sightrank.errors import DoesNotExist
from sightrank.search.concepts import ConceptBook
from sightrank.search.dataset_version import DatasetVersion, find_version
from sightrank.search.query import ConceptName
from sightrank.store import queries, vectors
from sightrank.store.clock import microseconds
from sightrank.store.database import Connection, Database, number_array
from sightrank.store.vectors import EmbedderTable
from sightrank.vision.fitting import Examples
from sightrank.vision.operators import Labelled

MAX_BACKGROUND = 8_000  # learning looks at half as many of them for each concept
_SQL = queries.load("examples")
_LABEL = np.dtype([("area", ">i8"), ("input", ">i8"), ("column", ">i4"), ("value", ">f4"), ("whole", "?")])
_UNSAID = -1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Said:
    """What was said of areas: ``labels`` [n, concepts] with 1, 0 and NaN as in ``Examples``, without vectors."""

    concept_ids: tuple[str, ...]
    area_ids: NDArray[np.int64]
    input_numbers: NDArray[np.int64]
    labels: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Source:
    """Whose labels are read: of all inputs, of those of a dataset, or of a version of it."""

    dataset_id: str = ""
    version_id: str = ""

    @classmethod
    def of(cls, training: Mapping[str, Any]) -> Source:
        """What a model version is to be trained with, as it is stored."""
        return cls(str(training.get("dataset_id", "")), str(training.get("dataset_version_id", "")))

    def __str__(self) -> str:
        """As it is named within a sentence; '' where it is all inputs."""
        if not self.version_id:
            return f"dataset {self.dataset_id!r}" if self.dataset_id else ""
        return f"version {self.version_id!r} of dataset {self.dataset_id!r}"


ALL = Source()


class VersionGone(Exception):
    """The version of a dataset that was to be read was deleted meanwhile."""


async def read_examples(
    database: Database,
    book: ConceptBook,
    bucket: int,
    table: EmbedderTable,
    concept_ids: Sequence[str],
    *,
    source: Source = ALL,
    background: int = MAX_BACKGROUND,
) -> Examples:
    """The labelled areas that have a vector in ``table``; those of a dataset's inputs where one is named, as of its
    version where that is.

    An own concept counts as one with the public concept of its name. ``background`` vectors at most are of inputs
    without labels. Raises DoesNotExist when the app is gone, VersionGone, and ServerBusy while the version is made.
    """
    async with vectors.snapshot(database) as connection:
        version = await _version(connection, bucket, source)
        rows = await _labels(connection, book, bucket, concept_ids, source.dataset_id, version)
        said = await asyncio.to_thread(_joined, tuple(concept_ids), rows)
        known = table.name if version is None else _known_by(table, version)
        return await _examples(connection, table, bucket, said, background, among=known)


async def read_labelled(
    database: Database, book: ConceptBook, bucket: int, table: EmbedderTable, concept_ids: Sequence[str]
) -> Labelled:
    """The areas that have one of these concepts and a vector in ``table``, as ``read_examples`` understands labels.

    Raises DoesNotExist when the app is gone.
    """
    async with vectors.snapshot(database) as connection:
        rows = await _labels(connection, book, bucket, concept_ids)
        rows = rows[rows["value"] >= 0.5]
        areas, found = await _vectors(connection, table, bucket, np.unique(rows["area"].astype(np.int64)))
    return await asyncio.to_thread(_labelled, tuple(concept_ids), rows, areas, found)


def _labelled(
    concept_ids: tuple[str, ...], rows: NDArray[np.void], areas: NDArray[np.int64], found: NDArray[np.float32]
) -> Labelled:
    area_ids, columns = rows["area"].astype(np.int64), rows["column"].astype(np.int32)
    known = np.isin(area_ids, areas)
    order = np.argsort(area_ids[known], kind="stable")
    sorted_ids = area_ids[known][order]
    return Labelled(
        concept_ids=concept_ids,
        vectors=found,
        starts=np.append(np.searchsorted(sorted_ids, areas), len(sorted_ids)),
        columns=columns[known][order],
    )


async def thawed(
    database: Database, bucket: int, table: EmbedderTable, data: bytes, *, background: int = MAX_BACKGROUND
) -> Examples:
    """What ``frozen`` made, with the vectors that ``table`` has of it: areas that are gone are left out."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        labels = arrays["labels"].astype(np.float32)
        labels[labels == _UNSAID] = np.nan
        said = Said(
            concept_ids=tuple(str(concept_id) for concept_id in arrays["concept_ids"]),
            area_ids=arrays["area_ids"],
            input_numbers=arrays["input_numbers"],
            labels=labels,
        )
    async with vectors.snapshot(database) as connection:
        return await _examples(connection, table, bucket, said, background)


def frozen(examples: Examples) -> bytes:
    """Which areas they are and what was said of them, without vectors, as the database keeps it."""
    with io.BytesIO() as file:
        np.savez_compressed(
            file,
            concept_ids=np.array(examples.concept_ids, np.str_),
            area_ids=examples.area_ids,
            input_numbers=examples.input_numbers,
            labels=np.nan_to_num(examples.labels, nan=_UNSAID).astype(np.int8),
        )
        return file.getvalue()


def areas_of(data: bytes) -> NDArray[np.int64]:
    """The areas that were frozen."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return np.asarray(arrays["area_ids"], np.int64)


async def _version(connection: Connection, bucket: int, source: Source) -> DatasetVersion | None:
    if not source.version_id:
        return None
    version = await find_version(connection, bucket, source.dataset_id, source.version_id)
    if version is None:
        raise VersionGone(f"There is no {source} any more.")
    return version


def _known_by(table: EmbedderTable, version: DatasetVersion) -> sql.Composable:
    """The vectors of areas that were there by then, so that what is learnt of a version does not depend on others."""
    until = sql.Literal(microseconds(version.as_of))
    return sql.SQL("(SELECT * FROM {} WHERE created_us <= {})").format(table.name, until)


async def _labels(
    connection: Connection,
    book: ConceptBook,
    bucket: int,
    concept_ids: Sequence[str],
    dataset_id: str = "",
    version: DatasetVersion | None = None,
) -> NDArray[np.void]:
    """The latest trusted label of each concept on each area, as ``_LABEL``."""
    ids, places = await labelled_as(connection, book, bucket, concept_ids)
    parameters: dict[str, Any] = {"bucket": bucket, "concept_ids": ids, "places": places, "dataset_id": dataset_id}
    statement = "labels"
    if version is not None:
        statement, parameters = "labels_of_version", {**parameters, **version.parameters}
    cursor = await connection.execute(_SQL[statement], parameters, binary=True)
    found = await cursor.fetchone()
    return np.frombuffer((found and found[0]) or b"", _LABEL)


async def labelled_as(
    connection: Connection, book: ConceptBook, bucket: int, concept_ids: Sequence[str]
) -> tuple[list[str], list[int]]:
    """The concepts whose labels speak of these, and of which of them each does. Raises DoesNotExist."""
    row = await (await connection.execute(_SQL["language"], {"bucket": bucket})).fetchone()
    if row is None:
        raise DoesNotExist("The app was deleted.")
    names = [ConceptName(id=concept_id) for concept_id in concept_ids]
    meanings = await book.resolve_all(connection, bucket, names, row[0])
    ids: list[str] = []
    places: list[int] = []
    for place, (concept_id, meaning) in enumerate(zip(concept_ids, meanings, strict=True)):
        same = dict.fromkeys([concept_id, *(one for group in meaning for one in group)])
        ids += same
        places += [place] * len(same)
    return ids, places


def _joined(concept_ids: tuple[str, ...], rows: NDArray[np.void]) -> Said:
    """Labels by area, with what follows from them."""
    area_ids, firsts, of_area = np.unique(rows["area"].astype(np.int64), return_index=True, return_inverse=True)
    input_numbers = rows["input"].astype(np.int64)[firsts]
    labels = np.zeros((len(area_ids), len(concept_ids)), np.float32)
    whole = rows["whole"]
    if whole.any() and not whole.all():
        labels[_elsewhere(rows, of_area, input_numbers, whole[firsts], len(concept_ids))] = np.nan
    labels[of_area, rows["column"]] = rows["value"] >= 0.5
    return Said(concept_ids=concept_ids, area_ids=area_ids, input_numbers=input_numbers, labels=labels)


def _elsewhere(
    rows: NDArray[np.void],
    of_area: NDArray[np.intp],
    input_numbers: NDArray[np.int64],
    is_whole: NDArray[np.bool_],
    concepts: int,
) -> NDArray[np.bool_]:
    """[areas, concepts]: of a whole input, what is in one of its parts; of a part, what is in the whole."""
    inputs, of_input = np.unique(input_numbers, return_inverse=True)
    found = np.zeros((2, len(inputs), concepts), np.bool_)  # in parts, in wholes
    positive = rows["value"] >= 0.5
    found[rows["whole"].astype(np.intp)[positive], of_input[of_area[positive]], rows["column"][positive]] = True
    return np.asarray(found[(~is_whole).astype(np.intp), of_input])


async def _examples(
    connection: Connection,
    table: EmbedderTable,
    bucket: int,
    said: Said,
    background: int,
    *,
    among: sql.Composable | None = None,
) -> Examples:
    """``among``: the vectors, or some of them, of which those without labels are taken."""
    areas, found = await _vectors(connection, table, bucket, said.area_ids)
    known = np.isin(said.area_ids, areas)
    others = await _others(connection, among or table.name, bucket, np.unique(said.input_numbers), background)
    _, rest = await _vectors(connection, table, bucket, others)
    return Examples(
        concept_ids=said.concept_ids,
        area_ids=said.area_ids[known],
        input_numbers=said.input_numbers[known],
        vectors=found[np.searchsorted(areas, said.area_ids[known])],
        labels=said.labels[known],
        background=rest,
    )


async def _others(
    connection: Connection, among: sql.Composable, bucket: int, numbers: NDArray[np.int64], limit: int
) -> NDArray[np.int64]:
    """Areas of other inputs than these: all, or where there are more some from all over the app."""
    if not limit:
        return np.empty(0, np.int64)
    parameters = {"bucket": bucket, "numbers": number_array(numbers.tolist())}
    others = await _area_ids(connection, among, "others", {**parameters, "limit": limit + 1})
    if len(others) <= limit:
        return others
    return await _area_ids(connection, among, "background", {**parameters, "limit": limit})


async def _area_ids(
    connection: Connection, among: sql.Composable, name: str, parameters: Mapping[str, object]
) -> NDArray[np.int64]:
    statement = sql.SQL(_SQL[name]).format(vectors=among)
    row = await (await connection.execute(statement, parameters, binary=True)).fetchone()
    return np.frombuffer((row and row[0]) or b"", ">i8").astype(np.int64)


async def _vectors(
    connection: Connection, table: EmbedderTable, bucket: int, area_ids: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Those of these areas that have a vector, in order of their numbers, and the vectors."""
    if not len(area_ids):
        return area_ids, np.empty((0, table.dims), np.float32)
    async with aclosing(vectors.of_areas(connection, table, bucket, area_ids)) as parts:
        rows = [part async for part in parts]
    if not rows:
        return area_ids[:0], np.empty((0, table.dims), np.float32)
    found = np.concatenate([part.area_ids for part in rows])
    order = np.argsort(found)
    return found[order], np.concatenate([part.vectors for part in rows])[order].astype(np.float32)
