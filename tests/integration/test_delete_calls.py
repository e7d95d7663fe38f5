"""Bulk deletes that name nothing: refused over gRPC and REST, for they would answer like one that did something."""

from __future__ import annotations

from typing import Any

import pytest
from clarifai_grpc.grpc.api.resources_pb2 import Concept, ConceptRelation, Data, Dataset, Input, Text
from tests.integration.serving import SUCCESS, App

INVALID, WORKFLOW_INVALID = 11102, 22104
#: Call, path below the app, fields beside the list, the list that says which to delete, the code of an empty one.
CALLS = [
    ("DeleteInputs", "/inputs", {}, "ids", INVALID),
    ("DeleteDatasets", "/datasets", {}, "dataset_ids", INVALID),
    ("DeleteDatasetInputs", "/datasets/full/inputs", {"dataset_id": "full"}, "input_ids", INVALID),
    ("DeleteDatasetVersions", "/datasets/full/versions", {"dataset_id": "full"}, "dataset_version_ids", INVALID),
    ("DeleteConceptRelations", "/concepts/tree/relations", {"concept_id": "tree"}, "ids", INVALID),
    ("DeleteAnnotations", "/annotations", {}, "input_ids", INVALID),
    ("DeleteAnnotationFilters", "/annotation_filters", {}, "annotation_filter_ids", INVALID),
    ("DeleteModels", "/models", {}, "ids", INVALID),
    ("DeleteWorkflows", "/workflows", {}, "ids", WORKFLOW_INVALID),
    ("DeleteWorkflowVersions", "/workflows/w/versions", {"workflow_id": "w"}, "workflow_version_ids", WORKFLOW_INVALID),
]
WITHOUT_DELETE_ALL = [call for call in CALLS if call[0] not in ("DeleteModels", "DeleteWorkflows")]


@pytest.fixture
def full(app: App) -> App:
    """An app with an input in a dataset, and a relation."""
    app.call("PostDatasets", datasets=[Dataset(id="full")])
    app.post(Input(id="i", data=Data(text=Text(raw="text")), dataset_ids=["full"]))
    app.call("PostConcepts", concepts=[Concept(id=name) for name in ("tree", "oak")])
    relation = ConceptRelation(object_concept=Concept(id="oak"), predicate="hypernym")
    app.call("PostConceptRelations", concept_id="tree", concept_relations=[relation])
    return app


def left(app: App) -> tuple[list[str], list[str], list[str], int]:
    return (
        [item.id for item in app.call("ListInputs").inputs],
        [item.id for item in app.call("ListDatasets").datasets],
        [item.input.id for item in app.call("ListDatasetInputs", dataset_id="full").dataset_inputs],
        len(app.call("ListConceptRelations", concept_id="tree").concept_relations),
    )


@pytest.mark.parametrize(("rpc", "path", "fields", "names", "code"), CALLS)
def test_nothing_named_is_refused(
    full: App, rpc: str, path: str, fields: dict[str, Any], names: str, code: int
) -> None:
    over_grpc = full.ask(rpc, **fields).status
    over_rest = [full.rest("DELETE", path, body)["status"] for body in (None, {}, {names: []})]

    assert (over_grpc.code, f"{names} is empty" in over_grpc.details) == (code, True), over_grpc
    assert [(status["code"], f"{names} is empty" in status["details"]) for status in over_rest] == [(code, True)] * 3
    assert left(full) == (["i"], ["full"], ["i"], 1)


@pytest.mark.parametrize(("rpc", "path", "fields", "names", "code"), WITHOUT_DELETE_ALL)
def test_delete_all_is_refused_where_it_is_not_served(
    full: App, rpc: str, path: str, fields: dict[str, Any], names: str, code: int
) -> None:
    bodies: list[dict[str, Any]] = [
        {"delete_all": True},
        {"deleteAll": True},
        {"delete_all": True, names: ["i", "full"]},
    ]
    for body in bodies:
        status = full.rest("DELETE", path, body)["status"]
        assert status["code"] == INVALID, status
        assert f"delete_all is not served by {rpc}: nothing was deleted. Name what to delete in" in status["details"]
        assert names in status["details"]
    assert left(full) == (["i"], ["full"], ["i"], 1)


def test_unknown_ids_are_ignored(full: App) -> None:
    assert full.call("DeleteInputs", ids=["nobody"]).status.code == SUCCESS
    assert full.rest("DELETE", "/inputs", {"ids": ["nobody"]})["status"]["code"] == SUCCESS
    assert full.rest("DELETE", "/inputs", {"ids": ["nobody"], "delete_all": False})["status"]["code"] == SUCCESS
    assert left(full) == (["i"], ["full"], ["i"], 1)


def test_an_empty_list_is_all_there_is(app: App) -> None:
    """The official SDK lists inputs, or relations of a concept, and deletes what it found."""
    assert app.call("DeleteInputs", ids=[]).status.code == SUCCESS
    assert app.call("DeleteConceptRelations", concept_id="tree").status.code == SUCCESS
