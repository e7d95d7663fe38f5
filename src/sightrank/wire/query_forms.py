"""A query string to the JSON object it stands for, as the official JSON clients write their GET requests.

Dotted names reach into messages (``user_app_id.app_id=x``), repeated keys make lists, and a list of messages arrives as
Python prints its dicts (``statuses={'code': 'ANNOTATION_SUCCESS'}``). Unknown names are ignored (api-spec 1.2), a value
that is no message where a message belongs is refused.
"""

from __future__ import annotations

import ast
import json
from typing import Any
from urllib.parse import parse_qsl

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from sightrank.errors import BadRequestFormat

_MAX_FIELDS = 2000
#: Longer texts than a client would print for a filter are not worth the risk of parsing.
_LONGEST_LITERAL = 4096
_TEXT_FORMS = ("google.protobuf.Timestamp", "google.protobuf.Duration")


def read_query(descriptor: Descriptor, query: str) -> dict[str, Any]:
    """The object a query string describes for a request of this type, ready for ``JsonReader``."""
    result: dict[str, Any] = {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise BadRequestFormat(f"The query string has more than {_MAX_FIELDS} fields.") from None
    for name, text in pairs:
        _place(result, descriptor, name.split("."), text)
    return result


def _place(target: dict[str, Any], descriptor: Descriptor, names: list[str], text: str) -> None:
    field = _find(descriptor, names[0])
    if field is None:
        return
    if len(names) > 1:
        # A list of messages has no fields of its own: what is placed here is refused, with the list's name.
        if field.message_type is not None and not field.message_type.GetOptions().map_entry:
            inner = target.setdefault(field.name, {})
            if isinstance(inner, dict):
                _place(inner, field.message_type, names[1:], text)
        return
    value = _value(field, text)
    if value is None:
        return
    if field.is_repeated and not isinstance(value, list):
        target.setdefault(field.name, []).append(value)
    else:
        target[field.name] = value


def _find(descriptor: Descriptor, name: str) -> FieldDescriptor | None:
    field: FieldDescriptor | None = descriptor.fields_by_name.get(name)
    return field if field is not None else descriptor.fields_by_camelcase_name.get(name)


def _value(field: FieldDescriptor, text: str) -> Any:
    """The JSON value of one query value; None where it says nothing."""
    if field.message_type is None:
        # `page=` says nothing; an empty text would only be refused as a number.
        return text if text or field.type == FieldDescriptor.TYPE_STRING else None
    if field.message_type.full_name in _TEXT_FORMS or field.message_type.full_name.endswith("Value"):
        return text or None
    return _literal(text) or None


def _literal(text: str) -> dict[str, Any] | list[Any] | str:
    """The dict or list a Python or JSON client printed into the query; any other text as it is, to be refused."""
    if not text.startswith(("{", "[")) or len(text) > _LONGEST_LITERAL:
        return text
    for parse in (ast.literal_eval, json.loads):
        try:
            value = parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(value, dict | list):
            return value
    return text
