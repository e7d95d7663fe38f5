"""The `clarifai` SDK's Model and Workflow classes: training by its own methods, and workflows from a YAML file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from clarifai.client.app import App as SdkApp
from clarifai.client.model import Model as SdkModel
from clarifai_grpc.grpc.api import service_pb2_grpc
from clarifai_grpc.grpc.api.resources_pb2 import Annotation, Concept, Data, EvalMetrics
from clarifai_grpc.grpc.api.status import status_code_pb2
from tests.contract.clients import App, of_bytes
from tests.contract.conftest import NewApp
from tests.contract.pictures import Picture, drawings
from tests.contract.serving import Server
from tests.waiting import wait_for

TRAIN_SECONDS = 120.0
UNDER_WAY = (status_code_pb2.MODEL_QUEUED_FOR_TRAINING, status_code_pb2.MODEL_TRAINING)
BEING_EVALUATED = (status_code_pb2.MODEL_QUEUED_FOR_EVALUATION, status_code_pb2.MODEL_EVALUATING)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK writes files of parameters where it runs."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def pictures() -> list[Picture]:
    return drawings()


@pytest.fixture
def mine(grpc_stub: service_pb2_grpc.V2Stub, new_app: NewApp, pictures: Sequence[Picture]) -> App:
    """An app with pictures, half of them labelled: six for each of two concepts, and four that have neither."""
    app = new_app(grpc_stub)
    app.post([of_bytes(picture, id=picture.name) for picture in pictures])
    labels = {picture.name: ("even", "odd")[number % 2] for number, picture in enumerate(pictures[:12])}
    annotations = [
        Annotation(input_id=name, data=Data(concepts=[Concept(id=kind, value=1)])) for name, kind in labels.items()
    ]
    app.call("PostAnnotations", annotations=annotations)
    return app


@pytest.fixture
def sdk(server: Server, mine: App) -> SdkApp:
    assert mine.user_app_id is not None
    return SdkApp(user_id=server.user_id, app_id=mine.user_app_id.app_id, pat=server.pat, base_url=server.base)


def version_of(sdk: SdkApp, server: Server, model_id: str, version_id: str) -> SdkModel:
    return SdkModel(
        model_id=model_id,
        model_version={"id": version_id},
        user_id=server.user_id,
        app_id=sdk.id,
        pat=server.pat,
        base_url=server.base,
    )


def trained(sdk: SdkApp, server: Server, model: SdkModel, **params: Any) -> SdkModel:
    """The model in the version that its method ``train`` makes, once that is trained."""
    model.get_params()
    model.update_params(**params)
    version = version_of(sdk, server, model.id, model.train())

    def look() -> bool:
        return version.training_status(version.model_info.model_version.id).code not in UNDER_WAY

    wait_for("the SDK's model to be trained", look, seconds=TRAIN_SECONDS)
    status = version.training_status(version.model_info.model_version.id)
    assert status.code == status_code_pb2.MODEL_TRAINED, status
    return version


def test_training_predicting_and_deleting(sdk: SdkApp, server: Server, pictures: list[Picture]) -> None:
    model = sdk.create_model("parity", model_type_id="embedding-classifier")
    assert model.list_training_templates() == []
    version = trained(sdk, server, model, concepts=["even", "odd"], concepts_mutually_exclusive=True)

    outputs = version.predict_by_bytes(pictures[0].data, input_type="image").outputs
    values = {concept.id: concept.value for concept in outputs[0].data.concepts}
    assert set(values) == {"even", "odd"}
    assert sum(values.values()) == pytest.approx(1.0, abs=1e-3)
    # The SDK sends the whole model that it has read, and what this call wants within the model's version.
    best = version.predict_by_bytes(pictures[0].data, input_type="image", output_config={"max_concepts": 1}).outputs[0]
    assert [concept.id for concept in best.data.concepts] == [max(values, key=lambda id: values[id])]
    sure = version.predict_by_bytes(pictures[0].data, input_type="image", output_config={"min_value": 0.5}).outputs[0]
    assert [concept.id for concept in sure.data.concepts] == [id for id, value in values.items() if value >= 0.5]
    # A model has a version from its first moment on; the one that is trained is the latest.
    version_id = version.model_info.model_version.id
    assert next(iter(model.list_versions())).model_info.model_version.id == version_id
    assert "parity" in [found.id for found in sdk.list_models(only_in_app=True)]

    model.delete_version(version.model_info.model_version.id)
    assert version_id not in [found.model_info.model_version.id for found in model.list_versions()]
    sdk.delete_model("parity")
    with pytest.raises(Exception, match="Model does not exist"):
        sdk.model(model_id="parity")


def test_a_prediction_waits_for_its_training(sdk: SdkApp, server: Server, pictures: list[Picture]) -> None:
    model = sdk.create_model("parity", model_type_id="embedding-classifier")
    model.get_params()
    version = version_of(sdk, server, model.id, model.train())

    (output,) = version.predict_by_bytes(pictures[0].data).outputs

    assert {concept.id for concept in output.data.concepts} == {"even", "odd"}


def test_what_training_is_told(sdk: SdkApp, server: Server, pictures: list[Picture]) -> None:
    model = sdk.create_model("parity", model_type_id="embedding-classifier")
    assert model.get_params()["train_params"] == {"strength": 20.0, "background_weight": 200.0, "seed": 0.0}
    assert model.get_param_info("strength")["defaultValue"] == 20.0
    assert model.get_param_info("concepts_mutually_exclusive")["fieldType"] == "BOOLEAN"
    version = trained(sdk, server, model, concepts=["even", "odd"], strength=5, seed=7)
    params = version.model_info.model_version.train_info.params
    assert (params["strength"], params["seed"], params["background_weight"]) == (5, 7, 200)
    # The type says what its models look at, so nobody else has to.
    outputs = version.predict_by_bytes(pictures[0].data).outputs
    assert {concept.id for concept in outputs[0].data.concepts} == {"even", "odd"}


def test_training_with_a_dataset_and_evaluating_on_it(sdk: SdkApp, server: Server, pictures: list[Picture]) -> None:
    dataset = sdk.create_dataset("some")
    for picture in pictures[:8]:
        sdk.inputs().upload_from_bytes(f"copy-{picture.name}", image_bytes=picture.data, dataset_id="some")
    model = sdk.create_model("parity", model_type_id="embedding-classifier")
    version = trained(sdk, server, model, concepts=["even", "odd"])
    posted = version.evaluate(dataset_id=dataset.id, eval_id="first")
    assert [item.id for item in posted] == ["first"]

    def look() -> EvalMetrics | None:
        found = version.get_eval_by_id("first", label_counts=True)
        return None if found.status.code in BEING_EVALUATED else found

    found = wait_for("the evaluation", look, seconds=TRAIN_SECONDS)
    assert found.ground_truth_dataset.id == "some"
    assert [item.id for item in version.list_evaluations()] == ["first"]


WORKFLOW: dict[str, Any] = {
    "workflow": {
        "id": "sure-things",
        "nodes": [
            {
                "id": "tags",
                # As the guide prints it.
                "model": {
                    "model_id": "aaa03c23b3724a16a56b629203edc62c",
                    "model_version_id": "aa7f35c01e0642fda5cf400f543e7c40",
                    "user_id": "clarifai",
                    "app_id": "main",
                },
            },
            {
                "id": "sure",
                "model": {
                    "model_id": "sure",
                    "model_type_id": "concept-threshold",
                    "output_info": {"params": {"concept_threshold_type": 1}},
                },
                "node_inputs": [{"node_id": "tags"}],
            },
        ],
    }
}


def test_a_workflow_from_a_yaml_file(sdk: SdkApp, tmp_path: Path, pictures: list[Picture]) -> None:
    file = tmp_path / "workflow.yml"
    file.write_text(yaml.safe_dump(WORKFLOW))
    of_its_choice = sdk.create_workflow(str(file), generate_new_id=True, display=False)
    assert len(of_its_choice.id) == 36
    sdk.delete_workflow(of_its_choice.id)
    workflow = sdk.create_workflow(str(file), display=False)
    assert workflow.id == "sure-things"
    assert "sure-things" in [found.id for found in sdk.list_workflows(only_in_app=True)]

    result = workflow.predict_by_bytes(pictures[0].data, input_type="image").results[0]
    assert [output.model.id for output in result.outputs] == ["general-image-recognition", "sure"]
    assert len(result.outputs[0].data.concepts) == 20

    exported = tmp_path / "exported.yml"
    workflow.export(str(exported))
    assert [node["id"] for node in yaml.safe_load(exported.read_text())["workflow"]["nodes"]] == ["tags", "sure"]
    sdk.delete_workflow("sure-things")
    assert list(sdk.list_workflows(only_in_app=True)) == []
