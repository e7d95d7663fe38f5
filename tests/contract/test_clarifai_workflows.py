"""Workflows through Clarifai's own client, on both channels: what its own tests do, and its guide's walkthrough in
which a few labelled faces name the people in new pictures."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from clarifai_grpc.grpc.api import resources_pb2, service_pb2, service_pb2_grpc
from clarifai_grpc.grpc.api.resources_pb2 import (
    Annotation,
    Concept,
    Data,
    Model,
    ModelVersion,
    NodeInput,
    Region,
    UserAppIDSet,
    Workflow,
    WorkflowNode,
)
from clarifai_grpc.grpc.api.status import status_code_pb2 as codes
from tests.contract.clients import SUCCESS, App, key, of_bytes, of_url
from tests.contract.pictures import Picture, PictureServer
from tests.contract.serving import Server
from tests.drawn_face import HEAD, drawn_face, jpeg

GENERAL, GENERAL_VERSION = "aaa03c23b3724a16a56b629203edc62c", "aa7f35c01e0642fda5cf400f543e7c40"
EMBEDDER, EMBEDDER_VERSION = "bbb5f41425b8468d9b7a554ff10f8581", "bb186755eda04f9cbb6fe32e816be104"
CLUSTERER, CLUSTERER_VERSION = "cccbe437d6e54e2bb911c6aa292fb072", "cc2074cff6dc4c02b6f4e1b8606dcb54"
FACE, FACE_VERSION = "d02b4508df58432fbb84e800597b8959", "6ca3b762008e419583258aca49b88401"


def node(id: str, model_id: str, version_id: str = "", *inputs: str) -> WorkflowNode:
    model = Model(id=model_id, model_version=ModelVersion(id=version_id) if version_id else None)
    return WorkflowNode(id=id, model=model, node_inputs=[NodeInput(node_id=name) for name in inputs])


# What Clarifai's own tests do ----------------------------------------------------------------------------------------


def test_a_workflow_is_made_read_patched_asked_and_removed(
    app: App, site: PictureServer, photos: list[Picture]
) -> None:
    workflow_id = f"general-and-more-{uuid.uuid4().hex}"[:32]

    made = app.call(
        "PostWorkflows",
        workflows=[
            Workflow(
                id=workflow_id,
                nodes=[
                    node("general", GENERAL, GENERAL_VERSION),
                    node("embedding", EMBEDDER, EMBEDDER_VERSION),
                ],
            )
        ],
    )
    listed = app.call("ListWorkflows")
    read = app.call("GetWorkflow", workflow_id=workflow_id).workflow
    patched = app.call(
        "PatchWorkflows",
        action="overwrite",
        workflows=[Workflow(id=workflow_id, nodes=[node("general", GENERAL, GENERAL_VERSION), node("faces", FACE)])],
    )
    answer = app.call("PostWorkflowResults", workflow_id=workflow_id, inputs=[of_url(site, photos[0])])
    app.call("DeleteWorkflow", workflow_id=workflow_id)
    gone = app.ask("GetWorkflow", workflow_id=workflow_id)

    assert [each.id for each in made.workflows] == [workflow_id]
    assert [each.id for each in listed.workflows] == [workflow_id]
    assert [each.id for each in read.nodes] == ["general", "embedding"]
    assert [each.id for each in patched.workflows[0].nodes] == ["general", "faces"]
    assert patched.workflows[0].version.id != read.version.id
    concepts, faces = answer.results[0].outputs
    assert len(concepts.data.concepts) == 20
    assert (concepts.model.id, faces.model.id) == ("general-image-recognition", "face-detection")
    assert gone.status.code == codes.WORKFLOW_DOES_NOT_EXIST


def test_a_model_that_is_not_here_is_refused_by_its_name(app: App) -> None:
    moderation = node("moderation", "d16f390eb32cad478c7ae150069bd2c6", "aa8be956dbaa4b7a858826a84253cab9")

    answer = app.ask("PostWorkflows", workflows=[Workflow(id="moderating", nodes=[moderation])])

    assert answer.status.code == codes.MODEL_DOES_NOT_EXIST
    assert "Node 'moderation'" in answer.status.details


def test_the_nodes_of_the_guides_workflows_are_accepted_as_printed(app: App) -> None:
    nodes = [
        node("general-embed", EMBEDDER, EMBEDDER_VERSION),
        node("general-concept", GENERAL, GENERAL_VERSION),
        node("general-cluster", CLUSTERER, CLUSTERER_VERSION),
        node("face-v1.3-embed", FACE, FACE_VERSION),
    ]

    (made,) = app.call("PostWorkflows", workflows=[Workflow(id="auto-annotation-workflow-id", nodes=nodes)]).workflows

    assert [each.model.id for each in made.nodes] == [
        "general-image-embedding",
        "general-image-recognition",
        "general-image-clustering",
        "face-detection",
    ]


# The guide's "Custom KNN Face Classifier Workflow" --------------------------------------------------------------------


def portrait(shirt: tuple[int, int, int], tint: tuple[float, float, float]) -> bytes:
    """The drawn face of one person: by the colour of the skin and of the wall behind."""
    pixels = drawn_face(shirt).astype(float)
    left, top, right, bottom = HEAD
    pixels[top:bottom, left:right] *= tint
    return jpeg(pixels.clip(0, 255).astype("uint8"))


ANN, BEN = (1.0, 0.8, 0.75), (0.75, 0.9, 1.1)


@pytest.fixture
def faces_app(server: Server, stub: service_pb2_grpc.V2Stub) -> App:
    """A new application with Face as its base workflow."""
    app_id = f"faces-{uuid.uuid4().hex[:12]}"
    request = service_pb2.PostAppsRequest(
        user_app_id=UserAppIDSet(user_id=server.user_id),
        apps=[resources_pb2.App(id=app_id, default_workflow_id="Face")],
    )
    answer = stub.PostApps(request, metadata=key(server.pat))
    assert answer.status.code == SUCCESS, answer
    user_app_id = UserAppIDSet(user_id=server.user_id, app_id=app_id)
    return App(stub=stub, metadata=key(server.pat), user_app_id=user_app_id)


def found_regions(app: App) -> dict[str, Region]:
    """Input id to the face that was found in it."""
    annotations = app.call("ListAnnotations", list_all_annotations=True, page=1, per_page=100).annotations
    return {
        annotation.input_id: annotation.data.regions[0]
        for annotation in annotations
        if annotation.worker.model.id == "face-detection"
    }


def name_faces(app: App, people: dict[str, str]) -> None:
    """Labels the face in each input with a person."""
    regions = found_regions(app)
    assert regions.keys() == people.keys()
    annotations = [
        Annotation(
            input_id=input_id,
            data=Data(
                regions=[
                    Region(
                        id=regions[input_id].id,
                        data=Data(concepts=[Concept(id=f"id-{person}", name=person, value=1)]),
                    )
                ]
            ),
        )
        for input_id, person in people.items()
    ]
    app.call("PostAnnotations", annotations=annotations)


def make_knn(app: App) -> str:
    """The model of the walkthrough; the id of its version."""
    concepts = [Concept(id="id-ann"), Concept(id="id-ben")]
    model = Model(
        id="my-knn-face-classifier-model",
        model_type_id="knn-concept",
        output_info=resources_pb2.OutputInfo(data=Data(concepts=concepts)),
    )
    return str(app.call("PostModels", models=[model]).model.model_version.id)


def ask(app: App, workflow_id: str, picture: bytes) -> dict[str, Any]:
    """The data of each node's output, by the id of its model."""
    answer = app.call(
        "PostWorkflowResults", workflow_id=workflow_id, inputs=[of_bytes(Picture(name="new", data=picture))]
    )
    return {output.model.id: output.data for output in answer.results[0].outputs}


@pytest.fixture
def named(faces_app: App) -> App:
    """With one labelled face of Ann and one of Ben."""
    pictures = [
        Picture(name="a", data=portrait((90, 110, 90), ANN)),
        Picture(name="b", data=portrait((90, 90, 120), BEN)),
    ]
    ann, ben = faces_app.post([of_bytes(picture) for picture in pictures])
    name_faces(faces_app, {ann: "ann", ben: "ben"})
    return faces_app


def test_a_few_labelled_faces_name_people_in_new_pictures(named: App) -> None:
    version_id = make_knn(named)
    crop = Model(id="crop", model_type_id="image-crop")
    named.call("PostModels", models=[crop])
    nodes = [
        node("faces", FACE),
        node("crop", "crop", "", "faces"),
        node("embed", EMBEDDER, EMBEDDER_VERSION, "crop"),
        node("knn-classifier", "my-knn-face-classifier-model", version_id, "embed"),
    ]
    named.call("PostWorkflows", workflows=[Workflow(id="detect-knn-workflow", nodes=nodes)])

    for tint, person in ((ANN, "ann"), (BEN, "ben")):
        (region,) = ask(named, "detect-knn-workflow", portrait((140, 60, 60), tint))[
            "my-knn-face-classifier-model"
        ].regions
        first, second = region.data.concepts
        assert (first.id, first.name) == (f"id-{person}", person)
        assert first.value > 0.5 > second.value
        assert first.app_id == named.user_app_id.app_id


def test_the_walkthroughs_workflow_runs_as_printed(named: App) -> None:
    version_id = make_knn(named)
    nodes = [node("face-v1.3-embed", FACE), node("knn-classifier", "my-knn-face-classifier-model", version_id)]
    named.call("PostWorkflows", workflows=[Workflow(id="detect-knn-workflow", nodes=nodes)])

    data = ask(named, "detect-knn-workflow", portrait((90, 110, 90), ANN))

    assert len(data["face-detection"].regions) == 1
    concepts = data["my-knn-face-classifier-model"].concepts
    assert [concept.name for concept in concepts] == ["ann", "ben"]
    assert sum(concept.value for concept in concepts) == pytest.approx(1.0, abs=1e-5)


def test_a_label_given_later_counts_at_once(named: App) -> None:
    make_knn(named)
    nodes = [node("faces", FACE), node("names", "my-knn-face-classifier-model", "", "faces")]
    named.call("PostWorkflows", workflows=[Workflow(id="flow", nodes=nodes)])
    stranger = portrait((60, 60, 60), (0.4, 0.5, 0.4))
    (input_id,) = named.post([of_bytes(Picture(name="c", data=stranger))])

    region = found_regions(named)[input_id]
    data = Data(regions=[Region(id=region.id, data=Data(concepts=[Concept(id="id-ben", name="ben", value=1)]))])
    named.call("PostAnnotations", annotations=[Annotation(input_id=input_id, data=data)])

    (found,) = ask(named, "flow", stranger)["my-knn-face-classifier-model"].regions
    assert found.data.concepts[0].name == "ben"
    assert found.data.concepts[0].value > 0.5
