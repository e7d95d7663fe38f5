"""Evaluating a model as Clarifai's own client tests do it, on both channels; by its SDK; and over REST."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from clarifai.client.model import Model as SdkModel
from clarifai_grpc.grpc.api import resources_pb2, service_pb2_grpc
from clarifai_grpc.grpc.api.resources_pb2 import Concept, FieldsValue, Model, ModelVersion, OutputInfo
from clarifai_grpc.grpc.api.status import status_code_pb2 as codes
from google.protobuf.struct_pb2 import Struct
from tests.contract.clients import App, key, of_bytes
from tests.contract.conftest import NewApp
from tests.contract.pictures import Picture
from tests.contract.serving import Server
from tests.waiting import wait_for

SECONDS = 120.0
EVERYTHING = FieldsValue(
    confusion_matrix=True, cooccurrence_matrix=True, label_counts=True, binary_metrics=True, test_set=True
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Taught:
    """An app with a model of two concepts, "left" and "right", that is trained."""

    app: App
    model_id: str
    version_id: str
    input_ids: list[str]

    @property
    def version(self) -> dict[str, str]:
        return {"model_id": self.model_id, "version_id": self.version_id}


def posted(app: App, pictures: list[Picture]) -> list[str]:
    """The first half of the pictures is labelled "left", the other "right"."""
    half = len(pictures) // 2
    sides = ["left" if number < half else "right" for number in range(len(pictures))]
    return app.post(
        [of_bytes(one, concepts=[Concept(id=side, value=1)]) for one, side in zip(pictures, sides, strict=True)]
    )


def trained(app: App, concepts: list[str], **fields: Any) -> tuple[str, str]:
    """Ids of a new model and its version, as Clarifai's tests make them, which then wait until it is trained."""
    model_id = app.call("PostModels", models=[Model(id="sides")]).model.id
    data = resources_pb2.Data(concepts=[Concept(id=id, value=1) for id in concepts])
    version = ModelVersion(output_info=OutputInfo(data=data))
    answer = app.call("PostModelVersions", model_id=model_id, model_versions=[version], **fields)
    version_id = answer.model.model_version.id

    def look() -> bool:
        status = app.call("GetModelVersion", model_id=model_id, version_id=version_id).model_version.status
        assert status.code in (codes.MODEL_TRAINED, codes.MODEL_TRAINING, codes.MODEL_QUEUED_FOR_TRAINING), status
        return status.code == codes.MODEL_TRAINED

    wait_for("the model to be trained", look, seconds=SECONDS)
    return model_id, version_id


def evaluated(app: App, **version: str) -> resources_pb2.ModelVersion:
    """The loop of Clarifai's tests: other codes than these are failures."""

    def look() -> resources_pb2.ModelVersion | None:
        found = app.call("GetModelVersionMetrics", **version).model_version
        code = found.metrics.status.code
        assert code in (
            codes.MODEL_EVALUATED,
            codes.MODEL_NOT_EVALUATED,
            codes.MODEL_QUEUED_FOR_EVALUATION,
            codes.MODEL_EVALUATING,
        ), found.metrics.status
        return found if code == codes.MODEL_EVALUATED else None

    return wait_for("the model to be evaluated", look, seconds=SECONDS)


@pytest.fixture
def taught(app: App, photos: list[Picture]) -> Taught:
    """On both channels in turn."""
    ids = posted(app, photos[:12])
    model_id, version_id = trained(app, ["left", "right"])
    return Taught(app=app, model_id=model_id, version_id=version_id, input_ids=ids)


def test_post_evaluate_get_metrics(taught: Taught) -> None:
    app = taught.app
    before = app.call("GetModelVersionMetrics", **taught.version).model_version
    assert before.metrics.status.code == codes.MODEL_NOT_EVALUATED

    app.call("PostModelVersionMetrics", **taught.version)
    evaluated(app, **taught.version)
    found = app.call("GetModelVersionMetrics", **taught.version, fields=EVERYTHING).model_version

    assert (found.id, found.status.code) == (taught.version_id, codes.MODEL_TRAINED)
    metrics = found.metrics
    assert 0 <= metrics.summary.macro_avg_roc_auc <= 1
    assert {one.concept.id: one.count for one in metrics.label_counts.positive_label_counts} == {"left": 6, "right": 6}
    assert [(one.num_pos, one.num_neg) for one in metrics.binary_metrics] == [(6, 6), (6, 6)]
    assert {(one.actual_concept.id, one.predicted_concept.id) for one in metrics.confusion_matrix.matrix} == {
        ("left", "left"),
        ("left", "right"),
        ("right", "left"),
        ("right", "right"),
    }
    assert {one.input.id for one in metrics.test_set} <= set(taught.input_ids)
    assert all(one.input.data.image.url for one in metrics.test_set)
    with_summary = app.call("GetModelVersion", **taught.version).model_version
    assert with_summary.metrics.summary == metrics.summary
    assert not with_summary.metrics.binary_metrics


def test_one_concept_and_one_image_as_clarifais_test_has_them(app: App, photos: list[Picture]) -> None:
    """Its labels arrive with value 0, which is what gRPC makes of none."""
    app.post([of_bytes(photos[0], concepts=[Concept(id="mine")]), of_bytes(photos[1], concepts=[Concept(id="other")])])
    model_id, version_id = trained(app, ["mine"])

    app.call("PostModelVersionMetrics", model_id=model_id, version_id=version_id)

    assert evaluated(app, model_id=model_id, version_id=version_id).metrics.summary.macro_avg_roc_auc == 0.5
    app.call("DeleteModel", model_id=model_id)


def test_evaluating_after_training(app: App, photos: list[Picture]) -> None:
    posted(app, photos[:4])
    params = Struct()
    params.update({"evaluate_after_training": True})

    model_id, version_id = trained(app, ["left", "right"], eval_info=resources_pb2.EvalInfo(params=params))

    assert evaluated(app, model_id=model_id, version_id=version_id).metrics.summary.macro_avg_roc_auc >= 0


@pytest.fixture
def mine(grpc_stub: service_pb2_grpc.V2Stub, new_app: NewApp, photos: list[Picture]) -> Taught:
    app = new_app(grpc_stub)
    ids = posted(app, photos[:12])
    model_id, version_id = trained(app, ["left", "right"])
    return Taught(app=app, model_id=model_id, version_id=version_id, input_ids=ids)


def test_the_sdk_evaluates_on_a_dataset_and_reads_the_test_set(server: Server, mine: Taught) -> None:
    app = mine.app
    assert app.user_app_id is not None
    app.call("PostDatasets", datasets=[resources_pb2.Dataset(id="half")])
    members = [
        resources_pb2.DatasetInput(input=resources_pb2.Input(id=id))
        for id in [*mine.input_ids[:3], *mine.input_ids[-3:]]
    ]
    app.call("PostDatasetInputs", dataset_id="half", dataset_inputs=members)
    model = SdkModel(
        model_id=mine.model_id,
        model_version={"id": mine.version_id},
        user_id=server.user_id,
        app_id=app.user_app_id.app_id,
        pat=server.pat,
        base_url=server.base,
    )

    model.evaluate(dataset_id="half", eval_id="first-half", extended_metrics={"note": "mine"}, eval_info={"a": 1})

    wait_for(
        "the evaluation",
        lambda: model.list_evaluations()[0].status.code == codes.MODEL_EVALUATED,
        seconds=SECONDS,
    )
    latest = model.get_latest_eval(binary_metrics=True)
    assert latest.id == "first-half"
    assert latest.ground_truth_dataset.id == "half"
    assert latest.extended_metrics.user_metrics["note"] == "mine"
    for curve in (latest.binary_metrics[0].roc_curve, latest.binary_metrics[0].precision_recall_curve):
        assert [round(value, 2) for value in curve.thresholds].count(0.5) == 1  # by which its tables look values up
    read = model.get_eval_by_id(eval_id="first-half", test_set=True, metrics_by_class=True)
    y, predicted, concepts, inputs = sdk_parser().parse_eval_annotation_classifier(read)
    assert concepts == ["left", "right"]
    np.testing.assert_array_equal(y.sum(axis=0), [3, 3])
    assert predicted.shape == (6, 2)
    assert {item.id for item in inputs} == {member.input.id for member in members}


def sdk_parser() -> Any:
    """The module by which ``get_raw_eval`` reads a test set; its package wants pandas, for other things."""
    package = importlib.util.find_spec("clarifai.utils")
    assert package is not None
    assert package.submodule_search_locations
    path = Path(package.submodule_search_locations[0]) / "evaluation" / "testset_annotation_parser.py"
    spec = importlib.util.spec_from_file_location("testset_annotation_parser", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_over_rest(server: Server, mine: Taught) -> None:
    assert mine.app.user_app_id is not None
    base = f"{server.base}/v2/users/{server.user_id}/apps/{mine.app.user_app_id.app_id}"
    path = f"{base}/models/{mine.model_id}/versions/{mine.version_id}/metrics"
    headers = dict(key(server.pat))

    def get(url: str) -> Any:
        return httpx.get(url, headers=headers, trust_env=False, timeout=SECONDS).json()

    asked = httpx.post(path, headers=headers, json={}, trust_env=False, timeout=SECONDS).json()
    assert asked["status"]["code"] == codes.SUCCESS
    assert asked["model_version"]["metrics"]["status"]["code"] in (
        codes.MODEL_QUEUED_FOR_EVALUATION,
        codes.MODEL_EVALUATING,
        codes.MODEL_EVALUATED,
    )
    evaluated(mine.app, **mine.version)
    plain = get(path)["model_version"]["metrics"]
    heavy = get(f"{path}?fields.binary_metrics=true&fields.test_set=true")["model_version"]["metrics"]

    assert "macro_avg_roc_auc" in plain["summary"]
    assert "binary_metrics" not in plain
    assert [one["concept"]["id"] for one in heavy["binary_metrics"]] == ["left", "right"]
    assert heavy["test_set"][0]["input"]["data"]["image"]["url"]
    listed = get(f"{base}/evaluations?sort_by_roc_auc=true")["eval_metrics"]
    assert [one["id"] for one in listed] == [plain["id"]]
    assert get(f"{base}/evaluations/{plain['id']}")["eval_metrics"]["summary"] == plain["summary"]
    missing = httpx.get(f"{base}/evaluations/nothing", headers=headers, trust_env=False)
    assert (missing.status_code, missing.json()["status"]["code"]) == (404, codes.CONN_DOES_NOT_EXIST)
