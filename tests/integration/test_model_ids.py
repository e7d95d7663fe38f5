"""Models get other ids, and everything that names them follows, also while they train, predict and index."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from clarifai_grpc.grpc.api import resources_pb2, service_pb2
from clarifai_grpc.grpc.api.resources_pb2 import (
    Data,
    EvalMetrics,
    Filter,
    Input,
    Model,
    ModelVersion,
    NodeInput,
    UserAppIDSet,
    Visibility,
    Worker,
    Workflow,
    WorkflowNode,
)
from tests.integration.own_flows import DETECTOR, EMBEDDER, Flowing, Flows
from tests.integration.serving import PAT, USER, App, by_concept, wait_for
from tests.integration.teaching import (
    BLUE,
    RED,
    TRAINED,
    ended,
    new_model,
    of_bytes,
    plain,
    reds_and_blues,
    train,
    trained,
)
from tests.integration.test_ingest_worker import until
from tests.integration.worlds import World, Worlds

from sightrank.background import background
from sightrank.ingest.renamed_models import RenamedModels
from sightrank.store.database import Connection, Database
from sightrank.teach.own_workflows import OwnWorkflows
from sightrank.vision.box import Box
from sightrank.vision.detector import Detection

SUCCESS, INVALID_REQUEST, UNKNOWN, FORBIDDEN, INVALID, DUPLICATE = 10000, 11102, 21200, 21201, 21202, 40010
TAGGER = "general-image-recognition"


def renaming(app: App, *pairs: tuple[str, str], action: str = "overwrite") -> Any:
    ids = [service_pb2.IdUpdateSource(id=id, new_id=new_id) for id, new_id in pairs]
    return app.ask("PatchModelIds", ids=ids, action=action)


def rename(app: App, *pairs: tuple[str, str]) -> list[Model]:
    answer = renaming(app, *pairs)
    assert answer.status.code == SUCCESS, answer
    return list(answer.models)


def node(id: str, model_id: str, *inputs: str) -> WorkflowNode:
    return WorkflowNode(id=id, model=Model(id=model_id), node_inputs=[NodeInput(node_id=name) for name in inputs])


def post_flow(app: App, *nodes: WorkflowNode, id: str = "flow") -> None:
    app.call("PostWorkflows", workflows=[Workflow(id=id, nodes=nodes)])


def index_by(app: App, workflow_id: str) -> None:
    """Makes this the app's base workflow."""
    message = resources_pb2.App(id=app.id, default_workflow_id=workflow_id)
    request = service_pb2.PatchAppsRequest(
        user_app_id=UserAppIDSet(user_id=USER), action="overwrite", apps=[message], reindex=False
    )
    answer = app.stub.PatchApps(request, metadata=(("authorization", f"Key {PAT}"),))
    assert answer.status.code == SUCCESS, answer


def models_of_annotations(app: App) -> list[tuple[str, str]]:
    """Of annotations that models of the app wrote: the model and its app."""
    said = [item.worker.model for item in app.annotations(list_all_annotations=True, per_page=500)]
    return [(model.id, model.app_id) for model in said if model.id not in ("", TAGGER)]


def said_by(app: App, model_id: str) -> int:
    """How many areas a filter by the model finds."""
    worker = Worker(model=Model(id=model_id))
    query = resources_pb2.Query(filters=[Filter(annotation=resources_pb2.Annotation(worker=worker))])
    searches = [resources_pb2.Search(query=query)]
    return len(app.call("PostAnnotationsSearches", searches=searches).hits)


def scores(app: App, concept_id: str) -> dict[str, float]:
    return {hit.input.id: hit.score for hit in app.rank(by_concept(concept_id))}


def test_everything_that_names_a_model_follows(app: App) -> None:
    reds_and_blues(app)
    new_model(app)
    version = trained(app, "red", "blue")
    evaluation = app.call(
        "PostEvaluations",
        eval_metrics=[EvalMetrics(model=Model(id="colours", model_version=ModelVersion(id=version.id)))],
    ).eval_metrics[0]
    post_flow(app, node("embed", EMBEDDER), node("say", "colours", "embed"))
    app.call("PatchWorkflows", action="merge", workflows=[Workflow(id="flow", nodes=[node("more", "colours")])])
    index_by(app, "flow")
    app.indexed(of_bytes(plain(RED, 50)))
    before, said = scores(app, "red"), said_by(app, "colours")
    assert said == 2, "by each of its nodes"

    (model,) = rename(app, ("colours", "hues"))

    assert (model.id, model.name, model.model_version.id) == ("hues", "colours", version.id)
    assert model.modified_at.ToNanoseconds() > model.created_at.ToNanoseconds()
    assert app.ask("GetModel", model_id="colours").status.code == UNKNOWN
    assert app.ask("GetModelVersion", model_id="colours", version_id=version.id).status.code == UNKNOWN
    assert version.id in [one.id for one in app.call("ListModelVersions", model_id="hues").model_versions]
    assert app.call("GetEvaluation", evaluation_id=evaluation.id).eval_metrics.model.id == "hues"
    flows = app.call("ListWorkflowVersions", workflow_id="flow").workflow_versions
    assert [[one.model.id for one in flow.nodes] for flow in flows] == [[EMBEDDER, "hues", "hues"], [EMBEDDER, "hues"]]
    assert scores(app, "red") == before
    assert models_of_annotations(app) == [("hues", app.id)] * 2
    assert (said_by(app, "hues"), said_by(app, "colours")) == (said, 0)
    asked = Input(data=Data(image=resources_pb2.Image(base64=plain(RED, 60))))
    (result,) = app.call("PostWorkflowResults", workflow_id="flow", inputs=[asked]).results
    assert [output.model.id for output in result.outputs] == [EMBEDDER, "hues", "hues"]
    assert result.outputs[1].data.concepts[0].id == "red"
    app.indexed(of_bytes(plain(BLUE, 51)))
    assert said_by(app, "hues") == 4


def test_a_model_is_renamed_while_it_trains_and_is_evaluated(app: App) -> None:
    reds_and_blues(app)
    new_model(app)
    version_id = train(app, "red", "blue")

    rename(app, ("colours", "hues"))
    evaluation = app.call("PostEvaluations", eval_metrics=[EvalMetrics(model=Model(id="hues"))]).eval_metrics[0]
    rename(app, ("hues", "tints"))

    assert ended(app, version_id, "tints").status.code == TRAINED
    wait_for(
        "the evaluation to end",
        lambda: app.call("GetEvaluation", evaluation_id=evaluation.id).eval_metrics.status.code == 21300,
    )
    assert app.call("GetEvaluation", evaluation_id=evaluation.id).eval_metrics.model.id == "tints"
    assert max(scores(app, "red").values()) > 0.5


def test_ids_are_patched_over_rest(app: App) -> None:
    new_model(app)

    body = {"ids": [{"id": "colours", "new_id": "hues"}], "action": "overwrite"}
    answer = app.rest("PATCH", "/models/ids", body)

    assert answer["status"]["code"] == SUCCESS
    assert [model["id"] for model in answer["models"]] == ["hues"]
    assert app.rest("GET", "/models/hues")["model"]["name"] == "colours"


def test_what_is_refused_changes_nothing(app: App) -> None:
    new_model(app, "a")
    new_model(app, "b")
    before = app.call("ListModels").models

    def code(*pairs: tuple[str, str], **options: str) -> int:
        return int(renaming(app, *pairs, **options).status.code)

    assert code(("a", "b")) == DUPLICATE
    assert code(("a", "a")) == DUPLICATE
    assert code(("a", "new"), ("b", "new")) == INVALID_REQUEST
    assert code(("a", "new"), ("a", "newer")) == INVALID_REQUEST
    assert code(("a", "new"), ("new", "newer")) == INVALID_REQUEST, "each once"
    assert code(("a", "new"), ("nobody", "newer")) == UNKNOWN
    assert code((TAGGER, "mine")) == FORBIDDEN
    assert [code(("a", taken)) for taken in (TAGGER, "aaa03c23b3724a16a56b629203edc62c")] == [INVALID] * 2
    assert [code(("a", bad)) for bad in ("", "-a", "a b", "x" * 129, "a/b")] == [INVALID] * 5
    assert code(("a\0", "new")) == INVALID_REQUEST
    assert [code(("a", "new"), action=action) for action in ("", "merge", "remove")] == [INVALID_REQUEST] * 3
    assert code() == INVALID_REQUEST
    assert app.call("ListModels").models == before


def test_an_id_that_becomes_free_can_be_had_in_the_same_call(app: App) -> None:
    reds_and_blues(app)
    new_model(app, "a")
    trained(app, "red", model_id="a")
    new_model(app, "b")
    trained(app, "blue", model_id="b")
    post_flow(app, node("a", "a"), node("b", "b"))
    index_by(app, "flow")
    app.indexed(of_bytes(plain(RED, 50)))

    models = rename(app, ("b", "c"), ("a", "b"))

    assert [(model.id, model.name) for model in models] == [("c", "b"), ("b", "a")]
    nodes = app.call("GetWorkflow", workflow_id="flow").workflow.nodes
    assert [(one.id, one.model.id) for one in nodes] == [("a", "b"), ("b", "c")]
    said = {
        annotation.worker.model.id: annotation.data.concepts[0].id
        for annotation in app.annotations(list_all_annotations=True, per_page=500)
        if annotation.worker.model.id in ("a", "b", "c")
    }
    assert said == {"b": "red", "c": "blue"}


def test_what_deleted_versions_said_keeps_the_former_id(app: App) -> None:
    reds_and_blues(app)
    new_model(app)
    version = trained(app, "red")
    post_flow(app, node("say", "colours"))
    index_by(app, "flow")
    app.indexed(of_bytes(plain(RED, 50)))
    app.call("DeleteModelVersion", model_id="colours", version_id=version.id)

    rename(app, ("colours", "hues"))

    assert models_of_annotations(app) == [("colours", app.id)]


def test_much_that_was_said_follows_in_portions_and_after_a_stop(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        ids = UserAppIDSet(app_id="photos")
        database = await _much_said(world)

        async def said() -> dict[str, int]:
            rows = await database.rows("SELECT model_id, count(*) FROM annotations GROUP BY model_id")
            return dict(rows)

        async def renamed() -> list[tuple[Any, ...]]:
            return await database.rows("SELECT id FROM models WHERE renamed_at IS NOT NULL")

        sources = [service_pb2.IdUpdateSource(id=id, new_id=new) for id, new in (("a", "b"), ("quiet", "silent"))]
        request = service_pb2.PatchModelIdsRequest(user_app_id=ids, ids=sources, action="overwrite")
        await world.call("PatchModelIds", request)
        assert (await said(), await renamed()) == ({"b": 5000, "public": 5000}, [])

        await database.execute("UPDATE models SET id = 'c', renamed_at = clock_timestamp() WHERE id = 'b'")
        models = RenamedModels(database)
        ((bucket,),) = await database.rows("SELECT bucket FROM models WHERE id = 'c'")
        await models.follow(bucket, "c", seconds=0)
        assert (await said(), await renamed()) == ({"b": 5000, "public": 5000}, [("c",)])
        version = await database.row("SELECT version FROM app_buckets WHERE bucket = %s", [bucket])

        async def done() -> bool:
            return not await renamed()

        async with background(models.keep_followed()):
            await until(done)
        assert await said() == {"c": 5000, "public": 5000}
        assert await database.row("SELECT version FROM app_buckets WHERE bucket = %s", [bucket]) > version

    world.run(scenario)


def test_who_follows_a_model_leaves_another_alone_that_has_its_id_by_now(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        database = await _much_said(world)
        await database.execute(_RENAME, ["b", "a"])
        ((bucket,),) = await database.rows("SELECT first_bucket FROM apps WHERE id = 'photos'")

        async with database.transaction() as held:
            await held.execute("SELECT FROM app_buckets WHERE bucket = %s FOR UPDATE", [bucket])
            following = asyncio.create_task(RenamedModels(database).follow(bucket, "b", seconds=60))
            await until(lambda: _waits(database))
            # While a portion is about to be committed both get other ids: the second has the first one's.
            renaming = asyncio.create_task(_swap(database))
            await until(lambda: _waits(database, 2))
        await asyncio.gather(following, renaming)

        assert await database.rows(_MARKED) == [("b",), ("c",)]
        for model_id in ("b", "c"):
            await RenamedModels(database).follow(bucket, model_id, seconds=60)
        said = await database.rows("SELECT model_id, count(*) FROM annotations GROUP BY model_id ORDER BY 1")
        assert (said, await database.rows(_MARKED)) == ([("c", 5000), ("public", 5000)], [])

    world.run(scenario)


def test_an_answer_does_not_wait_for_predictions_that_somebody_holds(
    world: Worlds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sightrank.api.model_ids.FOLLOWING_S", 0.2)

    async def scenario(world: World) -> None:
        database = await _much_said(world)
        source = service_pb2.IdUpdateSource(id="a", new_id="b")
        request = service_pb2.PatchModelIdsRequest(
            user_app_id=UserAppIDSet(app_id="photos"), ids=[source], action="overwrite"
        )

        async with database.transaction() as held:
            await held.execute("SELECT FROM annotations WHERE model_id = 'a' FOR UPDATE")
            async with asyncio.timeout(60):
                answer = await world.call("PatchModelIds", request)

        assert [model.id for model in answer.models] == ["b"]
        assert await database.rows(_MARKED) == [("b",)]

    world.run(scenario)


def test_what_cannot_follow_holds_up_no_other(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        database = await _much_said(world)
        await database.execute(_RENAME, ["b", "a"])
        await database.execute(_RENAME, ["silent", "quiet"])
        await database.execute("ALTER TABLE annotations ADD CONSTRAINT unnameable CHECK (model_id <> 'b') NOT VALID")

        async def left() -> bool:
            return await database.rows(_MARKED) == [("b",)]

        async with background(RenamedModels(database).keep_followed()):
            await until(left)

        said = await database.rows("SELECT model_id, count(*) FROM annotations GROUP BY model_id ORDER BY 1")
        assert said == [("a", 5000), ("public", 5000)]

    world.run(scenario)


def test_a_second_look_at_what_has_followed_says_nothing_new_to_searches(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        database = await _much_said(world)
        ((bucket,),) = await database.rows("SELECT first_bucket FROM apps WHERE id = 'photos'")
        await database.execute(_RENAME, ["a", "a"])
        before = await database.rows("SELECT version FROM app_buckets WHERE bucket = %s", [bucket])

        await RenamedModels(database).follow(bucket, "a", seconds=60)

        assert await database.rows(_MARKED) == []
        assert await database.rows("SELECT version FROM app_buckets WHERE bucket = %s", [bucket]) == before

    world.run(scenario)


async def _much_said(world: World) -> Database:
    """App photos has the models ``a`` and ``quiet``, and predictions."""
    ids = UserAppIDSet(app_id="photos")
    for model_id in ("a", "quiet"):
        await world.call("PostModels", service_pb2.PostModelsRequest(user_app_id=ids, models=[Model(id=model_id)]))
    for statement in _PREDICTIONS:
        await world.database.execute(statement)
    return world.database


def test_all_of_many_versions_of_a_workflow_follow(app: App) -> None:
    reds_and_blues(app)
    new_model(app)
    trained(app, "red", "blue")
    post_flow(app, node("say", "colours"))
    app.server.sql(
        "INSERT INTO workflow_versions (bucket, id, workflow_id, nodes)"
        " SELECT bucket, id || n, workflow_id, nodes FROM workflow_versions, generate_series(1, 150) n"
        " WHERE bucket = (SELECT first_bucket FROM apps WHERE id = %s) RETURNING id",
        app.id,
    )

    rename(app, ("colours", "hues"))

    flows = app.call("ListWorkflowVersions", workflow_id="flow", per_page=500).workflow_versions
    assert [one.nodes[0].model.id for one in flows] == ["hues"] * 151


_RENAME = "UPDATE models SET id = %s, renamed_at = clock_timestamp() WHERE id = %s"
_MARKED = "SELECT id FROM models WHERE renamed_at IS NOT NULL ORDER BY id"


async def _swap(database: Database) -> None:
    """``b`` is called c, and ``quiet`` is called b."""
    async with database.transaction() as connection:
        await connection.execute(_RENAME, ["c", "b"])
        await connection.execute(_RENAME, ["b", "quiet"])


async def _waits(database: Database, count: int = 1) -> bool:
    """Whether so many statements wait for a lock."""
    rows = await database.rows(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    return len(rows) >= count


#: 5,000 predictions of the model ``a`` and as many of a public one.
_PREDICTIONS = (
    "INSERT INTO inputs (bucket, number, id, created_at, modified_at, status, media)"
    " SELECT first_bucket, n, 'in-' || n, to_timestamp(n), to_timestamp(n), 30000, 'image'"
    " FROM apps, generate_series(1, 5000) n WHERE id = 'photos'",
    "INSERT INTO areas (bucket, id, input_number, created_at) SELECT bucket, number, number, created_at FROM inputs",
    "INSERT INTO annotations (bucket, input_number, id, area_id, created_at, modified_at, status, trusted, model_id,"
    " model_version_id, concept_ids, concept_values)"
    " SELECT i.bucket, i.number, s.model_id || i.number, i.number, to_timestamp(i.number / 100), i.created_at, 24150,"
    " false, s.model_id, s.id, '{c}', '{0.5}'"
    " FROM inputs i, (SELECT model_id, id FROM model_versions UNION ALL SELECT 'public', 'v1') s"
    " WHERE s.model_id <> 'quiet'",
)


def test_one_of_several_that_want_an_id_at_once_has_it(app: App) -> None:
    for number in range(6):
        new_model(app, f"m{number}")

    with ThreadPoolExecutor(7) as pool:
        renamed = [pool.submit(renaming, app, (f"m{number}", "wanted")) for number in range(6)]
        posted = pool.submit(app.ask, "PostModels", models=[Model(id="wanted", name="posted")])
        codes = [one.result().status.code for one in (*renamed, posted)]

    assert sorted(codes) == [SUCCESS] + [DUPLICATE] * 6
    models = app.call("ListModels", per_page=100).models
    assert [model.id for model in models if model.app_id == app.id].count("wanted") == 1


def test_names_may_change_while_much_goes_on(app: App) -> None:
    """Inputs are indexed by a workflow with the model, it predicts, is trained and searched by: nothing fails."""
    reds_and_blues(app)
    new_model(app, "m0")
    trained(app, "red", "blue", model_id="m0")
    post_flow(app, node("say", "m0"))
    index_by(app, "flow")
    asked = Input(data=Data(image=resources_pb2.Image(base64=plain(RED, 60))))
    done: list[int] = []

    def predict() -> None:
        while not done:
            app.call("PostWorkflowResults", workflow_id="flow", inputs=[asked])
            assert len(app.rank(by_concept("red"))) >= 8

    def write() -> list[str]:
        return app.indexed(*(of_bytes(plain(RED, 100 + number)) for number in range(30)))

    with ThreadPoolExecutor(3) as pool:
        predicting, writing = pool.submit(predict), pool.submit(write)
        number = 0
        while not writing.done():
            rename(app, (f"m{number}", f"m{number + 1}"))
            number += 1
        done.append(1)
        predicting.result()
        ids = writing.result()

    assert number > 1
    said = app.annotations(list_all_annotations=True, per_page=500)
    mine = [one for one in said if one.worker.model.id not in ("", TAGGER)]
    assert {one.worker.model.id for one in mine} == {f"m{number}"}
    assert sorted(one.input_id for one in mine) == sorted(ids)
    assert [app.finished(id).status.details for id in ids] == [""] * 30


def test_what_a_model_says_while_it_is_renamed_is_by_its_new_id(flowing: Flowing) -> None:
    async def scenario(flows: Flows) -> None:
        await _predicting(flows)
        await flows.post("crowd")

        workflows = OwnWorkflows(flows.database)
        read = await workflows.find(flows.place.bucket, "own")
        assert read is not None
        assert not await workflows.names_others(read)

        async with flows.working():
            async with _looked_at(flows):
                await _rename(flows)
            await until(flows.place.is_indexed)

        assert await workflows.names_others(read), "whoever has read the graph reads it once more"

        assert await flows.database.rows("SELECT status_details FROM inputs") == [("",)]
        assert await flows.database.rows(_SAID) == [("yours",)]

    flowing(scenario, found=FOUND)


def test_what_a_model_says_for_another_base_workflow_while_it_is_renamed_is_by_its_new_id(flowing: Flowing) -> None:
    async def scenario(flows: Flows) -> None:
        await _predicting(flows)
        await flows.database.execute("UPDATE apps SET own_workflow_id = '' WHERE id = 'photos'")
        await flows.index("crowd")
        await flows.database.execute(
            "INSERT INTO reindexes (bucket, workflow_id, own_workflow_id, state)"
            " VALUES (%s, 'General', 'own', 'sweeping')",
            [flows.place.bucket],
        )

        async with flows.reindexing():
            async with _looked_at(flows):
                await _rename(flows)
            await until(flows.is_settled)

        assert await flows.database.rows(_SAID) == [("yours",)]

    flowing(scenario, found=FOUND)


def test_a_graph_never_runs_with_a_model_that_has_got_the_id_of_its_own(flowing: Flowing) -> None:
    async def scenario(flows: Flows) -> None:
        await _predicting(flows)
        await flows.trained("other", wet=1)
        await flows.post("crowd")

        async with AsyncExitStack() as stack:
            async with flows.database.transaction() as held:
                await held.execute("LOCK TABLE models IN ACCESS EXCLUSIVE MODE")
                await stack.enter_async_context(flows.working())
                # The graph is read then, and its models are not.
                await until(lambda: _waits(flows.database))
                await _pass_on_the_id(held)
            await until(flows.place.is_indexed)

        said = await flows.database.rows("SELECT model_id, model_version_id FROM annotations WHERE own_model")
        assert said == [("yours", "mine-1")]

    flowing(scenario, found=FOUND)


@pytest.mark.parametrize("passed_on", [True, False])
def test_a_patch_of_nodes_keeps_the_models_that_get_other_ids_meanwhile(flowing: Flowing, passed_on: bool) -> None:
    async def scenario(flows: Flows) -> None:
        for model_id in ("mine", "other", "third"):
            await flows.trained(model_id, wet=1)
        await flows.flow("own", "own-1", mine=("mine", "embedding-classifier", ()))
        more = Workflow(id="own", nodes=[node("more", "third")], visibility=Visibility(gettable=50))
        request = service_pb2.PatchWorkflowsRequest(
            user_app_id=UserAppIDSet(app_id="photos"), workflows=[more], action="merge"
        )

        async with flows.database.transaction() as held:
            await held.execute("LOCK TABLE models IN ACCESS EXCLUSIVE MODE")
            patching = asyncio.create_task(flows.place.world.call("PatchWorkflows", request))
            await until(lambda: _waits(flows.database))
            await _pass_on_the_id(held, passed_on=passed_on)
        answer = await patching

        nodes = answer.workflows[0].nodes
        assert [(one.id, one.model.id) for one in nodes] == [("mine", "yours"), ("more", "third")]

    flowing(scenario, found=FOUND)


@pytest.mark.parametrize("passed_on", [True, False])
def test_an_app_gets_a_workflow_whose_models_get_other_ids_meanwhile(flowing: Flowing, passed_on: bool) -> None:
    async def scenario(flows: Flows) -> None:
        await _thresholds(flows)
        await flows.database.execute("UPDATE model_versions SET status = 21102 WHERE model_id = 'other'")

        async with flows.database.transaction() as held:
            await held.execute("LOCK TABLE models IN ACCESS EXCLUSIVE MODE")
            patching = asyncio.create_task(flows.patch("own"))
            await until(lambda: _waits(flows.database))
            await _pass_on_the_id(held, passed_on=passed_on)
        app = await patching

        assert app.default_workflow_id == "own"

    flowing(scenario)


@pytest.mark.parametrize("passed_on", [True, False])
@pytest.mark.parametrize("rpc", ["PatchWorkflows", "DeleteWorkflowVersions"])
def test_a_base_workflow_gets_nodes_whose_models_get_other_ids_meanwhile(
    flowing: Flowing, rpc: str, passed_on: bool
) -> None:
    ids = UserAppIDSet(app_id="photos")
    more = Workflow(id="own", nodes=[node("embed", EMBEDDER)])
    requests = {
        "PatchWorkflows": service_pb2.PatchWorkflowsRequest(user_app_id=ids, workflows=[more], action="merge"),
        "DeleteWorkflowVersions": service_pb2.DeleteWorkflowVersionsRequest(
            user_app_id=ids, workflow_id="own", workflow_version_ids=["own-2"]
        ),
    }

    async def scenario(flows: Flows) -> None:
        await _thresholds(flows)
        if rpc == "DeleteWorkflowVersions":
            await flows.flow("own", "own-2", tag=(TAGGER, "visual-classifier", ()))
        await flows.patch("own")
        await flows.database.execute("UPDATE model_versions SET status = 21102 WHERE model_id = 'other'")

        async with flows.database.transaction() as held:
            # Nodes are read before it, and once more the models of them after it.
            await held.execute("LOCK TABLE reindexes IN ACCESS EXCLUSIVE MODE")
            changing = asyncio.create_task(flows.place.world.call(rpc, requests[rpc]))
            await until(lambda: _waits(flows.database))
            await _pass_on_the_id(held, passed_on=passed_on)
        await changing

        read = await OwnWorkflows(flows.database).find(flows.place.bucket, "own")
        assert read is not None
        assert "yours" in [one.model_id for one in read.nodes]

    flowing(scenario)


async def _thresholds(flows: Flows) -> None:
    """A workflow by which the app can be indexed, with the operator ``mine`` in it; ``other`` is in none."""
    for model_id in ("mine", "other"):
        await flows.threshold(model_id, 1, {"wet": 0.5})
    await flows.flow("own", "own-1", tag=(TAGGER, "visual-classifier", ()), mine=("mine", "concept-threshold", ["tag"]))


async def _pass_on_the_id(connection: Connection, *, passed_on: bool = True) -> None:
    """``mine`` is called yours, also in the graph, and ``other`` is called mine where the id is ``passed_on``."""
    for new_id, id in (("yours", "mine"), ("mine", "other"))[: 1 + passed_on]:
        await connection.execute(_RENAME, [new_id, id])
    row = await (await connection.execute("SELECT nodes FROM workflow_versions WHERE id = 'own-1'")).fetchone()
    assert row is not None
    graph = resources_pb2.WorkflowVersion.FromString(row[0])
    for one in graph.nodes:
        one.model.id = {"mine": "yours"}.get(one.model.id, one.model.id)
    changed = graph.SerializeToString()
    await connection.execute("UPDATE workflow_versions SET nodes = %s WHERE id = 'own-1'", [changed])


_SAID = "SELECT model_id FROM annotations WHERE model_version_id = 'mine-1'"
FOUND = (Detection(box=Box(top=0.25, left=0.25, bottom=0.5, right=0.75), concept_id="people", value=0.8),)


@asynccontextmanager
async def _looked_at(flows: Flows) -> AsyncIterator[None]:
    """The block runs while a node looks at a picture: the graph is read, and nothing of what it says is written."""
    eye = flows.eye
    eye.seen, eye.gate = 0, asyncio.Event()

    async def seen() -> bool:
        return eye.seen > before

    before = 0
    await until(seen)
    before, base, eye.gate = eye.seen, eye.gate, asyncio.Event()
    base.set()
    await until(seen)
    yield
    eye.gate.set()
    eye.gate = None


async def _predicting(flows: Flows) -> None:
    """The app's base workflow is one of its own, in which the trained model ``mine`` looks at regions with a margin,
    for itself."""
    await flows.trained("mine", wet=1)
    await flows.model("crop", "image-crop", {"margin": 0.25})
    await flows.flow(
        "own",
        "own-1",
        find=(DETECTOR, "visual-detector", ()),
        crop=("crop", "image-crop", ["find"]),
        mine=("mine", "embedding-classifier", ["crop"]),
    )
    await flows.database.execute("UPDATE apps SET own_workflow_id = 'own' WHERE id = 'photos'")


async def _rename(flows: Flows) -> None:
    request = service_pb2.PatchModelIdsRequest(
        user_app_id=UserAppIDSet(app_id="photos"),
        ids=[service_pb2.IdUpdateSource(id="mine", new_id="yours")],
        action="overwrite",
    )
    await flows.place.world.call("PatchModelIds", request)
