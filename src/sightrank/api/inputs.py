"""Inputs: adding, reading and deleting them (api-spec 3.1)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any, Literal
from urllib.parse import urlsplit

from clarifai_grpc.grpc.api import resources_pb2, service_pb2
from clarifai_grpc.grpc.api.status import status_pb2
from psycopg import sql

from sightrank.api.annotation_data import content_of
from sightrank.api.call import AppRef, Call, Handlers
from sightrank.api.hosted_access import HostedAccess
from sightrank.api.pages import MAX_PER_PAGE, Page, list_page
from sightrank.api.records import InputRow, Records, fill_status
from sightrank.errors import (
    AppError,
    DoesNotExist,
    InputInvalid,
    InputInvalidRequest,
    InputInvalidUrl,
    InputOverLimit,
    InvalidRequest,
    quoted,
)
from sightrank.ingest.add_jobs import JobShare
from sightrank.ingest.intake import IdConflict, Intake, NewInput
from sightrank.ingest.reindex_progress import progress_of
from sightrank.ingest.removal import Removal
from sightrank.store import queries
from sightrank.store.database import Database
from sightrank.store.status import INPUT_PENDING

MAX_INPUTS = 128
MAX_VIDEO_UPLOAD_BYTES = 128_000_000  # less than a message may have
STREAM_PER_PAGE = 20
_SQL = queries.load("inputs")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:~-]{0,127}")
#: Paths of the API right under /v2/inputs/: an input of such an id could not be reached over REST.
_PATHS = frozenset({"annotations", "data_sources", "jobs", "searches", "status", "stream", "uploads"})
_MEDIA: tuple[Literal["image", "video", "audio", "text"], ...] = ("image", "video", "audio", "text")
_FILES: tuple[Literal["image", "video", "audio"], ...] = ("image", "video", "audio")
_SUFFIX = resources_pb2.InputIDConflictResolution.Value("SUFFIX")


class Inputs:
    """The input rpcs. ``wake`` tells the workers of this process that there is work."""

    def __init__(
        self,
        database: Database,
        intake: Intake,
        removal: Removal,
        records: Records,
        hosted: HostedAccess,
        wake: asyncio.Event,
        *,
        max_image_bytes: int,
    ) -> None:
        self._database = database
        self._intake = intake
        self._removal = removal
        self._records = records
        self._hosted = hosted
        self._wake = wake
        self._max_image_bytes = max_image_bytes

    def handlers(self) -> Handlers:
        return {
            "PostInputs": self.post,
            "GetInput": self.get,
            "ListInputs": self.list,
            "StreamInputs": self.stream,
            "GetInputCount": self.count,
            "DeleteInput": self.delete,
            "DeleteInputs": self.delete_many,
        }

    async def post(self, call: Call, request: service_pb2.PostInputsRequest) -> service_pb2.MultiInputResponse:
        """Answers at once; each input has a status of its own and is indexed in the background."""
        app = call.require_app()
        if not request.inputs:
            raise InvalidRequest("inputs is empty; send at least one input.")
        if len(request.inputs) > MAX_INPUTS:
            raise InputInvalidRequest(f"inputs has {len(request.inputs)} items; send at most {MAX_INPUTS} in one call.")
        checked = [self._checked(item, f"inputs[{i}]") for i, item in enumerate(request.inputs)]
        good = [item for item in checked if isinstance(item, NewInput)]
        videos = sum(item.media == "video" for item in good)
        if videos > 1:
            raise InputInvalidRequest(f"inputs has {videos} videos; send one video in a call.")
        good = [await self._hosted.added(call, item) for item in good]
        conflict = IdConflict.SUFFIX if request.input_id_conflict_resolution == _SUFFIX else IdConflict.SKIP
        job = _job(request.inputs_add_job_id, refused=len(checked) - len(good))
        accepted = iter(await self._intake.accept(app.bucket, call.require_caller().user_id, good, conflict, job))
        self._wake.set()
        results = [next(accepted) if isinstance(item, NewInput) else item for item in checked]
        return await self._posted(app, request.inputs, results)

    async def get(self, call: Call, request: service_pb2.GetInputRequest) -> service_pb2.SingleInputResponse:
        app = call.require_app()
        rows = await self._database.rows(_SQL["read"], {"bucket": app.bucket, "ids": _storable([request.input_id])})
        if not rows:
            raise DoesNotExist(f"There is no input {quoted(request.input_id)} in app {app.app_id!r}.")
        (message,) = await self._records.inputs(app, [InputRow(*rows[0])])
        return service_pb2.SingleInputResponse(input=message)

    async def list(self, call: Call, request: service_pb2.ListInputsRequest) -> service_pb2.MultiInputResponse:
        """Newest first."""
        app = call.require_app()
        statement = list_page(request).limit(_SQL["list"])
        parameters = {
            "bucket": app.bucket,
            "status": request.status.code,
            "ids": _storable(request.ids) if request.ids else None,
        }
        rows = [InputRow(*row) for row in await self._database.rows(statement, parameters)]
        return service_pb2.MultiInputResponse(inputs=await self._records.inputs(app, rows))

    async def stream(self, call: Call, request: service_pb2.StreamInputsRequest) -> service_pb2.MultiInputResponse:
        """What comes after ``last_id``, oldest first or by id: what is added meanwhile shifts nothing, and who goes on
        from the last input, oldest first, sees every one.

        By id it may name any place, also that of an input that is gone; by time it must exist.
        """
        app = call.require_app()
        if request.per_page > MAX_PER_PAGE:
            raise InvalidRequest(f"per_page is {request.per_page}; it can be at most {MAX_PER_PAGE}. Fetch more often.")
        last_id = "".join(_storable([request.last_id]))
        if last_id != request.last_id:
            raise DoesNotExist(f"There is no input {quoted(request.last_id)} to go on from.")
        parameters: dict[str, Any] = {"bucket": app.bucket, "last_id": last_id}
        if last_id and not request.order_by_id:
            row = await self._database.row(_SQL["created"], parameters)
            if row is None:
                raise DoesNotExist(
                    f"There is no input {quoted(last_id)} (any more) to go on from; begin anew without last_id, or"
                    " stream"
                    " with order_by_id, which needs no input of that id."
                )
            parameters["created_at"] = row[0]
        if not (request.order_by_id or request.descending):
            parameters["settled"] = await self._intake.settled(app.bucket)
        page = Page(1, request.per_page or STREAM_PER_PAGE)
        rows = await self._database.rows(page.limit(streamed(request)), parameters)
        inputs = await self._records.inputs(app, [InputRow(*row) for row in rows])
        return service_pb2.MultiInputResponse(inputs=inputs)

    async def count(
        self, call: Call, request: service_pb2.GetInputCountRequest
    ) -> service_pb2.SingleInputCountResponse:
        """Beside them, how far a change of the base workflow is."""
        bucket = call.require_app().bucket
        row = await self._database.row(_SQL["counts"], {"bucket": bucket})
        assert row is not None
        processed, to_process, processing, errors = row
        response = service_pb2.SingleInputCountResponse(
            counts=resources_pb2.InputCount(
                processed=processed, to_process=to_process, processing=processing, errors=errors
            )
        )
        progress = await progress_of(self._database, bucket)
        if progress is not None:
            response.counts.reindexed = progress.done
            response.counts.to_reindex = progress.left
            response.counts.reindex_errors = progress.failed
            response.status.details = progress.text()
        return response

    async def delete(self, call: Call, request: service_pb2.DeleteInputRequest) -> status_pb2.BaseResponse:
        if not await self._removal.delete_inputs(call.require_app().bucket, [request.input_id]):
            raise DoesNotExist(f"There is no input {quoted(request.input_id)} to delete.")
        return status_pb2.BaseResponse()

    async def delete_many(self, call: Call, request: service_pb2.DeleteInputsRequest) -> status_pb2.BaseResponse:
        """Unknown ids are ignored. No ids are refused, except in an app without inputs: the official SDK deletes those
        that it has listed, and raises when that is refused."""
        bucket = call.require_app().bucket
        if len(request.ids) > MAX_INPUTS:
            raise InvalidRequest(f"ids has {len(request.ids)} items; delete at most {MAX_INPUTS} in one call.")
        if not request.ids and await self._database.rows(_SQL["any_input"], {"bucket": bucket}):
            raise InvalidRequest("ids is empty; name the inputs to delete.")
        await self._removal.delete_inputs(bucket, [*request.ids])
        return status_pb2.BaseResponse()

    def _checked(self, message: resources_pb2.Input, where: str) -> NewInput | AppError:
        try:
            return self._new_input(message, where)
        except AppError as error:
            return error

    def _new_input(self, message: resources_pb2.Input, where: str) -> NewInput:
        if message.id and not _ID.fullmatch(message.id):
            raise InputInvalid(
                f"{where}.id is {quoted(message.id)}; use up to 128 ASCII letters, digits, '-', '_', '.', ':'"
                " or '~', beginning with a letter or digit."
            )
        if message.id in _PATHS:
            raise InputInvalid(
                f"{where}.id is {message.id!r}, but /v2/inputs/{message.id} is a path of the API; choose another id."
            )
        data = message.data
        media = [name for name in _MEDIA if data.HasField(name)]
        # Some clients send the empty message of every medium; then what has something in it counts.
        medium = next((name for name in media if getattr(data, name).ByteSize()), media[0] if media else None)
        if medium is None:
            raise InputInvalid(f"{where}.data has no image, video, audio or text.")
        # Beside one of these, a text is a caption.
        filled = [name for name in _FILES if getattr(data, name).url or getattr(data, name).base64]
        if len(filled) > 1:
            raise InputInvalid(f"{where}.data has {' and '.join(filled)}; send an input for each.")
        body = getattr(data, medium)
        content_bytes = b"" if medium == "text" else body.base64
        most = MAX_VIDEO_UPLOAD_BYTES if medium == "video" else self._max_image_bytes
        if len(content_bytes) > most:
            raise InputOverLimit(f"{where}.data.{medium} has {len(content_bytes)} bytes; at most {most} are accepted.")
        raw = body.raw if medium == "text" else ""
        if not (body.url or content_bytes or raw):
            raise InputInvalid(f"{where}.data.{medium} has neither a url nor content.")
        _check_text(raw, f"{where}.data.text.raw")
        return NewInput(
            id=message.id,
            media=medium,
            content=content_of(data, f"{where}.data"),
            url="" if content_bytes or raw else _checked_url(body.url, f"{where}.data.{medium}.url"),
            data=content_bytes,
            text_raw=raw,
            allow_duplicate_url=body.allow_duplicate_url,
            dataset_ids=tuple(message.dataset_ids),
        )

    async def _posted(
        self, app: AppRef, posted: Sequence[resources_pb2.Input], results: Sequence[str | AppError]
    ) -> service_pb2.MultiInputResponse:
        ids = [result for result in results if isinstance(result, str)]
        rows = [InputRow(*row) for row in await self._database.rows(_SQL["read"], {"bucket": app.bucket, "ids": ids})]
        messages = {message.id: message for message in await self._records.inputs(app, rows)}
        response = service_pb2.MultiInputResponse()
        for item, result in zip(posted, results, strict=True):
            if isinstance(result, AppError):
                response.inputs.append(_refused(item, result))
            else:
                # Between the commit and this look another call may have deleted it: then its id must do.
                response.inputs.append(messages.get(result) or resources_pb2.Input(id=result))
                # What the call did: by the time of the answer a worker may be further on.
                fill_status(response.inputs[-1].status, INPUT_PENDING, "")
        fill_batch_status(response.status, [result for result in results if isinstance(result, AppError)], len(results))
        return response


def _job(job_id: str, *, refused: int) -> JobShare | None:
    if not job_id:
        return None
    if not _ID.fullmatch(job_id):
        raise InvalidRequest(
            f"inputs_add_job_id is {quoted(job_id)}; use up to 128 ASCII letters, digits, '-', '_', '.', ':' or '~',"
            " beginning with a letter or digit."
        )
    return JobShare(job_id, refused)


def streamed(request: service_pb2.StreamInputsRequest) -> sql.Composed:
    """The statement of a stream: what comes after the last input, in the order asked for."""
    by_id = request.order_by_id
    key, last = ("i.id", "%(last_id)s") if by_id else ("(i.created_at, i.id)", "(%(created_at)s, %(last_id)s)")
    after, turn = ("<", " DESC") if request.descending else (">", "")
    conditions = [sql.SQL(f"{key} {after} {last}") if request.last_id else sql.SQL("true")]
    if not (by_id or request.descending):
        conditions.append(sql.SQL("i.created_at <= %(settled)s"))
    order = sql.SQL(f"i.id{turn}" if by_id else f"i.created_at{turn}, i.id{turn}")
    return sql.SQL(_SQL["stream"]).format(condition=sql.SQL(" AND ").join(conditions), order=order)


def _refused(item: resources_pb2.Input, error: AppError) -> resources_pb2.Input:
    echo = resources_pb2.Input(id=item.id)
    if item.data.image.url:
        echo.data.image.url = item.data.image.url
    elif item.data.video.url:
        echo.data.video.url = item.data.video.url
    echo.status.code, echo.status.description, echo.status.details = error.code, error.description, error.details
    return echo


def fill_batch_status(status: Any, errors: Sequence[AppError], count: int) -> None:
    """The status of a batch: 10000 when all items succeeded, 10010 when some did, 10020 when none (api-spec 1.5)."""
    if not errors:
        return
    some = len(errors) < count
    status.code = 10010 if some else 10020
    status.description = "Mixed Success" if some else "Failure"
    status.details = f"{len(errors)} of {count} items failed; the first: {errors[0].details or errors[0].description}"


def _storable(ids: Sequence[str]) -> Sequence[str]:
    """Ids that the database can hold: no others name anything."""
    return [name for name in ids if "\x00" not in name]


def _checked_url(url: str, where: str) -> str:
    if not url:
        return ""
    _check_text(url, where)
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise InputInvalidUrl(f"{where} is no URL: {error}.") from error
    if parts.scheme.lower() not in ("http", "https") or not parts.netloc:
        raise InputInvalidUrl(f"{where} is {url[:200]!r}; it must start with http:// or https:// and name a host.")
    return url


def _check_text(text: str, where: str) -> None:
    if "\x00" in text:
        raise InputInvalid(f"{where} holds a zero character, which the database cannot store.")
