"""Making, changing and removing models of an app (api-spec 5.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clarifai_grpc.grpc.api import service_pb2
from clarifai_grpc.grpc.api.status import status_pb2

from sightrank.api.apps import plain_text
from sightrank.api.call import AppRef, Call, Handlers
from sightrank.api.catalogue import Catalogue
from sightrank.api.model_drafts import checked_action, new_model, patched_model
from sightrank.api.model_records import ModelRecords, no_model
from sightrank.api.model_writer import ModelWriter
from sightrank.errors import AppError, DuplicateKey, InvalidRequest, ModelForbidden
from sightrank.ingest.rows import hold_app
from sightrank.store import queries
from sightrank.store.buckets import next_version
from sightrank.store.database import Connection, Database, retrying

MAX_MODELS = 128
_SQL = queries.load("models")
_COLUMNS = (
    "id",
    "name",
    "model_type_id",
    "description",
    "notes",
    "metadata",
    "toolkits",
    "use_cases",
    "languages",
    "check_consents",
    "image_url",
    "task",
    "visibility",
    "concept_ids",
    "output_info",
)


class ModelEdits:
    """The rpcs that write models. Those of clarifai/main are read-only."""

    def __init__(self, database: Database, catalogue: Catalogue, records: ModelRecords, writer: ModelWriter) -> None:
        self._database = database
        self._catalogue = catalogue
        self._records = records
        self._writer = writer

    def handlers(self) -> Handlers:
        return {
            "PostModels": self.post,
            "PatchModels": self.patch,
            "DeleteModel": self.delete,
            "DeleteModels": self.delete_many,
        }

    async def post(self, call: Call, request: service_pb2.PostModelsRequest) -> service_pb2.SingleModelResponse:
        """All of the models, or none when one cannot be made; answers with the first."""
        app = call.require_app()
        items = request.models or ([request.model] if request.HasField("model") else [])
        _check_count(items)
        drafts = [new_model(item, f"models[{i}]") for i, item in enumerate(items)]
        repeated = _repeated([draft.id for draft in drafts])
        if repeated:
            raise DuplicateKey(f"The request has model {repeated!r} twice; choose another id for one of them.")
        async with self._database.transaction() as connection:
            await hold_app(connection, app.bucket)
            # All concepts by one statement, so that two calls cannot wait for each other.
            await self._writer.concept_ids(connection, app, [one for draft in drafts for one in draft.concepts])
            for draft in sorted(drafts, key=lambda draft: draft.id):
                await self._writer.insert(connection, app, draft)
            await next_version(connection, app.bucket, labels=False)
        return service_pb2.SingleModelResponse(model=(await self._shown(app, [drafts[0].id]))[0])

    async def patch(self, call: Call, request: service_pb2.PatchModelsRequest) -> service_pb2.MultiModelResponse:
        """All of the changes, or none. A model that is to be trained learns by them the next time."""
        app = call.require_app()
        action = checked_action(request.action)
        _check_count(request.models)
        ids = [plain_text(item.id, "id") for item in request.models]
        repeated = _repeated(ids)
        if repeated:
            raise InvalidRequest(f"The request has model {repeated!r} twice; name each once.")
        async with self._database.transaction() as connection:
            await hold_app(connection, app.bucket)
            cursor = await connection.execute(_SQL["lock"], {"bucket": app.bucket, "ids": ids})
            stored = {row[0]: dict(zip(_COLUMNS, row, strict=True)) for row in await cursor.fetchall()}
            unknown = next((model_id for model_id in ids if model_id not in stored), None)
            if unknown is not None:
                raise self._unknown(app, unknown)
            drafts = [
                patched_model(stored[item.id], item, action, f"models[{i}]") for i, item in enumerate(request.models)
            ]
            await self._writer.concept_ids(connection, app, [one for draft in drafts for one in draft.concepts])
            for draft in drafts:
                await self._writer.update(connection, app, draft)
            # Searches rank by what trained versions learnt, and these do not change.
            await next_version(connection, app.bucket, labels=False)
        return service_pb2.MultiModelResponse(models=await self._shown(app, ids))

    async def delete(self, call: Call, request: service_pb2.DeleteModelRequest) -> status_pb2.BaseResponse:
        """Also while it trains: the training stops, and nothing of the model is left."""
        app = call.require_app()
        if not await self._delete(app, [plain_text(request.model_id, "model_id")]):
            raise self._unknown(app, request.model_id)
        return status_pb2.BaseResponse()

    async def delete_many(self, call: Call, request: service_pb2.DeleteModelsRequest) -> status_pb2.BaseResponse:
        """Unknown ids are ignored. Raises ModelForbidden when one is a public model."""
        app = call.require_app()
        ids = [plain_text(model_id, "ids") for model_id in request.ids]
        if not ids and not request.delete_all:
            raise InvalidRequest("ids is empty; name the models to delete.")
        own = {row.id for row in await self._records.rows(app, ids)}
        for model_id in ids:
            if model_id not in own and self._catalogue.find_model(model_id) is not None:
                raise self._unknown(app, model_id)
        await self._delete(app, ids, all=request.delete_all)
        return status_pb2.BaseResponse()

    async def _delete(self, app: AppRef, ids: Sequence[str], *, all: bool = False) -> Sequence[str]:
        """The models that there were."""

        async def deleted() -> Sequence[str]:
            async with self._database.transaction() as connection:
                await hold_app(connection, app.bucket)
                return await _delete_rows(connection, app, ids, all=all)

        return await retrying(deleted, busy="These models are being written to; try again in a moment.")

    async def _shown(self, app: AppRef, ids: Sequence[str]) -> Any:
        return await self._records.messages(app, await self._records.rows(app, ids))

    def _unknown(self, app: AppRef, model_id: str) -> AppError:
        return unknown_model(self._catalogue, app, model_id)


def unknown_model(catalogue: Catalogue, app: AppRef, model_id: str) -> AppError:
    """What to tell somebody who wants to write to a model that is none of the app's."""
    if catalogue.find_model(model_id) is not None:
        return ModelForbidden(f"Model {model_id} is a public one of clarifai/main, which nobody can change.")
    return no_model(app, model_id)


async def _delete_rows(connection: Connection, app: AppRef, ids: Sequence[str], *, all: bool) -> Sequence[str]:
    cursor = await connection.execute(_SQL["lock_to_delete"], {"bucket": app.bucket, "ids": ids, "all": all})
    found = [model_id for (model_id,) in await cursor.fetchall()]
    if found:
        await connection.execute(_SQL["delete"], {"bucket": app.bucket, "ids": found})
        await next_version(connection, app.bucket, labels=True)
    return found


def _check_count(items: Sequence[Any]) -> None:
    if not items:
        raise InvalidRequest("models is empty; send at least one model.")
    if len(items) > MAX_MODELS:
        raise InvalidRequest(f"models has {len(items)} items; send at most {MAX_MODELS} in one call.")


def _repeated(ids: Sequence[str]) -> str | None:
    return next((model_id for model_id in ids if ids.count(model_id) > 1), None)
