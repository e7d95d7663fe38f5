"""Patches of inputs: concepts, metadata and place of many inputs at once (api-spec 3.1).

What an input says of itself is its input-level annotation; a patch of the one is a patch of the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from clarifai_grpc.grpc.api import resources_pb2, service_pb2

from sightrank.api.annotation_list import storable
from sightrank.api.annotation_patch import Action, patched
from sightrank.api.call import AppRef, Call, Handlers
from sightrank.api.input_medium import SentMedium, StoredMedium, check_media, sent_media
from sightrank.api.inputs import MAX_INPUTS, fill_batch_status
from sightrank.api.records import AnnotationRecord, InputRow, Records
from sightrank.errors import AppError, DoesNotExist, InputInvalid, InputInvalidRequest, InvalidRequest, quoted
from sightrank.ingest.media import HostedUrls
from sightrank.ingest.revision import ChangedAnnotation, Revision
from sightrank.store import queries
from sightrank.store.database import Connection, Database

_SQL = queries.load("inputs")
_ANNOTATIONS = queries.load("annotations")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    """Inputs by id: their input-level annotations, and their media as far as patches send some."""

    annotations: Mapping[str, AnnotationRecord]
    media: Mapping[str, StoredMedium]


class InputPatches:
    """The rpc PatchInputs."""

    def __init__(self, database: Database, revision: Revision, records: Records, urls: HostedUrls) -> None:
        self._database = database
        self._revision = revision
        self._records = records
        self._urls = urls

    def handlers(self) -> Handlers:
        return {"PatchInputs": self.patch}

    async def patch(self, call: Call, request: service_pb2.PatchInputsRequest) -> service_pb2.MultiInputResponse:
        """Each input has a status of its own; those that can be patched are, all at once, whatever their state.

        Done when it answers: the next search sees it. Media stay as they are; one that sends another is refused.
        """
        app = call.require_app()
        action = Action.named(request.action)
        _check_items(request.inputs)

        results: list[ChangedAnnotation | AppError] = []
        ids = storable(item.id for item in request.inputs)
        # In a thread: files are hashed to be compared.
        media = await asyncio.to_thread(lambda: [sent_media(item.data, app.bucket) for item in request.inputs])

        async def changed(connection: Connection) -> Sequence[ChangedAnnotation]:
            stored = await _stored(connection, app, ids, with_media=any(media))
            results[:] = [
                self._patched(app, stored, item, sent, action, f"inputs[{i}]")
                for i, (item, sent) in enumerate(zip(request.inputs, media, strict=True))
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

    def _patched(
        self,
        app: AppRef,
        stored: _Stored,
        message: resources_pb2.Input,
        media: list[SentMedium],
        action: Action,
        where: str,
    ) -> ChangedAnnotation | AppError:
        try:
            if not message.id:
                raise InputInvalid(f"{where} has no id; a patch says which input it is for.")
            annotation = stored.annotations.get(message.id)
            if annotation is None:
                raise DoesNotExist(f"There is no input {quoted(message.id)} to patch.")
            if message.data.regions:
                raise InputInvalid(
                    f"{where}.data.regions: regions are annotations of their own; use PostAnnotations and"
                    " PatchAnnotations."
                )
            if media:
                caption = (annotation.data or {}).get("text", {}).get("raw", "")
                is_hosted = partial(self._is_hosted, app, message.id)
                check_media(media, stored.media[message.id], caption, is_hosted, f"{where}.data")
            data = message.data if message.HasField("data") else None
            return patched(annotation, resources_pb2.Annotation(data=data), action, where)
        except AppError as error:
            return error

    def _is_hosted(self, app: AppRef, input_id: str, url: str) -> bool:
        image = self._urls.parse(url)
        return image is not None and (image.user_id, image.app_id, image.input_id) == (
            app.user_id,
            app.app_id,
            input_id,
        )


async def _stored(connection: Connection, app: AppRef, ids: Sequence[str], *, with_media: bool) -> _Stored:
    cursor = await connection.execute(_ANNOTATIONS["read_input_level"], {"bucket": app.bucket, "input_ids": ids})
    annotations = {record.input_id: record for record in (AnnotationRecord(*row) for row in await cursor.fetchall())}
    media: dict[str, StoredMedium] = {}
    if with_media:
        cursor = await connection.execute(_SQL["media_of"], {"bucket": app.bucket, "ids": ids})
        media = {row[0]: StoredMedium(*row[1:]) for row in await cursor.fetchall()}
    return _Stored(annotations=annotations, media=media)


def _check_items(items: Sequence[resources_pb2.Input]) -> None:
    if not items:
        raise InvalidRequest("inputs is empty; send at least one input.")
    if len(items) > MAX_INPUTS:
        raise InputInvalidRequest(f"inputs has {len(items)} items; patch at most {MAX_INPUTS} in one call.")
    ids = [item.id for item in items if item.id]
    if len(set(ids)) < len(ids):
        raise InvalidRequest("inputs names an input twice; send what is to be done to it in one item.")
