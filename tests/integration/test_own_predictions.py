"""Predictions by models of an app: concepts of its own, by the version in use or the one asked for."""

from __future__ import annotations

from typing import Any

import pytest
from clarifai_grpc.grpc.api.resources_pb2 import (
    Concept,
    Data,
    Input,
    Model,
    ModelVersion,
    OutputConfig,
    OutputInfo,
    Text,
)
from tests import films
from tests.integration.own_models import BLUE, RED, classifier, coloured, operator, teach_colours, train
from tests.integration.serving import App, of_bytes, wait_for

WARM_PICTURE, COLD_PICTURE = coloured(RED, 50), coloured(BLUE, 51)


def config(**fields: Any) -> Model:
    return Model(output_info=OutputInfo(output_config=OutputConfig(**fields)))


def predict(app: App, model_id: str, *inputs: Input, version_id: str = "", **fields: Any) -> Any:
    return app.ask("PostModelOutputs", model_id=model_id, version_id=version_id, inputs=inputs, model=config(**fields))


def values(output: Any) -> dict[str, float]:
    return {concept.id: concept.value for concept in output.data.concepts}


@pytest.fixture
def taught(app: App) -> App:
    """An app with a model "temperature" that has learnt "warm" and "cold"."""
    teach_colours(app)
    app.call("PostModels", models=[classifier("temperature", "warm", "cold", concepts_mutually_exclusive=True)])
    train(app, "temperature", output_info=OutputInfo(output_config=OutputConfig(concepts_mutually_exclusive=True)))
    return app


def test_a_trained_model_predicts_its_own_concepts(taught: App) -> None:
    answer = predict(taught, "temperature", of_bytes(WARM_PICTURE, "a"), of_bytes(COLD_PICTURE))

    warm, cold = answer.outputs
    assert answer.status.code == 10000
    assert [concept.id for concept in warm.data.concepts] == ["warm", "cold"]
    assert [concept.id for concept in cold.data.concepts] == ["cold", "warm"]
    assert all((c.app_id, c.user_id, c.name) == (taught.id, "admin", c.id) for c in warm.data.concepts)
    assert (warm.model.id, warm.model.app_id, warm.model.model_type_id) == (
        "temperature",
        taught.id,
        "embedding-classifier",
    )
    assert warm.model.model_version.status.code == 21100
    assert warm.input.id == "a"


def test_what_is_wanted_bounds_and_selects_own_concepts_too(taught: App) -> None:
    taught.call("PatchConcepts", concepts=[Concept(id="warm", name="Hot stuff")], action="overwrite")
    taught.call(
        "PostConceptLanguages",
        concept_id="cold",
        concept_languages=[{"id": "de", "name": "kalt"}],
    )
    picture = of_bytes(WARM_PICTURE)

    (one,) = predict(taught, "temperature", picture, max_concepts=1).outputs
    (named,) = predict(taught, "temperature", picture, select_concepts=[Concept(name="Hot stuff")]).outputs
    (german,) = predict(taught, "temperature", picture, language="de").outputs
    none = predict(taught, "temperature", picture, select_concepts=[Concept(name="unicorn")])
    some = predict(taught, "temperature", picture, select_concepts=[Concept(id="warm"), Concept(id="unicorn")])

    assert list(values(one)) == ["warm"]
    assert [concept.name for concept in named.data.concepts] == ["Hot stuff"]
    assert [(c.name, c.language) for c in german.data.concepts] == [("Hot stuff", "en"), ("kalt", "de")]
    assert none.status.code == 21202
    assert (some.status.code, list(values(some.outputs[0]))) == (10010, ["warm"])
    assert "temperature" in some.status.details


def test_a_version_answers_as_it_was_told_unless_the_call_says_otherwise(taught: App) -> None:
    only = train(
        taught, "temperature", output_info=OutputInfo(output_config=OutputConfig(max_concepts=1, min_value=0.01))
    )
    picture = of_bytes(WARM_PICTURE)

    (latest,) = predict(taught, "temperature", picture).outputs
    (asked,) = predict(taught, "temperature", picture, max_concepts=2, min_value=0.0001).outputs

    assert latest.model.model_version.id == only
    assert list(values(latest)) == ["warm"]
    assert next(iter(values(asked))) == "warm"


def test_an_older_version_goes_on_predicting(taught: App) -> None:
    first = predict(taught, "temperature", of_bytes(WARM_PICTURE)).outputs[0]
    second = train(taught, "temperature", output_info=OutputInfo(data=Data(concepts=[Concept(id="warm")])))

    (old,) = predict(taught, "temperature", of_bytes(WARM_PICTURE), version_id=first.model.model_version.id).outputs
    (new,) = predict(taught, "temperature", of_bytes(WARM_PICTURE)).outputs
    (by_message,) = taught.call(
        "PostModelOutputs",
        inputs=[of_bytes(WARM_PICTURE)],
        model=Model(id="temperature", model_version=ModelVersion(id=first.model.model_version.id)),
        model_id="temperature",
    ).outputs

    assert values(old) == pytest.approx(values(first))
    assert values(by_message) == pytest.approx(values(first))
    assert (new.model.model_version.id, list(values(new))) == (second, ["warm"])


def test_films_are_predicted_frame_by_frame(taught: App) -> None:
    film = Input(data=Data(video={"base64": films.film(2.0)}))

    (output,) = predict(taught, "temperature", film, sample_ms=1000).outputs

    assert [frame.frame_info.time for frame in output.data.frames] == [500, 1500]
    assert all({c.id for c in frame.data.concepts} == {"warm", "cold"} for frame in output.data.frames)


def test_a_text_says_that_the_apps_models_read_none(taught: App) -> None:
    answer = predict(taught, "temperature", Input(data=Data(text=Text(raw="warm"))))

    assert answer.outputs[0].status.code == 30104
    assert "images and videos only" in answer.outputs[0].status.details


def test_nearest_neighbours_follow_labels_at_once(app: App) -> None:
    ids = teach_colours(app, 2)
    app.call("PostModels", models=[operator("nearest", "knn-concept", thresholds={"warm": 1.0, "cold": 1.0}, k=1)])
    app.call("PostModels", models=[operator("anything", "knn-concept")])

    (before,) = predict(app, "nearest", of_bytes(WARM_PICTURE)).outputs
    app.call(
        "PostAnnotations",
        annotations=[{"input_id": id, "data": {"concepts": [{"id": "red", "value": 1.0}]}} for id in ids[:2]],
    )
    app.call(
        "PatchInputs",
        action="remove",
        inputs=[Input(id=id, data=Data(concepts=[Concept(id="warm")])) for id in ids[:2]],
    )
    (after,) = predict(app, "nearest", of_bytes(WARM_PICTURE)).outputs
    (anything,) = predict(app, "anything", of_bytes(WARM_PICTURE)).outputs

    assert values(before) == {"warm": 1.0, "cold": 0.0}
    assert values(after) == {"warm": 0.0, "cold": 1.0}
    assert max(values(anything), key=lambda id: values(anything)[id]) == "red"


def test_nearest_neighbours_without_labels_say_nothing(app: App) -> None:
    app.call("PostModels", models=[operator("nearest", "knn-concept", thresholds={"warm": 1.0})])

    (output,) = app.call("PostModelOutputs", model_id="nearest", inputs=[of_bytes(WARM_PICTURE)]).outputs

    assert (output.status.code, len(output.data.concepts)) == (10000, 0)


def test_models_that_cannot_predict_say_why(app: App) -> None:
    teach_colours(app, 1)
    app.call("PostModels", models=[classifier("fresh", "warm")])
    app.call("PostModels", models=[operator("over", "concept-threshold", thresholds={"warm": 0.5})])
    picture = of_bytes(WARM_PICTURE)

    untrained = predict(app, "fresh", picture)
    alone = predict(app, "over", picture)
    unknown = predict(app, "nobody", picture)
    version = predict(app, "over", picture, version_id="nope")

    assert (untrained.status.code, alone.status.code) == (21353, 21202)
    assert "has not been trained; train a version" in untrained.status.details
    assert "works on what other models say" in alone.status.details
    assert (unknown.status.code, version.status.code) == (21200, 21200)
    assert "Model over has no version 'nope'" in version.status.details


def test_an_app_that_indexes_nothing_has_no_vectors_to_predict_by(app: App) -> None:
    teach_colours(app, 1)
    app.call("PostModels", models=[operator("nearest", "knn-concept")])
    app.server.sql("UPDATE apps SET workflow_id = 'Empty' WHERE id = %s RETURNING id", app.id)

    def answered() -> Any:
        return predict(app, "nearest", of_bytes(WARM_PICTURE))

    answer = wait_for("the app to be read anew", lambda: (got := answered()).status.code != 10000 and got)

    assert answer.status.code == 22002
    assert "Empty makes none here" in answer.status.details


def test_an_own_model_comes_before_a_public_one_of_the_same_id(app: App) -> None:
    teach_colours(app, 1)
    app.call("PostModels", models=[operator("general-image-recognition", "knn-concept")])

    (own,) = app.call("PostModelOutputs", model_id="general-image-recognition", inputs=[of_bytes(WARM_PICTURE)]).outputs

    assert own.model.app_id == app.id
    assert set(values(own)) == {"warm", "cold"}
