"""The three kinds of search there are, one for each rpc that posts them, and how their messages are read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum

from clarifai_grpc.grpc.api import resources_pb2

from sightrank.api.call import Call
from sightrank.api.pages import Page
from sightrank.errors import SearchInvalid
from sightrank.search.parse import parse_legacy, parse_search
from sightrank.search.query import Query, Unit

FIRST_PAGE = Page(1, 1)


class SearchKind(Enum):
    """What a hit stands for, and which form of query is read; the value is what the database calls it."""

    ANNOTATIONS = "annotations"
    INPUTS = "inputs"
    LEGACY = "legacy"


@dataclass(frozen=True, slots=True)
class SearchReader:
    """Search messages to queries. Of annotations as they were, the last ``history_days`` are kept; 0: all."""

    history_days: int

    def read(self, call: Call, kind: SearchKind, message: resources_pb2.Search, page: Page = FIRST_PAGE) -> Query:
        """The query of this page of hits. Raises SearchInvalid naming the field that is wrong."""
        me = call.require_caller().user_id
        offset, limit = page.offset, page.per_page
        if kind is SearchKind.LEGACY:
            query = parse_legacy(message.query, message, offset=offset, limit=limit, me=me)
        else:
            unit = Unit.ANNOTATION if kind is SearchKind.ANNOTATIONS else Unit.INPUT
            query = parse_search(message, unit, offset=offset, limit=limit, me=me)
        self._check_history(query)
        return query

    def _check_history(self, query: Query) -> None:
        if query.as_of is None or not self.history_days:
            return
        if (datetime.now(UTC) - query.as_of).days >= self.history_days:
            raise SearchInvalid(
                f"as_of is {query.as_of.isoformat()}, and this server keeps what annotations said for"
                f" {self.history_days} days (SIGHTRANK_HISTORY_DAYS); ask for a later time."
            )
