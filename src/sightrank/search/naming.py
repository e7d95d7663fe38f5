"""Small values that ranks and filters have in common: concepts, shares, instants. No I/O."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from clarifai_grpc.grpc.api import resources_pb2
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from sightrank.errors import SearchInvalid
from sightrank.search.query import ConceptName
from sightrank.vision.vocabulary import LANGUAGES

_LANGUAGES = {language.lower(): language for language in LANGUAGES}
_EPOCH = datetime.fromtimestamp(0, UTC)
# Fields of a concept that may be set without meaning anything to a search.
_IGNORED = frozenset({"id", "name", "value", "language", "app_id", "user_id", "created_at", "definition"})


def concept_name(concept: resources_pb2.Concept, language: str, where: str) -> ConceptName:
    """Which concept is meant; ``language`` is that of the query. Raises SearchInvalid."""
    if not concept.id and not concept.name:
        raise SearchInvalid(f"{where} has neither id nor name; say which concept you mean.")
    refuse_others(concept, _IGNORED, where)
    spoken = concept.language or language
    return ConceptName(id=concept.id, name=concept.name, language=_LANGUAGES.get(spoken.lower(), spoken))


def share(value: float, where: str) -> float:
    """A value between 0 and 1. Raises SearchInvalid for any other."""
    if not 0.0 <= value <= 1.0:
        raise SearchInvalid(f"{where} is {value:g}; it lies between 0 (does not have it) and 1 (has it).")
    return value


def instant(stamp: Timestamp, where: str, *, up: bool = False) -> datetime:
    """A time in microseconds, as stored, rounded down, or ``up``. Raises SearchInvalid for one out of range."""
    microseconds = -(-stamp.nanos // 1000) if up else stamp.nanos // 1000
    try:
        return _EPOCH + timedelta(seconds=stamp.seconds, microseconds=microseconds)
    except OverflowError as error:
        raise SearchInvalid(f"{where} is {stamp.seconds} seconds from 1970, which is no time; use one.") from error


def refuse_others(message: Message, known: frozenset[str], where: str) -> None:
    """Raises SearchInvalid for a field that a search does not understand; ignoring it would answer another question.

    Empty messages say nothing, whichever field they are in.
    """
    for field, value in message.ListFields():
        if field.name not in known and not (isinstance(value, Message) and not value.ListFields()):
            raise not_searched_by(f"{where}.{field.name}")
        if isinstance(value, str):
            refuse_nul(value, f"{where}.{field.name}")


def not_searched_by(where: str) -> SearchInvalid:
    return SearchInvalid(f"{where}: this version cannot search by this field; leave it out.")


def refuse_nul(text: str, where: str) -> None:
    """Raises SearchInvalid for text that no database holds."""
    if "\0" in text:
        raise SearchInvalid(f"{where} holds a NUL character, which no stored text has; remove it.")
