"""A server of the measurements' own, in a process of its own, and the official client connected to it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clarifai_grpc.channel.clarifai_channel import ClarifaiChannel
from clarifai_grpc.grpc.api import resources_pb2, service_pb2, service_pb2_grpc
from clarifai_grpc.grpc.api.status import status_code_pb2

from sightrank.store.embedded import EmbeddedServer, machine_memory_bytes

HOST = "127.0.0.1"
PAT = "a-personal-access-token-for-measurements"
API_KEY = "an-app-key-for-measurements"
USER, APP, BESIDE = "admin", "photos", "beside"
_READY_S = 120.0


class Server:
    """``start()`` and ``stop()`` any number of times on one data directory; ``settings`` are environment variables."""

    def __init__(self, folder: Path) -> None:
        self.data_dir = folder / "data"
        self.grpc_port, self.http_port = _free_port(), _free_port()
        self.settings: dict[str, str] = {}
        self._log = folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def http_base(self) -> str:
        return f"http://{HOST}:{self.http_port}"

    def start(self) -> float:
        """Starts the server; returns the seconds until it printed that it is ready."""
        options = [f"--data-dir={self.data_dir}", f"--grpc-port={self.grpc_port}", f"--http-port={self.http_port}"]
        keys = {"SIGHTRANK_BOOTSTRAP_PAT": PAT, "SIGHTRANK_BOOTSTRAP_API_KEY": API_KEY}
        started = time.monotonic()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(Path(sys.executable).parent / "sightrank"), "serve", *options],
                env={"SIGHTRANK_LOG_LEVEL": "warning", **os.environ, **keys, **self.settings},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        while b"\nready" not in b"\n" + self._log.read_bytes():
            if self._process.poll() is not None or time.monotonic() - started > _READY_S:
                raise RuntimeError(f"The server did not start:\n{self._log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.02)
        return time.monotonic() - started

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def restart(self, **settings: str) -> None:
        """Stops it and starts it with these settings and no others."""
        self.stop()
        self.settings = settings
        self.start()

    def database_url(self) -> str:
        """Where its PostgreSQL listens."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a package remarks on a runtime folder that nobody here uses
            return EmbeddedServer(self.data_dir, memory_bytes=machine_memory_bytes()).url_of_running()

    def resident_bytes(self) -> int:
        """Memory of the serving process that is in use now; PostgreSQL runs in processes of its own."""
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        found = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
        assert found is not None, "Linux tells the resident memory"
        return int(found.group(1)) * 1024


class Client:
    """The official Python client, with the personal access token and an app of the server."""

    def __init__(self, grpc_port: int, app_id: str = APP) -> None:
        channel = ClarifaiChannel.get_insecure_grpc_channel(base=HOST, port=grpc_port)  # type: ignore[no-untyped-call]
        self._stub = service_pb2_grpc.V2Stub(channel)  # type: ignore[no-untyped-call]
        self._metadata = (("authorization", f"Key {PAT}"),)
        self.ids = resources_pb2.UserAppIDSet(user_id=USER, app_id=app_id)

    def call(self, rpc: str, request: Any) -> Any:
        """The answer of an rpc. Raises RuntimeError with its status when it is no success."""
        answer = getattr(self._stub, rpc)(request, metadata=self._metadata)
        if answer.status.code != status_code_pb2.SUCCESS:
            raise RuntimeError(f"{rpc} answered {answer.status.code}: {answer.status.details}")
        return answer

    def empty(self) -> Callable[[], object]:
        """ListCollaborators: the key and the app are checked, as in every call; then the answer is an empty list."""
        request = service_pb2.ListCollaboratorsRequest(user_app_id=self.ids)
        return lambda: self.call("ListCollaborators", request)


@contextmanager
def served() -> Iterator[Server]:
    """A running server on a fresh data directory, removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="sightrank-bench-"))
    folder.chmod(0o755)  # as root, PostgreSQL runs as a user of its own and must be able to walk there
    server = Server(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
