"""A real server process for the contract tests: certificates, ports, environment, start and stop."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
from tests.ports import HOST, free_ports
from tests.processes import COMMAND, clean_environment, home
from tests.waiting import wait_for

START_SECONDS = 180.0
STOP_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where a running server is and who may call it."""

    data_dir: Path
    grpc_port: int
    http_port: int
    tls_port: int
    ca: Path
    user_id: str = "contract"
    app_id: str = "library"
    pat: str = "c0" * 16
    api_key: str = "a1" * 16

    @property
    def base(self) -> str:
        return f"http://{HOST}:{self.http_port}"

    @property
    def tls_base(self) -> str:
        return f"https://{HOST}:{self.tls_port}"

    def client_environment(self, **more: str) -> dict[str, str]:
        """What ``sightrank env`` makes of a shell, with nothing of this shell's own settings left in it."""
        return clean_environment() | {
            "CLARIFAI_PAT": self.pat,
            "CLARIFAI_API_KEY": self.api_key,
            "CLARIFAI_USER_ID": self.user_id,
            "CLARIFAI_APP_ID": self.app_id,
            "CLARIFAI_API_BASE": self.base,
            "CLARIFAI_GRPC_BASE": f"{HOST}:{self.grpc_port}",
            **more,
        }


@contextmanager
def running_server() -> Iterator[Server]:
    """A server with a fresh data directory, ready to answer, stopped and removed at the end."""
    with home() as folder:
        tls = folder / "tls"
        subprocess.run(
            [COMMAND, "certs", tls, "--host", HOST, "--host", "localhost"],
            check=True,
            env=clean_environment(),
            timeout=60,
            stdout=subprocess.DEVNULL,
        )
        grpc_port, http_port, tls_port = free_ports(3)
        server = Server(
            data_dir=folder / "data", grpc_port=grpc_port, http_port=http_port, tls_port=tls_port, ca=tls / "ca.pem"
        )
        with (folder / "server.log").open("wb") as log:
            process = subprocess.Popen(
                _serve_command(server, tls),
                env=clean_environment(**_server_settings(server)),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            wait_for("the server to be ready", lambda: _ready(server, process, folder), seconds=START_SECONDS)
            yield server
        finally:
            _stop(process)


def _serve_command(server: Server, tls: Path) -> list[str | Path]:
    return [
        *(COMMAND, "serve", "--data-dir", server.data_dir, "--host", HOST),
        *("--grpc-port", str(server.grpc_port), "--http-port", str(server.http_port)),
        *("--tls-port", str(server.tls_port), "--tls-cert", tls / "server.pem", "--tls-key", tls / "server.key"),
    ]


def _server_settings(server: Server) -> dict[str, str]:
    return {
        "SIGHTRANK_BOOTSTRAP_USER_ID": server.user_id,
        "SIGHTRANK_BOOTSTRAP_APP_ID": server.app_id,
        "SIGHTRANK_BOOTSTRAP_PAT": server.pat,
        "SIGHTRANK_BOOTSTRAP_API_KEY": server.api_key,
        "SIGHTRANK_FETCH_ALLOW": "127.0.0.0/8",
    }


def _ready(server: Server, process: subprocess.Popen[bytes], folder: Path) -> bool:
    if process.poll() is not None:
        raise AssertionError(f"the server ended with {process.returncode}:\n{(folder / 'server.log').read_text()}")
    if "\nready" not in (folder / "server.log").read_text():
        return False  # /healthz answers a moment before the addresses are printed and noted
    with suppress(httpx.TransportError):
        return httpx.get(f"{server.base}/healthz", trust_env=False, timeout=2.0).status_code == 200
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise AssertionError(f"the server did not stop within {STOP_SECONDS:g} s of SIGTERM") from None
