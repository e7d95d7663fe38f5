"""Exports of trained model versions: one's models stay one's own (docs/teaching.md).

An export is made whenever it is asked for, of what the version learnt for the vectors that its app has now.
"""

from __future__ import annotations

import asyncio
import io
from dataclasses import dataclass

from clarifai_grpc.grpc.api import resources_pb2, service_pb2
from clarifai_grpc.grpc.api.status import status_pb2

from sightrank.api.call import AppRef, Authenticate, Call, Handlers
from sightrank.api.catalogue import Catalogue
from sightrank.api.media import HostedFile
from sightrank.api.model_edits import unknown_model
from sightrank.api.model_records import no_model
from sightrank.api.model_types import type_card
from sightrank.errors import (
    CredentialMissing,
    DoesNotExist,
    InvalidRequest,
    ModelForbidden,
    ModelInvalidArgument,
    NotImplementedHere,
)
from sightrank.ingest.media import HostedUrls
from sightrank.store.status import MODEL_EXPORTED
from sightrank.teach.own_models import OwnModel
from sightrank.teach.workbench import Workbench
from sightrank.vision.exported_model import ExportUnavailableError, archive

_RPC = "GetModelVersionExport"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedExport:
    """The export that a URL names."""

    user_id: str
    app_id: str
    model_id: str
    version_id: str


class ModelExports:
    """PutModelVersionExports, GetModelVersionExport, and the files that they point to."""

    def __init__(
        self, catalogue: Catalogue, workbench: Workbench, urls: HostedUrls, authenticate: Authenticate
    ) -> None:
        self._catalogue = catalogue
        self._workbench = workbench
        self._urls = urls
        self._authenticate = authenticate

    def handlers(self) -> Handlers:
        return {"PutModelVersionExports": self.put, _RPC: self.get}

    async def put(
        self, call: Call, request: service_pb2.PutModelVersionExportsRequest
    ) -> service_pb2.SingleModelVersionExportResponse:
        """As ``get``: there is nothing to wait for."""
        return await self._answer(call.require_app(), request.model_id, request.version_id)

    async def get(
        self, call: Call, request: service_pb2.GetModelVersionExportRequest
    ) -> service_pb2.SingleModelVersionExportResponse:
        """Where the file is, and its size. Raises what ``_file`` raises."""
        return await self._answer(call.require_app(), request.model_id, request.version_id)

    async def open(self, credential: str | None, export: HostedExport, request_id: str) -> HostedFile:
        """The file. Without a credential it does not exist; else who may call GetModelVersionExport gets it."""
        ids = resources_pb2.UserAppIDSet(user_id=export.user_id, app_id=export.app_id)
        request = service_pb2.GetModelVersionExportRequest(
            user_app_id=ids, model_id=export.model_id, version_id=export.version_id
        )
        try:
            call = await self._authenticate(_RPC, credential, request, request_id)
        except CredentialMissing as error:
            raise DoesNotExist(
                "There is no such export, or it needs the header `Authorization: Key <your key>`."
            ) from error
        data = await self._file(call.require_app(), export.model_id, export.version_id)
        return HostedFile(content=io.BytesIO(data), size=len(data), content_type="application/x-tar")

    async def _answer(
        self, app: AppRef, model_id: str, version_id: str
    ) -> service_pb2.SingleModelVersionExportResponse:
        data = await self._file(app, model_id, version_id)
        export = resources_pb2.ModelVersionExport(
            status=status_pb2.Status(code=MODEL_EXPORTED, description="Model is exported"),
            url=self._urls.export(app.user_id, app.app_id, model_id, version_id),
            size=len(data),
        )
        return service_pb2.SingleModelVersionExportResponse(export=export)

    async def _file(self, app: AppRef, model_id: str, version_id: str) -> bytes:
        """Raises ModelDoesNotExist, ModelForbidden for a public model, ModelInvalidArgument for one that learns
        nothing, ModelNotTrained, WorkflowNeedsModel where the app is indexed by no vectors, and NotImplementedHere
        where the package that writes the file is missing.
        """
        model = await self._find(app, model_id, version_id)
        if not type_card(model.type_id).trainable:
            raise ModelInvalidArgument(
                f"Model {model.id!r} is of type {model.type_id}: it works by its parameters and has learnt nothing."
            )
        fit = await self._workbench.learnt(app.workflow_id, model)
        embedder = self._catalogue.usable_workflow(app.workflow_id).embedder
        assert embedder is not None, "what has learnt has done so by its vectors"
        notes = {
            "model_id": model.id,
            "model_version_id": model.version_id,
            "embedder": {"model_id": embedder.id, "model_version_id": embedder.version_id, "dims": embedder.dims},
        }
        try:
            return await asyncio.to_thread(archive, fit, notes, made_at=int(model.made_at.timestamp()))
        except ExportUnavailableError as error:
            raise NotImplementedHere(str(error)) from error

    async def _find(self, app: AppRef, model_id: str, version_id: str) -> OwnModel:
        if not version_id:
            raise InvalidRequest("version_id is empty; ListModelVersions names a model's versions.")
        if "\0" in model_id + version_id:
            raise no_model(app, model_id, version_id)
        model = await self._workbench.find(app.bucket, model_id, version_id)
        if model is not None:
            return model
        if await self._workbench.find(app.bucket, model_id) is not None:
            raise no_model(app, model_id, version_id)
        if self._catalogue.find_model(model_id) is not None:
            raise ModelForbidden(
                f"Model {model_id} is a public one of clarifai/main; only models of your own are exported."
            )
        raise unknown_model(self._catalogue, app, model_id)
