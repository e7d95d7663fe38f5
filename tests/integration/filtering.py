"""One app with annotations of every kind, and what filters find in it: messages are parsed, compiled and run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from clarifai_grpc.grpc.api import resources_pb2
from google.protobuf import json_format
from psycopg.types.json import Jsonb

from sightrank.ingest.rows import AnnotationRow, insert_annotations
from sightrank.search import sql
from sightrank.search.concepts import ConceptBook
from sightrank.search.parse import parse_legacy, parse_search
from sightrank.search.query import ConceptCondition, Query, Unit, conditions
from sightrank.store.database import Database
from sightrank.vision.vocabulary import Term, Vocabulary

START = datetime(2024, 1, 1, tzinfo=UTC)
OWN = {"dog": "dog", "cat": "Cat", "car": "car"}
VOCABULARY = Vocabulary([Term("ai_dog", {"en": "dog", "ja": "犬"}, (), ""), Term("ai_cat", {"en": "cat"}, (), "")])


def moment(tick: int) -> datetime:
    """The time at which the ``tick``-th thing happened."""
    return START + timedelta(seconds=tick)


@dataclass
class Shelf:
    """An app that things are put into, one at each tick, and that is asked by filters. Ids are those of the test."""

    runner: asyncio.Runner
    database: Database
    bucket: int
    tick: int = 0
    numbers: dict[str, int] = field(default_factory=dict)
    areas: dict[str, int] = field(default_factory=dict)

    def add_input(
        self,
        name: str,
        *,
        media: str = "image",
        status: int = 30000,
        url: str = "",
        datasets: Sequence[str] = (),
        **content: Any,
    ) -> None:
        """An input and its own annotation, called as it is; ``content`` is what the annotation says (``note``)."""
        self.tick += 1
        number = self._value(
            "INSERT INTO inputs (bucket, id, created_at, modified_at, status, media, url)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s) RETURNING number",
            [self.bucket, name, moment(self.tick), moment(self.tick), status, media, url],
        )
        self.numbers[name] = number
        self.areas[name] = self._area(number)
        for dataset in datasets:
            self._do("INSERT INTO datasets (bucket, id) VALUES (%s, %s) ON CONFLICT DO NOTHING", [self.bucket, dataset])
            self._do(
                "INSERT INTO dataset_inputs (bucket, dataset_id, input_number, created_at) VALUES (%s, %s, %s, now())",
                [self.bucket, dataset, number],
            )
        self.tick -= 1
        self.add(name, name, input_level=True, **content)

    def add_region(self, name: str, region: str, *, box: bool = True) -> None:
        """A region of an input, with or without an extent."""
        edges = [0.1, 0.1, 0.5, 0.5] if box else [None] * 4
        self.areas[region] = self._area(self.numbers[name], region, *edges)

    def add(self, input_id: str, name: str, *, region: str = "", **content: Any) -> None:
        """An annotation of an input. ``content`` has fields of AnnotationRow; ``says`` maps concepts to values,
        ``place`` is (latitude, longitude)."""
        self.tick += 1
        row = self._row(input_id, name, region, dict(content))

        async def written() -> None:
            async with self.database.transaction() as connection:
                await insert_annotations(connection, self.bucket, [row])

        self.runner.run(written())

    def change(self, name: str, **content: Any) -> None:
        """An annotation says something else from now on; what it said before is kept as the history keeps it."""
        self.tick += 1
        self._remember(name)
        says: Mapping[str, float] = content.pop("says", {})
        place = content.pop("place", (None, None))
        values = {
            "concept_ids": list(says),
            "concept_values": list(says.values()),
            "latitude": place[0],
            "longitude": place[1],
            "trusted": content.get("status", 24150) == 24150,
            "status": content.get("status", 24150),
            "metadata": Jsonb(content["metadata"]) if "metadata" in content else None,
            "modified_at": moment(self.tick),
        }
        assignments = ", ".join(f"{column} = %({column})s" for column in values)
        keys = {"bucket": self.bucket, "id": name}
        self._do(f"UPDATE annotations SET {assignments} WHERE bucket = %(bucket)s AND id = %(id)s", {**values, **keys})
        self._do("DELETE FROM labels WHERE bucket = %(bucket)s AND annotation_id = %(id)s", keys)
        self._do(
            "INSERT INTO labels (bucket, concept_id, area_id, annotation_id, input_number, value, trusted, modified_at)"
            " SELECT bucket, c.id, area_id, a.id, input_number, c.value, trusted, modified_at FROM annotations a,"
            " unnest(concept_ids, concept_values) c (id, value) WHERE bucket = %(bucket)s AND a.id = %(id)s",
            keys,
        )

    def delete(self, name: str) -> None:
        """An annotation is gone from now on."""
        self.tick += 1
        self._remember(name)
        self._do("DELETE FROM annotations WHERE bucket = %s AND id = %s", [self.bucket, name])

    def delete_region(self, region: str) -> None:
        self._do("DELETE FROM areas WHERE bucket = %s AND id = %s", [self.bucket, self.areas[region]])

    def delete_input(self, name: str) -> None:
        self._do("DELETE FROM inputs WHERE bucket = %s AND id = %s", [self.bucket, name])

    # Asking ----------------------------------------------------------------------------------------------------------

    def annotations(self, *filters: dict[str, Any], as_of: datetime | None = None) -> list[str]:
        """Ids of the annotations that an annotation search finds, in its order."""
        return [name for _, name in self._page(self._search(filters, Unit.ANNOTATION, as_of))]

    def inputs(self, *filters: dict[str, Any], as_of: datetime | None = None) -> list[str]:
        """Ids of the inputs that an input search finds, in its order."""
        return [name for name, _ in self.witnesses(*filters, as_of=as_of)]

    def witnesses(self, *filters: dict[str, Any], as_of: datetime | None = None) -> list[tuple[str, str]]:
        """(input, annotation that speaks for it) of an input search."""
        return self._page(self._search(filters, Unit.INPUT, as_of))

    def legacy(self, *ands: dict[str, Any], filters: Sequence[dict[str, Any]] = ()) -> list[str]:
        """Ids of the inputs that a legacy search finds."""
        message = json_format.ParseDict({"ands": list(ands), "filters": list(filters)}, resources_pb2.Query())
        return [name for name, _ in self._page(parse_legacy(message, None, offset=0, limit=1000, me="ann"))]

    def labels(self, concept_id: str, as_of: datetime) -> dict[str, float]:
        """What the latest trusted label of the time says on each area."""
        rows = self._rows(sql.labels_as_of(self.bucket, [concept_id], as_of))
        named = {number: name for name, number in self.areas.items()}
        return {named[area_id]: value for area_id, value in rows}

    def _search(self, filters: Sequence[dict[str, Any]], unit: Unit, as_of: datetime | None) -> Query:
        message = json_format.ParseDict({"query": {"filters": list(filters)}}, resources_pb2.Search())
        if as_of is not None:
            message.as_of.FromDatetime(as_of)
        return parse_search(message, unit, offset=0, limit=1000, me="ann")

    def _page(self, query: Query) -> list[tuple[str, str]]:
        """The page, after everything else that can be asked of the filters has been compared with it."""
        scope = self._scope(query)
        found = self._rows(sql.page(query, scope))
        parts = [self._rows(sql.page(replace(query, offset=i, limit=1), scope)) for i in range(min(len(found), 3))]
        assert [row for part in parts for row in part] == found[:3]
        assert self._rows(sql.count(query, scope)) == [(len(found),)]
        indexed = {number for (number,) in self._rows("SELECT number FROM inputs WHERE status = 30000")}
        candidates = set(self._rows(sql.candidates(query, scope)))
        assert {number for _, number, _ in candidates} == {number for number, _ in found} & indexed
        if query.unit is Unit.ANNOTATION and query.filters:
            # Filters that choose inputs leave areas of which nobody has spoken.
            assert {name for _, _, name in candidates} <= {None, *(name for _, name in found)}
        some = sorted(self.areas.values() if query.unit is Unit.ANNOTATION else self.numbers.values())[::2]
        key = 0 if query.unit is Unit.ANNOTATION else 1
        assert set(self._rows(sql.surviving(query, scope, some))) == {row for row in candidates if row[key] in some}
        assert len(self._rows(sql.candidates(query, scope, at_most=2))) == min(len(candidates), 2)
        named = {number: name for name, number in self.numbers.items()}
        return [(named[number], name) for number, name in found]

    def _scope(self, query: Query) -> sql.FilterScope:
        names = list({item.concept for item in conditions(query) if isinstance(item, ConceptCondition)})

        async def resolved() -> Any:
            async with self.database.connection() as connection:
                return await ConceptBook(VOCABULARY).resolve_all(connection, self.bucket, names, "en")

        return sql.FilterScope(
            bucket=self.bucket, concepts=dict(zip(names, self.runner.run(resolved()) if names else [], strict=True))
        )

    # Writing ---------------------------------------------------------------------------------------------------------

    def _row(self, input_id: str, name: str, region: str, content: dict[str, Any]) -> AnnotationRow:
        says: Mapping[str, float] = content.pop("says", {})
        latitude, longitude = content.pop("place", (None, None))
        by_model = "model_version_id" in content
        defaults = {"status": 24150, "user_id": "" if by_model else "ann"}
        defaults["trusted"] = not by_model and content.get("status", 24150) == 24150
        return AnnotationRow(
            input_number=self.numbers[input_id],
            id=name,
            area_id=self.areas[region or input_id],
            created_at=moment(self.tick),
            concept_ids=list(says),
            concept_values=list(says.values()),
            latitude=latitude,
            longitude=longitude,
            **(defaults | content),
        )

    def _area(self, number: int, region: str | None = None, *edges: float | None) -> int:
        return int(
            self._value(
                "INSERT INTO areas (bucket, input_number, created_at, region_id, box_top, box_left, box_bottom,"
                " box_right) VALUES (%s, %s, %s, %s, %s, %s, %s, %s) RETURNING id",
                [self.bucket, number, moment(self.tick), region, *(edges or [None] * 4)],
            )
        )

    def _remember(self, name: str) -> None:
        columns = (
            "bucket, input_number, id, area_id, created_at, modified_at, status, input_level, trusted, user_id,"
            " model_id, model_version_id, task_id, concept_ids, concept_values, metadata, latitude, longitude,"
            " annotation_info, data"
        )
        self._do(
            f"INSERT INTO past_annotations ({columns}, until, region_id, box_top, box_left, box_bottom, box_right)"
            f" SELECT {columns}, %s, r.region_id, r.box_top, r.box_left, r.box_bottom, r.box_right FROM annotations a"
            " JOIN (SELECT id AS area, region_id, box_top, box_left, box_bottom, box_right FROM areas"
            " WHERE bucket = %s) r ON r.area = a.area_id WHERE bucket = %s AND id = %s",
            [moment(self.tick), self.bucket, self.bucket, name],
        )

    def _rows(self, statement: Any) -> list[tuple[Any, ...]]:
        return self.runner.run(self.database.rows(statement))

    def _value(self, statement: str, values: Any) -> Any:
        row = self.runner.run(self.database.row(statement, values))
        assert row is not None
        return row[0]

    def _do(self, statement: str, values: Any) -> None:
        self.runner.run(self.database.execute(statement, values))


@contextmanager
def shelf(database_url: str) -> Iterator[Shelf]:
    """An empty app of its own beside another one that holds the same concepts."""
    with asyncio.Runner() as runner:
        database = Database(database_url, max_connections=3)
        runner.run(database.open())
        try:
            row = runner.run(database.row("INSERT INTO app_buckets DEFAULT VALUES RETURNING bucket"))
            assert row is not None
            for concept_id, name in OWN.items():
                runner.run(
                    database.execute(
                        "INSERT INTO concepts (bucket, id, name, name_folded) VALUES (%s, %s, %s, lower(%s))",
                        [row[0], concept_id, name, name],
                    )
                )
            yield Shelf(runner, database, int(row[0]))
        finally:
            runner.run(database.close())
