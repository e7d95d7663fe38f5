"""Evaluating model versions: the rpcs, the queue behind them, and what happens when something is in the way."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import numpy as np
import pytest
from clarifai_grpc.grpc.api import resources_pb2
from clarifai_grpc.grpc.api.resources_pb2 import EvalMetrics, Model, ModelVersion
from google.protobuf.struct_pb2 import Struct
from tests.integration.evaluating import (
    EVALUATED,
    EVALUATING,
    MODEL,
    NOT_EVALUATED,
    QUEUED,
    TRAINED,
    TRAINING,
    Place,
    random_labels,
    run,
    wait_for,
)
from tests.integration.worlds import Worlds

from sightrank.api.evaluation_requests import MAX_WAITING
from sightrank.errors import (
    DoesNotExist,
    DuplicateKey,
    InvalidRequest,
    ModelDoesNotExist,
    ModelInvalidArgument,
    ServerBusy,
)
from sightrank.teach.evaluation_queue import EvaluationQueue
from sightrank.vision import fitting

CONCEPTS = ("cat", "dog", "bird")
EVERYTHING = {
    "confusion_matrix": True,
    "cooccurrence_matrix": True,
    "label_counts": True,
    "binary_metrics": True,
    "test_set": True,
}


def of_version(version_id: str, **fields: Any) -> EvalMetrics:
    return EvalMetrics(model=Model(id=MODEL, model_version=ModelVersion(id=version_id)), **fields)


def on(dataset_id: str, **fields: Any) -> resources_pb2.Dataset:
    return resources_pb2.Dataset(id=dataset_id, **fields)


def test_a_version_is_evaluated_by_cross_validation(world: Worlds) -> None:
    async def scenario(place: Place) -> None:
        labels = random_labels(60, 3)
        await place.label("in", labels, CONCEPTS)
        version = await place.train(CONCEPTS)
        assert (await place.metrics(version)).status.code == NOT_EVALUATED

        asked = await place.call("PostModelVersionMetrics", model_id=MODEL, version_id=version)
        assert asked.model_version.metrics.status.code == QUEUED
        async with place.evaluating():
            found = await place.done(version)

        assert found.status.code == EVALUATED, found.status
        assert 0.8 < found.summary.macro_avg_roc_auc <= 1
        assert (found.model.id, found.model.model_version.id, found.model.model_type_id) == (
            MODEL,
            version,
            "embedding-classifier",
        )
        assert not found.HasField("ground_truth_dataset")
        assert not found.binary_metrics  # only what is asked for
        assert not found.test_set
        heavy = await place.done(version, **EVERYTHING)
        counts = {one.concept.id: one.count for one in heavy.label_counts.positive_label_counts}
        assert counts == dict(zip(CONCEPTS, labels.sum(axis=0).astype(int).tolist(), strict=True))
        assert [one.concept.name for one in heavy.binary_metrics] == ["CAT", "DOG", "BIRD"]
        assert all(one.num_pos + one.num_neg == one.num_tot == 60 for one in heavy.binary_metrics)
        both = int((labels[:, 0] * labels[:, 1]).sum())
        cells = {(one.row, one.col): one.count for one in heavy.cooccurrence_matrix.matrix}
        assert cells["cat", "dog"] == cells["dog", "cat"] == both
        confusion = {(one.actual, one.predicted): one.value for one in heavy.confusion_matrix.matrix}
        assert len(confusion) == 9
        assert heavy.confusion_matrix.concept_ids[0] == max(CONCEPTS, key=lambda id: confusion[id, id])
        assert [round(value, 2) for value in heavy.binary_metrics[0].roc_curve.thresholds].count(0.5) == 1
        assert len(heavy.test_set) == 12  # a fifth
        first = heavy.test_set[0]
        number = int(first.input.id.split("-")[1])
        assert {one.id for one in first.ground_truth_concepts} == {
            id for id, value in zip(CONCEPTS, labels[number], strict=True) if value
        }
        assert sorted(one.id for one in first.predicted_concepts) == sorted(CONCEPTS)
        assert [one.value for one in first.predicted_concepts] == sorted(
            (one.value for one in first.predicted_concepts), reverse=True
        )
        own = heavy.extended_metrics.user_metrics["sightrank"]
        assert (own["folds"], own["inputs"]) == (5, 60)
        assert sum(one["count"] for one in own["calibration"]) == 180

    run(world, scenario)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_one_concept_and_one_image_are_evaluated_too(world: Worlds, value: float) -> None:
    async def scenario(place: Place) -> None:
        await place.label("in", np.full((1, 1), value, np.float32), CONCEPTS[:1])
        version = await place.train(CONCEPTS[:1])
        await place.call("PostModelVersionMetrics", model_id=MODEL, version_id=version)

        async with place.evaluating():
            found = await place.done(version, **EVERYTHING)

        assert found.status.code == EVALUATED, found.status
        assert found.summary.macro_avg_roc_auc == 0.5
        assert len(found.test_set) == 1

    run(world, scenario)


def test_a_version_is_judged_as_it_is_by_a_dataset(world: Worlds) -> None:
    async def scenario(place: Place) -> None:
        await place.label("seen", random_labels(60, 3), CONCEPTS)
        version = await place.train(CONCEPTS)
        await place.label("new", random_labels(20, 3, seed=1), CONCEPTS, seed=1)
        await place.dataset("fresh", "new")
        await place.dataset("known", "seen")

        posted = await place.call(
            "PostEvaluations",
            eval_metrics=[
                of_version(version, id="on-new", ground_truth_dataset=on("fresh")),
                of_version(version, id="on-old", ground_truth_dataset=on("known")),
            ],
        )
        async with place.evaluating():
            await place.done(version)
        on_new = (await place.call("GetEvaluation", evaluation_id="on-new")).eval_metrics
        on_old = (await place.call("GetEvaluation", evaluation_id="on-old")).eval_metrics

        assert [(one.id, one.status.code) for one in posted.eval_metrics] == [("on-new", QUEUED), ("on-old", QUEUED)]
        assert on_new.status.code == EVALUATED, on_new
        assert (on_new.ground_truth_dataset.id, on_new.ground_truth_dataset.app_id) == ("fresh", place.app.app_id)
        assert on_new.summary.macro_avg_roc_auc > 0.8
        assert on_new.status.details == ""
        assert on_new.extended_metrics.user_metrics["sightrank"]["inputs"] == 20
        assert "trained on 60 of these 60 inputs" in on_old.status.details
        assert on_old.summary.macro_avg_roc_auc > 0.9

    run(world, scenario)


def test_evaluations_are_listed_sorted_and_filtered(world: Worlds) -> None:
    async def scenario(place: Place) -> None:
        await place.label("in", random_labels(40, 3), CONCEPTS)
        await place.dataset("all", "in")
        await place.dataset("few", "in-1")
        whole, part = await place.train(CONCEPTS), await place.train(CONCEPTS[:1], model_id="other", dataset_id="few")
        other = Model(id="other", model_version=ModelVersion(id=part))
        wanted = [
            of_version(whole, id="a"),
            of_version(whole, id="b", ground_truth_dataset=on("all")),
            EvalMetrics(id="c", model=other, ground_truth_dataset=on("few")),
            EvalMetrics(id="d", model=other),
        ]
        for one in wanted:
            await place.call("PostEvaluations", eval_metrics=[one])
        async with place.evaluating():
            await wait_for("all to end", lambda: _none(place, f"status IN ({QUEUED}, {EVALUATING})"))
        await place.write("UPDATE model_evaluations SET status = 21317 WHERE bucket = %(bucket)s AND id = 'd'")

        async def ids(**fields: Any) -> list[str]:
            return [one.id for one in (await place.call("ListEvaluations", **fields)).eval_metrics]

        assert await ids() == ["c", "b", "a"]
        assert await ids(show_failed_metrics=True) == ["d", "c", "b", "a"]
        assert await ids(sort_by_created_at=True, sort_ascending=True) == ["a", "b", "c"]
        assert await ids(page=2, per_page=2) == ["a"]
        assert await ids(sort_by_model_id=True, sort_ascending=True) == ["a", "b", "c"]
        assert (await ids(sort_by_eval_dataset_id=True))[0] == "c"
        assert await ids(eval_dataset_ids=["all"]) == ["b"]
        assert await ids(train_dataset_ids=["few"], show_failed_metrics=True) == ["d", "c"]
        assert await ids(concept_ids=["dog"]) == ["b", "a"]
        assert await ids(concept_ids=["cat"]) == ["c", "b", "a"]
        assert await ids(model_type_id="visual-detector") == []
        listed = (await place.call("ListEvaluations", sort_by_roc_auc=True)).eval_metrics
        scores = [one.summary.macro_avg_roc_auc for one in listed]
        assert scores == sorted(scores, reverse=True)
        of_whole = await place.call("ListModelVersionEvaluations", model_id=MODEL, model_version_id=whole)
        assert [one.id for one in of_whole.eval_metrics] == ["b", "a"]
        found = await place.call("GetModelVersionEvaluation", model_id=MODEL, model_version_id=whole, evaluation_id="b")
        assert found.eval_metrics.id == "b"
        with pytest.raises(DoesNotExist):
            await place.call("GetModelVersionEvaluation", model_id=MODEL, model_version_id=part, evaluation_id="b")

    run(world, scenario)


async def _none(place: Place, condition: str) -> bool:
    statement = f"SELECT count(*) FROM model_evaluations WHERE bucket = %(bucket)s AND {condition}"
    return (await place.sql(statement))[0][0] == 0


def test_what_was_posted_is_shown_again(world: Worlds) -> None:
    async def scenario(place: Place) -> None:
        await place.label("in", random_labels(10, 3), CONCEPTS)
        version = await place.train(CONCEPTS)
        mine, params = Struct(), Struct()
        mine.update({"cost": 3})
        params.update({"use_kfold": True})
        posted = of_version(
            version,
            id="mine",
            extended_metrics=resources_pb2.ExtendedMetrics(user_metrics=mine),
            eval_info=resources_pb2.EvalInfo(params=params),
        )
        await place.call("PostModelVersionEvaluations", model_id=MODEL, model_version_id=version, eval_metrics=[posted])
        async with place.evaluating():
            found = await place.done(version)

        assert found.id == "mine"
        assert found.extended_metrics.user_metrics["cost"] == 3
        assert found.eval_info.params["use_kfold"] is True

    run(world, scenario)


def test_asking_again_while_one_waits_makes_no_second_one(world: Worlds) -> None:
    async def scenario(place: Place) -> None:
        await place.label("in", random_labels(10, 3), CONCEPTS)
        version = await place.train(CONCEPTS)

        ids = {
            (await place.call("PostModelVersionMetrics", model_id=MODEL, version_id=version)).model_version.metrics.id
            for _ in range(3)
        }

        assert len(ids) == 1
        with pytest.raises(DuplicateKey):
            await place.call("PostEvaluations", eval_metrics=[of_version(version, id=ids.pop())])

    run(world, scenario)


def test_the_queue_is_bounded(world: Worlds) -> None:
    async def scenario(place: Place) -> None:
        version = await place.version(CONCEPTS)
        many = [of_version(version, id=f"e{n}") for n in range(MAX_WAITING)]
        await place.call("PostEvaluations", eval_metrics=many)

        with pytest.raises(ServerBusy):
            await place.call("PostEvaluations", eval_metrics=[of_version(version, id="one-more")])

    run(world, scenario)


def test_what_cannot_be_evaluated_is_refused_and_nothing_of_the_call_is_made(world: Worlds) -> None:
    async def scenario(place: Place) -> None:
        version = await place.version(CONCEPTS)
        untrained = await place.version(CONCEPTS, status=21102)
        failed = await place.version(CONCEPTS, status=21110, details="There was no data.")
        fine = of_version(version, id="fine")

        async def refused(error: type[Exception], bad: EvalMetrics, text: str) -> None:
            with pytest.raises(error, match=text):
                await place.call("PostEvaluations", eval_metrics=[fine, bad])

        await refused(ModelDoesNotExist, of_version("nobody"), "nobody")
        await refused(ModelDoesNotExist, EvalMetrics(), "''")
        await refused(ModelInvalidArgument, of_version(untrained), "not trained")
        await refused(ModelInvalidArgument, of_version(failed), "There was no data")
        await refused(DoesNotExist, of_version(version, ground_truth_dataset=on("nowhere")), "nowhere")
        await refused(ModelInvalidArgument, of_version(version, ground_truth_dataset=on("d", app_id="x")), "own app")
        at = resources_pb2.DatasetVersion(id="v1")
        await refused(ModelInvalidArgument, of_version(version, ground_truth_dataset=on("", version=at)), "no dataset")
        await refused(DoesNotExist, of_version(version, ground_truth_dataset=on("d", version=at)), "no dataset 'd'")
        elsewhere = EvalMetrics(model=Model(id=MODEL, app_id="main", user_id="clarifai"))
        await refused(ModelInvalidArgument, elsewhere, "clarifai/main")
        for bad_id in ("x" * 129, "a\nb", ".", "..", "-", "a b/ü", "bad\0"):
            await refused(
                ModelInvalidArgument, of_version(version, id=bad_id), "eval_metrics.id is .*up to 128 letters"
            )
        search = resources_pb2.Search(name="x")
        with pytest.raises(InvalidRequest, match="test_search"):
            await place.call("PostModelVersionMetrics", model_id=MODEL, version_id=version, test_search=search)
        with pytest.raises(InvalidRequest, match="1 to 128"):
            await place.call("PostEvaluations")
        with pytest.raises(DoesNotExist):
            await place.call("GetEvaluation", evaluation_id="fine")

    run(world, scenario)


def test_a_version_in_training_is_evaluated_when_it_is_trained(world: Worlds) -> None:
    async def scenario(place: Place) -> None:
        await place.label("in", random_labels(20, 3), CONCEPTS)
        version = await place.train(CONCEPTS)
        set_status = "UPDATE model_versions SET status = %(status)s, status_details = %(why)s WHERE bucket = %(bucket)s"
        await place.write(set_status, status=TRAINING, why="")
        await place.call("PostModelVersionMetrics", model_id=MODEL, version_id=version)

        async with place.evaluating():
            await asyncio.sleep(0.2)
            assert (await place.metrics(version)).status.code == QUEUED
            await place.write(set_status, status=TRAINED, why="")
            assert (await place.done(version)).status.code == EVALUATED

            await place.write(set_status, status=TRAINING, why="")
            await place.call("PostModelVersionMetrics", model_id=MODEL, version_id=version)
            await place.write(set_status, status=21106, why="It went wrong.")
            found = await place.done(version)
        assert found.status.code == 21317
        assert "It went wrong." in found.status.details

    run(world, scenario)


def test_failures_say_why(world: Worlds) -> None:
    async def scenario(place: Place) -> None:
        await place.label("in", random_labels(10, 3), CONCEPTS)
        await place.label("bare", np.full((3, 3), np.nan, np.float32), CONCEPTS)
        await place.dataset("unlabelled", "bare")
        version, forgetful = await place.train(CONCEPTS), await place.version(CONCEPTS)
        unlabelled = of_version(version, ground_truth_dataset=on("unlabelled"))

        async with place.evaluating():
            await place.call("PostEvaluations", eval_metrics=[unlabelled])
            without_labels = await place.done(version)
            await place.call("PostModelVersionMetrics", model_id=MODEL, version_id=forgetful)
            without_examples = await place.done(forgetful)
            unfitted = of_version(forgetful, ground_truth_dataset=on("unlabelled"))
            await place.call("PostEvaluations", eval_metrics=[unfitted])
            without_fit = await place.done(forgetful)
            await place.write("DELETE FROM areas WHERE bucket = %(bucket)s")
            await place.call("PostModelVersionMetrics", model_id=MODEL, version_id=version)
            without_inputs = await place.done(version)

        assert (without_labels.status.code, without_examples.status.code) == (21315, 21316)
        assert "unlabelled" in without_labels.status.details
        assert (without_fit.status.code, without_inputs.status.code) == (21313, 21316)
        assert all(one.status.description for one in (without_labels, without_fit, without_inputs))

    run(world, scenario)


def slow_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fitting that goes on until it is told to stop."""

    def endless(examples: Any, options: Any, progress: Any) -> Any:
        while True:
            progress(0.1)
            time.sleep(0.01)

    monkeypatch.setattr("sightrank.vision.evaluation.fit", endless)


@pytest.mark.parametrize("rpc", ["DeleteModel", "DeleteModelVersion"])
def test_deleting_what_is_evaluated_stops_it_and_leaves_nothing(
    world: Worlds, monkeypatch: pytest.MonkeyPatch, rpc: str
) -> None:
    slow_fit(monkeypatch)

    async def scenario(place: Place) -> None:
        await place.label("in", random_labels(20, 3), CONCEPTS)
        version = await place.train(CONCEPTS)
        await place.call("PostModelVersionMetrics", model_id=MODEL, version_id=version)
        async with place.evaluating():
            await wait_for("it to be worked on", lambda: _running(place, version))
            await place.call(rpc, model_id=MODEL, **({"version_id": version} if rpc == "DeleteModelVersion" else {}))
            monkeypatch.undo()
            again = await place.train(CONCEPTS)
            await place.call("PostModelVersionMetrics", model_id=MODEL, version_id=again)
            assert (await place.done(again)).status.code == EVALUATED  # the thread was free
        rows = await place.sql("SELECT model_version_id FROM model_evaluations WHERE bucket = %(bucket)s")
        assert rows == [(again,)]

    run(world, scenario)


async def _running(place: Place, version: str) -> bool:
    return bool((await place.metrics(version)).status.code == EVALUATING)


def test_an_orderly_stop_gives_it_back_and_another_takes_it(world: Worlds, monkeypatch: pytest.MonkeyPatch) -> None:
    slow_fit(monkeypatch)

    async def scenario(place: Place) -> None:
        await place.label("in", random_labels(20, 3), CONCEPTS)
        version = await place.train(CONCEPTS)
        await place.call("PostModelVersionMetrics", model_id=MODEL, version_id=version)
        async with place.evaluating():
            await wait_for("it to be worked on", lambda: _running(place, version))
        assert (await place.metrics(version)).status.code == QUEUED
        assert await place.sql("SELECT attempts FROM model_evaluations WHERE bucket = %(bucket)s") == [(0,)]
        monkeypatch.undo()

        async with place.evaluating():
            assert (await place.done(version)).status.code == EVALUATED

    run(world, scenario)


def test_a_dead_process_leaves_its_lease_and_attempts_are_bounded(world: Worlds) -> None:
    async def scenario(place: Place) -> None:
        await place.label("in", random_labels(20, 3), CONCEPTS)
        version = await place.train(CONCEPTS)
        await place.call("PostModelVersionMetrics", model_id=MODEL, version_id=version)
        dying = EvaluationQueue(place.world.database, owner="dying", lease_s=0.0)
        for _ in range(3):  # takes it and dies, again and again
            assert await wait_for("the lease to run out", lambda: dying.claim([place.workflow_id]))

        async with place.evaluating():
            found = await place.done(version)

        assert found.status.code == 21312
        assert "ended the server" in found.status.details

    run(world, scenario)


def test_who_has_lost_the_lease_writes_nothing(world: Worlds) -> None:
    async def scenario(place: Place) -> None:
        version = await place.version(CONCEPTS)
        await place.call("PostModelVersionMetrics", model_id=MODEL, version_id=version)
        slow = EvaluationQueue(place.world.database, owner="slow", lease_s=0.0)
        quick = EvaluationQueue(place.world.database, owner="quick", lease_s=60.0)
        held = await slow.claim([place.workflow_id])
        assert held is not None
        taken = await wait_for("the lease to run out", lambda: quick.claim([place.workflow_id]))
        assert taken is not None
        assert not await slow.keep(held)
        await slow.put_off(held, pause_s=0.0, blameless=True)
        assert (await place.metrics(version)).status.code == EVALUATING
        assert await quick.claim([place.workflow_id]) is None  # one at a time
        assert await quick.keep(taken)

    run(world, scenario)


def test_what_waits_for_its_training_holds_up_no_other(world: Worlds) -> None:
    async def scenario(place: Place) -> None:
        untrained, trained = await place.version(CONCEPTS, status=TRAINING), await place.version(CONCEPTS)
        for version in (untrained, trained):
            await place.call("PostModelVersionMetrics", model_id=MODEL, version_id=version)
        queue = EvaluationQueue(place.world.database, owner="me", lease_s=60.0)

        assert await queue.claim(["Removed"]) is None
        found = [await queue.claim([place.workflow_id]) for _ in range(2)]

        assert [claimed and (claimed.version_id, claimed.version_status, claimed.attempts) for claimed in found] == [
            (trained, TRAINED, 1),
            None,
        ]

    run(world, scenario)


def test_several_processes_share_the_queue(world: Worlds) -> None:
    async def scenario(place: Place) -> None:
        await place.label("in", random_labels(20, 3), CONCEPTS)
        version = await place.train(CONCEPTS)
        await place.call("PostEvaluations", eval_metrics=[of_version(version, id=f"e{n}") for n in range(8)])

        async with place.evaluating(), place.evaluating(), place.evaluating():
            await wait_for("all to end", lambda: _none(place, f"status <> {EVALUATED}"))

        assert await place.sql("SELECT DISTINCT attempts FROM model_evaluations WHERE bucket = %(bucket)s") == [(1,)]
        aucs = await place.sql("SELECT DISTINCT summary ->> 'roc_auc' FROM model_evaluations WHERE bucket = %(bucket)s")
        assert len(aucs) == 1  # all the same: it is deterministic

    run(world, scenario)


def test_after_training_nothing_is_made_when_what_is_asked_for_cannot_be(world: Worlds) -> None:
    async def scenario(place: Place) -> None:
        await place.label("in", random_labels(2, 3), CONCEPTS)
        await place.version(CONCEPTS)
        before = await place.sql("SELECT count(*) FROM model_versions WHERE bucket = %(bucket)s")
        params = Struct()
        params.update({"dataset_id": "nowhere"})
        info = resources_pb2.EvalInfo(params=params)

        with pytest.raises(DoesNotExist, match="nowhere"):
            await place.call("PostModelVersions", model_id=MODEL, model_versions=[ModelVersion()], eval_info=info)
        assert await place.sql("SELECT count(*) FROM model_versions WHERE bucket = %(bucket)s") == before

        params.update({"dataset_id": "", "evaluate_after_training": False})
        info = resources_pb2.EvalInfo(params=params)
        await place.call("PostModelVersions", model_id=MODEL, model_versions=[ModelVersion()], eval_info=info)
        assert await _none(place, "true")

    run(world, scenario)


def test_an_error_in_learning_is_tried_again_and_told_in_the_end(
    world: Worlds, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise ValueError("no such thing")

    monkeypatch.setattr("sightrank.vision.evaluation.fit", broken)
    monkeypatch.setattr("sightrank.teach.evaluator._AGAIN_S", 0.0)

    async def scenario(place: Place) -> None:
        await place.label("in", random_labels(20, 3), CONCEPTS)
        version = await place.train(CONCEPTS)
        await place.call("PostModelVersionMetrics", model_id=MODEL, version_id=version)

        async with place.evaluating():
            found = await place.done(version)

        assert found.status.code == 21312
        assert "3 times: no such thing" in found.status.details

    run(world, scenario)


def test_regions_are_listed_with_their_boxes(world: Worlds) -> None:
    async def scenario(place: Place) -> None:
        await place.label("in", random_labels(10, 3), CONCEPTS)
        await place.write(
            "UPDATE areas SET region_id = 'r' || id, box_top = 0.1, box_left = 0.2, box_bottom = 0.5, box_right = 0.75"
            " WHERE bucket = %(bucket)s"
        )
        version = await place.train(CONCEPTS)
        await place.call("PostModelVersionMetrics", model_id=MODEL, version_id=version)
        async with place.evaluating():
            found = await place.done(version, test_set=True)

        region = found.test_set[0].predicted_annotation.data.regions[0]
        assert region.region_info.bounding_box.right_col == pytest.approx(0.75)
        assert region.data.concepts == found.test_set[0].predicted_concepts
        truth = found.test_set[0].ground_truth_annotation.data.regions[0]
        assert list(truth.data.concepts) == list(found.test_set[0].ground_truth_concepts)

    run(world, scenario)


def test_inputs_that_are_gone_are_not_listed(world: Worlds) -> None:
    async def scenario(place: Place) -> None:
        await place.label("in", random_labels(10, 3), CONCEPTS)
        version = await place.train(CONCEPTS)
        await place.call("PostModelVersionMetrics", model_id=MODEL, version_id=version)
        async with place.evaluating():
            before = await place.done(version, test_set=True)
        gone = before.test_set[0].input.id
        await place.write("DELETE FROM inputs WHERE bucket = %(bucket)s AND id = %(id)s", id=gone)

        after = await place.metrics(version, test_set=True)

        assert [one.input.id for one in after.test_set] == [one.input.id for one in before.test_set][1:]
        assert after.summary == before.summary

    run(world, scenario)


def test_fitting_options_of_the_version_are_used(world: Worlds, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[fitting.FitOptions] = []
    real = fitting.fit

    def recorded(examples: Any, options: fitting.FitOptions, progress: Any) -> Any:
        used.append(options)
        return real(examples, options, progress)

    monkeypatch.setattr("sightrank.vision.evaluation.fit", recorded)

    async def scenario(place: Place) -> None:
        await place.label("in", random_labels(20, 3), CONCEPTS)
        version = await place.train(CONCEPTS)
        await place.write("UPDATE model_versions SET training = '{\"exclusive\": true}' WHERE bucket = %(bucket)s")
        await place.call("PostModelVersionMetrics", model_id=MODEL, version_id=version)
        async with place.evaluating():
            await place.done(version)

    run(world, scenario)
    assert [options.exclusive for options in used] == [True] * 5
