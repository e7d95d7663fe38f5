"""Filters, and a search that is saved as of now, through the official gRPC client.

    pip install clarifai-grpc 'protobuf<7'
    eval "$(sightrank env)"
    python examples/python/filter_and_save.py

OWN_CONCEPT names a concept that photos of yours are labelled with; without it, the first one the app made is taken.
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Sequence

from clarifai_grpc.channel.clarifai_channel import ClarifaiChannel
from clarifai_grpc.grpc.api import resources_pb2, service_pb2, service_pb2_grpc
from clarifai_grpc.grpc.api.resources_pb2 import Annotation, Concept, Data, Filter, Geo, Input, Query, Search
from clarifai_grpc.grpc.api.status import status_code_pb2
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct

APP = resources_pb2.UserAppIDSet(user_id=os.environ["CLARIFAI_USER_ID"], app_id=os.environ["CLARIFAI_APP_ID"])
METADATA = (("authorization", f"Key {os.environ['CLARIFAI_PAT']}"),)
FIRST_TEN = service_pb2.Pagination(page=1, per_page=10)


def connect() -> service_pb2_grpc.V2Stub:
    host, _, port = os.environ.get("CLARIFAI_GRPC_BASE", "127.0.0.1").partition(":")
    return service_pb2_grpc.V2Stub(ClarifaiChannel.get_insecure_grpc_channel(host, port=int(port or 18080)))


def must_succeed(answer: Message) -> Message:
    status = answer.status  # type: ignore[attr-defined]
    if status.code != status_code_pb2.SUCCESS:
        sys.exit(f"failed: {status.code} {status.description}: {status.details}")
    return answer


def saying(**data: object) -> Filter:
    """Annotations that say this."""
    return Filter(annotation=Annotation(data=Data(**data)))


def labelled(concept_id: str) -> Filter:
    # gRPC sends no difference between an absent value and 0, and 0 asks for what was said not to be there.
    return saying(concepts=[Concept(id=concept_id, value=1)])


def with_metadata(values: dict[str, object]) -> Filter:
    struct = Struct()
    struct.update(values)
    return saying(metadata=struct)


def near(longitude: float, latitude: float, kilometers: float) -> Filter:
    point = resources_pb2.GeoPoint(longitude=longitude, latitude=latitude)
    limit = resources_pb2.GeoLimit(type="withinKilometers", value=kilometers)
    return saying(geo=Geo(geo_point=point, geo_limit=limit))


def own_concept(stub: service_pb2_grpc.V2Stub) -> str:
    request = service_pb2.ListConceptsRequest(user_app_id=APP, per_page=1)
    concepts = must_succeed(stub.ListConcepts(request, metadata=METADATA)).concepts
    return concepts[0].id if concepts else sys.exit("failed: this app has no concept of its own; label a photo first")


def show(title: str, hits: Sequence[resources_pb2.Hit]) -> None:
    print(title)
    print(f"{'#':>4}  {'score':<6}  {'input':<32}  annotation")
    for number, hit in enumerate(hits, start=1):
        print(f"{number:>4}  {hit.score:.4f}  {hit.input.id:<32}  {hit.annotation.id}")
    print()


def post(stub: service_pb2_grpc.V2Stub, search: Search) -> service_pb2.MultiSearchResponse:
    request = service_pb2.PostInputsSearchesRequest(user_app_id=APP, searches=[search], pagination=FIRST_TEN)
    return must_succeed(stub.PostInputsSearches(request, metadata=METADATA))


def filters(stub: service_pb2_grpc.V2Stub, mine: str) -> None:
    """Filters are ANDed; ``negate`` turns one round; a rank orders what they leave."""
    nobody = labelled(mine)
    nobody.negate = True
    people = resources_pb2.Rank(annotation=Annotation(data=Data(concepts=[Concept(id="people", value=1)])))
    photos = Filter(input=Input(data=Data(image=resources_pb2.Image())))
    for title, query in {
        f"by a label: {mine}": Query(filters=[labelled(mine)]),
        f"by no such label, people first: {mine}": Query(filters=[nobody, photos], ranks=[people]),
        "by metadata: season is summer": Query(filters=[with_metadata({"season": "summer"})]),
        "by place: 50 km around Berlin": Query(filters=[near(13.4, 52.5, 50)]),
    }.items():
        show(title, post(stub, Search(query=query)).hits)


def save_and_execute(stub: service_pb2_grpc.V2Stub, mine: str) -> None:
    """With ``as_of``, labels that come later do not change what a saved search finds."""
    search = Search(id=f"example-{uuid.uuid4().hex[:8]}", name=f"{mine} as of now", save=True)
    search.query.filters.append(labelled(mine))
    search.as_of.GetCurrentTime()
    post(stub, search)  # saved and not executed: no hits
    by_id = service_pb2.PostSearchesByIDRequest(user_app_id=APP, id=search.id, pagination=FIRST_TEN)
    show(f"by the saved search: {search.id}", must_succeed(stub.PostSearchesByID(by_id, metadata=METADATA)).hits)
    delete = service_pb2.DeleteSearchRequest(user_app_id=APP, id=search.id)
    must_succeed(stub.DeleteSearch(delete, metadata=METADATA))


def main() -> None:
    stub = connect()
    mine = os.environ.get("OWN_CONCEPT") or own_concept(stub)
    filters(stub, mine)
    save_and_execute(stub, mine)


if __name__ == "__main__":
    main()
