"""Versions of models: training new ones, reading and removing them (api-spec 5.2, 5.4)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from clarifai_grpc.grpc.api import resources_pb2, service_pb2
from clarifai_grpc.grpc.api.status import status_pb2
from psycopg import sql

from sightrank.api.apps import plain_text
from sightrank.api.call import AppRef, Call, Handlers
from sightrank.api.catalogue import Catalogue
from sightrank.api.datasets import public_only
from sightrank.api.evaluation_requests import after_training, check_dataset, queue
from sightrank.api.evaluations import Evaluations
from sightrank.api.model_drafts import checked_action
from sightrank.api.model_edits import unknown_model
from sightrank.api.model_records import ModelRecords, ModelRow, VersionRow, no_model, version_message
from sightrank.api.model_types import type_card
from sightrank.api.model_writer import ModelWriter
from sightrank.api.models import version_proto
from sightrank.api.output_drafts import MAX_CONCEPTS
from sightrank.api.pages import list_page
from sightrank.api.version_drafts import VersionDraft, new_version, patched_version
from sightrank.errors import AppError, InvalidRequest, ModelInvalidArgument, ServerBusy, WorkflowNeedsModel, quoted
from sightrank.ingest.rows import NamedConcept, hold_app
from sightrank.store import queries
from sightrank.store.buckets import next_version
from sightrank.store.database import Connection, Database, retrying
from sightrank.store.status import MODEL_QUEUED, MODEL_TRAINED

MAX_WAITING = 128
_SQL = queries.load("models")
_SORTS: Mapping[str, str] = {
    "sort_by_status_code": "status",
    "sort_by_num_inputs": "total_input_count",
    "sort_by_created_at": "created_at",
}


class ModelVersions:
    """The rpcs on versions. ``wake`` is set when there is something to train."""

    def __init__(
        self,
        database: Database,
        catalogue: Catalogue,
        records: ModelRecords,
        writer: ModelWriter,
        evaluations: Evaluations,
        wake: asyncio.Event,
    ) -> None:
        self._database = database
        self._catalogue = catalogue
        self._records = records
        self._writer = writer
        self._evaluations = evaluations
        self._wake = wake

    def handlers(self) -> Handlers:
        return {
            "PostModelVersions": self.post,
            "PatchModelVersions": self.patch,
            "GetModelVersion": self.get,
            "ListModelVersions": self.list,
            "DeleteModelVersion": self.delete,
        }

    async def post(self, call: Call, request: service_pb2.PostModelVersionsRequest) -> service_pb2.SingleModelResponse:
        """Makes a version: one to be trained is queued (21103), one of an operator works at once.

        Without a version in the request, or what it leaves out, the model says what to learn and how; without concepts
        there too, all of the app are learnt. With ``eval_info`` it is evaluated when it is trained.
        """
        app = call.require_app()
        if len(request.model_versions) > 1:
            raise InvalidRequest("model_versions has several items; train one version in one call.")
        item = request.model_versions[0] if request.model_versions else resources_pb2.ModelVersion()
        if request.description and not item.description:
            item.description = request.description
        evaluation = after_training(request)
        if evaluation is not None:
            await check_dataset(self._database, call, evaluation)
        async with self._database.transaction() as connection:
            await hold_app(connection, app.bucket)
            draft, trains = await self._draft(connection, app, request.model_id, item)
            status = MODEL_QUEUED if trains else MODEL_TRAINED
            await self._writer.insert_version(connection, app, request.model_id, draft, status=status)
            if trains and evaluation is not None:
                evaluation.model.model_version.id = draft.id
                await queue(connection, app, evaluation)
            await connection.execute(_SQL["touch"], {"bucket": app.bucket, "model_id": request.model_id})
            # Searches rank by it from when it is trained; by an operator never.
            await next_version(connection, app.bucket, labels=False)
        row = await self._records.need(app, request.model_id, draft.id)
        if trains and row.version is not None:
            # As it was committed: another process may be at work on it already.
            row = row._replace(version=row.version.as_posted())
        self._wake.set()
        return service_pb2.SingleModelResponse(model=(await self._records.messages(app, [row]))[0])

    async def patch(
        self, call: Call, request: service_pb2.PatchModelVersionsRequest
    ) -> service_pb2.MultiModelVersionResponse:
        """Description, licence, visibility and metadata; what a version learnt and how does not change."""
        app = call.require_app()
        action = checked_action(request.action)
        ids = [plain_text(item.id, "id") for item in request.model_versions]
        if not ids or len(set(ids)) < len(ids):
            raise InvalidRequest("model_versions is empty or names a version twice; send each version once.")
        keys = {"bucket": app.bucket, "model_id": plain_text(request.model_id, "model_id"), "ids": ids}
        async with self._database.transaction() as connection:
            await hold_app(connection, app.bucket)
            stored = dict(await (await connection.execute(_SQL["lock_versions"], keys)).fetchall())
            for i, item in enumerate(request.model_versions):
                if item.id not in stored:
                    raise await self._unknown(app, request.model_id, item.id)
                message = patched_version(stored[item.id], item, action, f"model_versions[{i}]")
                await connection.execute(
                    _SQL["update_version"], {"bucket": app.bucket, "id": item.id, "message": message}
                )
        rows = [await self._version(app, request.model_id, id) for id in ids]
        return service_pb2.MultiModelVersionResponse(model_versions=await self._messages(app, rows))

    async def get(
        self, call: Call, request: service_pb2.GetModelVersionRequest
    ) -> service_pb2.SingleModelVersionResponse:
        own = await self._own(call, request.model_id, request.version_id)
        if own is None:
            card = self._catalogue.model(request.model_id, request.version_id)
            return service_pb2.SingleModelVersionResponse(model_version=version_proto(card))
        if own.version is None:
            raise no_model(call.require_app(), request.model_id, request.version_id)
        messages = await self._messages(call.require_app(), [own.version])
        await self._evaluations.fill_latest(call.require_app(), messages)
        return service_pb2.SingleModelVersionResponse(model_version=messages[0])

    async def list(
        self, call: Call, request: service_pb2.ListModelVersionsRequest
    ) -> service_pb2.MultiModelVersionResponse:
        """Newest first unless told otherwise."""
        app = call.require_app()
        if await self._own(call, request.model_id) is None:
            versions = [version_proto(self._catalogue.model(request.model_id))]
            return service_pb2.MultiModelVersionResponse(model_versions=list_page(request).of(versions))
        parameters = {
            "bucket": app.bucket,
            "model_id": request.model_id,
            "trained_only": request.trained_only,
            "concept_ids": [plain_text(id, "concept_ids") for id in request.concept_ids],
        }
        statement = sql.SQL("{} {}").format(sql.SQL(_SQL["versions"]), _order(request))
        rows = await self._database.rows(list_page(request).limit(statement), parameters)
        messages = await self._messages(app, [VersionRow(*row) for row in rows])
        await self._evaluations.fill_latest(app, messages)
        return service_pb2.MultiModelVersionResponse(model_versions=messages)

    async def delete(self, call: Call, request: service_pb2.DeleteModelVersionRequest) -> status_pb2.BaseResponse:
        """Also while it trains: the training stops."""
        app = call.require_app()
        if not request.version_id:
            raise ModelInvalidArgument("version_id is empty; ListModelVersions names a model's versions.")
        keys = {
            "bucket": app.bucket,
            "model_id": plain_text(request.model_id, "model_id"),
            "id": plain_text(request.version_id, "version_id"),
        }
        await retrying(lambda: self._delete(app, keys), busy="This version is being written to; try again in a moment.")
        return status_pb2.BaseResponse()

    async def _delete(self, app: AppRef, keys: Mapping[str, Any]) -> None:
        async with self._database.transaction() as connection:
            await hold_app(connection, app.bucket)
            if not (await connection.execute(_SQL["delete_version"], keys)).rowcount:
                raise await self._unknown(app, keys["model_id"], keys["id"])
            await next_version(connection, app.bucket, labels=True)

    async def _unknown(self, app: AppRef, model_id: str, version_id: str) -> AppError:
        """What to tell somebody who wants to write to a version that is none of the app's model."""
        own = await self._records.find(app, model_id)
        return no_model(app, model_id, version_id) if own else unknown_model(self._catalogue, app, model_id)

    async def _draft(
        self, connection: Connection, app: AppRef, model_id: str, item: resources_pb2.ModelVersion
    ) -> tuple[VersionDraft, bool]:
        """What is to be stored, and whether it is to be trained. Holds the model."""
        keys = {"bucket": app.bucket, "ids": [plain_text(model_id, "model_id")]}
        row = await (await connection.execute(_SQL["lock"], keys)).fetchone()
        if row is None:
            raise unknown_model(self._catalogue, app, model_id)
        card = type_card(row[2])
        draft = new_version(card, row[-1], item, "model_versions[0]")
        if not card.trainable:
            return draft, False
        lacks = self._catalogue.lacks(app.workflow_id)
        if lacks:
            raise WorkflowNeedsModel(f"Models are trained on the vectors of the app's base workflow: {lacks}")
        await _check_dataset(connection, app, draft.dataset_id, draft.dataset_version_id)
        await _check_waiting(connection, app)
        if not draft.concepts:
            draft = replace(draft, concepts=await _all_concepts(connection, app))
        return draft, True

    async def _own(self, call: Call, model_id: str, version_id: str = "") -> ModelRow | None:
        """The app's own model in that version; None where it has no such model. Raises ModelDoesNotExist for a version
        that the model has not."""
        app, hidden = call.require_app(), public_only(call)
        row = await self._records.find(app, model_id, version_id, public_only=hidden)
        if row is None and version_id and await self._records.find(app, model_id, public_only=hidden):
            raise no_model(app, model_id, version_id)
        return row

    async def _version(self, app: AppRef, model_id: str, version_id: str) -> VersionRow:
        row = await self._records.need(app, model_id, version_id)
        assert row.version is not None, "asked for by its id"
        return row.version

    async def _messages(self, app: AppRef, rows: Sequence[VersionRow]) -> Sequence[resources_pb2.ModelVersion]:
        names = await self._records.names(app, [id for row in rows for id in row.concept_ids])
        return [version_message(app.user_id, app.app_id, row, names) for row in rows]


async def _check_waiting(connection: Connection, app: AppRef) -> None:
    """Raises ServerBusy where so many versions of the app wait to be trained that one more would wait for long."""
    row = await (await connection.execute(_SQL["waiting"], {"bucket": app.bucket})).fetchone()
    if row is not None and row[0] >= MAX_WAITING:
        raise ServerBusy(
            f"{row[0]} versions of app {app.app_id!r} wait to be trained already; post when some are done."
        )


async def _check_dataset(connection: Connection, app: AppRef, dataset_id: str, version_id: str) -> None:
    if not dataset_id:
        return
    keys = {"bucket": app.bucket, "dataset_id": dataset_id, "version_id": version_id}
    if await (await connection.execute(_SQL["dataset"], keys)).fetchone() is None:
        raise ModelInvalidArgument(
            f"train_info names dataset {quoted(dataset_id)}, and app {app.app_id!r} has none such."
        )
    if version_id and await (await connection.execute(_SQL["dataset_version"], keys)).fetchone() is None:
        raise ModelInvalidArgument(
            f"train_info names version {quoted(version_id)} of dataset {quoted(dataset_id)}, which has none such;"
            " ListDatasetVersions names those there are."
        )


async def _all_concepts(connection: Connection, app: AppRef) -> tuple[NamedConcept, ...]:
    keys = {"bucket": app.bucket, "limit": MAX_CONCEPTS + 1}
    ids = [id for (id,) in await (await connection.execute(_SQL["concepts_of_app"], keys)).fetchall()]
    if not ids:
        raise ModelInvalidArgument(
            f"Neither the version nor its model names concepts to learn, and app {app.app_id!r} has none; send"
            " output_info.data.concepts."
        )
    if len(ids) > MAX_CONCEPTS:
        raise ModelInvalidArgument(
            f"App {app.app_id!r} has more than {MAX_CONCEPTS} concepts; name those to learn in"
            " output_info.data.concepts."
        )
    return tuple(NamedConcept(id=id, name="", value=1.0) for id in ids)


def _order(request: service_pb2.ListModelVersionsRequest) -> sql.Composable:
    column = next((column for flag, column in _SORTS.items() if getattr(request, flag)), "created_at")
    direction = sql.SQL("ASC" if request.sort_ascending else "DESC")
    return sql.SQL("ORDER BY {column} {direction}, v.id {direction}").format(
        column=sql.Identifier("v", column), direction=direction
    )
