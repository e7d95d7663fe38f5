"""Model pages ask for references and examples: there are none, of models that there are."""

from __future__ import annotations

import pytest
from clarifai_grpc.grpc.api import resources_pb2, service_pb2
from clarifai_grpc.grpc.api.resources_pb2 import Model
from tests.integration.serving import PAT, App

SUCCESS, NOTHING, UNKNOWN = 10000, 11101, 21200
TAGGER = "general-image-recognition"


@pytest.mark.parametrize("model_id", ["mine", TAGGER])
def test_lists_are_empty(app: App, model_id: str) -> None:
    app.call("PostModels", models=[Model(id="mine")])
    version_id = app.call("GetModel", model_id=model_id).model.model_version.id
    keys = {"model_id": model_id, "model_version_id": version_id}

    references = app.call("ListModelReferences", model_id=model_id)
    examples = app.call("ListModelVersionInputExamples", **keys)
    example = app.ask("GetModelVersionInputExample", example_id="x", **keys)
    listed = app.rest("GET", f"/models/{model_id}/references")
    shown = app.rest("GET", f"/models/{model_id}/versions/{version_id}/input_examples")

    assert (list(references.model_references), list(examples.model_version_input_examples)) == ([], [])
    assert example.status.code == NOTHING
    assert [answer["status"]["code"] for answer in (listed, shown)] == [SUCCESS, SUCCESS]


def test_of_what_is_not_there_nothing_is_listed(app: App) -> None:
    app.call("PostModels", models=[Model(id="mine")])

    answers = [
        app.ask("ListModelReferences", model_id="nobody"),
        app.ask("ListModelVersionInputExamples", model_id="mine", model_version_id="nothing"),
        app.ask("GetModelVersionInputExample", model_id="nobody", model_version_id="x", example_id="x"),
    ]

    assert [answer.status.code for answer in answers] == [UNKNOWN] * 3


def test_a_token_reads_those_of_public_models_without_an_app(app: App) -> None:
    request = service_pb2.ListModelReferencesRequest(
        user_app_id=resources_pb2.UserAppIDSet(user_id="clarifai", app_id="main"), model_id=TAGGER
    )
    bare = service_pb2.ListModelReferencesRequest(model_id=TAGGER)

    codes = [
        app.stub.ListModelReferences(one, metadata=(("authorization", f"Key {PAT}"),)).status.code
        for one in (request, bare)
    ]

    assert codes == [SUCCESS, SUCCESS]
