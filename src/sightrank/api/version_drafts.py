"""Versions of models as posted: what of them is stored, checked (api-spec 5.2, 5.4). No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clarifai_grpc.grpc.api import resources_pb2

from sightrank.api.annotation_patch import merge_json, remove_json
from sightrank.api.model_drafts import ModelDraft, id_or_new
from sightrank.api.model_type_table import TypeCard
from sightrank.api.model_types import checked_params
from sightrank.api.output_drafts import (
    new_concepts,
    storable,
    stored_bytes,
    stored_concepts,
    with_concepts,
    without_concepts,
)
from sightrank.api.texts import bounded_text, visibility_of
from sightrank.errors import ModelInvalidArgument
from sightrank.ingest.rows import NamedConcept
from sightrank.search.contents import struct_to_json
from sightrank.vision.fitting import read_options

#: What somebody brings who has trained a model elsewhere.
_UPLOADS = frozenset({"pretrained_model_config", "import_info", "inference_compute_info", "build_info"})
_FIXED = _UPLOADS | {"output_info", "train_info", "input_info"}


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

    @property
    def dataset_version_id(self) -> str:
        return str(self.training.get("dataset_version_id", ""))


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
    output_info = without_concepts(storable(item.output_info, f"{where}.output_info"))
    if not output_info.HasField("output_config"):
        output_info.output_config.CopyFrom(of_model.output_config)
    if not output_info.HasField("params"):
        output_info.params.CopyFrom(of_model.params)
    sent = new_concepts(card, item.output_info, f"{where}.output_info")
    concepts = sent or stored_concepts(of_model)
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
        stored.description = (
            bounded_text(item.description, f"{where}.description", ModelInvalidArgument) or stored.description
        )
        stored.license = bounded_text(item.license, f"{where}.license", ModelInvalidArgument) or stored.license
        stored.visibility.gettable = visibility_of(item.visibility, f"{where}.visibility") or stored.visibility.gettable
    stored.ClearField("metadata")
    stored.metadata.update(new)
    return stored_bytes(stored, where)


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
        id=id_or_new(message.id, f"{where}.id"),
        message=message,
        concepts=concepts,
        params={} if card.trainable else params,
        training=_training(message, params, where) if card.trainable else {},
    )


def _training(message: resources_pb2.ModelVersion, params: Mapping[str, Any], where: str) -> dict[str, Any]:
    """How the version is to be fitted. Unknown hyper-parameters are kept: programs send those of other services."""
    config, info = message.output_info.output_config, message.train_info
    said = {
        **params,
        **struct_to_json(info.params, ModelInvalidArgument),
        **struct_to_json(config.hyper_params, ModelInvalidArgument),
    }
    sent = {name: value for name, value in said.items() if value is not None}
    dataset_id = info.dataset.id or str(sent.get("dataset_id") or "")
    version_id = info.dataset.version.id or str(sent.get("dataset_version_id") or "")
    if version_id and not dataset_id:
        raise ModelInvalidArgument(f"{where}.train_info names a version and no dataset; send the dataset's id too.")
    training = {
        **sent,
        "dataset_id": dataset_id,
        "dataset_version_id": version_id,
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
        description=bounded_text(item.description, f"{where}.description", ModelInvalidArgument),
        license=bounded_text(item.license, f"{where}.license", ModelInvalidArgument),
    )
    visibility_of(item.visibility, f"{where}.visibility")
    struct_to_json(item.metadata, ModelInvalidArgument, f"{where}.metadata")
    struct_to_json(item.input_info.params, ModelInvalidArgument, f"{where}.input_info.params")
    struct_to_json(item.train_info.params, ModelInvalidArgument, f"{where}.train_info.params")
    for name in ("visibility", "metadata", "input_info", "train_info"):
        if item.HasField(name):
            getattr(message, name).CopyFrom(getattr(item, name))
    return message
