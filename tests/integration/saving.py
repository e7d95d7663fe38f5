"""Searches on labelled texts, which need no indexing, saved and executed by id."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from clarifai_grpc.grpc.api import resources_pb2, service_pb2
from clarifai_grpc.grpc.api.resources_pb2 import Annotation, Concept, Data, Filter, Input, Query, Rank, Search
from google.protobuf.timestamp_pb2 import Timestamp
from tests.integration.serving import App

Hit = resources_pb2.Hit


def text(input_id: str, *concepts: str) -> Input:
    """An input that needs no indexing: filters find it at once."""
    labels = [Concept(id=concept, value=1) for concept in concepts]
    return Input(id=input_id, data=Data(text=resources_pb2.Text(raw=f"about {input_id}"), concepts=labels))


def having(concept_id: str, value: float = 1.0) -> Filter:
    return Filter(annotation=Annotation(data=Data(concepts=[Concept(id=concept_id, value=value)])))


def labelled(concept_id: str, *ranks: Rank, **fields: Any) -> Search:
    """A search for what bears this label."""
    return Search(query=Query(filters=[having(concept_id)], ranks=ranks), **fields)


def save(app: App, *searches: Search, kind: str = "Annotations") -> list[Search]:
    for search in searches:
        search.save = True
    return list(app.call(f"Post{kind}Searches", searches=searches).searches)


def run(app: App, search_id: str, **pagination: int) -> list[Hit]:
    page = service_pb2.Pagination(**pagination)
    return list(app.call("PostSearchesByID", id=search_id, pagination=page).hits)


def code(answer: Any) -> int:
    return int(answer.status.code)


def instant(moment: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp


def label(app: App, input_id: str, concept_id: str) -> Annotation:
    data = Data(concepts=[Concept(id=concept_id, value=1)])
    (made,) = app.call("PostAnnotations", annotations=[Annotation(input_id=input_id, data=data)]).annotations
    return made
