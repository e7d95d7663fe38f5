"""The types of models there are here, and what each takes (api-spec 5.2): ``type_card``, ``checked_params``."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from clarifai_grpc.grpc.api import resources_pb2, service_pb2
from clarifai_grpc.grpc.api.status import status_code_pb2
from google.protobuf.json_format import MessageToDict

from sightrank.api.call import Call, Handlers
from sightrank.api.pages import list_page
from sightrank.errors import DoesNotExist, ModelInvalidArgument

_FieldKind = resources_pb2.ModelTypeField.ModelTypeFieldType

#: Clarifai's numbers and names of comparisons.
COMPARISONS: Final[Mapping[str, int]] = {
    name: number for name, number in resources_pb2.ValueComparator.items() if number
}
#: Statuses in which an annotation writer may write.
WRITTEN_STATUSES: Final[Mapping[str, int]] = {
    name: status_code_pb2.StatusCode.Value(f"ANNOTATION_{name}")
    for name in ("SUCCESS", "PENDING", "AWAITING_REVIEW", "REVIEW_DENIED")
}
MAX_NEIGHBOURS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One thing that a model of a type is told. ``path``: where in the Model. ``least`` and ``most`` bound a number;
    ``options`` are the ids of a choice, each with the number that stands for it.
    """

    path: str
    kind: _FieldKind.ValueType
    description: str
    default: str | float | bool | None = None
    least: float | None = None
    most: float | None = None
    whole: bool = False
    options: tuple[tuple[str, int], ...] = ()

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeCard:
    """A type of models. ``creatable``: PostModels makes models of it; ``trainable``: PostModelVersions trains them.
    A creatable type that is not trainable is an operator of workflows: its models work at once.
    """

    id: str
    title: str
    description: str
    input_fields: tuple[str, ...]
    output_fields: tuple[str, ...]
    creatable: bool = False
    trainable: bool = False
    fields: tuple[Field, ...] = ()
    aliases: frozenset[str] = frozenset()

    @property
    def params(self) -> tuple[Field, ...]:
        """The fields that are sent in ``output_info.params``."""
        return tuple(field for field in self.fields if field.path.startswith(_PARAMS))


_PARAMS = "output_info.params."
_CONCEPTS = "output_info.data.concepts"


def _param(name: str, kind: _FieldKind.ValueType, description: str, **more: Any) -> Field:
    return Field(path=_PARAMS + name, kind=kind, description=description, **more)


_COMPARISON = _param(
    "concept_threshold_type",
    _FieldKind.ENUM,
    "How values are compared with the threshold of their concept: > (1), >= (2), < (3), <= (4), == (5).",
    default="GREATER_THAN",
    options=tuple(COMPARISONS.items()),
)
_THRESHOLDS = Field(
    path=_CONCEPTS,
    kind=_FieldKind.ARRAY_OF_CONCEPTS_WITH_THRESHOLD,
    description="The concepts that may pass, each with its threshold as `value`, 0 to 1. None passes without any.",
)
_TAUGHT = (
    Field(
        path=_CONCEPTS,
        kind=_FieldKind.ARRAY_OF_CONCEPTS,
        description="The concepts to learn; all of the app where there are none.",
    ),
    Field(
        path="output_info.output_config.concepts_mutually_exclusive",
        kind=_FieldKind.BOOLEAN,
        description="Whether a picture has exactly one of the concepts: their values then sum to 1.",
        default=False,
    ),
    Field(
        path="train_info.dataset",
        kind=_FieldKind.DATASET,
        description="The dataset whose inputs are learnt from; all inputs of the app where there is none.",
    ),
)

_TYPES: Final = (
    TypeCard(
        id="visual-classifier",
        title="Visual Classifier",
        description="Predicts which concepts are in an image. Yours learn from labels, by the vectors of their app.",
        input_fields=("image",),
        output_fields=("concepts",),
        creatable=True,
        trainable=True,
        fields=_TAUGHT,
    ),
    TypeCard(
        id="visual-embedder",
        title="Visual Embedder",
        description="Describes an image by a vector, for search by similarity.",
        input_fields=("image",),
        output_fields=("embeddings",),
    ),
    TypeCard(
        id="visual-detector",
        title="Visual Detector",
        description="Finds things in an image and tells where they are.",
        input_fields=("image",),
        output_fields=("regions[...]",),
    ),
    TypeCard(
        id="multimodal-embedder",
        title="Multimodal Embedder",
        description="Describes images and texts by vectors of one space, for search by both.",
        input_fields=("image", "text"),
        output_fields=("embeddings",),
    ),
    TypeCard(
        id="clusterer",
        title="Clusterer",
        description="Names the part of the space that an image's vector lies in: alike images share it.",
        input_fields=("image",),
        output_fields=("clusters",),
    ),
    TypeCard(
        id="embedding-classifier",
        title="Transfer-learned Classifier",
        description="Learns concepts from labels in seconds, by the vectors of its app.",
        input_fields=("embeddings",),
        output_fields=("concepts",),
        creatable=True,
        trainable=True,
        fields=_TAUGHT,
    ),
    TypeCard(
        id="knn-concept",
        title="Nearest Neighbours",
        description="Predicts the concepts of the most similar labelled areas of the app. Labels count at once.",
        input_fields=("embeddings",),
        output_fields=("concepts",),
        creatable=True,
        fields=(
            Field(
                path=_CONCEPTS,
                kind=_FieldKind.ARRAY_OF_CONCEPTS,
                description="The concepts to tell apart; all labelled ones of the app where there are none.",
            ),
            _param(
                "k",
                _FieldKind.NUMBER,
                "How many neighbours vote, each weighted by its similarity.",
                default=5.0,
                whole=True,
                least=1,
                most=MAX_NEIGHBOURS,
            ),
        ),
    ),
    TypeCard(
        id="concept-threshold",
        title="Concept Thresholder",
        description="Lets concepts pass whose values compare as wanted with their thresholds.",
        input_fields=("concepts",),
        output_fields=("concepts",),
        creatable=True,
        fields=(_THRESHOLDS, _COMPARISON),
    ),
    TypeCard(
        id="region-threshold",
        title="Region Thresholder",
        description="Lets regions pass that have a concept whose value compares as wanted with its threshold.",
        input_fields=("regions[...].data.concepts",),
        output_fields=("regions[...].data.concepts",),
        creatable=True,
        fields=(_THRESHOLDS, _COMPARISON),
    ),
    TypeCard(
        id="concept-synonym-mapper",
        title="Concept Synonym Mapper",
        description="Replaces predicted concepts by the app's concepts that are their synonyms (concept relations).",
        input_fields=("concepts",),
        output_fields=("concepts",),
        creatable=True,
        fields=(
            _param(
                "knowledge_graph_id",
                _FieldKind.STRING,
                "The knowledge graph whose relations count; all relations of the app where it is empty.",
                default="",
            ),
        ),
    ),
    TypeCard(
        id="image-crop",
        title="Image Cropper",
        description="Cuts regions out of the image, for the nodes behind it to look at.",
        input_fields=("image", "regions[...]"),
        output_fields=("regions[...].data.image",),
        creatable=True,
        aliases=frozenset({"image-cropper"}),
        fields=(
            _param(
                "margin",
                _FieldKind.NUMBER,
                "How much of a region's height and width is added on each side.",
                default=0.0,
                least=0,
                most=1,
            ),
        ),
    ),
    TypeCard(
        id="annotation-writer",
        title="Annotation Writer",
        description="Labels inputs with the concepts and regions it is given, in somebody's name.",
        input_fields=("concepts", "regions[...]"),
        output_fields=("concepts", "regions[...]"),
        creatable=True,
        fields=(
            _param(
                "annotation_status",
                _FieldKind.ENUM,
                "The status of the annotations: SUCCESS (24150), PENDING (24151) …",
                default="SUCCESS",
                options=tuple(WRITTEN_STATUSES.items()),
            ),
            _param(
                "annotation_user_id",
                _FieldKind.STRING,
                "The user in whose name to write; the app's owner where it is empty.",
                default="",
            ),
            _param("annotation_info", _FieldKind.JSON, "The annotation_info of the annotations.", default=None),
        ),
    ),
)


def type_card(model_type_id: str) -> TypeCard:
    """The type by its id or an alias of it. Raises ModelInvalidArgument, naming those that there are."""
    for card in _TYPES:
        if model_type_id == card.id or model_type_id in card.aliases:
            return card
    known = ", ".join(card.id for card in _TYPES)
    raise ModelInvalidArgument(f"There is no model type {model_type_id!r}; there are {known}.")


def types_with(*, id: str = "", input_fields: Collection[str] = (), output_fields: Collection[str] = ()) -> list[str]:
    """Ids of the types with that id and all of these fields."""
    return [
        card.id
        for card in _TYPES
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
    has_thresholds = _THRESHOLDS in card.fields
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
        raise ModelInvalidArgument(f"{_PARAMS}concepts is {more!r}; it is a list of objects with id and value.")
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
    if field.kind == _FieldKind.NUMBER:
        return _number(field, value)
    if field.kind == _FieldKind.STRING:
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
        return service_pb2.MultiModelTypeResponse(model_types=map(_proto, list_page(request).of(_TYPES)))

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
