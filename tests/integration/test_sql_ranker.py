"""Ranking inside PostgreSQL gives what ranking in memory gives, hit by hit, whichever way it takes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sightrank.search import sql_ranker
from sightrank.search.bounds import without_indifference
from sightrank.search.compiled import NO_LABELS, CompiledRank, CompiledTerm, Labels
from sightrank.search.matrix import Matrix, Rows
from sightrank.search.query import Unit
from sightrank.search.rank import rank
from sightrank.search.ranker import Ranked
from sightrank.search.score import Direction, Link, unit
from sightrank.search.sql_ranker import SqlRanker
from sightrank.store import vector_index, vectors
from sightrank.store.database import Connection, Database
from sightrank.store.vectors import EmbedderTable, VectorRows

DIMS = 8
BUCKET = 1
COUNTS = (1, 41, 100, 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """An app in the database, and the same in memory."""

    database: Database
    table: EmbedderTable
    rows: VectorRows

    @property
    def ranker(self) -> SqlRanker:
        return SqlRanker(self.database, self.table, BUCKET)

    @property
    def matrix(self) -> Matrix:
        matrix = Matrix(self.table.dims)
        rows = self.rows
        matrix.upsert(
            Rows(
                area_ids=rows.area_ids,
                input_numbers=rows.input_numbers,
                created_us=rows.created_us,
                vectors=rows.vectors,
            )
        )
        return matrix

    def labels(self, count: int, *, seed: int = 2) -> Labels:
        random = np.random.default_rng(seed)
        areas = random.choice(self.rows.area_ids, size=count, replace=False)
        # One label is on an area that has no vector (any more).
        values = random.choice([0.0, 0.25, 1.0, 1.0], size=count + 1)
        return Labels(area_ids=np.r_[areas, 9_999_999], values=values)


def unit_vector(seed: int, dims: int = DIMS) -> NDArray[np.float64]:
    found = unit(np.random.default_rng([seed, 77]).normal(size=dims))
    assert found is not None
    return found


def photos(count: int, *, seed: int = 1, copies: float = 0.3, dims: int = DIMS) -> NDArray[np.float64]:
    """Unit vectors, of which a share are copies of a few, bit by bit, and some their very opposites."""
    random = np.random.default_rng(seed)
    found = random.normal(size=(count, dims))
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    chosen = random.random(count) < copies
    found[chosen] = found[random.integers(0, 4, chosen.sum())]
    found[random.random(count) < copies / 10] *= -1
    return found


async def store(
    connection: Connection, table: EmbedderTable, values: NDArray[np.float64], *, bucket: int, first: int, each: int = 1
) -> VectorRows:
    """Inputs with ``each`` areas each, whose creation has nothing to do with their numbers."""
    random = np.random.default_rng(first)
    areas = first + random.permutation(len(values))
    numbers = first + (areas - first) // each
    created = random.permutation(len(values)) // 4
    await connection.execute("INSERT INTO app_buckets (bucket) VALUES (%s) ON CONFLICT DO NOTHING", [bucket])
    await connection.execute(
        "INSERT INTO inputs (bucket, number, id, created_at, modified_at, status, media)"
        " SELECT %(bucket)s, number, 'in-' || number, now(), now(), 30000, 'image'"
        " FROM (SELECT DISTINCT unnest(%(numbers)s::bigint[])) n (number)",
        {"bucket": bucket, "numbers": numbers.tolist()},
    )
    await connection.execute(
        "INSERT INTO areas (bucket, id, input_number, created_at, region_id) SELECT %(bucket)s, id, number, now(),"
        " 'r-' || id FROM unnest(%(areas)s::bigint[], %(numbers)s::bigint[]) a (id, number)",
        {"bucket": bucket, "areas": areas.tolist(), "numbers": numbers.tolist()},
    )
    rows = VectorRows(area_ids=areas, input_numbers=numbers, created_us=created, vectors=values.astype(np.float16))
    await vectors.insert(connection, table, bucket, 1, rows)
    return rows


def with_app(
    url: str,
    scenario: Callable[[Stored], Awaitable[Any]],
    values: NDArray[np.float64],
    *,
    each: int = 1,
    index: bool = False,
) -> Any:
    """An app between two others, all on one table."""

    async def opened() -> Any:
        database = Database(url)
        await database.open()
        try:
            dims = values.shape[1]
            table = await vectors.register(database, "model", "v1", dims)
            async with database.transaction() as connection:
                await store(connection, table, photos(50, seed=8, dims=dims), bucket=2, first=1)
                rows = await store(connection, table, values, bucket=BUCKET, first=1000, each=each)
                await store(connection, table, photos(50, seed=9, dims=dims), bucket=3, first=900_000)
            if index:
                async with database.connection() as connection:
                    await vector_index.create(connection, table.id, BUCKET)
            await database.execute("ANALYZE")
            return await scenario(Stored(database=database, table=table, rows=rows))
        finally:
            await database.close()

    return asyncio.run(opened())


def in_memory(stored: Stored, ranks: tuple[CompiledRank, ...], by: Unit, count: int) -> Ranked:
    matrix = stored.matrix
    found = rank(matrix, without_indifference(ranks), by, np.arange(len(matrix)), count)
    return Ranked(
        area_ids=matrix.area_ids[found.rows],
        input_numbers=matrix.input_numbers[found.rows],
        log_scores=found.log_scores,
    )


def assert_same(found: Ranked, expected: Ranked) -> None:
    assert found.area_ids.tolist() == expected.area_ids.tolist()
    assert found.input_numbers.tolist() == expected.input_numbers.tolist()
    assert found.log_scores.tolist() == expected.log_scores.tolist()


def same(seed: int, dims: int = DIMS) -> CompiledTerm:
    return CompiledTerm(alternatives=((Direction(vector=unit_vector(seed, dims)), NO_LABELS),))


def concept(
    seed: int, *, value: float = 1.0, said: Labels = NO_LABELS, scale: float = 20.0, bias: float = -6.0
) -> CompiledTerm:
    direction = Direction(vector=unit_vector(seed), link=Link.SIGMOID, scale=scale, bias=bias)
    return CompiledTerm(alternatives=((direction, said),), value=value)


def one(term: CompiledTerm, *, negate: bool = False) -> tuple[CompiledRank, ...]:
    return (CompiledRank(terms=(term,), negate=negate),)


Ranks = Callable[[Stored], tuple[CompiledRank, ...]]
QUERIES: dict[str, Ranks] = {
    "image": lambda stored: one(same(1)),
    "image, negated": lambda stored: one(same(1), negate=True),
    "concept": lambda stored: one(concept(2)),
    "concept of value 0": lambda stored: one(concept(2, value=0.0)),
    "concept of value .5": lambda stored: one(concept(2, value=0.5)),
    "labelled concept": lambda stored: one(concept(2, said=stored.labels(40))),
    "labelled concept of value 0, negated": lambda stored: one(
        concept(2, value=0.0, said=stored.labels(40)), negate=True
    ),
    "labels alone": lambda stored: one(
        CompiledTerm(alternatives=((Direction(vector=None), stored.labels(30)),)), negate=True
    ),
    "nothing known": lambda stored: one(CompiledTerm(alternatives=((Direction(vector=None), NO_LABELS),))),
    "a falling sigmoid": lambda stored: one(concept(3, scale=-30.0, bias=0.0)),
    "a flat sigmoid": lambda stored: one(concept(3, scale=1500.0, bias=0.0)),
    "two ranks": lambda stored: (*one(same(4)), *one(concept(5), negate=True)),
    "three ranks": lambda stored: (*one(same(4)), *one(concept(5, said=stored.labels(25))), *one(same(6), negate=True)),
    "two terms": lambda stored: (CompiledRank(terms=(concept(7), concept(8, value=0.3)), negate=True),),
    "alternatives": lambda stored: one(
        CompiledTerm(
            alternatives=(*concept(9, said=stored.labels(20)).alternatives, *concept(10).alternatives), value=1.0
        )
    ),
}


@pytest.mark.parametrize("by", Unit)
@pytest.mark.parametrize("each", [1, 3])
@pytest.mark.parametrize("index", [False, True])
def test_every_page_is_that_of_memory(database_url: str, by: Unit, each: int, index: bool) -> None:
    async def scenario(stored: Stored) -> None:
        for name, ranks in QUERIES.items():
            compiled = ranks(stored)
            for count in COUNTS:
                found = await stored.ranker.best(compiled, by, count)

                expected = in_memory(stored, compiled, by, count)
                assert found.area_ids.tolist() == expected.area_ids.tolist(), (name, count)
                assert_same(found, expected)

    with_app(database_url, scenario, photos(1500), each=each, index=index)


# Ways of finding the few ---------------------------------------------------------------------------------------------


class _Unused(AssertionError):
    """A way was taken that was to be shut."""


async def _shut(*_: object) -> Ranked | None:
    raise _Unused


async def _fails(*_: object) -> Ranked | None:
    return None


def only(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """Leaves the ways before ``way`` without a result and shuts those behind it."""
    ways = ["_by_neighbours", "_by_products", "_by_vectors"]
    for name in ways[: ways.index(way)]:
        monkeypatch.setattr(SqlRanker, name, _fails)
    for name in ways[ways.index(way) + 1 :]:
        monkeypatch.setattr(SqlRanker, name, _shut)


@pytest.mark.parametrize("way", ["_by_products", "_by_vectors"])
@pytest.mark.parametrize("by", Unit)
@pytest.mark.parametrize("each", [1, 3])
def test_the_exact_ways_are_exact_in_parts_of_any_size(
    database_url: str, monkeypatch: pytest.MonkeyPatch, way: str, by: Unit, each: int
) -> None:
    only(monkeypatch, way)
    monkeypatch.setattr(vectors, "_CHUNK_BYTES", 3000)

    async def scenario(stored: Stored) -> None:
        for name, ranks in QUERIES.items():
            compiled = ranks(stored)
            for count in (1, 41, 1000):
                found = await stored.ranker.best(compiled, by, count)

                expected = in_memory(stored, compiled, by, count)
                assert found.area_ids.tolist() == expected.area_ids.tolist(), (name, count)
                assert_same(found, expected)

    with_app(database_url, scenario, photos(700), each=each)


@pytest.mark.parametrize("index", [False, True])
def test_neighbours_alone_make_a_page_certain(database_url: str, monkeypatch: pytest.MonkeyPatch, index: bool) -> None:
    only(monkeypatch, "_by_neighbours")
    monkeypatch.setattr(sql_ranker, "_NEIGHBOURS", 800)

    async def scenario(stored: Stored) -> None:
        for query in ("image", "image, negated", "labelled concept", "a falling sigmoid"):
            compiled = QUERIES[query](stored)
            for by in Unit:
                found = await stored.ranker.best(compiled, by, 20)

                assert_same(found, in_memory(stored, compiled, by, 20))

    with_app(database_url, scenario, photos(3000, copies=0.0), each=2, index=index)


@pytest.mark.parametrize("by", Unit)
def test_related_ranks_are_certain_by_their_neighbours(
    database_url: str, monkeypatch: pytest.MonkeyPatch, by: Unit
) -> None:
    only(monkeypatch, "_by_neighbours")
    monkeypatch.setattr(sql_ranker, "_NEIGHBOURS", 300)
    near = unit(unit_vector(1) + 0.2 * unit_vector(2))
    assert near is not None
    ranks = (*one(same(1)), CompiledRank(terms=(CompiledTerm(alternatives=((Direction(vector=near), NO_LABELS),)),)))

    async def scenario(stored: Stored) -> None:
        found = await stored.ranker.best(ranks, by, 10)

        assert_same(found, in_memory(stored, ranks, by, 10))

    with_app(database_url, scenario, photos(3000, copies=0.0), each=2)


def test_neighbours_that_cannot_tell_leave_it_to_the_products(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_ranker, "_NEIGHBOURS", 20)
    taken: list[str] = []
    by_products = SqlRanker._by_products

    async def noted(self: SqlRanker, *arguments: Any) -> Ranked | None:
        taken.append("products")
        return await by_products(self, *arguments)

    monkeypatch.setattr(SqlRanker, "_by_products", noted)
    opposed = (*one(same(1)), *one(same(1), negate=True))

    async def scenario(stored: Stored) -> None:
        found = await stored.ranker.best(opposed, Unit.ANNOTATION, 20)

        assert_same(found, in_memory(stored, opposed, Unit.ANNOTATION, 20))

    with_app(database_url, scenario, photos(1000))

    assert taken == ["products"]


@pytest.mark.parametrize("by", Unit)
def test_copies_without_end_come_in_the_order_of_creation(
    database_url: str, monkeypatch: pytest.MonkeyPatch, by: Unit
) -> None:
    # More equal vectors than contenders are kept: only reading all of them can tell who is first.
    monkeypatch.setattr(sql_ranker, "_NEIGHBOURS", 50)
    monkeypatch.setattr(sql_ranker, "_MOST_CONTENDERS", 100)
    ranks = one(same(1))

    async def scenario(stored: Stored) -> None:
        for count in (1, 41, 300):
            found = await stored.ranker.best(ranks, by, count)

            assert_same(found, in_memory(stored, ranks, by, count))

    with_app(database_url, scenario, np.repeat(photos(1), 900, axis=0), each=2, index=True)


@pytest.mark.parametrize("by", Unit)
def test_more_labels_than_contenders_need_no_vectors(
    database_url: str, monkeypatch: pytest.MonkeyPatch, by: Unit
) -> None:
    only(monkeypatch, "_by_products")
    monkeypatch.setattr(sql_ranker, "_MOST_LABELLED", 10)
    monkeypatch.setattr(sql_ranker, "_MOST_CONTENDERS", 200)

    async def scenario(stored: Stored) -> None:
        said = Labels(area_ids=stored.rows.area_ids[:800], values=np.ones(800))
        ranks = one(concept(2, said=said))
        for count in (1, 50):
            found = await stored.ranker.best(ranks, by, count)

            assert_same(found, in_memory(stored, ranks, by, count))

    with_app(database_url, scenario, photos(900))


def test_pages_neither_skip_nor_repeat(database_url: str) -> None:
    ranks = one(same(1), negate=True)

    async def scenario(stored: Stored) -> None:
        whole = await stored.ranker.best(ranks, Unit.INPUT, 3000)
        for count in (20, 999, 1000, 1001, 2001):
            found = await stored.ranker.best(ranks, Unit.INPUT, count)
            assert found.area_ids.tolist() == whole.area_ids[:count].tolist()
        assert len(set(whole.input_numbers.tolist())) == len(whole.input_numbers) == 1500

    with_app(database_url, scenario, photos(3000), each=2, index=True)


# Among candidates, means ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", Unit)
@pytest.mark.parametrize("chunk", [3000, 8 * 2**20])
def test_candidates_are_ranked_among_themselves(
    database_url: str, monkeypatch: pytest.MonkeyPatch, by: Unit, chunk: int
) -> None:
    monkeypatch.setattr(vectors, "_CHUNK_BYTES", chunk)

    async def scenario(stored: Stored) -> None:
        matrix = stored.matrix
        # One area has no vector (any more), and one is another app's.
        chosen = np.r_[np.random.default_rng(3).choice(stored.rows.area_ids, 400, replace=False), 9_999_999, 1]
        rows = matrix.rows_of(chosen)
        for name, ranks in QUERIES.items():
            compiled = without_indifference(ranks(stored))
            found = await stored.ranker.best_among(compiled, by, 30, chosen)

            expected = rank(matrix, compiled, by, rows[rows >= 0], 30)
            assert found.area_ids.tolist() == matrix.area_ids[expected.rows].tolist(), name
            assert found.log_scores.tolist() == expected.log_scores.tolist()

    with_app(database_url, scenario, photos(900), each=3)


def test_means_are_those_of_the_stored_vectors(database_url: str) -> None:
    async def scenario(stored: Stored) -> None:
        rows, ranker = stored.rows, stored.ranker
        chosen = rows.area_ids[:7]
        whose = int(rows.input_numbers[0])

        of_areas = await ranker.mean_of_areas(np.r_[chosen, 9_999_999])
        of_input = await ranker.mean_of_input(whose)

        assert of_areas is not None
        assert of_input is not None
        values = rows.vectors.astype(np.float64)
        assert np.allclose(of_areas, values[:7].mean(axis=0), rtol=0, atol=1e-15)
        assert np.allclose(of_input, values[rows.input_numbers == whose].mean(axis=0), rtol=0, atol=1e-15)
        assert await ranker.mean_of_areas(np.array([9_999_999, 1])) is None
        assert await ranker.mean_of_areas(np.empty(0, np.int64)) is None
        assert await ranker.mean_of_input(1) is None
        assert ranker.dims == DIMS

    with_app(database_url, scenario, photos(60), each=3)


def test_an_app_without_vectors_has_no_hits(database_url: str) -> None:
    async def scenario(stored: Stored) -> None:
        nobody = SqlRanker(stored.database, stored.table, 77)
        for ranks in QUERIES.values():
            for by in Unit:
                found = await nobody.best(ranks(stored), by, 20)
                among = await nobody.best_among(ranks(stored), by, 20, stored.rows.area_ids)

                assert len(found.area_ids) == len(found.input_numbers) == len(found.log_scores) == 0
                assert len(among.area_ids) == 0

    with_app(database_url, scenario, photos(50))


# Recall --------------------------------------------------------------------------------------------------------------


def clustered(count: int, dims: int, *, seed: int) -> NDArray[np.float64]:
    """Pictures of the same things lie together, and all of them somewhat to one side."""
    centres = np.random.default_rng(0).normal(size=(300, dims))
    random = np.random.default_rng(seed)
    found = centres[random.integers(0, len(centres), count)] + 0.8 * random.normal(size=(count, dims))
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    found += 0.5 * centres[0] / np.linalg.norm(centres[0])
    normed: NDArray[np.float64] = found / np.linalg.norm(found, axis=1, keepdims=True)
    return normed


def test_recall_by_index(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "_by_neighbours")
    dims = 32
    pictures = clustered(12, dims, seed=2)
    concepts = [unit(pictures[i] - pictures[i + 1]) for i in range(4)]

    async def scenario(stored: Stored) -> None:
        directions = [
            *((Direction(vector=picture), negate) for picture in pictures for negate in (False, True)),
            *(
                (Direction(vector=vector, link=Link.SIGMOID, scale=20.0, bias=-6.0), negate)
                for vector in concepts
                for negate in (False, True)
            ),
        ]
        matrix = stored.matrix
        hits = 0
        for direction, negate in directions:
            ranks = one(CompiledTerm(alternatives=((direction, NO_LABELS),)), negate=negate)
            found = await stored.ranker.best(ranks, Unit.ANNOTATION, 20)
            expected = matrix.area_ids[rank(matrix, ranks, Unit.ANNOTATION, None, 20).rows]
            assert len(found.area_ids) == 20
            hits += len(set(found.area_ids.tolist()) & set(expected.tolist()))
        assert hits / (20 * len(directions)) >= 0.99

    with_app(database_url, scenario, clustered(10_000, dims, seed=1), index=True)


# Meanwhile -----------------------------------------------------------------------------------------------------------


def test_writers_and_searches_do_not_disturb_each_other(database_url: str) -> None:
    queries = ("image", "image, negated", "two ranks", "nothing known")

    async def scenario(stored: Stored) -> None:
        known = {str(area) for area in stored.rows.area_ids.tolist()}
        gone = stored.rows.area_ids[:200].tolist()

        async def add() -> None:
            for i in range(10):
                async with stored.database.transaction() as connection:
                    added = await store(
                        connection, stored.table, photos(30, seed=50 + i), bucket=BUCKET, first=10_000 + 100 * i
                    )
                known.update(str(area) for area in added.area_ids.tolist())

        async def remove() -> None:
            for area in gone[::10]:
                await stored.database.execute("DELETE FROM areas WHERE bucket = %s AND id = %s", [BUCKET, area])

        async def search(query: str, by: Unit) -> None:
            for _ in range(6):
                found = await stored.ranker.best(QUERIES[query](stored), by, 100)
                # One snapshot: a full page, each once, in order, whatever comes and goes.
                assert len(found.area_ids) == len(set(found.area_ids.tolist())) == 100
                assert found.log_scores.tolist() == sorted(found.log_scores.tolist(), reverse=True)

        await asyncio.gather(add(), remove(), *(search(query, by) for query in queries for by in Unit))
        found = await stored.ranker.best(QUERIES["image"](stored), Unit.ANNOTATION, 5000)

        assert {str(area) for area in found.area_ids.tolist()} == known - {str(area) for area in gone[::10]}

    with_app(database_url, scenario, photos(1000), index=True)


_BUSY = """
SELECT state, query FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend' AND state <> 'idle'
"""


@pytest.mark.parametrize("way", ["_by_products", "_by_vectors"])
def test_a_search_that_is_given_up_leaves_nothing_behind(
    database_url: str, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    only(monkeypatch, way)
    monkeypatch.setattr(vectors, "_CHUNK_BYTES", 5000)

    async def scenario(stored: Stored) -> None:
        ranks = QUERIES["two ranks"](stored)
        for steps in (1, 5, 20, 60):
            search = asyncio.create_task(stored.ranker.best(ranks, Unit.INPUT, 20))
            for _ in range(steps):
                await asyncio.sleep(0)
            search.cancel()
            with pytest.raises(asyncio.CancelledError):
                await search

        # The pool may be making a new connection in place of one that was given up: that is soon idle too.
        async with asyncio.timeout(60):
            while await stored.database.rows(_BUSY):  # noqa: ASYNC110 (what is waited for is in the database)
                await asyncio.sleep(0.01)
        found = await stored.ranker.best(ranks, Unit.INPUT, 20)

        assert_same(found, in_memory(stored, ranks, Unit.INPUT, 20))

    with_app(database_url, scenario, photos(3000))
