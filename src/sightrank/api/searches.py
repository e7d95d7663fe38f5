"""Searches: ranked and filtered annotations and inputs (api-spec 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clarifai_grpc.grpc.api import resources_pb2, service_pb2

from sightrank.api.call import AppRef, Call, Handlers
from sightrank.api.pages import search_page
from sightrank.api.records import AnnotationRecord, InputRow, Records
from sightrank.errors import SearchInvalid
from sightrank.ingest.rows import new_id
from sightrank.search.engine import Hit, SearchEngine, SearchScope
from sightrank.search.parse import parse_search
from sightrank.search.query import Query, Unit
from sightrank.store import queries
from sightrank.store.database import Database
from sightrank.store.vectors import EmbedderTable
from sightrank.vision.tagger import Tagger

_INPUTS = queries.load("inputs")
_ANNOTATIONS = queries.load("annotations")


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
        self._database = database
        self._engine = engine
        self._models = models
        self._records = records

    def handlers(self) -> Handlers:
        return {"PostAnnotationsSearches": self.annotations, "PostInputsSearches": self.inputs}

    async def annotations(
        self, call: Call, request: service_pb2.PostAnnotationsSearchesRequest
    ) -> service_pb2.MultiSearchResponse:
        """One hit for each area that survives the filters, best first; without ranks one for each annotation."""
        return await self._search(call.require_app(), request, Unit.ANNOTATION)

    async def inputs(
        self, call: Call, request: service_pb2.PostInputsSearchesRequest
    ) -> service_pb2.MultiSearchResponse:
        """One hit for each input; with ``only_count`` their number instead."""
        if not request.only_count:
            return await self._search(call.require_app(), request, Unit.INPUT)
        app = call.require_app()
        scope = self._models.scope(app)
        response = service_pb2.MultiSearchResponse(id=new_id(), searches=request.searches)
        for search in request.searches or [resources_pb2.Search()]:
            query = parse_search(search, Unit.INPUT, offset=0, limit=0)
            response.hit_counts.add(estimated_total=await self._engine.count(scope, query))
        return response

    async def _search(self, app: AppRef, request: Any, unit: Unit) -> service_pb2.MultiSearchResponse:
        if len(request.searches) > 1:
            raise SearchInvalid(f"searches has {len(request.searches)} items; send one search in a call.")
        page = search_page(request.pagination)
        search = request.searches[0] if request.searches else resources_pb2.Search()
        query = parse_search(search, unit, offset=page.offset, limit=page.per_page)
        hits = await self._engine.run(self._models.scope(app), query)
        return service_pb2.MultiSearchResponse(
            id=new_id(), hits=await self._hit_messages(app, query, hits), searches=request.searches
        )

    async def _hit_messages(self, app: AppRef, query: Query, hits: Sequence[Hit]) -> list[resources_pb2.Hit]:
        """Hits with their input and annotation. One whose input was deleted this very moment is left out."""
        if not hits:
            return []
        numbers = [hit.input_number for hit in hits]
        async with self._database.connection() as connection:
            cursor = await connection.execute(
                _INPUTS["read_numbers"], {"bucket": app.bucket, "numbers": list(dict.fromkeys(numbers))}
            )
            input_rows = [InputRow(*row) for row in await cursor.fetchall()]
            cursor = await connection.execute(
                _ANNOTATIONS["read_of_hits"],
                {
                    "bucket": app.bucket,
                    "numbers": numbers,
                    "area_ids": [hit.area_id for hit in hits],
                    "annotation_ids": [hit.annotation_id for hit in hits],
                },
            )
            rows = [AnnotationRecord(*row) for row in await cursor.fetchall()]
        inputs, annotations = await self._records.both(app, input_rows, rows)
        by_number = {row.number: message for row, message in zip(input_rows, inputs, strict=True)}
        found: dict[tuple[int, int | str | None], resources_pb2.Annotation] = {
            (row.input_number, row.area_id if query.ranks else row.id): message
            for row, message in zip(rows, annotations, strict=True)
        }
        messages = []
        for hit in hits:
            annotation = found.get((hit.input_number, hit.area_id if query.ranks else hit.annotation_id))
            if annotation is None or hit.input_number not in by_number:
                continue
            message = resources_pb2.Hit(
                score=hit.score,
                input=by_number[hit.input_number],
                annotation=annotation,
                user_id=app.user_id,
                app_id=app.app_id,
            )
            message.annotation.input_id = message.input.id
            messages.append(message)
        return messages
