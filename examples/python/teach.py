"""Trains a model with a concept of your own and ranks the photos that nobody has labelled by it.

    pip install clarifai-grpc 'protobuf<7'
    eval "$(sightrank env)"
    python examples/python/teach.py

OWN_CONCEPT names a concept that photos of yours are labelled with; without it, the first one the app made is taken.
"""

from __future__ import annotations

import os
import sys
import time
import uuid
from collections.abc import Sequence

from clarifai_grpc.channel.clarifai_channel import ClarifaiChannel
from clarifai_grpc.grpc.api import resources_pb2, service_pb2, service_pb2_grpc
from clarifai_grpc.grpc.api.resources_pb2 import Annotation, Concept, Data, Filter, Model, ModelVersion, OutputInfo
from clarifai_grpc.grpc.api.status import status_code_pb2
from google.protobuf.message import Message

APP = resources_pb2.UserAppIDSet(user_id=os.environ["CLARIFAI_USER_ID"], app_id=os.environ["CLARIFAI_APP_ID"])
METADATA = (("authorization", f"Key {os.environ['CLARIFAI_PAT']}"),)
TRAINED = status_code_pb2.MODEL_TRAINED
UNDER_WAY = (status_code_pb2.MODEL_QUEUED_FOR_TRAINING, status_code_pb2.MODEL_TRAINING)
PATIENCE_S = 60.0


def connect() -> service_pb2_grpc.V2Stub:
    host, _, port = os.environ.get("CLARIFAI_GRPC_BASE", "127.0.0.1").partition(":")
    return service_pb2_grpc.V2Stub(ClarifaiChannel.get_insecure_grpc_channel(host, port=int(port or 18080)))


def must_succeed(answer: Message) -> Message:
    status = answer.status  # type: ignore[attr-defined]
    if status.code != status_code_pb2.SUCCESS:
        sys.exit(f"failed: {status.code} {status.description}: {status.details}")
    return answer


def own_concept(stub: service_pb2_grpc.V2Stub) -> str:
    request = service_pb2.ListConceptsRequest(user_app_id=APP, per_page=1)
    concepts = must_succeed(stub.ListConcepts(request, metadata=METADATA)).concepts
    return concepts[0].id if concepts else sys.exit("failed: this app has no concept of its own; label a photo first")


def train(stub: service_pb2_grpc.V2Stub, model_id: str, concept_id: str) -> ModelVersion:
    """Makes the model, asks for a version, and waits until it is trained."""
    output_info = OutputInfo(data=Data(concepts=[Concept(id=concept_id)]))
    models = [Model(id=model_id, model_type_id="embedding-classifier", output_info=output_info)]
    must_succeed(stub.PostModels(service_pb2.PostModelsRequest(user_app_id=APP, models=models), metadata=METADATA))
    versions = service_pb2.PostModelVersionsRequest(user_app_id=APP, model_id=model_id, model_versions=[ModelVersion()])
    version = must_succeed(stub.PostModelVersions(versions, metadata=METADATA)).model.model_version
    look = service_pb2.GetModelVersionRequest(user_app_id=APP, model_id=model_id, version_id=version.id)
    deadline = time.monotonic() + PATIENCE_S
    while version.status.code in UNDER_WAY and time.monotonic() < deadline:
        time.sleep(0.1)
        version = must_succeed(stub.GetModelVersion(look, metadata=METADATA)).model_version
    if version.status.code != TRAINED:
        sys.exit(f"failed: {version.status.code} {version.status.description}: {version.status.details}")
    return version


def unlabelled(concept_id: str) -> Filter:
    # gRPC sends no difference between an absent value and 0, and 0 asks for what was said not to be there.
    return Filter(negate=True, annotation=Annotation(data=Data(concepts=[Concept(id=concept_id, value=1)])))


def rank(stub: service_pb2_grpc.V2Stub, concept_id: str) -> Sequence[resources_pb2.Hit]:
    by_concept = resources_pb2.Rank(annotation=Annotation(data=Data(concepts=[Concept(id=concept_id, value=1)])))
    photos = Filter(input=resources_pb2.Input(data=Data(image=resources_pb2.Image())))
    query = resources_pb2.Query(filters=[unlabelled(concept_id), photos], ranks=[by_concept])
    request = service_pb2.PostInputsSearchesRequest(
        user_app_id=APP,
        searches=[resources_pb2.Search(query=query)],
        pagination=service_pb2.Pagination(page=1, per_page=10),
    )
    return must_succeed(stub.PostInputsSearches(request, metadata=METADATA)).hits


def show(title: str, hits: Sequence[resources_pb2.Hit]) -> None:
    print(title)
    print(f"{'#':>4}  {'score':<6}  {'input':<32}  annotation")
    for number, hit in enumerate(hits, start=1):
        print(f"{number:>4}  {hit.score:.4f}  {hit.input.id:<32}  {hit.annotation.id}")
    print()


def main() -> None:
    stub = connect()
    concept_id = os.environ.get("OWN_CONCEPT") or own_concept(stub)
    show(f"by what was known before: {concept_id}", rank(stub, concept_id))
    model_id = f"example-{uuid.uuid4().hex[:8]}"
    try:
        version = train(stub, model_id, concept_id)
        show(f"by what {version.total_input_count} photos taught: {concept_id}", rank(stub, concept_id))
    finally:
        stub.DeleteModel(service_pb2.DeleteModelRequest(user_app_id=APP, model_id=model_id), metadata=METADATA)


if __name__ == "__main__":
    main()
