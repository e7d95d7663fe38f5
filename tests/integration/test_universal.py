"""The workflow Universal with a dual encoder that was added: pictures, texts and names in one space, end to end.

The model is tiny and random, so nothing it says makes sense to a person; what is compared is that every way into its
space arrives at the same place.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from clarifai_grpc.grpc.api import resources_pb2, service_pb2, service_pb2_grpc
from clarifai_grpc.grpc.api.resources_pb2 import (
    Annotation,
    App,
    Concept,
    Data,
    Image,
    Input,
    Model,
    NodeInput,
    Rank,
    Text,
    UserAppIDSet,
    Video,
    Workflow,
    WorkflowNode,
)
from PIL import Image as Pillow
from tests import films
from tests.drawn_face import drawn_face
from tests.integration.own_models import operator
from tests.integration.serving import PAT, SUCCESS, USER, Server, connected, home, of_bytes, run_command, server_at
from tests.integration.serving import App as Client
from tests.tiny_models import tiny_pictures, write_tiny_model

from sightrank.vision.hub_encoder import load_dual_encoder
from sightrank.vision.video import Reading

WORKFLOWS = ("Universal", "tiny")


@dataclass(frozen=True)
class Place:
    """A server with one added model, and the folder the model came from."""

    server: Server
    stub: service_pb2_grpc.V2Stub
    model: Path

    def app(self, workflow_id: str, app_id: str) -> Client:
        request = service_pb2.PostAppsRequest(
            user_app_id=UserAppIDSet(user_id=USER), apps=[App(id=app_id, default_workflow_id=workflow_id)]
        )
        answer = self.stub.PostApps(request, metadata=(("authorization", f"Key {PAT}"),))
        assert answer.status.code == SUCCESS, answer
        return Client(server=self.server, stub=self.stub, id=app_id)


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with home() as folder:
        model = folder / "source"
        write_tiny_model(model, "clip")
        with server_at(folder) as server:
            added = run_command("models", "add", model, "--id", "tiny", "--data-dir", server.data_dir)
            assert added.returncode == 0, added.stderr
            assert "it serves the workflow Universal" in added.stdout
            server.start()
            with connected(server) as stub:
                yield Place(server, stub, model)


@pytest.fixture(scope="module")
def pictures() -> list[bytes]:
    found = []
    for pixels in tiny_pictures():
        buffer = io.BytesIO()
        Pillow.fromarray(pixels).save(buffer, "PNG")
        found.append(buffer.getvalue())
    return found


def by_text(raw: str) -> Rank:
    return Rank(annotation=Annotation(data=Data(text=Text(raw=raw))))


def scores(hits: list[resources_pb2.Hit]) -> dict[str, float]:
    return {hit.input.id: hit.score for hit in hits}


@pytest.mark.parametrize("workflow_id", WORKFLOWS)
def test_pictures_and_texts_are_compared_in_the_space_of_the_model(
    place: Place, pictures: list[bytes], workflow_id: str
) -> None:
    app = place.app(workflow_id, f"spaces-{workflow_id}")
    ids = app.indexed(*[of_bytes(data, f"p{n}") for n, data in enumerate(pictures)])

    by_image = app.rank(Rank(annotation=Annotation(data=Data(image=Image(base64=pictures[1])))))
    found = scores(app.rank(by_text("a photo of a dog.")))

    encoder = load_dual_encoder(place.model, threads=1)
    vectors = np.concatenate([encoder.images.embed(encoder.images.fit(pixels)[None]) for pixels in tiny_pictures()])
    expected = (1 + vectors @ encoder.texts.encode(["a photo of a dog."])[0]) / 2
    assert (by_image[0].input.id, round(by_image[0].score, 3)) == (ids[1], 1.0)
    assert found == pytest.approx(dict(zip(ids, expected.tolist(), strict=True)), abs=2e-3)


def test_a_search_by_text_says_nothing_of_concepts(place: Place, pictures: list[bytes]) -> None:
    app = place.app("Universal", "quiet")
    app.indexed(of_bytes(pictures[0]))

    answer = app.call(
        "PostAnnotationsSearches", searches=[resources_pb2.Search(query=resources_pb2.Query(ranks=[by_text("xyzzy")]))]
    )

    assert len(answer.hits) == 1
    assert answer.status.details == ""


def test_the_command_line_searches_by_any_text(place: Place, pictures: list[bytes]) -> None:
    app = place.app("Universal", "commanded")
    app.indexed(of_bytes(pictures[0], "one"))

    done = run_command("search", "xyzzy at dusk", "--app", app.id, "--data-dir", place.server.data_dir)

    assert done.returncode == 0, done.stderr
    head, row = done.stdout.splitlines()
    assert head.startswith("rank")
    assert row.split()[2] == "one"


def test_the_vocabulary_is_tagged_by_its_names(place: Place, pictures: list[bytes]) -> None:
    app = place.app("Universal", "tags")
    (input_id,) = app.indexed(of_bytes(pictures[0]))

    annotations = app.annotations(input_ids=[input_id], list_all_annotations=True)
    (tags,) = [annotation for annotation in annotations if annotation.model_version_id]
    first = tags.data.concepts[0]
    (hit,) = app.rank(Rank(annotation=Annotation(data=Data(concepts=[Concept(id=first.id, value=1)]))))
    output = app.call("PostModelOutputs", model_id="tiny-image-recognition", inputs=[of_bytes(pictures[0])]).outputs[0]

    assert len(tags.data.concepts) == 20
    assert hit.score == pytest.approx(first.value, abs=5e-3)
    assert output.data.concepts[0].id == first.id


def test_an_own_concept_without_examples_is_found_by_its_name_until_there_are_some(
    place: Place, pictures: list[bytes]
) -> None:
    app = place.app("Universal", "own")
    ids = app.indexed(*[of_bytes(data, f"p{n}") for n, data in enumerate(pictures)])
    app.call("PostConcepts", concepts=[Concept(id="mine", name="two cats"), Concept(id="other", name="山の写真")])

    def ranked(concept_id: str) -> dict[str, float]:
        return scores(app.rank(Rank(annotation=Annotation(data=Data(concepts=[Concept(id=concept_id, value=1)])))))

    mine, other = ranked("mine"), ranked("other")
    app.annotate(Annotation(input_id=ids[0], data=Data(concepts=[Concept(id="mine", value=1)])))
    labelled = ranked("mine")

    assert set(mine) == set(other) == set(ids)
    assert mine != pytest.approx(other, abs=1e-3)
    assert all(0 < score < 1 for score in mine.values())
    assert labelled[ids[0]] == 1.0
    assert labelled[ids[1]] != pytest.approx(mine[ids[1]], abs=1e-3)


def test_embeddings_of_texts_and_pictures_are_predicted(place: Place, pictures: list[bytes]) -> None:
    app = place.app("Universal", "embeddings")
    text = Input(data=Data(text=Text(raw="a photo of a dog.")))

    film = Input(data=Data(video=Video(base64=films.film(2.0))))

    both = app.call("PostModelOutputs", model_id="tiny-multimodal-embedding", inputs=[text, of_bytes(pictures[0])])
    seen = app.call("PostModelOutputs", model_id="tiny-multimodal-embedding", inputs=[film])
    refused = app.ask("PostModelOutputs", model_id="tiny-image-recognition", inputs=[text])
    results = app.call("PostWorkflowResults", workflow_id="Universal", inputs=[of_bytes(pictures[0])]).results

    expected = load_dual_encoder(place.model, threads=1).texts.encode(["a photo of a dog."])[0]
    assert both.outputs[0].data.embeddings[0].vector == pytest.approx(expected, abs=1e-4)
    assert [output.model.id for output in results[0].outputs] == ["tiny-image-recognition", "tiny-multimodal-embedding"]
    assert results[0].outputs[1].data.embeddings[0].vector == pytest.approx(both.outputs[1].data.embeddings[0].vector)
    first, second = (frame.data.embeddings[0].vector for frame in seen.outputs[0].data.frames)
    assert (np.linalg.norm(first), np.linalg.norm(second)) == pytest.approx((1.0, 1.0), abs=1e-4)
    assert list(first) != pytest.approx(list(second), abs=1e-3)
    assert refused.outputs[0].status.code == 30104
    assert "images and videos only" in refused.outputs[0].status.details


def test_added_models_are_listed_like_all_others(place: Place) -> None:
    app = place.app("Universal", "lists")
    main = UserAppIDSet(user_id="clarifai", app_id="main")
    key = (("authorization", f"Key {PAT}"),)

    models = place.stub.ListModels(service_pb2.ListModelsRequest(user_app_id=main), metadata=key).models
    workflows = place.stub.ListWorkflows(service_pb2.ListWorkflowsRequest(user_app_id=main), metadata=key).workflows

    types = {model.id: model.model_type_id for model in models}
    assert types["tiny-multimodal-embedding"] == "multimodal-embedder"
    assert {"General", "Universal", "tiny", "Empty"} <= {workflow.id for workflow in workflows}
    assert app.call("GetModel", model_id="tiny-image-recognition").model.model_version.id


def test_the_doctor_names_the_models_and_what_they_run_on(place: Place) -> None:
    said = run_command("doctor", "--data-dir", place.server.data_dir)

    assert "tiny" in said.stdout
    assert said.stdout.count("CPUExecutionProvider") >= 2


def test_a_damaged_model_is_left_out_and_the_server_starts(pictures: list[bytes]) -> None:
    with home() as folder:
        write_tiny_model(folder / "source", "siglip")
        with server_at(folder) as server:
            added = run_command("models", "add", folder / "source", "--id", "tiny", "--data-dir", server.data_dir)
            assert added.returncode == 0, added.stderr
            (server.data_dir / "models" / "tiny" / "config.json").write_text("{}")
            server.start()
            with connected(server) as stub:
                place = Place(server, stub, folder)
                with pytest.raises(AssertionError, match="WORKFLOW_REQUIRE_TRAINED_MODEL"):
                    place.app("Universal", "none")
                assert place.app("General", "some").indexed(of_bytes(pictures[0]))
            said = run_command("doctor", "--data-dir", server.data_dir)
            assert "a model is left out" in server.log
            assert "config.json" in said.stdout
            assert said.returncode == 1


def test_regions_of_frames_are_looked_at_by_another_encoder_than_the_detectors_own(place: Place) -> None:
    """As those of the same picture are."""
    app = place.app("General", "frames")
    app.call("PostModels", models=[operator("crop", "image-crop", margin=0.2)])
    nodes = [
        WorkflowNode(id=id, model=Model(id=model_id), node_inputs=[NodeInput(node_id=name) for name in inputs])
        for id, model_id, inputs in (
            ("faces", "face-detection", ()),
            ("crop", "crop", ["faces"]),
            ("own", "general-image-embedding", ["faces"]),
            ("other", "tiny-multimodal-embedding", ["faces"]),
            ("wider", "tiny-multimodal-embedding", ["crop"]),
            ("whole", "tiny-multimodal-embedding", ()),
        )
    ]
    app.call("PostWorkflows", workflows=[Workflow(id="flow", nodes=nodes)])
    film = films.film_of([(drawn_face(), n / 10) for n in range(20)])
    inputs = [Input(data=Data(video=Video(base64=film))), *map(of_bytes, stills(film))]

    answer = app.call("PostWorkflowResults", workflow_id="flow", inputs=inputs)

    of_film, *of_stills = ([output.data for output in result.outputs] for result in answer.results)
    assert [len(data.frames) for data in of_film] == [2] * 6
    for place_of_node, data in enumerate(of_film):
        for frame, still in zip(data.frames, of_stills, strict=True):
            assert vectors(frame.data) == pytest.approx(vectors(still[place_of_node]), abs=1e-4)
    for still in of_stills:
        assert [len(data.regions) for data in still] == [1, 1, 1, 1, 1, 0]
        assert vectors(still[3]).shape == vectors(still[5]).shape
        assert vectors(still[3]) != pytest.approx(vectors(still[4]), abs=1e-3)


def stills(film: bytes) -> list[bytes]:
    """The frames that are sampled, as files."""
    reading = Reading(film, sample_ms=1000, max_pixels=10**6)
    files = []
    for sample in reading.steps():
        if sample is not None:
            file = io.BytesIO()
            Pillow.fromarray(sample.pixels).save(file, "PNG")
            files.append(file.getvalue())
    return files


def vectors(data: resources_pb2.Data) -> np.ndarray:
    """Of the whole, or of the regions."""
    parts = [region.data for region in data.regions] or [data]
    return np.array([embedding.vector for part in parts for embedding in part.embeddings])
