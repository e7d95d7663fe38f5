"""What is asked all the time is read by index: no statement may read a whole table of an app that has grown."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from psycopg import sql
from tests.integration.explaining import BUCKETS, INPUTS, Read, looked_at, on_grown_apps, reads, reads_on, strays

from sightrank.ingest.history import remembering
from sightrank.search.query import Query, Unit
from sightrank.search.sql import FilterScope, candidates, count, page
from sightrank.store import queries, vector_index, vectors
from sightrank.store.database import Database
from sightrank.store.vectors import EmbedderTable

_HITS = {"numbers": [8, 12, 4404], "area_ids": [8, None, 104404], "annotation_ids": [None, "a-12", None]}
_WHICH = [{"suspect": False, "suspect_from": 3, "video": video} for video in (False, True)]
_HOT: list[tuple[str, str, dict[str, object]]] = [
    ("search", "versions", {"bucket": 1}),
    ("search", "latest_labels", {"bucket": 1, "concept_ids": ["c-8"]}),
    ("search", "detections", {"bucket": 1, "concept_ids": ["c-1"], "model_id": "model-8"}),
    ("search", "input_to_rank_by", {"bucket": 1, "id": "in-8"}),
    ("search", "hits", {"bucket": 1, **_HITS}),
    ("search", "hits_as_of", {"bucket": 1, "as_of": datetime(1970, 1, 1, 1, tzinfo=UTC), **_HITS}),
    ("searches", "read", {"bucket": 1, "id": "saved"}),
    ("ingest", "renew", {"bucket": 1, "numbers": [100, 200], "owner": "me", "lease_s": 60}),
    *(("ingest", "claim", {"bucket": 1, "owner": "me", "lease_s": 60, "limit": 8, **which}) for which in _WHICH),
    ("ingest", "areas", {"bucket": 1, "numbers": [4, 8]}),
    ("ingest", "said_by_people", {"bucket": 1, "numbers": [4, 8]}),
    ("inputs", "read", {"bucket": 1, "ids": ["in-8"]}),
    ("inputs", "existing", {"bucket": 1, "ids": ["in-8"], "urls": ["http://example.com/8"], "url_hashes": [b"x" * 32]}),
    ("annotations", "places_in_videos", {"bucket": 1, "area_ids": [4, 8]}),
    ("annotations", "read", {"bucket": 1, "input_ids": ["in-8"], "ids": None}),
    ("concepts", "lookup", {"bucket": 1, "ids": ["c-8"], "names": ["c-9"], "languages": ["en"]}),
    ("concepts", "names", {"bucket": 1, "ids": ["c-8"]}),
    ("examples", "labels", {"bucket": 1, "concept_ids": ["c-8"], "places": [0], "dataset_id": ""}),
    ("models", "inputs", {"bucket": 1, "concept_ids": ["c-8"]}),
    ("models", "count_inputs", {"bucket": 1, "concept_ids": ["c-8"]}),
]
_REMOVED_SINCE = sql.SQL(queries.load("search")["removed_since"]).format(
    bucket=sql.Literal(1), version=sql.Literal(5990)
)
_DETECTIONS_SINCE = sql.SQL(queries.load("search")["detections_since"]).format(vectors=sql.Identifier("vectors_1"))
_OF_A_DETECTOR = {"bucket": 1, "concept_ids": ["c-1"], "model_id": "model-8", "version": 105200}
_FORGET = remembering(queries.load("ingest")["forget_predictions"])
SCOPE = FilterScope(bucket=1, concepts={})


def test_hot_statements_read_by_index(database_url: str) -> None:
    async def scenario(database: Database) -> dict[str, Any]:
        wrong: dict[str, Any] = {}
        statements = [(f"{noun}.{name}", queries.load(noun)[name], parameters) for noun, name, parameters in _HOT]
        composed = [
            ("search.removed_since", _REMOVED_SINCE, None),
            ("search.detections_since", _DETECTIONS_SINCE, _OF_A_DETECTOR),
            ("ingest.forget_predictions", _FORGET, {"bucket": 1, "numbers": [4, 8], "troubled": [8], "former": []}),
        ]
        for name, statement, parameters in [*statements, *composed]:
            found = await reads(database, statement, parameters)
            assert found, name
            if strays(found) or looked_at(found) > 150:
                wrong[name] = found
        return wrong

    assert on_grown_apps(database_url, scenario) == {}


def test_a_start_looks_at_one_input_of_each_app(database_url: str) -> None:
    asked = sql.SQL(queries.load("ingest")["buckets_to_requeue"]).format(vectors=TABLE.name)

    async def scenario(database: Database) -> list[Read]:
        await database.execute("INSERT INTO users (id) VALUES ('me')")
        await database.execute(
            "INSERT INTO apps (user_id, id, first_bucket, workflow_id)"
            " SELECT 'me', 'app-' || bucket, bucket, 'General' FROM app_buckets"
        )
        return await reads(database, asked, {"workflow_id": "General"})

    found = on_grown_apps(database_url, scenario)

    # The inputs' condition names the bucket by the app's row.
    assert {read.table: read.rows for read in found} == {"apps": BUCKETS, "inputs": BUCKETS, "vectors_1": BUCKETS}


@pytest.mark.parametrize("unit", Unit)
def test_searches_without_filters_stay_within_their_app(database_url: str, unit: Unit) -> None:
    asked = Query(unit=unit, filters=(), ranks=(), min_value=0.0, offset=0, limit=20)

    async def scenario(database: Database) -> dict[str, list[Read]]:
        made = {"page": page(asked, SCOPE), "count": count(asked, SCOPE), "candidates": candidates(asked, SCOPE)}
        return {name: await reads(database, statement) for name, statement in made.items()}

    found = on_grown_apps(database_url, scenario)

    assert {name: strays(read) for name, read in found.items() if strays(read)} == {}
    # A first page is read in the order of creation, and no further.
    assert looked_at(found["page"]) < 200


# Vectors ------------------------------------------------------------------------------------------------------------


class Explained:
    """Takes the place of the COPY: runs each query for its plan and brings no rows."""

    def __init__(self) -> None:
        self.found: list[Read] = []

    async def __call__(
        self, connection: Any, query: sql.Composed, record: Any, *, by_input: bool = False
    ) -> AsyncGenerator[Any, None]:
        self.found += await reads_on(connection, query + sql.SQL(" ORDER BY input_number" if by_input else ""))
        for nothing in ():
            yield nothing


TABLE = EmbedderTable(id=1, dims=4)
TOWARDS = np.array([1, 0, 0, 0], np.float16)


async def rest(parts: AsyncGenerator[Any, None]) -> None:
    async for _ in parts:
        raise AssertionError("EXPLAIN brings no rows")


@pytest.fixture
def explained(monkeypatch: pytest.MonkeyPatch) -> Explained:
    instead = Explained()
    monkeypatch.setattr(vectors, "_copied", instead)
    return instead


def test_vectors_of_a_few_areas_are_read_by_index(database_url: str, explained: Explained) -> None:
    async def scenario(database: Database) -> list[float]:
        counts = []
        async with vectors.snapshot(database) as connection:
            for parts in (
                vectors.changed_since(connection, TABLE, 1, 5990),
                vectors.of_areas(connection, TABLE, 1, np.array([4, 8, 12])),
                vectors.of_inputs(connection, TABLE, 1, np.array([4, 8, 12])),
            ):
                await rest(parts)
                counts.append(looked_at(explained.found))
        assert strays(explained.found) == []
        return counts

    assert max(on_grown_apps(database_url, scenario)) < 50


@pytest.mark.parametrize("by_input", [False, True])
def test_reading_all_vectors_of_an_app_reads_no_others(database_url: str, explained: Explained, by_input: bool) -> None:
    async def scenario(database: Database) -> None:
        async with vectors.snapshot(database) as connection:
            await rest(vectors.of_bucket(connection, TABLE, 1, by_input=by_input))
            await rest(vectors.products(connection, TABLE, 1, np.stack([TOWARDS, -TOWARDS]), by_input=by_input))

    on_grown_apps(database_url, scenario)

    assert strays(explained.found) == []
    of_table = [read.rows for read in explained.found if read.table == "vectors_1" and read.node != "Bitmap Index Scan"]
    assert INPUTS <= min(of_table) <= max(of_table) < 1.1 * INPUTS


def test_neighbours_come_by_the_index_of_their_bucket_or_by_its_rows(database_url: str, explained: Explained) -> None:
    async def scenario(database: Database) -> tuple[list[Read], list[Read], list[Read]]:
        async def nearest() -> list[Read]:
            explained.found = []
            await vectors.nearest(connection, TABLE, 1, TOWARDS, 50)
            return explained.found

        async with vectors.snapshot(database) as connection, vectors.nearest_by_index(connection):
            without = await nearest()
        async with database.connection() as connection:
            await vector_index.create(connection, 1, 1)
            await vector_index.create(connection, 1, 2)
        async with vectors.snapshot(database) as connection:
            async with vectors.nearest_by_index(connection):
                by_index = await nearest()
            async with vectors.nearest_by_scan(connection):
                return without, by_index, await nearest()

    without, by_index, by_scan = on_grown_apps(database_url, scenario)

    assert strays(without) == strays(by_index) == strays(by_scan) == []
    assert [(read.node, read.index, read.rows) for read in by_index] == [("Index Scan", "vectors_1_near_1", 50)]
    for found in (without, by_scan):
        assert not any("_near_" in read.index for read in found)
        assert looked_at(found) >= INPUTS
