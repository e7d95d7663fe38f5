"""Training through the API: from labels to a trained version, what cannot be trained, and what comes in between."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from clarifai_grpc.grpc.api import resources_pb2, service_pb2
from clarifai_grpc.grpc.api.resources_pb2 import Annotation, Concept, Data, Dataset, Input, ModelVersion, TrainInfo
from google.protobuf.struct_pb2 import Struct
from tests.integration.serving import SUCCESS, App, Server, by_concept, connected, home, new_app, server_at, wait_for
from tests.integration.teaching import (
    BLUE,
    NO_DATA,
    NO_POSITIVES,
    QUEUED,
    RED,
    TRAINED,
    TRAINING,
    ended,
    labelled,
    new_model,
    output_info,
    plain,
    reds_and_blues,
    train,
    trained,
)

from sightrank.vision.concept_model import ConceptModel

DOES_NOT_EXIST, INVALID = 21200, 21202


def fits(server: Server, version_id: str) -> list[ConceptModel]:
    rows = server.sql("SELECT fitted FROM model_fits WHERE model_version_id = %s", version_id)
    return [ConceptModel.load(fitted) for (fitted,) in rows]


def test_a_version_is_queued_trained_and_says_what_it_learnt_from(app: App) -> None:
    ids = reds_and_blues(app)
    new_model(app)
    hyper_params = Struct()
    hyper_params.update({"custom_training_cfg": "custom_training_1layer", "N_EPOCHS": 5, "args": {}})
    version = ModelVersion(
        output_info=output_info("red", "blue", hyper_params=hyper_params), description="first try", license="mine"
    )

    queued = app.call("PostModelVersions", model_id="colours", model_versions=[version]).model.model_version

    assert (queued.status.code, queued.description, queued.license) == (QUEUED, "first try", "mine")
    assert queued.status.description.startswith("Custom model is currently in queue for training")
    assert queued.output_info.output_config.hyper_params == hyper_params
    done = ended(app, queued.id)
    assert (done.status.code, done.status.details) == (TRAINED, "")
    assert done.status.description == "Model is trained and ready for deployment"
    assert (done.total_input_count, done.active_concept_count) == (len(ids), 2)
    assert done.completed_at.seconds >= done.created_at.seconds > 0
    assert [(one.id, one.name, one.app_id) for one in done.output_info.data.concepts] == [
        ("red", "red", app.id),
        ("blue", "blue", app.id),
    ]
    assert done.output_info.output_config.hyper_params == hyper_params
    (fit,) = fits(app.server, done.id)
    assert fit.ids == ("red", "blue")


def test_what_was_learnt_tells_the_concepts_apart(app: App) -> None:
    reds_and_blues(app)
    app.indexed(*(labelled(colour, seed) for colour in (RED, BLUE) for seed in (50, 51)))
    new_model(app)

    version = trained(app, "red", "blue")

    (fit,) = fits(app.server, version.id)
    rows = app.server.sql(
        "SELECT v.vector::text FROM vectors_1 v JOIN apps a ON a.first_bucket = v.bucket"
        " WHERE a.id = %s ORDER BY v.area_id DESC LIMIT 4",
        app.id,
    )
    vectors = np.array([np.fromstring(text[1:-1], sep=",") for (text,) in rows[::-1]], np.float32)
    red, blue = fit.probabilities(vectors).T
    assert min(red[:2]) > max(red[2:])
    assert min(blue[2:]) > max(blue[:2])


def test_one_input_that_has_it_not_is_enough(app: App) -> None:
    """As Clarifai's own test trains: gRPC programs leave the value out, which is 0."""
    app.indexed(labelled(RED, 1, wanted=0), labelled(BLUE, 2, other=0))
    new_model(app)

    version = trained(app, "wanted")

    assert (version.total_input_count, version.active_concept_count) == (1, 1)


def test_without_labels_there_is_no_data(app: App) -> None:
    app.indexed(labelled(RED, 1), labelled(BLUE, 2, other=1))
    new_model(app)

    version = ended(app, train(app, "nobody-labelled-this"))

    assert version.status.code == NO_DATA
    assert "has a label of the model's concepts" in version.status.details
    assert [one.id for one in app.call("ListConcepts").concepts] == ["other", "nobody-labelled-this"]


def test_positives_can_be_demanded(app: App) -> None:
    app.indexed(labelled(RED, 1, red=1, blue=0))
    new_model(app)
    version = ModelVersion(output_info=output_info("red", "blue", fail_on_missing_positive_examples=True))

    made = app.call("PostModelVersions", model_id="colours", model_versions=[version]).model.model_version

    done = ended(app, made.id)
    assert done.status.code == NO_POSITIVES
    assert "has the concept blue" in done.status.details


def test_a_dataset_limits_what_is_learnt_from(app: App) -> None:
    app.call("PostDatasets", datasets=[Dataset(id="some")])
    reds_and_blues(app)
    inside = app.post(
        Input(dataset_ids=["some"], data=labelled(RED, 30, red=1).data),
        Input(dataset_ids=["some"], data=labelled(BLUE, 31, red=0).data),
    )
    for input_id in inside:
        app.finished(input_id)
    new_model(app)
    params = Struct()
    params.update({"dataset_id": "some", "dataset_version_id": ""})

    for info in (TrainInfo(dataset=Dataset(id="some")), TrainInfo(params=params)):
        version = trained(app, "red", train_info=info)
        assert version.total_input_count == len(inside)
        assert version.train_info == info


def test_concepts_come_from_the_version_the_model_or_the_app(app: App) -> None:
    reds_and_blues(app)
    new_model(app, "told", output_info=output_info("red"))
    new_model(app, "untold")

    assert [one.id for one in trained(app, model_id="told").output_info.data.concepts] == ["red"]
    assert [one.id for one in trained(app, "blue", model_id="told").output_info.data.concepts] == ["blue"]
    assert [one.id for one in trained(app, model_id="untold").output_info.data.concepts] == ["red", "blue"]
    asked = service_pb2.GetModelRequest(user_app_id=app.ids, model_id="told")
    told = app.stub.GetModelOutputInfo(asked, metadata=(("authorization", f"Key {app.key}"),)).model
    assert [one.id for one in told.output_info.data.concepts] == ["red"]
    assert [one.id for one in told.model_version.output_info.data.concepts] == ["blue"]


def test_regions_teach(app: App) -> None:
    (photo,) = app.indexed(labelled(RED, 1))
    box = resources_pb2.BoundingBox(top_row=0.1, left_col=0.1, bottom_row=0.6, right_col=0.6)
    region = resources_pb2.Region(
        region_info=resources_pb2.RegionInfo(bounding_box=box), data=Data(concepts=[Concept(id="part", value=1)])
    )
    app.annotate(Annotation(input_id=photo, data=Data(regions=[region])))
    new_model(app)

    version = trained(app, "part")

    assert version.total_input_count == 1
    bucket = app.server.sql("SELECT first_bucket FROM apps WHERE id = %s", app.id)[0][0]
    assert app.server.sql("SELECT count(*) FROM areas WHERE bucket = %s", bucket) == [(2,)]


@pytest.mark.parametrize(
    ("version", "words"),
    [
        (ModelVersion(train_info=TrainInfo(dataset=Dataset(id="none"))), "dataset 'none'"),
        (ModelVersion(train_info=TrainInfo(dataset=Dataset(version={"id": "v"}))), "a version and no dataset"),
        (ModelVersion(output_info=output_info("c" * 200)), "128 is the limit"),
        (ModelVersion(id="no/id"), "use up to 128 letters"),
        (ModelVersion(train_info=TrainInfo(params={"seed": "lucky"})), "seed is 'lucky', which is no number"),
        (ModelVersion(pretrained_model_config={"model_zip_url": "http://x"}), "weights cannot be brought"),
    ],
)
def test_what_cannot_be_trained_is_refused_and_leaves_nothing(app: App, version: ModelVersion, words: str) -> None:
    app.indexed(labelled(RED, 1, red=1))
    new_model(app)

    answer = app.ask("PostModelVersions", model_id="colours", model_versions=[version])

    assert answer.status.code == INVALID, answer
    assert words in answer.status.details
    assert len(app.call("ListModelVersions", model_id="colours").model_versions) == 1


def test_an_app_without_concepts_has_nothing_to_learn(app: App) -> None:
    new_model(app)
    answer = app.ask("PostModelVersions", model_id="colours")
    assert answer.status.code == INVALID
    assert "send output_info.data.concepts" in answer.status.details


def test_a_label_removed_in_between_is_not_learnt_and_older_versions_stay(app: App) -> None:
    ids = reds_and_blues(app)
    new_model(app)
    first = trained(app, "red", "blue")
    before = fits(app.server, first.id)[0].dump()
    patch = Input(id=ids[0], data=Data(concepts=[Concept(id="red")]))
    app.call("PatchInputs", action="remove", inputs=[patch])

    second = trained(app, "red", "blue")

    assert (first.total_input_count, second.total_input_count) == (len(ids), len(ids) - 1)
    assert fits(app.server, first.id)[0].dump() == before
    versions = app.call("ListModelVersions", model_id="colours").model_versions
    assert [version.id for version in versions][:2] == [second.id, first.id]


def test_two_at_once_and_many_in_a_row(app: App) -> None:
    reds_and_blues(app)
    for model_id in ("one", "two"):
        new_model(app, model_id)
    wanted = [("one", train(app, "red", "blue", model_id="one")) for _ in range(4)]
    wanted += [("two", train(app, "blue", model_id="two")) for _ in range(4)]

    codes = [ended(app, version_id, model_id).status.code for model_id, version_id in wanted]

    assert codes == [TRAINED] * 8
    assert all(len(fits(app.server, version_id)) == 1 for _, version_id in wanted)


def test_what_is_deleted_while_it_trains_leaves_nothing(app: App) -> None:
    reds_and_blues(app)
    for round in range(6):
        model_id = f"short-lived-{round}"
        new_model(app, model_id)
        version_id = train(app, "red", "blue", model_id=model_id)
        if round % 2:
            app.call("DeleteModel", model_id=model_id)
        else:
            app.call("DeleteModelVersion", model_id=model_id, version_id=version_id)
        assert app.ask("GetModelVersion", model_id=model_id, version_id=version_id).status.code == DOES_NOT_EXIST
    # The queue goes on behind them.
    new_model(app)
    trained(app, "red", "blue")
    bucket = app.server.sql("SELECT first_bucket FROM apps WHERE id = %s", app.id)[0][0]
    assert app.server.sql("SELECT count(*) FROM model_fits WHERE bucket = %s", bucket) == [(1,)]


def test_an_app_can_be_deleted_while_its_models_train(server: Server, stub: Any) -> None:
    for _ in range(3):
        app = new_app(server, stub)
        app.indexed(labelled(RED, 1, red=1), labelled(BLUE, 2, blue=1))
        bucket = server.sql("SELECT first_bucket FROM apps WHERE id = %s", app.id)[0][0]
        new_model(app)
        train(app, "red", "blue")

        assert app.ask("DeleteApp").status.code == SUCCESS

        for table in ("models", "model_versions", "model_fits"):
            assert server.sql(f"SELECT count(*) FROM {table} WHERE bucket = %s", bucket) == [(0,)]


def test_a_trained_concept_is_searched_for_at_once(app: App) -> None:
    reds_and_blues(app, 6)
    unlabelled = app.indexed(*(labelled(colour, seed) for colour in (RED, BLUE) for seed in (70, 71)))
    new_model(app)

    trained(app, "red", "blue")

    for concept_id, best, others in [("red", unlabelled[:2], unlabelled[2:]), ("blue", unlabelled[2:], unlabelled[:2])]:
        scores = {hit.input.id: hit.score for hit in app.rank(by_concept(concept_id), inputs=True)}
        assert min(scores[input_id] for input_id in best) > 0.5
        assert max(scores[input_id] for input_id in others) < 0.5


def test_training_goes_on_after_a_kill(server: Server) -> None:
    del server
    with home() as folder, server_at(folder) as own:
        own.start()
        with connected(own) as stub:
            app = new_app(own, stub)
            reds_and_blues(app)
            new_model(app)
            wanted = [train(app, "red", "blue") for _ in range(6)]
            wait_for("one to be trained", lambda: own.sql("SELECT 1 FROM model_fits"))
            own.kill()
        own.start()
        with connected(own) as stub:
            app = App(server=own, stub=stub, id=app.id)
            assert [ended(app, version_id).status.code for version_id in wanted] == [TRAINED] * len(wanted)
        assert own.sql("SELECT count(*) FROM model_fits") == [(len(wanted),)]
        assert own.sql("SELECT count(*) FROM model_versions WHERE lease_owner IS NOT NULL") == [(0,)]


def test_progress_is_told(app: App) -> None:
    reds_and_blues(app)
    new_model(app)
    seen = set()
    version_id = train(app, *(f"concept-{number}" for number in range(200)), "red")

    def look() -> bool:
        status = app.call("GetModelVersion", model_id="colours", version_id=version_id).model_version.status
        seen.add(status.code)
        assert 0 <= status.percent_completed <= 100
        return status.code == TRAINED

    wait_for("the training", look)
    assert seen <= {QUEUED, TRAINING, TRAINED}
    assert plain(RED, 1) != plain(BLUE, 1)
