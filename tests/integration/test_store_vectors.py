"""Vectors to the database and back: every bit, in parts of any size."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import numpy as np
import psycopg
import pytest

from sightrank.errors import InvalidRequest
from sightrank.store import vectors
from sightrank.store.database import Connection, Database
from sightrank.store.vectors import EmbedderTable, ProductRows, VectorRows

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


# Parts by areas and inputs -------------------------------------------------------------------------------------------


async def gathered(parts: AsyncGenerator[VectorRows, None]) -> list[VectorRows]:
    return [part async for part in parts]


async def with_inputs_of(database: Database, table: EmbedderTable, sizes: list[int]) -> VectorRows:
    """Inputs with as many areas each, written in an order of their own."""
    async with database.transaction() as connection:
        ids = np.array(await areas(connection, 1, sum(sizes)), np.int64)
        numbers = np.repeat(np.arange(len(sizes)) + 1, sizes)
        order = np.random.default_rng(1).permutation(len(ids))
        rows = VectorRows(
            area_ids=ids[order],
            input_numbers=numbers[order],
            created_us=ids[order],
            vectors=random_values(len(ids))[order].astype(np.float16),
        )
        await vectors.insert(connection, table, 1, 1, rows)
    return rows


@pytest.mark.parametrize("chunk", [20, 100, 57 * 5, 1000, 8 * 2**20])
def test_parts_by_input_never_divide_an_input(database_url: str, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(vectors, "_CHUNK_BYTES", chunk)
    sizes = [1, 1, 3, 1, 9, 2, 2, 1, 5, 1, 1, 12]

    async def scenario(database: Database) -> tuple[VectorRows, list[VectorRows], list[ProductRows]]:
        table = await vectors.register(database, "model", "v1", DIMS)
        written = await with_inputs_of(database, table, sizes)
        async with vectors.snapshot(database) as connection:
            found = await gathered(vectors.of_bucket(connection, table, 1, by_input=True))
            directions = np.eye(DIMS, dtype=np.float16)[:2]
            products = [part async for part in vectors.products(connection, table, 1, directions, by_input=True)]
        return written, found, products

    written, found, products = with_database(database_url, scenario)

    order = np.argsort(written.area_ids)
    assert_same(joined(found), replace_order(written, order))
    for parts in (found, products):
        assert (
            np.concatenate([part.input_numbers for part in parts]).tolist()
            == np.repeat(np.arange(len(sizes)) + 1, sizes).tolist()
        )
        of_parts = [set(part.input_numbers.tolist()) for part in parts]
        assert sum(map(len, of_parts)) == len(sizes)
    if chunk <= 100:
        assert len(found) > 5


def replace_order(rows: VectorRows, order: np.ndarray) -> VectorRows:
    return VectorRows(
        area_ids=rows.area_ids[order],
        input_numbers=rows.input_numbers[order],
        created_us=rows.created_us[order],
        vectors=rows.vectors[order],
    )


def test_vectors_of_chosen_areas_and_inputs(database_url: str) -> None:
    async def scenario(database: Database) -> None:
        table = await vectors.register(database, "model", "v1", DIMS)
        written = await with_inputs_of(database, table, [2, 1, 3])
        chosen = np.r_[written.area_ids[[0, 3]], 999_999]
        none = np.empty(0, np.int64)
        async with vectors.snapshot(database) as connection:
            (of_areas,) = await gathered(vectors.of_areas(connection, table, 1, chosen))
            (of_inputs,) = await gathered(vectors.of_inputs(connection, table, 1, np.array([1, 3, 77])))
            inputs = await vectors.inputs_of(connection, table, 1, chosen)
            assert await gathered(vectors.of_areas(connection, table, 1, none)) == []
            assert await gathered(vectors.of_areas(connection, table, 2, chosen)) == []
            assert (await vectors.inputs_of(connection, table, 1, none)).tolist() == []

        assert sorted(of_areas.area_ids.tolist()) == sorted(written.area_ids[[0, 3]].tolist())
        assert of_inputs.input_numbers.tolist() == [1, 1, 3, 3, 3]
        assert sorted(inputs.tolist()) == sorted(set(written.input_numbers[[0, 3]].tolist()))

    with_database(database_url, scenario)


@pytest.mark.parametrize("how", [vectors.nearest_by_index, vectors.nearest_by_scan])
def test_the_nearest_come_first_with_their_products(database_url: str, how: Any) -> None:
    async def scenario(database: Database) -> None:
        table = await vectors.register(database, "model", "v1", DIMS)
        written = await with_inputs_of(database, table, [1] * 50)
        towards = np.array([0.5, -0.25, 0.125, 1.0], np.float16)
        async with vectors.snapshot(database) as connection, how(connection):
            found = await vectors.nearest(connection, table, 1, towards, 7)
            everything = await vectors.nearest(connection, table, 1, towards, 70)
            nothing = await vectors.nearest(connection, table, 2, towards, 7)
        products = written.vectors.astype(np.float64) @ towards.astype(np.float64)
        order = np.argsort(-products)

        assert found.area_ids.tolist() == written.area_ids[order[:7]].tolist()
        assert found.input_numbers.tolist() == written.input_numbers[order[:7]].tolist()
        assert np.allclose(found.products[:, 0], products[order[:7]], rtol=0, atol=1e-5)
        assert everything.area_ids.tolist() == written.area_ids[order].tolist()
        assert nothing.products.shape == (0, 1)

    with_database(database_url, scenario)


def test_products_with_several_directions_and_with_none(database_url: str) -> None:
    async def scenario(database: Database) -> None:
        table = await vectors.register(database, "model", "v1", DIMS)
        written = await with_inputs_of(database, table, [1] * 30)
        directions = random_values(3).astype(np.float16)
        async with vectors.snapshot(database) as connection:
            (found,) = [part async for part in vectors.products(connection, table, 1, directions)]
            (bare,) = [part async for part in vectors.products(connection, table, 1, directions[:0])]
        expected = dict(
            zip(
                written.area_ids.tolist(),
                written.vectors.astype(np.float64) @ directions.astype(np.float64).T,
                strict=True,
            )
        )

        assert np.allclose(found.products, [expected[area] for area in found.area_ids.tolist()], rtol=0, atol=1e-5)
        assert sorted(found.area_ids.tolist()) == sorted(bare.area_ids.tolist()) == sorted(expected)
        assert bare.products.shape == (30, 0)

    with_database(database_url, scenario)


def test_a_snapshot_sees_one_state_and_writes_nothing(database_url: str) -> None:
    async def scenario(database: Database) -> None:
        table = await vectors.register(database, "model", "v1", DIMS)
        await stored(database, table, 1, 1, random_values(3))
        async with vectors.snapshot(database) as connection:
            before = await gathered(vectors.of_bucket(connection, table, 1))
            await stored(database, table, 1, 2, random_values(4))
            after = await gathered(vectors.of_bucket(connection, table, 1))
        assert len(before[0].area_ids) == len(after[0].area_ids) == 3
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            async with vectors.snapshot(database) as connection:
                await connection.execute("DELETE FROM areas")

    with_database(database_url, scenario)


def test_an_error_in_the_middle_of_the_vectors_is_told_and_passes(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "_CHUNK_BYTES", 1000)

    async def scenario(database: Database) -> None:
        table = await vectors.register(database, "model", "v1", 1024)
        await stored(database, table, 1, 1, random_values(3000, 1024))
        with pytest.raises(psycopg.errors.QueryCanceled):
            async with vectors.snapshot(database) as connection:
                await interrupted(database, connection, table)

        assert sum(len(part.area_ids) for part in await parts(database, table, 1, 0)) == 3000

    with_database(database_url, scenario)


async def interrupted(database: Database, connection: Connection, table: EmbedderTable) -> None:
    """Somebody cancels the statement in PostgreSQL after the first part."""
    async with aclosing(vectors.of_bucket(connection, table, 1)) as found:
        async for _ in found:
            await database.execute("SELECT pg_cancel_backend(%s)", [connection.info.backend_pid])
