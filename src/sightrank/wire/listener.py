"""The HTTP and TLS ports: one port for gRPC and REST, told apart by their first bytes.

HTTP/2 announces itself with a fixed preface. A connection that starts with it is gRPC and is spliced to gRPC's unix
socket; any other is handed, with its transport, to uvicorn's protocol in this same event loop, as uvicorn itself does
when it upgrades a connection. So REST costs no second hop and keeps the peer's address.

On TLS the server prefers http/1.1, so browsers and curl, which offer both, get REST; gRPC clients offer h2 alone. What
is left out: REST over HTTP/2 from a client that insists on it (``curl --http2-prior-knowledge``) meets the gRPC server.
gRPC sees the splice, not the peer, as its client; nothing depends on that address.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
from uvicorn import Config
from uvicorn.server import ServerState

from sightrank.wire.http1 import Http1Protocol
from sightrank.wire.splice import SpliceEnd, splice
from sightrank.wire.watch import STATE_KEY, ConnectionWatch

HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

#: Makes a transport somebody else's: the transport and what was read from it.
_HandOver = Callable[[asyncio.Transport, bytes], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerLimits:
    """``head_s``: TLS handshake, first bytes and request head; ``idle_s``: between two requests of a connection."""

    head_s: float
    idle_s: float
    max_connections: int


@dataclass(slots=True)
class _Open:
    """The connections of all ports, by what became of them; a spliced one counts with both its ends."""

    undecided: set[FirstBytes] = field(default_factory=set)
    spliced: set[SpliceEnd] = field(default_factory=set)
    connecting: set[asyncio.Task[None]] = field(default_factory=set)


class Listener:
    """Ports that serve REST through ``config`` and gRPC through the unix socket ``grpc_socket``."""

    def __init__(
        self, config: Config, grpc_socket: str, limits: ListenerLimits, log: structlog.typing.FilteringBoundLogger
    ) -> None:
        config.load()
        self._config = config
        self._state = ServerState()
        self._grpc_socket = grpc_socket
        self._limits = limits
        self._log = log
        self._open = _Open()
        self._servers: list[asyncio.Server] = []

    async def listen(self, host: str, port: int, context: ssl.SSLContext | None = None) -> int:
        """Open a port, with TLS where a context is given; 0 takes a free one. Returns the port."""
        handshake_s = self._limits.head_s if context else None
        server = await asyncio.get_running_loop().create_server(
            self._accept, host, port, ssl=context, ssl_handshake_timeout=handshake_s, ssl_shutdown_timeout=handshake_s
        )
        self._servers.append(server)
        bound: int = server.sockets[0].getsockname()[1]
        return bound

    def close(self) -> None:
        """Accept nothing more, and let each connection end with the request it is running."""
        for server in self._servers:
            server.close()
        for waiting in list(self._open.undecided):
            waiting.close()
        for protocol in list(self._state.connections):
            protocol.shutdown()

    async def drain(self, seconds: float) -> None:
        """Wait for running REST requests, at most ``seconds``, then cut what is left."""
        tasks = list(self._state.tasks)
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)
        leftover = [*self._state.tasks, *self._open.connecting]
        for task in leftover:
            task.cancel()
        if leftover:
            self._log.warning("requests cut at shutdown", count=len(leftover))
            await asyncio.wait(leftover, timeout=1)
        for protocol in list(self._state.connections):
            protocol.transport.close()

    async def finish(self, seconds: float) -> None:
        """Once the gRPC server has stopped: deliver what is on its way to gRPC clients, then cut them."""
        ends = list(self._open.spliced)
        if ends:
            await asyncio.wait([end.closed for end in ends], timeout=seconds)
        for end in ends:
            end.abort()

    def _accept(self) -> FirstBytes:
        held = len(self._open.undecided) + len(self._open.spliced) // 2 + len(self._state.connections)
        full = held >= self._limits.max_connections
        return FirstBytes(self._open.undecided, self._limits.head_s, self._to_grpc, self._to_rest, refuse=full)

    def _to_rest(self, transport: asyncio.Transport, received: bytes) -> None:
        watch = ConnectionWatch(
            transport, first_s=self._limits.head_s, wait_s=self._limits.idle_s + self._limits.head_s
        )
        protocol = Http1Protocol(config=self._config, server_state=self._state, app_state={STATE_KEY: watch})
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(received)

    def _to_grpc(self, transport: asyncio.Transport, received: bytes) -> None:
        # Before anything else, or the next bytes would still come to the protocol that has handed over.
        transport.pause_reading()
        task = asyncio.get_running_loop().create_task(self._splice(transport, received))
        self._open.connecting.add(task)
        task.add_done_callback(self._open.connecting.discard)

    async def _splice(self, transport: asyncio.Transport, received: bytes) -> None:
        try:
            await splice(transport, received, self._grpc_socket, self._open.spliced, wait_s=self._limits.head_s)
        except OSError as error:
            # TimeoutError is an OSError too: the gRPC server is gone or stuck, and the client will try again.
            self._log.warning("gRPC connection failed", error=str(error))
            transport.abort()


class FirstBytes(asyncio.Protocol):
    """A connection of which too little has been read to know what it speaks."""

    def __init__(
        self, waiting: set[FirstBytes], seconds: float, to_grpc: _HandOver, to_rest: _HandOver, *, refuse: bool
    ) -> None:
        self._waiting = waiting
        self._seconds = seconds
        self._to_grpc = to_grpc
        self._to_rest = to_rest
        self._refuse = refuse
        self._received = b""
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._timer = asyncio.get_running_loop().call_later(self._seconds, transport.abort)
        self._waiting.add(self)
        if self._refuse:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        self._received += data
        size = min(len(self._received), len(HTTP2_PREFACE))
        is_http2 = self._received[:size] == HTTP2_PREFACE[:size]
        if is_http2 and size < len(HTTP2_PREFACE):
            return
        self._forget()
        hand_over = self._to_grpc if is_http2 else self._to_rest
        hand_over(self._transport, self._received)

    def connection_lost(self, error: Exception | None) -> None:
        self._forget()

    def close(self) -> None:
        self._transport.abort()

    def _forget(self) -> None:
        self._timer.cancel()
        self._waiting.discard(self)
