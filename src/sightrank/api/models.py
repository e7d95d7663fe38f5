"""Models of apps and public ones: reading and finding them (api-spec 5.1, 5.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clarifai_grpc.grpc.api import resources_pb2, service_pb2
from clarifai_grpc.grpc.api.status import status_code_pb2, status_pb2
from psycopg import sql

from sightrank.api.apps import plain_text
from sightrank.api.call import Call, Handlers
from sightrank.api.catalogue import Catalogue, ModelCard, ModelType
from sightrank.api.datasets import public_only
from sightrank.api.identity import ME, PUBLIC_APP, PUBLIC_USER, lists_public
from sightrank.api.model_records import ModelRecords, model_message, model_row, no_model
from sightrank.api.model_types import types_with
from sightrank.api.pages import Page, list_page
from sightrank.api.patterns import like_pattern
from sightrank.store import queries
from sightrank.store.database import Database
from sightrank.vision.vocabulary import ENGLISH, Term, fold, matches

_SQL = queries.load("models")
#: Filters by what no model here has.
_KNOWN_OF_NONE = ("starred_only", "bookmark", "license_type", "source", "min_replicas")
_SORTS = {"sort_by_name": "m.name", "sort_by_num_inputs": "v.total_input_count", "sort_by_modified_at": "m.modified_at"}


class Models:
    """GetModel, ListModels and their relatives. A model id is looked up in the app of the call, then in clarifai/main:
    programs name public models beside an app of their own."""

    def __init__(self, database: Database, catalogue: Catalogue, records: ModelRecords) -> None:
        self._database = database
        self._catalogue = catalogue
        self._records = records

    def handlers(self) -> Handlers:
        return {
            "GetModel": self.get,
            "ListModels": self.list,
            "PostModelsSearches": self.search,
            "GetModelOutputInfo": self.output_info,
        }

    async def get(self, call: Call, request: service_pb2.GetModelRequest) -> service_pb2.SingleModelResponse:
        """With the version asked for, else the latest; ``trained_before``: the latest that is trained, if one is."""
        own = await self._own(call, request)
        if own is None:
            own = model_proto(self._catalogue.model(request.model_id, request.version_id))
        return service_pb2.SingleModelResponse(model=own)

    async def output_info(self, call: Call, request: service_pb2.GetModelRequest) -> service_pb2.SingleModelResponse:
        """The model with ``output_info.data.concepts``: everything it can predict."""
        own = await self._own(call, request)
        if own is not None:
            return service_pb2.SingleModelResponse(model=own)
        card = self._catalogue.model(request.model_id, request.version_id)
        model = model_proto(card)
        if len(card.concepts):
            model.output_info.data.concepts.extend(public_concept(term) for term in card.concepts)
        return service_pb2.SingleModelResponse(model=model)

    async def list(self, call: Call, request: service_pb2.ListModelsRequest) -> service_pb2.MultiModelResponse:
        """Models of the app named; of the user named; with neither, all that the caller can use (api-spec 5.1). Own
        ones come first, newest first unless told otherwise. ``license`` is the whole text, ``creator`` the owner."""
        if any(getattr(request, field) for field in _KNOWN_OF_NONE):
            return service_pb2.MultiModelResponse()
        cards = [card for card in self._visible(call, request) if _wanted(card, request)]
        if request.sort_by_name:
            cards.sort(key=lambda card: card.name, reverse=not request.sort_ascending)
        own = _own_filter(call, request.user_app_id, _list_values(request))
        if request.featured_only or (own is not None and request.creator not in ("", own["user_id"])):
            own = None
        models = await self._page(list_page(request), own, _order(request), cards, fold(request.license))
        return service_pb2.MultiModelResponse(models=models)

    async def search(
        self, call: Call, request: service_pb2.PostModelsSearchesRequest
    ) -> service_pb2.MultiModelResponse:
        """By name only, with ``*`` as wildcard; never by id (api-spec 5.1 "Name search")."""
        query = request.model_query
        pattern = fold(plain_text(query.name, "model_query.name")) or "*"
        cards = [
            card
            for card in self._catalogue.models
            if matches(pattern, fold(card.name)) and query.model_type_id in ("", card.type.value)
        ]
        values = _filter_values(name=like_pattern(pattern), type_ids=types_with(id=query.model_type_id))
        own = _own_filter(call, request.user_app_id, values)
        models = await self._page(list_page(request.pagination), own, _ORDER, cards)
        return service_pb2.MultiModelResponse(models=models)

    async def _own(self, call: Call, request: service_pb2.GetModelRequest) -> resources_pb2.Model | None:
        """The app's own model, with its concepts. Raises ModelDoesNotExist for a version that the model has not."""
        app, hidden = call.require_app(), public_only(call)
        row = await self._records.find(
            app, request.model_id, request.version_id, public_only=hidden, trained_first=request.trained_before
        )
        if row is None and request.version_id and await self._records.find(app, request.model_id, public_only=hidden):
            raise no_model(app, request.model_id, request.version_id)
        return None if row is None else (await self._records.messages(app, [row]))[0]

    async def _page(
        self,
        page: Page,
        own: dict[str, Any] | None,
        order: sql.Composable,
        cards: Sequence[ModelCard],
        license: str = "",
    ) -> Sequence[resources_pb2.Model]:
        """Own models in that order, then public ones; of those with a folded ``license`` only."""
        models: Sequence[resources_pb2.Model] = []
        total = 0
        if own is not None and license:
            # The license stands in the message of the version, which the database does not read.
            rows = await self._database.rows(sql.SQL("{} {}").format(sql.SQL(_SQL["list"]), order), own)
            every = [model_message(model_row(row), names=None) for row in rows]
            licensed = [model for model in every if fold(model.model_version.license) == license]
            models, total = page.of(licensed), len(licensed)
        elif own is not None:
            statement = sql.SQL(_SQL["list"])
            counted = await self._database.row(sql.SQL("SELECT count(*) FROM ({}) found").format(statement), own)
            assert counted is not None
            total = counted[0]
            rows = await self._database.rows(page.limit(sql.SQL("{} {}").format(statement, order)), own)
            models = [model_message(model_row(row), names=None) for row in rows]
        first = max(page.offset - total, 0)
        return [*models] + [model_proto(card) for card in cards[first : first + page.per_page - len(models)]]

    def _visible(self, call: Call, request: service_pb2.ListModelsRequest) -> Sequence[ModelCard]:
        if request.dont_fetch_from_main and not request.user_app_id.app_id:
            return ()
        return self._catalogue.models if lists_public(call, request.user_app_id) else ()


_ORDER = sql.SQL("ORDER BY m.created_at DESC, m.id DESC")


def _order(request: service_pb2.ListModelsRequest) -> sql.Composable:
    column = next((column for flag, column in _SORTS.items() if getattr(request, flag)), "m.created_at")
    direction = sql.SQL("ASC" if request.sort_ascending else "DESC")
    table, name = column.split(".")
    return sql.SQL("ORDER BY {column} {direction} NULLS LAST, m.id {direction}").format(
        column=sql.Identifier(table, name), direction=direction
    )


def _own_filter(call: Call, ids: resources_pb2.UserAppIDSet, values: dict[str, Any]) -> dict[str, Any] | None:
    """Parameters that find the models of the app, or of the user, that a request names; None where it names none."""
    caller, app = call.require_caller(), call.require_app()
    if ids.app_id:
        user_id, app_id = app.user_id, app.app_id
    elif caller.app is not None and ids.user_id in ("", ME, caller.user_id):
        user_id, app_id = caller.app.user_id, caller.app.app_id
    else:
        user_id, app_id = caller.user_id if ids.user_id == ME else ids.user_id, ""
    if user_id in ("", PUBLIC_USER) or "\0" in user_id:
        return None
    return {"user_id": user_id, "app_id": app_id, "public_only": user_id != caller.user_id} | values


def _list_values(request: service_pb2.ListModelsRequest) -> dict[str, Any]:
    name = fold(plain_text(request.name, "name"))
    return _filter_values(
        name=like_pattern(name, part=True),
        type_ids=types_with(
            id=request.model_type_id, input_fields=request.input_fields, output_fields=request.output_fields
        ),
        words=plain_text(request.search or request.query, "search").split(),
        trained_only=request.trained_only,
        visibility=request.visibility.gettable,
        toolkits=list(request.toolkits),
        use_cases=list(request.use_cases),
        languages=list(request.languages),
        version_ids=list(request.model_version_ids),
    )


def _filter_values(*, name: str, type_ids: Sequence[str], **values: Any) -> dict[str, Any]:
    """Parameters of ``list`` in models.sql; ``name`` is a pattern for LIKE."""
    return {
        "name": name,
        "type_ids": list(type_ids),
        "words": [],
        "trained_only": False,
        "visibility": 0,
        "toolkits": [],
        "use_cases": [],
        "languages": [],
        "version_ids": [],
    } | values


def _wanted(card: ModelCard, request: service_pb2.ListModelsRequest) -> bool:
    """Everything public here is trained; featured are the models that name what is in an image; none has tags or says
    its license."""
    text = fold(request.search or request.query)
    name = fold(request.name)
    types = types_with(id=request.model_type_id, input_fields=request.input_fields, output_fields=request.output_fields)
    return (
        card.type.value in types
        and not (request.featured_only and card.type is not ModelType.TAGGER)
        and not (request.license or request.toolkits or request.use_cases or request.languages)
        and request.creator in ("", PUBLIC_USER)
        and request.visibility.gettable in (0, resources_pb2.Visibility.Gettable.PUBLIC)
        and (not request.model_version_ids or card.version_id in request.model_version_ids)
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
