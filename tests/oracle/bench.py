"""The server's search over the oracle's apps: a real database, the real engine, and the comparison of both answers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray
from tests.eyes import blind_eye
from tests.oracle.apps import DETECTED, DIMS, MODEL, TAGGED, random_app, random_unit, vocabulary
from tests.oracle.comparison import Mismatch, check, expected_of
from tests.oracle.filters import Refused
from tests.oracle.modes import ALL_CHOICES, Modes, await_graphs
from tests.oracle.oracle import Oracle
from tests.oracle.records import App, Vector
from tests.oracle.searches import Asked, Words, random_search
from tests.oracle.teaching import PUBLIC_VERSIONS, Teacher
from tests.oracle.writing import write_app

from sightrank.errors import AppError, SearchInvalid, SearchNotIndexed
from sightrank.search.concepts import ConceptBook
from sightrank.search.engine import Hit, SearchEngine
from sightrank.search.fits import Fits
from sightrank.search.follow import Matrices, RankerChoice
from sightrank.search.parse import parse_legacy, parse_search
from sightrank.search.plan import Plan
from sightrank.search.query import ImageTerm, Query
from sightrank.search.scope import SearchScope
from sightrank.store import vectors
from sightrank.store.database import Database
from sightrank.store.vectors import EmbedderTable
from sightrank.vision.eye import Eye
from sightrank.vision.tagger import Tagger

#: Inputs and most regions for each input: from an app that is still empty to one where a page is a small part.
SIZES = ((0, 0), (1, 2), (12, 3), (60, 0), (130, 3), (320, 1))

#: Versions of models in each of them at first.
MODEL_VERSIONS_EACH = 7
#: Which of them is searched: the larger ones more often.
_APPS = (0, 1, 2, 3, 4, 5, 2, 3, 4, 5, 3, 4, 5, 4, 5)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Apps, each with its oracle, behind one engine."""

    runner: asyncio.Runner
    database: Database
    table: EmbedderTable
    tagger: Tagger
    images: Mapping[str | bytes, Vector]
    oracles: Sequence[Oracle]

    def engine(self, matrices: Matrices | None = None) -> SearchEngine:
        """A fresh engine: what it knows, it reads from the database."""
        return self._engine(matrices or Matrices(self.database, Fits(self.database), memory_bytes=2**20))

    @contextmanager
    def modes(self, *choices: RankerChoice) -> Iterator[Modes]:
        """Fresh engines for all ways to answer, or for these rankers."""
        modes = Modes.of(self.database, choices or ALL_CHOICES, engine=self._engine)
        try:
            if "graph" in modes.matrices:
                buckets = [oracle.app.bucket for oracle in self.oracles]
                self.runner.run(await_graphs(modes.matrices["graph"], self.table, buckets))
            yield modes
        finally:
            self.runner.run(modes.close())

    def asked(self, random: Random) -> tuple[Oracle, Asked]:
        oracle = self.oracles[random.choice(_APPS)]
        return oracle, random_search(random, oracle.app, Words(images=list(self.images)))

    def teach(self, random: Random) -> None:
        """Trains a version of a model of one of the apps, or deletes one."""
        self.runner.run(Teacher(self.database, self.table, random.choice(self.oracles).app, random).change())

    def check(self, engine: SearchEngine, oracle: Oracle, asked: Asked) -> None:
        """Asks both and compares. Raises Mismatch."""
        check(asked, expected_of(oracle, asked), self.actual(engine, oracle, asked))

    def check_all(self, modes: Modes, oracle: Oracle, asked: Asked, *, thorough: bool = False) -> int:
        """Asks in every mode that makes a difference, slow ones only when ``thorough``; how many that was.

        Raises Mismatch.
        """
        expected = expected_of(oracle, asked)
        parsed = self._parsed_or_refused(oracle.app, asked)
        count = 0
        for mode in modes.modes:
            if not isinstance(parsed, Refused) and not thorough and mode.is_slow_for(parsed):
                continue
            if isinstance(parsed, Refused) or mode.differs_for(parsed):
                count += 1
                actual = parsed if isinstance(parsed, Refused) else self._run(mode.engine, oracle, asked, parsed)
                try:
                    check(asked, expected, actual)
                except Mismatch as mismatch:
                    raise Mismatch(f"{mode}: {mismatch}") from None
                if isinstance(parsed, Refused):
                    break
        return count

    def actual(self, engine: SearchEngine, oracle: Oracle, asked: Asked) -> list[Hit] | int | Refused:
        parsed = self._parsed_or_refused(oracle.app, asked)
        return parsed if isinstance(parsed, Refused) else self._run(engine, oracle, asked, parsed)

    def _run(self, engine: SearchEngine, oracle: Oracle, asked: Asked, query: Query) -> list[Hit] | int | Refused:
        scope = SearchScope(
            bucket=oracle.app.bucket,
            default_language=oracle.app.language,
            table=self.table,
            eye=blind_eye(self.tagger, DETECTED),
            model_version_ids=frozenset(PUBLIC_VERSIONS),
            detector_id=MODEL,
        )
        try:
            if asked.counts:
                return self.runner.run(engine.count(scope, query))
            return self.runner.run(self._hits(engine, scope, query))
        except AppError as error:
            return Refused(error.code)

    async def _hits(self, engine: SearchEngine, scope: SearchScope, query: Query) -> list[Hit]:
        """As the API does: what a process holds already is good as long as nothing has changed since."""
        seen = engine.seen(scope, query)
        if seen is not None:
            with suppress(SearchNotIndexed, SearchInvalid):
                hits = await engine.run(scope, query, seen)
                row = await self.database.row("SELECT version FROM app_buckets WHERE bucket = %s", [scope.bucket])
                if row == (seen.all,):
                    return hits
        return await engine.run(scope, query)

    def _engine(self, matrices: Matrices, forced: Plan | None = None) -> SearchEngine:
        return SearchEngine(self.database, matrices, ConceptBook(vocabulary()), self._look, forced=forced)

    def _parsed_or_refused(self, app: App, asked: Asked) -> Query | Refused:
        try:
            return self._parsed(app, asked)
        except AppError as error:
            return Refused(error.code)

    @staticmethod
    def _parsed(app: App, asked: Asked) -> Query:
        if asked.legacy:
            return parse_legacy(
                asked.search.query, asked.search, offset=asked.offset, limit=asked.limit, me=app.user_id
            )
        return parse_search(asked.search, asked.unit, offset=asked.offset, limit=asked.limit, me=app.user_id)

    async def _look(self, bucket: int, eye: Eye, term: ImageTerm) -> NDArray[np.float32]:
        return self.images[term.url or term.data].astype(np.float32)


@contextmanager
def bench(database_url: str, folder: Path, *, seed: int) -> Iterator[Bench]:
    """Apps of all sizes in this database; ``seed`` decides what is in them."""
    tagger = _tagger(seed)
    random = np.random.default_rng(seed)
    with asyncio.Runner() as runner:
        database = Database(database_url)
        runner.run(database.open())
        try:
            table = runner.run(vectors.register(database, "oracle", "v1", DIMS))
            apps = [
                random_app(seed=seed + place, inputs=inputs, regions=regions)
                for place, (inputs, regions) in enumerate(SIZES)
            ]
            for app in apps:
                runner.run(write_app(database, table, app))
                teacher = Teacher(database, table, app, Random(f"{seed} {app.bucket}"))
                for _ in range(MODEL_VERSIONS_EACH):
                    runner.run(teacher.train())
            runner.run(database.execute("ANALYZE"))
            named = {f"image-{i}": random_unit(random) for i in range(3)} | _stored(apps)
            images: dict[str | bytes, Vector] = {**named, **{name.encode(): unit for name, unit in named.items()}}
            oracles = [
                Oracle(app, tagger, images, versions=PUBLIC_VERSIONS, detector_id=MODEL, detected=DETECTED)
                for app in apps
            ]
            yield Bench(runner=runner, database=database, table=table, tagger=tagger, images=images, oracles=oracles)
        finally:
            runner.run(database.close())


def _stored(apps: list[App]) -> dict[str, Vector]:
    """Query images that are in an app already, or its very opposite."""
    for area in (area for item in apps[-1].inputs for area in item.embedded):
        assert area.vector is not None
        unit = area.vector / np.linalg.norm(area.vector)
        return {"same": unit, "opposite": -unit}
    return {}


def _tagger(seed: int) -> Tagger:
    random = np.random.default_rng(seed)
    return Tagger(
        TAGGED,
        np.stack([random_unit(random) for _ in TAGGED]).astype(np.float32),
        np.array([8.0, 20.0, 5.0, 45.0, 400.0], np.float32),
        np.array([-1.0, -6.0, 0.5, -20.0, -30.0], np.float32),
    )
