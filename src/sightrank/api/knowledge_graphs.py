"""Knowledge graphs: names under which an app keeps concept relations apart (api-spec 3.5)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from clarifai_grpc.grpc.api import resources_pb2, service_pb2

from sightrank.api.apps import new_id, plain_text
from sightrank.api.call import Call, Handlers
from sightrank.errors import DoesNotExist, DuplicateKey, InvalidRequest, quoted
from sightrank.ingest.rows import hold_app
from sightrank.store.database import Connection, Database
from sightrank.store.queries import load

MAX_GRAPHS = 128
_SQL = load("relations")
_TEXTS = ("name", "description", "examples_app_id", "sampled_examples_app_id")


class KnowledgeGraphs:
    """The knowledge-graph rpcs. The app's own graph, whose id is '', is always there and never listed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def handlers(self) -> Handlers:
        return {"PostKnowledgeGraphs": self.post, "ListKnowledgeGraphs": self.list}

    async def post(
        self, call: Call, request: service_pb2.PostKnowledgeGraphsRequest
    ) -> service_pb2.MultiKnowledgeGraphResponse:
        """All of the graphs, or none when an id is taken."""
        app, graphs = call.require_app(), request.knowledge_graphs
        if not graphs:
            raise InvalidRequest("knowledge_graphs is empty; send at least one knowledge graph.")
        if len(graphs) > MAX_GRAPHS:
            raise InvalidRequest(f"knowledge_graphs has {len(graphs)} items; send at most {MAX_GRAPHS} in one call.")
        rows = [_row(graph, i) for i, graph in enumerate(graphs)]
        async with self._database.transaction() as connection:
            await hold_app(connection, app.bucket)
            parameters = {"bucket": app.bucket, "rows": json.dumps(rows)}
            cursor = await connection.execute(_SQL["insert_graphs"], parameters)
            made = [name for (name,) in await cursor.fetchall()]
            for row in rows:
                if row["id"] not in made:
                    raise DuplicateKey(f"There is already a knowledge graph {row['id']!r} in app {app.app_id!r}.")
                made.remove(row["id"])
        return service_pb2.MultiKnowledgeGraphResponse(knowledge_graphs=map(_graph, rows))

    async def list(
        self, call: Call, request: service_pb2.ListKnowledgeGraphsRequest
    ) -> service_pb2.MultiKnowledgeGraphResponse:
        """Oldest first, all of them: the request has no pages."""
        rows = await self._database.rows(_SQL["list_graphs"], {"bucket": call.require_app().bucket})
        graphs = [_graph(dict(zip(("id", *_TEXTS), row, strict=True))) for row in rows]
        return service_pb2.MultiKnowledgeGraphResponse(knowledge_graphs=graphs)


async def check_graphs(connection: Connection, bucket: int, ids: Sequence[str]) -> None:
    """Raises DoesNotExist for a graph that nobody made; '' is the app's own."""
    wanted = sorted({plain_text(name, "knowledge_graph_id") for name in ids} - {""})
    if not wanted:
        return
    cursor = await connection.execute(_SQL["graphs"], {"bucket": bucket, "ids": wanted})
    unknown = sorted(set(wanted) - {name for (name,) in await cursor.fetchall()})
    if unknown:
        raise DoesNotExist(f"There is no knowledge graph {quoted(unknown[0])}; make it with PostKnowledgeGraphs first.")


def _row(graph: resources_pb2.KnowledgeGraph, place: int) -> dict[str, Any]:
    where = f"knowledge_graphs[{place}]"
    texts = {name: plain_text(getattr(graph, name), f"{where}.{name}") for name in _TEXTS}
    return {"place": place, "id": new_id(graph.id)} | texts


def _graph(row: dict[str, Any]) -> resources_pb2.KnowledgeGraph:
    return resources_pb2.KnowledgeGraph(id=row["id"], **{name: row[name] for name in _TEXTS})
