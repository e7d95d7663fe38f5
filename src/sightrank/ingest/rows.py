"""Annotations as rows: what the database stores of an annotation, free of wire format."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

from sightrank.errors import DoesNotExist
from sightrank.search.concepts import ConceptBook
from sightrank.store import queries, vectors
from sightrank.store.database import Connection
from sightrank.vision.box import Box

_SQL = queries.load("inputs")


def new_id() -> str:
    """A fresh 32-digit hexadecimal id."""
    return uuid.uuid4().hex


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedConcept:
    """A concept as posted: by id, by name, or both."""

    id: str
    name: str
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What an annotation says. ``data`` is its Data message in proto JSON without concepts, metadata and geo."""

    concepts: tuple[NamedConcept, ...] = ()
    metadata: dict[str, Any] | None = None
    latitude: float | None = None
    longitude: float | None = None
    data: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotationRow:
    """One row of ``annotations``; ``concept_ids`` and ``concept_values`` are parallel. ``own_model``: the model version
    is one of the app's own, not an installed one.
    """

    input_number: int
    id: str
    area_id: int
    created_at: datetime
    status: int
    trusted: bool
    input_level: bool = False
    user_id: str = ""
    model_id: str = ""
    model_version_id: str = ""
    own_model: bool = False
    written_by: str = ""
    task_id: str = ""
    concept_ids: Sequence[str] = ()
    concept_values: Sequence[float] = ()
    metadata: Mapping[str, Any] | None = None
    latitude: float | None = None
    longitude: float | None = None
    annotation_info: Mapping[str, Any] | None = None
    data: Mapping[str, Any] | None = field(default=None)


def to_json(rows: Sequence[Any]) -> str:
    """Dataclasses as the JSON that ``jsonb_to_recordset`` reads: one statement for a whole batch, of any length."""
    # Not asdict: it copies every list and text of every row.
    values = [{field.name: getattr(row, field.name) for field in fields(row)} for row in rows]
    return json.dumps(values, default=_json_value, ensure_ascii=False)


def _json_value(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no place in a row")


async def insert_annotations(
    connection: Connection, bucket: int, rows: Sequence[AnnotationRow]
) -> set[tuple[int, str]]:
    """Writes annotations and the labels that follow from them; returns (input_number, id) of those that were new."""
    if not rows:
        return set()
    cursor = await connection.execute(_SQL["insert_annotations"], {"bucket": bucket, "rows": to_json(rows)})
    written = {(number, name) for name, number in await cursor.fetchall()}
    labelled = [
        row for row in rows if row.concept_ids and not row.model_version_id and (row.input_number, row.id) in written
    ]
    if labelled:
        keys = {"ids": [row.id for row in labelled], "numbers": [row.input_number for row in labelled]}
        await connection.execute(_SQL["derive_labels"], {"bucket": bucket, **keys})
    return written


async def lock_inputs(connection: Connection, bucket: int, numbers: Iterable[int]) -> dict[int, int]:
    """Holds these inputs still until the caller's transaction ends; returns number to status of those that are there.

    Every writer locks in the order of the numbers, so that none waits for another in a circle.
    """
    cursor = await connection.execute(_SQL["lock"], {"bucket": bucket, "numbers": sorted(set(numbers))})
    return dict(await cursor.fetchall())


async def hold_app(connection: Connection, bucket: int) -> None:
    """Keeps the app from being deleted until the caller's transaction ends. Raises DoesNotExist when it is gone."""
    cursor = await connection.execute(_SQL["hold_app"], {"bucket": bucket})
    if await cursor.fetchone() is None:
        raise DoesNotExist("The app was deleted.")


async def forget_removals(connection: Connection, bucket: int, version: int) -> None:
    """Drops the notes of areas that were gone long before ``version``, which the caller's transaction has taken."""
    gone_long = version - vectors.VERSIONS_KEPT
    if gone_long > 0:
        await connection.execute(_SQL["forget_removals"], {"bucket": bucket, "version": gone_long})


async def concept_ids(
    connection: Connection, book: ConceptBook, bucket: int, contents: Sequence[Content]
) -> list[list[str]]:
    """The concept ids of each content in its order, made in the app where they are new."""
    wanted = list(dict.fromkeys((concept.id, concept.name) for content in contents for concept in content.concepts))
    if not wanted:
        return [[] for _ in contents]
    found = dict(zip(wanted, await book.ensure_concepts(connection, bucket, wanted), strict=True))
    return [[found[concept.id, concept.name] for concept in content.concepts] for content in contents]


def distinct_concepts(content: Content, ids: Sequence[str]) -> tuple[list[str], list[float]]:
    """Ids and values of a content's concepts; of two that turn out to be one concept the last value counts."""
    values = {concept_id: concept.value for concept_id, concept in zip(ids, content.concepts, strict=True)}
    return list(values), list(values.values())


def box_info(box: Box) -> dict[str, Any]:
    """The geometry of a box as an annotation stores it: RegionInfo in proto JSON."""
    edges = {"top_row": box.top, "left_col": box.left, "bottom_row": box.bottom, "right_col": box.right}
    return {"bounding_box": edges}


def same_box(one: Box | None, other: Box | None) -> bool:
    """Whether two boxes are equal as far as the database keeps them apart."""
    if one is None or other is None:
        return one is other
    return all(abs(getattr(one, side) - getattr(other, side)) < 1e-6 for side in ("top", "left", "bottom", "right"))
