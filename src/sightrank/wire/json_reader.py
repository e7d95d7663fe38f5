"""A JSON object to a protobuf message, by plans made once per message type at start-up.

Proto3 JSON with Clarifai's leniencies (api-spec 1.2, 1.3): unknown fields are ignored, names may be snake_case or
camelCase, ``null`` is absent, and an absent field with ``cl_default_float`` takes that default (``Concept.value`` is
1.0 in hand-written JSON). A value of the wrong type is a ``BadRequestFormat`` that names the field by its path.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from clarifai_grpc.grpc.api.utils import extensions_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from sightrank.errors import BadRequestFormat
from sightrank.wire.json_text import clip, kind_of
from sightrank.wire.scalars import FieldError, Read, scalar_reader

#: Protobuf parsers refuse messages nested deeper than this, so nothing deeper may come in (and later be sent out).
MAX_DEPTH = 100

#: Puts a JSON value into a message: message, value, depth.
_Set = Callable[[Message, Any, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """How one field is set; ``oneof`` is the name of the group of which only one field may be set.

    ``null`` leaves a field out, except in one that holds any JSON value, where it is a value.
    """

    set: _Set
    oneof: str
    takes_null: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Default:
    """A field that takes ``value`` when none of its names is in the object."""

    field: str
    names: tuple[str, ...]
    value: float


@dataclass(slots=True)
class _Plan:
    """The fields of one message type by every name they go by."""

    entries: dict[str, _Entry] = field(default_factory=dict)
    defaults: list[_Default] = field(default_factory=list)


class JsonReader:
    """Reads JSON objects into messages of the given types and all types inside them."""

    def __init__(self, descriptors: Iterable[Descriptor]) -> None:
        # All plans are made here: afterwards they are only read, so several threads may parse at once.
        self._plans: dict[str, _Plan] = {}
        for descriptor in descriptors:
            self._plan(descriptor)

    def fill(self, message: Message, value: dict[str, Any]) -> None:
        """Set the fields of ``message`` that ``value`` names."""
        try:
            self._fill(message, value, 0)
        except FieldError as problem:
            raise BadRequestFormat(str(problem)) from None

    def unknown(self, descriptor: Descriptor, value: dict[str, Any]) -> list[str]:
        """The names in ``value`` that are no fields of the message, and so are ignored."""
        entries = self._plans[descriptor.full_name].entries
        return [name for name in value if name not in entries]

    def _fill(self, message: Message, value: Any, depth: int) -> None:
        if not isinstance(value, dict):
            raise FieldError(f"must be an object, not {kind_of(value)}")
        if depth > MAX_DEPTH:
            raise FieldError(f"is nested deeper than {MAX_DEPTH} levels")
        plan = self._plans[_full_name(message)]
        oneofs: dict[str, str] = {}
        for name, item in value.items():
            entry = plan.entries.get(name)
            if entry is None or (item is None and not entry.takes_null):
                continue
            if entry.oneof and oneofs.setdefault(entry.oneof, name) != name:
                raise FieldError(f"excludes `{oneofs[entry.oneof]}`: give one of the two").under(name)
            try:
                entry.set(message, item, depth + 1)
            except FieldError as problem:
                raise problem.under(name) from None
            except UnicodeEncodeError:
                raise FieldError("holds half a character (a lone surrogate)").under(name) from None
        for default in plan.defaults:
            if all(value.get(name) is None for name in default.names):
                setattr(message, default.field, default.value)

    def _plan(self, descriptor: Descriptor) -> _Plan:
        known = self._plans.get(descriptor.full_name)
        if known is not None:
            return known
        plan = self._plans[descriptor.full_name] = _Plan()
        for each in descriptor.fields:
            names = (each.name, each.json_name)
            oneof = each.containing_oneof.name if each.containing_oneof else ""
            takes_null = _holds_any_value(each)
            entry = _Entry(set=self._setter(each), oneof=oneof, takes_null=takes_null)
            plan.entries.update(dict.fromkeys(names, entry))
            default = each.GetOptions().Extensions[extensions_pb2.cl_default_float]
            if default:
                plan.defaults.append(_Default(field=each.name, names=names, value=default))
        return plan

    def _setter(self, each: FieldDescriptor) -> _Set:
        if each.message_type is None:
            read = scalar_reader(each)
            return _scalar_list_setter(each.name, read) if each.is_repeated else _scalar_setter(each.name, read)
        if each.message_type.GetOptions().map_entry:
            return self._map_setter(each.name, each.message_type)
        fill = self._filler(each.message_type)
        return _message_list_setter(each.name, fill) if each.is_repeated else _message_setter(each.name, fill)

    def _filler(self, descriptor: Descriptor) -> _Set:
        well_known = _WELL_KNOWN.get(descriptor.full_name)
        if well_known is not None:
            return well_known
        if descriptor.full_name.startswith("google.protobuf.") and descriptor.full_name.endswith("Value"):
            return _scalar_setter("value", scalar_reader(descriptor.fields_by_name["value"]))
        self._plan(descriptor)
        return self._fill

    def _map_setter(self, field_name: str, entry: Descriptor) -> _Set:
        key_field, value_field = (entry.fields_by_name[name] for name in ("key", "value"))
        read_key = scalar_reader(key_field)
        fill = self._filler(value_field.message_type) if value_field.message_type else None
        read = None if value_field.message_type else scalar_reader(value_field)

        def set_map(message: Message, value: Any, depth: int) -> None:
            if not isinstance(value, dict):
                raise FieldError(f"must be an object, not {kind_of(value)}")
            entries = getattr(message, field_name)
            for name, item in value.items():
                try:
                    key = read_key(name)
                    if fill is not None:
                        fill(entries[key], item, depth + 1)
                    elif read is not None:
                        entries[key] = read(item)
                except FieldError as problem:
                    raise problem.under(clip(name)) from None

        return set_map


def _holds_any_value(each: FieldDescriptor) -> bool:
    message_type = each.message_type
    return message_type is not None and message_type.full_name == "google.protobuf.Value" and not each.is_repeated


def _full_name(message: Any) -> str:
    return str(message.DESCRIPTOR.full_name)


def _scalar_setter(name: str, read: Read) -> _Set:
    def set_scalar(message: Message, value: Any, depth: int) -> None:
        setattr(message, name, read(value))

    return set_scalar


def _scalar_list_setter(name: str, read: Read) -> _Set:
    def set_list(message: Message, value: Any, depth: int) -> None:
        target = getattr(message, name)
        for index, item in enumerate(_as_list(value)):
            try:
                target.append(read(item))
            except FieldError as problem:
                raise problem.under(f"[{index}]") from None

    return set_list


def _message_setter(name: str, fill: _Set) -> _Set:
    def set_message(message: Message, value: Any, depth: int) -> None:
        target = getattr(message, name)
        # An empty object is a message that is there: `"geo_point": {}` is the point (0, 0), not no point.
        target.SetInParent()
        fill(target, value, depth)

    return set_message


def _message_list_setter(name: str, fill: _Set) -> _Set:
    def set_list(message: Message, value: Any, depth: int) -> None:
        target = getattr(message, name)
        for index, item in enumerate(_as_list(value)):
            try:
                fill(target.add(), item, depth)
            except FieldError as problem:
                raise problem.under(f"[{index}]") from None

    return set_list


def _as_list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise FieldError(f"must be a list, not {kind_of(value)}")
    return value


def _fill_from_text(message: Any, value: Any, depth: int) -> None:
    """Timestamps (RFC 3339) and durations ("3.5s") read their own text form."""
    if not isinstance(value, str):
        raise FieldError(f"must be a text such as {_EXAMPLES[message.DESCRIPTOR.full_name]}, not {kind_of(value)}")
    try:
        message.FromJsonString(value)
    except (ValueError, OverflowError):
        example = _EXAMPLES[message.DESCRIPTOR.full_name]
        raise FieldError(f"is `{clip(value, 40)}`, and must look like {example}") from None


def _fill_struct(message: Any, value: Any, depth: int) -> None:
    if not isinstance(value, dict):
        raise FieldError(f"must be an object, not {kind_of(value)}")
    for name, item in value.items():
        _fill_value(message.fields[name], item, depth + 1)


def _fill_list(message: Any, value: Any, depth: int) -> None:
    for item in _as_list(value):
        _fill_value(message.values.add(), item, depth + 1)


def _fill_value(message: Any, value: Any, depth: int) -> None:
    # One step of JSON is two nested messages here (a Value and the Struct or list in it).
    if depth * 2 > MAX_DEPTH:
        raise FieldError(f"is nested deeper than {MAX_DEPTH // 2} levels")
    if value is None:
        message.null_value = 0
    elif isinstance(value, bool):
        message.bool_value = value
    elif isinstance(value, str):
        message.string_value = value
    elif isinstance(value, int | float):
        message.number_value = _as_double(value)
    elif isinstance(value, dict):
        message.struct_value.SetInParent()
        _fill_struct(message.struct_value, value, depth)
    else:
        message.list_value.SetInParent()
        _fill_list(message.list_value, value, depth)


def _as_double(value: float) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise FieldError("holds a number outside JSON's range")
    return number


_EXAMPLES = {
    "google.protobuf.Timestamp": "`2024-05-01T12:00:00.5Z`",
    "google.protobuf.Duration": "`3.5s`",
}

_WELL_KNOWN: dict[str, _Set] = {
    "google.protobuf.Timestamp": _fill_from_text,
    "google.protobuf.Duration": _fill_from_text,
    "google.protobuf.Struct": _fill_struct,
    "google.protobuf.ListValue": _fill_list,
    "google.protobuf.Value": _fill_value,
}
