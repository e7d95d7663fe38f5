"""Predictions through Clarifai's own client, on both channels: models, workflows, and what goes wrong."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from clarifai_grpc.grpc.api import resources_pb2, service_pb2, service_pb2_grpc
from clarifai_grpc.grpc.api.resources_pb2 import Concept, Data, Image, Input, Model, OutputConfig, OutputInfo
from tests.contract.clients import DOG, SUCCESS, App, connected, key, of_bytes, of_url
from tests.contract.conftest import NewApp
from tests.contract.pictures import Picture, PictureServer
from tests.contract.serving import Server

TAGGER, EMBEDDER = "general-image-recognition", "general-image-embedding"
ALIAS, PRINTED_VERSION = "aaa03c23b3724a16a56b629203edc62c", "aa7f35c01e0642fda5cf400f543e7c40"
MIXED, FAILED = 10010, 30002


def model(**config: Any) -> Model:
    return Model(output_info=OutputInfo(output_config=OutputConfig(**config)))


def predict(app: App, *inputs: Input, model_id: str = TAGGER, **config: Any) -> Any:
    return app.ask("PostModelOutputs", model_id=model_id, inputs=inputs, model=model(**config))


def values(output: resources_pb2.Output) -> dict[str, float]:
    return {concept.id: concept.value for concept in output.data.concepts}


@pytest.mark.parametrize("model_id", [TAGGER, ALIAS])
def test_concepts_are_predicted_by_url_and_by_bytes_alike(
    app: App, photos: list[Picture], site: PictureServer, model_id: str
) -> None:
    answer = predict(app, of_url(site, photos[0]), of_bytes(photos[0], id="mine"), model_id=model_id)

    assert answer.status.code == SUCCESS
    by_url, by_bytes = answer.outputs
    assert values(by_url) == pytest.approx(values(by_bytes))
    assert len(values(by_url)) == 20
    assert [c.value for c in by_url.data.concepts] == sorted((c.value for c in by_url.data.concepts), reverse=True)
    assert all(concept.name and concept.app_id == "main" for concept in by_url.data.concepts)
    assert (by_bytes.input.id, by_url.input.data.image.url) == ("mine", site.url(photos[0]))
    assert by_url.model.id == TAGGER
    assert by_url.model.model_version.id
    assert by_url.id != by_bytes.id
    assert by_url.status.code == SUCCESS


def test_a_prediction_is_what_indexing_the_same_photo_writes_down(app: App, photos: list[Picture]) -> None:
    (input_id,) = app.post([of_bytes(photos[1])])
    written = app.call("ListAnnotations", input_ids=[input_id], list_all_annotations=True).annotations
    (tags,) = [annotation for annotation in written if annotation.model_version_id and annotation.data.concepts]

    (output,) = predict(app, of_bytes(photos[1])).outputs

    assert values(output) == pytest.approx({c.id: c.value for c in tags.data.concepts}, abs=1e-5)


def test_parameters_bound_and_select_what_is_answered(app: App, photos: list[Picture]) -> None:
    three = predict(app, of_bytes(photos[0]), max_concepts=3).outputs[0]
    all_of_them = values(predict(app, of_bytes(photos[0]), max_concepts=200).outputs[0])
    least = sorted(all_of_them.values())[-5]
    above = predict(app, of_bytes(photos[0]), min_value=least).outputs[0]
    chosen = predict(app, of_bytes(photos[0]), select_concepts=[Concept(id=DOG), Concept(name="cat")]).outputs[0]
    named = predict(app, of_bytes(photos[0]), select_concepts=[Concept(id=DOG)], language="ja").outputs[0]

    assert list(values(three)) == list(all_of_them)[:3]
    assert len(all_of_them) == 200
    assert 4 <= len(above.data.concepts) <= 5
    assert {concept.name for concept in chosen.data.concepts} == {"dog", "cat"}
    assert [concept.name for concept in named.data.concepts] == ["犬"]


def test_a_tagger_answers_for_every_concept_it_lists(app: App, photos: list[Picture]) -> None:
    listed = app.call("ListModelConcepts", model_id=TAGGER, per_page=1000)
    answered = predict(app, of_bytes(photos[0]), max_concepts=1000).outputs[0]

    assert {concept.id for concept in listed.concepts} == set(values(answered))


def test_selected_concepts_that_do_not_exist_are_told(app: App, photos: list[Picture]) -> None:
    none = predict(app, of_bytes(photos[0]), select_concepts=[Concept(name="unicorn")])
    some = predict(app, of_bytes(photos[0]), select_concepts=[Concept(name="unicorn"), Concept(id=DOG)])

    assert none.status.code == 21202
    assert "unicorn" in none.status.details
    assert some.status.code == MIXED
    assert "unicorn" in some.status.details
    assert list(values(some.outputs[0])) == [DOG]


def test_embeddings_are_unit_vectors_that_search_by_themselves(app: App, photos: list[Picture]) -> None:
    ids = app.post([of_bytes(photo) for photo in photos[:3]])

    (output,) = predict(app, of_bytes(photos[1]), model_id=EMBEDDER).outputs
    (vector,) = output.data.embeddings
    rank = resources_pb2.Rank(annotation=resources_pb2.Annotation(data=Data(embeddings=[vector])))
    best = app.rank(rank)[0]

    assert vector.num_dimensions == len(vector.vector)
    assert np.linalg.norm(vector.vector) == pytest.approx(1.0, abs=1e-5)
    assert best.input.id == ids[1]
    assert best.score == pytest.approx(1.0, abs=1e-3)


def test_what_fails_fails_alone_and_says_why(app: App, photos: list[Picture], site: PictureServer) -> None:
    missing = f"{site.url(photos[0])}-missing"
    no_picture = [Image(url=missing), Image(), Image(base64=b"no")]
    answer = predict(app, of_bytes(photos[0]), *[Input(data=Data(image=image)) for image in no_picture])

    good, gone, empty, broken = answer.outputs
    assert answer.status.code == MIXED
    assert good.status.code == SUCCESS
    assert len(good.data.concepts) == 20
    assert gone.status.code == FAILED
    assert f"404 Client Error: Not Found for url: {missing}" in gone.status.details
    assert empty.status.code == 30104
    assert broken.status.code == FAILED
    assert not gone.data.concepts


def test_a_single_failure_is_the_answer_of_the_call(app: App, site: PictureServer, photos: list[Picture]) -> None:
    gone = predict(app, Input(data=Data(image=Image(url=f"{site.url(photos[0])}-missing"))))
    empty = predict(app, Input())

    assert gone.status.code == FAILED
    assert "404 Client Error" in gone.status.details
    assert [output.status.code for output in gone.outputs] == [FAILED]
    assert empty.status.code == 10020
    assert [output.status.code for output in empty.outputs] == [30104]


def test_a_call_holds_up_to_128_inputs(app: App, photos: list[Picture]) -> None:
    many = predict(app, *[of_bytes(photos[n % 3], id=str(n)) for n in range(128)], max_concepts=1)
    more = predict(app, *[of_bytes(photos[0]) for _ in range(129)])

    assert many.status.code == SUCCESS
    assert [output.input.id for output in many.outputs] == [str(n) for n in range(128)]
    assert values(many.outputs[0]) == pytest.approx(values(many.outputs[3]))
    assert more.status.code == 39999
    assert predict(app).status.code == 11102


def test_models_and_versions_that_are_not_here_are_refused(app: App, photos: list[Picture]) -> None:
    assert predict(app, of_bytes(photos[0]), model_id="nothing").status.code == 21200
    wrong = app.ask("PostModelOutputs", model_id=TAGGER, version_id="v0", inputs=[of_bytes(photos[0])])
    assert wrong.status.code == 21200
    right = app.call("GetModel", model_id=TAGGER).model.model_version.id
    assert app.call("PostModelOutputs", model_id=TAGGER, version_id=right, inputs=[of_bytes(photos[0])]).outputs
    (printed,) = app.call(
        "PostModelOutputs", model_id=ALIAS, version_id=PRINTED_VERSION, inputs=[of_bytes(photos[0])]
    ).outputs
    assert (printed.model.id, printed.model.model_version.id) == (TAGGER, right)


def test_a_workflow_answers_with_an_output_for_each_of_its_models(app: App, photos: list[Picture]) -> None:
    answer = app.call(
        "PostWorkflowResults",
        workflow_id="General",
        inputs=[of_bytes(photos[0], id="a"), of_bytes(photos[1], id="b")],
        output_config=OutputConfig(max_concepts=3),
    )

    assert [result.input.id for result in answer.results] == ["a", "b"]
    tags, vector = answer.results[0].outputs
    assert (tags.model.id, vector.model.id) == (TAGGER, EMBEDDER)
    assert len(tags.data.concepts) == 3
    assert vector.data.embeddings[0].num_dimensions == 256
    assert values(tags) == pytest.approx(values(predict(app, of_bytes(photos[0]), max_concepts=3).outputs[0]))
    assert answer.workflow.id == "General"


def test_workflows_that_cannot_run_are_refused(app: App, photos: list[Picture]) -> None:
    def code(workflow_id: str, count: int = 1) -> int:
        inputs = [of_bytes(photos[0])] * count
        return int(app.ask("PostWorkflowResults", workflow_id=workflow_id, inputs=inputs).status.code)

    assert code("Universal") == 22002
    assert code("nothing") == 22102
    assert code("Empty") == 11102
    assert code("General", 33) == 39999


def test_a_token_without_an_app_predicts_by_the_public_models(server: Server, photos: list[Picture]) -> None:
    with connected(server, "grpc") as stub:
        request = service_pb2.PostModelOutputsRequest(model_id=TAGGER, inputs=[of_bytes(photos[0])])
        answer = stub.PostModelOutputs(request, metadata=key(server.pat))

    assert answer.status.code == SUCCESS
    assert len(answer.outputs[0].data.concepts) == 20


def test_calls_side_by_side_answer_as_one_after_the_other(
    grpc_stub: service_pb2_grpc.V2Stub, new_app: NewApp, photos: list[Picture]
) -> None:
    app = new_app(grpc_stub)
    alone = [values(predict(app, of_bytes(photo)).outputs[0]) for photo in photos[:8]]

    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(lambda n: values(predict(app, of_bytes(photos[n % 8])).outputs[0]), range(48)))

    for n, found in enumerate(together):
        assert found == pytest.approx(alone[n % 8], abs=1e-5)


def test_the_types_of_models_are_listed(app: App) -> None:
    types = app.call("ListModelTypes").model_types

    assert {"visual-classifier", "visual-embedder", "visual-detector"} <= {type.id for type in types}
    one = app.call("GetModelType", model_type_id="visual-embedder").model_type
    assert (one.title, list(one.output_fields)) == ("Visual Embedder", ["embeddings"])
    assert app.ask("GetModelType", model_type_id="magic").status.code == 11101
