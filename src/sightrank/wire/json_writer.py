"""A protobuf message to JSON text, by plans made once per message type.

As Clarifai prints it (api-spec 1.2, 1.4): snake_case names, enums as integers, bytes as base64, 64-bit integers as
numbers, unset fields left out, except those marked ``cl_show_if_empty`` (``Concept.value``, the list of every
Multi…Response), which are always there.
"""

from __future__ import annotations

import json
import math
import struct
from binascii import b2a_base64
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from clarifai_grpc.grpc.api.utils import extensions_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

#: A field's value to its JSON value.
_Write = Callable[[Any], Any]

#: Whole numbers up to here are exact in a double and print without a fraction, as JavaScript does.
_EXACT = 2.0**53


@dataclass(slots=True)
class _Plan:
    """The fields of one message type: by number what they are called and how they print (None: as they are)."""

    fields: dict[int, tuple[str, _Write | None]] = field(default_factory=dict)
    always: list[tuple[str, Callable[[], Any]]] = field(default_factory=list)


class JsonWriter:
    """Writes messages of the given types and all types inside them."""

    def __init__(self, descriptors: Iterable[Descriptor]) -> None:
        self._encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False)
        self._plans: dict[str, _Plan] = {}
        for descriptor in descriptors:
            self._plan(descriptor)

    def text(self, message: Message) -> bytes:
        """The message as UTF-8 JSON."""
        return self._encoder.encode(self.object(message)).encode()

    def object(self, message: Message) -> dict[str, Any]:
        """The message as a dict that ``json`` can print."""
        return _write_message(self._plans[_full_name(message)], message)

    def _plan(self, descriptor: Descriptor) -> _Plan:
        known = self._plans.get(descriptor.full_name)
        if known is not None:
            return known
        plan = self._plans[descriptor.full_name] = _Plan()
        for each in descriptor.fields:
            plan.fields[each.number] = (each.name, self._writer(each))
            # As in the official converter: message fields and members of a oneof are shown only when set.
            shown = each.GetOptions().Extensions[extensions_pb2.cl_show_if_empty] and not each.has_presence
            if shown:
                plan.always.append((each.name, list if each.is_repeated else _constant(each.default_value)))
        return plan

    def _writer(self, each: FieldDescriptor) -> _Write | None:
        if each.message_type is not None and each.message_type.GetOptions().map_entry:
            value_field = each.message_type.fields_by_name["value"]
            return _map_writer(self._single_writer(value_field))
        write = self._single_writer(each)
        return _list_writer(write) if each.is_repeated else write

    def _single_writer(self, each: FieldDescriptor) -> _Write | None:
        if each.message_type is None:
            return _SCALARS.get(each.type)
        name = each.message_type.full_name
        if name in _WELL_KNOWN:
            return _WELL_KNOWN[name]
        if name.startswith("google.protobuf.") and name.endswith("Value"):
            return _wrapper_writer(_SCALARS.get(each.message_type.fields_by_name["value"].type))
        return _message_writer(self._plan(each.message_type))


def _full_name(message: Any) -> str:
    return str(message.DESCRIPTOR.full_name)


def _write_message(plan: _Plan, message: Any) -> dict[str, Any]:
    result: dict[str, Any] = {}
    fields = plan.fields
    for descriptor, value in message.ListFields():
        name, write = fields[descriptor.number]
        result[name] = value if write is None else write(value)
    for name, empty in plan.always:
        if name not in result:
            result[name] = empty()
    return result


def _message_writer(plan: _Plan) -> _Write:
    return lambda message: _write_message(plan, message)


def _list_writer(write: _Write | None) -> _Write:
    return list if write is None else lambda values: [write(value) for value in values]


def _map_writer(write: _Write | None) -> _Write:
    def write_map(entries: Any) -> dict[str, Any]:
        return {_map_key(key): entries[key] if write is None else write(entries[key]) for key in entries}

    return write_map


def _map_key(key: object) -> str:
    return str(key).lower() if isinstance(key, bool) else str(key)


def _wrapper_writer(write: _Write | None) -> _Write:
    return lambda message: message.value if write is None else write(message.value)


def _constant(value: object) -> Callable[[], object]:
    return lambda: value


def write_float(value: float) -> float | str:
    """The shortest decimal that is the same 32-bit float: 0.1, not 0.10000000149011612."""
    if not math.isfinite(value):
        return _write_double(value)
    bits = struct.pack("<f", value)
    for digits in (6, 7, 8):
        short = float(f"{value:.{digits}g}")
        if struct.pack("<f", short) == bits:
            return short
    return float(f"{value:.9g}")


def _write_double(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _write_bytes(value: bytes) -> str:
    return b2a_base64(value, newline=False).decode("ascii")


def _write_struct(message: Any) -> dict[str, Any]:
    return {name: _write_value(value) for name, value in message.fields.items()}


def _write_list(message: Any) -> list[Any]:
    return [_write_value(value) for value in message.values]


def _write_value(message: Any) -> Any:
    kind = message.WhichOneof("kind")
    if kind is None:
        # The official Python client sends an empty object inside metadata as a Value without a kind.
        return {}
    if kind == "null_value":
        return None
    value = getattr(message, kind)
    if kind == "number_value":
        return int(value) if abs(value) < _EXACT and value == int(value) else _write_double(value)
    return _STRUCTURES[kind](value) if kind in _STRUCTURES else value


def _write_own_text(message: Any) -> str:
    return str(message.ToJsonString())


_STRUCTURES: dict[str, _Write] = {"struct_value": _write_struct, "list_value": _write_list}

_SCALARS: dict[int, _Write] = {
    FieldDescriptor.TYPE_FLOAT: write_float,
    FieldDescriptor.TYPE_DOUBLE: _write_double,
    FieldDescriptor.TYPE_BYTES: _write_bytes,
}

_WELL_KNOWN: dict[str, _Write] = {
    "google.protobuf.Timestamp": _write_own_text,
    "google.protobuf.Duration": _write_own_text,
    "google.protobuf.Struct": _write_struct,
    "google.protobuf.ListValue": _write_list,
    "google.protobuf.Value": _write_value,
}
