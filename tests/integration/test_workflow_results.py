"""Asking an app's own workflows: outputs in the order of nodes, each of what its node makes of the input."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from clarifai_grpc.grpc.api import service_pb2
from clarifai_grpc.grpc.api.resources_pb2 import App as ClarifaiApp
from clarifai_grpc.grpc.api.resources_pb2 import (
    Concept,
    ConceptRelation,
    Data,
    Image,
    Input,
    Model,
    ModelVersion,
    NodeInput,
    OutputConfig,
    OutputInfo,
    UserAppIDSet,
    Visibility,
    Workflow,
    WorkflowNode,
)
from tests import films
from tests.drawn_face import drawn_face, jpeg
from tests.integration.own_models import BLUE, RED, classifier, coloured, operator, teach_colours, train
from tests.integration.serving import App, of_bytes, wait_for

TAGGER, EMBEDDER, CLUSTERER, FACES = (
    "general-image-recognition",
    "general-image-embedding",
    "general-image-clustering",
    "face-detection",
)
WARM, COLD = coloured(RED, 60), coloured(BLUE, 61)


def node(id: str, model_id: str, *inputs: str, **fields: Any) -> WorkflowNode:
    return WorkflowNode(
        id=id, model=Model(id=model_id), node_inputs=[NodeInput(node_id=name) for name in inputs], **fields
    )


def post(app: App, *nodes: WorkflowNode, id: str = "flow") -> str:
    """Makes a workflow; the id of its version."""
    answer = app.call("PostWorkflows", workflows=[Workflow(id=id, nodes=nodes)])
    return str(answer.workflows[0].version.id)


def ask(app: App, *inputs: Input, **fields: Any) -> Any:
    return app.ask("PostWorkflowResults", inputs=inputs, **({"workflow_id": "flow"} | fields))


def outputs(app: App, item: Input, **fields: Any) -> list[Any]:
    answer = ask(app, item, **fields)
    assert answer.status.code == 10000, answer.status
    return list(answer.results[0].outputs)


def values(data: Any) -> dict[str, float]:
    return {concept.id: concept.value for concept in data.concepts}


@pytest.fixture
def taught(app: App) -> App:
    """With a model "temperature" that has learnt "warm" and "cold", and operators for its words."""
    teach_colours(app)
    thresholds = {"warm": 0.5, "cold": 0.5}
    models = [
        classifier("temperature", "warm", "cold"),
        operator("over", "concept-threshold", thresholds=thresholds, concept_threshold_type="GREATER_THAN_OR_EQUAL"),
        operator("under", "concept-threshold", thresholds=thresholds, concept_threshold_type=3),
        operator("writer", "annotation-writer", annotation_status="SUCCESS"),
        operator("crop", "image-crop", margin=0.2),
        operator("nearest", "knn-concept", k=3),
        operator("known", "region-threshold", thresholds=thresholds, concept_threshold_type="GREATER_THAN"),
    ]
    for model in models:
        app.call("PostModels", models=[model])
    train(app, "temperature", output_info=OutputInfo(output_config=OutputConfig(concepts_mutually_exclusive=True)))
    return app


def test_each_node_answers_in_its_place_and_a_suppressed_one_not_at_all(taught: App) -> None:
    post(
        taught,
        node("sure", "over", "temperature"),
        node("temperature", "temperature", suppress_output=True),
        node("doubtful", "under", "temperature"),
        node("written", "writer", "sure"),
        node("embed", EMBEDDER),
        node("cluster", CLUSTERER, "embed"),
    )

    sure, doubtful, written, embed, cluster = outputs(taught, of_bytes(WARM, "mine"))

    assert [o.model.id for o in (sure, doubtful, written, embed, cluster)] == [
        "over",
        "under",
        "writer",
        EMBEDDER,
        CLUSTERER,
    ]
    assert list(values(sure.data)) == ["warm"]
    assert list(values(doubtful.data)) == ["cold"]
    assert values(written.data) == values(sure.data)
    assert values(sure.data)["warm"] + values(doubtful.data)["cold"] == pytest.approx(1.0, abs=1e-5)
    assert len(embed.data.embeddings[0].vector) == embed.data.embeddings[0].num_dimensions
    (found,) = cluster.data.clusters
    assert found.id
    assert len(found.projection) == 2
    assert {o.input.id for o in (sure, embed)} == {"mine"}


def test_a_prediction_writes_nothing(taught: App) -> None:
    post(taught, node("temperature", "temperature"), node("written", "writer", "temperature"))
    before = len(taught.annotations(list_all_annotations=True, per_page=500))

    outputs(taught, of_bytes(WARM))

    assert len(taught.annotations(list_all_annotations=True, per_page=500)) == before


def test_predicted_concepts_become_the_apps_own_by_synonyms(app: App) -> None:
    app.call("PostConcepts", concepts=[Concept(id="peopleID", name="folk"), Concept(id="unused")])
    people = ConceptRelation(object_concept=Concept(id="ai_l8TKp2h5", app_id="main"), predicate="synonym")
    app.call("PostConceptRelations", concept_id="peopleID", concept_relations=[people])
    app.call("PostModels", models=[operator("mapper", "concept-synonym-mapper", knowledge_graph_id="")])
    post(app, node("concepts", TAGGER), node("mine", "mapper", "concepts"))

    concepts, mine = outputs(app, of_bytes(jpeg(drawn_face())), output_config=OutputConfig(max_concepts=200))

    (mapped,) = mine.data.concepts
    assert (mapped.id, mapped.name, mapped.app_id, mapped.user_id) == ("peopleID", "folk", app.id, "admin")
    assert mapped.value == pytest.approx(values(concepts.data)["ai_l8TKp2h5"])


def test_behind_a_detector_each_region_is_classified(taught: App) -> None:
    post(
        taught,
        node("faces", FACES),
        node("crop", "crop", "faces"),
        node("embed", EMBEDDER, "crop"),
        node("names", "nearest", "embed"),
        node("taught", "temperature", "faces"),
        node("known", "known", "names"),
    )
    picture = of_bytes(jpeg(drawn_face()))

    faces, crop, embed, names, classified, known = outputs(taught, picture)
    nothing = outputs(taught, of_bytes(WARM))

    (face,) = faces.data.regions
    for output in (crop, embed, names, classified, known):
        (region,) = output.data.regions
        assert region.region_info == face.region_info
        assert region.value == face.value
        assert not output.data.concepts
    assert len(embed.data.regions[0].data.embeddings[0].vector) == 256
    assert sum(values(names.data.regions[0].data).values()) == pytest.approx(1.0, abs=1e-5)
    assert set(values(classified.data.regions[0].data)) == {"warm", "cold"}
    assert len(values(known.data.regions[0].data)) == 1
    assert [len(output.data.regions) for output in nothing] == [0] * 6


def test_configurations_of_version_node_and_call_come_one_over_the_other(taught: App) -> None:
    override = OutputInfo(output_config=OutputConfig(max_concepts=2))
    post(taught, node("many", TAGGER), node("two", TAGGER, output_info_override=override))

    many, two = outputs(taught, of_bytes(WARM))
    three = outputs(taught, of_bytes(WARM), output_config=OutputConfig(max_concepts=3, language="ja"))

    assert [len(output.data.concepts) for output in (many, two)] == [20, 2]
    assert [len(output.data.concepts) for output in three] == [3, 3]
    assert {concept.language for concept in three[0].data.concepts} <= {"ja", "en"}


def test_selected_concepts_are_those_of_any_node(taught: App) -> None:
    post(taught, node("general", TAGGER), node("temperature", "temperature"), node("sure", "over", "temperature"))

    def selected(**concept: str) -> list[list[str]]:
        config = OutputConfig(select_concepts=[Concept(**concept)])
        return [list(values(output.data)) for output in outputs(taught, of_bytes(WARM), output_config=config)]

    unknown = ask(taught, of_bytes(WARM), output_config=OutputConfig(select_concepts=[Concept(id="unicorn")]))

    assert selected(id="warm") == [[], ["warm"], ["warm"]]
    assert selected(id="cold") == [[], ["cold"], []]
    assert selected(name="dog") == [["ai_8S2Vq3cR"], [], []]
    assert unknown.status.code == 21202


def test_the_latest_version_answers_unless_another_is_named(taught: App) -> None:
    first = post(taught, node("a", TAGGER))
    taught.call("PatchWorkflows", action="overwrite", workflows=[Workflow(id="flow", nodes=[node("b", EMBEDDER)])])

    (latest,) = outputs(taught, of_bytes(WARM))
    (named,) = outputs(taught, of_bytes(WARM), version_id=first)
    unknown = ask(taught, of_bytes(WARM), version_id="nope")
    nowhere = ask(taught, of_bytes(WARM), workflow_id="nowhere")

    assert (latest.model.id, named.model.id) == (EMBEDDER, TAGGER)
    assert (unknown.status.code, nowhere.status.code) == (22102, 22102)
    assert "Workflow flow has no version 'nope'" in unknown.status.details
    asked = ask(taught, of_bytes(WARM)).workflow
    assert (asked.id, asked.app_id, [one.id for one in asked.nodes]) == ("flow", taught.id, ["b"])


def test_a_node_follows_its_model_unless_it_names_a_version(taught: App) -> None:
    first = taught.call("GetModel", model_id="temperature").model.model_version.id
    pinned = WorkflowNode(id="pinned", model=Model(id="temperature", model_version=ModelVersion(id=first)))
    post(taught, pinned, node("following", "temperature"))
    second = train(taught, "temperature", output_info=OutputInfo(data=Data(concepts=[Concept(id="warm")])))

    old, new = outputs(taught, of_bytes(WARM))

    assert (old.model.model_version.id, new.model.model_version.id) == (first, second)
    assert (set(values(old.data)), set(values(new.data))) == ({"warm", "cold"}, {"warm"})


def test_inputs_fail_by_themselves(taught: App) -> None:
    post(taught, node("temperature", "temperature"), node("sure", "over", "temperature"))

    answer = ask(taught, of_bytes(WARM), of_bytes(b"no picture"), Input(data=Data(image=Image())), of_bytes(COLD))

    assert answer.status.code == 10010
    assert [result.status.code for result in answer.results] == [10000, 30002, 30104, 10000]
    assert [[o.status.code for o in result.outputs] for result in answer.results[1:3]] == [[30002] * 2, [30104] * 2]
    assert list(values(answer.results[3].outputs[1].data)) == ["cold"]


def test_films_go_through_the_nodes_frame_by_frame(taught: App) -> None:
    blank = drawn_face() * 0 + 90
    frames = [(drawn_face() if n < 10 else blank, n / 10) for n in range(20)]
    film = Input(data=Data(video={"base64": films.film_of(frames)}))
    post(
        taught,
        node("temperature", "temperature"),
        node("sure", "over", "temperature"),
        node("faces", FACES),
        node("names", "nearest", "faces"),
        node("crop", "crop", "faces"),
        node("cut", "nearest", "crop"),
    )

    answered = outputs(taught, film, output_config=OutputConfig(sample_ms=1000))

    assert [len(output.data.frames) for output in answered] == [2] * 6
    temperature, sure, *of_regions = [[frame.data for frame in output.data.frames] for output in answered]
    assert all(set(values(data)) == {"warm", "cold"} for data in temperature)
    assert all(len(values(data)) == 1 for data in sure)
    for said in of_regions:
        assert [len(data.regions) for data in said] == [1, 0]
    names, cut = (set(values(said[0].regions[0].data)) for said in (of_regions[1], of_regions[3]))
    assert names == cut == {"warm", "cold"}


def test_a_detector_behind_a_crop_looks_in_what_the_other_finds(taught: App) -> None:
    """In a picture that shows the drawn face twice, small; in a frame of a film as in the picture."""
    small = np.full((300, 800, 3), 90, np.uint8)
    small[:, :400] = small[:, 400:] = drawn_face()
    nodes = [
        node("faces", FACES),
        node("crop", "crop", "faces"),
        node("again", FACES, "crop"),
        node("names", "nearest", "again"),
    ]
    post(taught, *nodes)
    film = Input(data=Data(video={"base64": films.film_of([(small, n / 10) for n in range(10)])}))

    picture = [output.data for output in outputs(taught, of_bytes(jpeg(small)))]
    (frame,) = [[output.data.frames[0].data] for output in [outputs(taught, film)[2]]]

    faces, crop, again, names = (boxes(data) for data in picture)
    assert len(faces) == 2
    assert faces == crop
    assert sorted(box.left_col < 0.5 for box in again) == [False, True], "one face in each half of the whole picture"
    for found in again:
        assert max(overlap(found, face) for face in faces) > 0.4
    assert names == again
    assert all(set(values(region.data)) == {"warm", "cold"} for region in picture[3].regions)
    assert len(boxes(frame[0])) == len(again)


def test_detectors_one_behind_the_other_are_bounded_and_no_base_workflow(taught: App) -> None:
    chain = [node("d0", FACES), *(node(f"d{n}", FACES, f"d{n - 1}") for n in range(1, 4))]

    too_deep = taught.ask("PostWorkflows", workflows=[Workflow(id="flow", nodes=chain)])
    post(taught, *chain[:3])
    base = taught.ask("PatchApps", action="overwrite", apps=[ClarifaiApp(id=taught.id, default_workflow_id="flow")])
    nothing = outputs(taught, of_bytes(WARM))

    assert (too_deep.status.code, "3 is the limit" in too_deep.status.details) == (22107, True)
    assert (base.status.code, "looks in what d0 finds" in base.status.details) == (22104, True)
    assert [list(output.data.regions) for output in nothing] == [[], [], []]


def boxes(data: Any) -> list[Any]:
    return [region.region_info.bounding_box for region in data.regions]


def overlap(one: Any, other: Any) -> float:
    """Intersection over union."""
    height = min(one.bottom_row, other.bottom_row) - max(one.top_row, other.top_row)
    width = min(one.right_col, other.right_col) - max(one.left_col, other.left_col)
    common = max(height, 0.0) * max(width, 0.0)
    areas = [(box.bottom_row - box.top_row) * (box.right_col - box.left_col) for box in (one, other)]
    return float(common / (sum(areas) - common))


def test_more_than_32_inputs_are_refused(taught: App) -> None:
    post(taught, node("a", TAGGER))

    assert ask(taught, *[of_bytes(WARM)] * 33).status.code == 39999
    assert len(ask(taught, *[of_bytes(WARM)] * 32).results) == 32


def test_a_public_app_predicts_for_others_by_what_is_public_in_it(taught: App) -> None:
    """Its private models and workflows are as if they were not there."""
    public = Visibility(gettable=Visibility.Gettable.PUBLIC)
    post(taught, node("temperature", "temperature"))
    post(taught, node("temperature", "temperature"), id="shown")
    taught.call("PatchWorkflows", action="overwrite", workflows=[Workflow(id="shown", visibility=public)])
    patch = service_pb2.PatchAppsRequest(
        user_app_id=UserAppIDSet(user_id="admin"),
        action="overwrite",
        apps=[ClarifaiApp(id=taught.id, visibility=public)],
    )
    assert taught.stub.PatchApps(patch, metadata=(("authorization", f"Key {taught.key}"),)).status.code == 10000
    token = f"{uuid.uuid4().hex}"
    taught.server.sql("INSERT INTO users (id) VALUES ('guest') ON CONFLICT DO NOTHING RETURNING id")
    taught.server.sql(
        "INSERT INTO keys (hash, prefix, user_id, type)"
        " VALUES (sha256(%s::bytea), 'x', 'guest', 'personal_access_token') RETURNING 1",
        token,
    )
    guest = replace(taught, key=token)

    def asked() -> Any:
        answer = ask(guest, of_bytes(WARM), workflow_id="shown")
        return answer if answer.status.code == 10000 else None

    shown = wait_for("the app to be public", asked)

    assert set(values(shown.results[0].outputs[0].data)) == {"warm", "cold"}
    assert ask(guest, of_bytes(WARM)).status.code == 22102
    assert guest.ask("PostModelOutputs", model_id="temperature", inputs=[of_bytes(WARM)]).status.code == 21200
    # One that is called like a public model is not betrayed by its versions either.
    (seen,) = taught.call("PostModelOutputs", model_id=TAGGER, inputs=[of_bytes(WARM)]).outputs
    taught.call("PostModels", models=[classifier(TAGGER, "warm")])
    version_id = seen.model.model_version.id
    answer = guest.ask("PostModelOutputs", model_id=TAGGER, version_id=version_id, inputs=[of_bytes(WARM)])
    assert (answer.status.code, answer.outputs[0].model.app_id) == (10000, "main")


def test_answers_go_on_while_models_are_trained_and_go(taught: App) -> None:
    post(taught, node("temperature", "temperature"), node("sure", "over", "temperature"))

    def asked(_: int) -> int:
        return int(ask(taught, of_bytes(WARM)).status.code)

    with ThreadPoolExecutor(6) as pool:
        during = pool.map(asked, range(24))
        for _ in range(2):
            train(taught, "temperature")
        assert set(during) == {10000}
        after = pool.map(asked, range(24))
        taught.call("DeleteModel", model_id="temperature")
        assert set(after) <= {10000, 21200, 22002}
    assert asked(0) == 21200


def test_without_an_id_the_base_workflow_answers_whatever_the_app_calls_its_own(app: App) -> None:
    post(app, node("embed", EMBEDDER), id="General")

    unnamed = outputs(app, of_bytes(WARM), workflow_id="")
    named = outputs(app, of_bytes(WARM), workflow_id="General")

    assert unnamed[0].model.id == TAGGER
    assert [output.model.id for output in named] == [EMBEDDER]


def test_the_base_workflow_of_an_app_answers_under_its_new_id_at_once(app: App) -> None:
    post(app, node("cluster", CLUSTERER))
    app.call("PatchApps", apps=[ClarifaiApp(id=app.id, default_workflow_id="flow")], action="overwrite")
    before = ask(app, of_bytes(WARM), workflow_id="")

    app.call("PatchWorkflowIds", ids=[service_pb2.IdUpdateSource(id="flow", new_id="better")], action="overwrite")
    after = ask(app, of_bytes(WARM), workflow_id="")

    assert (before.status.code, before.workflow.id) == (10000, "flow")
    assert (after.status.code, after.workflow.id) == (10000, "better"), after.status
