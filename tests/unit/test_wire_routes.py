"""The route table: every binding of every rpc, and the rules of api-spec 1.2 about who wins."""

from __future__ import annotations

import re

import pytest
from tests.rest_paths import binding_path

from sightrank.wire.routes import Place, RouteTable
from sightrank.wire.service import HttpBinding, Rpc, read_service

RPCS = read_service()
ROUTES = RouteTable(RPCS.values())
APP = "/v2/users/me/apps/main"

#: Method and path stated by two rpcs of the proto: who else states it, and who answers.
CONTESTED = {
    ("PatchRunners", "POST"): "PostRunners",
    ("StreamLogEntries", "GET"): "ListLogEntries",
    ("PostPipelines", "GET"): "ListPipelines",
}


def answering(rpc: Rpc, binding: HttpBinding) -> str:
    other = CONTESTED.get((rpc.name, binding.method))
    shared = other is not None and binding in RPCS[other].bindings
    return other if other is not None and shared else rpc.name


def variables(template: str) -> dict[str, str]:
    return {name: f"value{index}" for index, name in enumerate(re.findall(r"{([^}]*)}", template))}


def every_binding() -> list[tuple[Rpc, HttpBinding]]:
    return [(rpc, binding) for rpc in RPCS.values() for binding in rpc.bindings]


def rpc_at(method: str, path: str) -> str:
    place = ROUTES.find(path)
    assert place is not None, path
    return place.bindings[method].rpc


def values_at(method: str, path: str) -> dict[str, str]:
    place = ROUTES.find(path)
    assert isinstance(place, Place)
    names = (".".join(names) for names in place.bindings[method].variables)
    return dict(zip(names, place.values, strict=True))


def test_the_service_is_complete() -> None:
    assert len(RPCS) == 273
    assert all("status" in rpc.response_descriptor.fields_by_name for rpc in RPCS.values())
    assert all(rpc.bindings for rpc in RPCS.values())


def test_every_binding_reaches_its_rpc_with_its_variables() -> None:
    for rpc, binding in every_binding():
        filled = variables(binding.template)
        for path in (binding_path(binding, filled), binding_path(binding, filled) + "/"):
            assert rpc_at(binding.method, path) == answering(rpc, binding), path
            assert values_at(binding.method, path) == filled, path


@pytest.mark.parametrize(
    ("method", "path", "rpc"),
    [
        ("GET", "/concepts/status", "GetConceptCounts"),
        ("POST", "/concepts/searches", "PostConceptsSearches"),
        ("GET", "/concepts/knowledge_graphs", "ListKnowledgeGraphs"),
        ("GET", "/inputs/status", "GetInputCount"),
        ("GET", "/inputs/stream", "StreamInputs"),
        ("POST", "/inputs/searches", "PostInputsSearches"),
        ("DELETE", "/inputs/annotations", "DeleteAnnotations"),
        ("GET", "/models/types", "ListModelTypes"),
        ("POST", "/models/searches", "PostModelsSearches"),
        ("POST", "/annotations/searches", "PostAnnotationsSearches"),
        ("POST", "/annnotations/searches", "PostAnnotationsSearches"),
        ("POST", "/annnotations/searches/", "PostAnnotationsSearches"),
        ("GET", "/annotations/workers", "ListAnnotationWorkers"),
        ("GET", "/inputs/some-id", "GetInput"),
        ("POST", "/searches/", "PostSearches"),
        ("POST", "/searches/saved", "PostSearchesByID"),
        ("GET", "/searches/saved", "GetSearch"),
        ("DELETE", "/searches/saved", "DeleteSearch"),
    ],
)
def test_literal_segments_beat_variables_in_both_families(method: str, path: str, rpc: str) -> None:
    assert rpc_at(method, "/v2" + path) == rpc
    assert rpc_at(method, APP + path) == rpc


def test_a_literal_path_is_never_an_id_of_another_method() -> None:
    place = ROUTES.find("/v2/inputs/annotations")
    assert place is not None
    assert set(place.bindings) == {"DELETE"}


def literal_paths_of_apps() -> dict[str, set[tuple[str, str]]]:
    """Paths below an app that hold no id, without the app: who answers them there, by method."""
    found: dict[str, set[tuple[str, str]]] = {}
    for rpc, binding in every_binding():
        prefix, _, rest = binding.template.partition("/apps/{user_app_id.app_id}/")
        if prefix == "/v2/users/{user_app_id.user_id}" and "{" not in rest:
            found.setdefault(f"/v2/{rest}", set()).add((binding.method, answering(rpc, binding)))
    return found


def test_no_literal_path_of_an_app_is_an_id_without_it() -> None:
    paths = literal_paths_of_apps()
    assert ("GET", "ListConceptRelations") in paths["/v2/concepts/relations"]
    assert ("PATCH", "PatchModelIds") in paths["/v2/models/ids"]
    for path, expected in paths.items():
        place = ROUTES.find(path)
        if place is None:
            continue
        assert place.values == (), path
        assert {(method, binding.rpc) for method, binding in place.bindings.items()} <= expected, path


@pytest.mark.parametrize("path", ["/inputs/jobs", "/concepts/languages"])
def test_a_word_that_leads_nowhere_by_itself_is_no_id(path: str) -> None:
    assert ROUTES.find("/v2" + path) is None
    assert ROUTES.find(APP + path) is None


def test_further_down_a_word_may_be_an_id() -> None:
    assert values_at("GET", "/v2/concepts/status/languages") == {"concept_id": "status"}


def test_relations_without_a_concept_are_the_list_of_all() -> None:
    assert values_at("GET", APP + "/concepts/relations") == {
        "user_app_id.user_id": "me",
        "user_app_id.app_id": "main",
    }
    for path in (APP, "/v2"):
        assert rpc_at("GET", path + "/concepts/relations") == "ListConceptRelations"


def test_user_level_lists() -> None:
    for resource, rpc in (("models", "ListModels"), ("workflows", "ListWorkflows"), ("datasets", "ListDatasets")):
        assert rpc_at("GET", f"/v2/users/me/{resource}") == rpc
    assert rpc_at("GET", "/v2/users/me/apps/") == "ListApps"


def test_ids_are_decoded_and_may_not_be_empty() -> None:
    assert values_at("GET", "/v2/inputs/a%20b%2Fc") == {"input_id": "a b/c"}
    assert ROUTES.find("/v2/inputs//annotations/x") is None


@pytest.mark.parametrize("path", ["", "/", "/v2", "/v2/", "/v3/inputs", "/v2/inputs//", "/v2/nothing", "v2/inputs"])
def test_unknown_paths_have_no_place(path: str) -> None:
    assert ROUTES.find(path) is None
