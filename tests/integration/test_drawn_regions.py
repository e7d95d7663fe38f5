"""Regions that people draw in an app with a workflow of its own: whenever they are drawn they get vectors, what the
base models say and their place in searches, and the own workflow says nothing of them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest
from clarifai_grpc.grpc.api.resources_pb2 import (
    Annotation,
    BoundingBox,
    Concept,
    Data,
    Model,
    NodeInput,
    Region,
    RegionInfo,
    Workflow,
    WorkflowNode,
)
from clarifai_grpc.grpc.api.resources_pb2 import App as ClarifaiApp
from tests.drawn_face import drawn_face, jpeg
from tests.integration.own_models import operator
from tests.integration.serving import INDEXED, App, Site, by_concept, of_bytes, of_url, wait_for

TAGGER, FACES = "general-image-recognition", "face-detection"
PENDING = 24151
BOX = BoundingBox(top_row=0.5, left_col=0.0, bottom_row=1.0, right_col=0.4)
FACE = jpeg(drawn_face())


def node(id: str, model_id: str, *inputs: str) -> WorkflowNode:
    return WorkflowNode(id=id, model=Model(id=model_id), node_inputs=[NodeInput(node_id=name) for name in inputs])


@pytest.fixture
def asking(app: App) -> App:
    """Its own workflow puts the whole of each picture and each face in it before a person."""
    app.call("PostModels", models=[operator("ask", "annotation-writer", annotation_status=PENDING)])
    nodes = [
        node("concept", TAGGER),
        node("find", FACES),
        node("who", TAGGER, "find"),
        node("ask-whole", "ask", "concept"),
        node("ask-face", "ask", "who"),
    ]
    app.call("PostWorkflows", workflows=[Workflow(id="asks", nodes=nodes)])
    app.call("PatchApps", action="overwrite", apps=[ClarifaiApp(id=app.id, default_workflow_id="asks")])
    return app


def draw(app: App, input_id: str) -> str:
    """A person says what is in a part of the picture; the id of the region."""
    said = Data(concepts=[Concept(id="corner", value=1)])
    region = Region(region_info=RegionInfo(bounding_box=BOX), data=said)
    (annotation,) = app.annotate(Annotation(input_id=input_id, data=Data(regions=[region])))
    return str(annotation.data.regions[0].id)


def places(annotations: Sequence[Annotation]) -> list[str]:
    """The regions they speak of, '' where it is the whole picture."""
    return sorted(one.data.regions[0].id if one.data.regions else "" for one in annotations)


def asked(app: App, input_id: str) -> list[str]:
    """What the workflow put before a person."""
    found = app.annotations(input_ids=[input_id], user_ids=["me"], per_page=100)
    return places([one for one in found if one.status.code == PENDING])


def tagged(app: App, input_id: str) -> list[str]:
    """What the base workflow's tagger spoke of."""
    found = app.annotations(input_ids=[input_id], list_all_annotations=True, per_page=100)
    return places([one for one in found if one.worker.model.id == TAGGER])


def faces(app: App, input_id: str) -> list[str]:
    found = app.annotations(input_ids=[input_id], list_all_annotations=True, per_page=100)
    return places([one for one in found if one.worker.model.id == FACES])


def look_at_all_again(app: App) -> None:
    app.call("PatchApps", action="overwrite", reindex=True, apps=[ClarifaiApp(id=app.id, default_workflow_id="asks")])
    wait_for("all inputs to be looked at", lambda: not app.call("GetApp").status.details)


def ranked(app: App) -> list[Any]:
    """The drawn regions, as hits of the concept that was said of them."""
    return [hit.annotation.data.regions[0].id for hit in app.rank(by_concept("corner")) if hit.annotation.data.regions]


def test_a_region_that_is_drawn_later_is_searched_and_not_annotated_by_the_own_workflow(asking: App) -> None:
    (input_id,) = asking.indexed(of_bytes(FACE, "late"))
    (face,) = faces(asking, input_id)
    before = asked(asking, input_id)

    region_id = draw(asking, input_id)

    assert before == sorted(["", face])
    assert asked(asking, input_id) == before
    assert tagged(asking, input_id) == sorted(["", face, region_id])
    assert ranked(asking)[0] == region_id


def test_it_is_the_same_when_the_region_was_drawn_before_the_input_was_looked_at(asking: App, site: Site) -> None:
    gate = threading.Event()
    (input_id,) = asking.post(of_url(site.show(FACE, gate=gate), "early"))
    region_id = draw(asking, input_id)
    gate.set()
    assert asking.finished(input_id).status.code == INDEXED
    (face,) = faces(asking, input_id)

    assert asked(asking, input_id) == sorted(["", face])
    assert tagged(asking, input_id) == sorted(["", face, region_id])
    assert ranked(asking)[0] == region_id


def test_it_is_the_same_after_all_inputs_were_looked_at_again(asking: App) -> None:
    (input_id,) = asking.indexed(of_bytes(FACE, "again"))
    region_id = draw(asking, input_id)
    ((vector, version),) = vectors_of(asking, region_id)

    look_at_all_again(asking)

    (face,) = faces(asking, input_id)
    assert asked(asking, input_id) == sorted(["", face])
    assert tagged(asking, input_id) == sorted(["", face, region_id])
    assert ranked(asking)[0] == region_id
    ((again, later),) = vectors_of(asking, region_id)
    assert again == vector
    assert later > version, "the region was looked at with its picture"


def vectors_of(app: App, region_id: str) -> list[tuple[Any, ...]]:
    return app.server.sql(
        "SELECT v.vector::text, v.version FROM vectors_1 v JOIN areas r ON r.bucket = v.bucket AND r.id = v.area_id"
        " WHERE r.region_id = %s",
        region_id,
    )
