"""Datasets: named sets of inputs with what people note about them (api-spec 3.2)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from clarifai_grpc.grpc.api import resources_pb2, service_pb2
from clarifai_grpc.grpc.api.status import status_pb2
from psycopg import sql

from sightrank.api.annotation_patch import merge_json, remove_json
from sightrank.api.apps import PRIVATE, plain_text
from sightrank.api.call import AppRef, Call, Handlers
from sightrank.api.dataset_export_records import take_exports
from sightrank.api.dataset_version_records import VersionRow, version_message
from sightrank.api.pages import list_page
from sightrank.api.records import timestamp
from sightrank.api.texts import bounded_text, image_link, visibility_of
from sightrank.errors import DoesNotExist, DuplicateKey, InvalidRequest, quoted
from sightrank.ingest.rows import hold_app, new_id
from sightrank.search.contents import struct_to_json
from sightrank.store import queries
from sightrank.store.blobs import BlobStore
from sightrank.store.buckets import next_version
from sightrank.store.database import Connection, Database, retrying

MAX_DATASETS = 128
_ACTIONS = ("merge", "overwrite", "remove")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_SQL = queries.load("datasets")
_VERSIONS = queries.load("dataset_versions")
#: Nobody counts stars here, and nobody ranks datasets by a text: both fall back to the order of creation.
_SORTS: Mapping[str, str] = {"sort_by_id": "id", "sort_by_modified_at": "modified_at"}


class _Row(NamedTuple):
    """Columns of the statements that read datasets."""

    id: str
    description: str
    notes: str
    metadata: dict[str, Any]
    visibility: resources_pb2.Visibility.Gettable.ValueType
    image_url: str
    annotation_filter_id: str
    created_at: datetime
    modified_at: datetime


class Datasets:
    """The dataset rpcs. Somebody else who may read the app sees its public datasets only."""

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self._database = database
        self._blobs = blobs

    def handlers(self) -> Handlers:
        return {
            "PostDatasets": self.post,
            "GetDataset": self.get,
            "ListDatasets": self.list,
            "PatchDatasets": self.patch,
            "DeleteDatasets": self.delete,
        }

    async def post(self, call: Call, request: service_pb2.PostDatasetsRequest) -> service_pb2.MultiDatasetResponse:
        """All of the datasets, or none when one cannot be made."""
        app = call.require_app()
        _check_count(request.datasets)
        rows = [{"place": i, **_new_values(item, f"datasets[{i}]")} for i, item in enumerate(request.datasets)]
        ids = [row["id"] for row in rows]
        _check_distinct(ids)
        async with self._database.transaction() as connection:
            await hold_app(connection, app.bucket)
            await _check_filters(connection, app, request.datasets)
            cursor = await connection.execute(_SQL["insert"], {"bucket": app.bucket, "rows": json.dumps(rows)})
            made = {row[0]: _Row(*row) for row in await cursor.fetchall()}
            taken = next((name for name in ids if name not in made), None)
            if taken is not None:
                raise DuplicateKey(f"There is already a dataset {taken!r} in app {app.app_id!r}; choose another id.")
        return service_pb2.MultiDatasetResponse(datasets=[_dataset(app, made[name]) for name in ids])

    async def get(self, call: Call, request: service_pb2.GetDatasetRequest) -> service_pb2.SingleDatasetResponse:
        row = await find_dataset(self._database, call, request.dataset_id)
        return service_pb2.SingleDatasetResponse(dataset=_dataset(call.require_app(), _Row(*row)))

    async def list(self, call: Call, request: service_pb2.ListDatasetsRequest) -> service_pb2.MultiDatasetResponse:
        """Newest first unless told otherwise, each with its latest version that can be seen.

        ``id`` is part of an id, ``search`` words of id, description or notes.
        """
        app = call.require_app()
        if request.starred_only or request.bookmark:
            return service_pb2.MultiDatasetResponse()
        parameters = {
            "bucket": app.bucket,
            "public_only": public_only(call),
            "id": plain_text(request.id, "id"),
            "words": plain_text(request.search, "search").split(),
        }
        statement = sql.SQL("{} {}").format(sql.SQL(_SQL["list"]), _order(request))
        rows = await self._database.rows(list_page(request).limit(statement), parameters)
        messages = [_dataset(app, _Row(*row)) for row in rows]
        await self._fill_latest(call, messages)
        return service_pb2.MultiDatasetResponse(datasets=messages)

    async def _fill_latest(self, call: Call, messages: Sequence[resources_pb2.Dataset]) -> None:
        app, ids = call.require_app(), [message.id for message in messages]
        named = {"bucket": app.bucket, "ids": ids, "public_only": public_only(call)}
        rows = await self._database.rows(_VERSIONS["latest"], named) if messages else []
        latest = {dataset_id: VersionRow(*row) for dataset_id, *row in rows}
        for message in messages:
            if message.id in latest:
                message.version.CopyFrom(version_message(app, message.id, latest[message.id]))

    async def patch(self, call: Call, request: service_pb2.PatchDatasetsRequest) -> service_pb2.MultiDatasetResponse:
        """All of the changes, or none. What a patch leaves empty stays; ``remove`` takes the image and metadata."""
        app = call.require_app()
        _check_count(request.datasets)
        if request.action not in _ACTIONS:
            raise InvalidRequest(f"action is {request.action!r}; it can be {', '.join(_ACTIONS)}.")
        ids = [plain_text(item.id, "id") for item in request.datasets]
        _check_distinct(ids)
        async with self._database.transaction() as connection:
            await hold_app(connection, app.bucket)
            cursor = await connection.execute(_SQL["lock_to_patch"], {"bucket": app.bucket, "ids": ids})
            stored = {row[0]: _Row(*row) for row in await cursor.fetchall()}
            unknown = [name for name in ids if name not in stored]
            if unknown:
                raise DoesNotExist(f"There is no dataset {quoted(unknown[0])} in app {app.app_id!r}.")
            rows = [
                _patched(stored[item.id], item, request.action, f"datasets[{i}]")
                for i, item in enumerate(request.datasets)
            ]
            await _check_filters(connection, app, request.datasets)
            cursor = await connection.execute(_SQL["patch"], {"bucket": app.bucket, "rows": json.dumps(rows)})
            patched = {row[0]: _Row(*row) for row in await cursor.fetchall()}
        return service_pb2.MultiDatasetResponse(datasets=[_dataset(app, patched[name]) for name in ids])

    async def delete(self, call: Call, request: service_pb2.DeleteDatasetsRequest) -> status_pb2.BaseResponse:
        """Deletes datasets, never the inputs in them; unknown ids are ignored."""
        bucket = call.require_app().bucket
        ids = [plain_text(name, "dataset_ids") for name in request.dataset_ids]
        if not ids:
            raise InvalidRequest("dataset_ids is empty; name the datasets to delete.")
        blobs = await retrying(
            lambda: self._delete(bucket, ids), busy="These datasets are being written to; try again in a moment."
        )
        for blob in blobs:
            await self._blobs.delete(blob)
        return status_pb2.BaseResponse()

    async def _delete(self, bucket: int, ids: Sequence[str]) -> Sequence[str]:
        """The files of their exports. The version comes before the rows: whoever deletes inputs has it already when
        their memberships go.
        """
        parameters = {"bucket": bucket, "ids": ids}
        async with self._database.transaction() as connection:
            await hold_app(connection, bucket)
            if await (await connection.execute(_SQL["lock_to_delete"], parameters)).fetchone() is None:
                return []
            blobs = await take_exports(connection, bucket, ids)
            await next_version(connection, bucket, labels=False)
            await connection.execute(_SQL["delete"], parameters)
            return blobs


async def find_dataset(database: Database, call: Call, dataset_id: str) -> Sequence[Any]:
    """The row of a dataset that the caller may see. Raises DoesNotExist."""
    app = call.require_app()
    parameters = {"bucket": app.bucket, "id": dataset_id, "public_only": public_only(call)}
    row = None if "\0" in dataset_id else await database.row(_SQL["read"], parameters)
    if row is None:
        raise DoesNotExist(f"There is no dataset {quoted(dataset_id)} in app {app.app_id!r}.")
    return row


def public_only(call: Call) -> bool:
    """Whether the app is somebody else's, so that only what is public in it can be seen."""
    return call.require_caller().user_id != call.require_app().user_id


def _new_values(item: resources_pb2.Dataset, where: str) -> dict[str, Any]:
    name = item.id or new_id()
    if not _ID.fullmatch(name):
        raise InvalidRequest(
            f"{where}.id is {quoted(name)}; use up to 128 letters, digits, '-' and '_', beginning with a letter or"
            " digit."
        )
    return {
        "id": name,
        "description": bounded_text(item.description, f"{where}.description", InvalidRequest),
        "notes": bounded_text(item.notes, f"{where}.notes", InvalidRequest),
        "metadata": struct_to_json(item.metadata, InvalidRequest),
        "visibility": visibility_of(item.visibility, f"{where}.visibility") or PRIVATE,
        "image_url": image_link(item.image, where, InvalidRequest, of="dataset"),
        "annotation_filter_id": plain_text(item.default_annotation_filter.id, f"{where}.default_annotation_filter.id"),
    }


def _patched(stored: _Row, item: resources_pb2.Dataset, action: str, where: str) -> dict[str, Any]:
    """The columns after the patch. Raises InvalidRequest for what cannot be stored or removed."""
    values = stored._asdict()
    del values["created_at"], values["modified_at"]
    sent = _new_values(item, where) | {"visibility": visibility_of(item.visibility, f"{where}.visibility")}
    metadata = sent.pop("metadata")
    if action == "remove":
        _check_removable(stored, sent, where)
        values["image_url"] = "" if sent["image_url"] else stored.image_url
        return values | {"metadata": remove_json(stored.metadata, metadata)}
    values |= {name: value for name, value in sent.items() if value}
    if item.HasField("metadata"):
        values["metadata"] = metadata if action == "overwrite" else merge_json(stored.metadata, metadata)
    return values


def _check_removable(stored: _Row, sent: Mapping[str, Any], where: str) -> None:
    others = [name for name in ("description", "notes", "visibility", "annotation_filter_id") if sent[name]]
    if others:
        raise InvalidRequest(f"{where}: action remove takes image.url and metadata, not {', '.join(others)}.")
    if sent["image_url"] not in ("", stored.image_url):
        raise InvalidRequest(
            f"{where}.image.url is not the image of dataset {stored.id!r}; to remove it, send the url it has now:"
            f" {stored.image_url or '(it has none)'}."
        )


def _check_count(datasets: Sequence[resources_pb2.Dataset]) -> None:
    if not datasets:
        raise InvalidRequest("datasets is empty; send at least one dataset.")
    if len(datasets) > MAX_DATASETS:
        raise InvalidRequest(f"datasets has {len(datasets)} items; send at most {MAX_DATASETS} in one call.")


def _check_distinct(ids: Sequence[str]) -> None:
    repeated = sorted({name for name in ids if ids.count(name) > 1})
    if repeated:
        raise InvalidRequest(f"The request has dataset {repeated[0]!r} twice; name each once.")


async def _check_filters(connection: Connection, app: AppRef, datasets: Sequence[resources_pb2.Dataset]) -> None:
    """A filter can be deleted later, but no dataset is given one that nobody made."""
    wanted = sorted({item.default_annotation_filter.id for item in datasets} - {""})
    if not wanted:
        return
    cursor = await connection.execute(_SQL["annotation_filters"], {"bucket": app.bucket, "ids": wanted})
    unknown = sorted(set(wanted) - {name for (name,) in await cursor.fetchall()})
    if unknown:
        raise DoesNotExist(
            f"default_annotation_filter: there is no annotation filter {unknown[0]!r} in app {app.app_id!r};"
            " make it with PostAnnotationFilters first."
        )


def _order(request: service_pb2.ListDatasetsRequest) -> sql.Composable:
    chosen = request.WhichOneof("sort_by") or ""
    column = _SORTS.get(chosen, "created_at")
    direction = sql.SQL("ASC" if request.sort_ascending else "DESC")
    return sql.SQL("ORDER BY {column} {direction}, id {direction}").format(
        column=sql.Identifier(column), direction=direction
    )


def _dataset(app: AppRef, row: _Row) -> resources_pb2.Dataset:
    message = resources_pb2.Dataset(
        id=row.id,
        app_id=app.app_id,
        user_id=app.user_id,
        description=row.description,
        notes=row.notes,
        visibility=resources_pb2.Visibility(gettable=row.visibility),
        created_at=timestamp(row.created_at),
        modified_at=timestamp(row.modified_at),
    )
    message.metadata.update(row.metadata)
    if row.image_url:
        message.image.url = row.image_url
    if row.annotation_filter_id:
        message.default_annotation_filter.id = row.annotation_filter_id
        message.default_annotation_filter.user_id, message.default_annotation_filter.app_id = app.user_id, app.app_id
    return message
