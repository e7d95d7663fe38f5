"""Giving models other ids. What names a model by its id follows in the same commit, and what it has said soon after."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import structlog
from clarifai_grpc.grpc.api import resources_pb2, service_pb2

from sightrank.api.apps import plain_text
from sightrank.api.call import AppRef, Call, Handlers
from sightrank.api.catalogue import Catalogue
from sightrank.api.identity import PUBLIC_USER
from sightrank.api.model_drafts import checked_id
from sightrank.api.model_edits import MAX_MODELS, unknown_model
from sightrank.api.model_records import ModelRecords
from sightrank.errors import AppError, DuplicateKey, InvalidRequest, ModelInvalidArgument
from sightrank.ingest.renamed_models import RenamedModels
from sightrank.ingest.rows import hold_app
from sightrank.store import queries
from sightrank.store.buckets import next_version
from sightrank.store.database import Connection, Database, retrying

#: How long an answer waits for what the models have said; the rest follows in the background.
FOLLOWING_S = 5.0
_SQL = queries.load("model_ids")
_log = structlog.get_logger(__name__)


class ModelIds:
    """PatchModelIds. Versions, evaluations, nodes of workflows and what models have said of inputs get the new id;
    trainings and searches go on. Filters of saved searches keep the old one, and so does what deleted versions said.
    """

    def __init__(self, database: Database, catalogue: Catalogue, records: ModelRecords, renamed: RenamedModels) -> None:
        self._database = database
        self._catalogue = catalogue
        self._records = records
        self._renamed = renamed

    def handlers(self) -> Handlers:
        return {"PatchModelIds": self.patch}

    async def patch(self, call: Call, request: service_pb2.PatchModelIdsRequest) -> service_pb2.MultiModelResponse:
        """All of the ids, in the order sent, or none.

        Raises ModelDoesNotExist, ModelForbidden for a public model, DuplicateKey for an id that is taken, and
        ModelInvalidArgument for one that no model can have or that a public model has.
        """
        app = call.require_app()
        new_ids = self._wanted(request)
        await retrying(
            lambda: self._rename(app, new_ids), busy="These models are being written to; try again in a moment."
        )
        try:
            async with asyncio.timeout(FOLLOWING_S):
                for model_id in new_ids.values():
                    await self._renamed.follow(app.bucket, model_id, seconds=FOLLOWING_S / len(new_ids))
        except (AppError, TimeoutError) as error:
            # They have their ids; what they have said follows in the background.
            _log.info("predictions of renamed models follow later", bucket=app.bucket, reason=str(error))
        rows = await self._records.rows(app, list(new_ids.values()))
        return service_pb2.MultiModelResponse(models=await self._records.messages(app, rows))

    def _wanted(self, request: service_pb2.PatchModelIdsRequest) -> dict[str, str]:
        """Present ids to new ones, in the order sent."""
        if request.action != "overwrite":
            raise InvalidRequest(f"action is {request.action or 'empty'}; ids are patched by `overwrite`.")
        if not 0 < len(request.ids) <= MAX_MODELS:
            raise InvalidRequest(f"ids has {len(request.ids)} items; send 1 to {MAX_MODELS} in one call.")
        new_ids: dict[str, str] = {}
        for place, item in enumerate(request.ids):
            where = f"ids[{place}]"
            if item.id in {*new_ids, *new_ids.values()} or item.new_id in new_ids.values():
                raise InvalidRequest(f"{where} has {item.id!r} or {item.new_id!r} a second time; rename each once.")
            if self._catalogue.find_model(item.new_id) is not None:
                raise ModelInvalidArgument(
                    f"{where}.new_id is {item.new_id!r}, a public model of clarifai/main; choose another id."
                )
            new_ids[plain_text(item.id, f"{where}.id")] = checked_id(item.new_id, f"{where}.new_id")
        return new_ids

    async def _rename(self, app: AppRef, new_ids: Mapping[str, str]) -> None:
        keys = {"bucket": app.bucket}
        async with self._database.transaction() as connection:
            await connection.execute(_SQL["hold_base_workflow"], keys)
            await connection.execute(_SQL["hold_reindex"], keys)
            await hold_app(connection, app.bucket)
            await self._check(connection, app, new_ids)
            for model_id, new_id in new_ids.items():
                await connection.execute(_SQL["rename"], {**keys, "id": model_id, "new_id": new_id})
            await connection.execute(_SQL["rename_in_evaluations"], keys)
            await _rename_in_workflows(connection, app, new_ids)
            await next_version(connection, app.bucket, labels=True)

    async def _check(self, connection: Connection, app: AppRef, new_ids: Mapping[str, str]) -> None:
        """Holds the models and their versions until the transaction ends."""
        asked = {"bucket": app.bucket, "ids": [*new_ids, *new_ids.values()]}
        there = {model_id for (model_id,) in await (await connection.execute(_SQL["lock"], asked)).fetchall()}
        for model_id, new_id in new_ids.items():
            if model_id not in there:
                raise unknown_model(self._catalogue, app, model_id)
            if new_id in there:
                raise DuplicateKey(f"There is already a model {new_id!r} in app {app.app_id!r}; choose another id.")
            there = there - {model_id} | {new_id}
        await connection.execute(_SQL["lock_versions"], {"bucket": app.bucket, "ids": list(new_ids)})


async def _rename_in_workflows(connection: Connection, app: AppRef, new_ids: Mapping[str, str]) -> None:
    """All versions of the app's workflows, in portions: what a node does stays the same."""
    after_id = ""
    while True:
        keys = {"bucket": app.bucket, "ids": list(new_ids), "after_id": after_id}
        rows = await (await connection.execute(_SQL["lock_nodes"], keys)).fetchall()
        if not rows:
            return
        after_id = rows[-1][0]
        changed = {id: nodes for id, stored in rows if (nodes := _renamed(stored, new_ids)) is not None}
        if changed:
            values = {"bucket": app.bucket, "ids": list(changed), "nodes": list(changed.values())}
            await connection.execute(_SQL["update_nodes"], values)


def _renamed(stored: bytes, new_ids: Mapping[str, str]) -> bytes | None:
    """The nodes of a version with the new ids; None where they name none of the models."""
    version = resources_pb2.WorkflowVersion.FromString(stored)
    models: Sequence[resources_pb2.Model] = [
        node.model for node in version.nodes if node.model.user_id != PUBLIC_USER and node.model.id in new_ids
    ]
    for model in models:
        model.id = new_ids[model.id]
    return version.SerializeToString() if models else None
