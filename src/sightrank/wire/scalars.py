"""One JSON value to one protobuf scalar, with the leniencies of api-spec 1.2.

Numbers may come as texts, booleans as Python prints them, enums by any of their names or by number, bytes in either
base64 alphabet, wrapped or not, padded or not. What cannot be read raises ``FieldError``.
"""

from __future__ import annotations

import binascii
import math
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from sightrank.wire.json_text import clip, kind_of

#: JSON value to the Python value a message field takes.
Read = Callable[[Any], Any]

_URLSAFE_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
_BLANKS = b" \t\r\n"
_TRUE = frozenset({"true", "1"})
_FALSE = frozenset({"false", "0"})
#: Of what stands where a name of an enum should; comparing it with hundreds of names takes time.
_LONGEST_NAME = 60
_LARGEST_FLOAT = 3.4028235677973366e38


class FieldError(Exception):
    """A value that does not fit its field. ``path`` grows from the inside out while the error travels up."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path: list[str] = []

    def under(self, name: str) -> FieldError:
        self.path.insert(0, name)
        return self

    def __str__(self) -> str:
        return f"`{'.'.join(self.path).replace('.[', '[')}` {self.reason}."


def scalar_reader(field: FieldDescriptor) -> Read:
    """The function that reads values of one scalar or enum field."""
    if field.enum_type is not None:
        numbers = {name: value.number for name, value in field.enum_type.values_by_name.items()}
        return lambda value: read_enum(value, numbers)
    if field.type == FieldDescriptor.TYPE_FLOAT:
        return lambda value: read_float(value, _LARGEST_FLOAT)
    return _SIMPLE[field.cpp_type] if field.type != FieldDescriptor.TYPE_BYTES else read_bytes


def read_text(value: Any) -> str:
    if not isinstance(value, str):
        raise FieldError(f"must be a text, not {kind_of(value)}")
    return value


def read_bool(value: Any) -> bool:
    text = str(value).lower()
    if isinstance(value, bool | str | int) and text in _TRUE | _FALSE:
        return text in _TRUE
    raise FieldError(f"must be true or false, not {_shown(value)}")


def read_integer(value: Any, low: int, high: int) -> int:
    number = _as_integer(value)
    if not low <= number <= high:
        raise FieldError(f"is {clip(str(number))}, outside {low} … {high}")
    return number


def read_float(value: Any, largest: float = math.inf) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise FieldError(f"must be a number, not {kind_of(value)}")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise FieldError(f"must be a number, not {_shown(value)}") from None
    if abs(number) > largest and not math.isinf(number):
        raise FieldError(f"is {number}, more than a float holds")
    return number


def read_bytes(value: Any) -> bytes:
    text = read_text(value)
    if text.startswith("data:"):
        raise FieldError("must be bare base64: leave out the `data:…;base64,` in front")
    try:
        code = text.encode("ascii").translate(_URLSAFE_TO_STANDARD, _BLANKS).rstrip(b"=")
        return binascii.a2b_base64(code + b"=" * (-len(code) % 4), strict_mode=True)
    except (UnicodeEncodeError, binascii.Error):
        raise FieldError(f"is not base64: `{clip(text)}`") from None


def read_enum(value: Any, numbers: Mapping[str, int]) -> int:
    if isinstance(value, str) and value in numbers:
        return numbers[value]
    if isinstance(value, str) and not value.lstrip("-").isdigit():
        raise FieldError(f"is `{clip(value, 60)}`, which is none of its names{_hint(value, numbers)}")
    return read_integer(value, -(2**31), 2**31 - 1)


def _hint(name: str, names: Collection[str]) -> str:
    """Names that hold this text or look like it; where none does, the first ones."""
    wanted = name.upper()[:_LONGEST_NAME]
    holding = sorted((each for each in names if len(wanted) >= 3 and wanted in each), key=len)
    # Only a slip of the pen is looked for: to compare it with hundreds of names costs milliseconds.
    closest = holding[:5] or get_close_matches(wanted, names, cutoff=0.8)
    return f"; the closest: {', '.join(closest)}" if closest else f", such as {clip(', '.join(names), 120)}"


def _as_integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise FieldError(f"must be a whole number, not {kind_of(value)}")
    try:
        number = int(value)
        if isinstance(value, float) and number != value:
            raise ValueError
    except (ValueError, OverflowError):
        raise FieldError(f"must be a whole number, not {_shown(value)}") from None
    return number


def _shown(value: Any) -> str:
    return f"`{clip(str(value))}`"


_SIMPLE: Mapping[int, Read] = {
    FieldDescriptor.CPPTYPE_STRING: read_text,
    FieldDescriptor.CPPTYPE_BOOL: read_bool,
    FieldDescriptor.CPPTYPE_INT32: lambda value: read_integer(value, -(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: lambda value: read_integer(value, -(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: lambda value: read_integer(value, 0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: lambda value: read_integer(value, 0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_DOUBLE: read_float,
}
