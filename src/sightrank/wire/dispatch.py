"""The one place where an rpc is called, for gRPC and REST alike.

Every call gets a request id, an authenticated ``Call``, a deadline, a log line, and an answer with a filled ``status``:
errors travel in-band in the rpc's own response message (api-spec 1.1, 1.5). Cancellation passes through.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog
from clarifai_grpc.grpc.api.status import status_pb2
from google.protobuf.message import Message

from sightrank.api.call import Authenticate, Handlers
from sightrank.errors import AppError, DeadlinePassed, InternalFailure, NotImplementedHere, ServerBusy
from sightrank.wire.credentials import Sender
from sightrank.wire.service import Rpc
from sightrank.wire.status_codes import SUCCESS, StatusEntry

T = TypeVar("T")

#: Delivers the request message of a call; may raise an ``AppError`` (a body that cannot be read).
ReadRequest = Callable[[], Awaitable[Message]]

#: Here ``status`` is what was asked for, not the outcome of the call.
_STATUS_IS_THE_ANSWER = frozenset({"GetStatusCode"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A response message with its status filled, and the HTTP status it has over REST. ``code`` is how the call went;
    the message's own code differs from it where a code is what was asked for."""

    message: Message
    http_status: int
    code: int


@dataclass(slots=True)
class _Load:
    """How many calls run now."""

    running: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatcher:
    """Calls handlers. ``timeout_s`` bounds one call, ``max_running`` the calls at once."""

    handlers: Handlers
    authenticate: Authenticate
    codes: Mapping[int, StatusEntry]
    timeout_s: float
    max_running: int
    log: structlog.typing.FilteringBoundLogger
    _load: _Load = field(default_factory=_Load, init=False)

    async def call(self, rpc: Rpc, sender: Sender, read: ReadRequest) -> Answer:
        """The answer of an rpc. A gRPC client's own deadline arrives here as a cancellation.

        No stream is built yet, so every one of them is this one answer too.
        """
        started = time.perf_counter()
        try:
            handler = self.handlers.get(rpc.name)
            if handler is None:
                raise NotImplementedHere(f"This server does not implement {rpc.name}.")
            # Reading has deadlines of its own and takes no place: slow uploads must not keep others out.
            request = await read()
            with self._place():
                async with _Deadline(rpc.name, self.timeout_s):
                    call = await self.authenticate(rpc.name, sender.key, request, sender.request_id)
                    message = await handler(call, request)
            answer = self._complete(rpc, message, sender)
        except asyncio.CancelledError:
            self.log.info("call cancelled", rpc=rpc.name, ms=_ms_since(started), req_id=sender.request_id)
            raise
        except Exception as error:
            answer = self._refuse(rpc, error, sender)
        self._log(rpc.name, answer.code, sender, started)
        return answer

    async def run(self, what: str, sender: Sender, work: Callable[[], Awaitable[T]]) -> T:
        """Work that is no rpc, such as finding a hosted image, under the same bounds. Its errors pass: ``refuse`` makes
        answers of them."""
        started = time.perf_counter()
        with self._place():
            async with _Deadline(what, self.timeout_s):
                result = await work()
        self._log(what, SUCCESS, sender, started)
        return result

    def refuse(self, error: AppError, sender: Sender, what: str) -> Answer:
        """An answer to something that is no rpc (an unknown path), so a bare ``status``."""
        message = status_pb2.BaseResponse()
        _fill(message.status, error, sender)
        self._log(what, error.code, sender, time.perf_counter())
        return Answer(message=message, http_status=error.http_status, code=error.code)

    @contextmanager
    def _place(self) -> Iterator[None]:
        if self._load.running >= self.max_running:
            raise ServerBusy(f"The server runs {self.max_running} calls at once and all are taken: try again shortly.")
        self._load.running += 1
        try:
            yield
        finally:
            self._load.running -= 1

    def _complete(self, rpc: Rpc, message: Message, sender: Sender) -> Answer:
        status = _status_of(message)
        if not status.code:
            status.code = SUCCESS
        entry = self.codes.get(status.code)
        if entry is not None and not status.description:
            status.description = entry.description
        status.req_id = sender.request_id
        if entry is None or rpc.name in _STATUS_IS_THE_ANSWER:
            return Answer(message=message, http_status=200, code=status.code if entry is None else SUCCESS)
        return Answer(message=message, http_status=entry.http_status, code=status.code)

    def _refuse(self, rpc: Rpc, error: Exception, sender: Sender) -> Answer:
        if not isinstance(error, AppError):
            self.log.error("unexpected failure", rpc=rpc.name, req_id=sender.request_id, exc_info=error)
            error = InternalFailure(f"The server failed; its log has the reason under {sender.request_id}.")
        message = rpc.response_type()
        _fill(_status_of(message), error, sender)
        return Answer(message=message, http_status=error.http_status, code=error.code)

    def _log(self, rpc: str, code: int, sender: Sender, started: float) -> None:
        self.log.info("call", rpc=rpc, code=code, ms=_ms_since(started), req_id=sender.request_id)


class _Deadline:
    """Turns its own expiry, and only that, into ``DeadlinePassed``: a handler's own timeouts stay what they are."""

    def __init__(self, rpc: str, seconds: float) -> None:
        self._rpc, self._seconds = rpc, seconds
        self._timeout = asyncio.timeout(seconds)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(self, *error: Any) -> None:
        try:
            await self._timeout.__aexit__(*error)
        except TimeoutError:
            if not self._timeout.expired():
                raise
            raise DeadlinePassed(f"{self._rpc} took longer than {self._seconds:g} s.") from None


def _ms_since(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 2)


def _status_of(message: Message) -> status_pb2.Status:
    # Every response of the service has `status` as its first field; the route test checks it by reflection.
    status: status_pb2.Status = message.status  # type: ignore[attr-defined]
    return status


def _fill(status: status_pb2.Status, error: AppError, sender: Sender) -> None:
    status.code = error.code
    status.description = error.description
    status.details = error.details
    status.req_id = sender.request_id
