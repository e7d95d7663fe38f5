"""A dataset version as messages: each input with what people had said of it, in its ``data``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from clarifai_grpc.grpc.api import resources_pb2

from sightrank.api.call import AppRef
from sightrank.api.records import AnnotationRecord, InputRow, Names, Records, annotation_message
from sightrank.search.dataset_version import FIRST, DatasetVersion, Member, read_annotations, read_members
from sightrank.store import queries
from sightrank.store.database import Database

_INPUTS = queries.load("inputs")
#: What in a ``Data`` message is put together of several annotations.
_LISTS = ("concepts", "regions", "frames", "time_segments")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """An input of a version. ``own`` is its own annotation of then, which has its metadata and place; ``labels`` are
    the trusted ones that the version is about, those that are counted as well."""

    row: InputRow
    own: AnnotationRecord | None
    labels: Sequence[AnnotationRecord]


@dataclass(frozen=True, slots=True, kw_only=True)
class Portion:
    """Some inputs of a version, and how the concepts in them are called."""

    inputs: Sequence[Exported]
    names: Names


class DatasetContents:
    """Reads what is in versions of datasets, in portions."""

    def __init__(self, database: Database, records: Records) -> None:
        self._database = database
        self._records = records

    async def portions(self, app: AppRef, version: DatasetVersion, size: int) -> AsyncIterator[Portion]:
        """All inputs in the order in which they joined, so many at a time."""
        after = FIRST
        while True:
            async with self._database.connection() as connection:
                members = await read_members(connection, version, after=after, limit=size)
            yield await self._portion(app, version, members)
            if len(members) < size:
                return
            after = members[-1]

    async def _portion(self, app: AppRef, version: DatasetVersion, members: Sequence[Member]) -> Portion:
        parameters = {"bucket": app.bucket, "ids": [member.id for member in members]}
        rows = {row[0]: InputRow(*row) for row in await self._database.rows(_INPUTS["read"], parameters)}
        labels = await self._annotations(version, list(rows))
        # What a filter leaves out of the labels may still be where an input's metadata are.
        everything = (
            await self._annotations(replace(version, filtered=False), list(rows)) if version.filtered else labels
        )
        names = await self._records.names(app, [record for records in labels.values() for record in records])
        exported = [
            Exported(
                row=rows[member.number],
                own=next((record for record in everything.get(member.number, ()) if record.input_level), None),
                labels=[record for record in labels.get(member.number, ()) if record.trusted],
            )
            for member in members
            if member.number in rows  # else it was deleted a moment ago
        ]
        return Portion(inputs=exported, names=names)

    async def _annotations(self, version: DatasetVersion, numbers: Sequence[int]) -> dict[int, list[AnnotationRecord]]:
        """Those that count, by the number of their input."""
        found: dict[int, list[AnnotationRecord]] = {}
        async with self._database.connection() as connection:
            for row in await read_annotations(connection, version, numbers):
                record = AnnotationRecord(*row)
                found.setdefault(record.input_number, []).append(record)
        return found

    def messages(self, app: AppRef, portion: Portion) -> Iterator[resources_pb2.Input]:
        """The inputs with nothing but ``id`` and ``data``."""
        for item in portion.inputs:
            made = self._records.input(app, _as_it_was(item), portion.names)
            said = Said(made.data)
            for record in sorted(item.labels, key=lambda record: (record.modified_at, record.id)):
                said.add(annotation_message(app, record, portion.names).data)
            yield resources_pb2.Input(id=made.id, data=made.data)


def _as_it_was(item: Exported) -> InputRow:
    """The input without its labels, with the metadata and the place it had."""
    own = item.own
    return item.row._replace(
        concept_ids=None,
        concept_values=None,
        metadata=own.metadata if own else None,
        latitude=own.latitude if own else None,
        longitude=own.longitude if own else None,
        data=None,
    )


class Said:
    """What several annotations say, put together in one ``Data`` message: of one thing, the last one counts."""

    def __init__(self, data: resources_pb2.Data) -> None:
        self._data = data
        self._concepts: dict[str, resources_pb2.Concept] = {}
        self._parts: dict[tuple[str, bytes], Said] = {}

    def add(self, said: resources_pb2.Data) -> None:
        """Adds concepts, and the regions, frames and time segments with what is said in them."""
        for concept in said.concepts:
            if concept.id not in self._concepts:
                self._concepts[concept.id] = self._data.concepts.add()
            self._concepts[concept.id].CopyFrom(concept)
        for region in said.regions:
            extent = region.region_info.SerializeToString()
            self._add_part("region", region.id.encode() or extent, region, self._data.regions)
        for frame in said.frames:
            self._add_part("frame", frame.frame_info.SerializeToString(), frame, self._data.frames)
        for segment in said.time_segments:
            self._add_part("segment", segment.time_info.SerializeToString(), segment, self._data.time_segments)

    def _add_part(self, kind: str, place: bytes, part: Any, parts: Any) -> None:
        """Regions, frames and segments are alike: a place with ``data``."""
        inner = self._parts.get((kind, place))
        if inner is None:
            mine = parts.add()
            mine.CopyFrom(part)
            for name in _LISTS:
                mine.data.ClearField(name)
            inner = self._parts[kind, place] = Said(mine.data)
        inner.add(part.data)
