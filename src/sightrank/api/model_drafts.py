"""Models as posted: what of them is stored, checked (api-spec 5.2). No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clarifai_grpc.grpc.api import resources_pb2
from psycopg.types.json import Jsonb

from sightrank.api.annotation_patch import merge_json, remove_json
from sightrank.api.apps import PRIVATE, plain_text
from sightrank.api.model_type_table import TypeCard
from sightrank.api.model_types import type_card
from sightrank.api.output_drafts import (
    few_enough,
    new_concepts,
    patched_concepts,
    patched_output,
    storable,
    stored_concepts,
    without_concepts,
)
from sightrank.api.texts import bounded_text, image_link, visibility_of
from sightrank.errors import InvalidRequest, ModelInvalidArgument, quoted
from sightrank.ingest.rows import NamedConcept, new_id
from sightrank.search.contents import struct_to_json

DEFAULT_TYPE = "embedding-classifier"
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_LISTS = ("toolkits", "use_cases", "languages", "check_consents")
_ACTIONS = ("merge", "overwrite", "remove")


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


def new_model(item: resources_pb2.Model, where: str) -> ModelDraft:
    """A model that is to be made. Raises ModelInvalidArgument."""
    card = type_card(item.model_type_id or DEFAULT_TYPE)
    if not card.creatable:
        raise ModelInvalidArgument(
            f"{where}.model_type_id is {card.id}: such models come with the server, they cannot be made."
        )
    columns = {
        "id": id_or_new(item.id, f"{where}.id"),
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
        concepts=new_concepts(card, item.output_info, f"{where}.output_info"),
        output_info=without_concepts(storable(item.output_info, f"{where}.output_info")),
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
    before = stored_concepts(stored_output)
    sent = new_concepts(card, item.output_info, f"{where}.output_info")
    words = {name: _words(getattr(item, name), f"{where}.{name}") for name in _LISTS}
    for name, values in words.items():
        columns[name] = patched_words(stored[name], values, action) if values else list(stored[name])
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
        concepts=few_enough(patched_concepts(before, sent, action), where),
        output_info=patched_output(stored_output, storable(item.output_info, f"{where}.output_info"), action),
        says_output=item.HasField("output_info"),
    )


def checked_action(action: str) -> str:
    """Raises InvalidRequest for what is no action."""
    if action not in _ACTIONS:
        raise InvalidRequest(f"action is {action!r}; it can be {', '.join(_ACTIONS)}.")
    return action


def id_or_new(wanted: str, where: str) -> str:
    """The id of a model, a version or an evaluation that is to be made. Raises ModelInvalidArgument."""
    return checked_id(wanted, where) if wanted else new_id()


def checked_id(wanted: str, where: str) -> str:
    """The same. Raises ModelInvalidArgument for what can be no id of a model, a version or an evaluation."""
    if not _ID.fullmatch(wanted):
        raise ModelInvalidArgument(
            f"{where} is {quoted(wanted)}; use up to 128 letters, digits, '-', '_' and '.', beginning with a letter or"
            " digit."
        )
    return wanted


def patched_words(stored: Sequence[str], sent: Sequence[str], action: str) -> list[str]:
    """A list after a patch that sends these words, each once."""
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
    return {
        name: bounded_text(getattr(item, name), f"{where}.{name}", ModelInvalidArgument)
        for name in ("name", "description", "notes", "task")
    }


def _words(words: Sequence[str], where: str) -> list[str]:
    return [plain_text(word, where) for word in words]


def _image_url(item: resources_pb2.Model, where: str) -> str:
    return image_link(item.image, where, ModelInvalidArgument, of="model")
