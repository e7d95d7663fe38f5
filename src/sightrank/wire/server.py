"""All ports of the server, started and stopped together."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from types import TracebackType

import grpc.aio
import structlog
from starlette.routing import BaseRoute
from uvicorn import Config

from sightrank.api.call import Authenticate, Handlers
from sightrank.wire.body import BodyReader
from sightrank.wire.dispatch import Dispatcher
from sightrank.wire.grpc_server import make_grpc_server
from sightrank.wire.http1 import Http1Protocol
from sightrank.wire.listener import Listener, ListenerLimits
from sightrank.wire.options import WireOptions, WirePorts
from sightrank.wire.pages import Ready, make_pages
from sightrank.wire.rest import RestGateway
from sightrank.wire.service import read_service
from sightrank.wire.socket_folder import SocketFolder
from sightrank.wire.status_codes import read_table, status_code_handlers
from sightrank.wire.tls import make_tls_context

#: What a stopped gRPC server has written reaches its clients within this, or they are gone.
_DELIVERY_S = 1.0


#: Makes the routes that are no rpc; they take places and deadlines from the dispatcher.
ExtraRoutes = Callable[[Dispatcher], Sequence[BaseRoute]]


def _no_routes(dispatcher: Dispatcher) -> Sequence[BaseRoute]:
    return ()


class PortTakenError(Exception):
    """An address cannot be listened on; the text says which, why, and what to do."""


class WireServer:
    """gRPC on its own port; REST and gRPC together on the HTTP port and, if asked for, the TLS port.

    ``handlers`` maps rpc names to functions; rpcs without one, and all streams, answer 10040. ``ready`` says whether
    ``/readyz`` is 200.
    Use it as an async context manager, or ``start`` and ``stop`` it.
    """

    def __init__(
        self,
        handlers: Handlers,
        authenticate: Authenticate,
        ready: Ready,
        options: WireOptions,
        *,
        extra_routes: ExtraRoutes = _no_routes,
    ) -> None:
        self._options = options
        self._ready = ready
        self._stopping = False
        self._folder: SocketFolder | None = None
        self._ports: WirePorts | None = None
        self._log: structlog.typing.FilteringBoundLogger = structlog.get_logger("sightrank.wire")
        self._rpcs = read_service()
        codes = read_table()
        self._dispatcher = Dispatcher(
            handlers={**status_code_handlers(codes), **handlers},
            authenticate=authenticate,
            codes=codes,
            timeout_s=options.timeout_s,
            max_running=options.max_running,
            log=self._log,
        )
        pages = make_pages(self._dispatcher, self._is_ready, extra_routes(self._dispatcher))
        self.app = RestGateway(self._rpcs, self._dispatcher, _body_reader(options), pages, send_s=options.send_s)
        self._grpc: grpc.aio.Server | None = None
        self._listener: Listener | None = None

    @property
    def ports(self) -> WirePorts:
        """The ports in use; known once the server has started."""
        assert self._ports is not None, "the server has not started"
        return self._ports

    async def start(self) -> WirePorts:
        """Open all ports. Raises PortTakenError or CertificateError, and then leaves nothing open."""
        try:
            self._ports = await self._open()
        except BaseException:
            await self.stop(0)
            raise
        return self._ports

    async def stop(self, grace_s: float = 10.0) -> None:
        """Take no new requests, let running ones finish for ``grace_s``, then cut them."""
        self._stopping = True
        if self._listener is not None:
            self._listener.close()
        await asyncio.gather(self._drain_rest(grace_s), self._drain_grpc(grace_s))
        if self._listener is not None:
            await self._listener.finish(_DELIVERY_S)
        if self._folder is not None:
            self._folder.remove()
        self._listener = self._grpc = self._folder = None

    async def __aenter__(self) -> WireServer:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def _open(self) -> WirePorts:
        options = self._options
        context = make_tls_context(options.tls_cert, options.tls_key) if options.tls_port is not None else None
        self._folder = SocketFolder(options.folder_note)
        socket_path = str(self._folder.socket)
        self._grpc = make_grpc_server(
            self._rpcs,
            self._dispatcher,
            max_message_bytes=options.max_message_bytes,
            # Twice what runs: the dispatcher answers those in between that the server is busy, in-band.
            max_rpcs=2 * options.max_running,
            handshake_s=options.head_s,
        )
        self._grpc.add_insecure_port(f"unix:{socket_path}")
        grpc_port = _bind_grpc(self._grpc, options.host, options.grpc_port)
        await self._grpc.start()
        limits = ListenerLimits(head_s=options.head_s, idle_s=options.idle_s, max_connections=options.max_connections)
        self._listener = Listener(_uvicorn_config(self.app, options), socket_path, limits, self._log)
        http_port = await _bind(self._listener, options.host, options.http_port, "--http-port")
        tls_port = None
        if context is not None and options.tls_port is not None:
            tls_port = await _bind(self._listener, options.host, options.tls_port, "--tls-port", context)
        return WirePorts(grpc=grpc_port, http=http_port, tls=tls_port)

    async def _drain_rest(self, grace_s: float) -> None:
        if self._listener is not None:
            await self._listener.drain(grace_s)

    async def _drain_grpc(self, grace_s: float) -> None:
        if self._grpc is not None:
            await self._grpc.stop(grace_s)

    async def _is_ready(self) -> bool:
        return not self._stopping and await self._ready()


def _bind_grpc(server: grpc.aio.Server, host: str, port: int) -> int:
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        bound: int = server.add_insecure_port(address)
    except RuntimeError:
        bound = 0
    if not bound:
        raise PortTakenError(_taken(host, port, "--grpc-port"))
    return bound


async def _bind(listener: Listener, host: str, port: int, option: str, context: ssl.SSLContext | None = None) -> int:
    try:
        return await listener.listen(host, port, context)
    except OSError as error:
        raise PortTakenError(f"{_taken(host, port, option)} ({error.strerror or error})") from error


def _taken(host: str, port: int, option: str) -> str:
    return (
        f"Cannot listen on {host} port {port}: another program may hold it. Stop that one or choose another {option}."
    )


def _body_reader(options: WireOptions) -> BodyReader:
    return BodyReader(
        # Base64 takes four bytes for three: what one channel takes, the other does too.
        max_bytes=options.max_message_bytes * 4 // 3,
        max_held_bytes=options.max_held_bytes,
        idle_s=options.body_idle_s,
        total_s=options.body_total_s,
    )


def _uvicorn_config(app: RestGateway, options: WireOptions) -> Config:
    return Config(
        app,
        http=Http1Protocol,
        # Long enough for the ids of a whole page in one query string.
        h11_max_incomplete_event_size=64 * 1024,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        timeout_keep_alive=int(options.idle_s),
    )
