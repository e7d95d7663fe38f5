"""Detectors through Clarifai's own client: predictions with regions, apps whose workflow finds regions, searches."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from clarifai_grpc.grpc.api import resources_pb2, service_pb2, service_pb2_grpc
from clarifai_grpc.grpc.api.resources_pb2 import Annotation, Concept, Data, Filter, Hit, OutputConfig, UserAppIDSet
from tests.contract.clients import SUCCESS, App, by_concept, by_image, having, key, of_bytes
from tests.contract.pictures import PHOTOS, Picture
from tests.contract.serving import Server
from tests.drawn_face import HEAD, SIZE, drawn_face, jpeg
from tests.waiting import wait_for

FACE, PEOPLE = "ai_8jtPl3Xj", "ai_l8TKp2h5"
TAGGER, EMBEDDER, FACES, THINGS = (
    "general-image-recognition",
    "general-image-embedding",
    "face-detection",
    "general-image-detection",
)
needs_photos = pytest.mark.skipif(not PHOTOS.is_file(), reason=f"the photographs are not at {PHOTOS}")

#: Makes an App of a new application with that base workflow.
AppWith = Callable[[str], App]
PORTRAIT = Picture(name="portrait", data=jpeg(drawn_face()))
OTHER_PORTRAIT = Picture(name="other-portrait", data=jpeg(drawn_face((200, 60, 60))[:, ::-1]))


@pytest.fixture
def app_with(server: Server, stub: service_pb2_grpc.V2Stub) -> AppWith:
    def make(workflow_id: str) -> App:
        app_id = f"app-{uuid.uuid4().hex[:12]}"
        request = service_pb2.PostAppsRequest(
            user_app_id=UserAppIDSet(user_id=server.user_id),
            apps=[resources_pb2.App(id=app_id, default_workflow_id=workflow_id)],
        )
        answer = stub.PostApps(request, metadata=key(server.pat))
        assert answer.status.code == SUCCESS, answer
        user_app_id = UserAppIDSet(user_id=server.user_id, app_id=app_id)
        return App(stub=stub, metadata=key(server.pat), user_app_id=user_app_id)

    return make


def said_by(app: App, model_id: str) -> list[Annotation]:
    """What a model wrote about the inputs of an app."""
    every = app.call("ListAnnotations", list_all_annotations=True, per_page=500).annotations
    return [annotation for annotation in every if annotation.worker.model.id == model_id]


def places(hits: list[Hit]) -> list[tuple[str, tuple[float, ...], float, float]]:
    """Of each hit its input, the box and the value of its region (nothing for a whole image), and its score."""
    return [(hit.input.id, _box(hit.annotation), _value(hit.annotation), round(hit.score, 4)) for hit in hits]


def _value(annotation: Annotation) -> float:
    return round(sum(region.value for region in annotation.data.regions), 4)


def _box(annotation: Annotation) -> tuple[float, ...]:
    boxes = [region.region_info.bounding_box for region in annotation.data.regions]
    return tuple(round(side, 4) for box in boxes for side in (box.left_col, box.top_row, box.right_col, box.bottom_row))


def surrounds_the_drawn_face(region: resources_pb2.Region) -> bool:
    """Whether the middle of a region is on the face of ``drawn_face``."""
    box = region.region_info.bounding_box
    across, down = (box.left_col + box.right_col) / 2 * SIZE[0], (box.top_row + box.bottom_row) / 2 * SIZE[1]
    return HEAD[0] < across < HEAD[2] and HEAD[1] < down < HEAD[3]


# Models and predictions ----------------------------------------------------------------------------------------------


def test_the_detector_of_faces_is_a_model_like_the_others(app: App) -> None:
    model = app.call("GetModel", model_id=FACES).model
    (concept,) = app.call("ListModelConcepts", model_id=FACES).concepts

    assert (model.id, model.model_type_id, model.model_version.active_concept_count) == (FACES, "visual-detector", 1)
    assert (concept.id, concept.name) == (FACE, "face")


def test_models_and_workflows_that_find_regions_are_listed(server: Server, stub: service_pb2_grpc.V2Stub) -> None:
    request = service_pb2.ListModelsRequest(model_type_id="visual-detector")
    models = stub.ListModels(request, metadata=key(server.api_key)).models
    main = UserAppIDSet(user_id="clarifai", app_id="main")
    workflows = stub.ListWorkflows(
        service_pb2.ListWorkflowsRequest(user_app_id=main, per_page=20), metadata=key(server.api_key)
    ).workflows

    assert FACES in [model.id for model in models]
    nodes = {workflow.id: [node.model.id for node in workflow.nodes] for workflow in workflows}
    assert nodes["Face"] == [TAGGER, EMBEDDER, FACES]
    assert nodes["General"] == [TAGGER, EMBEDDER]
    assert nodes["General-Detection"] == [TAGGER, EMBEDDER, THINGS]


def test_a_detector_answers_with_regions(app: App) -> None:
    answer = app.call("PostModelOutputs", model_id=FACES, inputs=[of_bytes(PORTRAIT, id="a")])

    (output,) = answer.outputs
    (region,) = output.data.regions
    (concept,) = region.data.concepts
    assert surrounds_the_drawn_face(region)
    assert (concept.id, concept.name, concept.app_id) == (FACE, "face", "main")
    assert 0.85 <= region.value <= 1.0
    assert concept.value == pytest.approx(region.value)
    assert (output.model.id, output.input.id) == (FACES, "a")
    assert not output.data.concepts


def test_what_a_detector_answers_with_can_be_bounded_and_named(app: App) -> None:
    def regions(**config: Any) -> list[resources_pb2.Region]:
        model = resources_pb2.Model(output_info=resources_pb2.OutputInfo(output_config=OutputConfig(**config)))
        answer = app.call("PostModelOutputs", model_id=FACES, inputs=[of_bytes(PORTRAIT)], model=model)
        return list(answer.outputs[0].data.regions)

    assert regions(min_value=1.0) == []
    assert len(regions(select_concepts=[Concept(name="face")], max_concepts=1)) == 1
    assert regions(language="ja")[0].data.concepts[0].name == "顔"


def test_a_picture_without_faces_has_no_regions_and_is_no_error(app: App) -> None:
    blank = Picture(name="blank", data=jpeg(drawn_face() * 0 + 90))

    (output,) = app.call("PostModelOutputs", model_id=FACES, inputs=[of_bytes(blank)]).outputs

    assert output.status.code == SUCCESS
    assert not output.data.regions


def test_a_workflow_with_a_detector_answers_as_general_does_and_with_regions(app: App) -> None:
    def outputs(workflow_id: str) -> list[resources_pb2.Output]:
        answer = app.call("PostWorkflowResults", workflow_id=workflow_id, inputs=[of_bytes(PORTRAIT)])
        return list(answer.results[0].outputs)

    tags, vector, faces = outputs("Face")
    general_tags, general_vector = outputs("General")
    assert [output.model.id for output in (tags, vector, faces)] == [TAGGER, EMBEDDER, FACES]
    assert [c.id for c in tags.data.concepts] == [c.id for c in general_tags.data.concepts]
    assert vector.data.embeddings[0].vector == pytest.approx(general_vector.data.embeddings[0].vector, abs=1e-3)
    assert [surrounds_the_drawn_face(region) for region in faces.data.regions] == [True]


# Apps ----------------------------------------------------------------------------------------------------------------


def test_an_app_with_face_indexes_each_face_beside_its_image(app_with: AppWith) -> None:
    app = app_with("Face")
    (input_id,) = app.post([of_bytes(PORTRAIT)])

    (face,) = said_by(app, FACES)
    tagged = said_by(app, TAGGER)
    (region,) = face.data.regions
    assert face.input_id == input_id
    assert surrounds_the_drawn_face(region)
    assert [(concept.id, concept.name) for concept in region.data.concepts] == [(FACE, "face")]
    assert region.value == pytest.approx(region.data.concepts[0].value)
    assert not face.trusted
    assert sorted(len(annotation.data.regions) for annotation in tagged) == [0, 1]


def test_ranks_and_filters_lead_to_the_region_of_a_face(app_with: AppWith) -> None:
    app = app_with("Face")
    ids = app.post([of_bytes(PORTRAIT), of_bytes(OTHER_PORTRAIT)])
    (mine,) = [each for each in said_by(app, FACES) if each.input_id == ids[0]]
    left, top, right, bottom = _box(mine)
    cut = drawn_face()[round(top * SIZE[1]) : round(bottom * SIZE[1]), round(left * SIZE[0]) : round(right * SIZE[0])]

    nearest = app.rank(by_image(base64=jpeg(cut)))[0]
    by_people = app.rank(by_concept(id=PEOPLE, value=1))
    by_the_model = resources_pb2.Worker(model=resources_pb2.Model(id=FACES))
    of_faces = Filter(annotation=Annotation(data=Data(concepts=[Concept(id=FACE, value=1)]), worker=by_the_model))
    named = app.filter(of_faces)

    assert places([nearest])[0][:2] == (ids[0], (left, top, right, bottom))
    assert nearest.annotation.data.regions[0].value == pytest.approx(mine.data.regions[0].value)
    assert {(hit.input.id, bool(hit.annotation.data.regions)) for hit in by_people} == {
        (input_id, has_region) for input_id in ids for has_region in (False, True)
    }
    assert sorted(hit.input.id for hit in named) == sorted(ids)
    assert all(hit.annotation.data.regions[0].value >= 0.85 for hit in named)


def test_faces_rank_by_how_surely_they_were_found_and_people_know_better(app_with: AppWith) -> None:
    app = app_with("Face")
    blank = Picture(name="blank", data=jpeg(drawn_face() * 0 + 90))
    input_id, _ = app.post([of_bytes(PORTRAIT), of_bytes(blank)])
    (face,) = said_by(app, FACES)

    first, *others = app.rank(by_concept(id=FACE, value=1))
    (named,) = app.rank(by_concept(name="Gesicht", language="de", value=1))[:1]
    without = app.rank(by_concept(id=FACE, value=0))
    best_input = app.search(resources_pb2.Query(ranks=[by_concept(id=FACE, value=1)]), unit="Inputs")[0]
    denied = resources_pb2.Region(id=face.data.regions[0].id, data=Data(concepts=[Concept(id=FACE, value=0)]))
    app.call("PostAnnotations", annotations=[Annotation(input_id=input_id, data=Data(regions=[denied]))])
    after = app.rank(by_concept(id=FACE, value=1))

    assert (first.input.id, _box(first.annotation)) == (input_id, _box(face))
    assert first.score == pytest.approx(face.data.regions[0].value, abs=1e-5)
    assert [hit.score for hit in others] == [0.0, 0.0]
    assert (named.annotation.id, named.score) == (first.annotation.id, first.score)
    assert [round(hit.score, 4) for hit in without] == [1.0, 1.0, round(1 - first.score, 4)]
    assert (best_input.input.id, best_input.score) == (input_id, first.score)
    assert [hit.score for hit in after] == [0.0, 0.0, 0.0]


def test_labels_on_a_found_face_name_who_it_is(app_with: AppWith) -> None:
    app = app_with("Face")
    (input_id,) = app.post([of_bytes(PORTRAIT)])
    (face,) = said_by(app, FACES)
    region = resources_pb2.Region(id=face.data.regions[0].id, data=Data(concepts=[Concept(id="ada", value=1)]))

    app.call("PostAnnotations", annotations=[Annotation(input_id=input_id, data=Data(regions=[region]))])
    (hit,) = app.filter(having(id="ada", value=1))

    assert hit.input.id == input_id
    assert surrounds_the_drawn_face(hit.annotation.data.regions[0])


def test_a_face_that_got_a_name_is_still_found_as_a_face_after_indexing_anew(app_with: AppWith) -> None:
    app = app_with("Face")
    (input_id,) = app.post([of_bytes(PORTRAIT)])
    (face,) = said_by(app, FACES)
    region = resources_pb2.Region(id=face.data.regions[0].id, data=Data(concepts=[Concept(id="ada", value=1)]))
    app.call("PostAnnotations", annotations=[Annotation(input_id=input_id, data=Data(regions=[region]))])
    before = places(app.rank(by_concept(id=FACE, value=1)))
    assert app.user_app_id is not None
    again = resources_pb2.App(id=app.user_app_id.app_id, default_workflow_id="Face")

    app.call("PatchApps", apps=[again], action="overwrite", reindex=True)
    wait_for("the face to be found anew", lambda: face.id not in {one.id for one in said_by(app, FACES)}, seconds=60)

    assert places(app.rank(by_concept(id=FACE, value=1))) == before
    assert before[0][3] > 0.8
    (anew,) = said_by(app, FACES)
    assert anew.data.regions[0].id == face.data.regions[0].id


@pytest.mark.parametrize("workflow_id", ["Face", pytest.param("General-Detection", marks=needs_photos)])
def test_an_app_that_changes_over_is_as_one_that_began_so(
    app_with: AppWith, photos: list[Picture], workflow_id: str
) -> None:
    pictures = [of_bytes(picture, id=f"p{n}") for n, picture in enumerate([PORTRAIT, OTHER_PORTRAIT, *photos[:4]])]
    changed, fresh = app_with("General"), app_with(workflow_id)
    changed.post(pictures)
    fresh.post(pictures)
    assert changed.user_app_id is not None
    wanted = resources_pb2.App(id=changed.user_app_id.app_id, default_workflow_id=workflow_id)

    changed.call("PatchApps", apps=[wanted], action="overwrite", reindex=True)
    wait_for(
        f"the app to have {workflow_id}",
        lambda: changed.call("GetApp").app.default_workflow_id == workflow_id,
        seconds=120,
    )

    for rank in (by_concept(id=PEOPLE, value=1), by_concept(id=FACE, value=1), by_image(base64=PORTRAIT.data)):
        hits = places(fresh.rank(rank))
        assert sorted(places(changed.rank(rank))) == sorted(hits)
        assert {bool(box) for _, box, _, _ in hits} == {True, False}
        assert all(value > 0 for _, box, value, _ in hits if box)


@needs_photos
def test_things_are_found_and_searched_for(app_with: AppWith, photos: list[Picture]) -> None:
    app = app_with("General-Detection")
    people = [picture for picture in photos if "person" in picture.shows]
    others = [picture for picture in photos if not picture.shows & {"person", "cat", "dog"}][:4]
    app.post([of_bytes(picture, id=picture.name) for picture in (*people, *others)])

    found = said_by(app, THINGS)
    (output,) = app.call("PostModelOutputs", model_id=THINGS, inputs=[of_bytes(people[0])]).outputs
    best = app.rank(by_concept(id=PEOPLE, value=1))[:5]

    with_people = {
        annotation.input_id for annotation in found if annotation.data.regions[0].data.concepts[0].id == PEOPLE
    }
    assert len(with_people & {picture.name for picture in people}) >= len(people) // 2
    assert {region.data.concepts[0].app_id for region in output.data.regions} <= {"main"}
    assert {hit.input.id for hit in best} <= {picture.name for picture in people}
    regions = [region for hit in best for region in hit.annotation.data.regions]
    assert regions
    assert all(0 < region.value <= 1 and region.region_info.HasField("bounding_box") for region in regions)
