"""Versions of datasets as posted and as shown: drafts checked, rows to messages. No I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from clarifai_grpc.grpc.api import resources_pb2
from google.protobuf import json_format

from sightrank.api.annotation_patch import merge_json, remove_json
from sightrank.api.apps import PRIVATE, plain_text
from sightrank.api.call import AppRef
from sightrank.api.records import timestamp
from sightrank.api.texts import bounded_text, visibility_of
from sightrank.errors import InvalidRequest, quoted
from sightrank.ingest.rows import new_id
from sightrank.search.contents import struct_to_json
from sightrank.store.status import DATASET_VERSION_FAILED, DATASET_VERSION_PENDING, DATASET_VERSION_READY

MAX_VERSIONS = 128
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_TEXTS = {
    DATASET_VERSION_PENDING: "Dataset version is pending to be processed",
    DATASET_VERSION_READY: "Dataset version is ready",
    DATASET_VERSION_FAILED: "Dataset version could not be counted",
}
_NOT_BUILT = {
    "model_predict_config": "versions hold what people said, not what a model predicts",
    "processing_info": "annotations of frames are not interpolated",
    "embed_model_version_ids": "inputs are embedded by the base workflow of the app",
}


class VersionRow(NamedTuple):
    """Columns of the statements that read versions."""

    id: str
    as_of: datetime
    description: str
    metadata: dict[str, Any]
    visibility: resources_pb2.Visibility.Gettable.ValueType
    filter_id: str
    filter: bytes | None
    ignore_empty: bool
    status: int
    details: str
    metrics: dict[str, Any] | None
    created_at: datetime
    modified_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionDraft:
    """A version to be made."""

    id: str
    description: str
    metadata: Mapping[str, Any]
    visibility: int
    filter_id: str
    ignore_empty: bool

    def values(self) -> dict[str, Any]:
        """The parameters of the statement ``insert``."""
        return {
            "id": self.id,
            "description": self.description,
            "metadata": json.dumps(self.metadata),
            "visibility": self.visibility,
            "filter_id": self.filter_id,
            "ignore_empty": self.ignore_empty,
        }


def new_version(item: resources_pb2.DatasetVersion, where: str) -> VersionDraft:
    """Raises InvalidRequest for what cannot be stored and for what is not built."""
    for field, _ in item.ListFields():
        if field.name in _NOT_BUILT:
            raise InvalidRequest(f"{where}.{field.name} is not built: {_NOT_BUILT[field.name]}. Leave it out.")
    name = item.id or new_id()
    if not _ID.fullmatch(name):
        raise InvalidRequest(f"{where}.id is {quoted(name)}; use up to 128 letters, digits, '-' and '_'.")
    config = item.annotation_filter_config
    filter_id = plain_text(config.annotation_filter.id, f"{where}.annotation_filter_config.annotation_filter.id")
    return VersionDraft(
        id=name,
        description=bounded_text(item.description, f"{where}.description", InvalidRequest),
        metadata=struct_to_json(item.metadata, InvalidRequest, f"{where}.metadata"),
        visibility=visibility_of(item.visibility, f"{where}.visibility") or PRIVATE,
        filter_id=filter_id,
        ignore_empty=config.ignore_empty_inputs,
    )


def patched_version(stored: VersionRow, item: resources_pb2.DatasetVersion, action: str, where: str) -> dict[str, Any]:
    """The parameters of the statement ``patch``. What the patch leaves empty stays; ``remove`` takes metadata.

    Raises InvalidRequest for what never changes.
    """
    fixed = [field.name for field, _ in item.ListFields() if field.name in (*_NOT_BUILT, "annotation_filter_config")]
    if fixed:
        raise InvalidRequest(f"{where}.{fixed[0]}: what is in a version never changes; make another version.")
    description = bounded_text(item.description, f"{where}.description", InvalidRequest)
    visibility = visibility_of(item.visibility, f"{where}.visibility")
    metadata = struct_to_json(item.metadata, InvalidRequest, f"{where}.metadata")
    if action == "remove":
        if description or visibility:
            raise InvalidRequest(f"{where}: action remove takes metadata; overwrite what else is noted.")
        return _patch(stored, stored.description, remove_json(stored.metadata, metadata), stored.visibility)
    if not item.HasField("metadata"):
        metadata = stored.metadata
    elif action == "merge":
        metadata = merge_json(stored.metadata, metadata)
    return _patch(stored, description or stored.description, metadata, visibility or stored.visibility)


def _patch(stored: VersionRow, description: str, metadata: Mapping[str, Any], visibility: int) -> dict[str, Any]:
    return {
        "id": stored.id,
        "description": description,
        "metadata": json.dumps(metadata),
        "visibility": visibility,
    }


def check_ids(ids: Sequence[str], where: str) -> None:
    """Raises InvalidRequest unless these are 1 to 128 different ids."""
    if not ids:
        raise InvalidRequest(f"{where} is empty; send at least one version.")
    if len(ids) > MAX_VERSIONS:
        raise InvalidRequest(f"{where} has {len(ids)} items; send at most {MAX_VERSIONS} in one call.")
    repeated = sorted({name for name in ids if ids.count(name) > 1})
    if repeated:
        raise InvalidRequest(f"{where} has version {repeated[0]!r} twice; name each once.")


def version_message(app: AppRef, dataset_id: str, row: VersionRow) -> resources_pb2.DatasetVersion:
    """A version as clients see it, its totals under the path ''."""
    message = resources_pb2.DatasetVersion(
        id=row.id,
        app_id=app.app_id,
        user_id=app.user_id,
        dataset_id=dataset_id,
        description=row.description,
        visibility=resources_pb2.Visibility(gettable=row.visibility),
        created_at=timestamp(row.created_at),
        modified_at=timestamp(row.modified_at),
        request_origin=resources_pb2.DatasetVersionRequestOrigin.MANUAL,
    )
    message.metadata.update(row.metadata)
    message.status.code = row.status
    message.status.description, message.status.details = _TEXTS.get(row.status, ""), row.details
    if row.filter_id or row.ignore_empty:
        config = message.annotation_filter_config
        config.ignore_empty_inputs = row.ignore_empty
        if row.filter_id and row.filter is not None:
            config.annotation_filter.id = row.filter_id
            config.annotation_filter.user_id, config.annotation_filter.app_id = app.user_id, app.app_id
            config.annotation_filter.search.ParseFromString(row.filter)
    if row.metrics is not None:
        json_format.ParseDict(row.metrics, message.metrics[""])
    return message


def fill_group(message: resources_pb2.DatasetVersionMetricsGroup, row: Sequence[Any]) -> None:
    """One group of what was counted."""
    parent_path, type_, value, metrics = row
    message.parent_path, message.type = parent_path, type_
    json_format.ParseDict(value, message.value)
    json_format.ParseDict(metrics, message.metrics)
