"""Writes models of apps and their versions, with the concepts they name."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from clarifai_grpc.grpc.api import resources_pb2
from psycopg.types.json import Jsonb

from sightrank.api.call import AppRef
from sightrank.api.model_drafts import ModelDraft
from sightrank.api.output_drafts import stored_bytes, with_concepts
from sightrank.api.version_drafts import VersionDraft, version_of_operator
from sightrank.errors import DuplicateKey
from sightrank.ingest.rows import NamedConcept, new_id
from sightrank.search.concepts import ConceptBook
from sightrank.store import queries
from sightrank.store.clock import Clock
from sightrank.store.database import Connection
from sightrank.store.status import MODEL_TRAINED, MODEL_UNTRAINED

_SQL = queries.load("models")


class ModelWriter:
    """Writes models and versions into an app, inside the caller's transaction, which holds the app."""

    def __init__(self, book: ConceptBook, clock: Clock) -> None:
        self._book = book
        self._clock = clock

    async def insert(self, connection: Connection, app: AppRef, draft: ModelDraft) -> None:
        """The model with its first version: an operator works at once, a model to be trained is untrained.

        Raises DuplicateKey, and ModelInvalidArgument for one that is too large to be kept.
        """
        ids = await self.concept_ids(connection, app, draft.concepts)
        now = self._clock.take(2)
        values = self._model_values(app, draft, ids) | {"now": now[0]}
        if not (await connection.execute(_SQL["insert"], values)).rowcount:
            raise DuplicateKey(f"There is already a model {draft.id!r} in app {app.app_id!r}; choose another id.")
        await self._insert_first(connection, app, draft, ids, now[1])

    async def update(self, connection: Connection, app: AppRef, draft: ModelDraft) -> None:
        """The model after a patch. Versions do not change: what an operator does from now on is another version.

        Raises ModelInvalidArgument for one that is too large to be kept.
        """
        ids = await self.concept_ids(connection, app, draft.concepts)
        await connection.execute(_SQL["update"], self._model_values(app, draft, ids))
        if draft.says_output and not draft.card.trainable:
            await self._insert_first(connection, app, draft, ids, self._clock.take(1)[0])

    async def insert_version(
        self, connection: Connection, app: AppRef, model_id: str, draft: VersionDraft, *, status: int
    ) -> None:
        """Raises DuplicateKey, and ModelInvalidArgument for one that is too large to be kept."""
        ids = await self.concept_ids(connection, app, draft.concepts)
        await self._insert_version(connection, app, model_id, draft, ids, status, self._clock.take(1)[0])

    async def concept_ids(self, connection: Connection, app: AppRef, concepts: Sequence[NamedConcept]) -> list[str]:
        """Ids of these concepts, made in the app where they are new."""
        pairs = [(concept.id, concept.name) for concept in concepts]
        return await self._book.ensure_concepts(connection, app.bucket, pairs)

    async def _insert_first(
        self, connection: Connection, app: AppRef, draft: ModelDraft, ids: Sequence[str], now: datetime
    ) -> None:
        if draft.card.trainable:
            version = VersionDraft(
                id=new_id(), message=resources_pb2.ModelVersion(), concepts=(), params={}, training={}
            )
            await self._insert_version(connection, app, draft.id, version, [], MODEL_UNTRAINED, now)
        else:
            version = version_of_operator(draft)
            await self._insert_version(connection, app, draft.id, version, ids, MODEL_TRAINED, now)

    async def _insert_version(
        self,
        connection: Connection,
        app: AppRef,
        model_id: str,
        draft: VersionDraft,
        ids: Sequence[str],
        status: int,
        now: datetime,
    ) -> None:
        draft.message.output_info.CopyFrom(with_concepts(draft.message.output_info, draft.concepts, ids))
        values = {
            "bucket": app.bucket,
            "id": draft.id,
            "model_id": model_id,
            "status": status,
            "message": stored_bytes(draft.message, f"A version of model {model_id!r}"),
            "concept_ids": list(dict.fromkeys(ids)),
            "params": Jsonb(draft.params),
            "training": Jsonb(draft.training),
            "now": now,
        }
        if not (await connection.execute(_SQL["insert_version"], values)).rowcount:
            raise DuplicateKey(f"There is already a version {draft.id!r} in app {app.app_id!r}; choose another id.")

    def _model_values(self, app: AppRef, draft: ModelDraft, ids: Sequence[str]) -> dict[str, Any]:
        output_info = with_concepts(draft.output_info, draft.concepts, ids)
        stored = stored_bytes(output_info, f"output_info of model {draft.id!r}")
        concepts = {"concept_ids": list(dict.fromkeys(ids)), "output_info": stored}
        return {**draft.columns, **concepts, "bucket": app.bucket}
