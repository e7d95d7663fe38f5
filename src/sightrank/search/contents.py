"""Structs as plain JSON: what is stored of them, and what a filter wants contained. No I/O."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from google.protobuf import struct_pb2

from sightrank.errors import AppError, InputInvalid, SearchInvalid

#: What a Struct can have that is stored: metadata, or parameters.
MAX_BYTES = 2**20
#: Bounds of one Struct in a filter: values of any kind in it, and how deep they may lie.
MAX_VALUES = 1000
MAX_DEPTH = 32
MAX_CHARACTERS = 100_000


def struct_to_json(
    struct: struct_pb2.Struct, refuse: type[AppError] = InputInvalid, where: str = "metadata"
) -> dict[str, Any]:
    """A Struct as plain JSON; whole numbers stay whole. Raises ``refuse`` for what the database cannot store, and for
    more than MAX_BYTES."""
    if struct.ByteSize() > MAX_BYTES:
        raise refuse(f"{where} has {struct.ByteSize()} bytes; {MAX_BYTES} is the limit.")
    return _object(struct, refuse, where)


def _object(struct: struct_pb2.Struct, refuse: type[AppError], where: str) -> dict[str, Any]:
    fields = struct.fields
    return {_text(key, refuse, where): _plain(fields[key], refuse, f"{where}.{key}") for key in fields}


def wanted_contents(struct: struct_pb2.Struct, where: str) -> Iterator[str]:
    """One JSON document for each top-level key, for they are alternatives. Raises SearchInvalid."""
    _check_bounds(struct_pb2.Value(struct_value=struct), where, MAX_DEPTH, [MAX_VALUES])
    for key, value in sorted(struct_to_json(struct, SearchInvalid, where).items()):
        text = json.dumps({key: value}, ensure_ascii=False, sort_keys=True)
        if len(text) > MAX_CHARACTERS:
            raise SearchInvalid(f"{where}.{key:.40} is {len(text)} characters long; at most {MAX_CHARACTERS} are read.")
        yield text


def _check_bounds(value: struct_pb2.Value, where: str, depth: int, budget: list[int]) -> None:
    for place, inner in _inside(value, where):
        budget[0] -= 1
        if budget[0] < 0:
            raise SearchInvalid(f"{place:.200}: a filter can want at most {MAX_VALUES} values contained.")
        if depth == 0:
            raise SearchInvalid(f"{place:.200} lies deeper than {MAX_DEPTH} levels, the most a filter can look into.")
        _check_bounds(inner, place, depth - 1, budget)


def _inside(value: struct_pb2.Value, where: str) -> Iterator[tuple[str, struct_pb2.Value]]:
    fields = value.struct_value.fields if value.HasField("struct_value") else {}
    yield from ((f"{where}.{key}", fields[key]) for key in sorted(fields))
    items = value.list_value.values if value.HasField("list_value") else ()
    yield from ((f"{where}[{place}]", item) for place, item in enumerate(items))


def _plain(value: struct_pb2.Value, refuse: type[AppError], where: str) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return _object(value.struct_value, refuse, where)
    if kind == "list_value":
        return [_plain(item, refuse, f"{where}[{place}]") for place, item in enumerate(value.list_value.values)]
    if kind == "number_value":
        return _number(value.number_value, refuse, where)
    if kind == "string_value":
        return _text(value.string_value, refuse, where)
    return value.bool_value if kind == "bool_value" else None


def _number(number: float, refuse: type[AppError], where: str) -> int | float:
    if not math.isfinite(number):
        raise refuse(f"{where:.200} is a number that is not finite; JSON has no such number.")
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def _text(text: str, refuse: type[AppError], where: str) -> str:
    if "\0" in text:
        raise refuse(f"{where:.200} holds a NUL, a zero character, which no stored text can have; remove it.")
    return text
