"""The seven searches of the Clarifai guide's Rank page, through the official gRPC client.

    pip install clarifai-grpc 'protobuf<7'
    eval "$(sightrank env)"
    python examples/python/rank.py

INPUT_ID, IMAGE_URL, IMAGE_FILE and OWN_CONCEPT choose what to search by. What is not given comes from the server: its
newest input, and the first concept the app made itself.
"""

from __future__ import annotations

import os
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from clarifai_grpc.channel.clarifai_channel import ClarifaiChannel
from clarifai_grpc.grpc.api import resources_pb2, service_pb2, service_pb2_grpc
from clarifai_grpc.grpc.api.status import status_code_pb2
from google.protobuf.message import Message

PAT = os.environ["CLARIFAI_PAT"]
APP = resources_pb2.UserAppIDSet(user_id=os.environ["CLARIFAI_USER_ID"], app_id=os.environ["CLARIFAI_APP_ID"])
API_BASE = os.environ.get("CLARIFAI_API_BASE", "http://127.0.0.1:8000")
METADATA = (("authorization", f"Key {PAT}"),)

Search = tuple[str, list[resources_pb2.Rank]]


def connect() -> service_pb2_grpc.V2Stub:
    """Plaintext to CLARIFAI_GRPC_BASE (host or host:port); TLS if CLARIFAI_ROOT_CERTIFICATES_PATH names a CA file."""
    base = os.environ.get("CLARIFAI_GRPC_BASE", "127.0.0.1")
    if roots := os.environ.get("CLARIFAI_ROOT_CERTIFICATES_PATH"):
        return service_pb2_grpc.V2Stub(ClarifaiChannel.get_grpc_channel(base, root_certificates_path=roots))
    host, _, port = base.partition(":")
    return service_pb2_grpc.V2Stub(ClarifaiChannel.get_insecure_grpc_channel(host, port=int(port or 18080)))


def must_succeed(answer: Message) -> Message:
    """Errors travel inside the answer; the gRPC call itself succeeds."""
    status = answer.status  # type: ignore[attr-defined]
    if status.code != status_code_pb2.SUCCESS:
        sys.exit(f"failed: {status.code} {status.description}: {status.details}")
    return answer


def by_concept(**fields: str | float) -> resources_pb2.Rank:
    concept = resources_pb2.Concept(**fields)
    return resources_pb2.Rank(annotation=resources_pb2.Annotation(data=resources_pb2.Data(concepts=[concept])))


def by_image(**fields: str | bytes) -> resources_pb2.Rank:
    image = resources_pb2.Image(**fields)
    return resources_pb2.Rank(annotation=resources_pb2.Annotation(data=resources_pb2.Data(image=image)))


def by_input(input_id: str) -> resources_pb2.Rank:
    return resources_pb2.Rank(annotation=resources_pb2.Annotation(input_id=input_id))


def searches(stub: service_pb2_grpc.V2Stub) -> Iterator[Search]:
    # gRPC sends no difference between an absent value and 0, so say value=1 whenever you mean "has it".
    yield "by a concept of clarifai/main: people", [by_concept(id="people", value=1)]

    if own := os.environ.get("OWN_CONCEPT") or first_own_concept(stub):
        yield f"by a concept of your own: {own}", [by_concept(id=own, value=1)]

    yield "by both: cat, and no dog", [by_concept(id="cat", value=1), by_concept(id="dog", value=0)]
    yield "by a concept in another language: 犬 (ja)", [by_concept(name="犬", language="ja", value=1)]

    input_id = os.environ.get("INPUT_ID") or newest_input(stub)
    request = service_pb2.GetInputRequest(user_app_id=APP, input_id=input_id)
    answer = must_succeed(stub.GetInput(request, metadata=METADATA))
    url = os.environ.get("IMAGE_URL") or answer.input.data.image.url
    yield f"by an image's URL: {url}", [by_image(url=url)]

    file = os.environ.get("IMAGE_FILE")
    yield "by an image's bytes", [by_image(base64=Path(file).read_bytes() if file else download(url))]
    yield f"by an input's id: {input_id}", [by_input(input_id)]


def first_own_concept(stub: service_pb2_grpc.V2Stub) -> str:
    request = service_pb2.ListConceptsRequest(user_app_id=APP, per_page=1)
    concepts = must_succeed(stub.ListConcepts(request, metadata=METADATA)).concepts
    if not concepts:
        print("by a concept of your own: left out, because this app has none yet; label a photo first\n")
    return concepts[0].id if concepts else ""


def newest_input(stub: service_pb2_grpc.V2Stub) -> str:
    request = service_pb2.ListInputsRequest(user_app_id=APP, per_page=1)
    inputs = must_succeed(stub.ListInputs(request, metadata=METADATA)).inputs
    return inputs[0].id if inputs else sys.exit("failed: the app holds no inputs yet; add photos first")


def download(url: str) -> bytes:
    """Photos uploaded as bytes are hosted by the server, which wants the key; nobody else ever gets to see it."""
    headers = {"Authorization": f"Key {PAT}"} if url.startswith(f"{API_BASE}/") else {}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as response:
        return response.read()


def main() -> None:
    stub = connect()
    for title, ranks in searches(stub):
        request = service_pb2.PostAnnotationsSearchesRequest(
            user_app_id=APP,
            searches=[resources_pb2.Search(query=resources_pb2.Query(ranks=ranks))],
            pagination=service_pb2.Pagination(page=1, per_page=10),
        )
        answer = must_succeed(stub.PostAnnotationsSearches(request, metadata=METADATA))
        print(title)
        print(f"{'#':>4}  {'score':<6}  {'input':<32}  annotation")
        for number, hit in enumerate(answer.hits, start=1):
            print(f"{number:>4}  {hit.score:.4f}  {hit.input.id:<32}  {hit.annotation.id}")
        print()


if __name__ == "__main__":
    main()
