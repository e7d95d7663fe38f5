"""Vectors to the database and back: every bit, in parts of any size."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from sightrank.errors import InvalidRequest
from sightrank.store import vectors
from sightrank.store.database import Connection, Database
from sightrank.store.vectors import EmbedderTable, VectorRows

DIMS = 4


def with_database(url: str, scenario: Callable[[Database], Awaitable[Any]]) -> Any:
    async def opened() -> Any:
        database = Database(url)
        await database.open()
        try:
            return await scenario(database)
        finally:
            await database.close()

    return asyncio.run(opened())


async def areas(connection: Connection, bucket: int, count: int) -> list[int]:
    """Whole-image areas of as many new inputs."""
    cursor = await connection.execute(
        "WITH made AS (INSERT INTO inputs (bucket, id, created_at, modified_at, status, media)"
        " SELECT %(bucket)s, gen_random_uuid()::text, now(), now(), 30000, 'image' FROM generate_series(1, %(count)s)"
        " RETURNING number)"
        " INSERT INTO areas (bucket, input_number, created_at) SELECT %(bucket)s, number, now() FROM made RETURNING id",
        {"bucket": bucket, "count": count},
    )
    return sorted(area for (area,) in await cursor.fetchall())


async def stored(database: Database, table: EmbedderTable, bucket: int, version: int, values: np.ndarray) -> VectorRows:
    """Writes these vectors for new areas."""
    async with database.transaction() as connection:
        ids = np.array(await areas(connection, bucket, len(values)), np.int64)
        rows = VectorRows(
            area_ids=ids, input_numbers=ids * 2, created_us=ids * 1_000_000_007, vectors=values.astype(np.float16)
        )
        await vectors.insert(connection, table, bucket, version, rows)
    return rows


async def parts(database: Database, table: EmbedderTable, bucket: int, version: int) -> list[VectorRows]:
    async with database.connection() as connection:
        return [part async for part in vectors.changed_since(connection, table, bucket, version)]


def joined(found: list[VectorRows]) -> VectorRows:
    order = np.argsort(np.concatenate([part.area_ids for part in found]))
    return VectorRows(
        area_ids=np.concatenate([part.area_ids for part in found])[order],
        input_numbers=np.concatenate([part.input_numbers for part in found])[order],
        created_us=np.concatenate([part.created_us for part in found])[order],
        vectors=np.concatenate([part.vectors for part in found])[order],
    )


def assert_same(found: VectorRows, expected: VectorRows) -> None:
    assert found.area_ids.tolist() == expected.area_ids.tolist()
    assert found.input_numbers.tolist() == expected.input_numbers.tolist()
    assert found.created_us.tolist() == expected.created_us.tolist()
    assert np.array_equal(found.vectors.view(np.uint16), expected.vectors.view(np.uint16))


def random_values(count: int, dims: int = DIMS) -> np.ndarray:
    return np.random.default_rng(count).normal(size=(count, dims))


@pytest.mark.parametrize("dims", [1, 3, 256, 1024])
def test_vectors_come_back_bit_by_bit(database_url: str, dims: int) -> None:
    async def scenario(database: Database) -> tuple[VectorRows, list[VectorRows]]:
        table = await vectors.register(database, "model", "v1", dims)
        written = await stored(database, table, 1, 1, random_values(20, dims))
        return written, await parts(database, table, 1, 0)

    written, read = with_database(database_url, scenario)

    assert len(read) == 1
    assert_same(read[0], written)


def test_extreme_half_floats_come_back(database_url: str) -> None:
    values = np.array([[0.0, -0.0, 65504.0, -65504.0], [6e-8, -6e-8, 6.1e-5, 1.0009765625]])

    async def scenario(database: Database) -> tuple[VectorRows, list[VectorRows]]:
        table = await vectors.register(database, "model", "v1", DIMS)
        return await stored(database, table, 1, 1, values), await parts(database, table, 1, 0)

    written, read = with_database(database_url, scenario)

    assert_same(read[0], written)


def test_a_bucket_without_vectors_has_no_parts(database_url: str) -> None:
    async def scenario(database: Database) -> list[VectorRows]:
        table = await vectors.register(database, "model", "v1", DIMS)
        await stored(database, table, 2, 1, random_values(3))
        await stored(database, table, 1, 1, random_values(0))
        return await parts(database, table, 1, 0)

    assert with_database(database_url, scenario) == []


def test_only_what_is_newer_than_the_version_comes(database_url: str) -> None:
    async def scenario(database: Database) -> tuple[list[VectorRows], list[list[VectorRows]]]:
        table = await vectors.register(database, "model", "v1", DIMS)
        written = [await stored(database, table, 1, version, random_values(version)) for version in (1, 2, 3)]
        return written, [await parts(database, table, 1, version) for version in (0, 1, 2, 3)]

    written, since = with_database(database_url, scenario)

    assert [sum(len(part.area_ids) for part in found) for found in since] == [6, 5, 3, 0]
    assert_same(joined(since[2]), written[2])


@pytest.mark.parametrize("chunk", [20, 63, 64, 65, 100, 19 + 4 * 56, 19 + 4 * 56 + 2, 1000])
def test_parts_of_any_size_lose_nothing_at_their_borders(
    database_url: str, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    # A row takes 56 bytes here: 2 and three times 12 in front of 8 for the vector's head and 10 for what is left of it.
    monkeypatch.setattr(vectors, "_CHUNK_BYTES", chunk)

    async def scenario(database: Database) -> tuple[VectorRows, list[list[VectorRows]]]:
        table = await vectors.register(database, "model", "v1", DIMS)
        written = await stored(database, table, 1, 1, random_values(40))
        found = [await parts(database, table, 1, 0)]
        # And with exactly as many rows as fill the chunk.
        for count in range(1, 6):
            await stored(database, table, 10 + count, 1, random_values(count))
            found.append(await parts(database, table, 10 + count, 0))
        return written, found

    written, found = with_database(database_url, scenario)

    assert_same(joined(found[0]), written)
    assert [sum(len(part.area_ids) for part in some) for some in found[1:]] == [1, 2, 3, 4, 5]


def test_a_model_version_is_registered_once_by_any_number_of_processes(database_url: str) -> None:
    async def scenario(database: Database) -> list[EmbedderTable]:
        return await asyncio.gather(*(vectors.register(database, "model", "v1", DIMS) for _ in range(8)))

    tables = with_database(database_url, scenario)

    assert len({table.id for table in tables}) == 1


def test_versions_of_a_model_have_tables_of_their_own(database_url: str) -> None:
    async def scenario(database: Database) -> tuple[EmbedderTable, EmbedderTable, list[VectorRows]]:
        old = await vectors.register(database, "model", "v1", DIMS)
        new = await vectors.register(database, "model", "v2", DIMS + 1)
        await stored(database, old, 1, 1, random_values(2))
        return old, new, await parts(database, new, 1, 0)

    old, new, found = with_database(database_url, scenario)

    assert (old.id == new.id, old.dims, new.dims, found) == (False, DIMS, DIMS + 1, [])


def test_another_dimension_for_a_registered_version_is_refused(database_url: str) -> None:
    async def scenario(database: Database) -> None:
        await vectors.register(database, "model", "v1", DIMS)
        await vectors.register(database, "model", "v1", DIMS + 1)

    with pytest.raises(ValueError, match=r"model v1 is registered with 4 dimensions, not 5"):
        with_database(database_url, scenario)


def test_vectors_of_another_dimension_cannot_be_written(database_url: str) -> None:
    async def scenario(database: Database) -> None:
        table = await vectors.register(database, "model", "v1", DIMS)
        await stored(database, EmbedderTable(id=table.id, dims=DIMS + 1), 1, 1, random_values(2, DIMS + 1))

    with pytest.raises(InvalidRequest, match="expected 4 dimensions, not 5"):
        with_database(database_url, scenario)


def test_vectors_go_with_their_areas(database_url: str) -> None:
    async def scenario(database: Database) -> list[VectorRows]:
        table = await vectors.register(database, "model", "v1", DIMS)
        written = await stored(database, table, 1, 1, random_values(5))
        gone = written.area_ids[:2].tolist()
        await database.execute("DELETE FROM areas WHERE bucket = 1 AND id = ANY(%s)", [gone])
        return await parts(database, table, 1, 0)

    (found,) = with_database(database_url, scenario)

    assert len(found.area_ids) == 3
