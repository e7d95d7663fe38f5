"""What an operator can choose about the ports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class WireOptions:
    """Addresses and bounds of the server. Port 0 takes a free port; a ``tls_port`` needs the certificate and its key.

    Times are seconds: ``timeout_s`` one call, ``head_s`` a TLS handshake or a request head, ``idle_s`` between two
    requests of a connection, ``body_idle_s`` and ``body_total_s`` a request body, ``send_s`` a client that takes
    nothing of its answer. Clarifai's clients send up to 128 MiB in one message (api-spec 1.1);
    as JSON, whose base64 is longer, a third more is taken. ``folder_note``: of the socket's folder (socket_folder.py).
    """

    host: str = "127.0.0.1"
    grpc_port: int = 18080
    http_port: int = 8000
    tls_port: int | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    timeout_s: float = 60.0
    max_message_bytes: int = 128 * MIB
    max_held_bytes: int = 1024 * MIB
    max_running: int = 256
    max_connections: int = 2048
    head_s: float = 10.0
    idle_s: float = 75.0
    body_idle_s: float = 30.0
    body_total_s: float = 300.0
    send_s: float = 60.0
    folder_note: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WirePorts:
    """The ports the server got."""

    grpc: int
    http: int
    tls: int | None
