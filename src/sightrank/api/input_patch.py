"""Patches of inputs: concepts, metadata and place of many inputs at once (api-spec 3.1).

What an input says of itself is its input-level annotation; a patch of the one is a patch of the other.
"""

from __future__ import annotations

from collections.abc import Sequence

from clarifai_grpc.grpc.api import resources_pb2, service_pb2

from sightrank.api.annotation_list import storable
from sightrank.api.annotation_patch import Action, patched
from sightrank.api.call import AppRef, Call, Handlers
from sightrank.api.inputs import MAX_INPUTS, fill_batch_status
from sightrank.api.records import AnnotationRecord, InputRow, Records
from sightrank.errors import AppError, DoesNotExist, InputInvalid, InputInvalidRequest, InvalidRequest, quoted
from sightrank.ingest.revision import ChangedAnnotation, Revision
from sightrank.store import queries
from sightrank.store.database import Connection, Database

_SQL = queries.load("inputs")
_ANNOTATIONS = queries.load("annotations")


class InputPatches:
    """The rpc PatchInputs."""

    def __init__(self, database: Database, revision: Revision, records: Records) -> None:
        self._database = database
        self._revision = revision
        self._records = records

    def handlers(self) -> Handlers:
        return {"PatchInputs": self.patch}

    async def patch(self, call: Call, request: service_pb2.PatchInputsRequest) -> service_pb2.MultiInputResponse:
        """Each input has a status of its own; those that can be patched are, all at once, whatever their state.

        Done when it answers: the next search sees it. Media stay as they are, also where others are sent.
        """
        app = call.require_app()
        action = Action.named(request.action)
        _check_items(request.inputs)

        results: list[ChangedAnnotation | AppError] = []
        ids = storable(item.id for item in request.inputs)

        async def changed(connection: Connection) -> Sequence[ChangedAnnotation]:
            stored = await _stored(connection, app, ids)
            results[:] = [
                _patched(stored.get(item.id), item, action, f"inputs[{i}]") for i, item in enumerate(request.inputs)
            ]
            return [result for result in results if isinstance(result, ChangedAnnotation)]

        await self._revision.change(app.bucket, ids, changed)
        return await self._answer(app, request.inputs, results)

    async def _answer(
        self,
        app: AppRef,
        posted: Sequence[resources_pb2.Input],
        results: Sequence[ChangedAnnotation | AppError],
    ) -> service_pb2.MultiInputResponse:
        ids = [result.input_id for result in results if isinstance(result, ChangedAnnotation)]
        rows = [InputRow(*row) for row in await self._database.rows(_SQL["read"], {"bucket": app.bucket, "ids": ids})]
        messages = {message.id: message for message in await self._records.inputs(app, rows)}
        response = service_pb2.MultiInputResponse()
        for item, result in zip(posted, results, strict=True):
            if isinstance(result, AppError):
                status = response.inputs.add(id=item.id).status
                status.code, status.description, status.details = result.code, result.description, result.details
            else:
                # Between the commit and this look another call may have deleted it: then its id must do.
                response.inputs.append(messages.get(item.id) or resources_pb2.Input(id=item.id))
        fill_batch_status(response.status, [result for result in results if isinstance(result, AppError)], len(results))
        return response


async def _stored(connection: Connection, app: AppRef, ids: Sequence[str]) -> dict[str, AnnotationRecord]:
    """The input-level annotations of these inputs, by input id."""
    cursor = await connection.execute(_ANNOTATIONS["read_input_level"], {"bucket": app.bucket, "input_ids": ids})
    return {record.input_id: record for record in (AnnotationRecord(*row) for row in await cursor.fetchall())}


def _check_items(items: Sequence[resources_pb2.Input]) -> None:
    if not items:
        raise InvalidRequest("inputs is empty; send at least one input.")
    if len(items) > MAX_INPUTS:
        raise InputInvalidRequest(f"inputs has {len(items)} items; patch at most {MAX_INPUTS} in one call.")
    ids = [item.id for item in items if item.id]
    if len(set(ids)) < len(ids):
        raise InvalidRequest("inputs names an input twice; send what is to be done to it in one item.")


def _patched(
    stored: AnnotationRecord | None, message: resources_pb2.Input, action: Action, where: str
) -> ChangedAnnotation | AppError:
    try:
        if not message.id:
            raise InputInvalid(f"{where} has no id; a patch says which input it is for.")
        if stored is None:
            raise DoesNotExist(f"There is no input {quoted(message.id)} to patch.")
        if message.data.regions:
            raise InputInvalid(
                f"{where}.data.regions: regions are annotations of their own; use PostAnnotations and PatchAnnotations."
            )
        data = message.data if message.HasField("data") else None
        return patched(stored, resources_pb2.Annotation(data=data), action, where)
    except AppError as error:
        return error
