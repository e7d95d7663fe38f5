"""Versions of datasets: making, reading, changing what is noted about them, deleting (api-spec 3.2).

A version is the dataset as of the instant at which it is made, and fixed from then on; what it holds is counted
afterwards.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

from clarifai_grpc.grpc.api import resources_pb2, service_pb2
from clarifai_grpc.grpc.api.status import status_pb2
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Value

from sightrank.api.apps import plain_text
from sightrank.api.call import AppRef, Call, Handlers
from sightrank.api.dataset_export_records import ExportRecords, take_exports
from sightrank.api.dataset_version_records import (
    VersionDraft,
    VersionRow,
    check_ids,
    fill_group,
    new_version,
    patched_version,
    version_message,
)
from sightrank.api.datasets import find_dataset, public_only
from sightrank.api.pages import list_page
from sightrank.api.search_kinds import SearchKind, SearchReader
from sightrank.errors import DoesNotExist, DuplicateKey, InvalidRequest, quoted
from sightrank.ingest.dataset_freeze import freeze
from sightrank.ingest.rows import hold_app
from sightrank.search.dataset_version import DatasetVersion
from sightrank.search.query import Query
from sightrank.search.sql import asks_for_models
from sightrank.store import queries
from sightrank.store.blobs import BlobStore
from sightrank.store.clock import Clock
from sightrank.store.database import Connection, Database, retrying

_ACTIONS = ("merge", "overwrite", "remove")
_SQL = queries.load("dataset_versions")
_DATASETS = queries.load("datasets")


class DatasetVersions:
    """The rpcs on versions of datasets. ``wake``: set when there is something to count."""

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        exports: ExportRecords,
        clock: Clock,
        reader: SearchReader,
        wake: asyncio.Event,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._exports = exports
        self._reader = reader
        self._clock = clock
        self._wake = wake

    def handlers(self) -> Handlers:
        return {
            "PostDatasetVersions": self.post,
            "GetDatasetVersion": self.get,
            "ListDatasetVersions": self.list,
            "PatchDatasetVersions": self.patch,
            "DeleteDatasetVersions": self.delete,
            "ListDatasetVersionMetricsGroups": self.list_metrics,
        }

    async def post(
        self, call: Call, request: service_pb2.PostDatasetVersionsRequest
    ) -> service_pb2.MultiDatasetVersionResponse:
        """All of the versions, or none when one cannot be made. They are of one instant."""
        app = call.require_app()
        await find_dataset(self._database, call, request.dataset_id)
        drafts = [new_version(item, f"dataset_versions[{i}]") for i, item in enumerate(request.dataset_versions)]
        check_ids([draft.id for draft in drafts], "dataset_versions")

        async def made() -> list[VersionRow]:
            async with self._database.transaction() as connection:
                return await self._make(connection, call, request.dataset_id, drafts)

        rows = await retrying(made, busy="This dataset is being written to; try again in a moment.")
        self._wake.set()
        return _answer(app, request.dataset_id, rows)

    async def _make(
        self, connection: Connection, call: Call, dataset_id: str, drafts: Sequence[VersionDraft]
    ) -> list[VersionRow]:
        app = call.require_app()
        await hold_app(connection, app.bucket)
        named = {"bucket": app.bucket, "dataset_id": dataset_id}
        filters = await self._filters(connection, call, drafts)
        if await (await connection.execute(_DATASETS["hold_dataset"], named)).fetchone() is None:
            raise DoesNotExist(f"Dataset {dataset_id!r} of app {app.app_id!r} was deleted meanwhile.")
        as_of = await freeze(connection, self._clock, app.bucket, dataset_id)
        made = []
        for draft in drafts:
            values = {**named, **draft.values(), "filter": filters.get(draft.id), "as_of": as_of}
            row = await (await connection.execute(_SQL["insert"], values)).fetchone()
            if row is None:
                raise DuplicateKey(
                    f"There is already a version {draft.id!r} of dataset {dataset_id!r} in app {app.app_id!r}; choose"
                    " another id."
                )
            made.append(VersionRow(*row))
        return made

    async def _filters(self, connection: Connection, call: Call, drafts: Sequence[VersionDraft]) -> dict[str, bytes]:
        """What the filters of these versions are now, by version. Raises DoesNotExist for one that nobody made."""
        app = call.require_app()
        named = sorted({draft.filter_id for draft in drafts} - {""})
        found: dict[str, bytes] = {}
        if named:
            cursor = await connection.execute(_SQL["filters"], {"bucket": app.bucket, "ids": named})
            found = dict(await cursor.fetchall())
        unknown = [name for name in named if name not in found]
        if unknown:
            raise DoesNotExist(
                f"annotation_filter_config: there is no annotation filter {unknown[0]!r} in app {app.app_id!r}; make"
                " it with PostAnnotationFilters first."
            )
        for name, message in found.items():
            search = resources_pb2.Search.FromString(message)
            _check_filter(name, self._reader.read(call, SearchKind.ANNOTATIONS, search))
        # Without a filter, inputs that are empty can be left out too: by one that leaves everything.
        return {draft.id: found.get(draft.filter_id, b"") for draft in drafts if draft.filter_id or draft.ignore_empty}

    async def get(
        self, call: Call, request: service_pb2.GetDatasetVersionRequest
    ) -> service_pb2.SingleDatasetVersionResponse:
        row = await find_version(self._database, call, request.dataset_id, request.dataset_version_id)
        message = version_message(call.require_app(), request.dataset_id, row)
        await self._fill_exports(call, request.dataset_id, [message])
        return service_pb2.SingleDatasetVersionResponse(dataset_version=message)

    async def list(
        self, call: Call, request: service_pb2.ListDatasetVersionsRequest
    ) -> service_pb2.MultiDatasetVersionResponse:
        """Newest first; somebody else sees those that are public. There are none of other origins: somebody has asked
        for every version."""
        app = call.require_app()
        await find_dataset(self._database, call, request.dataset_id)
        if request.request_origins and resources_pb2.DatasetVersionRequestOrigin.MANUAL not in request.request_origins:
            return service_pb2.MultiDatasetVersionResponse()
        named = {"bucket": app.bucket, "dataset_id": request.dataset_id, "public_only": public_only(call)}
        rows = await self._database.rows(list_page(request).limit(_SQL["list"]), named)
        answer = _answer(app, request.dataset_id, [VersionRow(*row) for row in rows])
        await self._fill_exports(call, request.dataset_id, answer.dataset_versions)
        return answer

    async def patch(
        self, call: Call, request: service_pb2.PatchDatasetVersionsRequest
    ) -> service_pb2.MultiDatasetVersionResponse:
        """All of the changes, or none. Only what is noted about a version changes, never what is in it."""
        app = call.require_app()
        await find_dataset(self._database, call, request.dataset_id)
        if request.action not in _ACTIONS:
            raise InvalidRequest(f"action is {request.action!r}; it can be {', '.join(_ACTIONS)}.")
        ids = [plain_text(item.id, "dataset_versions.id") for item in request.dataset_versions]
        check_ids(ids, "dataset_versions")
        named = {"bucket": app.bucket, "dataset_id": request.dataset_id}
        async with self._database.transaction() as connection:
            cursor = await connection.execute(_SQL["lock_to_patch"], {**named, "ids": ids})
            stored = {row[0]: VersionRow(*row) for row in await cursor.fetchall()}
            rows = []
            for i, item in enumerate(request.dataset_versions):
                if item.id not in stored:
                    raise missing_version(app, request.dataset_id, item.id)
                values = patched_version(stored[item.id], item, request.action, f"dataset_versions[{i}]")
                row = await (await connection.execute(_SQL["patch"], {**named, **values})).fetchone()
                assert row is not None, "the row is locked"
                rows.append(VersionRow(*row))
        answer = _answer(app, request.dataset_id, rows)
        await self._fill_exports(call, request.dataset_id, answer.dataset_versions)
        return answer

    async def delete(self, call: Call, request: service_pb2.DeleteDatasetVersionsRequest) -> status_pb2.BaseResponse:
        """Unknown ids are ignored. Models that were trained with a version stay as they are."""
        app = call.require_app()
        await find_dataset(self._database, call, request.dataset_id)
        if not request.dataset_version_ids:
            raise InvalidRequest("dataset_version_ids is empty; name the versions to delete.")
        ids = [plain_text(name, "dataset_version_ids") for name in request.dataset_version_ids]
        named = {"bucket": app.bucket, "dataset_id": request.dataset_id}
        async with self._database.transaction() as connection:
            await hold_app(connection, app.bucket)
            await connection.execute(_SQL["lock_to_patch"], {**named, "ids": ids})
            blobs = await take_exports(connection, app.bucket, [request.dataset_id], ids)
            if (await connection.execute(_SQL["delete"], {**named, "ids": ids})).rowcount:
                await connection.execute(_SQL["forget_memberships"], named)
        for blob in blobs:
            await self._blobs.delete(blob)
        return status_pb2.BaseResponse()

    async def list_metrics(
        self, call: Call, request: service_pb2.ListDatasetVersionMetricsGroupsRequest
    ) -> service_pb2.MultiDatasetVersionMetricsGroupResponse:
        """None as long as the version is being counted; then the total first, and the types in their order."""
        app = call.require_app()
        await find_version(self._database, call, request.dataset_id, request.dataset_version_id)
        response = service_pb2.MultiDatasetVersionMetricsGroupResponse()
        parameters = {
            "bucket": app.bucket,
            "dataset_id": request.dataset_id,
            "version_id": request.dataset_version_id,
            "types": list(request.types),
            "parent_paths": list(request.parent_paths),
            "values": _json_values(request.values),
        }
        for row in await self._database.rows(list_page(request).limit(_SQL["groups"]), parameters):
            fill_group(response.dataset_version_metrics_groups.add(), row)
        return response

    async def _fill_exports(
        self, call: Call, dataset_id: str, versions: Sequence[resources_pb2.DatasetVersion]
    ) -> None:
        """Not for those who may read public datasets only: URLs of exports need no key."""
        if versions and not public_only(call):
            await self._exports.fill(call.require_app(), dataset_id, versions)


async def find_version(database: Database, call: Call, dataset_id: str, version_id: str) -> VersionRow:
    """The row of a version of a dataset that the caller may see. Raises DoesNotExist."""
    app = call.require_app()
    await find_dataset(database, call, dataset_id)
    named = {"bucket": app.bucket, "dataset_id": dataset_id, "id": version_id, "public_only": public_only(call)}
    row = None if "\0" in version_id else await database.row(_SQL["read"], named)
    if row is None:
        raise missing_version(app, dataset_id, version_id)
    return VersionRow(*row)


def version_of(app: AppRef, dataset_id: str, row: VersionRow) -> DatasetVersion:
    """By which its members and annotations are read."""
    return DatasetVersion(
        bucket=app.bucket,
        dataset_id=dataset_id,
        id=row.id,
        as_of=row.as_of,
        filtered=row.filter is not None,
        ignore_empty=row.ignore_empty,
    )


def _json_values(values: Sequence[Value]) -> str | None:
    """A JSON list of them; None where none is asked for."""
    return json.dumps([json_format.MessageToDict(value) for value in values]) if values else None


def _check_filter(name: str, query: Query) -> None:
    """Raises InvalidRequest for a filter by which no version can be made."""
    if query.as_of is not None:
        raise InvalidRequest(
            f"Annotation filter {name!r} has an as_of; a version of a dataset is as of when it is made. Use"
            " one without."
        )
    if asks_for_models(query):
        raise InvalidRequest(
            f"Annotation filter {name!r} asks for what a model said; versions of datasets hold what people said."
        )


def missing_version(app: AppRef, dataset_id: str, version_id: str) -> DoesNotExist:
    """The error about a version that is not there."""
    return DoesNotExist(
        f"There is no version {quoted(version_id)} of dataset {dataset_id!r} in app {app.app_id!r};"
        " ListDatasetVersions names those there are."
    )


def _answer(app: AppRef, dataset_id: str, rows: Sequence[VersionRow]) -> service_pb2.MultiDatasetVersionResponse:
    messages = [version_message(app, dataset_id, row) for row in rows]
    return service_pb2.MultiDatasetVersionResponse(dataset_versions=messages)
