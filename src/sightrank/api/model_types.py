"""The types of models there are here, and what each takes (api-spec 5.2): ``type_card``, ``checked_params``."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from clarifai_grpc.grpc.api import resources_pb2, service_pb2
from google.protobuf.json_format import MessageToDict

from sightrank.api.call import Call, Handlers
from sightrank.api.model_type_table import PARAMS, THRESHOLDS, TYPES, Field, FieldKind, TypeCard
from sightrank.api.pages import list_page
from sightrank.errors import DoesNotExist, ModelInvalidArgument, quoted


def type_card(model_type_id: str) -> TypeCard:
    """The type by its id or an alias of it. Raises ModelInvalidArgument, naming those that there are."""
    for card in TYPES:
        if model_type_id == card.id or model_type_id in card.aliases:
            return card
    known = ", ".join(card.id for card in TYPES if card.creatable)
    raise ModelInvalidArgument(f"There is no model type {quoted(model_type_id)}; models can be made of {known}.")


def types_with(*, id: str = "", input_fields: Collection[str] = (), output_fields: Collection[str] = ()) -> list[str]:
    """Ids of the types with that id and all of these fields."""
    return [
        card.id
        for card in TYPES
        if (not id or id == card.id or id in card.aliases)
        and set(card.input_fields).issuperset(input_fields)
        and set(card.output_fields).issuperset(output_fields)
    ]


def checked_params(card: TypeCard, output_info: resources_pb2.OutputInfo) -> dict[str, Any]:
    """What a model of this type works by, with defaults filled in: the values of ``output_info.params`` (older programs
    send them as ``output_config.model_metadata``), choices as their numbers, and as ``concepts`` the thresholds by
    concept id. Those of a trainable type are given back as they are: they are hyper-parameters, read when it trains.

    Raises ModelInvalidArgument.
    """
    sent = {**MessageToDict(output_info.output_config.model_metadata), **MessageToDict(output_info.params)}
    if card.trainable:
        return sent
    has_thresholds = THRESHOLDS in card.fields
    thresholds = sent.pop("concepts", []) if has_thresholds else []
    fields = {field.name: field for field in card.params}
    for name in sent:
        if name not in fields:
            known = ", ".join(fields) or "none"
            raise ModelInvalidArgument(f"Models of type {card.id} have no parameter {name!r}; they have {known}.")
    params = {name: _value(field, sent.get(name)) for name, field in fields.items()}
    if has_thresholds:
        params["concepts"] = _thresholds(output_info.data.concepts, thresholds)
    return params


def _thresholds(concepts: Sequence[resources_pb2.Concept], more: Any) -> dict[str, float]:
    """By concept id, as numbers of 32 bits like the values they are compared with; ``more`` is how files of the SDK,
    which know of parameters only, say the same."""
    values = [(concept.id, concept.value) for concept in concepts]
    if not isinstance(more, list) or not all(isinstance(item, dict) for item in more):
        raise ModelInvalidArgument(f"{PARAMS}concepts is {more!r}; it is a list of objects with id and value.")
    values += [(item.get("id"), item.get("value")) for item in more]
    for id, value in values:
        if not id or not isinstance(id, str):
            raise ModelInvalidArgument("A concept of output_info has no id; a threshold is that of a concept.")
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value <= 1.0:
            raise ModelInvalidArgument(f"The threshold of concept {id!r} is {value!r}; values lie between 0 and 1.")
    return {id: resources_pb2.Concept(value=value).value for id, value in values}


def _value(field: Field, value: Any) -> Any:
    if value is None:
        value = field.default
    if field.options:
        return _option(field, value)
    if field.kind == FieldKind.NUMBER:
        return _number(field, value)
    if field.kind == FieldKind.STRING:
        if not isinstance(value, str):
            raise ModelInvalidArgument(f"{field.path} is {value!r}; it is a text.")
        return value
    if value is not None and not isinstance(value, dict):
        raise ModelInvalidArgument(f"{field.path} is {value!r}; it is an object.")
    return value or {}


def _option(field: Field, value: Any) -> int:
    for name, number in field.options:
        if value == number or (isinstance(value, str) and value.upper().removeprefix("ANNOTATION_") == name):
            return number
    known = ", ".join(f"{name} ({number})" for name, number in field.options)
    raise ModelInvalidArgument(f"{field.path} is {value!r}; it is one of {known}.")


def _number(field: Field, value: Any) -> float:
    assert field.least is not None
    assert field.most is not None
    if isinstance(value, bool) or not isinstance(value, int | float) or not field.least <= value <= field.most:
        raise ModelInvalidArgument(f"{field.path} is {value!r}; it is a number from {field.least:g} to {field.most:g}.")
    if field.whole and value != int(value):
        raise ModelInvalidArgument(f"{field.path} is {value!r}; it is a whole number.")
    return int(value) if field.whole else value


class ModelTypes:
    """ListModelTypes and GetModelType."""

    def handlers(self) -> Handlers:
        return {"ListModelTypes": self.list, "GetModelType": self.get}

    async def list(self, call: Call, request: service_pb2.ListModelTypesRequest) -> service_pb2.MultiModelTypeResponse:
        return service_pb2.MultiModelTypeResponse(model_types=map(_proto, list_page(request).of(TYPES)))

    async def get(self, call: Call, request: service_pb2.GetModelTypeRequest) -> service_pb2.SingleModelTypeResponse:
        try:
            return service_pb2.SingleModelTypeResponse(model_type=_proto(type_card(request.model_type_id)))
        except ModelInvalidArgument as error:
            raise DoesNotExist(error.details) from error


def _proto(card: TypeCard) -> resources_pb2.ModelType:
    return resources_pb2.ModelType(
        id=card.id,
        title=card.title,
        description=card.description,
        input_fields=card.input_fields,
        output_fields=card.output_fields,
        creatable=card.creatable,
        trainable=card.trainable,
        model_type_fields=map(_field_proto, card.fields),
    )


def _field_proto(field: Field) -> resources_pb2.ModelTypeField:
    message = resources_pb2.ModelTypeField(
        path=field.path,
        field_type=field.kind,
        description=field.description,
        placeholder=field.name,  # the SDK's get_param_info takes it away and fails where there is none
        model_type_enum_options=[
            resources_pb2.ModelTypeEnumOption(id=name, aliases=[resources_pb2.ModelTypeEnumOptionAlias(id_int=number)])
            for name, number in field.options
        ],
    )
    if isinstance(field.default, bool):
        message.default_value.bool_value = field.default
    elif isinstance(field.default, str):
        message.default_value.string_value = field.default
    elif field.default is not None:
        message.default_value.number_value = field.default
    if field.least is not None and field.most is not None:
        message.model_type_range_info.min, message.model_type_range_info.max = field.least, field.most
    return message
