"""The algebra of a search: what was asked, free of wire format and of SQL.

A search is a conjunction of filters and a list of ranks. A filter is a conjunction of groups, a group a disjunction of
conditions (api-spec 4.2); ``negate`` turns the whole filter round. A rank is a list of terms whose scores are
combined by their geometric mean.
"""

from __future__ import annotations

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
        return f"id {self.id!r}" if self.id else f"name {self.name!r}"


# Terms of a rank ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ConceptTerm:
    """Has the concept (value 1), or has it not (value 0), or anything between."""

    concept: ConceptName
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageTerm:
    """Looks like this picture: exactly one of ``url`` and ``data`` is set."""

    url: str = ""
    data: bytes = b""


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
    """Looks like what the text says."""

    raw: str


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
    """A person said that the concept is there (``positive``), or that it is not."""

    concept: ConceptName
    positive: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldCondition:
    """Equality of one scalar field; ``field`` is a key of ``search.sql.FIELDS``."""

    field: str
    value: str | int | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetCondition:
    """The input is a member of the dataset."""

    dataset_id: str


Condition = ConceptCondition | FieldCondition | DatasetCondition


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """``groups`` are ANDed, the conditions of one group ORed; ``negate`` holds for all of it."""

    groups: tuple[tuple[Condition, ...], ...]
    negate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A parsed search. ``offset`` and ``limit`` count hits; ``min_value`` is the lowest score kept; ``as_of``: annotations
    as they were then, with the vectors and models of now.
    """

    unit: Unit
    filters: tuple[Filter, ...]
    ranks: tuple[Rank, ...]
    min_value: float
    offset: int
    limit: int
    as_of: datetime | None = None
