"""The indexes a complete database has, read off the migrations that make them."""

from __future__ import annotations

import re

from sightrank.store import migrate

_COMMENT = re.compile(r"--[^\n]*")
_INDEX = re.compile(r"CREATE (?:UNIQUE )?INDEX (\w+)\s[^;]*")
_TABLE = re.compile(r"CREATE (?:UNLOGGED )?TABLE (\w+) \((.*?)\n\);", re.DOTALL)
_DROPPED = re.compile(r"DROP INDEX (\w+)")
_UNIQUE_COLUMN = re.compile(r"^\s+(\w+) [^\n]*\bUNIQUE\b", re.MULTILINE)
_UNIQUE_COLUMNS = re.compile(r"^\s+UNIQUE \(([\w, ]+)\)", re.MULTILINE)


def expected(embedder_ids: list[int]) -> dict[str, str | None]:
    """The name of every index, with the statement that makes it; None for one that belongs to a key of its table.

    ``embedder_ids`` are those whose tables of vectors there are.
    """
    found: dict[str, str | None] = {"schema_migrations_pkey": None}
    for _, text in migrate.available().values():
        for name in _DROPPED.findall(text):  # first: what is made anew is dropped before
            found.pop(name, None)
        found |= _of_migration(_COMMENT.sub("", text))
    for number in embedder_ids:
        table = f"vectors_{number}"
        found[f"{table}_pkey"] = None
        for name, column in (("by_version", "version"), ("by_input", "input_number")):
            found[f"{table}_{name}"] = f"CREATE INDEX {table}_{name} ON {table} (bucket, {column})"
    return found


def _of_migration(text: str) -> dict[str, str | None]:
    found: dict[str, str | None] = {match[1]: " ".join(match[0].split()) for match in _INDEX.finditer(text)}
    for table, body in _TABLE.findall(text):
        if "PRIMARY KEY" in body:
            found[f"{table}_pkey"] = None
        keys = [*_UNIQUE_COLUMN.findall(body), *_UNIQUE_COLUMNS.findall(body)]
        found |= {f"{table}_{'_'.join(re.split(r', *', columns))}_key": None for columns in keys}
    return found
