"""Workflows of an app: made, read, changed and removed, and what is refused (api-spec 5.6)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from clarifai_grpc.grpc.api import resources_pb2, service_pb2
from clarifai_grpc.grpc.api.resources_pb2 import (
    Data,
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
    WorkflowVersion,
)
from google.protobuf.struct_pb2 import Struct
from tests.integration.own_models import classifier, operator
from tests.integration.serving import App, new_app

TAGGER, EMBEDDER, CLUSTERER, THINGS = (
    "general-image-recognition",
    "general-image-embedding",
    "general-image-clustering",
    "general-image-detection",
)
DUPLICATE, UNKNOWN, INVALID, GRAPH, UNTRAINED, NO_MODEL = 22100, 22102, 22104, 22107, 22002, 21200


def node(id: str, model_id: str, *inputs: str, version_id: str = "", **fields: Any) -> WorkflowNode:
    model = Model(id=model_id)
    if version_id:
        model.model_version.id = version_id
    return WorkflowNode(id=id, model=model, node_inputs=[NodeInput(node_id=name) for name in inputs], **fields)


def post(app: App, *nodes: WorkflowNode, id: str = "flow", **fields: Any) -> Any:
    return app.ask("PostWorkflows", workflows=[Workflow(id=id, nodes=nodes, **fields)])


def patch(app: App, action: str, *nodes: WorkflowNode, id: str = "flow", **fields: Any) -> Any:
    return app.ask("PatchWorkflows", action=action, workflows=[Workflow(id=id, nodes=nodes, **fields)])


def struct(**values: Any) -> Struct:
    message = Struct()
    message.update(values)
    return message


def versions(app: App, id: str = "flow") -> list[WorkflowVersion]:
    return list(app.call("ListWorkflowVersions", workflow_id=id).workflow_versions)


def names(nodes: Any) -> list[str]:
    return [one.id for one in nodes]


@pytest.fixture
def operating(app: App) -> App:
    """An app with a mapper, a threshold, a writer, a crop and an untrained classifier."""
    models = [
        operator("mapper", "concept-synonym-mapper", knowledge_graph_id=""),
        operator("lost", "concept-synonym-mapper", knowledge_graph_id="nowhere"),
        operator("over", "concept-threshold", thresholds={"people": 0.5}, concept_threshold_type="GREATER_THAN"),
        operator("writer", "annotation-writer", annotation_status=24150),
        operator("crop", "image-crop", margin=0.25),
        classifier("fresh", "people"),
    ]
    for model in models:
        app.call("PostModels", models=[model])
    return app


# Making and reading --------------------------------------------------------------------------------------------------


def test_a_workflow_is_answered_and_read_as_it_was_posted(operating: App) -> None:
    posted = [
        node("concepts", TAGGER, suppress_output=True),
        node("mine", "mapper", "concepts"),
        node("sure", "over", "mine", output_info_override=OutputInfo(output_config=OutputConfig(max_concepts=3))),
    ]
    answer = post(
        operating, *posted, description="Sure ones", notes="n", use_cases=["x"], metadata=struct(a=1, b=[True])
    )

    assert answer.status.code == 10000
    (made,) = answer.workflows
    read = operating.call("GetWorkflow", workflow_id="flow").workflow
    assert read == made
    assert (read.id, read.user_id, read.app_id) == ("flow", "admin", operating.id)
    assert (read.description, read.notes, list(read.use_cases)) == ("Sure ones", "n", ["x"])
    assert read.metadata == struct(a=1, b=[True])
    assert read.visibility.gettable == Visibility.Gettable.PRIVATE
    assert read.version.id
    assert read.version.nodes == read.nodes
    concepts, mine, sure = read.nodes
    assert (concepts.model.id, concepts.model.app_id, concepts.suppress_output) == (TAGGER, "main", True)
    assert concepts.model.model_version.status.code == 21100
    assert (mine.model.id, mine.model.app_id, mine.model.model_type_id) == (
        "mapper",
        operating.id,
        "concept-synonym-mapper",
    )
    assert [each.node_id for each in sure.node_inputs] == ["mine"]
    assert sure.output_info_override.output_config.max_concepts == 3


def test_a_workflow_without_an_id_gets_one_of_32_characters(app: App) -> None:
    (made,) = app.call("PostWorkflows", workflows=[Workflow(nodes=[node("a", TAGGER)])]).workflows

    assert len(made.id) == 32
    assert app.call("GetWorkflow", workflow_id=made.id).workflow.id == made.id


def test_the_ids_that_the_guide_prints_stand_for_what_is_installed(app: App) -> None:
    answer = post(
        app,
        node("embed", "bbb5f41425b8468d9b7a554ff10f8581", version_id="bb186755eda04f9cbb6fe32e816be104"),
        node("concept", "aaa03c23b3724a16a56b629203edc62c", version_id="aa7f35c01e0642fda5cf400f543e7c40"),
        node("cluster", "cccbe437d6e54e2bb911c6aa292fb072", version_id="cc2074cff6dc4c02b6f4e1b8606dcb54"),
    )

    assert answer.status.code == 10000, answer.status
    shown = [one.model for one in answer.workflows[0].nodes]
    assert [model.id for model in shown] == [EMBEDDER, TAGGER, CLUSTERER]
    installed = app.call("GetModel", model_id=TAGGER).model.model_version.id
    assert {model.model_version.id for model in shown} == {installed}


def test_own_workflows_are_listed_before_public_ones(app: App) -> None:
    for id in ("first", "second"):
        assert post(app, node("a", TAGGER), id=id, description=f"The {id}").status.code == 10000

    def listed(**fields: Any) -> list[str]:
        return names(app.call("ListWorkflows", **fields).workflows)

    assert listed() == ["second", "first"]
    assert listed(sort_by_created_at=True, sort_ascending=True) == ["first", "second"]
    assert listed(sort_by_id=True) == ["second", "first"]
    assert listed(per_page=1, page=2) == ["first"]
    assert listed(search="the FIRST") == ["first"]
    assert listed(id="second") == ["second"]
    assert listed(starred_only=True) == []
    key = app.server.rest(
        "POST",
        "/v2/users/admin/keys",
        {"keys": [{"type": "app_specific_key", "scopes": ["All"], "apps": [{"id": app.id, "user_id": "admin"}]}]},
    ).json()["keys"][0]["id"]
    everything = app.server.rest("GET", "/v2/workflows?per_page=3", key=key).json()["workflows"]
    assert [workflow["id"] for workflow in everything] == ["second", "first", "General"]


def test_other_apps_do_not_see_a_private_workflow(app: App) -> None:
    post(app, node("a", TAGGER))
    other = new_app(app.server, app.stub)

    assert other.ask("GetWorkflow", workflow_id="flow").status.code == UNKNOWN
    assert names(other.call("ListWorkflows").workflows) == []
    assert app.call("GetWorkflow", workflow_id="General").workflow.app_id == "main"


def test_who_names_a_workflow_that_is_not_there_learns_where_it_was_looked_for(app: App) -> None:
    assert post(app, node("a", TAGGER), id="mine").status.code == 10000
    nowhere = f"App '{app.id}' has no workflow 'min'; ListWorkflows names its own. clarifai/main has none such either:"
    of_main = resources_pb2.App(id=app.id, default_workflow=Workflow(id="mine", user_id="clarifai", app_id="main"))

    got = app.ask("GetWorkflow", workflow_id="min").status
    asked = app.ask("PostWorkflowResults", workflow_id="min", inputs=[Input(data=Data())]).status
    patched = app.ask("PatchApps", apps=[of_main], action="overwrite").status
    mistyped = app.ask(
        "PatchApps", apps=[resources_pb2.App(id=app.id, default_workflow_id="min")], action="overwrite"
    ).status

    assert [status.code for status in (got, asked, patched, mistyped)] == [UNKNOWN] * 4
    assert got.details.startswith(f"{nowhere} it has General, ")
    assert asked.details == got.details
    assert patched.details.startswith("clarifai/main has no workflow 'mine': it has General, ")
    assert patched.details.endswith(f"App '{app.id}' has one of that id: name it by default_workflow_id.")
    assert mistyped.details.endswith(f"App '{app.id}' has mine.")


# What is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nodes", "code", "details"),
    [
        ([], INVALID, "has no nodes"),
        ([node("", TAGGER)], INVALID, "nodes[0] has no id"),
        ([node("a", "")], INVALID, "nodes[0].model has no id"),
        ([node("a" * 129, TAGGER)], INVALID, "nodes[0] has an id of 129 characters; 128 is the limit"),
        ([node(f"a{n}", TAGGER) for n in range(101)], INVALID, "The workflow has 101 nodes; 100 is the limit"),
        ([node("a", TAGGER), node("a", EMBEDDER)], GRAPH, "Two nodes have the id 'a'"),
        ([node("a", TAGGER), node("b", "over", "c")], GRAPH, "'c', which is no node"),
        ([node("a", "over", "b"), node("b", "over", "a")], GRAPH, "circle"),
        ([node("a", "over")], GRAPH, "name it in node_inputs"),
        ([node("a", EMBEDDER), node("b", "over", "a")], GRAPH, "takes concepts; its node_inputs give embeddings"),
        ([node("a", TAGGER), node("b", "crop", "a")], GRAPH, "takes regions"),
        ([node("a", "nobody")], NO_MODEL, "Node 'a': There is no model 'nobody'"),
        ([node("a", TAGGER, version_id="nope")], NO_MODEL, "has no version 'nope'"),
        ([node("a", TAGGER), node("b", "over", "a", version_id="nope")], NO_MODEL, "Model over has no version 'nope'"),
        (
            [node("a", TAGGER), node("b", "lost", "a")],
            INVALID,
            "Model lost maps by the knowledge graph 'nowhere'",
        ),
        ([node("a", "fresh")], UNTRAINED, "Model fresh is not trained"),
        (
            [node("a", TAGGER, output_info_override=OutputInfo(output_config=OutputConfig(min_value=2)))],
            INVALID,
            "min_value is 2",
        ),
        (
            [node(id, TAGGER, output_info_override=OutputInfo(params=struct(note="x" * 600_000))) for id in "ab"],
            INVALID,
            "1048576 is the limit",
        ),
        (
            [WorkflowNode(id="a", model=Model(id=TAGGER, user_id="somebody", app_id="theirs"))],
            INVALID,
            "is of somebody/theirs",
        ),
        ([WorkflowNode(id="a", model=Model(id="nobody", user_id="me"))], NO_MODEL, "make it by PostModels first"),
    ],
)
def test_nodes_that_cannot_run_are_refused(operating: App, nodes: list[WorkflowNode], code: int, details: str) -> None:
    answer = post(operating, *nodes)

    assert answer.status.code == code, answer.status
    assert details in answer.status.details
    assert names(operating.call("ListWorkflows").workflows) == []


@pytest.mark.parametrize("id", ["x" * 49, "a b", "-a", "ä"])
def test_an_id_that_is_none_is_refused(app: App, id: str) -> None:
    answer = post(app, node("a", TAGGER), id=id)

    assert (answer.status.code, "up to 48 letters" in answer.status.details) == (INVALID, True)


def test_an_id_that_is_taken_leaves_all_as_it_was(app: App) -> None:
    post(app, node("a", TAGGER), id="taken")

    answer = app.ask(
        "PostWorkflows",
        workflows=[Workflow(id=id, nodes=[node("b", EMBEDDER)]) for id in ("new", "taken")],
    )
    twice = app.ask("PostWorkflows", workflows=[Workflow(id="new", nodes=[node("b", EMBEDDER)])] * 2)

    assert (answer.status.code, twice.status.code) == (DUPLICATE, DUPLICATE)
    assert names(app.call("ListWorkflows").workflows) == ["taken"]
    assert names(app.call("GetWorkflow", workflow_id="taken").workflow.nodes) == ["a"]


def test_public_workflows_cannot_be_changed(app: App) -> None:
    assert patch(app, "overwrite", node("a", TAGGER), id="General").status.code == UNKNOWN
    assert app.ask("DeleteWorkflow", workflow_id="General").status.code == UNKNOWN
    main = UserAppIDSet(user_id="clarifai", app_id="main")
    request = service_pb2.PostWorkflowsRequest(
        user_app_id=main, workflows=[Workflow(id="x", nodes=[node("a", TAGGER)])]
    )
    answer = app.stub.PostWorkflows(request, metadata=(("authorization", f"Key {app.key}"),))
    assert answer.status.code == 11007


# Changing ------------------------------------------------------------------------------------------------------------


def test_other_nodes_are_a_new_version_and_the_old_one_stays(operating: App) -> None:
    post(operating, node("a", TAGGER), node("b", "mapper", "a"))

    merged = patch(operating, "merge", node("b", "over", "a"), node("c", EMBEDDER)).workflows[0]
    removed = patch(operating, "remove", node("b", "")).workflows[0]
    replaced = patch(operating, "overwrite", node("z", EMBEDDER)).workflows[0]

    assert [(one.id, one.model.id) for one in merged.nodes] == [("a", TAGGER), ("b", "over"), ("c", EMBEDDER)]
    assert names(removed.nodes) == ["a", "c"]
    assert names(replaced.nodes) == ["z"]
    assert [names(version.nodes) for version in versions(operating)] == [["z"], ["a", "c"], ["a", "b", "c"], ["a", "b"]]
    assert versions(operating)[0].id == replaced.version.id
    one = operating.call("GetWorkflowVersion", workflow_id="flow", workflow_version_id=removed.version.id)
    assert names(one.workflow_version.nodes) == ["a", "c"]


def test_what_is_said_of_a_workflow_changes_without_a_version(app: App) -> None:
    post(app, node("a", TAGGER), description="old", use_cases=["one"], metadata=struct(a=1, b=2))

    merged = patch(app, "merge", description="new", use_cases=["two"], metadata=struct(b=3)).workflows[0]
    removed = patch(app, "remove", use_cases=["one"], metadata=struct(a=True)).workflows[0]
    public = Visibility(gettable=Visibility.Gettable.PUBLIC)
    overwritten = patch(app, "overwrite", notes="n", metadata=struct(c=1), visibility=public).workflows[0]

    assert (merged.description, list(merged.use_cases), merged.metadata) == ("new", ["one", "two"], struct(a=1, b=3))
    assert (removed.description, list(removed.use_cases), removed.metadata) == ("new", ["two"], struct(b=3))
    assert (overwritten.description, overwritten.notes, overwritten.metadata) == ("new", "n", struct(c=1))
    assert overwritten.visibility.gettable == Visibility.Gettable.PUBLIC
    assert len(versions(app)) == 1


def test_a_patch_that_cannot_be_done_changes_nothing(app: App) -> None:
    post(app, node("a", TAGGER), description="old")

    refused = [
        patch(app, "merge", node("b", "nobody"), description="new"),
        patch(app, "remove", node("b", "")),
        patch(app, "remove", node("a", "")),
        patch(app, "explode", node("b", EMBEDDER)),
        patch(app, "merge", node("b", EMBEDDER), id="nobody"),
        app.ask("PatchWorkflows", action="merge"),
        app.ask("PatchWorkflows", action="merge", workflows=[Workflow(id="flow", description="new")] * 2),
    ]

    assert [answer.status.code for answer in refused] == [NO_MODEL, INVALID, INVALID, 11102, UNKNOWN, INVALID, INVALID]
    assert app.call("GetWorkflow", workflow_id="flow").workflow.description == "old"
    assert len(versions(app)) == 1


def test_patches_at_once_each_add_their_node(app: App) -> None:
    post(app, node("a", TAGGER))

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: patch(app, "merge", node(f"n{n}", EMBEDDER)), range(8)))

    assert [answer.status.code for answer in answers] == [10000] * 8
    assert sorted(names(app.call("GetWorkflow", workflow_id="flow").workflow.nodes)) == [
        "a",
        *(f"n{n}" for n in range(8)),
    ]
    assert [len(version.nodes) for version in versions(app)] == list(range(9, 0, -1))


def test_one_of_several_that_post_an_id_at_once_has_it(app: App) -> None:
    with ThreadPoolExecutor(6) as pool:
        codes = list(pool.map(lambda n: post(app, node(f"n{n}", TAGGER)).status.code, range(6)))

    assert sorted(codes) == [10000] + [DUPLICATE] * 5
    assert len(versions(app)) == 1


def test_a_workflow_can_get_another_id(app: App) -> None:
    post(app, node("a", TAGGER))
    post(app, node("a", TAGGER), id="other")

    def renamed(**ids: str) -> Any:
        sources = [service_pb2.IdUpdateSource(id=id, new_id=new) for id, new in ids.items()]
        return app.ask("PatchWorkflowIds", action="overwrite", ids=sources)

    answer = renamed(flow="renamed")

    assert names(answer.workflows) == ["renamed"]
    assert [version.workflow_id for version in versions(app, "renamed")] == ["renamed"]
    assert app.ask("GetWorkflow", workflow_id="flow").status.code == UNKNOWN
    assert renamed(renamed="other").status.code == DUPLICATE
    assert renamed(nobody="new").status.code == UNKNOWN
    assert renamed(renamed="x" * 49).status.code == INVALID


# Versions ------------------------------------------------------------------------------------------------------------


def test_versions_are_described_and_removed(app: App) -> None:
    post(app, node("a", TAGGER))
    patch(app, "overwrite", node("b", EMBEDDER))
    latest, first = versions(app)

    def patched(action: str, version_id: str, **fields: Any) -> Any:
        version = WorkflowVersion(id=version_id, **fields)
        return app.ask("PatchWorkflowVersions", workflow_id="flow", action=action, workflow_versions=[version])

    def deleted(*ids: str) -> int:
        answer = app.ask("DeleteWorkflowVersions", workflow_id="flow", workflow_version_ids=ids)
        return int(answer.status.code)

    said = patched("overwrite", first.id, description="d", license="MIT", metadata=struct(a=1, b=1))
    less = patched("remove", first.id, metadata=struct(a=True))

    assert (said.workflow_versions[0].description, said.workflow_versions[0].license) == ("d", "MIT")
    assert less.workflow_versions[0].metadata == struct(b=1)
    assert names(less.workflow_versions[0].nodes) == ["a"]
    assert patched("merge", first.id, nodes=[node("z", TAGGER)]).status.code == INVALID
    assert patched("merge", "nope").status.code == UNKNOWN
    assert deleted("nope") == UNKNOWN
    assert deleted(first.id, latest.id) == INVALID
    assert deleted(latest.id) == 10000
    assert names(app.call("GetWorkflow", workflow_id="flow").workflow.nodes) == ["a"]
    gone = app.ask("GetWorkflowVersion", workflow_id="flow", workflow_version_id=latest.id)
    assert gone.status.code == UNKNOWN


# Removing ------------------------------------------------------------------------------------------------------------


def test_workflows_are_removed_one_several_or_all(app: App) -> None:
    for id in ("a", "b", "c", "d"):
        post(app, node("a", TAGGER), id=id)

    assert app.ask("DeleteWorkflow", workflow_id="a").status.code == 10000
    assert app.ask("DeleteWorkflow", workflow_id="a").status.code == UNKNOWN
    assert app.ask("DeleteWorkflows", ids=["b", "a"]).status.code == UNKNOWN
    assert names(app.call("ListWorkflows").workflows) == ["d", "c", "b"]
    assert app.ask("DeleteWorkflows", ids=["b"]).status.code == 10000
    assert app.ask("DeleteWorkflows").status.code == INVALID
    assert app.ask("DeleteWorkflows", ids=["c"], delete_all=True).status.code == INVALID
    assert app.ask("DeleteWorkflows", delete_all=True).status.code == 10000
    assert names(app.call("ListWorkflows").workflows) == []
    assert app.server.sql(
        "SELECT count(*) FROM workflow_versions v JOIN apps a ON a.first_bucket = v.bucket WHERE a.id = %s", app.id
    ) == [(0,)]


def test_the_base_workflow_of_an_app_is_not_removed(app: App) -> None:
    post(app, node("embed", EMBEDDER), node("concepts", TAGGER), id="base")
    app_message = resources_pb2.App(id=app.id, default_workflow_id="base")
    request = service_pb2.PatchAppsRequest(
        user_app_id=UserAppIDSet(user_id="admin"), action="overwrite", apps=[app_message]
    )
    patched = app.stub.PatchApps(request, metadata=(("authorization", f"Key {app.key}"),))
    assert patched.status.code == 10000, patched.status

    refused = app.ask("DeleteWorkflow", workflow_id="base")
    all_of_them = app.ask("DeleteWorkflows", delete_all=True)
    source = service_pb2.IdUpdateSource(id="base", new_id="renamed")
    renamed = app.ask("PatchWorkflowIds", action="overwrite", ids=[source])

    assert (refused.status.code, all_of_them.status.code) == (INVALID, INVALID)
    assert "is the base workflow" in refused.status.details
    assert names(renamed.workflows) == ["renamed"]
    assert app.server.sql("SELECT own_workflow_id FROM apps WHERE id = %s", app.id) == [("renamed",)]


def test_a_workflow_outlives_a_model_and_says_so_when_it_is_asked(operating: App) -> None:
    post(operating, node("a", TAGGER), node("b", "over", "a"))
    operating.call("DeleteModel", model_id="over")

    answer = operating.ask(
        "PostWorkflowResults", workflow_id="flow", inputs=[{"data": {"image": {"base64": b"no picture"}}}]
    )

    assert answer.status.code == NO_MODEL
    assert "Node 'b'" in answer.status.details
    assert names(operating.call("GetWorkflow", workflow_id="flow").workflow.nodes) == ["a", "b"]


def test_deleting_the_app_removes_its_workflows(app: App) -> None:
    post(app, node("a", TAGGER))
    ((bucket,),) = app.server.sql("SELECT first_bucket FROM apps WHERE id = %s", app.id)

    app.call("DeleteApp")

    assert app.server.sql("SELECT count(*) FROM workflows WHERE bucket = %s", bucket) == [(0,)]


def test_a_model_version_can_be_named(operating: App) -> None:
    version_id = operating.call("GetModel", model_id="over").model.model_version.id
    model = Model(id="over", model_version=ModelVersion(id=version_id))

    answer = post(operating, node("a", TAGGER), WorkflowNode(id="b", model=model, node_inputs=[NodeInput(node_id="a")]))

    assert answer.status.code == 10000, answer.status
    assert answer.workflows[0].nodes[1].model.model_version.id == version_id
