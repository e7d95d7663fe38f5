"""What a client must know: the addresses of a server, as the official clients want them written."""

from __future__ import annotations

import json
from pathlib import Path

from sightrank.api.bootstrap import Bootstrap, BootstrapError, env_lines, unwritable
from sightrank.settings import Settings
from sightrank.wire.options import WirePorts

_FILE = "addresses.json"
CLIENTS_GRPC_PORT = 18080  # what the official Python client appends to CLARIFAI_GRPC_BASE


def client_addresses(settings: Settings) -> tuple[str, str]:
    """CLARIFAI_API_BASE and CLARIFAI_GRPC_BASE of the server that uses this data directory, or will."""
    try:
        known = json.loads((settings.data_dir / _FILE).read_text(encoding="utf-8"))
        return known["api_base"], known["grpc_base"]
    except (OSError, ValueError, LookupError, TypeError):
        return _addresses(settings, settings.http_port, settings.grpc_port)


def announce(settings: Settings, ports: WirePorts, first_start: Bootstrap) -> None:
    """Prints the addresses, and on the first start the keys, and notes the addresses for `sightrank env`."""
    api_base, grpc_base = _addresses(settings, ports.http, ports.grpc)
    _note(settings.data_dir / _FILE, api_base, grpc_base)
    if first_start.made:
        print("First start. These credentials are shown once and kept in the data directory:")
        for line in env_lines(first_start.credentials):
            print(f"  {line.removeprefix('export ')}")
    tls = f" tls https://{settings.client_host()}:{ports.tls}" if ports.tls is not None else ""
    print(f"ready: rest {api_base} grpc {grpc_base}{tls} data {settings.data_dir}", flush=True)


def _addresses(settings: Settings, http_port: int, grpc_port: int) -> tuple[str, str]:
    """The gRPC base is a bare host on the port that clients add themselves: they add it to whatever they are given."""
    host = settings.client_host()
    return settings.http_base(http_port), host if grpc_port == CLIENTS_GRPC_PORT else f"{host}:{grpc_port}"


def _note(path: Path, api_base: str, grpc_base: str) -> None:
    unfinished = path.with_suffix(".tmp")
    try:
        unfinished.write_text(json.dumps({"api_base": api_base, "grpc_base": grpc_base}), encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        raise BootstrapError(unwritable(path, error)) from error
