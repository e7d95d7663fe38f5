"""The approximate rankers on an app that is large enough for them: recall@20, and as many hits as are asked for.

Areas by the thousand, in clusters as pictures are; the truth is a plain product in float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
import pytest
from clarifai_grpc.grpc.api import resources_pb2
from numpy.typing import NDArray
from tests.eyes import blind_eye
from tests.oracle.bench import Bench
from tests.oracle.modes import await_graphs
from tests.oracle.records import Vector

from sightrank.search.engine import SearchEngine
from sightrank.search.fits import Fits
from sightrank.search.follow import Matrices, RankerChoice
from sightrank.search.parse import parse_search
from sightrank.search.query import Unit
from sightrank.search.scope import SearchScope
from sightrank.store import vectors
from sightrank.store.buckets import next_version
from sightrank.store.database import Database
from sightrank.store.vectors import EmbedderTable, VectorRows

_AREAS = 20_000
_DIMS = 32
#: Task id of an annotation to the share of the areas that have one: what filters leave.
_SHARES = {"half": 0.5, "tenth": 0.1, "hundredth": 0.01, "thousandth": 0.001, "none": 0.0}


@dataclass(frozen=True, kw_only=True, eq=False)
class Large:
    """Vectors as stored, in float64, row by row; ``left[name]`` says which rows a filter by that task leaves."""

    scope: SearchScope
    area_ids: NDArray[np.int64]
    vectors: Vector
    left: dict[str, NDArray[np.bool_]]


@pytest.fixture(scope="module")
def large(apps: Bench) -> Large:
    random = np.random.default_rng(5)
    centres = random.normal(size=(200, _DIMS))
    found = centres[random.integers(200, size=_AREAS)] + 0.7 * random.normal(size=(_AREAS, _DIMS))
    stored = (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float16)
    table = apps.runner.run(vectors.register(apps.database, "large", "v1", _DIMS))
    chance = random.random(_AREAS)
    bucket, area_ids = apps.runner.run(_write(apps.database, table, stored, chance))
    return Large(
        scope=SearchScope(bucket=bucket, default_language="en", table=table, eye=blind_eye()),
        area_ids=area_ids,
        vectors=stored.astype(np.float64),
        left={"": np.ones(_AREAS, np.bool_), **{name: chance < share for name, share in _SHARES.items()}},
    )


async def _write(
    database: Database, table: EmbedderTable, stored: NDArray[np.float16], chance: NDArray[np.float64]
) -> tuple[int, NDArray[np.int64]]:
    """One input, area and annotation for each vector; an annotation more for each filter that leaves it."""
    async with database.transaction() as connection:
        cursor = await connection.execute("INSERT INTO app_buckets DEFAULT VALUES RETURNING bucket")
        [(bucket,)] = await cursor.fetchall()
        cursor = await connection.execute(
            "WITH new AS (INSERT INTO inputs (bucket, id, created_at, modified_at, status, media)"
            " SELECT %s, 'input' || n, now() + n * interval '1 us', now(), 30000, 'image'"
            " FROM generate_series(1, %s) n RETURNING number, created_at)"
            " INSERT INTO areas (bucket, input_number, created_at) SELECT %s, number, created_at FROM new"
            " ORDER BY number RETURNING id, input_number, (extract(epoch FROM created_at) * 1000000)::bigint",
            [bucket, len(stored), bucket],
        )
        rows = np.array(sorted(await cursor.fetchall()), np.int64)
        for name, share in {"whole": 1.0, **_SHARES}.items():
            chosen = rows[chance < share]
            await connection.execute(
                "INSERT INTO annotations (bucket, input_number, id, area_id, created_at, modified_at, status, trusted,"
                " input_level, user_id, task_id) SELECT %s, n, %s || n, a, now(), now(), 24150, true, %s, 'ann', %s"
                " FROM unnest(%s::bigint[], %s::bigint[]) r (a, n)",
                [bucket, name, name == "whole", name, chosen[:, 0].tolist(), chosen[:, 1].tolist()],
            )
        version = await next_version(connection, bucket, labels=True)
        found = VectorRows(area_ids=rows[:, 0], input_numbers=rows[:, 1], created_us=rows[:, 2], vectors=stored)
        await vectors.insert(connection, table, bucket, version, found)
    await database.execute("ANALYZE")
    return bucket, rows[:, 0]


def _searches(large: Large, random: Random) -> list[tuple[resources_pb2.Query, Vector]]:
    """A picture, its negative, another direction, and two ranks; each with the scores of all areas."""
    made = []
    for kind in ("picture", "negated", "direction", "two"):
        query = resources_pb2.Query()
        scores = np.ones(_AREAS)
        for _ in range(2 if kind == "two" else 1):
            direction = large.vectors[random.randrange(_AREAS)] + np.array(
                [random.gauss(0.0, 1.0 if kind == "direction" else 0.02) for _ in range(_DIMS)]
            )
            rank = query.ranks.add(negate=kind == "negated")
            rank.annotation.data.embeddings.add(vector=direction)
            wanted = np.array(rank.annotation.data.embeddings[0].vector, np.float64)
            share = (1.0 + np.clip(large.vectors @ (wanted / np.linalg.norm(wanted)), -1.0, 1.0)) / 2.0
            scores *= 1.0 - share if kind == "negated" else share
        made.append((query, np.asarray(scores ** (1.0 / len(query.ranks)))))
    return made


@pytest.mark.parametrize("choice", ["exact", "graph", "sql"])
def test_recall_of_the_first_twenty(
    choice: RankerChoice, apps: Bench, large: Large, engines: Mapping[RankerChoice, SearchEngine]
) -> None:
    shares = []
    for query, scores in _searches(large, Random(1)) + _searches(large, Random(2)):
        for name, left in large.left.items():
            hits = _ask(apps, engines[choice], large, query, name, 20)

            best = np.flatnonzero(left)[np.argsort(-scores[left], kind="stable")[:20]]
            assert len(hits) == len(best)
            if len(best):
                last = scores[best[-1]] - 1e-6
                found = [scores[np.searchsorted(large.area_ids, area_id)] >= last for area_id, _ in hits]
                shares.append(sum(found) / len(best))
            for area_id, score in hits:
                assert math.isclose(score, scores[np.searchsorted(large.area_ids, area_id)], abs_tol=1e-5)

    assert np.mean(shares) >= (1.0 if choice == "exact" else 0.99)


@pytest.mark.parametrize("choice", ["exact", "graph", "sql"])
@pytest.mark.parametrize("wanted", [1, 41, 100, 1000])
def test_so_many_hits_of_a_large_app(
    wanted: int, choice: RankerChoice, apps: Bench, large: Large, engines: Mapping[RankerChoice, SearchEngine]
) -> None:
    [(query, _), *_] = _searches(large, Random(3))

    for name, left in large.left.items():
        hits = _ask(apps, engines[choice], large, query, name, wanted)

        assert len({area_id for area_id, _ in hits}) == len(hits) == min(wanted, int(left.sum()))


def test_deep_pages_of_the_graph_go_on_where_the_last_ended(
    apps: Bench, large: Large, engines: Mapping[RankerChoice, SearchEngine]
) -> None:
    engine = engines["graph"]
    [(query, _), *_] = _searches(large, Random(4))

    whole = [area_id for area_id, _ in _ask(apps, engine, large, query, "", 1000)]
    pages = [area_id for start in range(0, 1000, 90) for area_id, _ in _ask(apps, engine, large, query, "", 90, start)]

    assert len(set(pages)) == len(pages) == 1080
    assert pages[:1000] == whole


@pytest.fixture(scope="module")
def engines(apps: Bench, large: Large) -> Iterator[Mapping[RankerChoice, SearchEngine]]:
    assert large.scope.table is not None
    choices: Sequence[RankerChoice] = ("exact", "graph", "sql")
    matrices = {
        choice: Matrices(apps.database, Fits(apps.database), memory_bytes=2**26, choice=choice) for choice in choices
    }
    apps.runner.run(await_graphs(matrices["graph"], large.scope.table, [large.scope.bucket]))
    yield {choice: apps.engine(held) for choice, held in matrices.items()}
    for held in matrices.values():
        apps.runner.run(held.close())


def _ask(
    apps: Bench,
    engine: SearchEngine,
    large: Large,
    query: resources_pb2.Query,
    task: str,
    limit: int,
    offset: int = 0,
) -> list[tuple[int, float]]:
    search = resources_pb2.Search(query=query)
    if task:
        search.query.filters.add().annotation.task_id = task
    parsed = parse_search(search, Unit.ANNOTATION, offset=offset, limit=limit)
    return [(hit.area_id or 0, hit.score) for hit in apps.runner.run(engine.run(large.scope, parsed))]
