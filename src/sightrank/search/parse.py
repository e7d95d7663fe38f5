"""Search messages to the algebra of ``search.query``. No I/O.

Empty messages are no-ops (api-spec 4.1): the official SDK always sends an empty Rank and filters whose annotation and
input are set but empty. Only an empty text is more: a condition on the kind of annotation. A field that this version
cannot search by is refused by name; ignoring it would answer another question than the one asked.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Literal

from clarifai_grpc.grpc.api import resources_pb2
from google.protobuf.message import Message

from sightrank.errors import SearchInvalid
from sightrank.search.query import (
    ConceptCondition,
    ConceptName,
    ConceptTerm,
    Condition,
    DatasetCondition,
    FieldCondition,
    Filter,
    ImageTerm,
    InputTerm,
    Query,
    Rank,
    Term,
    TextTerm,
    Unit,
    VectorTerm,
)
from sightrank.vision.vocabulary import LANGUAGES

ME = "me"
#: What one search may ask for: generous for people, a bound for programs.
MAX_TERMS = 64
MAX_CONDITIONS = 256
_LANGUAGES = {language.lower(): language for language in LANGUAGES}
_ALGORITHMS = frozenset({"", "nearest_neighbor", "brute_force", "avg_concept_brute_force"})
_MEDIA: tuple[Literal["image", "video", "text", "audio"], ...] = ("image", "video", "text", "audio")

# Fields of a message that may be set without meaning anything to a search.
_IGNORED_IN_CONCEPT = frozenset({"id", "name", "value", "language", "app_id", "user_id", "created_at", "definition"})


def parse_search(message: resources_pb2.Search, unit: Unit, *, offset: int, limit: int, me: str = ME) -> Query:
    """One Search message. Raises SearchInvalid naming the field that is wrong or not supported.

    ``me`` is the id of the user whom a filter calls "me".
    """
    if message.algorithm not in _ALGORITHMS:
        raise SearchInvalid(f"algorithm {message.algorithm!r} is unknown; use one of {sorted(_ALGORITHMS - {''})}.")
    if message.save:
        raise SearchInvalid("save: saved searches are not built in this version; run the search without save.")
    if message.HasField("as_of"):
        raise SearchInvalid("as_of: searching the past is not built in this version; leave as_of out.")
    if not 0.0 <= message.min_value <= 1.0:
        raise SearchInvalid(f"min_value is {message.min_value:g}; scores lie between 0 and 1.")
    query = message.query
    if query.ands:
        raise SearchInvalid(
            "query.ands is the legacy form, not built in this version; use query.filters and query.ranks."
        )
    _check_size(query)
    ranks = (_rank(rank, query.language, f"ranks[{i}]") for i, rank in enumerate(query.ranks))
    filters = (_filter(item, query.language, me, f"filters[{i}]") for i, item in enumerate(query.filters))
    return Query(
        unit=unit,
        filters=tuple(item for item in filters if item is not None),
        ranks=tuple(rank for rank in ranks if rank is not None),
        min_value=message.min_value,
        offset=offset,
        limit=limit,
    )


def _check_size(query: resources_pb2.Query) -> None:
    """Bounds what one search may cost. Raises SearchInvalid."""
    terms = sum(len(rank.annotation.data.concepts) + len(rank.annotation.data.embeddings) + 1 for rank in query.ranks)
    if terms > MAX_TERMS:
        raise SearchInvalid(
            f"ranks name {terms} concepts, embeddings and ranks in all; at most {MAX_TERMS} make sense."
        )
    conditions = sum(len(f.annotation.data.concepts) + len(f.input.dataset_ids) + 1 for f in query.filters)
    if conditions > MAX_CONDITIONS:
        raise SearchInvalid(
            f"filters name {conditions} conditions in all; at most {MAX_CONDITIONS} can be searched by."
        )


# Ranks --------------------------------------------------------------------------------------------


def _rank(message: resources_pb2.Rank, language: str, where: str) -> Rank | None:
    annotation = message.annotation
    data = annotation.data
    _refuse_others(annotation, {"data", "input_id", "model_version_id"}, f"{where}.annotation")
    _refuse_others(data, {"concepts", "image", "embeddings", "text"}, f"{where}.annotation.data")
    terms = tuple(_terms(annotation, language, message.negate, where))
    if not terms:
        return None
    return Rank(terms=terms, negate=message.negate, model_version_id=annotation.model_version_id)


def _terms(annotation: resources_pb2.Annotation, language: str, negate: bool, where: str) -> Iterator[Term]:
    data = annotation.data
    for i, concept in enumerate(data.concepts):
        place = f"{where}.annotation.data.concepts[{i}]"
        # Under negate a value of 0 reads as 1: gRPC cannot tell an absent value from 0 (design, score laws).
        value = 1.0 if negate and concept.value == 0.0 else concept.value
        yield ConceptTerm(concept=_concept_name(concept, language, place), value=_share(value, f"{place}.value"))
    if data.image.base64 and data.image.url:
        raise SearchInvalid(f"{where}.annotation.data.image has both url and base64; send one of them.")
    if data.image.base64 or data.image.url:
        yield ImageTerm(url=data.image.url, data=data.image.base64)
    if annotation.input_id:
        yield InputTerm(input_id=annotation.input_id)
    if data.embeddings:
        yield VectorTerm(vectors=tuple(_vectors(data.embeddings, f"{where}.annotation.data.embeddings")))
    if data.text.raw:
        yield TextTerm(raw=data.text.raw)
    elif data.text.url:
        raise SearchInvalid(f"{where}.annotation.data.text.url: send the text itself in text.raw.")


def _vectors(embeddings: Iterable[resources_pb2.Embedding], where: str) -> Iterator[tuple[float, ...]]:
    for i, embedding in enumerate(embeddings):
        vector = tuple(embedding.vector)
        if embedding.num_dimensions and embedding.num_dimensions != len(vector):
            raise SearchInvalid(
                f"{where}[{i}] has {len(vector)} numbers but num_dimensions says {embedding.num_dimensions}."
            )
        if not all(math.isfinite(number) for number in vector):
            raise SearchInvalid(f"{where}[{i}].vector holds a number that is not finite.")
        yield vector


# Filters ------------------------------------------------------------------------------------------


def _filter(message: resources_pb2.Filter, language: str, me: str, where: str) -> Filter | None:
    _refuse_others(message, {"negate", "annotation", "input"}, where)
    groups = [
        *_annotation_groups(message.annotation, language, me, message.negate, f"{where}.annotation"),
        *_input_groups(message.input, f"{where}.input"),
    ]
    groups = [group for group in groups if group]
    return Filter(groups=tuple(groups), negate=message.negate) if groups else None


def _annotation_groups(
    annotation: resources_pb2.Annotation, language: str, me: str, negate: bool, where: str
) -> Iterator[tuple[Condition, ...]]:
    _refuse_others(
        annotation, {"id", "input_id", "user_id", "task_id", "trusted", "input_level", "status", "data"}, where
    )
    for field in ("id", "input_id", "task_id"):
        value = getattr(annotation, field)
        if value:
            yield (FieldCondition(field=f"annotation.{field}", value=value),)
    if annotation.user_id:
        user_id = me if annotation.user_id == ME else annotation.user_id
        yield (FieldCondition(field="annotation.user_id", value=user_id),)
    for field in ("trusted", "input_level"):
        if getattr(annotation, field):
            yield (FieldCondition(field=f"annotation.{field}", value=True),)
    if annotation.status.code:
        yield (FieldCondition(field="annotation.status", value=annotation.status.code),)
    _refuse_others(annotation.data, {"concepts"}, f"{where}.data")
    yield tuple(
        ConceptCondition(
            concept=_concept_name(concept, language, f"{where}.data.concepts[{i}]"),
            positive=_share(concept.value, f"{where}.data.concepts[{i}].value") >= 0.5
            or (negate and concept.value == 0.0),
        )
        for i, concept in enumerate(annotation.data.concepts)
    )


def _input_groups(message: resources_pb2.Input, where: str) -> Iterator[tuple[Condition, ...]]:
    _refuse_others(message, {"id", "dataset_ids", "status", "data"}, where)
    _refuse_others(message.data, set(_MEDIA), f"{where}.data")
    if message.id:
        yield (FieldCondition(field="input.id", value=message.id),)
    for dataset_id in message.dataset_ids:
        _refuse_nul(dataset_id, f"{where}.dataset_ids")
    yield tuple(DatasetCondition(dataset_id=dataset_id) for dataset_id in message.dataset_ids)
    # Media types and the status are alternatives of one group (api-spec 4.2, rule 3).
    kinds: list[Condition] = [
        FieldCondition(field="input.media", value=media) for media in _MEDIA if message.data.HasField(media)
    ]
    if message.status.code:
        kinds.append(FieldCondition(field="input.status", value=message.status.code))
    yield tuple(kinds)


# Shared -------------------------------------------------------------------------------------------


def _concept_name(concept: resources_pb2.Concept, language: str, where: str) -> ConceptName:
    if not concept.id and not concept.name:
        raise SearchInvalid(f"{where} has neither id nor name; say which concept you mean.")
    _refuse_others(concept, _IGNORED_IN_CONCEPT, where)
    spoken = concept.language or language
    return ConceptName(id=concept.id, name=concept.name, language=_LANGUAGES.get(spoken.lower(), spoken))


def _share(value: float, where: str) -> float:
    if not 0.0 <= value <= 1.0:
        raise SearchInvalid(f"{where} is {value:g}; it lies between 0 (does not have it) and 1 (has it).")
    return value


def _refuse_others(message: Message, known: set[str] | frozenset[str], where: str) -> None:
    for field, value in message.ListFields():
        if field.name not in known and not _is_no_op(field.name, value):
            raise SearchInvalid(f"{where}.{field.name}: this version cannot search by this field; leave it out.")
        if isinstance(value, str):
            _refuse_nul(value, f"{where}.{field.name}")


def _refuse_nul(text: str, where: str) -> None:
    if "\0" in text:
        raise SearchInvalid(f"{where} holds a NUL character, which no stored text has; remove it.")


def _is_no_op(name: str, value: object) -> bool:
    return isinstance(value, Message) and name != "text" and not value.ListFields()
