"""JSON text to a Python object, and back. Says of broken JSON where it breaks and, if it can be seen, why."""

from __future__ import annotations

import json
import re
from typing import Any

from sightrank.errors import BadRequestFormat

#: A text value somebody forgot to quote: the guide's cURL example pastes bare base64 after the colon.
_BARE_TEXT = re.compile(r"[A-Za-z/+_][^\s\",}\]]*")


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object of a request body, whatever its Content-Type. Nothing, blanks and ``null`` are ``{}``.

    Literal newlines inside texts are accepted (the guide pastes the wrapped output of ``base64`` into its bodies).
    """
    if not body or body.isspace():
        return {}
    try:
        value = json.loads(body, strict=False)
    except json.JSONDecodeError as error:
        raise BadRequestFormat(_explain(error)) from None
    except UnicodeDecodeError as error:
        raise BadRequestFormat(f"The body is not UTF-8 text (byte {error.start}); send images as base64.") from None
    except RecursionError:
        raise BadRequestFormat("The body nests objects and lists too deeply.") from None
    except ValueError as error:
        raise BadRequestFormat(f"The body is not readable as JSON: {error}.") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadRequestFormat(f"The body must be a JSON object {{…}}, not {kind_of(value)}.")
    return value


def kind_of(value: object) -> str:
    """What a parsed JSON value is, in words for error texts."""
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    kinds = {str: "a text", list: "a list", dict: "an object", type(None): "null"}
    return kinds.get(type(value), "something else")


def clip(text: str, length: int = 24) -> str:
    """The start of a text, for error texts: a request may hold a megabyte of base64."""
    return text if len(text) <= length else text[:length] + "…"


def _explain(error: json.JSONDecodeError) -> str:
    where = f"line {error.lineno}, column {error.colno}"
    if error.pos == 0:
        return f"The body is not JSON: {where}: a JSON object {{…}} is expected, found {_found(error.doc)}."
    return f"The body is not JSON: {where}: {_reason(error.msg, error.doc[error.pos :])}"


def _reason(message: str, rest: str) -> str:
    found = _found(rest)
    bare = _BARE_TEXT.match(rest)
    if message == "Expecting value" and rest[:1] == "'":
        return f"texts stand in double quotes, found {found}."
    if message == "Expecting value" and rest[:1] in ("]", "}"):
        return f"a value is missing before {found} (or the comma before it is one too many)."
    if message == "Expecting value" and bare:
        return f"a value is expected, found {found}; a text, such as base64, must stand in double quotes."
    if message.startswith("Expecting property name") and rest[:1] == "}":
        return "the comma before `}` is one too many."
    if message.startswith("Unterminated string"):
        return f"a text is opened and never closed: {found}."
    if message == "Extra data":
        return f"the object has ended, and more follows: {found}."
    return f"{message[:1].lower()}{message[1:]}, found {found}."


def _found(rest: str) -> str:
    return f"`{clip(rest.splitlines()[0])}`" if rest.strip() else "the end of the body"
