"""JSON that a filter wants contained: Structs to canonical text. No I/O."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from google.protobuf import struct_pb2

from sightrank.errors import SearchInvalid

#: Bounds of one Struct in a filter: values of any kind in it, and how deep they may lie.
MAX_VALUES = 1000
MAX_DEPTH = 32
MAX_CHARACTERS = 100_000


def wanted_contents(struct: struct_pb2.Struct, where: str) -> Iterator[str]:
    """One JSON document for each top-level key, for they are alternatives. Raises SearchInvalid."""
    budget = [MAX_VALUES]
    for key in sorted(struct.fields):
        document = {_text(key, where): _value(struct.fields[key], f"{where}.{key}", MAX_DEPTH, budget)}
        text = json.dumps(document, ensure_ascii=False, sort_keys=True)
        if len(text) > MAX_CHARACTERS:
            raise SearchInvalid(f"{where}.{key:.40} is {len(text)} characters long; at most {MAX_CHARACTERS} are read.")
        yield text


def _value(value: struct_pb2.Value, where: str, depth: int, budget: list[int]) -> Any:
    budget[0] -= 1
    if budget[0] < 0:
        raise SearchInvalid(f"{where:.200}: a filter can want at most {MAX_VALUES} values contained.")
    if depth == 0:
        raise SearchInvalid(f"{where:.200} lies deeper than {MAX_DEPTH} levels, the most a filter can look into.")
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        fields = value.struct_value.fields
        return {_text(key, where): _value(fields[key], f"{where}.{key}", depth - 1, budget) for key in fields}
    if kind == "list_value":
        items = value.list_value.values
        return [_value(item, f"{where}[{i}]", depth - 1, budget) for i, item in enumerate(items)]
    if kind == "number_value":
        return _number(value.number_value, where)
    if kind == "string_value":
        return _text(value.string_value, where)
    return value.bool_value if kind == "bool_value" else None


def _number(number: float, where: str) -> int | float:
    if not math.isfinite(number):
        raise SearchInvalid(f"{where:.200} is a number that is not finite; JSON has no such number.")
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def _text(text: str, where: str) -> str:
    if "\0" in text:
        raise SearchInvalid(f"{where:.200} holds a NUL character, which no stored text has; remove it.")
    return text
