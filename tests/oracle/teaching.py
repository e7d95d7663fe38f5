"""Models of the oracle's apps: trained by chance, written as training leaves them, deleted again."""

from __future__ import annotations

from random import Random

import numpy as np
from tests.oracle.apps import OWN, random_unit
from tests.oracle.records import App, ModelVersion
from tests.oracle.writing import instant

from sightrank.store.buckets import next_version
from sightrank.store.database import Database
from sightrank.store.vectors import EmbedderTable
from sightrank.vision.concept_model import ConceptModel

#: Of the base workflow's models.
PUBLIC_VERSIONS = ("general v1",)
MODELS = ("first", "second", "third", "fourth")
_MOST_VERSIONS = 12
_TRAINED = 21100
_STATUSES = (_TRAINED,) * 6 + (21101, 21103, 21106)
_BEGIN_US = 1_800_000_000_000_000
#: The last one is so steep that probabilities run into 0 and 1.
_SCALES = (3.0, 8.0, -6.0, 20.0, 400.0)
_ANOTHER_EMBEDDER = 1_000_000


class Teacher:
    """Changes the models of one app, in the database and in its records."""

    def __init__(self, database: Database, table: EmbedderTable, app: App, random: Random) -> None:
        self._database = database
        self._table = table
        self._app = app
        self._random = random

    async def change(self) -> None:
        models = self._app.models
        if models and (len(models) >= _MOST_VERSIONS or self._random.random() < 0.4):
            await self.delete(self._random.choice(models))
        else:
            await self.train()

    async def train(self) -> None:
        """A version of one of the models, which the app may not have yet. Few are trained in the order they were made
        in, and a few of them are not trained at all."""
        version = self._version()
        model = ConceptModel(
            version.concept_ids,
            version.directions.astype(np.float32),
            version.scale.astype(np.float32),
            version.bias.astype(np.float32),
            exclusive=version.exclusive,
        )
        async with self._database.transaction() as connection:
            await connection.execute(
                "INSERT INTO models (bucket, id, name, model_type_id, concept_ids) VALUES (%s, %s, %s, %s, %s)"
                " ON CONFLICT DO NOTHING",
                [self._app.bucket, version.model_id, version.model_id, "embedding-classifier", [*version.concept_ids]],
            )
            await connection.execute(
                "INSERT INTO model_versions (bucket, id, model_id, created_at, completed_at, status, concept_ids)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s)",
                [
                    self._app.bucket,
                    version.id,
                    version.model_id,
                    instant(version.created_us),
                    instant(version.completed_us),
                    version.status,
                    [*version.concept_ids],
                ],
            )
            embedder = self._table.id if version.is_fitted else _ANOTHER_EMBEDDER
            await connection.execute(
                "INSERT INTO model_fits (bucket, model_version_id, embedder_id, fitted) VALUES (%s, %s, %s, %s)",
                [self._app.bucket, version.id, embedder, model.dump()],
            )
            await next_version(connection, self._app.bucket, labels=True)
        self._app.models.append(version)

    async def delete(self, version: ModelVersion) -> None:
        async with self._database.transaction() as connection:
            await connection.execute(
                "DELETE FROM model_versions WHERE bucket = %s AND id = %s", [self._app.bucket, version.id]
            )
            await next_version(connection, self._app.bucket, labels=True)
        self._app.models.remove(version)

    def _version(self) -> ModelVersion:
        random = self._random
        concept_ids = random.sample(sorted(OWN), random.choice((1, 2, 2, 3, 4)))
        vectors = np.random.default_rng(random.getrandbits(32))
        count = len(concept_ids)
        return ModelVersion(
            id=f"version-{random.getrandbits(48):012x}",
            model_id=random.choice(MODELS),
            created_us=_BEGIN_US + random.randrange(1000),
            completed_us=_BEGIN_US + random.randrange(1000),
            status=random.choice(_STATUSES),
            is_fitted=random.random() < 0.9,
            concept_ids=tuple(concept_ids),
            exclusive=random.random() < 0.5,
            directions=np.stack([random_unit(vectors, self._app.dims) for _ in range(count)]).astype(np.float32),
            scale=np.array([random.choice(_SCALES) for _ in range(count)], np.float32),
            bias=np.array([random.uniform(-3.0, 3.0) for _ in range(count)], np.float32),
        )
