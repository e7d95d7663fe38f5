"""A real ``sightrank serve`` process, an app of it seen through the official client, and a web site to fetch from."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import threading
import time
import uuid
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psycopg
from clarifai_grpc.channel.clarifai_channel import ClarifaiChannel
from clarifai_grpc.grpc.api import resources_pb2, service_pb2, service_pb2_grpc
from clarifai_grpc.grpc.api.resources_pb2 import Annotation, Concept, Data, Input, Rank, UserAppIDSet
from PIL import Image
from tests.ports import HOST, free_ports
from tests.processes import COMMAND, clean_environment
from tests.processes import home as home
from tests.waiting import wait_for

from sightrank.store.embedded import EmbeddedServer

PAT = "c1" * 16
API_KEY = "a2" * 16
USER = "admin"
SUCCESS, MIXED, FAILURE = 10000, 10010, 10020
INDEXED, PENDING, FAILED, WORKING = 30000, 30001, 30002, 30003
START_S, STOP_S, INDEX_S = 180.0, 60.0, 120.0

# Server -------------------------------------------------------------------------------------------------------------


def run_command(*arguments: str | Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Runs ``sightrank`` to its end."""
    return subprocess.run(
        [COMMAND, *arguments], env=clean_environment(**settings), capture_output=True, text=True, timeout=120
    )


@dataclass(kw_only=True)
class Server:
    """One data directory and the process that serves it: start, stop, kill, start again."""

    folder: Path
    settings: dict[str, str]
    grpc_port: int
    http_port: int
    command: str = "serve"
    host: str = HOST
    process: subprocess.Popen[bytes] = field(init=False)

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    @property
    def base(self) -> str:
        return f"http://{HOST}:{self.http_port}"

    @property
    def log(self) -> str:
        return (self.folder / f"{self.command}.log").read_text(errors="replace")

    def start(self) -> None:
        """Returns when it is ready."""
        self.launch()
        wait_for(f"{self.command} to be ready", self._ready, seconds=START_S)

    def launch(self) -> None:
        """Returns at once."""
        ports = ["--grpc-port", str(self.grpc_port), "--http-port", str(self.http_port), "--host", self.host]
        # What it leaves in the folder for temporary files when it is killed goes with all else.
        (temporary := self.folder / "tmp").mkdir(exist_ok=True)
        with (self.folder / f"{self.command}.log").open("wb") as log:
            self.process = subprocess.Popen(
                [COMMAND, self.command, "--data-dir", self.data_dir, *(ports if self.command == "serve" else [])],
                env=clean_environment(TMPDIR=str(temporary), **self.settings),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def stop(self) -> float:
        """Ends it by SIGTERM; returns the seconds that took."""
        started = time.monotonic()
        self.process.terminate()
        try:
            code = self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"no end within {STOP_S:g} s of SIGTERM:\n{self.log[-4000:]}") from None
        assert code == 0, self.log[-4000:]
        return time.monotonic() - started

    def kill(self) -> None:
        """kill -9 of the server process alone: its database goes on, as after a crash."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def end(self) -> None:
        """Whatever state it is in, nothing of it is left running."""
        if self.process.poll() is None:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_S)
        if self.process.poll() is None:
            self.kill()
        with suppress(OSError, ValueError, IndexError):
            os.kill(int((self.data_dir / "postgres" / "postmaster.pid").read_text().split()[0]), signal.SIGINT)

    def _ready(self) -> bool:
        assert self.process.poll() is None, f"{self.command} ended with {self.process.returncode}:\n{self.log}"
        if "\nready" not in f"\n{self.log}":
            return False  # /healthz answers a moment before the addresses are printed and noted
        if self.command != "serve" or not self.http_port:
            return True
        with suppress(httpx.TransportError):
            return httpx.get(f"{self.base}/healthz", trust_env=False, timeout=2.0).status_code == 200
        return False

    @property
    def database_url(self) -> str:
        """Of the embedded database, or the external one."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the package looks for a runtime folder that not every machine has
            embedded = EmbeddedServer(self.data_dir, memory_bytes=2**29)
            return self.settings.get("SIGHTRANK_DATABASE_URL") or embedded.url_of_running()

    def sql(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Rows from the database."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            return connection.execute(statement, parameters).fetchall()  # type: ignore[arg-type]

    def rest(
        self, method: str, path: str, body: Any = None, *, key: str | None = PAT, **options: Any
    ) -> httpx.Response:
        """One REST call; ``path`` may be a whole URL."""
        headers = {"Authorization": f"Key {key}"} if key else {}
        content = None if body is None else json.dumps(body)
        url = path if path.startswith("http") else self.base + path
        headers |= options.pop("headers", {})
        return httpx.request(method, url, content=content, headers=headers, trust_env=False, timeout=60, **options)


@contextmanager
def server_at(folder: Path, *, command: str = "serve", host: str = HOST, **settings: str) -> Iterator[Server]:
    """A server that is not started yet; it is ended when the block is left."""
    grpc_port, http_port = free_ports(2)
    defaults = {"SIGHTRANK_BOOTSTRAP_PAT": PAT, "SIGHTRANK_BOOTSTRAP_API_KEY": API_KEY}
    defaults["SIGHTRANK_FETCH_ALLOW"] = "127.0.0.0/8"
    defaults["SIGHTRANK_LOG_LEVEL"] = "warning"
    folder.mkdir(mode=0o755, exist_ok=True)
    server = Server(
        folder=folder,
        settings=defaults | settings,
        grpc_port=grpc_port,
        http_port=http_port,
        command=command,
        host=host,
    )
    try:
        yield server
    finally:
        if hasattr(server, "process"):
            server.end()


@contextmanager
def connected(server: Server) -> Iterator[service_pb2_grpc.V2Stub]:
    """The official client over plaintext gRPC."""
    with ClarifaiChannel.get_insecure_grpc_channel(HOST, port=server.grpc_port) as channel:
        yield service_pb2_grpc.V2Stub(channel)


# App ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class App:
    """One application through the official client."""

    server: Server
    stub: service_pb2_grpc.V2Stub
    id: str
    key: str = PAT

    @property
    def ids(self) -> UserAppIDSet:
        return UserAppIDSet(user_id=USER, app_id=self.id)

    @property
    def path(self) -> str:
        return f"/v2/users/{USER}/apps/{self.id}"

    def ask(self, rpc: str, **fields: Any) -> Any:
        """The answer of an rpc, whatever its status."""
        request = getattr(service_pb2, f"{rpc}Request")(user_app_id=self.ids, **fields)
        return getattr(self.stub, rpc)(request, metadata=(("authorization", f"Key {self.key}"),))

    def call(self, rpc: str, **fields: Any) -> Any:
        """The answer of an rpc that must succeed."""
        answer = self.ask(rpc, **fields)
        assert answer.status.code == SUCCESS, f"{rpc}: {answer}"
        return answer

    def post(self, *inputs: Input) -> list[str]:
        """Ids of new inputs, accepted but not yet indexed."""
        answer = self.call("PostInputs", inputs=inputs)
        assert [item.status.code for item in answer.inputs] == [PENDING] * len(inputs)
        return [item.id for item in answer.inputs]

    def finished(self, input_id: str) -> Input:
        """The input when it is indexed or failed."""

        def look() -> Input | None:
            found = self.call("GetInput", input_id=input_id).input
            return None if found.status.code in (PENDING, WORKING) else found

        return wait_for(f"input {input_id} to be processed", look)

    def indexed(self, *inputs: Input) -> list[str]:
        """Ids of new inputs, all indexed."""
        ids = self.post(*inputs)
        for input_id in ids:
            found = self.finished(input_id)
            assert found.status.code == INDEXED, found
        return ids

    def annotate(self, *annotations: Annotation) -> list[Annotation]:
        return list(self.call("PostAnnotations", annotations=annotations).annotations)

    def annotations(self, **fields: Any) -> list[Annotation]:
        return list(self.call("ListAnnotations", **fields).annotations)

    def patch(self, action: str, *annotations: Annotation, **fields: Any) -> list[Annotation]:
        return list(self.call("PatchAnnotations", action=action, annotations=annotations, **fields).annotations)

    def rank(self, *ranks: Rank, inputs: bool = False, per_page: int = 0) -> list[resources_pb2.Hit]:
        rpc = "PostInputsSearches" if inputs else "PostAnnotationsSearches"
        searches = [resources_pb2.Search(query=resources_pb2.Query(ranks=ranks))]
        pagination = service_pb2.Pagination(per_page=per_page)
        return list(self.call(rpc, searches=searches, pagination=pagination).hits)

    def rest(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        """The JSON of a REST call below this app."""
        return self.server.rest(method, self.path + path, body, key=self.key, **options).json()


def new_app(server: Server, stub: service_pb2_grpc.V2Stub) -> App:
    """A new, empty application."""
    app = App(server=server, stub=stub, id=f"app-{uuid.uuid4().hex[:12]}")
    request = service_pb2.PostAppsRequest(user_app_id=UserAppIDSet(user_id=USER), apps=[resources_pb2.App(id=app.id)])
    answer = stub.PostApps(request, metadata=(("authorization", f"Key {PAT}"),))
    assert answer.status.code == SUCCESS, answer
    return app


def of_bytes(data: bytes, input_id: str = "", **fields: Any) -> Input:
    return Input(id=input_id, data=Data(image=resources_pb2.Image(base64=data), **fields))


def of_url(url: str, input_id: str = "", *, allow_duplicate_url: bool = False, **fields: Any) -> Input:
    image = resources_pb2.Image(url=url, allow_duplicate_url=allow_duplicate_url)
    return Input(id=input_id, data=Data(image=image, **fields))


def by_image(data: bytes = b"", *, url: str = "") -> Rank:
    return Rank(annotation=Annotation(data=Data(image=resources_pb2.Image(base64=data, url=url))))


def by_concept(concept_id: str, value: float = 1.0) -> Rank:
    return Rank(annotation=Annotation(data=Data(concepts=[Concept(id=concept_id, value=value)])))


def hit_inputs(hits: Sequence[resources_pb2.Hit]) -> list[str]:
    return [hit.input.id for hit in hits]


# Pictures -----------------------------------------------------------------------------------------------------------


def pixels(seed: int, width: int = 96, height: int = 72) -> Image.Image:
    """Colour fields, different for each seed and the same in every run."""
    random = np.random.default_rng(seed)
    fields = random.integers(0, 256, size=(2 + seed % 5, 3 + seed % 4, 3), dtype=np.uint8)
    return Image.fromarray(fields).resize((width, height), Image.Resampling.NEAREST)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def picture(seed: int, kind: str = "JPEG", **size: int) -> bytes:
    return encoded(pixels(seed, **size), kind)


@dataclass(kw_only=True)
class Page:
    """What the site answers at one path."""

    body: bytes = b""
    kind: str = "image/jpeg"
    status: int = 200
    location: str = ""
    gate: threading.Event | None = None


class Site:
    """A web site on the loopback. ``asked`` lists the paths that were asked for."""

    def __init__(self, port: int) -> None:
        self.base = f"http://{HOST}:{port}"
        self.pages: dict[str, Page] = {}
        self.asked: list[str] = []

    def show(self, body: bytes = b"", **fields: Any) -> str:
        """The URL of a new page."""
        path = f"/{uuid.uuid4().hex}"
        self.pages[path] = Page(body=body, **fields)
        return self.base + path


@contextmanager
def web_site() -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            page = site.pages.get(self.path, Page(kind="text/plain", status=404))
            site.asked.append(self.path)
            if page.gate is not None:
                page.gate.wait(INDEX_S)
            self.send_response(page.status)
            if page.location:
                self.send_header("Location", page.location)
            self.send_header("Content-Type", page.kind)
            self.send_header("Content-Length", str(len(page.body)))
            self.end_headers()
            with suppress(BrokenPipeError, ConnectionResetError):
                self.wfile.write(page.body)

        def log_message(self, format: str, *args: object) -> None:
            """Silence."""

    class Http(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that was killed in the middle is part of these tests."""

    with Http((HOST, 0), Handler) as http:
        site = Site(http.server_address[1])
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield site
        finally:
            http.shutdown()
            thread.join()
