"""Static SQL by name.

Every file in ``store/sql`` holds statements, each introduced by a line ``-- name: <name>``. ``Queries`` reads one
file and hands statements out by attribute-like lookup, so SQL stays SQL: greppable, highlightable, testable with
EXPLAIN.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import LiteralString, cast

_NAME = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)


@cache
def load(noun: str) -> dict[str, LiteralString]:
    """The statements of ``store/sql/<noun>.sql`` by name. They come from the package, so they count as literals."""
    text = files("sightrank.store").joinpath("sql", f"{noun}.sql").read_text(encoding="utf-8")
    parts = _NAME.split(text)
    statements = {name: body.strip() for name, body in zip(parts[1::2], parts[2::2], strict=True)}
    if len(statements) != len(parts[1::2]):
        raise ValueError(f"store/sql/{noun}.sql names a statement twice")
    return cast("dict[str, LiteralString]", statements)
