"""Versions of datasets: what they hold stays as it was when they were made (api-spec 3.2)."""

from __future__ import annotations

from typing import Any

from clarifai_grpc.grpc.api.resources_pb2 import Dataset, DatasetVersion
from tests.integration.serving import App
from tests.integration.test_dataset_inputs import note


def version(app: App, **fields: Any) -> DatasetVersion:
    """A new version of the dataset ``d``."""
    made: DatasetVersion
    (made,) = app.call(
        "PostDatasetVersions", dataset_id="d", dataset_versions=[DatasetVersion(**fields)]
    ).dataset_versions
    return made


def test_a_version_is_what_was_posted(app: App) -> None:
    app.call("PostDatasets", datasets=[Dataset(id="d")])
    app.indexed(note("i0", datasets=["d"]))
    made = version(app, id="v1", description="first")
    assert (made.id, made.description, made.dataset_id, made.status.code) == ("v1", "first", "d", 64005)
    assert [one.id for one in app.call("ListDatasetVersions", dataset_id="d").dataset_versions] == ["v1"]
