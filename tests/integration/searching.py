"""Server processes as far as searching needs them: a pool, the matrices and an engine each, and ways to write."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tests.eyes import blind_eye

from sightrank.ingest.rows import AnnotationRow, insert_annotations, new_id
from sightrank.search.concepts import ConceptBook
from sightrank.search.engine import Hit, SearchEngine
from sightrank.search.fits import Fits
from sightrank.search.follow import Matrices
from sightrank.search.query import ConceptTerm, ImageTerm, Query, Rank, Unit, VectorTerm
from sightrank.search.scope import SearchScope
from sightrank.store import queries, vectors
from sightrank.store.buckets import next_version
from sightrank.store.database import Connection, Database
from sightrank.store.vectors import EmbedderTable, VectorRows
from sightrank.vision.eye import Eye
from sightrank.vision.vocabulary import Vocabulary

DIMS = 8
MUCH = 2**30  # memory for every matrix of a test
_INPUTS = queries.load("inputs")


@dataclass(frozen=True)
class Photo:
    """An indexed input with its only area."""

    id: str
    number: int
    area_id: int
    vector: NDArray[np.float16]


@dataclass(frozen=True)
class Process:
    """What one server process has of its own."""

    database: Database
    table: EmbedderTable
    matrices: Matrices
    engine: SearchEngine

    async def numbers(self, bucket: int, term: VectorTerm | ConceptTerm, unit: Unit = Unit.INPUT) -> list[int]:
        """Input numbers of all hits, best first."""
        return [hit.input_number for hit in await self.hits(bucket, term, unit)]

    async def hits(self, bucket: int, term: VectorTerm | ConceptTerm, unit: Unit = Unit.INPUT) -> list[Hit]:
        query = Query(unit=unit, filters=(), ranks=(Rank(terms=(term,)),), min_value=0.0, offset=0, limit=1000)
        scope = SearchScope(bucket=bucket, default_language="en", table=self.table, eye=blind_eye())
        return await self.engine.run(scope, query)

    async def new_bucket(self) -> int:
        row = await self.database.row("INSERT INTO app_buckets DEFAULT VALUES RETURNING bucket")
        assert row is not None
        await self.database.execute(
            "INSERT INTO concepts (bucket, id, name, name_folded) VALUES (%s, 'mine', 'mine', 'mine')", [row[0]]
        )
        return int(row[0])

    async def new_app(self, workflow_id: str) -> int:
        """The bucket of an app of the user ``me`` that has this base workflow."""
        bucket = await self.new_bucket()
        await self.database.execute(
            "INSERT INTO apps (user_id, id, first_bucket, workflow_id) VALUES ('me', %s, %s, %s)",
            [f"app-{bucket}", bucket, workflow_id],
        )
        return bucket

    async def add(self, bucket: int, *chosen: NDArray[np.float64]) -> list[Photo]:
        """Indexed inputs with these vectors, in one commit."""
        async with self.database.transaction() as connection:
            cursor = await connection.execute(
                "INSERT INTO inputs (bucket, id, created_at, modified_at, status, media)"
                " SELECT %s, unnest(%s::text[]), clock_timestamp(), now(), 30000, 'image' RETURNING number, id",
                [bucket, [new_id() for _ in chosen]],
            )
            ids = dict(await cursor.fetchall())
            cursor = await connection.execute(_INPUTS["insert_whole_areas"], {"bucket": bucket, "numbers": sorted(ids)})
            photos = [
                Photo(ids[number], number, area_id, vector.astype(np.float16))
                for (number, area_id), vector in zip(sorted(await cursor.fetchall()), chosen, strict=True)
            ]
            await self._store(connection, bucket, photos)
        return photos

    async def _store(self, connection: Connection, bucket: int, photos: list[Photo]) -> None:
        version = await next_version(connection, bucket, labels=False)
        rows = VectorRows(
            area_ids=np.array([photo.area_id for photo in photos], np.int64),
            input_numbers=np.array([photo.number for photo in photos], np.int64),
            created_us=np.array([photo.number for photo in photos], np.int64),
            vectors=np.stack([photo.vector for photo in photos]),
        )
        await vectors.insert(connection, self.table, bucket, version, rows)

    async def label(self, bucket: int, photo: Photo, value: float) -> None:
        """A trusted word of a person on the concept ``mine``."""
        async with self.database.transaction() as connection:
            row = AnnotationRow(
                input_number=photo.number,
                id=new_id(),
                area_id=photo.area_id,
                created_at=datetime.now(UTC),
                status=24150,
                trusted=True,
                concept_ids=["mine"],
                concept_values=[value],
            )
            await insert_annotations(connection, bucket, [row])
            await next_version(connection, bucket, labels=True)

    async def delete(self, bucket: int, *photos: Photo) -> None:
        async with self.database.transaction() as connection:
            numbers = {"bucket": bucket, "numbers": [photo.number for photo in photos]}
            version = await next_version(connection, bucket, labels=True)
            await connection.execute(_INPUTS["record_removals"], {**numbers, "version": version})
            await connection.execute(_INPUTS["delete"], numbers)


@asynccontextmanager
async def process(url: str, *, memory_bytes: int = MUCH) -> AsyncIterator[Process]:
    database = Database(url, max_connections=8)
    await database.open()
    try:
        matrices = Matrices(database, Fits(database), memory_bytes=memory_bytes)
        table = await vectors.register(database, "model", "v1", DIMS)
        engine = SearchEngine(database, matrices, ConceptBook(Vocabulary.empty()), _no_image)
        yield Process(database, table, matrices, engine)
    finally:
        await database.close()


async def _no_image(bucket: int, eye: Eye, term: ImageTerm) -> NDArray[np.float32]:
    raise AssertionError("no search here has an image")


def random_unit(seed: int) -> NDArray[np.float64]:
    vector = np.random.default_rng([seed, 3]).normal(size=DIMS)
    return np.asarray(vector / np.linalg.norm(vector))


def like(vector: NDArray[Any]) -> VectorTerm:
    return VectorTerm(vectors=(tuple(vector.astype(float).tolist()),))
