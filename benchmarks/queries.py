"""Searches through the official client, and over REST."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Sequence
from typing import Any

from clarifai_grpc.grpc.api import resources_pb2, service_pb2

from benchmarks.figures import Call
from benchmarks.questions import Question
from benchmarks.server import API_KEY, APP, HOST, USER, Client, Server

HITS = 20

Hits = Sequence[Any]


class Searches:
    """Searches of one app. Each method makes the message; what it returns sends it and hands out the hits."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def annotations(
        self,
        question: Question | None,
        filters: Sequence[resources_pb2.Filter] = (),
        *,
        page: int = 1,
        per_page: int = HITS,
    ) -> Callable[[], Hits]:
        """One hit for each area; without a question one for each annotation."""
        request = service_pb2.PostAnnotationsSearchesRequest(
            user_app_id=self._client.ids,
            searches=[_search(question, filters)],
            pagination=service_pb2.Pagination(page=page, per_page=per_page),
        )
        return lambda: self._client.call("PostAnnotationsSearches", request).hits

    def inputs(self, question: Question | None) -> Callable[[], Hits]:
        """One hit for each input."""
        request = service_pb2.PostInputsSearchesRequest(
            user_app_id=self._client.ids,
            searches=[_search(question, ())],
            pagination=service_pb2.Pagination(page=1, per_page=HITS),
        )
        return lambda: self._client.call("PostInputsSearches", request).hits


def exactly(wanted: int, search: Callable[[], Hits]) -> Call:
    """The search, insisting on so many hits."""

    def call() -> None:
        found = len(search())
        assert found == wanted, f"{found} hits, not {wanted}"

    return call


def _search(question: Question | None, filters: Sequence[resources_pb2.Filter]) -> resources_pb2.Search:
    ranks = question.ranks if question else []
    return resources_pb2.Search(query=resources_pb2.Query(ranks=ranks, filters=filters))


class Rest:
    """The same search as JSON over one kept HTTP connection."""

    def __init__(self, server: Server) -> None:
        self._connection = http.client.HTTPConnection(HOST, server.http_port, timeout=60)
        self._headers = {"Authorization": f"Key {API_KEY}", "Content-Type": "application/json"}

    def annotations(self, question: Question) -> Call:
        data = {"embeddings": [{"vector": list(question.ranks[0].annotation.data.embeddings[0].vector)}]}
        query = {"ranks": [{"annotation": {"data": data}}]}
        body = {"searches": [{"query": query}], "pagination": {"page": 1, "per_page": HITS}}
        text = json.dumps(body)
        return exactly(HITS, lambda: self._answer("POST", "/v2/annotations/searches", text)["hits"])

    def empty(self) -> Call:
        return lambda: self._answer("GET", f"/v2/users/{USER}/apps/{APP}/collaborators", None)

    def _answer(self, method: str, path: str, body: str | None) -> dict[str, Any]:
        self._connection.request(method, path, body, self._headers)
        response = self._connection.getresponse()
        answer = json.loads(response.read())
        assert response.status == 200, answer
        return dict(answer)
