"""Searches: ranked and filtered annotations and inputs (api-spec 4).

A call may hold several searches: their hits follow each other in the order of the searches, each with its own page of
``pagination``. Those with ``save`` are stored and not executed (api/saved_searches).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from clarifai_grpc.grpc.api import resources_pb2, service_pb2

from sightrank.api.call import AppRef, Call, Handlers
from sightrank.api.hits import HitPage, Hits
from sightrank.api.hosted_access import HostedAccess
from sightrank.api.pages import MAX_SEARCH_DEPTH, Page, search_page
from sightrank.api.records import Records
from sightrank.api.saved_searches import SavedSearches, without_images
from sightrank.api.search_kinds import SearchKind, SearchReader
from sightrank.errors import AppError, SearchInvalid, SearchNotIndexed
from sightrank.ingest.base_workflow import workflow_of
from sightrank.ingest.rows import new_id
from sightrank.search.engine import SearchEngine
from sightrank.search.query import FieldCondition, Filter, Query
from sightrank.search.scope import SearchScope
from sightrank.search.sql import INDEXED
from sightrank.search.texts import Texts
from sightrank.store.database import Database
from sightrank.store.vectors import EmbedderTable
from sightrank.vision.eye import Eye
from sightrank.vision.threads import Threads

#: Searches of one call. Their hits are bounded too, so that the answer fits a message.
MAX_SEARCHES = 32
_CHANGES = 3  # of the base workflow under way of one search, after which it is answered as it is
_INDEXED = Filter(groups=((FieldCondition(field="input.status.code", value=INDEXED),),))


class SearchModels:
    """What each base workflow searches by: its vectors, its eye, the versions of its models, and the id of its detector
    ('' without one). Nothing for ``Empty`` and for those that cannot run here, of which ``lacks`` tells why.
    """

    def __init__(
        self,
        models: Mapping[str, tuple[EmbedderTable, Eye, frozenset[str], str]],
        lacks: Callable[[str], str],
    ) -> None:
        self._models = models
        self._lacks = lacks

    def scope(self, app: AppRef) -> SearchScope:
        lacks = self._lacks(app.workflow_id)
        table, eye, version_ids, detector_id = self._models.get(app.workflow_id, (None, None, frozenset(), ""))
        return SearchScope(
            bucket=app.bucket,
            default_language=app.default_language,
            table=table,
            eye=eye,
            model_version_ids=version_ids,
            detector_id=detector_id,
            lacks=f"Workflow {app.workflow_id} cannot run: {lacks}" if lacks else "",
        )


class Searches:
    """The rpcs that search."""

    def __init__(
        self,
        database: Database,
        engine: SearchEngine,
        models: SearchModels,
        records: Records,
        reader: SearchReader,
        saved: SavedSearches,
        texts: Texts,
        threads: Threads,
        hosted: HostedAccess,
        forget: Callable[[], None],
    ) -> None:
        """``forget`` drops what this process knows of apps: one of them has changed."""
        self._database = database
        self._forget = forget
        self._engine = engine
        self._texts = texts
        self._threads = threads
        self._hosted = hosted
        self._models = models
        self._reader = reader
        self._saved = saved
        self._hits = Hits(database, records)

    def handlers(self) -> Handlers:
        return {
            "PostAnnotationsSearches": self.annotations,
            "PostInputsSearches": self.inputs,
            "PostSearches": self.legacy,
            "PostSearchesByID": self.by_id,
        }

    async def annotations(
        self, call: Call, request: service_pb2.PostAnnotationsSearchesRequest
    ) -> service_pb2.MultiSearchResponse:
        """One hit for each area that survives the filters, best first; without ranks one for each annotation."""
        return await self._post(call, request, SearchKind.ANNOTATIONS, request.searches)

    async def inputs(
        self, call: Call, request: service_pb2.PostInputsSearchesRequest
    ) -> service_pb2.MultiSearchResponse:
        """One hit for each input; with ``only_count`` their number instead, for each search that is executed."""
        return await self._post(call, request, SearchKind.INPUTS, request.searches, count=request.only_count)

    async def legacy(self, call: Call, request: service_pb2.PostSearchesRequest) -> service_pb2.MultiSearchResponse:
        """As ``inputs``, but ``ands`` are read too, and ``query`` may stand in the place of ``searches``."""
        if not request.query.ListFields():
            return await self._post(call, request, SearchKind.LEGACY, request.searches)
        if request.searches:
            raise SearchInvalid("The request has both query and searches; move the query into searches[].query.")
        search = resources_pb2.Search(query=request.query)
        response = await self._post(call, request, SearchKind.LEGACY, [search])
        response.ClearField("searches")
        response.query.CopyFrom(request.query)
        return response

    async def by_id(self, call: Call, request: service_pb2.PostSearchesByIDRequest) -> service_pb2.MultiSearchResponse:
        """Executes a saved search as the rpc that saved it would; "me" in it is whoever executes it."""
        page = search_page(request.pagination)
        app = call.require_app()
        saved = await self._saved.read(app, request.id)
        query = await self._hosted.searched(call, self._reader.read(call, saved.kind, saved.message, page))
        response = service_pb2.MultiSearchResponse(searches=[without_images(saved.message)])
        await self._run(app, query, response, count=False)
        return response

    async def _post(
        self,
        call: Call,
        request: Any,
        kind: SearchKind,
        searches: Sequence[resources_pb2.Search],
        *,
        count: bool = False,
    ) -> service_pb2.MultiSearchResponse:
        """Reads all of the searches before it runs any, and runs them before it saves any: a call that fails has saved
        nothing.
        """
        page = search_page(request.pagination)
        _check_number(searches, page)
        response = service_pb2.MultiSearchResponse()
        wanted = searches or [resources_pb2.Search()]
        names = [f"searches[{number}]: " if len(wanted) > 1 else "" for number in range(len(wanted))]
        queries = []
        for name, search in zip(names, wanted, strict=True):
            with _naming(name):
                query = self._reader.read(call, kind, search, page)
                queries.append(await self._hosted.searched(call, query))
        for name, search, query in zip(names, wanted, queries, strict=True):
            if not search.save:
                with _naming(name):
                    await self._run(call.require_app(), query, response, count=count)
        to_save = [search for search in searches if search.save]
        saved = iter(await self._saved.save(call, kind, to_save) if to_save else ())
        response.searches.extend(next(saved) if search.save else search for search in searches)
        return response

    async def _run(self, app: AppRef, query: Query, response: service_pb2.MultiSearchResponse, *, count: bool) -> None:
        """Adds the hits of one search to the response, or their number, and what to tell about its texts."""
        response.id = response.id or new_id()
        if count:
            scope = self._models.scope(app)
            worded = await self._texts.worded(scope, query)
            # Ranks leave out what is not indexed; to tell what `min_value` leaves, everything had to be scored.
            counted = worded.query
            counted = replace(counted, filters=(*counted.filters, _INDEXED)) if counted.ranks else counted
            response.hit_counts.add(estimated_total=await self._engine.count(scope, counted))
            note = worded.note
        else:
            with self._threads.answering():
                page, note = await self._of_one_workflow(app, query)
            response.hits.extend(page.messages)
        response.status.details = " ".join(filter(None, (response.status.details, note)))

    async def _of_one_workflow(self, app: AppRef, query: Query) -> tuple[HitPage, str]:
        """A page of hits, and what to tell about the search's texts.

        What this process knows of the app may be a moment old. When its base workflow has changed meanwhile, also while
        the search ran, the search runs again: what it found, and what it failed at, were of vectors that are on their
        way out.
        """
        for _ in range(_CHANGES):
            try:
                page, note = await self._page(app, query)
                now = page.workflow_id
            except AppError:
                now = await workflow_of(self._database, app.bucket)
                if now == app.workflow_id:
                    raise
            else:
                if now in (None, app.workflow_id):
                    return page, note
            self._forget()
            app = replace(app, workflow_id=now)
        return await self._page(app, query)

    async def _page(self, app: AppRef, query: Query) -> tuple[HitPage, str]:
        """Ranks by what this process holds, so that reading the hits tells in the same round trip whether that was all
        there is. Only if it was not, the search runs again, as of now.
        """
        scope = self._models.scope(app)
        worded = await self._texts.worded(scope, query)
        query = worded.query
        seen = self._engine.seen(scope, query)
        if seen is not None:
            # The input or the model version to rank by may be newer than what this process holds.
            with suppress(SearchNotIndexed, SearchInvalid):
                page = await self._hits.read(app, await self._engine.run(scope, query, seen), query.as_of)
                if page.versions == seen:
                    return page, worded.note
        return await self._hits.read(app, await self._engine.run(scope, query), query.as_of), worded.note


def _check_number(searches: Sequence[resources_pb2.Search], page: Page) -> None:
    if len(searches) > MAX_SEARCHES:
        raise SearchInvalid(f"searches has {len(searches)} items; send at most {MAX_SEARCHES} in a call.")
    if len(searches) * page.per_page > MAX_SEARCH_DEPTH:
        raise SearchInvalid(
            f"{len(searches)} searches of {page.per_page} hits each could find more than the {MAX_SEARCH_DEPTH} that an"
            " answer holds; send fewer searches or a lower per_page."
        )


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Puts the name of one of several searches before what is wrong with it."""
    try:
        yield
    except AppError as error:
        if not name:
            raise
        raise type(error)(name + error.details) from error
