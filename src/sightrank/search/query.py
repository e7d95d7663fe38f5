"""The algebra of a search: what was asked, free of wire format and of SQL.

A search is a conjunction of filters and a list of ranks. A filter is a conjunction of groups, a group a disjunction of
conditions (api-spec 4.2); ``negate`` turns the whole filter round. A rank is a list of terms whose scores are
combined by their geometric mean.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import Enum


class Unit(Enum):
    """What one hit stands for."""

    ANNOTATION = "annotation"
    INPUT = "input"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConceptName:
    """A concept as somebody named it: by id, or by name in a language ('' is the app's own)."""

    id: str = ""
    name: str = ""
    language: str = ""

    def describe(self) -> str:
        if self.id and self.id == self.name:
            return f"id or name {self.id!r}"
        return f"id {self.id!r}" if self.id else f"name {self.name!r}"


# Terms of a rank ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ConceptTerm:
    """Has the concept (value 1), or has it not (value 0), or anything between."""

    concept: ConceptName
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageTerm:
    """Looks like this picture: exactly one of ``url`` and ``data`` is set.

    ``bucket``: of the app that a hosted URL may name; 0 is the app that is searched.
    """

    url: str = ""
    data: bytes = b""
    bucket: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class InputTerm:
    """Looks like this indexed input: the mean of its vectors."""

    input_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorTerm:
    """Looks like the mean of these raw embeddings."""

    vectors: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTerm:
    """Looks like what the text says; ``language`` is that of the query ('' is the app's own)."""

    raw: str
    language: str = ""


Term = ConceptTerm | ImageTerm | InputTerm | VectorTerm | TextTerm


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """One Rank message. ``model_version_id`` chooses among model versions when the workflow has several."""

    terms: tuple[Term, ...]
    negate: bool = False
    model_version_id: str = ""


# Conditions of a filter ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ConceptCondition:
    """An annotation says that the concept is there (``positive``), or that it is not."""

    concept: ConceptName
    positive: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldCondition:
    """What is wanted of one field: a key of ``search.fields.FIELDS``, whose row says what ``value`` is."""

    field: str
    value: Hashable


Condition = ConceptCondition | FieldCondition


@dataclass(frozen=True, slots=True, kw_only=True)
class Circle:
    """All places within ``radians`` (a central angle, at most pi) of a point given in degrees."""

    latitude: float
    longitude: float
    radians: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GeoBox:
    """All places between two latitudes and two longitudes, in degrees, borders included."""

    south: float
    west: float
    north: float
    east: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """From ``start`` to ``end``, both included; None leaves a side open."""

    start: datetime | None
    end: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """``groups`` are ANDed, the conditions of one group ORed; ``negate`` holds for all of it."""

    groups: tuple[tuple[Condition, ...], ...]
    negate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A parsed search. ``offset`` and ``limit`` count hits; ``min_value`` is the lowest score kept; ``as_of``: of what
    there was then, with annotations as they were, and with the vectors and models of now. ``suggests``: the hits are
    what to label next with the one concept that it ranks by.
    """

    unit: Unit
    filters: tuple[Filter, ...]
    ranks: tuple[Rank, ...]
    min_value: float
    offset: int
    limit: int
    as_of: datetime | None = None
    suggests: bool = False

    @property
    def narrows(self) -> bool:
        """Whether something may be left out of the hits before they are ranked."""
        return bool(self.filters) or self.as_of is not None


def conditions(query: Query) -> Iterator[Condition]:
    """Every condition of every filter."""
    return (condition for item in query.filters for group in item.groups for condition in group)
