"""Apps whose base workflow cannot run here any more: what needs its model is refused with what is missing, the rest
goes on."""

from __future__ import annotations

import pytest
from clarifai_grpc.grpc.api import resources_pb2
from clarifai_grpc.grpc.api.resources_pb2 import Annotation, BoundingBox, Concept, Data, Region, RegionInfo
from tests.integration.serving import (
    FAILURE,
    MIXED,
    PENDING,
    App,
    by_concept,
    by_image,
    hit_inputs,
    of_bytes,
    picture,
)

NEEDS_MODEL = 22002
#: Workflows that cannot run, and what is said of them.
ABSENT = [("Language-Understanding", "texts are stored and not ranked"), ("clip-of-old", "not installed")]
absent_workflows = pytest.mark.parametrize(("workflow_id", "reason"), ABSENT)


def region(region_id: str, concept_id: str, *, left: float | None = 0.25) -> Data:
    """Something said of a region, which is made here unless ``left`` is None."""
    box = BoundingBox(top_row=0.25, left_col=left or 0, bottom_row=0.75, right_col=0.75)
    place = None if left is None else RegionInfo(bounding_box=box)
    said = Data(concepts=[Concept(id=concept_id, value=1)])
    return Data(regions=[Region(id=region_id, region_info=place, data=said)])


def left_without(app: App, workflow_id: str) -> None:
    """The app as a server finds it that is started without the model."""
    app.server.sql("UPDATE apps SET workflow_id = %s WHERE id = %s RETURNING id", workflow_id, app.id)


def areas(app: App) -> int:
    found = app.server.sql("SELECT count(*) FROM areas JOIN apps ON first_bucket = bucket WHERE apps.id = %s", app.id)
    return int(found[0][0])


@absent_workflows
def test_new_regions_are_refused_and_labels_are_not(app: App, workflow_id: str, reason: str) -> None:
    app.indexed(of_bytes(picture(1), "a"))
    app.annotate(Annotation(id="first", input_id="a", data=region("r1", "boat")))
    left_without(app, workflow_id)

    answer = app.ask(
        "PostAnnotations",
        annotations=[
            Annotation(id="new", input_id="a", data=region("r2", "mast", left=0.5)),
            Annotation(id="whole", input_id="a", data=Data(concepts=[Concept(id="harbour", value=1)])),
            Annotation(id="known", input_id="a", data=region("r1", "ship", left=None)),
            Annotation(id="same", input_id="a", data=region("r1", "sail")),
        ],
    )

    assert answer.status.code == MIXED
    assert [one.status.code for one in answer.annotations] == [NEEDS_MODEL, 24150, 24150, 24150]
    assert f"{workflow_id} cannot run: " in answer.annotations[0].status.details
    assert reason in answer.annotations[0].status.details
    assert {one.id for one in app.annotations()} >= {"first", "whole", "known", "same"}
    assert areas(app) == 2


@absent_workflows
def test_a_region_stays_where_it_is_and_what_is_said_of_it_changes(app: App, workflow_id: str, reason: str) -> None:
    app.indexed(of_bytes(picture(1), "a"))
    app.annotate(*(Annotation(id=f"s{n}", input_id="a", data=region(f"r{n}", "boat")) for n in range(2)))
    left_without(app, workflow_id)

    moved = Annotation(id="s0", input_id="a", data=region("", "boat", left=0.5))
    relabelled = Annotation(id="s1", input_id="a", data=Data(concepts=[Concept(id="ship", value=1)]))
    answer = app.ask("PatchAnnotations", action="merge", annotations=[moved, relabelled])
    alone = app.ask("PatchAnnotations", action="merge", annotations=[moved])

    assert (answer.status.code, alone.status.code) == (MIXED, FAILURE)
    assert [one.status.code for one in answer.annotations] == [NEEDS_MODEL, 24150]
    assert reason in answer.annotations[0].status.details
    stored = {one.id: one for one in app.annotations()}
    assert stored["s0"].data.regions[0].region_info.bounding_box.left_col == 0.25
    assert [concept.id for concept in stored["s1"].data.regions[0].data.concepts] == ["boat", "ship"]
    assert areas(app) == 3


@absent_workflows
def test_a_region_of_an_input_that_waits_for_the_model_waits_with_it(app: App, workflow_id: str, reason: str) -> None:
    left_without(app, workflow_id)
    app.post(of_bytes(picture(1), "a"))

    (made,) = app.annotate(Annotation(input_id="a", data=region("r1", "boat")))

    assert made.status.code == 24150
    assert app.call("GetInput", input_id="a").input.status.code == PENDING


def test_a_workflow_that_runs_no_model_needs_none(app: App) -> None:
    app.indexed(of_bytes(picture(1), "a"))
    left_without(app, "Empty")

    (made,) = app.annotate(Annotation(input_id="a", data=region("r1", "boat")))

    assert made.status.code == 24150


@absent_workflows
def test_ranks_tell_what_is_missing_and_filters_find(app: App, workflow_id: str, reason: str) -> None:
    app.indexed(of_bytes(picture(1), "a", concepts=[Concept(id="boat", value=1)]), of_bytes(picture(2), "b"))
    left_without(app, workflow_id)
    boats = resources_pb2.Filter(annotation=Annotation(data=Data(concepts=[Concept(id="boat", value=1)])))

    def search(**query: object) -> resources_pb2.Search:
        return resources_pb2.Search(query=resources_pb2.Query(**query))

    for rank in (by_image(picture(1)), by_concept("boat")):
        refused = app.ask("PostAnnotationsSearches", searches=[search(ranks=[rank], filters=[boats])]).status
        assert refused.code == NEEDS_MODEL
        assert f"{workflow_id} cannot run: " in refused.details
        assert reason in refused.details
    found = app.call("PostInputsSearches", searches=[search(filters=[boats])])
    assert hit_inputs(found.hits) == ["a"]
