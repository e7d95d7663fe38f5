"""Versions of a dataset and the archives they are exported to, as tests ask for them."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from typing import Any

import httpx
from clarifai_grpc.grpc.api.resources_pb2 import DatasetVersion, DatasetVersionExport, Input, InputBatch
from tests.integration.serving import App
from tests.waiting import wait_for

PROTOBUF, COCO, JSON = 1, 2, 3
EXPORTED, QUEUED, FAILED, EXPORTING, UNKNOWN_ERROR = range(64200, 64205)
READY = 64015


def frozen(app: App, dataset_id: str = "d", **fields: Any) -> str:
    """The id of a new version of the dataset, ready."""
    posted = app.call("PostDatasetVersions", dataset_id=dataset_id, dataset_versions=[DatasetVersion(**fields)])
    version_id = str(posted.dataset_versions[0].id)

    def ready() -> bool:
        return bool(read(app, version_id, dataset_id).status.code == READY)

    wait_for(f"version {version_id} to be ready", ready)
    return version_id


def read(app: App, version_id: str, dataset_id: str = "d") -> DatasetVersion:
    found: DatasetVersion = app.call(
        "GetDatasetVersion", dataset_id=dataset_id, dataset_version_id=version_id
    ).dataset_version
    return found


def ask(app: App, version_id: str, *formats: int, dataset_id: str = "d") -> Any:
    """The answer to a call for exports, whatever its status."""
    exports = [DatasetVersionExport(format=wanted) for wanted in formats]  # type: ignore[arg-type]
    return app.ask("PutDatasetVersionExports", dataset_id=dataset_id, dataset_version_id=version_id, exports=exports)


def exported(app: App, version_id: str, wanted: int = PROTOBUF, dataset_id: str = "d") -> DatasetVersionExport:
    """The export, once it is made."""

    def look() -> DatasetVersionExport | None:
        answer = ask(app, version_id, wanted, dataset_id=dataset_id)
        (export,) = answer.exports
        assert export.status.code in (QUEUED, EXPORTING, EXPORTED), export.status
        return export if export.status.code == EXPORTED else None

    return wait_for(f"version {version_id} to be exported", look)


def download(url: str, **headers: str) -> httpx.Response:
    """Without a key."""
    return httpx.get(url, headers=headers, trust_env=False, timeout=60)


def unpacked(data: bytes) -> list[Input]:
    """The inputs in a protobuf archive."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        mimetype, *batches = archive.namelist()
        assert (mimetype, archive.read(mimetype)) == ("mimetype", b"application/x.clarifai-data+protobuf")
        return [item for name in batches for item in InputBatch.FromString(archive.read(name)).inputs]


def unpacked_json(data: bytes) -> list[dict[str, Any]]:
    """The inputs in a JSON archive."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        mimetype, *batches = archive.namelist()
        assert (mimetype, archive.read(mimetype)) == ("mimetype", b"application/x.clarifai-data+json")
        return [item for name in batches for item in json.loads(archive.read(name))["inputs"]]


def contents(app: App, version_id: str) -> list[Input]:
    """What a version is exported to."""
    return unpacked(download(exported(app, version_id).url).content)


def said(concepts: Sequence[Any]) -> dict[str, float]:
    return {concept.id: round(concept.value, 4) for concept in concepts}
