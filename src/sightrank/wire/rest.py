"""REST: every rpc at its ``google.api.http`` paths, as one ASGI application; nothing here is written per endpoint.

Answers are JSON objects always, with CORS headers always, because the guide's fetch examples run in browsers. Paths
that are no rpc go to the extra routes (health, media, later the portal).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from google.protobuf.message import Message
from starlette.types import ASGIApp, Receive, Scope, Send

from sightrank.errors import MethodNotAllowed
from sightrank.wire.body import BodyLease, BodyReader, BodyTooSlow
from sightrank.wire.credentials import Sender, read_sender
from sightrank.wire.delete_all import refuse_delete_all
from sightrank.wire.dispatch import Answer, Dispatcher
from sightrank.wire.headers import preflight_headers, with_common_headers
from sightrank.wire.json_reader import JsonReader
from sightrank.wire.json_text import clip, parse_object
from sightrank.wire.json_writer import JsonWriter
from sightrank.wire.packing import packing_of
from sightrank.wire.query_forms import read_query
from sightrank.wire.routes import Binding, Place, RouteTable
from sightrank.wire.service import Rpc
from sightrank.wire.status_codes import SUCCESS
from sightrank.wire.watch import requests_of, send_in_time

#: Bodies above this are parsed in a thread, so that other calls go on between two images.
_PARSE_ASIDE_BYTES = 256 * 1024
_MAX_SHOWN = 5
_JSON = (b"content-type", b"application/json")


class RestGateway:
    """The ASGI application. ``others`` serves the paths that are no rpc."""

    def __init__(
        self, rpcs: Mapping[str, Rpc], dispatcher: Dispatcher, bodies: BodyReader, others: ASGIApp, *, send_s: float
    ) -> None:
        self._send_s = send_s
        self._rpcs = rpcs
        self._dispatcher = dispatcher
        self._bodies = bodies
        self._others = others
        self._routes = RouteTable(rpcs.values())
        self._reader = JsonReader(rpc.request_descriptor for rpc in rpcs.values())
        self._writer = JsonWriter(rpc.response_descriptor for rpc in rpcs.values())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        with requests_of(scope):
            await self._serve(scope, receive, send_in_time(with_common_headers(scope, send), self._send_s))

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "OPTIONS":
            await _send(send, 204, b"", preflight_headers(scope["headers"]))
            return
        place = self._routes.find(scope["raw_path"].decode("ascii", "replace"))
        if place is None:
            await self._others(scope, receive, send)
            return
        binding = place.bindings.get(scope["method"])
        if binding is None:
            await self._refuse_method(scope, place, send)
            return
        rpc = self._rpcs[binding.rpc]
        with self._bodies.lease() as lease:
            await self._call(_Request(scope, receive, place, binding, lease), rpc, send)

    async def _call(self, request: _Request, rpc: Rpc, send: Send) -> None:
        async def read() -> Message:
            return await request.message(rpc, self._reader)

        answer = await self._dispatcher.call(rpc, _sender(request.scope), read)
        if request.ignored:
            _tell_ignored(answer, rpc, request.ignored)
        await self._answer(send, answer, close=request.too_slow)

    async def _refuse_method(self, scope: Scope, place: Place, send: Send) -> None:
        allowed = ", ".join(sorted(place.bindings))
        error = MethodNotAllowed(f"{scope['path']} takes {allowed}, not {scope['method']}.")
        answer = self._dispatcher.refuse(error, _sender(scope), f"{scope['method']} {scope['path']}")
        await self._answer(send, answer, headers=[(b"allow", allowed.encode())])

    async def _answer(
        self, send: Send, answer: Answer, *, close: bool = False, headers: Iterable[tuple[bytes, bytes]] = ()
    ) -> None:
        extra = [*headers, (b"connection", b"close")] if close else [*headers]
        await _send(send, answer.http_status, self._writer.text(answer.message), extra)


class _Request:
    """One REST request on its way to becoming a message."""

    def __init__(self, scope: Scope, receive: Receive, place: Place, binding: Binding, lease: BodyLease) -> None:
        self.scope = scope
        self._receive = receive
        self._place = place
        self._binding = binding
        self._lease = lease
        self.too_slow = False
        #: Names in the body that are no fields of the request.
        self.ignored: Sequence[str] = ()

    async def message(self, rpc: Rpc, reader: JsonReader) -> Message:
        """The request message: query, then body, then the path, which wins (api-spec 1.2)."""
        body = await self._body()
        if len(body) > _PARSE_ASIDE_BYTES:
            return await asyncio.to_thread(self._build, rpc, reader, body)
        return self._build(rpc, reader, body)

    def _build(self, rpc: Rpc, reader: JsonReader, body: bytes) -> Message:
        request = rpc.request_type()
        query = self.scope["query_string"].decode("latin-1")
        fields = read_query(rpc.request_descriptor, query) if query else {}
        sent = parse_object(body)
        refuse_delete_all(rpc, sent)
        self.ignored = reader.unknown(rpc.request_descriptor, sent)
        fields.update(sent)
        reader.fill(request, fields)
        for names, value in zip(self._binding.variables, self._place.values, strict=True):
            _set_variable(request, names, value)
        return request

    async def _body(self) -> bytes:
        # DELETE has a body also where the binding names none (both JSON clients send one); a GET only if it says so.
        if self.scope["method"] == "GET" and not _content_length(self.scope):
            return b""
        packing = packing_of(self.scope["headers"])
        try:
            body = await self._lease.read(self._receive, _content_length(self.scope))
        except BodyTooSlow:
            self.too_slow = True
            raise
        return await self._lease.unpack(body, packing) if body and packing else body


def _tell_ignored(answer: Answer, rpc: Rpc, names: Sequence[str]) -> None:
    """A success says what it passed over: a search whose `query` is ignored shows everything."""
    status: Any = answer.message.status  # type: ignore[attr-defined]
    if answer.code == SUCCESS:
        shown = ", ".join(f"`{clip(name)}`" for name in names[:_MAX_SHOWN])
        known = ", ".join(field.name for field in rpc.request_descriptor.fields)
        hint = f"Ignored: {shown}, which {rpc.name} does not have. Its fields: {known}."
        status.details = f"{status.details} {hint}".strip()


def _set_variable(request: Any, names: tuple[str, ...], value: str) -> None:
    for name in names[:-1]:
        request = getattr(request, name)
    setattr(request, names[-1], value)


def _content_length(scope: Scope) -> int | None:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return None


def _sender(scope: Scope) -> Sender:
    return read_sender((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])


async def _send(send: Send, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]]) -> None:
    length = [(b"content-length", str(len(body)).encode())] if status != 204 else []
    await send({"type": "http.response.start", "status": status, "headers": [_JSON, *length, *headers]})
    await send({"type": "http.response.body", "body": body})
