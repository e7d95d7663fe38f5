"""The types of models there are here (api-spec 5.2)."""

from __future__ import annotations

from clarifai_grpc.grpc.api import resources_pb2, service_pb2

from sightrank.api.call import Call, Handlers
from sightrank.api.catalogue import ModelType
from sightrank.api.pages import list_page
from sightrank.errors import DoesNotExist

_TEXTS = {
    ModelType.TAGGER: ("Visual Classifier", "Predicts which concepts are in an image.", "concepts"),
    ModelType.EMBEDDER: ("Visual Embedder", "Describes an image by a vector, for search by similarity.", "embeddings"),
    ModelType.DETECTOR: ("Visual Detector", "Finds things in an image and tells where they are.", "regions[...]"),
    ModelType.MULTIMODAL_EMBEDDER: (
        "Multimodal Embedder",
        "Describes images and texts by vectors of one space, for search by both.",
        "embeddings",
    ),
}


class ModelTypes:
    """ListModelTypes and GetModelType. None of them can be created or trained by clients so far."""

    def handlers(self) -> Handlers:
        return {"ListModelTypes": self.list, "GetModelType": self.get}

    async def list(self, call: Call, request: service_pb2.ListModelTypesRequest) -> service_pb2.MultiModelTypeResponse:
        types = list_page(request).of([_proto(type) for type in ModelType])
        return service_pb2.MultiModelTypeResponse(model_types=types)

    async def get(self, call: Call, request: service_pb2.GetModelTypeRequest) -> service_pb2.SingleModelTypeResponse:
        for type in ModelType:
            if type.value == request.model_type_id:
                return service_pb2.SingleModelTypeResponse(model_type=_proto(type))
        known = ", ".join(type.value for type in ModelType)
        raise DoesNotExist(f"There is no model type {request.model_type_id!r}; there are {known}.")


def _proto(type: ModelType) -> resources_pb2.ModelType:
    title, description, output = _TEXTS[type]
    return resources_pb2.ModelType(
        id=type.value,
        title=title,
        description=description,
        input_fields=["image", "text"] if type is ModelType.MULTIMODAL_EMBEDDER else ["image"],
        output_fields=[output],
    )
