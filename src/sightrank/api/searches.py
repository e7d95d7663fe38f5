"""Searches: ranked and filtered annotations and inputs (api-spec 4)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from clarifai_grpc.grpc.api import resources_pb2, service_pb2

from sightrank.api.call import AppRef, Call, Handlers
from sightrank.api.hits import Hits
from sightrank.api.pages import search_page
from sightrank.api.records import Records
from sightrank.errors import SearchInvalid, SearchNotIndexed
from sightrank.ingest.rows import new_id
from sightrank.search.engine import SearchEngine, SearchScope
from sightrank.search.parse import parse_search
from sightrank.search.query import Query, Unit
from sightrank.store.database import Database
from sightrank.store.vectors import EmbedderTable
from sightrank.vision.tagger import Tagger


class SearchModels:
    """What each base workflow searches by: its vectors and its tagger; nothing for ``Empty``."""

    def __init__(self, models: Mapping[str, tuple[EmbedderTable, Tagger, frozenset[str]]]) -> None:
        self._models = models

    def scope(self, app: AppRef) -> SearchScope:
        table, tagger, version_ids = self._models.get(app.workflow_id, (None, None, frozenset()))
        return SearchScope(
            bucket=app.bucket,
            default_language=app.default_language,
            table=table,
            tagger=tagger,
            model_version_ids=version_ids,
        )


class Searches:
    """The search rpcs."""

    def __init__(self, database: Database, engine: SearchEngine, models: SearchModels, records: Records) -> None:
        self._engine = engine
        self._models = models
        self._hits = Hits(database, records)

    def handlers(self) -> Handlers:
        return {"PostAnnotationsSearches": self.annotations, "PostInputsSearches": self.inputs}

    async def annotations(
        self, call: Call, request: service_pb2.PostAnnotationsSearchesRequest
    ) -> service_pb2.MultiSearchResponse:
        """One hit for each area that survives the filters, best first; without ranks one for each annotation."""
        return await self._search(call, request, Unit.ANNOTATION)

    async def inputs(
        self, call: Call, request: service_pb2.PostInputsSearchesRequest
    ) -> service_pb2.MultiSearchResponse:
        """One hit for each input; with ``only_count`` their number instead."""
        if not request.only_count:
            return await self._search(call, request, Unit.INPUT)
        app = call.require_app()
        scope = self._models.scope(app)
        response = service_pb2.MultiSearchResponse(id=new_id(), searches=request.searches)
        for search in request.searches or [resources_pb2.Search()]:
            query = parse_search(search, Unit.INPUT, offset=0, limit=0, me=call.require_caller().user_id)
            response.hit_counts.add(estimated_total=await self._engine.count(scope, query))
        return response

    async def _search(self, call: Call, request: Any, unit: Unit) -> service_pb2.MultiSearchResponse:
        app = call.require_app()
        if len(request.searches) > 1:
            raise SearchInvalid(f"searches has {len(request.searches)} items; send one search in a call.")
        page = search_page(request.pagination)
        search = request.searches[0] if request.searches else resources_pb2.Search()
        me = call.require_caller().user_id
        query = parse_search(search, unit, offset=page.offset, limit=page.per_page, me=me)
        response = service_pb2.MultiSearchResponse(id=new_id(), searches=request.searches)
        response.hits.extend(await self._page(app, self._models.scope(app), query))
        return response

    async def _page(self, app: AppRef, scope: SearchScope, query: Query) -> list[resources_pb2.Hit]:
        """Ranks by what this process holds, so that reading the hits tells in the same round trip whether that was all
        there is. Only if it was not, the search runs again, as of now.
        """
        seen = self._engine.seen(scope, query)
        if seen is not None:
            with suppress(SearchNotIndexed):  # the input to rank by may be newer than what this process holds
                page = await self._hits.read(app, await self._engine.run(scope, query, seen))
                if page.versions == seen:
                    return page.messages
        return (await self._hits.read(app, await self._engine.run(scope, query))).messages
