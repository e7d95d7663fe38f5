"""What is asked all the time is read by index: no statement may read a whole table of an app that has grown."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from psycopg import sql

from sightrank.search.query import (
    ConceptCondition,
    ConceptName,
    Condition,
    DatasetCondition,
    FieldCondition,
    Filter,
    Query,
    Unit,
)
from sightrank.search.sql import FilterScope, candidates, page
from sightrank.store import queries, vectors
from sightrank.store.database import Database

_SEED = """
INSERT INTO app_buckets (bucket) SELECT generate_series(1, 4);
INSERT INTO inputs (bucket, number, id, created_at, modified_at, status, media, url, lease_until)
SELECT 1 + n % 4, n, 'in-' || n, to_timestamp(n), to_timestamp(n), CASE WHEN n % 100 = 0 THEN 30001 ELSE 30000 END,
    'image', 'http://example.com/' || n, NULL FROM generate_series(1, 6000) n;
INSERT INTO areas (bucket, id, input_number, created_at) SELECT bucket, number, number, created_at FROM inputs;
INSERT INTO annotations (bucket, input_number, id, area_id, created_at, modified_at, status, input_level, trusted,
    concept_ids, concept_values)
SELECT bucket, number, 'a-' || number, number, created_at, created_at, 24150, true, true, ARRAY['c-' || number % 50],
    ARRAY[1] FROM inputs;
INSERT INTO labels (bucket, concept_id, area_id, annotation_id, input_number, value, trusted, modified_at)
SELECT bucket, concept_ids[1], area_id, id, input_number, 1, true, created_at FROM annotations;
INSERT INTO concepts (bucket, id, name, name_folded) SELECT b, 'c-' || n, 'c-' || n, 'c-' || n
FROM generate_series(1, 4) b, generate_series(1, 1500) n;
INSERT INTO removals (bucket, version, area_id) SELECT 1 + n % 4, n, 1000000 + n FROM generate_series(1, 6000) n;
INSERT INTO datasets (bucket, id) SELECT b, id FROM generate_series(1, 4) b, unnest(ARRAY['holiday', 'all']) id;
INSERT INTO dataset_inputs (bucket, dataset_id, input_number, created_at)
SELECT bucket, 'holiday', number, created_at FROM inputs WHERE number % 20 = 0
UNION ALL SELECT bucket, 'all', number, created_at FROM inputs;
"""
_HOT: list[tuple[str, str, dict[str, object]]] = [
    ("search", "versions", {"bucket": 1}),
    ("search", "removed_since", {"bucket": 1, "version": 5990}),
    ("search", "latest_labels", {"bucket": 1, "concept_ids": ["c-8"]}),
    ("search", "input_to_rank_by", {"bucket": 1, "id": "in-8"}),
    ("ingest", "renew", {"bucket": 1, "numbers": [100, 200], "owner": "me", "lease_s": 60}),
    ("ingest", "claim", {"bucket": 1, "owner": "me", "lease_s": 60, "limit": 8, "suspect": False, "suspect_from": 3}),
    ("ingest", "areas", {"bucket": 1, "numbers": [4, 8]}),
    ("inputs", "read", {"bucket": 1, "ids": ["in-8"]}),
    ("inputs", "existing", {"bucket": 1, "ids": ["in-8"], "urls": ["http://example.com/8"], "url_hashes": [b"x" * 32]}),
    ("annotations", "read", {"bucket": 1, "input_ids": ["in-8"], "ids": None}),
    ("concepts", "lookup", {"bucket": 1, "ids": ["c-8"], "names": ["c-9"], "languages": ["en"]}),
    ("concepts", "names", {"bucket": 1, "ids": ["c-8"]}),
]


BIG = ("inputs", "areas", "annotations", "labels", "concepts", "removals", "vectors_1", "dataset_inputs")
DOG = ConceptName(id="c-8")
SCOPE = FilterScope(bucket=1, concepts={DOG: (("c-8",),)})


def on_grown_apps(url: str, scenario: Callable[[Database], Awaitable[Any]]) -> Any:
    async def opened() -> Any:
        database = Database(url)
        await database.open()
        try:
            await vectors.register(database, "model", "v1", 4)
            async with database.connection() as connection:
                await connection.execute(sql.SQL(_SEED))
                await connection.execute(
                    "INSERT INTO vectors_1 (bucket, area_id, input_number, created_us, version, vector)"
                    " SELECT bucket, id, input_number, id, id, '[1,2,3,4]' FROM areas"
                )
                await connection.execute("ANALYZE")
            return await scenario(database)
        finally:
            await database.close()

    return asyncio.run(opened())


async def plan(database: Database, statement: Any, parameters: Mapping[str, object] | None = None) -> str:
    explain = "EXPLAIN " + statement if isinstance(statement, str) else sql.SQL("EXPLAIN ") + statement
    return "\n".join(line for (line,) in await database.rows(explain, parameters))


def whole_tables(found: str) -> list[str]:
    """Tables that the plan reads from end to end: PostgreSQL says "Seq Scan on inputs i"."""
    return [table for table in BIG if f"Seq Scan on {table}" in found]


def test_hot_statements_read_by_index(database_url: str) -> None:
    async def scenario(database: Database) -> dict[str, list[str]]:
        return {
            f"{noun}.{name}": whole_tables(await plan(database, queries.load(noun)[name], parameters))
            for noun, name, parameters in _HOT
        }

    assert on_grown_apps(database_url, scenario) == {f"{noun}.{name}": [] for noun, name, _ in _HOT}


def test_selective_filters_and_first_pages_read_by_index(database_url: str) -> None:
    asked: dict[str, Condition | None] = {
        "everything": None,
        "one input": FieldCondition(field="input.id", value="in-8"),
        "input of an annotation": FieldCondition(field="annotation.input_id", value="in-8"),
        "waiting inputs": FieldCondition(field="input.status", value=30001),
        "dataset": DatasetCondition(dataset_id="holiday"),
        "concept": ConceptCondition(concept=DOG, positive=True),
    }

    def query(condition: Condition | None, unit: Unit) -> Query:
        filters = (Filter(groups=((condition,),)),) if condition else ()
        return Query(unit=unit, filters=filters, ranks=(), min_value=0.0, offset=0, limit=20)

    async def scenario(database: Database) -> dict[str, list[str]]:
        return {
            f"{name} by {unit.value}": whole_tables(await plan(database, page(query(condition, unit), SCOPE)))
            for name, condition in asked.items()
            for unit in Unit
        }

    assert on_grown_apps(database_url, scenario) == {f"{name} by {unit.value}": [] for name in asked for unit in Unit}


def test_candidates_of_one_input_are_read_by_index(database_url: str) -> None:
    one = Filter(groups=((FieldCondition(field="input.id", value="in-8"),),))

    async def scenario(database: Database) -> dict[Unit, list[str]]:
        queries = {unit: Query(unit=unit, filters=(one,), ranks=(), min_value=0.0, offset=0, limit=20) for unit in Unit}
        return {unit: whole_tables(await plan(database, candidates(query, SCOPE))) for unit, query in queries.items()}

    assert on_grown_apps(database_url, scenario) == {unit: [] for unit in Unit}


def test_new_vectors_are_found_by_their_version(database_url: str) -> None:
    async def scenario(database: Database) -> list[str]:
        return whole_tables(
            await plan(
                database,
                "SELECT area_id, input_number, created_us, vector FROM vectors_1 WHERE bucket = 1 AND version > 5990",
            )
        )

    assert on_grown_apps(database_url, scenario) == []
