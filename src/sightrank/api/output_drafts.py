"""What models and versions are posted to put out, concepts and parameters: checked, patched (api-spec 5.2). No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from clarifai_grpc.grpc.api import resources_pb2
from google.protobuf import struct_pb2

from sightrank.api.annotation_data import named_concepts
from sightrank.api.annotation_patch import merge_json, remove_json
from sightrank.api.model_type_table import TypeCard
from sightrank.errors import ConceptsInvalid, ModelInvalidArgument
from sightrank.ingest.rows import NamedConcept
from sightrank.search.contents import struct_to_json

MAX_CONCEPTS = 2000
MAX_STORED_BYTES = 2**20


def stored_bytes(message: resources_pb2.ModelVersion | resources_pb2.OutputInfo, where: str) -> bytes:
    """The message as it is stored. Raises ModelInvalidArgument where it has more bytes than are kept."""
    data = message.SerializeToString()
    if len(data) > MAX_STORED_BYTES:
        raise ModelInvalidArgument(
            f"{where} has {len(data)} bytes with its concepts and parameters; {MAX_STORED_BYTES} is the limit."
        )
    return data


def with_concepts(
    output_info: resources_pb2.OutputInfo, concepts: Sequence[NamedConcept], ids: Sequence[str]
) -> resources_pb2.OutputInfo:
    """What is stored: concepts by id, each with its value."""
    message = resources_pb2.OutputInfo()
    message.CopyFrom(output_info)
    values = {id: concept.value for id, concept in zip(ids, concepts, strict=True)}
    message.data.concepts.extend(resources_pb2.Concept(id=id, value=value) for id, value in values.items())
    return message


def new_concepts(card: TypeCard, output_info: resources_pb2.OutputInfo, where: str) -> tuple[NamedConcept, ...]:
    """The concepts as posted. Raises ModelInvalidArgument for one that cannot be, or too many.

    The values of those that are learnt mean nothing: gRPC programs mostly send 0.
    """
    try:
        named = named_concepts(output_info.data.concepts, f"{where}.data.concepts")
    except ConceptsInvalid as error:
        raise ModelInvalidArgument(error.details) from error
    few_enough(named, where)
    return tuple(replace(concept, value=1.0) for concept in named) if card.trainable else named


def few_enough(concepts: tuple[NamedConcept, ...], where: str) -> tuple[NamedConcept, ...]:
    """The same. Raises ModelInvalidArgument where a model could not learn so many."""
    if len(concepts) > MAX_CONCEPTS:
        raise ModelInvalidArgument(f"{where} has {len(concepts)} concepts; {MAX_CONCEPTS} is the limit.")
    return concepts


def stored_concepts(output_info: resources_pb2.OutputInfo) -> tuple[NamedConcept, ...]:
    """Those that ``with_concepts`` put in."""
    return tuple(NamedConcept(id=one.id, name="", value=one.value) for one in output_info.data.concepts)


def patched_concepts(
    before: tuple[NamedConcept, ...], sent: tuple[NamedConcept, ...], action: str
) -> tuple[NamedConcept, ...]:
    """Overwrite replaces them, remove takes away, and merge adds; where none are sent they stay."""
    if not sent:
        return before
    if action == "overwrite":
        return tuple(sorted(sent, key=lambda concept: concept.id or concept.name))
    if action == "remove":
        named = {concept.id or concept.name for concept in sent}
        return tuple(concept for concept in before if concept.id not in named)
    both = {concept.id: concept for concept in before}
    both |= {concept.id or concept.name: concept for concept in sent}
    return tuple(both.values())


def patched_output(
    stored: resources_pb2.OutputInfo, sent: resources_pb2.OutputInfo, action: str
) -> resources_pb2.OutputInfo:
    """Fields that are not sent are kept; structs are replaced by overwrite and merged key by key otherwise."""
    output_info = without_concepts(stored)
    if action == "remove":
        left = remove_json(_json(stored.params), _json(sent.params))
        _replace(output_info.params, left)
        return output_info
    output_info.output_config.MergeFrom(sent.output_config)
    structs = (
        (output_info.params, stored.params, sent.params),
        (
            output_info.output_config.hyper_params,
            stored.output_config.hyper_params,
            sent.output_config.hyper_params,
        ),
    )
    for target, old, new in structs:
        if new.fields:
            _replace(target, _json(new) if action == "overwrite" else merge_json(_json(old), _json(new)))
    return output_info


def without_concepts(output_info: resources_pb2.OutputInfo) -> resources_pb2.OutputInfo:
    """A copy."""
    message = resources_pb2.OutputInfo()
    message.CopyFrom(output_info)
    message.ClearField("data")
    return message


def storable(output_info: resources_pb2.OutputInfo, where: str) -> resources_pb2.OutputInfo:
    """The same. Raises ModelInvalidArgument for parameters that cannot be stored or are too large."""
    config = output_info.output_config
    size = output_info.params.ByteSize() + config.ByteSize()
    if size > MAX_STORED_BYTES:
        raise ModelInvalidArgument(f"{where}: parameters have {size} bytes; {MAX_STORED_BYTES} is the limit.")
    struct_to_json(output_info.params, ModelInvalidArgument, f"{where}.params")
    struct_to_json(config.hyper_params, ModelInvalidArgument, f"{where}.output_config.hyper_params")
    struct_to_json(config.model_metadata, ModelInvalidArgument, f"{where}.output_config.model_metadata")
    return output_info


def _json(struct: struct_pb2.Struct) -> dict[str, Any]:
    return struct_to_json(struct, ModelInvalidArgument)


def _replace(struct: struct_pb2.Struct, values: Mapping[str, Any]) -> None:
    struct.Clear()
    struct.update(values)
