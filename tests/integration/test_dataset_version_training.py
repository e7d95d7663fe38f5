"""Trainings and evaluations by a version of a dataset go by what people had said, and are repeatable."""

from __future__ import annotations

from typing import Any

import pytest
from clarifai_grpc.grpc.api.resources_pb2 import (
    AnnotationFilter,
    Data,
    Dataset,
    DatasetVersion,
    EvalMetrics,
    Input,
    Model,
    ModelVersion,
    TrainInfo,
)
from google.protobuf import struct_pb2
from tests.integration.serving import App, Server, of_bytes, wait_for
from tests.integration.teaching import (
    BLUE,
    GREEN,
    NO_DATA,
    RED,
    TRAINED,
    ended,
    labelled,
    new_model,
    output_info,
    plain,
    train,
    trained,
)
from tests.integration.test_dataset_inputs import has, named, search
from tests.integration.test_dataset_inputs import labelled as saying
from tests.integration.test_dataset_version_contents import filtered
from tests.integration.test_dataset_versions import read, version

EVALUATED, NEED_INPUTS = 21300, 21316


def of(version_id: str = "", dataset_id: str = "d") -> TrainInfo:
    return TrainInfo(dataset=Dataset(id=dataset_id, version=DatasetVersion(id=version_id)))


@pytest.fixture
def taught(app: App) -> App:
    """Reds and blues in the dataset ``d``, others outside, and a model of both."""
    app.call("PostDatasets", datasets=[Dataset(id="d")])
    reds = [labelled(RED, seed, red=1) for seed in range(4)]
    blues = [labelled(BLUE, seed, blue=1) for seed in range(4)]
    for n, item in enumerate([*reds, *blues]):
        item.id = f"i{n}"
        item.dataset_ids.append("d")
    app.indexed(*reds, *blues, *(of_bytes(plain(GREEN, seed), f"g{seed}") for seed in range(4)))
    new_model(app)
    return app


def change_everything(app: App) -> None:
    """Labels are turned round, members leave, others join and come."""
    turned = [has("red"), has("blue", 0.0)], [has("blue"), has("red", 0.0)]
    for n in range(8):
        said = Data(concepts=turned[n < 4])
        app.call("PatchInputs", action="overwrite", inputs=[Input(id=f"i{n}", data=said)])
    app.call("DeleteDatasetInputs", dataset_id="d", input_ids=["i0", "i7"])
    app.indexed(*(labelled(GREEN, seed, red=1) for seed in range(20, 24)))
    app.call("PostDatasetInputs", dataset_id="d", dataset_inputs=named("g0", "g1"))


def predicted(app: App, made: ModelVersion) -> dict[str, float]:
    asked = of_bytes(plain(RED, 77))
    answer = app.call("PostModelOutputs", model_id="colours", version_id=made.id, inputs=[asked])
    return {concept.id: concept.value for concept in answer.outputs[0].data.concepts}


def test_a_version_teaches_the_same_whatever_happens_later(taught: App) -> None:
    version(taught, id="v")
    first = trained(taught, "red", "blue", train_info=of("v"))

    change_everything(taught)
    again = trained(taught, "red", "blue", train_info=of("v"))
    params = struct_pb2.Struct()
    params.update({"dataset_id": "d", "dataset_version_id": "v"})
    by_params = trained(taught, "red", "blue", train_info=TrainInfo(params=params))
    now = trained(taught, "red", "blue", train_info=of())

    assert first.train_info.dataset.version.id == "v"
    assert (first.total_input_count, again.total_input_count, now.total_input_count) == (8, 8, 6)
    assert predicted(taught, first) == predicted(taught, again) == predicted(taught, by_params)
    assert predicted(taught, first)["red"] > 0.5 > predicted(taught, now)["red"]


def test_only_what_a_filter_left_teaches(taught: App) -> None:
    taught.call(
        "PostAnnotationFilters", annotation_filters=[AnnotationFilter(id="reds", search=search(saying(has("red"))))]
    )
    filtered(taught, "v", "reds")
    made = trained(taught, "red", train_info=of("v"))
    assert made.total_input_count == 4


@pytest.mark.parametrize(
    ("info", "told"),
    [
        (of("unknown"), "version 'unknown' of dataset 'd'"),
        (of("v", "unknown"), "dataset 'unknown'"),
        (of("v", ""), "a version and no dataset"),
    ],
)
def test_an_unknown_version_is_named(taught: App, info: TrainInfo, told: str) -> None:
    version(taught, id="v")
    wanted = ModelVersion(output_info=output_info("red"), train_info=info)
    refused = taught.ask("PostModelVersions", model_id="colours", model_versions=[wanted])
    assert refused.status.code == 21202
    assert told in refused.status.details


def test_a_model_outlives_the_version_it_was_trained_with(taught: App, server: Server) -> None:
    version(taught, id="v")
    made = trained(taught, "red", "blue", train_info=of("v"))
    before = predicted(taught, made)

    taught.call("DeleteDatasetVersions", dataset_id="d", dataset_version_ids=["v"])
    queued = train(taught, "red", train_info=of())
    assert ended(taught, queued).status.code == TRAINED

    assert predicted(taught, made) == before
    # A version that goes while the training waits.
    server.sql(
        'UPDATE model_versions SET status = 21103, training = training || \'{"dataset_version_id": "v"}\''
        " WHERE bucket = (SELECT first_bucket FROM apps WHERE id = %s) AND id = %s RETURNING 1",
        taught.id,
        queued,
    )
    failed = ended(taught, queued)
    assert failed.status.code == NO_DATA
    assert "There is no version 'v' of dataset 'd' any more." in failed.status.details


# Evaluating ---------------------------------------------------------------------------------------------------------


def evaluated(app: App, made: ModelVersion, evaluation_id: str, dataset: Dataset) -> EvalMetrics:
    wanted = EvalMetrics(
        id=evaluation_id,
        model=Model(id="colours", model_version=ModelVersion(id=made.id)),
        ground_truth_dataset=dataset,
    )
    app.call("PostEvaluations", eval_metrics=[wanted])

    def done() -> EvalMetrics | None:
        found: EvalMetrics
        found = app.call("GetEvaluation", evaluation_id=evaluation_id).eval_metrics
        return found if found.status.code not in (21301, 21303) else None

    return wait_for("the evaluation", done)


def test_a_model_is_judged_by_what_had_been_said(taught: App) -> None:
    version(taught, id="v")
    made = trained(taught, "red", "blue", train_info=of("v"))
    change_everything(taught)

    then = evaluated(taught, made, "then", Dataset(id="d", version=DatasetVersion(id="v")))
    now = evaluated(taught, made, "now", Dataset(id="d", version=DatasetVersion()))

    assert (then.status.code, now.status.code) == (EVALUATED, EVALUATED)
    assert (then.ground_truth_dataset.version.id, now.ground_truth_dataset.HasField("version")) == ("v", False)
    assert then.summary.macro_avg_roc_auc == 1.0
    assert now.summary.macro_avg_roc_auc < 0.5
    assert "8 of these 8 inputs" in then.status.details
    latest = taught.call("ListEvaluations", eval_dataset_ids=["d"]).eval_metrics
    assert [(one.id, one.ground_truth_dataset.version.id) for one in latest] == [("now", ""), ("then", "v")]


def test_what_cannot_judge_is_named(taught: App, server: Server) -> None:
    version(taught, id="v")
    made = trained(taught, "red", "blue", train_info=of("v"))

    def refused(dataset: Dataset) -> tuple[int, str]:
        model = Model(id="colours", model_version=ModelVersion(id=made.id))
        answer = taught.ask("PostEvaluations", eval_metrics=[EvalMetrics(model=model, ground_truth_dataset=dataset)])
        return answer.status.code, answer.status.details

    code, told = refused(Dataset(id="d", version=DatasetVersion(id="unknown")))
    assert (code, "version 'unknown' of dataset 'd'" in told) == (11101, True)
    code, told = refused(Dataset(version=DatasetVersion(id="v")))
    assert (code, "no dataset" in told) == (21202, True)
    found = gone(taught, made, server)
    assert found.status.code == NEED_INPUTS
    assert "There is no version 'gone' of dataset 'd' any more." in found.status.details


def gone(app: App, made: ModelVersion, server: Server) -> Any:
    """An evaluation whose version of the dataset went while it waited."""
    evaluated(app, made, "e", Dataset(id="d"))
    server.sql(
        "UPDATE model_evaluations SET status = 21303, attempts = 0, dataset_version_id = 'gone'"
        " WHERE bucket = (SELECT first_bucket FROM apps WHERE id = %s) RETURNING 1",
        app.id,
    )

    def done() -> EvalMetrics | None:
        found: EvalMetrics
        found = app.call("GetEvaluation", evaluation_id="e").eval_metrics
        return found if found.status.code not in (21301, 21303) else None

    return wait_for("the evaluation", done)


def test_a_pending_filter_is_waited_for(taught: App) -> None:
    taught.call("PostAnnotationFilters", annotation_filters=[AnnotationFilter(id="all", search=search())])
    filtered(taught, "v", "all")
    assert trained(taught, "red", "blue", train_info=of("v")).total_input_count == 8
    assert read(taught, "v").metrics[""].inputs_count.value == 8
