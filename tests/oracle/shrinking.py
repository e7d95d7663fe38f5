"""A search that fails, made as small as it can be and still fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from tests.oracle.searches import Asked

_MOST_TRIES = 400


def shrunk(asked: Asked, fails: Callable[[Asked], bool]) -> Asked:
    """Leaves away what can be left away, one thing after the other."""
    tries = 0
    while True:
        for search in _smaller(asked.search):
            tries += 1
            candidate = replace(asked, search=search)
            if fails(candidate):
                asked = candidate
                break
            if tries > _MOST_TRIES:
                return asked
        else:
            return asked


def _smaller(message: Any) -> Iterator[Any]:
    """Copies of a message without one of its fields, one of its items, or some part of these."""
    for field, value in message.ListFields():
        yield _changed(message, lambda copy, name=field.name: copy.ClearField(name))
        if isinstance(value, Struct) or not field.message_type:
            continue
        if isinstance(value, Message):
            for part in _smaller(value):
                yield _changed(message, lambda copy, name=field.name, part=part: getattr(copy, name).CopyFrom(part))
            continue
        for place, item in enumerate(value):
            yield _changed(message, lambda copy, name=field.name, place=place: getattr(copy, name).pop(place))
            for part in _smaller(item):
                yield _changed(
                    message,
                    lambda copy, name=field.name, place=place, part=part: getattr(copy, name)[place].CopyFrom(part),
                )


def _changed(message: Any, change: Callable[..., Any]) -> Any:
    copy = type(message)()
    copy.CopyFrom(message)
    change(copy)
    return copy
