"""Annotation filters: named searches without ranks that say which annotations count, for datasets (api-spec 3.2)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from clarifai_grpc.grpc.api import resources_pb2, service_pb2
from clarifai_grpc.grpc.api.status import status_pb2

from sightrank.api.call import AppRef, Call, Handlers
from sightrank.api.pages import list_page
from sightrank.api.records import timestamp
from sightrank.api.saved_searches import check_number, check_outline, check_patch, replace_fields
from sightrank.api.search_kinds import SearchKind, SearchReader
from sightrank.errors import DoesNotExist, DuplicateKey, InvalidRequest, SearchInvalid, quoted
from sightrank.ingest.rows import hold_app, new_id
from sightrank.store import queries
from sightrank.store.database import Connection, Database

_SQL = queries.load("searches")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


class AnnotationFilters:
    """The rpcs on annotation filters."""

    def __init__(self, database: Database, reader: SearchReader) -> None:
        self._database = database
        self._reader = reader

    def handlers(self) -> Handlers:
        return {
            "PostAnnotationFilters": self.post,
            "GetAnnotationFilter": self.get,
            "ListAnnotationFilters": self.list,
            "PatchAnnotationFilters": self.patch,
            "DeleteAnnotationFilters": self.delete,
        }

    async def post(
        self, call: Call, request: service_pb2.PostAnnotationFiltersRequest
    ) -> service_pb2.MultiAnnotationFilterResponse:
        """All of the filters, or none when an id is taken."""
        app = call.require_app()
        if not request.annotation_filters:
            raise InvalidRequest("annotation_filters is empty; send at least one filter.")
        check_number("annotation_filters", request.annotation_filters)
        wanted = {}
        for item in request.annotation_filters:
            if not item.HasField("search"):
                raise InvalidRequest("An annotation filter needs a search: say which annotations it leaves.")
            name = item.id or new_id()
            if not _ID.fullmatch(name):
                raise InvalidRequest(
                    f"Annotation filter id {quoted(name)}: use up to 128 letters, digits, '-' and '_', beginning with a"
                    " letter or digit."
                )
            if name in wanted:
                raise DuplicateKey(f"The request has two annotation filters of the id {name!r}.")
            wanted[name] = self._message(call, name, resources_pb2.Search(), item.search)
        values = {"bucket": app.bucket, "ids": [*wanted], "messages": [*wanted.values()]}
        async with self._database.transaction() as connection:
            await hold_app(connection, app.bucket)
            made = {row[0]: row for row in await (await connection.execute(_SQL["insert_filters"], values)).fetchall()}
            taken = [name for name in wanted if name not in made]
            if taken:
                raise DuplicateKey(
                    f"There is already an annotation filter {taken[0]!r} in app {app.app_id!r}; choose another id."
                )
        return _answer(app, [made[name] for name in wanted])

    async def get(
        self, call: Call, request: service_pb2.GetAnnotationFilterRequest
    ) -> service_pb2.SingleAnnotationFilterResponse:
        app, name, row = call.require_app(), request.annotation_filter_id, None
        if _ID.fullmatch(name):
            row = await self._database.row(_SQL["read_filter"], {"bucket": app.bucket, "id": name})
        if row is None:
            raise _missing(app, name)
        return service_pb2.SingleAnnotationFilterResponse(annotation_filter=_filter(app, row))

    async def list(
        self, call: Call, request: service_pb2.ListAnnotationFiltersRequest
    ) -> service_pb2.MultiAnnotationFilterResponse:
        """Newest first."""
        app = call.require_app()
        rows = await self._database.rows(list_page(request).limit(_SQL["list_filters"]), {"bucket": app.bucket})
        return _answer(app, rows)

    async def patch(
        self, call: Call, request: service_pb2.PatchAnnotationFiltersRequest
    ) -> service_pb2.MultiAnnotationFilterResponse:
        """All of the changes or none. What the patch sets in the search is replaced, everything else stays."""
        app = call.require_app()
        check_patch(request.action, "annotation_filters", [item.id for item in request.annotation_filters])
        values = {"bucket": app.bucket, "ids": [item.id for item in request.annotation_filters]}
        async with self._database.transaction() as connection:
            cursor = await connection.execute(_SQL["lock_filters"], values)
            stored = {name: content for name, content, *_ in await cursor.fetchall()}
            rows = []
            for item in request.annotation_filters:
                if item.id not in stored:
                    raise _missing(app, item.id)
                search = resources_pb2.Search.FromString(stored[item.id])
                message = self._message(call, item.id, search, item.search)
                rows.append(await _overwrite(connection, app, item.id, message))
        return _answer(app, rows)

    async def delete(self, call: Call, request: service_pb2.DeleteAnnotationFiltersRequest) -> status_pb2.BaseResponse:
        """Unknown ids are ignored. Datasets keep the id of a filter that is gone."""
        if not request.annotation_filter_ids:
            raise InvalidRequest("annotation_filter_ids is empty; name the annotation filters to delete.")
        ids = [name for name in request.annotation_filter_ids if _ID.fullmatch(name)]
        async with self._database.transaction() as connection:
            values = {"bucket": call.require_app().bucket, "ids": ids}
            await connection.execute(_SQL["lock_filters"], values)
            await connection.execute(_SQL["delete_filters"], values)
        return status_pb2.BaseResponse()

    def _message(self, call: Call, name: str, search: resources_pb2.Search, change: resources_pb2.Search) -> bytes:
        """The search with the change in it, as it is stored. Raises SearchInvalid when it is none for a filter."""
        replace_fields(search, change)
        query = self._reader.read(call, SearchKind.ANNOTATIONS, search)
        if query.ranks:
            raise SearchInvalid(
                f"Annotation filter {name!r} has ranks, which order annotations and leave none out; use filters."
            )
        check_outline(search, f"Annotation filter {name!r}")
        return search.SerializeToString()


async def _overwrite(connection: Connection, app: AppRef, name: str, message: bytes) -> Sequence[Any]:
    values = {"bucket": app.bucket, "id": name, "message": message}
    row = await (await connection.execute(_SQL["overwrite_filter"], values)).fetchone()
    assert row is not None, "the row is locked"
    return row


def _answer(app: AppRef, rows: Sequence[Sequence[Any]]) -> service_pb2.MultiAnnotationFilterResponse:
    return service_pb2.MultiAnnotationFilterResponse(annotation_filters=[_filter(app, row) for row in rows])


def _filter(app: AppRef, row: Sequence[Any]) -> resources_pb2.AnnotationFilter:
    name, content, created_at, modified_at = row
    return resources_pb2.AnnotationFilter(
        id=name,
        user_id=app.user_id,
        app_id=app.app_id,
        search=resources_pb2.Search.FromString(content),
        created_at=timestamp(created_at),
        modified_at=timestamp(modified_at),
    )


def _missing(app: AppRef, name: str) -> DoesNotExist:
    return DoesNotExist(
        f"There is no annotation filter {quoted(name)} in app {app.app_id!r}; ListAnnotationFilters names those there"
        " are."
    )
