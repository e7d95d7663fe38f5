"""References and examples of models: texts and inputs that Clarifai shows beside its own models.

No rpc makes any, so there are none here, and programs that draw pages of models get empty lists.
"""

from __future__ import annotations

from clarifai_grpc.grpc.api import service_pb2

from sightrank.api.call import Call, Handlers
from sightrank.api.models import Models
from sightrank.errors import DoesNotExist


class ModelReferences:
    """ListModelReferences, ListModelVersionInputExamples and GetModelVersionInputExample: of any model that the caller
    can read, else ModelDoesNotExist.
    """

    def __init__(self, models: Models) -> None:
        self._models = models

    def handlers(self) -> Handlers:
        return {
            "ListModelReferences": self.references,
            "ListModelVersionInputExamples": self.examples,
            "GetModelVersionInputExample": self.example,
        }

    async def references(
        self, call: Call, request: service_pb2.ListModelReferencesRequest
    ) -> service_pb2.MultiModelReferenceResponse:
        await self._models.get(call, service_pb2.GetModelRequest(model_id=request.model_id))
        return service_pb2.MultiModelReferenceResponse()

    async def examples(
        self, call: Call, request: service_pb2.ListModelVersionInputExamplesRequest
    ) -> service_pb2.MultiModelVersionInputExampleResponse:
        await self._check_version(call, request.model_id, request.model_version_id)
        return service_pb2.MultiModelVersionInputExampleResponse()

    async def example(
        self, call: Call, request: service_pb2.GetModelVersionInputExampleRequest
    ) -> service_pb2.SingleModelVersionInputExampleResponse:
        await self._check_version(call, request.model_id, request.model_version_id)
        raise DoesNotExist(f"Model {request.model_id!r} has no example {request.example_id!r}; no model has any here.")

    async def _check_version(self, call: Call, model_id: str, version_id: str) -> None:
        await self._models.get(call, service_pb2.GetModelRequest(model_id=model_id, version_id=version_id))
