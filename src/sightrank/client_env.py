"""What a client must know: the addresses of a server, as the official clients want them written."""

from __future__ import annotations

import json
from pathlib import Path

from sightrank.api.bootstrap import Bootstrap, env_lines
from sightrank.settings import Settings
from sightrank.wire.options import WirePorts

_FILE = "addresses.json"


def client_addresses(settings: Settings) -> tuple[str, str]:
    """CLARIFAI_API_BASE and CLARIFAI_GRPC_BASE of the server that uses this data directory, or will."""
    try:
        known = json.loads((settings.data_dir / _FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return _addresses(settings.host, settings.http_port, settings.grpc_port)
    return known["api_base"], known["grpc_base"]


def announce(settings: Settings, ports: WirePorts, first_start: Bootstrap) -> None:
    """Prints the addresses, and on the first start the keys, and notes the addresses for `sightrank env`."""
    api_base, grpc_base = _addresses(settings.host, ports.http, ports.grpc)
    _note(settings.data_dir / _FILE, api_base, grpc_base)
    if first_start.made:
        print("First start. These credentials are shown once and kept in the data directory:")
        for line in env_lines(first_start.credentials):
            print(f"  {line.removeprefix('export ')}")
    tls = f" tls https://{_name(settings.host)}:{ports.tls}" if ports.tls is not None else ""
    print(f"ready: rest {api_base} grpc {grpc_base}{tls} data {settings.data_dir}", flush=True)


def _addresses(host: str, http_port: int, grpc_port: int) -> tuple[str, str]:
    return f"http://{_name(host)}:{http_port}", f"{_name(host)}:{grpc_port}"


def _name(host: str) -> str:
    """An address to connect to, for one to listen on."""
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"[{name}]" if ":" in name else name


def _note(path: Path, api_base: str, grpc_base: str) -> None:
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(json.dumps({"api_base": api_base, "grpc_base": grpc_base}), encoding="utf-8")
    unfinished.replace(path)
