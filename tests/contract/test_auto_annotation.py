"""The guide's auto-annotation by the official client, on both of its channels: an app's own workflow labels what it is
sure of and asks a person about the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pytest
from clarifai_grpc.grpc.api import resources_pb2
from clarifai_grpc.grpc.api.resources_pb2 import (
    Annotation,
    Concept,
    ConceptRelation,
    Data,
    Filter,
    Input,
    Model,
    ModelVersion,
    NodeInput,
    OutputInfo,
    Workflow,
    WorkflowNode,
)
from clarifai_grpc.grpc.api.status import status_code_pb2 as codes
from clarifai_grpc.grpc.api.status.status_pb2 import Status
from google.protobuf.struct_pb2 import Struct
from tests import films
from tests.contract.clients import App, by_concept, by_image, input_ids, of_bytes
from tests.contract.pictures import PHOTOS, Picture
from tests.contract.test_video_inputs import as_shown, of_film
from tests.waiting import wait_for

OWN = "mine"
PEOPLE = "ai_l8TKp2h5"
GENERAL, EMBEDDER, CLUSTERER = (
    # The ids and versions that the guide prints.
    ("aaa03c23b3724a16a56b629203edc62c", "aa7f35c01e0642fda5cf400f543e7c40"),
    ("bbb5f41425b8468d9b7a554ff10f8581", "bb186755eda04f9cbb6fe32e816be104"),
    ("cccbe437d6e54e2bb911c6aa292fb072", "cc2074cff6dc4c02b6f4e1b8606dcb54"),
)
GREATER, LESS = 1, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A public concept that is predicted of some pictures above ``bound``, of others below it, and of others not."""

    concept_id: str
    bound: float
    above: frozenset[str]
    below: frozenset[str]


def predicted(app: App, photos: list[Picture]) -> dict[str, dict[str, float]]:
    """The 20 likeliest concepts of each picture."""
    inputs = [of_bytes(photo) for photo in photos]
    outputs = app.call("PostModelOutputs", model_id=GENERAL[0], inputs=inputs).outputs
    return {
        photo.name: {concept.id: concept.value for concept in output.data.concepts}
        for photo, output in zip(photos, outputs, strict=True)
    }


def choose(values: Mapping[str, Mapping[str, float]]) -> Choice:
    """The concept whose values of two pictures are furthest apart, of those that some pictures have not at all."""
    by_concept: dict[str, dict[str, float]] = {}
    for name, concepts in values.items():
        for concept_id, value in concepts.items():
            by_concept.setdefault(concept_id, {})[name] = value
    gap, bound, concept_id = max(
        (high - low, (high + low) / 2, concept_id)
        for concept_id, of in by_concept.items()
        if 2 <= len(of) < len(values)
        for low, high in zip(sorted(of.values()), sorted(of.values())[1:], strict=False)
    )
    assert gap > 0.01, "no concept tells these pictures apart"
    of = by_concept[concept_id]
    above = frozenset(name for name, value in of.items() if value > bound)
    return Choice(concept_id=concept_id, bound=bound, above=above, below=frozenset(of) - above)


def make_workflow(app: App, concept_id: str, bound: float) -> None:
    """Concepts, relations, models and the workflow of the guide's walkthrough, step by step."""
    app.call("PostConcepts", concepts=[Concept(id=OWN, name="my concept")])
    synonym = ConceptRelation(
        object_concept=Concept(id=concept_id, app_id="main", user_id="clarifai"), predicate="synonym"
    )
    app.call("PostConceptRelations", concept_id=OWN, concept_relations=[synonym])
    passing = Data(concepts=[Concept(id=OWN, value=bound)])
    for model in (
        operator("synonyms", "concept-synonym-mapper", knowledge_graph_id=""),
        operator("sure", "concept-threshold", passing, concept_threshold_type=GREATER),
        operator("doubtful", "concept-threshold", passing, concept_threshold_type=LESS),
        operator(
            "write-success", "annotation-writer", annotation_status=codes.ANNOTATION_SUCCESS, annotation_user_id="me"
        ),
        operator(
            "write-pending", "annotation-writer", annotation_status=codes.ANNOTATION_PENDING, annotation_user_id="me"
        ),
    ):
        app.call("PostModels", models=[model])
    app.call(
        "PostWorkflows",
        workflows=[
            Workflow(
                id="auto-annotation",
                nodes=[
                    node("embed", *EMBEDDER),
                    node("concept", *GENERAL),
                    node("cluster", *CLUSTERER, after="embed"),
                    node("mapper", "synonyms", after="concept"),
                    node("greater-than", "sure", after="mapper"),
                    node("less-than", "doubtful", after="mapper"),
                    node("success", "write-success", after="greater-than"),
                    node("pending", "write-pending", after="less-than"),
                ],
            )
        ],
    )


def operator(model_id: str, type_id: str, data: Data | None = None, **params: str | float) -> Model:
    values = Struct()
    values.update(params)
    return Model(id=model_id, model_type_id=type_id, output_info=OutputInfo(data=data, params=values))


def node(node_id: str, model_id: str, version_id: str = "", after: str = "") -> WorkflowNode:
    return WorkflowNode(
        id=node_id,
        model=Model(id=model_id, model_version=ModelVersion(id=version_id) if version_id else None),
        node_inputs=[NodeInput(node_id=after)] if after else [],
    )


def patch_app(app: App, workflow_id: str, *, reindex: bool = False) -> resources_pb2.App:
    assert app.user_app_id is not None
    wanted = resources_pb2.App(id=app.user_app_id.app_id, default_workflow_id=workflow_id)
    (patched,) = app.call("PatchApps", apps=[wanted], action="overwrite", reindex=reindex).apps
    return patched


def written(app: App) -> dict[str, Annotation]:
    """What stands in the caller's name about the own concept, by input."""
    listed = app.call("ListAnnotations", user_ids=["me"], per_page=100).annotations
    found = [annotation for annotation in listed if not annotation.input_level]
    assert len({annotation.input_id for annotation in found}) == len(found), "something is written twice"
    return {annotation.input_id: annotation for annotation in found}


def statuses(app: App) -> dict[str, int]:
    return {name: annotation.status.code for name, annotation in written(app).items()}


def in_time(app: App, wanted: Mapping[str, int]) -> None:
    wait_for(f"{len(wanted)} annotations", lambda: statuses(app) == wanted, seconds=60)


def certain() -> Filter:
    """By the own concept, where it is no question any more."""
    success = Status(code=codes.ANNOTATION_SUCCESS)
    return Filter(annotation=Annotation(data=Data(concepts=[Concept(id=OWN, value=1)]), status=success))


def expected(choice: Choice) -> dict[str, int]:
    sure = dict.fromkeys(choice.above, codes.ANNOTATION_SUCCESS)
    return sure | dict.fromkeys(choice.below, codes.ANNOTATION_PENDING)


@pytest.fixture
def choice(app: App, photos: list[Picture]) -> Choice:
    """The app has a workflow that tells the pictures apart by a concept."""
    chosen = choose(predicted(app, photos))
    make_workflow(app, chosen.concept_id, chosen.bound)
    return chosen


def test_new_inputs_are_labelled_or_put_before_a_person(app: App, photos: list[Picture], choice: Choice) -> None:
    shown = patch_app(app, "auto-annotation")

    app.post([of_bytes(photo, id=photo.name) for photo in photos])

    assert shown.default_workflow_id == "auto-annotation"
    assert app.user_app_id is not None
    assert shown.default_workflow.app_id == app.user_app_id.app_id
    found = written(app)
    assert {name: annotation.status.code for name, annotation in found.items()} == expected(choice)
    for name, annotation in found.items():
        (concept,) = annotation.data.concepts
        assert (concept.id, concept.name) == (OWN, "my concept")
        assert (concept.value > choice.bound) == (name in choice.above)
        assert annotation.worker.user.id == app.user_app_id.user_id
        assert annotation.trusted == (name in choice.above)
    assert set(input_ids(app.filter(certain()))) == choice.above


def test_what_a_person_approves_is_a_label_and_stays_one(app: App, photos: list[Picture], choice: Choice) -> None:
    patch_app(app, "auto-annotation")
    app.post([of_bytes(photo, id=photo.name) for photo in photos])
    name = min(choice.below)
    (annotation,) = (one for one in written(app).values() if one.input_id == name)
    before = set(input_ids(app.filter(certain())))
    approved = Annotation(
        id=annotation.id,
        input_id=name,
        status=Status(code=codes.ANNOTATION_SUCCESS),
        data=Data(concepts=[Concept(id=OWN, value=1)]),
    )

    app.call("PatchAnnotations", annotations=[approved], action="overwrite")
    first = app.rank(by_concept(id=OWN, value=1))[0]
    patch_app(app, "auto-annotation", reindex=True)
    wait_for("the change", lambda: "being changed" not in app.call("GetApp").status.details, seconds=60)

    assert (first.input.id, round(first.score, 3)) == (name, 1.0)
    assert before == choice.above
    assert statuses(app) == {**expected(choice), name: codes.ANNOTATION_SUCCESS}
    assert written(app)[name].id == annotation.id


def test_inputs_that_are_there_are_looked_at_when_that_is_asked_for(
    app: App, photos: list[Picture], choice: Choice
) -> None:
    app.post([of_bytes(photo, id=photo.name) for photo in photos[:-1]])
    query = by_image(base64=photos[0].data)
    ranked = [(hit.input.id, round(hit.score, 4)) for hit in app.rank(query)]

    patch_app(app, "auto-annotation")
    app.post([of_bytes(photo, id=photo.name) for photo in photos[-1:]])
    new = {name: code for name, code in expected(choice).items() if name == photos[-1].name}
    assert statuses(app) == new
    patch_app(app, "auto-annotation", reindex=True)
    in_time(app, expected(choice))
    patch_app(app, "General")

    assert statuses(app) == expected(choice), "what was written stays"
    assert [(hit.input.id, round(hit.score, 4)) for hit in app.rank(query) if hit.input.id != photos[-1].name] == ranked
    assert app.call("GetApp").app.default_workflow.app_id == "main"
    patch_app(app, "General", reindex=True)
    in_time(app, {})


def test_frames_of_videos_are_annotated(app: App, photos: list[Picture], choice: Choice) -> None:
    patch_app(app, "auto-annotation")
    chosen = [photo for photo in photos if photo.name in choice.above][:2]
    others = [photo for photo in photos if photo.name not in choice.above | choice.below][:2]
    shown = [as_shown(photo) for photo in (*chosen, *others)]
    film = films.film_of([(shown[n // 10], n / 10) for n in range(len(shown) * 10)], rate=10)

    app.post([of_film(film, id="film")])

    found = app.call("ListAnnotations", user_ids=["me"]).annotations
    frames = [annotation.data.frames[0] for annotation in found if not annotation.input_level]
    assert frames
    for frame in frames:
        (concept,) = frame.data.concepts
        assert concept.id == OWN
    sure = [
        annotation.data.frames[0].frame_info.index
        for annotation in found
        if not annotation.input_level and annotation.trusted
    ]
    assert set(sure) <= set(range(len(chosen))), "only frames of pictures that show it are labelled"


@pytest.mark.skipif(not PHOTOS.is_file(), reason="the photographs are not here")
def test_people_are_labelled_in_photographs_that_show_them(app: App, photos: list[Picture]) -> None:
    make_workflow(app, PEOPLE, 0.8)
    patch_app(app, "auto-annotation")

    app.post([of_bytes(photo, id=photo.name) for photo in photos])

    found = statuses(app)
    labelled = {name for name, code in found.items() if code == codes.ANNOTATION_SUCCESS}
    with_people = {photo.name for photo in photos if "person" in photo.shows}
    assert len(labelled) >= 6
    assert labelled <= with_people
    assert {name for name, code in found.items() if code == codes.ANNOTATION_PENDING}, "some are doubtful"
    assert set(input_ids(app.filter(certain()))) == labelled


@pytest.mark.skipif(not PHOTOS.is_file(), reason="the photographs are not here")
def test_regions_that_a_detector_finds_are_labelled(app: App, photos: list[Picture]) -> None:
    """A detector among the nodes has the app indexed by the public workflow that runs it."""
    app.post([of_bytes(photo, id=photo.name) for photo in photos[:4]])
    app.call("PostModels", models=[operator("write", "annotation-writer", annotation_status=codes.ANNOTATION_SUCCESS)])
    passing = Data(concepts=[Concept(id=PEOPLE, value=0.5)])
    app.call("PostModels", models=[operator("people", "concept-threshold", passing, concept_threshold_type=GREATER)])
    nodes = [
        node("embed", *EMBEDDER),
        node("find", "general-image-detection"),
        node("sure", "people", after="find"),
        node("label", "write", after="sure"),
    ]
    app.call("PostWorkflows", workflows=[Workflow(id="regions", nodes=nodes)])

    patch_app(app, "regions")
    wait_for("the app to change over", lambda: app.call("GetApp").app.default_workflow_id == "regions", seconds=60)
    app.post([of_bytes(photo, id=photo.name) for photo in photos[4:8]])

    listed = app.call("ListAnnotations", user_ids=["me"], per_page=100).annotations
    found = [annotation for annotation in listed if not annotation.input_level]
    with_people = {photo.name for photo in photos[:8] if "person" in photo.shows}
    assert len({annotation.input_id for annotation in found} & with_people) >= 4
    assert all(
        annotation.trusted and annotation.data.regions[0].region_info.HasField("bounding_box") for annotation in found
    )
    assert {concept.id for one in found for concept in one.data.regions[0].data.concepts} == {PEOPLE}


def test_a_workflow_without_its_models_is_refused_as_base(app: App, choice: Choice) -> None:
    app.call("DeleteModels", ids=["sure"])
    assert app.user_app_id is not None

    def asked(workflow_id: str) -> int:
        wanted = resources_pb2.App(id=app.user_app_id.app_id, default_workflow_id=workflow_id)
        return int(app.ask("PatchApps", apps=[wanted], action="overwrite").status.code)

    assert asked("auto-annotation") == codes.WORKFLOW_REQUIRE_TRAINED_MODEL
    assert asked("unheard-of") == codes.WORKFLOW_DOES_NOT_EXIST
    assert app.call("GetApp").app.default_workflow_id == "General"


def test_an_input_survives_a_model_that_is_gone(app: App, photos: list[Picture], choice: Choice) -> None:
    patch_app(app, "auto-annotation")
    app.call("DeleteModels", ids=["sure"])

    app.post([of_bytes(photos[0], id="a")])

    found: Input = app.call("GetInput", input_id="a").input
    assert found.status.code == codes.INPUT_DOWNLOAD_SUCCESS
    assert "'sure'" in found.status.details
    assert app.rank(by_image(base64=photos[0].data))[0].input.id == "a"
