"""Models of apps through the official client on each of its channels, the `clarifai` SDK, and plain JSON."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from clarifai.client.app import App as SdkApp
from clarifai.client.model import Model as SdkModel
from clarifai_grpc.grpc.api import resources_pb2, service_pb2, service_pb2_grpc
from clarifai_grpc.grpc.api.resources_pb2 import (
    Concept,
    Data,
    Model,
    ModelVersion,
    OutputConfig,
    OutputInfo,
    UserAppIDSet,
)
from clarifai_grpc.grpc.api.status import status_code_pb2
from google.protobuf import struct_pb2
from tests.contract.clients import SUCCESS, App, Channel, connected, key, of_bytes
from tests.contract.conftest import NewApp
from tests.contract.pictures import Picture
from tests.contract.serving import Server
from tests.waiting import wait_for

TRAIN_SECONDS = 120.0
TRAINED = status_code_pb2.MODEL_TRAINED
WAITING = (status_code_pb2.MODEL_QUEUED_FOR_TRAINING, status_code_pb2.MODEL_TRAINING)


@pytest.fixture(params=["grpc", "h2c", "tls", "json", "json-tls"])
def anywhere(request: pytest.FixtureRequest, server: Server, new_app: NewApp) -> Iterator[App]:
    """A new, empty application, through each channel in turn."""
    channel: Channel = request.param
    with connected(server, channel) as stub:
        yield new_app(stub)


@pytest.fixture
def mine(grpc_stub: service_pb2_grpc.V2Stub, new_app: NewApp) -> App:
    return new_app(grpc_stub)


@pytest.fixture
def sdk(server: Server, mine: App) -> SdkApp:
    assert mine.user_app_id is not None
    return SdkApp(user_id=server.user_id, app_id=mine.user_app_id.app_id, pat=server.pat, base_url=server.base)


def finished(app: App, model_id: str, version_id: str) -> ModelVersion:
    """As Clarifai's tests wait: any status but trained, queued and training is a failure."""

    def look() -> ModelVersion | None:
        version = app.call("GetModelVersion", model_id=model_id, version_id=version_id).model_version
        if version.status.code == TRAINED:
            return version
        assert version.status.code in WAITING, version
        return None

    return wait_for(f"version {version_id} to be trained", look, seconds=TRAIN_SECONDS)


def output_info(app: App, model_id: str) -> Model:
    request = service_pb2.GetModelRequest(user_app_id=app.user_app_id, model_id=model_id)
    answer = app.stub.GetModelOutputInfo(request, metadata=app.metadata)
    assert answer.status.code == SUCCESS, answer
    return answer.model


def to_learn(*concepts: str, **config: Any) -> ModelVersion:
    data = Data(concepts=[Concept(id=concept) for concept in concepts])
    return ModelVersion(output_info=OutputInfo(data=data, output_config=OutputConfig(**config)))


def test_post_patch_train_read_and_delete(anywhere: App, photos: list[Picture]) -> None:
    """With values left out, which are 0 on every channel of this client: one input has it not, another says nothing."""
    app = anywhere
    app.post(
        [
            of_bytes(photos[0], concepts=[Concept(id="some-initial-concept")]),
            of_bytes(photos[1], concepts=[Concept(id="some-new-concept")]),
        ]
    )
    model_id = "model-id-" + uuid.uuid4().hex[:15]
    posted = app.call("PostModels", models=[Model(id=model_id)]).model
    assert (posted.id, posted.model_type_id) == (model_id, "embedding-classifier")
    app.call("PatchModels", action="overwrite", models=[Model(id=model_id, name="some new name")])

    answer = app.call("PostModelVersions", model_id=model_id, model_versions=[to_learn("some-new-concept")])

    version = answer.model.model_version
    assert version.status.code == status_code_pb2.MODEL_QUEUED_FOR_TRAINING
    done = finished(app, model_id, version.id)
    assert (done.total_input_count, done.active_concept_count) == (1, 1)
    model = output_info(app, model_id)
    assert (model.id, model.name) == (model_id, "some new name")
    assert [concept.id for concept in model.output_info.data.concepts] == ["some-new-concept"]
    assert [concept.id for concept in model.model_version.output_info.data.concepts] == ["some-new-concept"]
    listed = app.call("ListModels", per_page=10).models
    assert [(one.id, one.model_version.id) for one in listed] == [(model_id, version.id)]
    concepts = app.call("ListModelConcepts", model_id=model_id, version_id=version.id).concepts
    assert [concept.id for concept in concepts] == ["some-new-concept"]
    assert len(app.call("ListModelInputs", model_id=model_id).inputs) == 1

    app.call("DeleteModel", model_id=model_id)

    gone = app.ask("GetModel", model_id=model_id)
    assert (gone.status.code, gone.status.description) == (
        status_code_pb2.MODEL_DOES_NOT_EXIST,
        "Model does not exist",
    )


def test_hyper_parameters_come_back(anywhere: App) -> None:
    hyper_params = struct_pb2.Struct()
    hyper_params.update(
        {
            "MAX_NITEMS": 1000000,
            "MIN_NITEMS": 1000,
            "N_EPOCHS": 5,
            "custom_training_cfg": "custom_training_1layer",
            "custom_training_cfg_args": {},
        }
    )
    wanted = to_learn("some-initial-concept", hyper_params=hyper_params)
    model_id = uuid.uuid4().hex[:30]
    posted = anywhere.call("PostModels", models=[Model(id=model_id, output_info=wanted.output_info)]).model
    assert posted.output_info.output_config.hyper_params == hyper_params

    answer = anywhere.call("PostModelVersions", model_id=model_id, model_versions=[wanted])

    echoed = answer.model.model_version.output_info.output_config.hyper_params
    assert echoed["custom_training_cfg"] == "custom_training_1layer"
    assert echoed == hyper_params
    # It may be training now.
    anywhere.call("DeleteModel", model_id=model_id)


def test_versions_stay_and_go_one_by_one(anywhere: App, photos: list[Picture]) -> None:
    labels = [Concept(id="seen", value=1)], [Concept(id="seen", value=0)]
    anywhere.post([of_bytes(photo, concepts=said) for photo, said in zip(photos[:2], labels, strict=True)])
    anywhere.call("PostModels", models=[Model(id="m")])
    ids = []
    for _ in range(2):
        answer = anywhere.call("PostModelVersions", model_id="m", model_versions=[to_learn("seen")])
        ids.append(finished(anywhere, "m", answer.model.model_version.id).id)

    trained = anywhere.call("ListModelVersions", model_id="m", trained_only=True).model_versions
    assert [version.id for version in trained] == ids[::-1]
    patched = anywhere.call(
        "PatchModelVersions", model_id="m", action="merge", model_versions=[ModelVersion(id=ids[0], description="old")]
    )
    assert patched.model_versions[0].description == "old"
    anywhere.call("DeleteModelVersion", model_id="m", version_id=ids[1])
    assert anywhere.call("GetModel", model_id="m").model.model_version.id == ids[0]
    assert anywhere.ask("GetModelVersion", model_id="m", version_id=ids[1]).status.code == 21200


def test_an_app_key_needs_no_app_id(server: Server, mine: App, photos: list[Picture]) -> None:
    assert mine.user_app_id is not None
    own = service_pb2.PostKeysRequest(
        user_app_id=UserAppIDSet(user_id=server.user_id),
        keys=[
            resources_pb2.Key(
                description="teach",
                scopes=["All"],
                apps=[resources_pb2.App(id=mine.user_app_id.app_id, user_id=server.user_id)],
            )
        ],
    )
    made = mine.stub.PostKeys(own, metadata=mine.metadata).keys[0].id
    app = App(stub=mine.stub, metadata=key(made), user_app_id=None)
    app.post([of_bytes(photos[0], concepts=[Concept(id="seen", value=1)])])
    app.call("PostModels", models=[Model(id="m")])

    answer = app.call("PostModelVersions", model_id="m", model_versions=[to_learn("seen")])

    assert finished(app, "m", answer.model.model_version.id).total_input_count == 1
    every = app.call("ListModels", per_page=2).models
    assert every[0].id == "m"
    assert every[1].app_id == "main"


def test_the_sdk_trains(
    sdk: SdkApp, mine: App, photos: list[Picture], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sdk.create_dataset("train")
    mine.post(
        [
            of_bytes(photo, concepts=[Concept(id=f"kind-{number % 2}", value=1)], dataset_ids=["train"])
            for number, photo in enumerate(photos[:6])
        ]
    )
    model = sdk.create_model("mine", model_type_id="embedding-classifier")

    params = model.get_params()
    model.update_params(dataset_id="train", concepts=["kind-0", "kind-1"])
    version_id = model.train()

    def status() -> bool:
        found = SdkModel(
            model_id="mine",
            model_version={"id": version_id},
            user_id=sdk.user_id,
            app_id=sdk.id,
            pat=sdk.pat,
            base_url=sdk.base,
        ).training_status(version_id=version_id)
        assert found.code in (TRAINED, *WAITING), found
        return bool(found.code == TRAINED)

    assert params["concepts_mutually_exclusive"] is False
    wait_for("the training", status, seconds=TRAIN_SECONDS)
    version = mine.call("GetModelVersion", model_id="mine", version_id=version_id).model_version
    assert (version.total_input_count, version.active_concept_count) == (6, 2)
    assert version.train_info.params["dataset_id"] == "train"


def test_the_sdk_makes_lists_and_deletes(sdk: SdkApp, mine: App) -> None:
    threshold = OutputInfo(data=Data(concepts=[Concept(id="cat", value=0.7)]))
    threshold.params.update({"concept_threshold_type": "GREATER_THAN"})
    operator = sdk.create_model("sure", model_type_id="concept-threshold", output_info=threshold)
    version = operator.create_version(output_info=threshold)
    sdk.create_model("mine")

    assert [model.id for model in sdk.list_models()] == ["mine", "sure"]
    assert [model.id for model in sdk.list_models(filter_by={"model_type_id": "concept-threshold"})] == ["sure"]
    assert [model.id for model in sdk.list_models(page_no=2, per_page=1)] == ["sure"]
    assert len(list(operator.list_versions())) == 2
    found = sdk.model("sure")
    assert found.model_info.model_version.id == version.model_info.model_version.id
    operator.delete_version(version.model_info.model_version.id)
    assert len(list(operator.list_versions())) == 1
    sdk.patch_model("sure", action="merge", name="Quite sure", notes="by hand")
    assert sdk.model("sure").model_info.name == "Quite sure"

    sdk.delete_model("sure")

    assert [model.id for model in sdk.list_models()] == ["mine"]
    with pytest.raises(Exception, match="Model does not exist"):
        sdk.model("sure")
    assert mine.call("ListModels").models[0].id == "mine"


def test_plain_json(server: Server, mine: App, photos: list[Picture]) -> None:
    """As cURL and fetch send it: here a concept without a value has it."""
    assert mine.user_app_id is not None
    mine.post([of_bytes(photo, concepts=[Concept(id="seen", value=1)]) for photo in photos[:2]])
    path = f"{server.base}/v2/users/{server.user_id}/apps/{mine.user_app_id.app_id}/models"
    with httpx.Client(headers={"Authorization": f"Key {server.pat}"}, trust_env=False, timeout=60) as client:
        made = client.post(path, json={"models": [{"id": "m", "name": "My model"}]}).json()
        assert (made["status"]["code"], made["model"]["model_version"]["status"]["code"]) == (SUCCESS, 21102)
        version = {
            "output_info": {
                "data": {"concepts": [{"id": "seen"}]},
                "output_config": {"concepts_mutually_exclusive": True, "hyper_params": {"C": 3}},
            }
        }
        queued = client.post(f"{path}/m/versions", json={"model_versions": [version]}).json()["model"]["model_version"]
        assert queued["status"]["code"] == 21103
        assert queued["output_info"]["output_config"]["hyper_params"] == {"C": 3}

        def look() -> dict[str, Any] | None:
            found = client.get(f"{path}/m/versions/{queued['id']}").json()["model_version"]
            return found if found["status"]["code"] == TRAINED else None

        done = wait_for("the training", look, seconds=TRAIN_SECONDS)
        assert done["total_input_count"] == 2
        bare = client.post(f"{path}/m/versions", json={}).json()
        assert bare["status"]["code"] == SUCCESS
        patched = client.patch(
            path, json={"action": "merge", "models": [{"id": "m", "notes": "said", "toolkits": ["t"]}]}
        ).json()
        assert (patched["models"][0]["notes"], patched["models"][0]["toolkits"]) == ("said", ["t"])
        assert [one["id"] for one in client.get(path).json()["models"]] == ["m"]
        assert client.get(f"{path}/m/output_info").json()["model"]["name"] == "My model"
        assert client.delete(f"{path}/m/versions/{queued['id']}").json()["status"]["code"] == SUCCESS
        assert client.delete(f"{path}/m").json()["status"]["code"] == SUCCESS
        gone = client.get(f"{path}/m")
        assert (gone.status_code, gone.json()["status"]["code"]) == (404, 21200)
        public = client.delete(f"{path}/general-image-recognition")
        assert (public.status_code, public.json()["status"]["code"]) == (403, 21201)
