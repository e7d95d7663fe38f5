"""The searches that are measured. Every call asks for something else, so that no answer can be an old one."""

from __future__ import annotations

import http.client
import itertools
import json
from collections.abc import Callable, Sequence

from clarifai_grpc.grpc.api import resources_pb2, service_pb2

from benchmarks.areas import unit_vectors
from benchmarks.server import API_KEY, HOST, Client, Server

HITS = 20
_QUERIES = 1000


def vector_ranks(dims: int) -> Callable[[], resources_pb2.Rank]:
    """Ranks by ``data.embeddings``, each call another vector."""
    vectors = itertools.cycle(unit_vectors(_QUERIES, dims, seed=-1 % 2**32))

    def rank() -> resources_pb2.Rank:
        embedding = resources_pb2.Embedding(vector=next(vectors).tolist(), num_dimensions=dims)
        data = resources_pb2.Data(embeddings=[embedding])
        return resources_pb2.Rank(annotation=resources_pb2.Annotation(data=data))

    return rank


def concept_ranks(ids: Sequence[str]) -> Callable[[], resources_pb2.Rank]:
    """Ranks by a predicted concept, each call another one."""
    names = itertools.cycle(ids)

    def rank() -> resources_pb2.Rank:
        data = resources_pb2.Data(concepts=[resources_pb2.Concept(id=next(names), value=1.0)])
        return resources_pb2.Rank(annotation=resources_pb2.Annotation(data=data))

    return rank


def labelled(concept_id: str) -> resources_pb2.Filter:
    """Only what somebody labelled with this concept."""
    data = resources_pb2.Data(concepts=[resources_pb2.Concept(id=concept_id, value=1.0)])
    return resources_pb2.Filter(annotation=resources_pb2.Annotation(data=data))


def negated(rank: resources_pb2.Rank) -> resources_pb2.Rank:
    rank.negate = True
    return rank


class Searches:
    """Runs searches through the official client and insists on a full page."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._page = service_pb2.Pagination(page=1, per_page=HITS)

    def annotations(
        self, ranks: Sequence[resources_pb2.Rank], filters: Sequence[resources_pb2.Filter] = ()
    ) -> service_pb2.MultiSearchResponse:
        search = resources_pb2.Search(query=resources_pb2.Query(ranks=ranks, filters=filters))
        request = service_pb2.PostAnnotationsSearchesRequest(
            user_app_id=self._client.ids, searches=[search], pagination=self._page
        )
        return self._full("PostAnnotationsSearches", request)

    def inputs(self, ranks: Sequence[resources_pb2.Rank]) -> service_pb2.MultiSearchResponse:
        search = resources_pb2.Search(query=resources_pb2.Query(ranks=ranks))
        request = service_pb2.PostInputsSearchesRequest(
            user_app_id=self._client.ids, searches=[search], pagination=self._page
        )
        return self._full("PostInputsSearches", request)

    def _full(self, rpc: str, request: object) -> service_pb2.MultiSearchResponse:
        answer: service_pb2.MultiSearchResponse = self._client.call(rpc, request)
        assert len(answer.hits) == HITS, f"{rpc} answered {len(answer.hits)} hits"
        return answer


class Rest:
    """The same search as JSON over one kept HTTP connection."""

    def __init__(self, server: Server) -> None:
        self._connection = http.client.HTTPConnection(HOST, server.http_port, timeout=60)
        self._headers = {"Authorization": f"Key {API_KEY}", "Content-Type": "application/json"}

    def annotations(self, rank: resources_pb2.Rank) -> None:
        data = {"embeddings": [{"vector": list(rank.annotation.data.embeddings[0].vector)}]}
        query = {"ranks": [{"annotation": {"data": data}}]}
        body = {"searches": [{"query": query}], "pagination": {"page": 1, "per_page": HITS}}
        answer = self._answer("POST", "/v2/annotations/searches", json.dumps(body))
        assert len(answer["hits"]) == HITS

    def empty(self) -> None:
        self._answer("GET", "/v2/users/admin/apps/photos/collaborators", None)

    def _answer(self, method: str, path: str, body: str | None) -> dict[str, list[object]]:
        self._connection.request(method, path, body, self._headers)
        response = self._connection.getresponse()
        answer = json.loads(response.read())
        assert response.status == 200, answer
        return dict(answer)
