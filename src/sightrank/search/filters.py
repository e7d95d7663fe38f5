"""Filter messages to the algebra, by the table of ``search.fields``. No I/O.

Empty messages say nothing (api-spec 4.1), but for those that the table has a row for. A set field that the table does
not know is refused by its name: ignoring it would answer another question than the one asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from clarifai_grpc.grpc.api import resources_pb2
from google.protobuf.message import Message

from sightrank.errors import SearchInvalid
from sightrank.search.fields import FIELDS, IGNORED, REFUSED, Field, Reading
from sightrank.search.naming import not_searched_by, refuse_nul
from sightrank.search.query import Condition, Filter

Found = tuple[Field, Condition]


def read_filter(message: resources_pb2.Filter, reading: Reading, where: str) -> Filter | None:
    """One Filter; None for one that says nothing. Raises SearchInvalid."""
    return filter_of(read_conditions(message, "", reading, where), negate=message.negate)


def filter_of(found: Iterable[Found], *, negate: bool) -> Filter | None:
    """Conditions of one filter in their groups; None without any."""
    groups: dict[str, list[Condition]] = {}
    for field, condition in found:
        groups.setdefault(field.group, []).append(condition)
    return Filter(groups=tuple(map(tuple, groups.values())), negate=negate) if groups else None


def read_conditions(
    message: Message, path: str, reading: Reading, where: str, moved: Mapping[str, str] | None = None
) -> Iterator[Found]:
    """Everything that is set in ``message``, which stands at ``path`` of a Filter and at ``where`` of the request.

    ``moved`` says of some paths at which others they are to be read. Raises SearchInvalid.
    """
    for descriptor, value in message.ListFields():
        below = f"{path}.{descriptor.name}" if path else descriptor.name
        place = f"{where}.{descriptor.name}"
        if isinstance(value, Message | str | bytes | int | float):
            yield from _read(value, below, reading, place, moved or {})
        else:
            for i, item in enumerate(value):
                yield from _read(item, f"{below}[]", reading, f"{place}[{i}]", moved or {})


def _read(value: Any, path: str, reading: Reading, where: str, moved: Mapping[str, str]) -> Iterator[Found]:
    path = moved.get(path, path)
    field = FIELDS.get(path)
    is_empty = isinstance(value, Message) and not value.ListFields()
    if isinstance(value, str):
        refuse_nul(value, where)
    if field is not None and (is_empty or not field.is_kind):
        for condition in field.conditions(value, reading, where):
            yield field, condition
    elif path in REFUSED:
        raise SearchInvalid(f"{where}: {REFUSED[path]}")
    elif isinstance(value, Message) and (is_empty or _leads_on(path, moved)):
        yield from read_conditions(value, path, reading, where, moved)
    elif field is not None:
        raise SearchInvalid(f"{where} holds values, but it only asks whether there is one; send it empty.")
    elif path not in IGNORED:
        raise not_searched_by(where)


def _leads_on(path: str, moved: Mapping[str, str]) -> bool:
    return any(longer.startswith(f"{path}.") for known in (FIELDS, IGNORED, moved) for longer in known)
