"""50,000 indexed inputs in the first app, written straight into the store: what PostInputs and ingest leave there."""

from __future__ import annotations

import asyncio
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.server import APP, USER, Server
from sightrank.ingest.rows import next_version
from sightrank.store import vectors
from sightrank.store.database import Connection, Database
from sightrank.store.embedded import EmbeddedServer, machine_memory_bytes
from sightrank.store.vectors import EmbedderTable, VectorRows
from sightrank.vision.bundle import built_in_bundle, load_bundle
from sightrank.vision.tagger import Tagger

AREAS = 50_000
_CLUSTERS = 500
#: Concepts of the app's own, by the share of inputs that are labelled with them.
RARE, COMMON = "bench-rare", "bench-common"
_EVERY = {RARE: 500, COMMON: 20}

_INPUTS = """
INSERT INTO inputs (bucket, id, created_at, modified_at, status, media, blob, width, height, format, color_mode)
SELECT %(bucket)s, 'bench-' || n, now() + n * interval '1 us', now(), 30000, 'image', 'none', 640, 480, 'JPEG', 'RGB'
FROM generate_series(%(start)s::bigint, %(end)s::bigint - 1) n RETURNING number
"""
_AREAS = """
INSERT INTO areas (bucket, input_number, created_at) SELECT bucket, number, created_at FROM inputs
WHERE bucket = %(bucket)s AND number = ANY(%(numbers)s) RETURNING id, input_number, created_at
"""
_INPUT_LEVEL = """
INSERT INTO annotations (bucket, input_number, id, area_id, created_at, modified_at, status, input_level, trusted,
    user_id, concept_ids, concept_values)
SELECT bucket, input_number, md5('a' || id), id, created_at, created_at, 24150, true, true, %(user)s,
    CASE WHEN id %% %(rare)s = 0 THEN '{bench-rare}'::text[]
        WHEN id %% %(common)s = 0 THEN '{bench-common}' ELSE '{}' END,
    CASE WHEN id %% %(common)s = 0 THEN '{1}'::real[] ELSE '{}' END
FROM areas WHERE bucket = %(bucket)s AND input_number = ANY(%(numbers)s)
"""
_PREDICTIONS = """
INSERT INTO annotations (bucket, input_number, id, area_id, created_at, modified_at, status, trusted, model_id,
    model_version_id, concept_ids, concept_values)
SELECT bucket, input_number, md5('p' || id), id, created_at, created_at, 24150, false, 'general', 'bench',
    %(concepts)s, array_fill(0.5::real, ARRAY[cardinality(%(concepts)s::text[])])
FROM areas WHERE bucket = %(bucket)s AND input_number = ANY(%(numbers)s)
"""
_LABELS = """
INSERT INTO labels (bucket, concept_id, area_id, annotation_id, input_number, value, trusted, modified_at)
SELECT bucket, concept_ids[1], area_id, id, input_number, 1, true, created_at FROM annotations
WHERE bucket = %(bucket)s AND input_number = ANY(%(numbers)s) AND cardinality(concept_ids) = 1
"""
_CONCEPTS = """
INSERT INTO concepts (bucket, id, name, name_folded) SELECT %(bucket)s, c, c, c FROM unnest(%(ids)s::text[]) c
ON CONFLICT DO NOTHING
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """What the server's own model version needs to be known here: its vectors' length and some concepts it predicts."""

    model_id: str
    version: str
    dims: int
    concepts: tuple[str, ...]

    @staticmethod
    def built_in() -> Models:
        bundle = load_bundle(built_in_bundle())
        return Models(model_id=bundle.id, version=bundle.version, dims=bundle.dims, concepts=Tagger(bundle).ids)


def unit_vectors(count: int, dims: int, *, seed: int) -> NDArray[np.float32]:
    """Random unit vectors in clusters, as pictures of the same things lie together; the clusters stay the same."""
    centres = np.random.default_rng(0).standard_normal((_CLUSTERS, dims))
    random = np.random.default_rng(seed)
    found = centres[random.integers(0, _CLUSTERS, count)] + random.standard_normal((count, dims))
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


def add_areas(server: Server, models: Models, start: int, count: int) -> None:
    """Inputs ``bench-<start>`` and so on with their areas, annotations, labels and vectors, in one commit."""
    asyncio.run(_add(server, models, start, count))


async def _add(server: Server, models: Models, start: int, count: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a package remarks on a runtime folder that nobody here uses
        url = EmbeddedServer(server.data_dir, memory_bytes=machine_memory_bytes()).url_of_running()
    database = Database(url, max_connections=2)
    await database.open()
    try:
        table = await vectors.register(database, models.model_id, models.version, models.dims)
        async with database.transaction() as connection:
            await _write(connection, table, models, start, count)
        if count >= AREAS:
            await database.execute("ANALYZE")
    finally:
        await database.close()


async def _write(connection: Connection, table: EmbedderTable, models: Models, start: int, count: int) -> None:
    cursor = await connection.execute("SELECT first_bucket FROM apps WHERE user_id = %s AND id = %s", [USER, APP])
    row = await cursor.fetchone()
    assert row is not None, "the server has made its first app"
    bucket = row[0]
    await connection.execute(_CONCEPTS, {"bucket": bucket, "ids": list(_EVERY)})
    cursor = await connection.execute(_INPUTS, {"bucket": bucket, "start": start, "end": start + count})
    values = {
        "bucket": bucket,
        "numbers": [number for (number,) in await cursor.fetchall()],
        "user": USER,
        "rare": _EVERY[RARE],
        "common": _EVERY[COMMON],
        "concepts": list(models.concepts[:20]),
    }
    areas = await (await connection.execute(_AREAS, values)).fetchall()
    for statement in (_INPUT_LEVEL, _PREDICTIONS, _LABELS):
        await connection.execute(statement, values)
    version = await next_version(connection, bucket, labels=True)
    rows = VectorRows(
        area_ids=np.array([area for area, _, _ in areas], np.int64),
        input_numbers=np.array([number for _, number, _ in areas], np.int64),
        created_us=np.array([int(created.timestamp() * 1e6) for _, _, created in areas], np.int64),
        vectors=unit_vectors(count, models.dims, seed=start).astype(np.float16),
    )
    await vectors.insert(connection, table, bucket, version, rows)
