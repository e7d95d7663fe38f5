"""Pages: which part of a list or of the hits a request asks for (api-spec 1.6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, LiteralString, TypeVar

from psycopg import sql

from sightrank.errors import InvalidRequest, SearchInvalid

DEFAULT_PER_PAGE = 128
MAX_PER_PAGE = 1000
MAX_SEARCH_DEPTH = 10_000

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page:
    """``number`` counts from 1. A page past the end is empty, never an error."""

    number: int
    per_page: int

    @property
    def offset(self) -> int:
        return (self.number - 1) * self.per_page

    def of(self, items: Sequence[T]) -> Sequence[T]:
        """This page of a sequence that is in memory anyway."""
        return items[self.offset : self.offset + self.per_page]

    @property
    def clause(self) -> sql.Composed:
        """LIMIT and OFFSET as literals, so that they can be pushed down to shards."""
        return sql.SQL("LIMIT {} OFFSET {}").format(sql.Literal(self.per_page), sql.Literal(self.offset))

    def limit(self, statement: LiteralString | sql.Composable) -> sql.Composed:
        """The statement, cut to this page."""
        body = sql.SQL(statement) if isinstance(statement, str) else statement
        return sql.SQL("{} {}").format(body, self.clause)


def list_page(request: Any) -> Page:
    """The page of a list rpc (fields ``page`` and ``per_page``; 0 means default). Raises InvalidRequest over 1000."""
    if request.per_page > MAX_PER_PAGE:
        raise InvalidRequest(f"per_page is {request.per_page}; it can be at most {MAX_PER_PAGE}. Fetch several pages.")
    return Page(request.page or 1, request.per_page or DEFAULT_PER_PAGE)


def search_page(pagination: Any) -> Page:
    """The page of a search (message ``Pagination``). Raises SearchInvalid beyond the 10,000th hit."""
    page = list_page(pagination)
    if page.number * page.per_page > MAX_SEARCH_DEPTH:
        raise SearchInvalid(
            f"page * perPage cannot exceed {MAX_SEARCH_DEPTH}; this request asks for {page.number} * {page.per_page}."
            " Narrow the search by filters instead."
        )
    return page
