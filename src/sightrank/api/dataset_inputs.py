"""Which inputs are in a dataset: joining by id or by a search, listing, leaving (api-spec 3.2).

Every writer locks in the same order: the app, the inputs by number, the dataset, and last the bucket's version, because
searches remember under that version what a filter by dataset left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from clarifai_grpc.grpc.api import resources_pb2, service_pb2
from clarifai_grpc.grpc.api.status import status_pb2
from psycopg import sql

from sightrank.api.call import AppRef, Call, Handlers
from sightrank.api.datasets import find_dataset
from sightrank.api.inputs import fill_batch_status
from sightrank.api.pages import Page, list_page
from sightrank.api.records import InputRow, Records, timestamp
from sightrank.api.search_kinds import SearchKind, SearchReader
from sightrank.errors import (
    AppError,
    DoesNotExist,
    InputDoesNotExist,
    InputInvalidRequest,
    InvalidRequest,
    SearchInvalid,
    quoted,
)
from sightrank.ingest.dataset_freeze import between_versions
from sightrank.ingest.rows import hold_app
from sightrank.search.concepts import ConceptBook
from sightrank.search.query import ConceptCondition, Query, conditions
from sightrank.search.sql import FilterScope, page
from sightrank.store import queries
from sightrank.store.buckets import next_version
from sightrank.store.clock import Clock
from sightrank.store.database import Connection, Database, retrying

MAX_INPUTS = 128
#: A search for members has no pages: it takes everything that its filters leave.
_EVERYTHING = Page(1, 2**62)
_SQL = queries.load("datasets")
_INPUTS = queries.load("inputs")
_BUSY = "These inputs or this dataset are being written to; try again in a moment."


class DatasetInputs:
    """The rpcs about the members of a dataset."""

    def __init__(
        self, database: Database, book: ConceptBook, records: Records, reader: SearchReader, clock: Clock
    ) -> None:
        self._database = database
        self._book = book
        self._records = records
        self._reader = reader
        self._clock = clock

    def handlers(self) -> Handlers:
        return {
            "PostDatasetInputs": self.post,
            "ListDatasetInputs": self.list,
            "GetDatasetInput": self.get,
            "DeleteDatasetInputs": self.delete,
        }

    async def post(
        self, call: Call, request: service_pb2.PostDatasetInputsRequest
    ) -> service_pb2.MultiDatasetInputResponse:
        """By id each input has a status of its own, and one that is a member already stays so.

        By search all inputs that the filters leave join, however many; the answer does not list them.
        """
        if bool(request.dataset_inputs) == request.HasField("search"):
            raise InvalidRequest("Send either dataset_inputs, to name inputs by id, or search, to find them.")
        await find_dataset(self._database, call, request.dataset_id)
        if request.HasField("search"):
            query = self._query(call, request.search)
            await retrying(lambda: self._add_found(call.require_app(), request.dataset_id, query), busy=_BUSY)
            return service_pb2.MultiDatasetInputResponse()
        posted = [item.input.id for item in request.dataset_inputs]
        ids = _ids(posted, "dataset_inputs")
        known = await retrying(lambda: self._add(call.require_app(), request.dataset_id, ids), busy=_BUSY)
        return await self._posted(call, request.dataset_id, posted, known)

    async def list(
        self, call: Call, request: service_pb2.ListDatasetInputsRequest
    ) -> service_pb2.MultiDatasetInputResponse:
        """Newest members first."""
        app = call.require_app()
        await find_dataset(self._database, call, request.dataset_id)
        parameters = {"bucket": app.bucket, "dataset_id": request.dataset_id}
        rows = await self._database.rows(list_page(request).limit(_SQL["members"]), parameters)
        inputs = await self._inputs(app, [input_id for input_id, _ in rows])
        return service_pb2.MultiDatasetInputResponse(
            dataset_inputs=[_member(inputs[name], joined_at) for name, joined_at in rows if name in inputs]
        )

    async def get(
        self, call: Call, request: service_pb2.GetDatasetInputRequest
    ) -> service_pb2.SingleDatasetInputResponse:
        app = call.require_app()
        await find_dataset(self._database, call, request.dataset_id)
        joined = await self._joined(app, request.dataset_id, [request.input_id])
        inputs = await self._inputs(app, list(joined))
        if request.input_id not in inputs:
            raise DoesNotExist(f"There is no input {quoted(request.input_id)} in dataset {quoted(request.dataset_id)}.")
        member = _member(inputs[request.input_id], joined[request.input_id])
        return service_pb2.SingleDatasetInputResponse(dataset_input=member)

    async def delete(self, call: Call, request: service_pb2.DeleteDatasetInputsRequest) -> status_pb2.BaseResponse:
        """The inputs leave the dataset and stay in the app. Ids that are no members are ignored."""
        await find_dataset(self._database, call, request.dataset_id)
        ids = _ids(request.input_ids, "input_ids")
        if not ids:
            raise InvalidRequest("input_ids is empty; name the inputs that are to leave the dataset.")
        await retrying(lambda: self._remove(call.require_app(), request.dataset_id, ids), busy=_BUSY)
        return status_pb2.BaseResponse()

    # Writing ---------------------------------------------------------------------------------------------------------

    async def _add(self, app: AppRef, dataset_id: str, ids: Sequence[str]) -> frozenset[str]:
        """Those of these ids that are inputs of the app; all of them are members now."""
        async with self._database.transaction() as connection:
            numbers = await _hold(connection, app.bucket, ids)
            await self._join(connection, app, dataset_id, [numbers[name] for name in ids if name in numbers])
        return frozenset(numbers)

    async def _add_found(self, app: AppRef, dataset_id: str, query: Query) -> None:
        async with self._database.transaction() as connection:
            await hold_app(connection, app.bucket)
            scope = await self._scope(connection, app, query)
            statement = sql.SQL(_SQL["hold_found_inputs"]).format(
                bucket=sql.Literal(app.bucket), dataset_id=sql.Literal(dataset_id), found=page(query, scope)
            )
            numbers = [number for (number,) in await (await connection.execute(statement)).fetchall()]
            await self._join(connection, app, dataset_id, numbers)

    async def _join(self, connection: Connection, app: AppRef, dataset_id: str, numbers: Sequence[int]) -> None:
        """Inputs that the transaction holds become members, created in the order given."""
        parameters: Mapping[str, Any] = {"bucket": app.bucket, "dataset_id": dataset_id, "numbers": numbers}
        await _hold_dataset(connection, app, dataset_id)
        if not numbers:
            return
        last = await between_versions(connection, app.bucket)
        now = self._clock.take(len(numbers), after=last)[0]
        if (await connection.execute(_SQL["join"], {**parameters, "now": now})).rowcount:
            await next_version(connection, app.bucket, labels=False)

    async def _remove(self, app: AppRef, dataset_id: str, ids: Sequence[str]) -> None:
        async with self._database.transaction() as connection:
            numbers = await _hold(connection, app.bucket, ids)
            await _hold_dataset(connection, app, dataset_id)
            last = await between_versions(connection, app.bucket)
            (now,) = self._clock.take(1, after=last)
            parameters = {
                "bucket": app.bucket,
                "dataset_id": dataset_id,
                "numbers": list(numbers.values()),
                "now": now,
            }
            row = await (await connection.execute(_SQL["leave"], parameters)).fetchone()
            if row and row[0]:
                await next_version(connection, app.bucket, labels=False)

    def _query(self, call: Call, search: resources_pb2.Search) -> Query:
        """Raises SearchInvalid for what says in which order to show hits, not which inputs are meant."""
        if search.save:
            raise SearchInvalid("search.save: this call adds inputs to a dataset; save searches where they are posted.")
        kind = SearchKind.LEGACY if search.query.ands else SearchKind.INPUTS
        query = self._reader.read(call, kind, search, _EVERYTHING)
        if query.ranks:
            raise SearchInvalid(
                "search.query has ranks, which put all inputs in an order and leave none out, so they cannot choose"
                " members; use filters, or send the ids of the hits you want."
            )
        return query

    async def _scope(self, connection: Connection, app: AppRef, query: Query) -> FilterScope:
        """What the filters' concepts stand for; one that nobody knows matches nothing, as in every search."""
        names = list({item.concept for item in conditions(query) if isinstance(item, ConceptCondition)})
        meanings = await self._book.resolve_all(connection, app.bucket, names, app.default_language)
        return FilterScope(bucket=app.bucket, concepts=dict(zip(names, meanings, strict=True)))

    # Reading ---------------------------------------------------------------------------------------------------------

    async def _inputs(self, app: AppRef, ids: Sequence[str]) -> dict[str, resources_pb2.Input]:
        """Inputs by id, without those that are gone."""
        rows = await self._database.rows(_INPUTS["read"], {"bucket": app.bucket, "ids": ids}) if ids else []
        return {message.id: message for message in await self._records.inputs(app, [InputRow(*row) for row in rows])}

    async def _joined(self, app: AppRef, dataset_id: str, ids: Sequence[str]) -> dict[str, datetime]:
        """When these inputs joined, of those that are members."""
        storable = [name for name in ids if "\0" not in name]
        parameters = {"bucket": app.bucket, "dataset_id": dataset_id, "ids": storable}
        return dict(await self._database.rows(_SQL["members_of"], parameters))

    async def _posted(
        self, call: Call, dataset_id: str, posted: Sequence[str], known: frozenset[str]
    ) -> service_pb2.MultiDatasetInputResponse:
        app = call.require_app()
        joined = await self._joined(app, dataset_id, posted)
        inputs = await self._inputs(app, list(joined))
        response = service_pb2.MultiDatasetInputResponse()
        errors = []
        for name in posted:
            if name in known:
                # Between the commit and this look another call may have deleted it: then its id must do.
                response.dataset_inputs.append(_member(inputs.get(name), joined.get(name), name))
                continue
            errors.append(
                InputDoesNotExist(f"There is no input {quoted(name)} in app {app.app_id!r} to add to a dataset.")
            )
            response.dataset_inputs.append(_refused(name, errors[-1]))
        fill_batch_status(response.status, errors, len(posted))
        return response


def _ids(ids: Sequence[str], where: str) -> list[str]:
    """Each once, in the posted order. Raises InputInvalidRequest for too many, InvalidRequest for an empty one."""
    if len(ids) > MAX_INPUTS:
        raise InputInvalidRequest(f"{where} has {len(ids)} items; send at most {MAX_INPUTS} in one call.")
    if not all(ids):
        raise InvalidRequest(f"{where}[{list(ids).index('')}] names no input; say which by its id.")
    return list(dict.fromkeys(ids))


async def _hold(connection: Connection, bucket: int, ids: Sequence[str]) -> dict[str, int]:
    """Numbers of those inputs that exist; none of them can be deleted before the transaction ends."""
    await hold_app(connection, bucket)
    storable = [name for name in ids if "\0" not in name]
    cursor = await connection.execute(_SQL["hold_inputs"], {"bucket": bucket, "ids": storable})
    return dict(await cursor.fetchall())


async def _hold_dataset(connection: Connection, app: AppRef, dataset_id: str) -> None:
    cursor = await connection.execute(_SQL["hold_dataset"], {"bucket": app.bucket, "dataset_id": dataset_id})
    if await cursor.fetchone() is None:
        raise DoesNotExist(f"Dataset {dataset_id!r} of app {app.app_id!r} was deleted meanwhile.")


def _member(
    item: resources_pb2.Input | None, joined_at: datetime | None, input_id: str = ""
) -> resources_pb2.DatasetInput:
    return resources_pb2.DatasetInput(
        input=item or resources_pb2.Input(id=input_id),
        created_at=timestamp(joined_at) if joined_at else None,
    )


def _refused(input_id: str, error: AppError) -> resources_pb2.DatasetInput:
    message = resources_pb2.DatasetInput()
    message.input.id, status = input_id, message.input.status
    status.code, status.description, status.details = error.code, error.description, error.details
    return message
