"""Texts that lists are filtered by, in which ``*`` stands for any text. Pure."""

from __future__ import annotations


def like_pattern(wanted: str, *, part: bool = False) -> str:
    """A pattern for LIKE. Without ``*`` the whole text must be ``wanted``, or with ``part`` hold it; '' fits all."""
    escaped = wanted.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    if "*" in wanted:
        return escaped.replace("*", "%")
    return f"%{escaped}%" if part or not wanted else escaped
