"""Pictures to index (real photographs where they are at hand, else drawn ones), and a web server that shows them."""

from __future__ import annotations

import csv
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from PIL import Image

PHOTOS = Path(__file__).parents[3] / "shared" / "data" / "photos.zip"
COUNT = 20
#: A person or animal smaller than this share of the photo is not what the photo shows.
_CLEAR = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A JPEG file and the things a person sees in it. Drawn pictures show nothing."""

    name: str
    data: bytes
    shows: frozenset[str] = frozenset()

    @property
    def path(self) -> str:
        return f"/pictures/{self.name}.jpg"


def pictures() -> list[Picture]:
    """20 pictures; the first is a cat when they are photographs. About half of the photographs show people."""
    return _photographs() if PHOTOS.is_file() else drawings()


def drawings() -> list[Picture]:
    """20 pictures that are the same everywhere."""
    return [_drawing(number) for number in range(COUNT)]


def _photographs() -> list[Picture]:
    with zipfile.ZipFile(PHOTOS) as archive:
        rows = csv.DictReader(io.TextIOWrapper(archive.open("labels.tsv"), encoding="utf-8"), delimiter="\t")
        shown = {row["file"]: _shown(json.loads(row["labels"])) for row in rows}
        cats = [file for file, things in shown.items() if "cat" in things and "dog" not in things][:2]
        people = [file for file, things in shown.items() if "person" in things][:9]
        others = [file for file, things in shown.items() if not {"person", "cat", "dog"} & things]
        chosen = cats + people + others[: COUNT - len(cats) - len(people)]
        return [Picture(name=Path(file).stem, data=archive.read(file), shows=shown[file]) for file in chosen]


def _shown(boxes: list[tuple[str, float, float, float, float]]) -> frozenset[str]:
    """The classes of a photo. People count when they are clearly in the picture, or else make it no picture at all."""
    return frozenset(kind for kind, _, _, width, height in boxes if kind != "person" or width * height >= _CLEAR)


def _drawing(number: int) -> Picture:
    """Coarse colour fields: each drawing has colours and shapes of its own, and is the same in every run."""
    random = np.random.default_rng(number)
    fields = random.integers(0, 256, size=(2 + number % 5, 3 + number % 4, 3), dtype=np.uint8)
    smooth = Image.Resampling.NEAREST if number % 2 else Image.Resampling.BICUBIC
    return Picture(name=f"drawing-{number:02}", data=_jpeg(Image.fromarray(fields).resize((320, 240), smooth)))


def _jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=92)
    return file.getvalue()


class PictureServer:
    """An HTTP server on the loopback that shows pictures and one text file."""

    def __init__(self, port: int, shown: list[Picture]) -> None:
        self.base = f"http://127.0.0.1:{port}"
        self.files = {picture.path: ("image/jpeg", picture.data) for picture in shown}
        self.files["/text.txt"] = ("text/plain", b"This is not a picture.\n" * 20)

    def url(self, picture: Picture) -> str:
        return self.base + picture.path


@contextmanager
def serving(shown: list[Picture]) -> Iterator[PictureServer]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            kind, content = site.files.get(self.path, ("text/plain", b""))
            self.send_response(200 if self.path in site.files else 404)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Silence: what the tests need to know is in the server's own answers."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        site = PictureServer(http.server_address[1], shown)
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield site
        finally:
            http.shutdown()
            thread.join()
