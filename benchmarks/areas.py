"""Indexed inputs written straight into the store: what PostInputs and ingest leave there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.server import USER, Server
from benchmarks.shares import ALL, BLANKS, LABELS, NOTHING
from sightrank.store import vectors
from sightrank.store.buckets import next_version
from sightrank.store.database import Connection, Database
from sightrank.store.vectors import EmbedderTable, VectorRows
from sightrank.vision.bundle import built_in_bundle, load_bundle
from sightrank.vision.concept_model import ConceptModel
from sightrank.vision.tagger import Tagger

#: Inputs of one commit while an app is being filled.
PORTION = 50_000
_CLUSTERS = 500
#: After so many the statistics are brought up to date, as PostgreSQL does by itself within a minute.
_MANY = 5_000

_INPUTS = """
INSERT INTO inputs (bucket, id, created_at, modified_at, status, media, blob, width, height, format, color_mode)
SELECT %(bucket)s, 'bench-' || n, now() + n * interval '1 us', now(), 30000, 'image', 'none', 640, 480, 'JPEG', 'RGB'
FROM generate_series(%(start)s::bigint, %(end)s::bigint - 1) n RETURNING substr(id, 7)::bigint, number
"""
_AREAS = """
INSERT INTO areas (bucket, input_number, created_at) SELECT bucket, number, created_at FROM inputs
WHERE bucket = %(bucket)s AND number = ANY(%(numbers)s) RETURNING id, input_number, created_at
"""
_INPUT_LEVEL = """
INSERT INTO annotations (bucket, input_number, id, area_id, created_at, modified_at, status, input_level, trusted,
    user_id, concept_ids, concept_values)
SELECT a.bucket, a.input_number, md5('a' || a.id), a.id, a.created_at, a.created_at, 24150, true, true, %(user)s, c.ids,
    array_fill(1::real, ARRAY[cardinality(c.ids)])
FROM unnest(%(serials)s::bigint[], %(numbers)s::bigint[]) AS n (serial, number)
JOIN areas a ON a.bucket = %(bucket)s AND a.input_number = n.number
CROSS JOIN LATERAL (
    SELECT ARRAY(
        SELECT s.id FROM unnest(%(shares)s::text[], %(every)s::int[], %(rests)s::int[]) AS s (id, every, rest)
        WHERE n.serial %% s.every = s.rest
    ) AS ids
) c
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
SELECT bucket, unnest(concept_ids), area_id, id, input_number, 1, true, created_at FROM annotations
WHERE bucket = %(bucket)s AND input_number = ANY(%(numbers)s) AND model_version_id = ''
"""
_MEMBERS = """
INSERT INTO dataset_inputs (bucket, dataset_id, input_number, created_at)
SELECT bucket, %(dataset)s, number, created_at FROM inputs WHERE bucket = %(bucket)s AND number = ANY(%(numbers)s)
"""
_CONCEPTS = """
INSERT INTO concepts (bucket, id, name, name_folded) SELECT %(bucket)s, c, c, c FROM unnest(%(ids)s::text[]) c
ON CONFLICT DO NOTHING
"""
_MODEL = """
INSERT INTO models (bucket, id, name, model_type_id) VALUES (%(bucket)s, %(model)s, %(model)s, 'embedding-classifier')
"""
_VERSION = """
INSERT INTO model_versions (bucket, id, model_id, status, concept_ids, completed_at)
VALUES (%(bucket)s, md5(%(model)s), %(model)s, 21100, %(ids)s, clock_timestamp())
"""
_FIT = """
INSERT INTO model_fits (bucket, model_version_id, embedder_id, fitted)
VALUES (%(bucket)s, md5(%(model)s), %(embedder)s, %(fitted)s)
"""
_DATASETS = """
INSERT INTO datasets (bucket, id) SELECT %(bucket)s, unnest(%(ids)s::text[]) ON CONFLICT DO NOTHING
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """What the server's own model version needs to be known here: its vectors' length and what it predicts."""

    model_id: str
    version: str
    dims: int
    tagger: Tagger

    @staticmethod
    def built_in() -> Models:
        bundle = load_bundle(built_in_bundle())
        return Models(model_id=bundle.id, version=bundle.version, dims=bundle.dims, tagger=Tagger.load(bundle))


def unit_vectors(count: int, dims: int, *, seed: int) -> NDArray[np.float32]:
    """Random unit vectors in clusters, as pictures of the same things lie together; the clusters stay the same."""
    centres = np.random.default_rng(0).standard_normal((_CLUSTERS, dims))
    random = np.random.default_rng(seed)
    found = centres[random.integers(0, _CLUSTERS, count)] + random.standard_normal((count, dims))
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


def stored_vectors(start: int, count: int, dims: int) -> NDArray[np.float16]:
    """The vectors of inputs ``bench-<start>`` and so on, as one call of ``Writer.add`` writes them."""
    return unit_vectors(count, dims, seed=start).astype(np.float16)


class Writer:
    """Writes inputs into one app, past the server."""

    def __init__(self, database: Database, table: EmbedderTable, models: Models, bucket: int) -> None:
        self._database = database
        self._table = table
        self._models = models
        self._bucket = bucket

    async def prepare(self) -> None:
        """Concepts and datasets that the filters name."""
        ids = [share.id for share in (*LABELS, NOTHING)] + list(BLANKS)
        async with self._database.transaction() as connection:
            await connection.execute(_CONCEPTS, {"bucket": self._bucket, "ids": ids})
            await connection.execute(_DATASETS, {"bucket": self._bucket, "ids": [ALL.id, *BLANKS]})

    async def add(self, start: int, count: int) -> None:
        """Inputs ``bench-<start>`` and so on with their areas, annotations, labels and vectors, in one commit."""
        async with self._database.transaction() as connection:
            await self._write(connection, start, count)

    async def teach(self, model_id: str, model: ConceptModel) -> None:
        """A trained version of a model, in one commit."""
        values = {
            "bucket": self._bucket,
            "ids": list(model.ids),
            "model": model_id,
            "embedder": self._table.id,
            "fitted": model.dump(),
        }
        async with self._database.transaction() as connection:
            for statement in (_CONCEPTS, _MODEL, _VERSION, _FIT):
                await connection.execute(statement, values)
            await next_version(connection, self._bucket, labels=True)

    async def analyze(self) -> None:
        await self._database.execute("ANALYZE")

    async def _write(self, connection: Connection, start: int, count: int) -> None:
        made = {"bucket": self._bucket, "start": start, "end": start + count}
        cursor = await connection.execute(_INPUTS, made)
        serials, numbers = zip(*await cursor.fetchall(), strict=True)
        values = {
            "bucket": self._bucket,
            "serials": list(serials),
            "numbers": list(numbers),
            "user": USER,
            "shares": [share.id for share in LABELS],
            "every": [share.every for share in LABELS],
            "rests": [share.rest for share in LABELS],
            "concepts": list(self._models.tagger.ids[:20]),
            "dataset": ALL.id,
        }
        areas = await (await connection.execute(_AREAS, values)).fetchall()
        for statement in (_INPUT_LEVEL, _PREDICTIONS, _LABELS, _MEMBERS):
            await connection.execute(statement, values)
        version = await next_version(connection, self._bucket, labels=True)
        rows = VectorRows(
            area_ids=np.array([area for area, _, _ in areas], np.int64),
            input_numbers=np.array([number for _, number, _ in areas], np.int64),
            created_us=np.array([int(created.timestamp() * 1e6) for _, _, created in areas], np.int64),
            vectors=stored_vectors(start, count, self._models.dims),
        )
        await vectors.insert(connection, self._table, self._bucket, version, rows)


@asynccontextmanager
async def writing(url: str, app_id: str, models: Models) -> AsyncIterator[Writer]:
    """A writer into an app of the database behind ``url``."""
    database = Database(url, max_connections=2)
    await database.open()
    try:
        table = await vectors.register(database, models.model_id, models.version, models.dims)
        row = await database.row("SELECT first_bucket FROM apps WHERE user_id = %s AND id = %s", [USER, app_id])
        assert row is not None, f"the app {app_id} has been made"
        yield Writer(database, table, models, row[0])
    finally:
        await database.close()


def add_areas(server: Server, models: Models, app_id: str, start: int, count: int) -> None:
    """Inputs ``bench-<start>`` and so on, in commits of 50,000."""

    async def add() -> None:
        async with writing(server.database_url(), app_id, models) as writer:
            await writer.prepare()
            for first in range(start, start + count, PORTION):
                await writer.add(first, min(PORTION, start + count - first))
            if count >= _MANY:
                await writer.analyze()

    asyncio.run(add())


def add_model(server: Server, models: Models, app_id: str, model_id: str, model: ConceptModel) -> None:
    """A model of the app, trained."""

    async def add() -> None:
        async with writing(server.database_url(), app_id, models) as writer:
            await writer.teach(model_id, model)

    asyncio.run(add())
