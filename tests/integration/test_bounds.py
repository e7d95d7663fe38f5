"""Texts and metadata have one bound each, wherever they are sent, and no answer repeats an endless id."""

from __future__ import annotations

from typing import Any

import pytest
from clarifai_grpc.grpc.api import resources_pb2
from clarifai_grpc.grpc.api.resources_pb2 import (
    Annotation,
    Concept,
    Data,
    Dataset,
    EvalMetrics,
    Model,
    Workflow,
    WorkflowNode,
)
from clarifai_grpc.grpc.api.service_pb2_grpc import V2Stub
from google.protobuf.struct_pb2 import Struct
from tests.integration.serving import App, Server, new_app, of_bytes, picture

LONG = "x" * (64 * 1024 + 1)
NODES = [WorkflowNode(id="n", model=Model(id="general-image-recognition"))]


@pytest.fixture(scope="module")
def app(server: Server, stub: V2Stub) -> App:
    made = new_app(server, stub)
    made.call("PostModels", models=[Model(id="m")])
    made.indexed(of_bytes(picture(0), "photo"))
    return made


def much() -> Struct:
    values = Struct()
    values.update({"notes": "x" * 2**20})
    return values


def some() -> Struct:
    values = Struct()
    values.update({"notes": "x" * (2**20 - 100)})
    return values


def refused_by(answer: Any) -> str:
    """What the answer, or the first of its items that failed, says."""
    items = [item.status.details for field in ("inputs", "annotations") for item in getattr(answer, field, [])]
    assert answer.status.code != 10000, answer
    return str(next(filter(None, items), answer.status.details))


def annotation(metadata: Struct) -> Annotation:
    return Annotation(input_id="photo", data=Data(concepts=[Concept(id="a", value=1)], metadata=metadata))


METADATA: dict[str, Any] = {
    "PostModels": lambda values: {"models": [Model(id="much", metadata=values)]},
    "PatchModels": lambda values: {"models": [Model(id="m", metadata=values)], "action": "overwrite"},
    "PostDatasets": lambda values: {"datasets": [Dataset(id="much", metadata=values)]},
    "PostApps": lambda values: {"apps": [resources_pb2.App(id="much", metadata=values)]},
    "PostInputs": lambda values: {"inputs": [of_bytes(picture(1), "much", metadata=values)]},
    "PostAnnotations": lambda values: {"annotations": [annotation(values)]},
    "PostWorkflows": lambda values: {"workflows": [Workflow(id="much", metadata=values, nodes=NODES)]},
    "PostEvaluations": lambda values: {
        "eval_metrics": [
            EvalMetrics(model=Model(id="m"), extended_metrics=resources_pb2.ExtendedMetrics(user_metrics=values))
        ]
    },
}
TEXTS: dict[str, Any] = {
    "PostModels": {"models": [Model(id="much", description=LONG)]},
    "PostApps": {"apps": [resources_pb2.App(id="much", name=LONG)]},
    "PostConcepts": {"concepts": [Concept(id="c", definition=LONG)]},
    "PostDatasets": {"datasets": [Dataset(id="much", description=LONG)]},
    "PostWorkflows": {"workflows": [Workflow(id="much", description=LONG, nodes=NODES)]},
    "PostKnowledgeGraphs": {"knowledge_graphs": [resources_pb2.KnowledgeGraph(id="g", description=LONG)]},
    "PostKeys": {"keys": [resources_pb2.Key(description=LONG, scopes=["All"], type="personal_access_token")]},
}


@pytest.mark.parametrize("rpc", METADATA)
def test_metadata_has_a_bound(app: App, rpc: str) -> None:
    answer = app.ask(rpc, **METADATA[rpc](much()))

    assert "1048576 is the limit" in refused_by(answer)


@pytest.mark.parametrize("rpc", TEXTS)
def test_a_text_has_a_bound(app: App, rpc: str) -> None:
    answer = app.ask(rpc, **TEXTS[rpc])

    assert "has 65537 bytes; 65536 is the limit" in refused_by(answer)


def test_what_is_within_the_bounds_is_kept(app: App) -> None:
    text = LONG[1:]

    app.call("PostDatasets", datasets=[Dataset(id="large", description=text, metadata=some())])

    found = app.call("GetDataset", dataset_id="large").dataset
    assert (found.description, found.metadata) == (text, some())


LONG_ID = "i" * 5000
REFUSED: dict[str, Any] = {
    "PostModels": {"models": [Model(id=LONG_ID)]},
    "PostDatasets": {"datasets": [Dataset(id=LONG_ID)]},
    "PostWorkflows": {"workflows": [Workflow(id=LONG_ID, nodes=NODES)]},
    "PostInputs": {"inputs": [of_bytes(picture(2), LONG_ID)]},
    "PostConcepts": {"concepts": [Concept(id=LONG_ID)]},
    "GetModel": {"model_id": LONG_ID},
    "DeleteModelVersion": {"model_id": LONG_ID, "version_id": LONG_ID},
    "GetDataset": {"dataset_id": LONG_ID},
    "GetWorkflow": {"workflow_id": LONG_ID},
    "GetInput": {"input_id": LONG_ID},
    "GetAnnotation": {"input_id": LONG_ID, "annotation_id": LONG_ID},
    "GetConcept": {"concept_id": LONG_ID},
    "GetEvaluation": {"evaluation_id": LONG_ID},
    "GetSearch": {"id": LONG_ID},
}


@pytest.mark.parametrize("rpc", REFUSED)
def test_a_long_id_is_repeated_in_part_and_with_its_length(app: App, rpc: str) -> None:
    said = refused_by(app.ask(rpc, **REFUSED[rpc]))

    assert "…' (5000 characters)" in said
    assert len(said) < 800


@pytest.mark.parametrize("rpc", ["PostModels", "PostDatasets", "PostWorkflows", "PostInputs"])
def test_what_an_id_begins_with_is_said(app: App, rpc: str) -> None:
    ((field, (item,)),) = REFUSED[rpc].items()
    bad = type(item)()
    bad.CopyFrom(item)
    bad.id = "-"

    said = refused_by(app.ask(rpc, **{field: [bad]}))

    assert "is '-'; use up to" in said
    assert "beginning with a letter or digit" in said


def test_a_name_that_is_too_long_for_an_id_is_called_a_name(app: App) -> None:
    said = refused_by(app.ask("PostConcepts", concepts=[Concept(name="w" * 300)]))

    assert said.startswith("A concept without an id has its name as id, and 'www")
    assert said.endswith("Give a short id beside the name.")
