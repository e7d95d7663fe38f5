"""Saved searches: kept by id to be executed later, listed, changed and deleted (api-spec 4.10).

A search is read before it is saved or changed, so a mistake in it is refused at once and not when it is executed. What
it names, concepts and inputs and datasets, is looked up each time it is executed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from clarifai_grpc.grpc.api import resources_pb2, service_pb2
from clarifai_grpc.grpc.api.status import status_pb2
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from sightrank.api.call import AppRef, Call, Handlers
from sightrank.api.pages import list_page
from sightrank.api.records import timestamp
from sightrank.api.scopes import ALL
from sightrank.api.search_kinds import SearchKind, SearchReader
from sightrank.errors import DoesNotExist, DuplicateKey, InsufficientScopes, InvalidRequest, SearchInvalid, quoted
from sightrank.ingest.rows import hold_app, new_id
from sightrank.store import queries
from sightrank.store.database import Connection, Database

_SQL = queries.load("searches")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
#: Largest saved search, beside the images in it: lists of them stay small enough for one answer.
MAX_OUTLINE_BYTES = 256 * 1024
MAX_IN_ONE_CALL = 128

_Search = resources_pb2.Search
#: What a patch can replace, and what of a posted search is kept; the rest is the server's to say.
_OWN_FIELDS = frozenset({"query", "name", "as_of", "algorithm", "min_value", "metric", "visibility"})


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedSearch:
    """A search as it is stored; ``message`` bears its id and its times."""

    kind: SearchKind
    message: resources_pb2.Search


class SavedSearches:
    """The rpcs on saved searches, except those that execute. ``max_image_bytes`` bounds the images in one of them."""

    def __init__(self, database: Database, reader: SearchReader, *, max_image_bytes: int) -> None:
        self._database = database
        self._reader = reader
        self._max_bytes = max_image_bytes + MAX_OUTLINE_BYTES

    def handlers(self) -> Handlers:
        return {
            "GetSearch": self.get,
            "ListSearches": self.list,
            "DeleteSearch": self.delete,
            "PatchSearches": self.patch,
            "PatchInputsSearches": self.patch_inputs,
            "PatchAnnotationsSearches": self.patch_annotations,
        }

    async def save(self, call: Call, kind: SearchKind, searches: Sequence[_Search]) -> Sequence[_Search]:
        """Stores all of these searches, which have been read already, or none of them; returns their outlines.

        Raises DuplicateKey when an id is taken, InsufficientScopes for a key that may not save.
        """
        app = call.require_app()
        _check_may_save(call, app)
        messages = [_stored(search) for search in searches]
        for message in messages:
            self._check_storable(message)
        outlines = [without_images(message) for message in messages]
        values = {
            "bucket": app.bucket,
            "kind": kind.value,
            "ids": [message.id for message in messages],
            "messages": [message.SerializeToString() for message in messages],
            "outlines": [outline.SerializeToString() for outline in outlines],
        }
        async with self._database.transaction() as connection:
            await hold_app(connection, app.bucket)
            cursor = await connection.execute(_SQL["insert"], values)
            made = {name: times for name, *times in await cursor.fetchall()}
            if len(made) < len(messages):
                taken = next((m.id for m in messages if m.id not in made), messages[0].id)
                raise DuplicateKey(f"There is already a search {taken!r} in app {app.app_id!r}; choose another id.")
        return [_shown(app, outline, *made[outline.id]) for outline in outlines]

    async def read(self, app: AppRef, search_id: str) -> SavedSearch:
        """Raises DoesNotExist."""
        row = None
        if _ID.fullmatch(search_id):
            row = await self._database.row(_SQL["read"], {"bucket": app.bucket, "id": search_id})
        if row is None:
            raise _missing(app, search_id)
        return _saved(app, row)

    async def get(self, call: Call, request: service_pb2.GetSearchRequest) -> service_pb2.SingleSearchResponse:
        """The search with everything in it, images too."""
        return service_pb2.SingleSearchResponse(search=(await self.read(call.require_app(), request.id)).message)

    async def list(self, call: Call, request: service_pb2.ListSearchesRequest) -> service_pb2.MultiSearchResponse:
        """Newest first, of all kinds, without the bytes of the images in them."""
        app = call.require_app()
        rows = await self._database.rows(list_page(request).limit(_SQL["list"]), {"bucket": app.bucket})
        return service_pb2.MultiSearchResponse(searches=[_saved(app, row).message for row in rows])

    async def delete(self, call: Call, request: service_pb2.DeleteSearchRequest) -> status_pb2.BaseResponse:
        app = call.require_app()
        known = _ID.fullmatch(request.id) is not None
        if not known or not await self._database.execute(_SQL["delete"], {"bucket": app.bucket, "id": request.id}):
            raise _missing(app, request.id)
        return status_pb2.BaseResponse()

    async def patch(self, call: Call, request: service_pb2.PatchSearchesRequest) -> service_pb2.MultiSearchResponse:
        """Searches of any kind, which stay of their kind."""
        return await self._patch(call, request, None)

    async def patch_inputs(
        self, call: Call, request: service_pb2.PatchInputsSearchesRequest
    ) -> service_pb2.MultiSearchResponse:
        """As if the search had been saved by PostInputsSearches."""
        return await self._patch(call, request, SearchKind.INPUTS)

    async def patch_annotations(
        self, call: Call, request: service_pb2.PatchAnnotationsSearchesRequest
    ) -> service_pb2.MultiSearchResponse:
        """As if the search had been saved by PostAnnotationsSearches."""
        return await self._patch(call, request, SearchKind.ANNOTATIONS)

    async def _patch(self, call: Call, request: Any, kind: SearchKind | None) -> service_pb2.MultiSearchResponse:
        """All of the changes or none. What the patch sets is replaced, everything else stays."""
        app = call.require_app()
        check_patch(request.action, "searches", [search.id for search in request.searches])
        values = {"bucket": app.bucket, "ids": [search.id for search in request.searches]}
        changed = []
        async with self._database.transaction() as connection:
            cursor = await connection.execute(_SQL["lock"], values)
            locked = {name for (name,) in await cursor.fetchall()}
            for patch in request.searches:
                if patch.id not in locked:
                    raise _missing(app, patch.id)
                changed.append(await self._overwrite(connection, call, patch, kind))
        return service_pb2.MultiSearchResponse(searches=changed)

    async def _overwrite(self, connection: Connection, call: Call, patch: _Search, kind: SearchKind | None) -> _Search:
        """One of the locked searches; they are read one by one, because each may hold images."""
        app = call.require_app()
        saved = _saved(app, await _one(connection, "read", {"bucket": app.bucket, "id": patch.id}))
        kind = kind or saved.kind
        message = _stored(saved.message)
        replace_fields(message, patch)
        self._reader.read(call, kind, message)
        self._check_storable(message)
        outline = without_images(message)
        values = {
            "bucket": app.bucket,
            "id": message.id,
            "kind": kind.value,
            "message": message.SerializeToString(),
            "outline": outline.SerializeToString(),
        }
        return _shown(app, outline, *await _one(connection, "overwrite", values))

    def _check_storable(self, message: _Search) -> None:
        if not _ID.fullmatch(message.id):
            raise InvalidRequest(
                f"Search id {quoted(message.id)}: use up to 128 letters, digits, '-' and '_', beginning with a letter"
                " or digit."
            )
        check_outline(without_images(message), f"Search {message.id!r}")
        size = message.ByteSize()
        if size > self._max_bytes:
            raise SearchInvalid(
                f"Search {message.id!r} has {size} bytes, images included; {self._max_bytes} can be saved."
                " Rank by the id of an input instead."
            )


async def _one(connection: Connection, statement: str, values: dict[str, Any]) -> Sequence[Any]:
    row = await (await connection.execute(_SQL[statement], values)).fetchone()
    assert row is not None, "the row is locked"
    return row


def check_patch(action: str, field: str, ids: Sequence[str]) -> None:
    """Raises InvalidRequest unless these are 1 to 128 different ids to overwrite."""
    if action != "overwrite":
        raise InvalidRequest(f"action is {action or 'empty'}; {field} are patched by `overwrite`.")
    if not ids or not all(ids):
        raise InvalidRequest(f"{field} must name at least one item to patch, each by its id.")
    check_number(field, ids)
    if len(set(ids)) < len(ids):
        raise InvalidRequest(f"{field} names an id twice; say in one item what is to change.")


def check_number(field: str, items: Sequence[Any]) -> None:
    if len(items) > MAX_IN_ONE_CALL:
        raise InvalidRequest(f"{field} has {len(items)} items; send at most {MAX_IN_ONE_CALL} in a call.")


def check_outline(message: _Search, what: str) -> None:
    """Raises SearchInvalid for a search that could not be shown in a list; ``message`` is without images."""
    _check_times(message, what)
    if message.ByteSize() > MAX_OUTLINE_BYTES:
        raise SearchInvalid(
            f"{what} has {message.ByteSize()} bytes beside its images; {MAX_OUTLINE_BYTES} can be saved."
        )


def _check_times(message: Message, what: str) -> None:
    """gRPC carries times that have no text, and then no JSON client could read the list that they are in."""
    for field, value in message.ListFields():
        for part in value if field.is_repeated else [value]:
            if isinstance(part, Timestamp):
                try:
                    part.ToJsonString()
                except ValueError as error:
                    raise SearchInvalid(f"{what} has a {field.name} that is no time: {error}") from error
            elif isinstance(part, Message):
                _check_times(part, what)


def replace_fields(message: _Search, patch: _Search) -> None:
    """What ``patch`` sets of a search, as a whole: a query replaces the query."""
    for field, value in patch.ListFields():
        if field.name not in _OWN_FIELDS:
            continue
        if isinstance(value, Message):
            getattr(message, field.name).CopyFrom(value)
        else:
            setattr(message, field.name, value)


def without_images(message: _Search) -> _Search:
    """A copy without the bytes of the images in it."""
    copy = _Search()
    copy.CopyFrom(message)
    for image in _images(copy.query):
        image.ClearField("base64")
    return copy


def _images(query: resources_pb2.Query) -> Iterator[resources_pb2.Image]:
    for rank in query.ranks:
        if rank.annotation.data.image.base64:
            yield rank.annotation.data.image
    for part in query.ands:
        if part.output.input.data.image.base64:
            yield part.output.input.data.image


def _stored(search: _Search) -> _Search:
    message = _Search(id=search.id or new_id())
    replace_fields(message, search)
    return message


def _shown(app: AppRef, message: _Search, created_at: datetime, modified_at: datetime) -> _Search:
    message.application_id = app.app_id
    message.save = True
    if not message.visibility.gettable:
        message.visibility.gettable = resources_pb2.Visibility.Gettable.PRIVATE
    message.created_at.CopyFrom(timestamp(created_at))
    message.modified_at.CopyFrom(timestamp(modified_at))
    return message


def _saved(app: AppRef, row: Sequence[Any]) -> SavedSearch:
    _, kind, content, *times = row
    return SavedSearch(kind=SearchKind(kind), message=_shown(app, _Search.FromString(content), *times))


def _check_may_save(call: Call, app: AppRef) -> None:
    """The rpcs that search need no right to write; saving does."""
    caller = call.require_caller()
    if app.user_id != caller.user_id:
        raise InsufficientScopes(f"{app.user_id}/{app.app_id} is read-only for {caller.user_id}: save changes it.")
    missing = sorted({"SavedSearch_Add", "SavedSearch_Get"} - caller.scopes)
    if missing and ALL not in caller.scopes:
        raise InsufficientScopes(
            f"Saving a search needs what this key lacks: {', '.join(f'scope {scope}' for scope in missing)}."
        )


def _missing(app: AppRef, search_id: str) -> DoesNotExist:
    return DoesNotExist(
        f"There is no saved search {quoted(search_id)} in app {app.app_id!r}; ListSearches names those there are."
    )
