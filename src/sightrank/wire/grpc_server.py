"""gRPC: one generic handler for every method of the service, over the types of the descriptors.

Errors are in-band with gRPC OK, even for a request that cannot be parsed; other gRPC codes mean transport trouble only
(api-spec 1.1). Deadlines and cancellation are the client's: gRPC cancels the call's task.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message

from sightrank.errors import BadRequestFormat
from sightrank.wire.credentials import read_sender
from sightrank.wire.dispatch import Dispatcher
from sightrank.wire.service import Rpc

_KEEPALIVE_MS = 60_000
_KEEPALIVE_ANSWER_MS = 20_000
_SHORTEST_PING_MS = 5_000


def make_grpc_server(
    rpcs: Mapping[str, Rpc], dispatcher: Dispatcher, *, max_message_bytes: int, max_rpcs: int, handshake_s: float
) -> grpc.aio.Server:
    """A server of all rpcs, not yet bound to an address. Beyond ``max_rpcs`` at once gRPC itself refuses."""
    options = [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        # Without this two servers could share a port on Linux and answer by turns.
        ("grpc.so_reuseport", 0),
        ("grpc.server_handshake_timeout_ms", int(handshake_s * 1000)),
        ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_ANSWER_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", _SHORTEST_PING_MS),
    ]
    server: grpc.aio.Server = grpc.aio.server(
        handlers=[_ServiceHandler(rpcs, dispatcher)], options=options, maximum_concurrent_rpcs=max_rpcs
    )
    return server


#: Request and response as gRPC sees them.
_Context = grpc.aio.ServicerContext[bytes, Message]


class _ServiceHandler(grpc.GenericRpcHandler):
    """Finds the handler of a method path; unknown paths are left to gRPC, which answers UNIMPLEMENTED."""

    def __init__(self, rpcs: Mapping[str, Rpc], dispatcher: Dispatcher) -> None:
        self._handlers = {rpc.path: _method_handler(rpc, dispatcher) for rpc in rpcs.values()}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return self._handlers.get(handler_call_details.method)


def _method_handler(rpc: Rpc, dispatcher: Dispatcher) -> Any:
    make: Any
    if rpc.request_stream:
        make, serve = grpc.stream_stream_rpc_method_handler, _stream(rpc, dispatcher)
    elif rpc.response_stream:
        make, serve = grpc.unary_stream_rpc_method_handler, _stream(rpc, dispatcher)
    else:
        make, serve = grpc.unary_unary_rpc_method_handler, _unary(rpc, dispatcher)
    # No deserializer: requests arrive as bytes, and one that cannot be parsed is answered in-band like other errors.
    return make(serve, response_serializer=rpc.response_type.SerializeToString)


def _unary(rpc: Rpc, dispatcher: Dispatcher) -> Any:
    async def serve(request: bytes, context: _Context) -> Message:
        async def read() -> Message:
            return _parse(rpc, request)

        sender = read_sender(context.invocation_metadata() or ())
        answer = await dispatcher.call(rpc, sender, read)
        return answer.message

    return serve


def _stream(rpc: Rpc, dispatcher: Dispatcher) -> Any:
    """A stream of one answer: none is built yet, so what the client sends is not looked at."""

    async def serve(incoming: object, context: _Context) -> AsyncIterator[Message]:
        async def read() -> Message:
            return rpc.request_type()

        sender = read_sender(context.invocation_metadata() or ())
        answer = await dispatcher.call(rpc, sender, read)
        yield answer.message

    return serve


def _parse(rpc: Rpc, request: bytes) -> Message:
    message = rpc.request_type()
    try:
        message.MergeFromString(request)
    except DecodeError:
        name = rpc.request_type.__name__
        raise BadRequestFormat(f"The request is not a valid {name} message.") from None
    return message
