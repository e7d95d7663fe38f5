"""Public models: reading and finding them (api-spec 5.1, 5.2)."""

from __future__ import annotations

from collections.abc import Sequence

from clarifai_grpc.grpc.api import resources_pb2, service_pb2
from clarifai_grpc.grpc.api.status import status_code_pb2, status_pb2

from sightrank.api.call import Call, Handlers
from sightrank.api.catalogue import Catalogue, ModelCard, ModelType
from sightrank.api.identity import PUBLIC_APP, PUBLIC_USER, lists_public
from sightrank.api.pages import list_page
from sightrank.vision.vocabulary import ENGLISH, Term, fold, matches


class Models:
    """GetModel, ListModels and their relatives over the catalogue. A model id is looked up in clarifai/main whatever
    app the call names, because that is where all models live until an app trains its own."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def handlers(self) -> Handlers:
        return {
            "GetModel": self.get,
            "ListModels": self.list,
            "PostModelsSearches": self.search,
            "GetModelOutputInfo": self.output_info,
            "GetModelVersion": self.get_version,
            "ListModelVersions": self.list_versions,
            "ListModelConcepts": self.list_concepts,
        }

    async def get(self, call: Call, request: service_pb2.GetModelRequest) -> service_pb2.SingleModelResponse:
        card = self._catalogue.model(request.model_id, request.version_id)
        return service_pb2.SingleModelResponse(model=model_proto(card))

    async def list(self, call: Call, request: service_pb2.ListModelsRequest) -> service_pb2.MultiModelResponse:
        """Models of the app named; of the user named; with neither, all that the caller can use (api-spec 5.1)."""
        cards = [card for card in self._visible(call, request) if _wanted(card, request)]
        if request.sort_by_name:
            cards.sort(key=lambda card: card.name, reverse=not request.sort_ascending)
        return service_pb2.MultiModelResponse(models=map(model_proto, list_page(request).of(cards)))

    async def search(
        self, call: Call, request: service_pb2.PostModelsSearchesRequest
    ) -> service_pb2.MultiModelResponse:
        """By name only, with ``*`` as wildcard; never by id (api-spec 5.1 "Name search")."""
        query = request.model_query
        pattern = fold(query.name) or "*"
        cards = [
            card
            for card in self._catalogue.models
            if matches(pattern, fold(card.name)) and query.model_type_id in ("", card.type.value)
        ]
        return service_pb2.MultiModelResponse(models=map(model_proto, list_page(request.pagination).of(cards)))

    async def output_info(self, call: Call, request: service_pb2.GetModelRequest) -> service_pb2.SingleModelResponse:
        """The model with ``output_info.data.concepts``: everything it can predict."""
        card = self._catalogue.model(request.model_id, request.version_id)
        model = model_proto(card)
        if len(card.concepts):
            model.output_info.data.concepts.extend(public_concept(term) for term in card.concepts)
        return service_pb2.SingleModelResponse(model=model)

    async def get_version(
        self, call: Call, request: service_pb2.GetModelVersionRequest
    ) -> service_pb2.SingleModelVersionResponse:
        card = self._catalogue.model(request.model_id, request.version_id)
        return service_pb2.SingleModelVersionResponse(model_version=version_proto(card))

    async def list_versions(
        self, call: Call, request: service_pb2.ListModelVersionsRequest
    ) -> service_pb2.MultiModelVersionResponse:
        versions = [version_proto(self._catalogue.model(request.model_id))]
        return service_pb2.MultiModelVersionResponse(model_versions=list_page(request).of(versions))

    async def list_concepts(
        self, call: Call, request: service_pb2.ListModelConceptsRequest
    ) -> service_pb2.MultiConceptResponse:
        vocabulary = self._catalogue.model(request.model_id, request.version_id).concepts
        terms: Sequence[Term] = vocabulary.search(request.search) if request.search else list(vocabulary)
        return service_pb2.MultiConceptResponse(concepts=map(public_concept, list_page(request).of(terms)))

    def _visible(self, call: Call, request: service_pb2.ListModelsRequest) -> Sequence[ModelCard]:
        if request.dont_fetch_from_main and not request.user_app_id.app_id:
            return ()
        return self._catalogue.models if lists_public(call, request.user_app_id) else ()


def _wanted(card: ModelCard, request: service_pb2.ListModelsRequest) -> bool:
    """Everything here is trained; featured are the models that name what is in an image; nothing can be starred."""
    text = fold(request.search or request.query)
    name = fold(request.name)
    return (
        request.model_type_id in ("", card.type.value)
        and not request.starred_only
        and not (request.featured_only and card.type is not ModelType.TAGGER)
        and (not name or matches(name if "*" in name else f"*{name}*", fold(card.name)))
        and (not text or text in fold(f"{card.id} {card.name} {card.description}"))
    )


def model_proto(card: ModelCard) -> resources_pb2.Model:
    return resources_pb2.Model(
        id=card.id,
        name=card.name,
        user_id=PUBLIC_USER,
        app_id=PUBLIC_APP,
        model_type_id=card.type.value,
        description=card.description,
        model_version=version_proto(card),
        visibility=resources_pb2.Visibility(gettable=resources_pb2.Visibility.Gettable.PUBLIC),
        output_info=resources_pb2.OutputInfo(output_config=resources_pb2.OutputConfig()),
        version_count=1,
    )


def version_proto(card: ModelCard) -> resources_pb2.ModelVersion:
    return resources_pb2.ModelVersion(
        id=card.version_id,
        user_id=PUBLIC_USER,
        app_id=PUBLIC_APP,
        active_concept_count=len(card.concepts),
        status=status_pb2.Status(code=status_code_pb2.MODEL_TRAINED, description="Model is trained"),
        visibility=resources_pb2.Visibility(gettable=resources_pb2.Visibility.Gettable.PUBLIC),
    )


def public_concept(term: Term, language: str = ENGLISH) -> resources_pb2.Concept:
    """A concept of clarifai/main, named in that language or, where untranslated, in English."""
    name, named_in = term.name_in(language)
    return resources_pb2.Concept(
        id=term.id,
        name=name,
        value=1.0,
        language=named_in,
        definition=term.definition,
        user_id=PUBLIC_USER,
        app_id=PUBLIC_APP,
        visibility=resources_pb2.Visibility(gettable=resources_pb2.Visibility.Gettable.PUBLIC),
    )
