"""Models and versions as posted: what of them is stored, checked (api-spec 5.2, 5.4). No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from clarifai_grpc.grpc.api import resources_pb2
from google.protobuf import struct_pb2
from psycopg.types.json import Jsonb

from sightrank.api.annotation_data import named_concepts, struct_to_json
from sightrank.api.annotation_patch import merge_json, remove_json
from sightrank.api.apps import PRIVATE, plain_text
from sightrank.api.datasets import visibility_of
from sightrank.api.model_type_table import TypeCard
from sightrank.api.model_types import checked_params, type_card
from sightrank.errors import ConceptsInvalid, InvalidRequest, ModelInvalidArgument
from sightrank.ingest.rows import NamedConcept, new_id
from sightrank.vision.fitting import read_options

DEFAULT_TYPE = "embedding-classifier"
MAX_CONCEPTS = 2000
MAX_STORED_BYTES = 2**20
_MAX_TEXT_BYTES = 64 * 1024
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_LISTS = ("toolkits", "use_cases", "languages", "check_consents")
_ACTIONS = ("merge", "overwrite", "remove")
#: Of a version: what somebody brings who has trained a model elsewhere.
_UPLOADS = frozenset({"pretrained_model_config", "import_info", "inference_compute_info", "build_info"})
_FIXED = _UPLOADS | {"output_info", "train_info", "input_info"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDraft:
    """A model to be stored. ``columns``: all but its concepts; ``output_info``: without concepts."""

    card: TypeCard
    columns: Mapping[str, Any]
    concepts: tuple[NamedConcept, ...]
    output_info: resources_pb2.OutputInfo
    says_output: bool

    @property
    def id(self) -> str:
        return str(self.columns["id"])


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionDraft:
    """A version to be stored. ``message``: as posted, without concepts, and with what it has of its model."""

    id: str
    message: resources_pb2.ModelVersion
    concepts: tuple[NamedConcept, ...]
    params: Mapping[str, Any]
    training: Mapping[str, Any]

    @property
    def dataset_id(self) -> str:
        return str(self.training.get("dataset_id", ""))


def new_model(item: resources_pb2.Model, where: str) -> ModelDraft:
    """A model that is to be made. Raises ModelInvalidArgument."""
    card = type_card(item.model_type_id or DEFAULT_TYPE)
    if not card.creatable:
        raise ModelInvalidArgument(
            f"{where}.model_type_id is {card.id}: such models come with the server, they cannot be made."
        )
    columns = {
        "id": _new_id(item.id, f"{where}.id"),
        "model_type_id": card.id,
        **_texts(item, where),
        **{name: _words(getattr(item, name), f"{where}.{name}") for name in _LISTS},
        "metadata": Jsonb(struct_to_json(item.metadata, ModelInvalidArgument)),
        "image_url": _image_url(item, where),
        "visibility": visibility_of(item.visibility, f"{where}.visibility") or PRIVATE,
    }
    columns["name"] = columns["name"] or columns["id"]
    return ModelDraft(
        card=card,
        columns=columns,
        concepts=_concepts(card, item.output_info, f"{where}.output_info"),
        output_info=_without_concepts(_storable(item.output_info, f"{where}.output_info")),
        says_output=item.HasField("output_info"),
    )


def patched_model(stored: Mapping[str, Any], item: resources_pb2.Model, action: str, where: str) -> ModelDraft:
    """A stored model after a patch; what a patch leaves empty stays (api-spec 5.2).

    merge adds to lists and concepts, overwrite replaces them, concepts in order of their ids, and remove takes away
    what is named: of lists, concepts, metadata and the image. Raises ModelInvalidArgument.
    """
    card = type_card(stored["model_type_id"])
    if item.model_type_id and type_card(item.model_type_id) is not card:
        raise ModelInvalidArgument(
            f"{where}.model_type_id: model {item.id!r} is of type {card.id}, which cannot change."
        )
    columns = dict(stored)
    stored_output = resources_pb2.OutputInfo.FromString(columns.pop("output_info"))
    columns.pop("concept_ids")
    before = _stored_concepts(stored_output)
    sent = _concepts(card, item.output_info, f"{where}.output_info")
    words = {name: _words(getattr(item, name), f"{where}.{name}") for name in _LISTS}
    for name, values in words.items():
        columns[name] = _patched_list(stored[name], values, action)
    metadata = struct_to_json(item.metadata, ModelInvalidArgument)
    if action == "remove":
        _check_removable(item, where)
        if _image_url(item, where) == stored["image_url"]:
            columns["image_url"] = ""
        columns["metadata"] = Jsonb(remove_json(stored["metadata"], metadata))
    else:
        image = {"image_url": _image_url(item, where)}
        changes = {**_texts(item, where), **image, "visibility": visibility_of(item.visibility, f"{where}.visibility")}
        columns |= {name: value for name, value in changes.items() if value}
        if item.HasField("metadata"):
            metadata = metadata if action == "overwrite" else merge_json(stored["metadata"], metadata)
            columns["metadata"] = Jsonb(metadata)
        else:
            columns["metadata"] = Jsonb(stored["metadata"])
    return ModelDraft(
        card=card,
        columns=columns,
        concepts=_few_enough(_patched_concepts(before, sent, action), where),
        output_info=_patched_output(stored_output, _storable(item.output_info, f"{where}.output_info"), action),
        says_output=item.HasField("output_info"),
    )


def checked_action(action: str) -> str:
    """Raises InvalidRequest for what is no action."""
    if action not in _ACTIONS:
        raise InvalidRequest(f"action is {action!r}; it can be {', '.join(_ACTIONS)}.")
    return action


def version_of_operator(draft: ModelDraft) -> VersionDraft:
    """What an operator works by from now on. Raises ModelInvalidArgument."""
    return _version(draft.card, resources_pb2.ModelVersion(), draft.output_info, draft.concepts)


def new_version(card: TypeCard, model_output: bytes, item: resources_pb2.ModelVersion, where: str) -> VersionDraft:
    """A version that is to be made of a model; what it does not say itself, the model's stored output info says.

    Raises ModelInvalidArgument.
    """
    uploads = [field.name for field, _ in item.ListFields() if field.name in _UPLOADS]
    if uploads:
        raise ModelInvalidArgument(
            f"{where}.{uploads[0]}: models are trained here or work by parameters; weights cannot be brought along."
        )
    of_model = resources_pb2.OutputInfo.FromString(model_output)
    output_info = _without_concepts(_storable(item.output_info, f"{where}.output_info"))
    if not output_info.HasField("output_config"):
        output_info.output_config.CopyFrom(of_model.output_config)
    if not output_info.HasField("params"):
        output_info.params.CopyFrom(of_model.params)
    sent = _concepts(card, item.output_info, f"{where}.output_info")
    concepts = sent or _stored_concepts(of_model)
    return _version(card, _kept(item, where), output_info, concepts, where)


def patched_version(message: bytes, item: resources_pb2.ModelVersion, action: str, where: str) -> bytes:
    """A stored version whose notes are changed. Raises ModelInvalidArgument for what never changes."""
    fixed = [field.name for field, _ in item.ListFields() if field.name in _FIXED]
    if fixed:
        raise ModelInvalidArgument(
            f"{where}.{fixed[0]}: versions do not change; make another one with PostModelVersions."
        )
    stored = resources_pb2.ModelVersion.FromString(message)
    metadata = struct_to_json(item.metadata, ModelInvalidArgument)
    old = struct_to_json(stored.metadata, ModelInvalidArgument)
    if action == "remove":
        new = remove_json(old, metadata)
    elif item.HasField("metadata"):
        new = metadata if action == "overwrite" else merge_json(old, metadata)
    else:
        new = old
    if action != "remove":
        stored.description = _text(item.description, f"{where}.description") or stored.description
        stored.license = _text(item.license, f"{where}.license") or stored.license
        stored.visibility.gettable = visibility_of(item.visibility, f"{where}.visibility") or stored.visibility.gettable
    stored.ClearField("metadata")
    stored.metadata.update(new)
    return stored_bytes(stored, where)


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


def _version(
    card: TypeCard,
    message: resources_pb2.ModelVersion,
    output_info: resources_pb2.OutputInfo,
    concepts: tuple[NamedConcept, ...],
    where: str = "output_info",
) -> VersionDraft:
    message.output_info.CopyFrom(output_info)
    said = with_concepts(output_info, concepts, [concept.id for concept in concepts])
    params = checked_params(card, said)
    return VersionDraft(
        id=_new_id(message.id, f"{where}.id"),
        message=message,
        concepts=concepts,
        params={} if card.trainable else params,
        training=_training(message, params, where) if card.trainable else {},
    )


def _training(message: resources_pb2.ModelVersion, params: Mapping[str, Any], where: str) -> dict[str, Any]:
    """How the version is to be fitted. Unknown hyper-parameters are kept: programs send those of other services."""
    config, info = message.output_info.output_config, message.train_info
    said = {**params, **_json(info.params), **_json(config.hyper_params)}
    sent = {name: value for name, value in said.items() if value is not None}
    if info.dataset.version.id or sent.get("dataset_version_id"):
        raise ModelInvalidArgument(
            f"{where}.train_info names a version of a dataset; name the dataset alone: datasets have no versions here."
        )
    training = {
        **sent,
        "dataset_id": info.dataset.id or str(sent.get("dataset_id") or ""),
        "exclusive": config.concepts_mutually_exclusive,
        "needs_positives": config.fail_on_missing_positive_examples,
    }
    try:
        read_options(training)
    except (ValueError, TypeError) as error:
        raise ModelInvalidArgument(f"{where}: a hyper-parameter has no use as it is: {error}") from error
    return training


def _kept(item: resources_pb2.ModelVersion, where: str) -> resources_pb2.ModelVersion:
    """What of a posted version its clients are shown again, without its output."""
    message = resources_pb2.ModelVersion(
        id=item.id,
        description=_text(item.description, f"{where}.description"),
        license=_text(item.license, f"{where}.license"),
    )
    visibility_of(item.visibility, f"{where}.visibility")
    struct_to_json(item.metadata, ModelInvalidArgument, f"{where}.metadata")
    struct_to_json(item.input_info.params, ModelInvalidArgument, f"{where}.input_info.params")
    struct_to_json(item.train_info.params, ModelInvalidArgument, f"{where}.train_info.params")
    for name in ("visibility", "metadata", "input_info", "train_info"):
        if item.HasField(name):
            getattr(message, name).CopyFrom(getattr(item, name))
    return message


def _concepts(card: TypeCard, output_info: resources_pb2.OutputInfo, where: str) -> tuple[NamedConcept, ...]:
    """The values of concepts that are learnt mean nothing: gRPC programs mostly send 0."""
    try:
        named = named_concepts(output_info.data.concepts, f"{where}.data.concepts")
    except ConceptsInvalid as error:
        raise ModelInvalidArgument(error.details) from error
    _few_enough(named, where)
    return tuple(replace(concept, value=1.0) for concept in named) if card.trainable else named


def _few_enough(concepts: tuple[NamedConcept, ...], where: str) -> tuple[NamedConcept, ...]:
    """The same. Raises ModelInvalidArgument where a model could not learn so many."""
    if len(concepts) > MAX_CONCEPTS:
        raise ModelInvalidArgument(f"{where} has {len(concepts)} concepts; {MAX_CONCEPTS} is the limit.")
    return concepts


def _stored_concepts(output_info: resources_pb2.OutputInfo) -> tuple[NamedConcept, ...]:
    return tuple(NamedConcept(id=one.id, name="", value=one.value) for one in output_info.data.concepts)


def _patched_concepts(
    before: tuple[NamedConcept, ...], sent: tuple[NamedConcept, ...], action: str
) -> tuple[NamedConcept, ...]:
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


def _patched_output(
    stored: resources_pb2.OutputInfo, sent: resources_pb2.OutputInfo, action: str
) -> resources_pb2.OutputInfo:
    """Fields that are not sent are kept; structs are replaced by overwrite and merged key by key otherwise."""
    output_info = _without_concepts(stored)
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


def _patched_list(stored: Sequence[str], sent: Sequence[str], action: str) -> list[str]:
    if not sent:
        return list(stored)
    if action == "remove":
        return [word for word in stored if word not in sent]
    return list(dict.fromkeys(sent if action == "overwrite" else [*stored, *sent]))


def _check_removable(item: resources_pb2.Model, where: str) -> None:
    others = [name for name in ("name", "description", "notes", "task") if getattr(item, name)]
    if others or item.visibility.gettable:
        raise ModelInvalidArgument(
            f"{where}: action remove takes {', '.join(_LISTS)}, image, metadata and output_info, not"
            f" {', '.join(others) or 'visibility'}."
        )


def _texts(item: resources_pb2.Model, where: str) -> dict[str, str]:
    return {name: _text(getattr(item, name), f"{where}.{name}") for name in ("name", "description", "notes", "task")}


def _text(text: str, where: str) -> str:
    if len(text.encode()) > _MAX_TEXT_BYTES:
        raise ModelInvalidArgument(f"{where} has {len(text.encode())} bytes; {_MAX_TEXT_BYTES} is the limit.")
    return plain_text(text, where)


def _words(words: Sequence[str], where: str) -> list[str]:
    return [plain_text(word, where) for word in words]


def _image_url(item: resources_pb2.Model, where: str) -> str:
    url = plain_text(item.image.url, f"{where}.image.url")
    if item.image.base64:
        raise ModelInvalidArgument(f"{where}.image.base64: the image of a model is a link; send image.url.")
    if url and not url.lower().startswith(("http://", "https://")):
        raise ModelInvalidArgument(f"{where}.image.url is {url[:200]!r}; it must start with http:// or https://.")
    return url


def checked_id(wanted: str, where: str) -> str:
    """The same. Raises ModelInvalidArgument for what can be no id of a model or a version."""
    if not _ID.fullmatch(wanted):
        raise ModelInvalidArgument(f"{where} is {wanted[:140]!r}; use up to 128 letters, digits, '-', '_' and '.'.")
    return wanted


def _new_id(wanted: str, where: str) -> str:
    return checked_id(wanted, where) if wanted else new_id()


def _without_concepts(output_info: resources_pb2.OutputInfo) -> resources_pb2.OutputInfo:
    message = resources_pb2.OutputInfo()
    message.CopyFrom(output_info)
    message.ClearField("data")
    return message


def _storable(output_info: resources_pb2.OutputInfo, where: str) -> resources_pb2.OutputInfo:
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
