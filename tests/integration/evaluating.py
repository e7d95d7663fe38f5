"""An app with labelled areas and a model that was trained on them, as rows; and what evaluates it."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from clarifai_grpc.grpc.api import resources_pb2, service_pb2
from clarifai_grpc.grpc.api.resources_pb2 import UserAppIDSet
from numpy.typing import NDArray
from psycopg.types.json import Jsonb
from tests.integration.beside import beside
from tests.integration.worlds import World, Worlds

from sightrank.api.datasets import Datasets
from sightrank.search.fits import Fits
from sightrank.store import vectors
from sightrank.store.blobs import BlobStore
from sightrank.store.vectors import EmbedderTable, VectorRows
from sightrank.teach.classroom import Classroom
from sightrank.teach.evaluator import Evaluator
from sightrank.teach.examples import Source, frozen, read_examples
from sightrank.vision.fitting import FitOptions, fit
from sightrank.vision.threads import Threads

DIMS = 16
MODEL = "my-model"
QUEUED, EVALUATING, EVALUATED, NOT_EVALUATED = 21303, 21301, 21300, 21302
TRAINED, TRAINING = 21100, 21101
_SAY = """
INSERT INTO annotations (bucket, input_number, id, area_id, created_at, modified_at, status, trusted, user_id,
    concept_ids, concept_values)
VALUES (%(bucket)s, %(number)s, 'a', %(area)s, now(), now(), 24150, true, 'admin', %(ids)s, %(values)s)
"""
_DERIVE = """
INSERT INTO labels (bucket, concept_id, area_id, annotation_id, input_number, value, trusted, modified_at)
SELECT %(bucket)s, c.id, %(area)s, 'a', %(number)s, c.value, true, now()
FROM unnest(%(ids)s::text[], %(values)s::real[]) AS c (id, value)
"""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A world with an app in it."""

    world: World
    app: UserAppIDSet
    bucket: int
    workflow_id: str
    table: EmbedderTable

    async def call(self, rpc: str, **fields: Any) -> Any:
        """The answer of an rpc; raises what the wire would tell."""
        return await self.world.call(rpc, getattr(service_pb2, f"{rpc}Request")(user_app_id=self.app, **fields))

    async def sql(self, statement: str, **parameters: Any) -> list[Any]:
        return await self.world.database.rows(statement, {"bucket": self.bucket, **parameters})

    async def write(self, statement: str, **parameters: Any) -> int:
        return await self.world.database.execute(statement, {"bucket": self.bucket, **parameters})

    @asynccontextmanager
    async def evaluating(self) -> AsyncIterator[None]:
        """What the server does in the background."""
        database, tables = self.world.database, {self.workflow_id: self.table}

        def run(threads: Threads) -> Coroutine[Any, Any, None]:
            room = Classroom(database=database, book=self.world.book, tables=tables, idle=["Empty"], threads=threads)
            return Evaluator(room, Fits(database), self.world.to_evaluate).run()

        async with beside(run):
            yield

    async def label(self, prefix: str, labels: NDArray[np.float32], concepts: Sequence[str], *, seed: int = 0) -> None:
        """Indexed inputs ``prefix``-0 …, one area each; areas that share labels look alike. NaN says nothing."""
        directions = np.random.default_rng(1).normal(size=(len(concepts), DIMS))
        noise = np.random.default_rng(seed + 100).normal(scale=0.5, size=(len(labels), DIMS))
        looks = np.nan_to_num(labels) @ directions + noise
        looks /= np.linalg.norm(looks, axis=1, keepdims=True)
        for concept in concepts:
            await self.write(
                "INSERT INTO concepts (bucket, id, name, name_folded) VALUES (%(bucket)s, %(id)s, %(name)s, %(id)s)"
                " ON CONFLICT DO NOTHING",
                id=concept,
                name=concept.upper(),
            )
        async with self.world.database.transaction() as connection:
            cursor = await connection.execute(
                "INSERT INTO inputs (bucket, id, created_at, modified_at, status, media)"
                " SELECT %(bucket)s, %(prefix)s || '-' || n, now(), now(), 30000, 'image'"
                " FROM generate_series(0, %(last)s) n ORDER BY n RETURNING number",
                {"bucket": self.bucket, "prefix": prefix, "last": len(labels) - 1},
            )
            numbers = [row[0] for row in await cursor.fetchall()]
            cursor = await connection.execute(
                "INSERT INTO areas (bucket, input_number, created_at) SELECT %(bucket)s, n, now()"
                " FROM unnest(%(numbers)s::bigint[]) WITH ORDINALITY u (n, place) ORDER BY place RETURNING id",
                {"bucket": self.bucket, "numbers": numbers},
            )
            areas = [row[0] for row in await cursor.fetchall()]
            rows = VectorRows(
                area_ids=np.asarray(areas),
                input_numbers=np.asarray(numbers),
                created_us=np.zeros(len(areas), np.int64),
                vectors=looks.astype(np.float16),
            )
            await vectors.insert(connection, self.table, self.bucket, 1, rows)
            for row, (number, area) in enumerate(zip(numbers, areas, strict=True)):
                said = {id: float(v) for id, v in zip(concepts, labels[row], strict=True) if np.isfinite(v)}
                if not said:
                    continue
                values = {"ids": list(said), "values": list(said.values())}
                parameters = {"bucket": self.bucket, "number": number, "area": area, **values}
                await connection.execute(_SAY, parameters)
                await connection.execute(_DERIVE, parameters)

    async def train(self, concepts: Sequence[str], *, model_id: str = MODEL, dataset_id: str = "") -> str:
        """A version of the model, trained on what is labelled now; its id."""
        examples = await read_examples(
            self.world.database, self.world.book, self.bucket, self.table, concepts, source=Source(dataset_id)
        )
        version_id = await self.version(concepts, model_id=model_id, examples=frozen(examples), dataset_id=dataset_id)
        await self.write(
            "INSERT INTO model_fits (bucket, model_version_id, embedder_id, fitted)"
            " VALUES (%(bucket)s, %(id)s, %(embedder)s, %(fitted)s)",
            id=version_id,
            embedder=self.table.id,
            fitted=fit(examples, FitOptions(), lambda _: None).dump(),
        )
        return version_id

    async def version(
        self,
        concepts: Sequence[str],
        *,
        model_id: str = MODEL,
        status: int = TRAINED,
        examples: bytes | None = None,
        details: str = "",
        dataset_id: str = "",
    ) -> str:
        """A version as a row, without a fit."""
        await self.write(
            "INSERT INTO models (bucket, id, name, model_type_id, concept_ids)"
            " VALUES (%(bucket)s, %(id)s, 'My model', 'embedding-classifier', %(concepts)s) ON CONFLICT DO NOTHING",
            id=model_id,
            concepts=list(concepts),
        )
        version_id = uuid.uuid4().hex
        await self.write(
            "INSERT INTO model_versions (bucket, id, model_id, status, status_details, concept_ids, examples, training)"
            " VALUES (%(bucket)s, %(id)s, %(model)s, %(status)s, %(details)s, %(concepts)s, %(examples)s,"
            " %(training)s)",
            id=version_id,
            model=model_id,
            status=status,
            details=details,
            concepts=list(concepts),
            examples=examples,
            training=Jsonb({"dataset_id": dataset_id} if dataset_id else {}),
        )
        return version_id

    async def dataset(self, dataset_id: str, prefix: str) -> None:
        """A dataset of the inputs whose ids begin so."""
        await self.call("PostDatasets", datasets=[resources_pb2.Dataset(id=dataset_id)])
        await self.write(
            "INSERT INTO dataset_inputs (bucket, dataset_id, input_number, created_at)"
            " SELECT bucket, %(dataset)s, number, now() FROM inputs"
            " WHERE bucket = %(bucket)s AND starts_with(id, %(prefix)s)",
            dataset=dataset_id,
            prefix=prefix,
        )

    async def metrics(self, version_id: str, **fields: bool) -> resources_pb2.EvalMetrics:
        answer = await self.call(
            "GetModelVersionMetrics",
            model_id=MODEL,
            version_id=version_id,
            fields=resources_pb2.FieldsValue(**fields),
        )
        return answer.model_version.metrics

    async def done(self, version_id: str, **fields: bool) -> resources_pb2.EvalMetrics:
        """The metrics when the evaluation has ended, well or not."""

        async def look() -> resources_pb2.EvalMetrics | None:
            found = await self.metrics(version_id, **fields)
            return None if found.status.code in (QUEUED, EVALUATING) else found

        return await wait_for("the evaluation to end", look)


async def wait_for(what: str, look: Callable[[], Awaitable[Any]], *, seconds: float = 120.0) -> Any:
    """The first true thing that ``look`` returns; fails when there is none in time. Evaluations make way for all else
    on the machine, so on a busy one they take long."""
    deadline = time.monotonic() + seconds
    while not (found := await look()):
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain for {what}"
        await asyncio.sleep(0.02)
    return found


def run(world: Worlds, scenario: Callable[[Place], Awaitable[None]]) -> None:
    """The scenario in a world of its own."""

    async def opened(one: World) -> None:
        app = UserAppIDSet(user_id=one.first.credentials.user_id, app_id=one.first.credentials.app_id)
        bucket, workflow_id = (
            await one.database.rows("SELECT first_bucket, workflow_id FROM apps WHERE id = %s", [app.app_id])
        )[0]
        table = await vectors.register(one.database, "tiny", "1", DIMS)
        one.handlers |= Datasets(one.database, BlobStore(one.settings.blobs_dir())).handlers()
        place = Place(world=one, app=app, bucket=bucket, workflow_id=workflow_id, table=table)
        await scenario(place)

    world.run(opened)


def random_labels(count: int, concepts: int, *, seed: int = 0) -> NDArray[np.float32]:
    return (np.random.default_rng(seed).random((count, concepts)) < 0.4).astype(np.float32)
