"""Several apps of one size, and what PostgreSQL reads of them: plans of statements that were run, as EXPLAIN tells."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from sightrank.store import vectors
from sightrank.store.database import Database

#: Buckets 1 to 4 have as many inputs each; the input of number n is in bucket 1 + n % 4.
BUCKETS = 4
INPUTS = 1500
#: What every hundredth input has, in each bucket: those of numbers 8, 408, 808 and so on in bucket 1.
RARE = INPUTS // 100

_SEED = """
INSERT INTO app_buckets (bucket) SELECT generate_series(1, 4);
INSERT INTO inputs (bucket, number, id, created_at, modified_at, status, media, url)
SELECT 1 + n % 4, n, 'in-' || n, to_timestamp(n), to_timestamp(n),
    CASE WHEN n / 4 % 100 = 3 THEN 30001 ELSE 30000 END,
    (ARRAY['video', 'text', 'audio'])[1 + n / 400 % 3] ,
    'http://example.com/' || n FROM generate_series(4, 6003) n WHERE n / 4 % 100 = 2
UNION ALL
SELECT 1 + n % 4, n, 'in-' || n, to_timestamp(n), to_timestamp(n),
    CASE WHEN n / 4 % 100 = 3 THEN 30001 ELSE 30000 END, 'image',
    'http://example.com/' || n FROM generate_series(4, 6003) n WHERE n / 4 % 100 <> 2;
INSERT INTO areas (bucket, id, input_number, created_at) SELECT bucket, number, number, created_at FROM inputs;
INSERT INTO areas (bucket, id, input_number, created_at, region_id, box_top, box_left, box_bottom, box_right)
SELECT bucket, 100000 + number, number, created_at, 'region-' || number, 0.1, 0.1, 0.9, 0.9
FROM inputs WHERE number / 4 % 100 = 2;
INSERT INTO annotations (bucket, input_number, id, area_id, created_at, modified_at, status, input_level, trusted,
    user_id, task_id, concept_ids, concept_values, metadata, latitude, longitude, annotation_info)
SELECT bucket, number, 'a-' || number, number, created_at, created_at, 24150 + (number / 4 % 100 = 2)::int, true, true,
    'user-' || number / 4 % 100, 'task-' || number / 4 % 100, ARRAY['c-' || number / 4 % 100], ARRAY[1],
    jsonb_build_object('shelf', number / 4 % 100), number / 4 % 100 - 50, number / 4 % 100,
    jsonb_build_object('round', number / 4 % 100)
FROM inputs;
INSERT INTO annotations (bucket, input_number, id, area_id, created_at, modified_at, status, trusted, data)
SELECT bucket, number, kind || '-' || number, 100000 + number, created_at, created_at, 24150, true,
    CASE kind WHEN 'frames' THEN '{"frames": [{}]}' WHEN 'time_segments' THEN '{"time_segments": [{}]}'
        WHEN 'text' THEN '{"text": {"raw": "x"}}'
        ELSE jsonb_build_object('regions', jsonb_build_array(jsonb_build_object(
            'track_id', '7', 'region_info', jsonb_build_object(kind, '{}'::jsonb)))) END
FROM inputs, unnest(ARRAY[
    'bounding_box', 'mask', 'polygon', 'point', 'span', 'token', 'frames', 'time_segments', 'text']) kind
WHERE number / 4 % 100 = 2;
INSERT INTO annotations (bucket, input_number, id, area_id, created_at, modified_at, status, trusted, model_id,
    model_version_id, concept_ids, concept_values)
SELECT bucket, number, 'p-' || number, number, created_at, created_at, 24150, false,
    'model-' || number / 4 % 100, 'version-' || number / 4 % 100, ARRAY['c-1'], ARRAY[0.5] FROM inputs;
INSERT INTO labels (bucket, concept_id, area_id, annotation_id, input_number, value, trusted, modified_at)
SELECT bucket, concept_ids[1], area_id, id, input_number, 1, true, created_at FROM annotations
WHERE model_version_id = '' AND cardinality(concept_ids) = 1;
INSERT INTO past_annotations (bucket, input_number, id, area_id, created_at, modified_at, until, status, input_level,
    trusted, user_id, model_id, model_version_id, task_id, concept_ids, concept_values)
SELECT bucket, input_number, id, area_id, created_at, created_at - interval '1 day', created_at, status, input_level,
    trusted, user_id, model_id, model_version_id, task_id, concept_ids, concept_values
FROM annotations WHERE model_version_id = '';
INSERT INTO concepts (bucket, id, name, name_folded) SELECT b, 'c-' || n, 'c-' || n, 'c-' || n
FROM generate_series(1, 4) b, generate_series(1, 1500) n;
INSERT INTO removals (bucket, version, area_id) SELECT 1 + n % 4, n, 1000000 + n FROM generate_series(1, 6000) n;
INSERT INTO datasets (bucket, id) SELECT b, id FROM generate_series(1, 4) b, unnest(ARRAY['holiday', 'all']) id;
INSERT INTO dataset_inputs (bucket, dataset_id, input_number, created_at)
SELECT bucket, 'holiday', number, created_at FROM inputs WHERE number / 4 % 100 = 2
UNION ALL SELECT bucket, 'all', number, created_at FROM inputs;
"""
_VECTORS = """
INSERT INTO vectors_1 (bucket, area_id, input_number, created_us, version, vector)
SELECT bucket, id, input_number, id, id, format('[%s,%s,%s,1]', id % 7, id % 11, id % 13)::halfvec FROM areas
"""
#: What people taught: bucket b of 40 has the models b-0 to b-49 with versions like b-0-0 to b-0-3, all trained, fitted
#: and evaluated but for a few that wait, and the workflows b-0 to b-49 with versions of the same names.
_TAUGHT = """
INSERT INTO users (id) VALUES ('me');
INSERT INTO app_buckets (bucket) SELECT generate_series(5, 40);
INSERT INTO apps (user_id, id, first_bucket, workflow_id)
SELECT 'me', 'app-' || bucket, bucket, 'General' FROM app_buckets;
INSERT INTO models (bucket, id, name, model_type_id, visibility)
SELECT b, b || '-' || n, 'a model', 'embedding-classifier', 10
FROM generate_series(1, 40) b, generate_series(0, 49) n ORDER BY n;
INSERT INTO model_versions (bucket, id, model_id, status, completed_at, concept_ids, examples, message, created_at)
SELECT bucket, id || '-' || n, id, CASE WHEN n = 3 AND id IN ('1-7', '2-9') THEN 21103 ELSE 21100 END, now(), '{c-8}',
    CASE WHEN n = 3 AND id IN ('1-7', '2-9') THEN NULL ELSE decode(repeat('00', 100), 'hex') END,
    decode(repeat('00', 200), 'hex'), to_timestamp(n)
FROM models, generate_series(0, 3) n ORDER BY n;
INSERT INTO model_fits (bucket, model_version_id, embedder_id, fitted)
SELECT bucket, id, 1, decode(repeat('00', 200), 'hex') FROM model_versions WHERE status = 21100;
INSERT INTO model_evaluations (bucket, id, model_id, model_version_id, status)
SELECT bucket, 'e-' || id, model_id, id, CASE WHEN id IN ('1-7-2', '2-9-2') THEN 21303 ELSE 21300 END
FROM model_versions;
INSERT INTO workflows (bucket, id) SELECT bucket, id FROM models;
INSERT INTO workflow_versions (bucket, id, workflow_id, nodes, created_at)
SELECT bucket, id || '-' || n, id, decode(repeat('00', 200), 'hex'), to_timestamp(n)
FROM workflows, generate_series(0, 3) n ORDER BY n;
"""
#: Tables of all apps.
OF_APPS = frozenset(
    {
        "inputs",
        "areas",
        "annotations",
        "past_annotations",
        "labels",
        "concepts",
        "removals",
        "datasets",
        "dataset_inputs",
        "vectors_1",
        "models",
        "model_versions",
        "model_fits",
        "model_evaluations",
        "workflows",
        "workflow_versions",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """One node of a plan that reads a table or an index: by which condition, and how many rows it looked at."""

    node: str
    table: str
    index: str
    condition: str
    rows: float


def on_grown_apps(url: str, scenario: Callable[[Database], Awaitable[Any]]) -> Any:
    async def opened() -> Any:
        database = Database(url)
        await database.open()
        try:
            await vectors.register(database, "model", "v1", 4)
            async with database.connection() as connection:
                await connection.execute(sql.SQL(_SEED))
                await connection.execute(sql.SQL(_VECTORS))
                await connection.execute("VACUUM ANALYZE")
            return await scenario(database)
        finally:
            await database.close()

    return asyncio.run(opened())


async def teach(database: Database) -> None:
    """Models and workflows in the grown apps and in others beside them."""
    async with database.connection() as connection:
        await connection.execute(sql.SQL(_TAUGHT))
        await connection.execute("VACUUM ANALYZE")


async def reads(database: Database, statement: Any, parameters: Mapping[str, object] | None = None) -> list[Read]:
    """Runs the statement and tells what it read."""
    async with database.connection() as connection:
        return await reads_on(connection, statement, parameters)


async def reads_on(connection: Any, statement: Any, parameters: Mapping[str, object] | None = None) -> list[Read]:
    """The same on one connection, whose transaction may have settings of its own."""
    return list(_reads(await _plan(connection, statement, parameters), table=""))


async def compared_in_vain(database: Database, statement: Any, parameters: Mapping[str, object]) -> float:
    """Runs the statement and tells how many pairs of rows its joins looked at that do not belong together."""

    def of(node: dict[str, Any]) -> float:
        own = node.get("Rows Removed by Join Filter", 0) * node["Actual Loops"]
        return float(own + sum(of(child) for child in node.get("Plans", [])))

    async with database.connection() as connection:
        return of(await _plan(connection, statement, parameters))


async def _plan(connection: Any, statement: Any, parameters: Mapping[str, object] | None) -> dict[str, Any]:
    explain = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "
    explained = explain + statement if isinstance(statement, str) else sql.SQL(explain) + statement
    row = await (await connection.execute(explained, parameters)).fetchone()
    return dict(row[0][0]["Plan"])


def _reads(node: dict[str, Any], table: str) -> Iterator[Read]:
    table = node.get("Relation Name", table)
    if "Scan" in node["Node Type"] and ("Relation Name" in node or "Index Name" in node):
        looked_at = sum(
            node.get(key, 0) for key in ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")
        )
        yield Read(
            node=node["Node Type"],
            table=table,
            index=node.get("Index Name", ""),
            condition=node.get("Index Cond", "") or node.get("Recheck Cond", ""),
            rows=looked_at * node["Actual Loops"],
        )
    for child in node.get("Plans", []):
        # The index below a bitmap belongs to the bitmap's table; other children say what they read.
        yield from _reads(child, table if child["Node Type"] == "Bitmap Index Scan" else "")


def looked_at(found: list[Read]) -> float:
    """Rows of tables; what an index lists comes again as rows of its table."""
    return sum(read.rows for read in found if read.node != "Bitmap Index Scan")


def strays(found: list[Read]) -> list[str]:
    """Where a plan looks at more than its app: by a whole table, or by an index without the bucket.

    Hashes in ``search_keys`` have the bucket for a seed, so they are of one app; an index of vectors is of one bucket.
    """
    return [
        f"{read.node} on {read.table} {read.index} {read.condition}"
        for read in found
        if read.table in OF_APPS
        and "bucket = " not in read.condition
        and "search_keys" not in read.condition
        and "_near_" not in read.index
        and not (read.node == "Bitmap Heap Scan" and read.condition)
    ]
