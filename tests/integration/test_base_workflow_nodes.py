"""Other nodes for a workflow that is the base of its app: what PatchApps would do about them is done with them, or they
are refused (docs/workflows.md)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from clarifai_grpc.grpc.api.resources_pb2 import App as ClarifaiApp
from clarifai_grpc.grpc.api.resources_pb2 import Model, NodeInput, Workflow, WorkflowNode
from tests.drawn_face import drawn_face, jpeg
from tests.integration.own_models import operator
from tests.integration.serving import App, of_bytes, wait_for

TAGGER, EMBEDDER, FACES, THINGS = (
    "general-image-recognition",
    "general-image-embedding",
    "face-detection",
    "general-image-detection",
)
FACE = jpeg(drawn_face())
INVALID, NEEDS_MODEL = 22104, 22002


def node(id: str, model_id: str, *inputs: str) -> WorkflowNode:
    return WorkflowNode(id=id, model=Model(id=model_id), node_inputs=[NodeInput(node_id=name) for name in inputs])


def patch_app(app: App, workflow_id: str, **fields: Any) -> Any:
    apps = [ClarifaiApp(id=app.id, default_workflow_id=workflow_id)]
    return app.ask("PatchApps", action="overwrite", apps=apps, **fields)


def patch(app: App, action: str, *nodes: WorkflowNode, id: str = "base") -> Any:
    return app.ask("PatchWorkflows", action=action, workflows=[Workflow(id=id, nodes=nodes)])


def bases(app: App) -> tuple[str, str]:
    """By which public workflow the app is indexed, and its own one."""
    (row,) = app.server.sql("SELECT workflow_id, own_workflow_id FROM apps WHERE id = %s", app.id)
    return str(row[0]), str(row[1])


def wanted(app: App) -> list[tuple[Any, ...]]:
    return app.server.sql(
        "SELECT r.workflow_id, r.own_workflow_id FROM reindexes r JOIN apps a ON a.first_bucket = r.bucket"
        " WHERE a.id = %s AND r.workflow_id IS NOT NULL",
        app.id,
    )


def asked(app: App, input_id: str) -> list[bool]:
    """The words of the writer: whether each is of a region."""
    found = app.annotations(input_ids=[input_id], user_ids=["me"], per_page=100)
    return sorted(bool(one.data.regions) for one in found if not one.input_level)


def versions(app: App) -> list[list[str]]:
    listed = app.call("ListWorkflowVersions", workflow_id="base").workflow_versions
    return [[one.id for one in version.nodes] for version in listed]


def settled(app: App) -> None:
    wait_for("the app to change over", lambda: not wanted(app))


@pytest.fixture
def based(app: App) -> App:
    """Indexed by a workflow of its own that asks about the whole picture."""
    app.call("PostModels", models=[operator("ask", "annotation-writer", annotation_status=24151)])
    nodes = [node("concept", TAGGER), node("ask", "ask", "concept")]
    app.call("PostWorkflows", workflows=[Workflow(id="base", nodes=nodes)])
    assert patch_app(app, "base").status.code == 10000
    return app


def test_nodes_that_need_another_index_have_the_app_re_indexed(based: App) -> None:
    (first,) = based.indexed(of_bytes(FACE, "first"))
    before = asked(based, first)

    answer = patch(based, "merge", node("find", FACES), node("ask", "ask", "find"))
    during = based.call("GetApp").app.default_workflow_id
    settled(based)
    (second,) = based.indexed(of_bytes(FACE, "second"))

    assert answer.status.code == 10000, answer.status
    assert during == "base"
    assert bases(based) == ("Face", "base")
    assert before == [False]
    assert asked(based, first) == asked(based, second) == [True]


def test_inputs_that_come_in_the_meantime_are_looked_at_by_the_new_nodes(based: App) -> None:
    first = based.indexed(*[of_bytes(FACE, f"first{n}") for n in range(6)])

    assert patch(based, "merge", node("find", FACES), node("ask", "ask", "find")).status.code == 10000
    later = based.indexed(*[of_bytes(FACE, f"later{n}") for n in range(6)])
    settled(based)

    assert [asked(based, input_id) for input_id in first + later] == [[True]] * 12
    details = [based.call("GetInput", input_id=input_id).input.status.details for input_id in first + later]
    assert details == [""] * 12


def test_nodes_for_which_the_index_will_do_leave_it_as_it_is(based: App) -> None:
    based.indexed(of_bytes(FACE, "first"))
    ((version,),) = based.server.sql(
        "SELECT b.version FROM app_buckets b JOIN apps a ON a.first_bucket = b.bucket WHERE a.id = %s", based.id
    )

    assert patch(based, "merge", node("embed", EMBEDDER)).status.code == 10000

    assert (bases(based), wanted(based)) == (("General", "base"), [])
    assert based.server.sql(
        "SELECT b.version FROM app_buckets b JOIN apps a ON a.first_bucket = b.bucket WHERE a.id = %s", based.id
    ) == [(version,)]


def test_an_empty_app_changes_over_at_once(based: App) -> None:
    assert patch(based, "overwrite", node("find", FACES), node("ask", "ask", "find")).status.code == 10000

    assert bases(based) == ("Face", "base")
    (only,) = based.indexed(of_bytes(FACE, "only"))
    assert asked(based, only) == [True]


def test_nodes_by_which_no_app_can_be_indexed_are_refused(based: App) -> None:
    refused = patch(based, "merge", node("faces", FACES), node("things", THINGS))
    elsewhere = based.ask(
        "PostWorkflows", workflows=[Workflow(id="other", nodes=[node("faces", FACES), node("things", THINGS)])]
    )

    assert refused.status.code == INVALID, refused.status
    assert f"App {based.id} has base as its base workflow" in refused.status.details
    assert "at most one detector" in refused.status.details
    assert versions(based) == [["concept", "ask"]]
    assert bases(based) == ("General", "base")
    assert elsewhere.status.code == 10000, "only a base workflow is measured so"
    assert patch(based, "merge", node("embed", EMBEDDER), id="other").status.code == 10000


def test_a_writer_in_the_name_of_nobody_is_refused(based: App) -> None:
    stranger = operator("stranger", "annotation-writer", annotation_status=24151, annotation_user_id="nobody-here")
    based.call("PostModels", models=[stranger])

    refused = patch(based, "merge", node("ask", "stranger", "concept"))

    assert (refused.status.code, "nobody-here" in refused.status.details) == (INVALID, True)
    assert versions(based) == [["concept", "ask"]]


def on_its_way(app: App, workflow_id: str, own_workflow_id: str) -> None:
    """The app wants these, and a re-index for them has failed: nobody goes on with it by himself."""
    app.server.sql(
        "INSERT INTO reindexes (bucket, workflow_id, own_workflow_id, state, failure)"
        " SELECT first_bucket, %s, %s, 'failed', 'it cannot' FROM apps WHERE id = %s RETURNING 1",
        workflow_id,
        own_workflow_id,
        app.id,
    )


def test_nodes_that_an_app_on_its_way_to_another_workflow_cannot_run_are_refused(based: App) -> None:
    based.indexed(of_bytes(FACE, "first"))
    on_its_way(based, "General-Detection", "")

    refused = patch(based, "merge", node("find", FACES))
    taken = patch(based, "merge", node("embed", EMBEDDER))

    assert refused.status.code == INVALID, refused.status
    assert "is on its way to General-Detection" in refused.status.details
    assert taken.status.code == 10000
    assert wanted(based) == [("General-Detection", "")], "what was asked for goes on"


def test_a_re_index_for_the_workflow_starts_anew_with_its_new_nodes(based: App) -> None:
    based.indexed(of_bytes(FACE, "first"))
    on_its_way(based, "General", "base")

    assert patch(based, "merge", node("find", FACES), node("ask", "ask", "find")).status.code == 10000
    settled(based)

    assert bases(based) == ("Face", "base")
    assert asked(based, "first") == [True]


def test_the_version_before_is_measured_too_when_the_latest_goes(based: App) -> None:
    (input_id,) = based.indexed(of_bytes(FACE, "first"))
    assert patch(based, "merge", node("find", FACES), node("ask", "ask", "find")).status.code == 10000
    settled(based)
    during = asked(based, input_id)
    latest, first = based.call("ListWorkflowVersions", workflow_id="base").workflow_versions

    based.call("DeleteWorkflowVersions", workflow_id="base", workflow_version_ids=[latest.id])
    settled(based)

    assert during == [True]
    assert bases(based) == ("General", "base")
    assert asked(based, input_id) == [False]
    assert versions(based) == [[one.id for one in first.nodes]]


def test_an_app_never_has_nodes_that_its_index_cannot_serve(app: App) -> None:
    """However patches of the workflow and of the app meet."""
    app.indexed(of_bytes(FACE, "first"))
    app.call("PostWorkflows", workflows=[Workflow(id="base", nodes=[node("concept", TAGGER)])])

    def change(turn: int) -> int:
        if turn % 3 == 0:
            return int(patch_app(app, "base").status.code)
        nodes = [node("concept", TAGGER), *([node("find", FACES)] if turn % 2 else [])]
        return int(patch(app, "overwrite", *nodes).status.code)

    with ThreadPoolExecutor(4) as pool:
        codes = list(pool.map(change, range(24)))
    settled(app)

    assert set(codes) <= {10000, 10030, INVALID}
    finds = "find" in versions(app)[0]
    assert bases(app) == ("Face" if finds else "General", "base")
