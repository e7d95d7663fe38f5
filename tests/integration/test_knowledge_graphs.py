"""Knowledge graphs: names for groups of concept relations (api-spec 3.5)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from clarifai_grpc.grpc.api.resources_pb2 import KnowledgeGraph
from clarifai_grpc.grpc.api.service_pb2_grpc import V2Stub
from tests.integration.serving import App, Server, new_app

MENU = KnowledgeGraph(
    id="menu", name="Menu", description="What we cook", examples_app_id="plates", sampled_examples_app_id="some-plates"
)


def listed(app: App) -> list[KnowledgeGraph]:
    return list(app.call("ListKnowledgeGraphs").knowledge_graphs)


def test_graphs_come_back_as_they_were_posted_oldest_first(app: App) -> None:
    made = app.call("PostKnowledgeGraphs", knowledge_graphs=[MENU, KnowledgeGraph(name="another")]).knowledge_graphs
    app.call("PostKnowledgeGraphs", knowledge_graphs=[KnowledgeGraph(id="a")])
    assert made[0] == MENU
    assert (made[1].name, len(made[1].id)) == ("another", 32)
    assert listed(app) == [*made, KnowledgeGraph(id="a")]


@pytest.mark.parametrize(
    ("graph", "code", "told"),
    [
        (KnowledgeGraph(id="menu"), 40010, "'menu'"),
        (KnowledgeGraph(id="fine"), 40010, "'fine'"),
        (KnowledgeGraph(id="not fine"), 11102, "'not fine'"),
        (KnowledgeGraph(name="\0"), 11102, "knowledge_graphs[1].name"),
    ],
)
def test_all_graphs_or_none(app: App, graph: KnowledgeGraph, code: int, told: str) -> None:
    app.call("PostKnowledgeGraphs", knowledge_graphs=[MENU])
    refused = app.ask("PostKnowledgeGraphs", knowledge_graphs=[KnowledgeGraph(id="fine"), graph])
    assert refused.status.code == code
    assert told in refused.status.details
    assert listed(app) == [MENU]


def test_a_call_has_bounds(app: App) -> None:
    assert app.ask("PostKnowledgeGraphs").status.code == 11102
    assert app.ask("PostKnowledgeGraphs", knowledge_graphs=[KnowledgeGraph()] * 129).status.code == 11102
    assert listed(app) == []


def test_graphs_are_of_one_app(app: App, server: Server, stub: V2Stub) -> None:
    app.call("PostKnowledgeGraphs", knowledge_graphs=[MENU])
    other = new_app(server, stub)
    assert listed(other) == []
    other.call("PostKnowledgeGraphs", knowledge_graphs=[KnowledgeGraph(id="menu")])
    assert listed(app) == [MENU]


def test_over_rest(app: App) -> None:
    body = {"knowledge_graphs": [{"id": "menu", "name": "Menu"}]}
    assert app.rest("POST", "/concepts/knowledge_graphs", body)["knowledge_graphs"] == body["knowledge_graphs"]
    assert app.rest("GET", "/concepts/knowledge_graphs")["knowledge_graphs"] == body["knowledge_graphs"]


def test_calls_at_once_name_graphs_in_any_order(app: App) -> None:
    graphs = [KnowledgeGraph(id=f"g{n}") for n in range(20)]

    def post(turn: int) -> int:
        order = graphs if turn % 2 else graphs[::-1]
        return int(app.ask("PostKnowledgeGraphs", knowledge_graphs=order).status.code)

    with ThreadPoolExecutor(8) as threads:
        assert sorted(threads.map(post, range(8))) == [10000] + [40010] * 7
    assert {graph.id for graph in listed(app)} == {graph.id for graph in graphs}
