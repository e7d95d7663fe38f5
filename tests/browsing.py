"""A page in a headless Chromium: what only a browser decides, such as which answers a page may read."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.ports import HOST
from tests.waiting import wait_for

PAGE_SECONDS = 120.0
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_PAGE = """<!doctype html><meta charset="utf-8"><title>A page</title><script type="module">
async function run(given) { %(script)s }
let told;
try { told = {returned: await run(%(given)s)}; } catch (error) { told = {failed: String(error)}; }
await fetch("/told", {method: "POST", body: JSON.stringify(told)});
</script>"""


def in_browser(script: str, *, host: str = HOST, **given: Any) -> Any:
    """What ``script``, the body of an async function that knows ``given``, returns in a page of ``host``.

    The page has a port, and so an origin, of its own.
    """
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if browser is None:
        pytest.skip("needs chromium")
    page = (_PAGE % {"script": script, "given": json.dumps(given)}).encode()
    told: queue.Queue[dict[str, Any]] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(page if self.path == "/" else b"")

        def do_POST(self) -> None:
            told.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self._answer(b"")

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Silence."""

    with ThreadingHTTPServer((HOST, 0), Handler) as http, _profile() as folder:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        process = subprocess.Popen(
            [
                *(browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
                *(f"--user-data-dir={folder}", f"http://{host}:{http.server_address[1]}/"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            answer = told.get(timeout=PAGE_SECONDS)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            http.shutdown()
            thread.join()
    assert "returned" in answer, answer
    return answer["returned"]


@contextmanager
def _profile() -> Iterator[Path]:
    """A folder for the browser, whose processes may write in it for a moment after they were killed."""
    folder = Path(tempfile.mkdtemp(prefix="sightrank-browser-"))
    try:
        yield folder
    finally:
        wait_for("the browser to be gone", lambda: shutil.rmtree(folder, ignore_errors=True) or not folder.exists())
