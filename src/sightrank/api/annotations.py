"""Annotations: adding, reading, patching and deleting them (api-spec 3.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace

from clarifai_grpc.grpc.api import resources_pb2, service_pb2
from clarifai_grpc.grpc.api.status import status_pb2

from sightrank.api.annotation_data import check_id, content_of, info_of, region_of
from sightrank.api.annotation_list import Selection, check_pairs, storable, storable_pairs
from sightrank.api.annotation_patch import Action, InVideo, is_empty, patched
from sightrank.api.call import AppRef, Call, Handlers
from sightrank.api.inputs import fill_batch_status
from sightrank.api.pages import list_page
from sightrank.api.records import AnnotationRecord, Records, fill_status
from sightrank.errors import (
    AnnotationForbidden,
    AnnotationInvalid,
    AppError,
    DoesNotExist,
    InvalidRequest,
    quoted,
)
from sightrank.ingest.labelling import Labelling, NewAnnotation
from sightrank.ingest.revision import ChangedAnnotation, Revision
from sightrank.store import queries
from sightrank.store.database import Connection, Database
from sightrank.store.status import ANNOTATION_SUCCESS
from sightrank.vision.video import FrameTime

MAX_ANNOTATIONS = 128
_SQL = queries.load("annotations")
_STATUSES = frozenset({24150, 24151, 24152, 24154, 24157, 24158, 24159})


class Annotations:
    """The annotation rpcs."""

    def __init__(self, database: Database, labelling: Labelling, revision: Revision, records: Records) -> None:
        self._database = database
        self._labelling = labelling
        self._revision = revision
        self._records = records

    def handlers(self) -> Handlers:
        return {
            "PostAnnotations": self.post,
            "GetAnnotation": self.get,
            "ListAnnotations": self.list,
            "PatchAnnotations": self.patch,
            "DeleteAnnotation": self.delete,
            "DeleteAnnotations": self.delete_many,
        }

    async def post(
        self, call: Call, request: service_pb2.PostAnnotationsRequest
    ) -> service_pb2.MultiAnnotationResponse:
        """Each annotation has a status of its own; regions of indexed inputs are searchable when this answers.

        One without data is accepted: it is about the whole input and says nothing yet, for a patch to fill.
        """
        app = call.require_app()
        _check_count(request.annotations, "annotations")
        user_id = call.require_caller().user_id
        users = {user_id, *await self._known_users(request.annotations)}
        checked = [
            _checked(item, user_id, users, app, f"annotations[{i}]") for i, item in enumerate(request.annotations)
        ]
        good = [item for item in checked if isinstance(item, NewAnnotation)]
        added = iter(await self._labelling.add(app.bucket, good))
        results = [next(added) if isinstance(item, NewAnnotation) else item for item in checked]
        return await self._answer(app, request.annotations, results)

    async def get(self, call: Call, request: service_pb2.GetAnnotationRequest) -> service_pb2.SingleAnnotationResponse:
        app = call.require_app()
        async with self._database.connection() as connection:
            rows = await _read(connection, app, [(request.input_id, request.annotation_id)])
        if not rows:
            raise DoesNotExist(
                f"There is no annotation {quoted(request.annotation_id)} on input {quoted(request.input_id)}."
            )
        (message,) = await self._records.annotations(app, rows)
        return service_pb2.SingleAnnotationResponse(annotation=message)

    async def list(
        self, call: Call, request: service_pb2.ListAnnotationsRequest
    ) -> service_pb2.MultiAnnotationResponse:
        """Newest first. ``ids`` pair with ``input_ids``; user, model version and workflow version ids are a union.

        What a model said is always part of its annotation, with or without ``return_model_output``.
        """
        app = call.require_app()
        check_pairs(request.ids, request.input_ids)
        selection = Selection.parse(request, me=call.require_caller().user_id)
        rows = await self._database.rows(*selection.statement(app.bucket, list_page(request)))
        messages = await self._records.annotations(app, [AnnotationRecord(*row) for row in rows])
        return service_pb2.MultiAnnotationResponse(annotations=messages)

    async def patch(
        self, call: Call, request: service_pb2.PatchAnnotationsRequest
    ) -> service_pb2.MultiAnnotationResponse:
        """Each annotation has a status of its own; those that can be patched are, all at once."""
        app = call.require_app()
        action = Action.named(request.action)
        _check_count(request.annotations, "annotations")
        keys = [(item.input_id, item.id) for item in request.annotations]
        if len(set(keys)) < len(keys):
            raise InvalidRequest("annotations names an annotation twice; send what is to be done to it in one item.")
        deletes_empty = request.delete_if_empty_data and action is Action.REMOVE

        results: list[ChangedAnnotation | AppError] = []

        async def changed(connection: Connection) -> Sequence[ChangedAnnotation]:
            stored = {(row.input_id, row.id): row for row in await _read(connection, app, keys)}
            in_videos = await _places_in_videos(connection, app, [*stored.values()])
            results[:] = [
                _patched(stored.get(key), item, action, deletes_empty, in_videos, f"annotations[{i}]")
                for i, (key, item) in enumerate(zip(keys, request.annotations, strict=True))
            ]
            return [result for result in results if isinstance(result, ChangedAnnotation)]

        refused = await self._revision.change(app.bucket, storable({key[0] for key in keys}), changed)
        patched_or_not = [
            result if isinstance(result, AppError) else refused.get(key, key)
            for key, result in zip(keys, results, strict=True)
        ]
        return await self._answer(app, request.annotations, patched_or_not)

    async def delete(self, call: Call, request: service_pb2.DeleteAnnotationRequest) -> status_pb2.BaseResponse:
        app = call.require_app()
        pair = (request.input_id, request.annotation_id)
        async with self._database.connection() as connection:
            rows = await _read(connection, app, [pair])
        if not rows:
            raise DoesNotExist(
                f"There is no annotation {quoted(request.annotation_id)} on input {quoted(request.input_id)}."
            )
        if rows[0].input_level:
            raise AnnotationInvalid(
                f"Annotation {request.annotation_id!r} is the input-level one and lives as long as its input;"
                " patch it, or delete the input."
            )
        await self._revision.delete(app.bucket, [request.input_id], [pair])
        return status_pb2.BaseResponse()

    async def delete_many(self, call: Call, request: service_pb2.DeleteAnnotationsRequest) -> status_pb2.BaseResponse:
        """The annotations of (input_ids, ids) pairs; without ids all of these inputs but the input-level ones. Those
        that do not exist are ignored."""
        if not request.input_ids:
            raise InvalidRequest("input_ids is empty; name the inputs whose annotations are to be deleted.")
        if len(request.input_ids) > MAX_ANNOTATIONS:
            raise InvalidRequest(
                f"input_ids has {len(request.input_ids)} items; send at most {MAX_ANNOTATIONS} in one call."
            )
        check_pairs(request.ids, request.input_ids)
        pairs = storable_pairs(zip(request.input_ids, request.ids, strict=True)) if request.ids else None
        await self._revision.delete(call.require_app().bucket, storable(request.input_ids), pairs)
        return status_pb2.BaseResponse()

    async def _known_users(self, annotations: Sequence[resources_pb2.Annotation]) -> set[str]:
        """Those of the named users that exist."""
        named = {name for item in annotations for name in (item.worker.user.id, item.user_id)} - {"", "me"}
        if not named:
            return set()
        rows = await self._database.rows(_SQL["known_users"], {"ids": storable(named)})
        return {name for (name,) in rows}

    async def _answer(
        self,
        app: AppRef,
        posted: Sequence[resources_pb2.Annotation],
        results: Sequence[tuple[str, str] | AppError],
    ) -> service_pb2.MultiAnnotationResponse:
        async with self._database.connection() as connection:
            rows = await _read(connection, app, [result for result in results if isinstance(result, tuple)])
        messages = {(m.input_id, m.id): m for m in await self._records.annotations(app, rows)}
        response = service_pb2.MultiAnnotationResponse()
        for item, result in zip(posted, results, strict=True):
            if isinstance(result, AppError):
                echo = response.annotations.add(id=item.id, input_id=item.input_id)
                echo.status.code, echo.status.description = result.code, result.description
                echo.status.details = result.details
            elif result in messages:
                response.annotations.append(messages[result])
            else:
                # Its data were emptied and it went with them, or another call has just deleted it.
                input_id, annotation_id = result
                fill_status(
                    response.annotations.add(id=annotation_id, input_id=input_id).status, ANNOTATION_SUCCESS, ""
                )
        fill_batch_status(response.status, [result for result in results if isinstance(result, AppError)], len(results))
        return response


async def _read(connection: Connection, app: AppRef, keys: Sequence[tuple[str, str]]) -> Sequence[AnnotationRecord]:
    """Those of these annotations, by (input id, id), that exist."""
    wanted = set(storable_pairs(keys))
    input_ids, ids = [input_id for input_id, _ in wanted], [name for _, name in wanted]
    cursor = await connection.execute(_SQL["read"], {"bucket": app.bucket, "input_ids": input_ids, "ids": ids})
    records = [AnnotationRecord(*row) for row in await cursor.fetchall()]
    return [record for record in records if (record.input_id, record.id) in wanted]


async def _places_in_videos(
    connection: Connection, app: AppRef, rows: Sequence[AnnotationRecord]
) -> Mapping[int, InVideo]:
    """Area to its place, for those of these annotations that are about videos."""
    keys = {"bucket": app.bucket, "area_ids": [row.area_id for row in rows]}
    cursor = await connection.execute(_SQL["places_in_videos"], keys)
    return {
        area_id: InVideo(frame=None if index is None else FrameTime(index=index, time_ms=time_ms, number=number))
        for area_id, index, time_ms, number in await cursor.fetchall()
    }


def _check_count(items: Sequence[object], where: str) -> None:
    if not items:
        raise InvalidRequest(f"{where} is empty; send at least one.")
    if len(items) > MAX_ANNOTATIONS:
        raise InvalidRequest(f"{where} has {len(items)} items; send at most {MAX_ANNOTATIONS} in one call.")


def _checked(
    message: resources_pb2.Annotation, user_id: str, users: Set[str], app: AppRef, where: str
) -> NewAnnotation | AppError:
    try:
        return _new_annotation(message, user_id, users, app, where)
    except AppError as error:
        return error


def _patched(
    stored: AnnotationRecord | None,
    message: resources_pb2.Annotation,
    action: Action,
    deletes_empty: bool,
    in_videos: Mapping[int, InVideo],
    where: str,
) -> ChangedAnnotation | AppError:
    try:
        if not message.input_id or not message.id:
            raise AnnotationInvalid(f"{where} has no {'id' if message.input_id else 'input_id'}; a patch needs both.")
        if stored is None:
            raise DoesNotExist(f"There is no annotation {quoted(message.id)} on input {quoted(message.input_id)}.")
        _check_status(message.status.code, where)
        changed = patched(stored, message, action, where, in_videos.get(stored.area_id))
        vanishes = deletes_empty and not stored.input_level and is_empty(changed.content)
        return replace(changed, vanishes=True) if vanishes else changed
    except AppError as error:
        return error


def _new_annotation(
    message: resources_pb2.Annotation, user_id: str, users: Set[str], app: AppRef, where: str
) -> NewAnnotation:
    if not message.input_id:
        raise AnnotationInvalid(f"{where}.input_id is missing; say which input the annotation is about.")
    if not storable([message.input_id]):
        raise DoesNotExist(f"There is no input {quoted(message.input_id)} to annotate.")
    author = message.worker.user.id or message.user_id
    author = user_id if author in ("", "me") else author
    if author != user_id and user_id != app.user_id:
        raise AnnotationForbidden(f"{where}: only the owner of the app may annotate in the name of {author!r}.")
    if author not in users:
        raise AnnotationInvalid(f"{where}.user_id: there is no user {author!r} on this server; leave it out for yours.")
    for value, field in ((message.id, "id"), (message.task_id, "task_id")):
        check_id(value, f"{where}.{field}")
    _check_status(message.status.code, where)
    region = region_of(message.data, f"{where}.data")
    return NewAnnotation(
        input_id=message.input_id,
        id=message.id,
        content=content_of(message.data, f"{where}.data"),
        user_id=author,
        status=message.status.code or ANNOTATION_SUCCESS,
        is_region=region is not None,
        names_region=region is not None and region.is_named,
        region_id=region.id if region else "",
        box=region.box if region else None,
        task_id=message.task_id,
        annotation_info=info_of(message),
    )


def _check_status(code: int, where: str) -> None:
    if code and code not in _STATUSES:
        raise AnnotationInvalid(f"{where}.status.code is {code}; use one of {sorted(_STATUSES)}.")
