"""The `clarifai` SDK's Dataset class on versions of datasets, and what its upload status reads of them."""

from __future__ import annotations

from typing import Any

import pytest
from clarifai.client.app import App as SdkApp
from clarifai.client.dataset import Dataset as SdkDataset
from clarifai.client.model import Model as SdkModel
from clarifai.datasets.upload.base import ClarifaiDataLoader
from clarifai.datasets.upload.features import VisualClassificationFeatures, VisualDetectionFeatures
from clarifai_grpc.grpc.api import service_pb2_grpc
from clarifai_grpc.grpc.api.status import status_code_pb2 as codes
from tests.contract.clients import App
from tests.contract.conftest import NewApp
from tests.contract.pictures import Picture
from tests.contract.serving import Server
from tests.contract.test_clarifai_evaluations import posted, trained
from tests.waiting import wait_for

SECONDS = 120.0


@pytest.fixture
def mine(grpc_stub: service_pb2_grpc.V2Stub, new_app: NewApp) -> App:
    return new_app(grpc_stub)


@pytest.fixture
def dataset(server: Server, mine: App) -> SdkDataset:
    """A new dataset through the SDK."""
    assert mine.user_app_id is not None
    sdk = SdkApp(user_id=server.user_id, app_id=mine.user_app_id.app_id, pat=server.pat, base_url=server.base)
    made: SdkDataset = sdk.create_dataset("d")
    return made


class Loader(ClarifaiDataLoader):  # type: ignore[misc]
    """Pictures, each with what is to be said of it."""

    def __init__(self, task: str, items: list[Any]) -> None:
        self._task = task
        self._items = items

    @property
    def task(self) -> str:
        return self._task

    def load_data(self) -> None:
        return None

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Any:
        return self._items[index]


def test_making_listing_and_deleting_versions(dataset: SdkDataset) -> None:
    first = dataset.create_version(description="before", metadata={"run": 1})
    second = dataset.create_version(id="second", description="after")

    assert (first.id, first.version.description, first.version.metadata["run"]) == ("d", "before", 1)
    assert second.version.id == "second"
    wait_for("the versions to be counted", lambda: all(one.version.status.code == 64015 for one in versions(dataset)))
    assert [one.version.id for one in dataset.list_versions()] == ["second", first.version.id]
    assert [one.version.id for one in dataset.list_versions(page_no=2, per_page=1)] == [first.version.id]
    dataset.delete_version(first.version.id)
    assert [one.version.description for one in dataset.list_versions()] == ["after"]


def versions(dataset: SdkDataset) -> list[SdkDataset]:
    return list(dataset.list_versions())


def test_the_upload_status_of_labelled_pictures(
    dataset: SdkDataset, photos: list[Picture], capsys: pytest.CaptureFixture[str]
) -> None:
    items = [
        VisualClassificationFeatures("", ["left", "round"][: 1 + n % 2], id=f"p{n}", image_bytes=photo.data)
        for n, photo in enumerate(photos[:3])
    ]
    loader = Loader("visual_classification", items)

    dataset.upload_dataset(loader, get_upload_status=True)
    counted = dataset.get_upload_status(pre_upload=True)

    assert counted == ({"total": "3", "images": "3"}, {"concepts": 4, "bboxes": 0, "polygons": 0})
    assert "Dataset Upload Summary" in capsys.readouterr().out


def test_the_upload_status_of_pictures_with_boxes(dataset: SdkDataset, photos: list[Picture]) -> None:
    boxes = [[0.1, 0.1, 0.4, 0.4], [0.5, 0.5, 0.9, 0.9]]
    item = VisualDetectionFeatures("", ["cat", "dog"], boxes, id="p", image_bytes=photos[0].data)
    loader = Loader("visual_detection", [item])

    dataset.upload_dataset(loader)
    inputs, annotations = dataset.get_upload_status(pre_upload=True)

    assert (inputs, annotations) == ({"total": "1", "images": "1"}, {"concepts": 0, "bboxes": 2, "polygons": 0})
    dataset.get_upload_status(loader, pre_upload_stats=({}, {}), delete_version=True)
    assert len(versions(dataset)) == 1


def test_evaluating_on_a_dataset_and_on_a_version_of_it(
    server: Server, mine: App, dataset: SdkDataset, photos: list[Picture]
) -> None:
    ids = posted(mine, photos[:12])
    model_id, version_id = trained(mine, ["left", "right"])
    mine.call("PostDatasetInputs", dataset_id="d", dataset_inputs=[{"input": {"id": name}} for name in ids[:6]])
    frozen = dataset.create_version(id="six")
    mine.call("PostDatasetInputs", dataset_id="d", dataset_inputs=[{"input": {"id": name}} for name in ids[6:]])
    assert mine.user_app_id is not None
    model = SdkModel(
        model_id=model_id,
        model_version={"id": version_id},
        user_id=server.user_id,
        app_id=mine.user_app_id.app_id,
        pat=server.pat,
        base_url=server.base,
    )
    frozen = SdkDataset(
        dataset_id="d",
        dataset_version_id="six",
        user_id=server.user_id,
        app_id=mine.user_app_id.app_id,
        pat=server.pat,
        base_url=server.base,
    )

    model.evaluate(dataset=dataset, eval_id="now")
    model.evaluate(dataset=frozen, eval_id="then")

    wait_for(
        "the evaluations",
        lambda: [one.status.code for one in model.list_evaluations()] == [codes.MODEL_EVALUATED] * 2,
        seconds=SECONDS,
    )
    now, then = (model.get_eval_by_id(eval_id=name, test_set=True) for name in ("now", "then"))
    assert (now.ground_truth_dataset.version.id, then.ground_truth_dataset.version.id) == ("", "six")
    assert (len(now.test_set), len(then.test_set)) == (12, 6)
