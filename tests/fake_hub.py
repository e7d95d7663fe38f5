"""A Hub on 127.0.0.1 that serves folders as repositories and can be made to fail in the ways that real ones do."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "c0ffee" + "0" * 34


@dataclass
class FakeHub:
    """``repositories`` by name; ``cut`` says after how many bytes a file's next download breaks off, ``altered`` which
    files arrive with other bytes than stated; ``missing`` are listed but not there. ``served`` are (file, from byte).
    """

    repositories: dict[str, Path]
    cut: dict[str, int] = field(default_factory=dict)
    altered: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    served: list[tuple[str, int]] = field(default_factory=list)
    url: str = ""

    def listing(self, repo: str) -> dict[str, Any]:
        folder = self.repositories[repo]
        names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        return {
            "_id": "1",
            "id": repo,
            "modelId": repo,
            "private": False,
            "sha": COMMIT,
            "tags": [],
            "siblings": [_sibling(folder / name, name) for name in names],
        }


@contextmanager
def fake_hub(**repositories: Path) -> Iterator[FakeHub]:
    """Serves each folder as ``tiny/<name>``."""
    hub = FakeHub({f"tiny/{name}": folder for name, folder in repositories.items()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def _is_large(name: str) -> bool:
    return ".onnx" in name


def _git_id(data: bytes) -> str:
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data, usedforsecurity=False).hexdigest()


def _sibling(path: Path, name: str) -> dict[str, Any]:
    data = path.read_bytes()
    stated: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": _git_id(data)}
    if _is_large(name):
        stated["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
    return stated


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def _answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/revision/[^/]+)?", path):
            return self._list(found[1])
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            return self._file(found[1], found[2], body=body)
        return self._refuse("EntryNotFound")

    def _list(self, repo: str) -> None:
        if repo not in self.hub.repositories:
            return self._refuse("RepoNotFound")
        data = json.dumps(self.hub.listing(repo)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        return None

    def _file(self, repo: str, name: str, *, body: bool) -> None:
        path = self.hub.repositories[repo] / name
        if name in self.hub.missing or not path.is_file():
            return self._refuse("EntryNotFound")
        data = path.read_bytes()
        etag = hashlib.sha256(data).hexdigest() if _is_large(name) else _git_id(data)
        if name in self.hub.altered:
            data = bytes(255 - byte for byte in data)
        ranged = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(ranged[1]) if ranged else 0
        self.send_response(206 if ranged else 200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{etag}"')
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data) - start))
        if ranged:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if not body:
            return None
        self.hub.served.append((name, start))
        end = self.hub.cut.get(name, len(data))
        self.wfile.write(data[start:end])
        self.wfile.flush()
        if end < len(data):
            self.connection.shutdown(2)
            self.close_connection = True
        return None

    def _refuse(self, code: str) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", code)
        self.send_header("Content-Length", "0")
        self.end_headers()
