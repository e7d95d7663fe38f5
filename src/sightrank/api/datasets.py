"""Datasets as far as search needs them: named sets that inputs join when they are posted (api-spec 3.2)."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from clarifai_grpc.grpc.api import resources_pb2, service_pb2
from clarifai_grpc.grpc.api.status import status_pb2

from sightrank.api.call import AppRef, Call, Handlers
from sightrank.api.pages import list_page
from sightrank.api.records import timestamp
from sightrank.errors import DoesNotExist, DuplicateKey, InvalidRequest
from sightrank.ingest.rows import hold_app, new_id
from sightrank.store import queries
from sightrank.store.database import Database, retrying

_SQL = queries.load("datasets")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


class Datasets:
    """The dataset rpcs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def handlers(self) -> Handlers:
        return {
            "PostDatasets": self.post,
            "GetDataset": self.get,
            "ListDatasets": self.list,
            "DeleteDatasets": self.delete,
        }

    async def post(self, call: Call, request: service_pb2.PostDatasetsRequest) -> service_pb2.MultiDatasetResponse:
        """All of the datasets, or none when an id is taken."""
        app = call.require_app()
        if not request.datasets:
            raise InvalidRequest("datasets is empty; send at least one dataset.")
        wanted = [(item.id or new_id(), item.description) for item in request.datasets]
        for name, _ in wanted:
            if not _ID.fullmatch(name):
                raise InvalidRequest(f"Dataset id {name[:140]!r}: use up to 128 letters, digits, '-' and '_'.")
        rows = json.dumps([{"id": name, "description": description} for name, description in wanted])
        async with self._database.transaction() as connection:
            await hold_app(connection, app.bucket)
            cursor = await connection.execute(_SQL["insert"], {"bucket": app.bucket, "rows": rows})
            made = {row[0]: row for row in await cursor.fetchall()}
            if len(made) < len(wanted):
                taken = next((name for name, _ in wanted if name not in made), wanted[0][0])
                raise DuplicateKey(f"There is already a dataset {taken!r} in app {app.app_id!r}; choose another id.")
        return service_pb2.MultiDatasetResponse(datasets=[_dataset(app, made[name]) for name, _ in wanted])

    async def get(self, call: Call, request: service_pb2.GetDatasetRequest) -> service_pb2.SingleDatasetResponse:
        app = call.require_app()
        row = await self._database.row(_SQL["read"], {"bucket": app.bucket, "id": request.dataset_id})
        if row is None:
            raise DoesNotExist(f"There is no dataset {request.dataset_id!r} in app {app.app_id!r}.")
        return service_pb2.SingleDatasetResponse(dataset=_dataset(app, row))

    async def list(self, call: Call, request: service_pb2.ListDatasetsRequest) -> service_pb2.MultiDatasetResponse:
        """Newest first."""
        app = call.require_app()
        rows = await self._database.rows(list_page(request).limit(_SQL["list"]), {"bucket": app.bucket})
        return service_pb2.MultiDatasetResponse(datasets=[_dataset(app, row) for row in rows])

    async def delete(self, call: Call, request: service_pb2.DeleteDatasetsRequest) -> status_pb2.BaseResponse:
        """Deletes datasets, never the inputs in them; unknown ids are ignored."""
        parameters = {"bucket": call.require_app().bucket, "ids": [*request.dataset_ids]}
        await retrying(
            lambda: self._database.execute(_SQL["delete"], parameters),
            busy="Inputs of these datasets are being deleted; try again in a moment.",
        )
        return status_pb2.BaseResponse()


def _dataset(app: AppRef, row: Sequence[Any]) -> resources_pb2.Dataset:
    name, description, created_at, modified_at = row
    return resources_pb2.Dataset(
        id=name,
        app_id=app.app_id,
        user_id=app.user_id,
        description=description,
        created_at=timestamp(created_at),
        modified_at=timestamp(modified_at),
    )
