"""Changes and deletions, streams and jobs are served by indexes in apps that have grown."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from clarifai_grpc.grpc.api import service_pb2
from psycopg import sql

from sightrank.api.inputs import streamed
from sightrank.api.pages import Page
from sightrank.store import queries
from sightrank.store.database import Database

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ONE = {"bucket": 1, "numbers": [8, 12], "ids": ["a-8", "a-12"]}
INPUTS = {"bucket": 1, "input_ids": ["in-8", "in-12"]}
VERSION = {
    "bucket": 1,
    "dataset_id": "d",
    "version_id": "v",
    "as_of": NOW,
    "filtered": True,
    "ignore_empty": True,
    "after": datetime(1970, 1, 1, tzinfo=UTC),
    "after_number": 0,
}
_SEED = """
INSERT INTO app_buckets (bucket) SELECT generate_series(1, 4);
INSERT INTO inputs (bucket, number, id, created_at, modified_at, status, media, add_job_id)
SELECT 1 + n % 4, n, 'in-' || n, to_timestamp(n), to_timestamp(n), 30000, 'image', 'job-' || n / 128
FROM generate_series(1, 6000) n;
INSERT INTO inputs_add_jobs (bucket, id) SELECT DISTINCT bucket, add_job_id FROM inputs
UNION ALL SELECT b, 'old-' || n FROM generate_series(1, 4) b, generate_series(1, 2000) n;
INSERT INTO areas (bucket, id, input_number, created_at) SELECT bucket, number, number, created_at FROM inputs;
INSERT INTO annotations (bucket, input_number, id, area_id, created_at, modified_at, status, input_level, trusted)
SELECT bucket, number, 'a-' || number, number, created_at, created_at, 24150, true, true FROM inputs;
INSERT INTO labels (bucket, concept_id, area_id, annotation_id, input_number, value, trusted, modified_at)
SELECT bucket, 'c-' || input_number % 50, area_id, id, input_number, 1, true, created_at FROM annotations;
INSERT INTO past_annotations (bucket, input_number, id, area_id, created_at, modified_at, until, status, input_level,
    trusted, user_id, model_id, model_version_id, task_id, concept_ids, concept_values)
SELECT bucket, input_number, id, area_id, created_at, modified_at, modified_at + interval '1 day', status, input_level,
    trusted, user_id, model_id, model_version_id, task_id, concept_ids, concept_values FROM annotations;
INSERT INTO datasets (bucket, id) SELECT bucket, 'd' FROM app_buckets;
INSERT INTO dataset_inputs (bucket, dataset_id, input_number, created_at)
SELECT bucket, 'd', number, created_at FROM inputs;
INSERT INTO past_dataset_inputs (bucket, dataset_id, input_number, since, until)
SELECT bucket, 'd', number, created_at, created_at + interval '1 s' FROM inputs;
INSERT INTO dataset_versions (bucket, dataset_id, id, as_of, created_at, modified_at)
SELECT bucket, 'd', 'v-' || n, now(), now(), now() FROM app_buckets, generate_series(1, 500) n;
INSERT INTO dataset_version_annotations (bucket, dataset_id, version_id, input_number, annotation_id)
SELECT bucket, 'd', 'v-1', input_number, id FROM annotations;
INSERT INTO reindexed_areas (bucket, area_id, input_number, model_id, model_version_id, concept_ids, concept_values)
SELECT bucket, id, input_number, 'm', 'v', '{}', '{}' FROM areas;
INSERT INTO reindexed_annotations (bucket, input_number, area_id, status, trusted, user_id, model_id, model_version_id,
    written_by, concept_ids, concept_values)
SELECT bucket, input_number, id, 24150, false, '', 'm', 'v', '', '{}', '{}' FROM areas;
ANALYZE
"""


def stream(**fields: object) -> sql.Composed:
    return Page(1, 20).limit(streamed(service_pb2.StreamInputsRequest(**fields)))  # type: ignore[arg-type]


STATEMENTS: dict[str, tuple[object, dict[str, object]]] = {
    "lock": (queries.load("inputs")["lock"], ONE),
    "touch": (queries.load("inputs")["touch"], ONE),
    "derive labels": (queries.load("inputs")["derive_labels"], ONE),
    "delete labels": (queries.load("inputs")["delete_labels"], ONE),
    "lock by id": (queries.load("annotations")["lock_inputs_by_id"], INPUTS),
    "read input level": (queries.load("annotations")["read_input_level"], INPUTS),
    "to delete": (queries.load("annotations")["to_delete"], INPUTS | {"pairs": None}),
    "to delete pairs": (queries.load("annotations")["to_delete"], INPUTS | {"pairs": '[["in-8", "a-8"]]'}),
    "delete": (queries.load("annotations")["delete"], ONE),
    "remember": (queries.load("history")["remember"], ONE | {"untils": [NOW, NOW]}),
    "last end": (queries.load("history")["last_end"], ONE),
    "forget": (
        queries.load("history")["forget"],
        {
            "bucket": 1,
            "before": datetime(1970, 1, 2, 0, 1, tzinfo=UTC),
            "after": datetime(1970, 1, 1, tzinfo=UTC),
            "after_number": 0,
            "after_id": "",
        },
    ),
    "members of a version": (sql.SQL(queries.load("dataset_versions")["members"]).format(limit=20), VERSION),
    "words of a version": (queries.load("dataset_versions")["annotations"], VERSION | {"numbers": [8, 12]}),
    "counts of a version": (queries.load("dataset_versions")["count"], VERSION | {"numbers": [8, 12]}),
    "labels of a version": (
        queries.load("examples")["labels_of_version"],
        VERSION | {"concept_ids": ["c-8"], "places": [0]},
    ),
    "instant of a version": (queries.load("dataset_versions")["last_said"], VERSION),
    "memberships": (queries.load("dataset_versions")["forget_memberships"], VERSION),
    "leave": (queries.load("datasets")["leave"], VERSION | {"numbers": [8, 12], "now": NOW}),
    "latest versions": (queries.load("dataset_versions")["latest"], {"bucket": 1, "ids": ["d"], "public_only": False}),
    "stream": (stream(), {"bucket": 1, "settled": NOW}),
    "stream on": (stream(last_id="in-8"), {"bucket": 1, "last_id": "in-8", "created_at": NOW, "settled": NOW}),
    "stream back": (stream(last_id="in-8", descending=True), {"bucket": 1, "last_id": "in-8", "created_at": NOW}),
    "stream by id": (stream(last_id="in-8", order_by_id=True), {"bucket": 1, "last_id": "in-8"}),
    "progress": (
        sql.SQL(queries.load("inputs_add_jobs")["progress"]).format(
            jobs=sql.SQL(queries.load("inputs_add_jobs")["one"])
        ),
        {"bucket": 1, "id": "job-3"},
    ),
    "cancel": (queries.load("inputs_add_jobs")["fail_waiting"], {"bucket": 1, "id": "job-3", "details": "d"}),
}


def test_no_statement_reads_a_whole_table(database_url: str) -> None:
    async def explained() -> dict[str, str]:
        database = Database(database_url)
        await database.open()
        try:
            await database.execute(_SEED)
            return {name: await _plan(database, *asked) for name, asked in STATEMENTS.items()}
        finally:
            await database.close()

    found = asyncio.run(explained())

    assert [text for text in found.values() if "Seq Scan on" in text] == []
    assert [text for name, text in found.items() if "stream" in name and "Sort" in text] == []


def test_an_area_that_goes_is_looked_for_by_itself_wherever_it_is_named(database_url: str) -> None:
    """What refers to areas goes with them: one look by index for each, not at all of the app."""

    async def explained() -> dict[str, str]:
        database = Database(database_url)
        await database.open()
        try:
            await database.execute(_SEED)
            rows = await database.rows(
                "SELECT c.conrelid::regclass::text, array_agg(a.attname::text ORDER BY k.place) FROM pg_constraint c"
                " CROSS JOIN LATERAL unnest(c.conkey) WITH ORDINALITY AS k (number, place)"
                " JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.number"
                " WHERE c.confrelid = 'areas'::regclass GROUP BY c.oid, c.conrelid"
            )
            return {
                table: await _plan(database, f"DELETE FROM {table} WHERE {columns[0]} = 1 AND {columns[1]} = 8", {})
                for table, columns in rows
            }
        finally:
            await database.close()

    found = asyncio.run(explained())

    assert "reindexed_annotations" in found
    assert {table: plan for table, plan in found.items() if "area_id = 8" not in _conditions(plan)} == {}


def _conditions(plan: str) -> str:
    return "\n".join(line for line in plan.splitlines() if "Index Cond" in line)


async def _plan(database: Database, statement: Any, parameters: dict[str, object]) -> str:
    explain = "EXPLAIN " + statement if isinstance(statement, str) else sql.SQL("EXPLAIN ") + statement
    return "\n".join(line for (line,) in await database.rows(explain, parameters))
