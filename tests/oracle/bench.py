"""The server's search over the oracle's apps: a real database, the real engine, and the comparison of both answers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tests.oracle.apps import DIMS, TAGGED, App, make_app, random_unit, vocabulary
from tests.oracle.comparison import Mismatch, compare
from tests.oracle.oracle import Expected, Oracle, Refused
from tests.oracle.searches import Asked, random_search

from sightrank.errors import AppError
from sightrank.search.concepts import ConceptBook
from sightrank.search.engine import Hit, SearchEngine, SearchScope
from sightrank.search.follow import Matrices
from sightrank.search.parse import parse_search
from sightrank.search.query import ImageTerm
from sightrank.store import vectors
from sightrank.store.database import Database
from sightrank.store.vectors import EmbedderTable
from sightrank.vision.bundle import Bundle, Preprocessing
from sightrank.vision.tagger import Tagger

#: Inputs and most regions for each input: from an app that is still empty to one where a page is a small part.
SIZES = ((0, 0), (1, 2), (12, 3), (60, 0), (130, 3), (320, 1))

#: Which of them is searched: the larger ones more often.
_APPS = (0, 1, 2, 3, 4, 5, 2, 3, 4, 5, 3, 4, 5, 4, 5)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Apps, each with its oracle, behind one engine."""

    runner: asyncio.Runner
    database: Database
    table: EmbedderTable
    tagger: Tagger
    images: dict[str, NDArray[np.float64]]
    oracles: Sequence[Oracle]

    def engine(self) -> SearchEngine:
        """A fresh engine: what it knows, it reads from the database."""
        matrices = Matrices(self.database, memory_bytes=2**20)
        return SearchEngine(self.database, matrices, ConceptBook(vocabulary()), self._look)

    def asked(self, random: Random) -> tuple[Oracle, Asked]:
        oracle = self.oracles[random.choice(_APPS)]
        return oracle, random_search(random, oracle.app, self.images)

    def check(self, engine: SearchEngine, oracle: Oracle, asked: Asked) -> None:
        """Asks both and compares. Raises Mismatch."""
        expected, actual = self.expected(oracle, asked), self.actual(engine, oracle, asked)
        if isinstance(expected, frozenset):
            if actual not in expected:
                raise Mismatch(f"answered {actual}, expected {set(expected)}")
            return
        if isinstance(actual, int):
            raise Mismatch(f"answered {actual}, expected {len(expected)} hits")
        compare(actual, expected, min_value=asked.search.min_value, offset=asked.offset, limit=asked.limit)

    def expected(self, oracle: Oracle, asked: Asked) -> list[Expected] | frozenset[int]:
        try:
            return oracle.answer(asked.search, asked.unit)
        except Refused as refusal:
            return refusal.codes

    def actual(self, engine: SearchEngine, oracle: Oracle, asked: Asked) -> list[Hit] | int:
        scope = SearchScope(
            bucket=oracle.app.bucket, default_language=oracle.app.language, table=self.table, tagger=self.tagger
        )
        try:
            query = parse_search(asked.search, asked.unit, offset=asked.offset, limit=asked.limit)
            return self.runner.run(engine.run(scope, query))
        except AppError as error:
            return error.code

    async def _look(self, bucket: int, term: ImageTerm) -> NDArray[np.float32]:
        return self.images[term.url or term.data.decode()].astype(np.float32)


@contextmanager
def bench(database_url: str, folder: Path, *, seed: int) -> Iterator[Bench]:
    """Apps of all sizes in this database; ``seed`` decides what is in them."""
    tagger = _tagger(folder, seed)
    random = np.random.default_rng(seed)
    with asyncio.Runner() as runner:
        database = Database(database_url)
        runner.run(database.open())
        try:
            table = runner.run(vectors.register(database, "oracle", "v1", DIMS))
            apps = [
                runner.run(make_app(database, table, seed=seed + i, inputs=inputs, regions=regions))
                for i, (inputs, regions) in enumerate(SIZES)
            ]
            runner.run(database.execute("ANALYZE"))
            images = {f"image-{i}": random_unit(random) for i in range(3)} | _stored(apps)
            oracles = [Oracle(app, tagger, images) for app in apps]
            yield Bench(runner=runner, database=database, table=table, tagger=tagger, images=images, oracles=oracles)
        finally:
            runner.run(database.close())


def _stored(apps: list[App]) -> dict[str, NDArray[np.float64]]:
    """Query images that are in an app already, or its very opposite."""
    for area in (area for item in apps[-1].inputs for area in item.areas):
        if area.vector is not None:
            unit = area.vector / np.linalg.norm(area.vector)
            return {"same": unit, "opposite": -unit}
    return {}


def _tagger(folder: Path, seed: int) -> Tagger:
    random = np.random.default_rng(seed)
    arrays: dict[str, Any] = {
        "ids": np.array(TAGGED),
        "directions": np.stack([random_unit(random) for _ in TAGGED]).astype(np.float32),
        "scale": np.array([8.0, 20.0, 5.0, 45.0, 400.0], np.float32),
        "bias": np.array([-1.0, -6.0, 0.5, -20.0, -30.0], np.float32),
    }
    path = folder / "tagger.npz"
    np.savez(path, **arrays)
    return Tagger(
        Bundle(
            id="oracle",
            version="v1",
            dims=DIMS,
            preprocessing=Preprocessing(size=1, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
            embedder=path,
            tagger=path,
            vocabulary=path,
            licence="",
        )
    )
