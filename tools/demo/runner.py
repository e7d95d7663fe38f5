"""The demo's course: index what is missing, label a few photos, search in both ways, check the answers."""

from __future__ import annotations

import contextlib
import mimetypes
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from clarifai_grpc.grpc.api.status import status_code_pb2

from tools.demo import DemoError
from tools.demo.client import GrpcClient, Hit, RestClient, Upload, local_address
from tools.demo.photos import Photo
from tools.demo.searches import DemoSearch, faults
from tools.demo.server import HOST, Server

BATCH = 128
BATCH_BYTES = 32_000_000
STALLED_AFTER_S = 120.0
POLL_S = 0.2
SHOWN = 12

#: Called with the number of photos that arrived, of those that failed, and of all.
Progress = Callable[[int, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexed:
    """What indexing did: photos posted now, seconds it took, and the failures as (id, reason)."""

    posted: int
    kept: int
    took_s: float
    failed: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One search with its hits, the scores of its single ranks by input, and what is wrong with it."""

    search: DemoSearch
    hits: tuple[Hit, ...]
    parts: tuple[dict[str, float], ...]
    took_ms: float
    faults: tuple[str, ...]


def index(client: GrpcClient, server: Server, photos: Sequence[Photo], progress: Progress) -> Indexed:
    """Posts the photos that are not there yet and returns when every photo is indexed or failed.

    Inputs of an earlier run are kept; those that failed then are tried again.
    """
    begun = time.monotonic()
    wanted = {photo.id for photo in photos}
    states = client.input_states()
    failed_before = [
        name for name, (code, _) in states.items() if name in wanted and code == status_code_pb2.INPUT_DOWNLOAD_FAILED
    ]
    if failed_before:
        _forget(client, failed_before)
    others = len(states.keys() - wanted)
    present = (states.keys() & wanted) - set(failed_before)
    missing = [photo for photo in photos if photo.id not in present]

    def arrived() -> int:
        counts = client.counts()
        done = counts.processed + counts.errors - others
        progress(max(0, done - counts.errors), counts.errors, len(photos))
        return int(done)

    for batch in batches(missing):
        server.require_alive()
        client.post_images(batch)
        arrived()
    moved, last = time.monotonic(), -1
    while (done := arrived()) < len(photos):
        server.require_alive()
        if done != last:
            moved, last = time.monotonic(), done
        elif time.monotonic() - moved > STALLED_AFTER_S:
            raise server.failure(f"Indexing stands still at {done} of {len(photos)} photos.")
        time.sleep(POLL_S)
    took_s = time.monotonic() - begun
    failed = [
        (name, details)
        for name, (code, details) in client.input_states().items()
        if name in wanted and code != status_code_pb2.INPUT_DOWNLOAD_SUCCESS
    ]
    if len(failed) == len(photos):
        raise server.failure(f"No photo could be indexed; the first says: {failed[0][1]}.")
    return Indexed(posted=len(missing), kept=len(present), took_s=took_s, failed=tuple(failed))


def batches(photos: Sequence[Photo]) -> Iterator[list[Upload]]:
    """The photos in calls of at most 128 images and some megabytes."""
    batch: list[Upload] = []
    size = 0
    for photo in photos:
        image = photo.load()
        if batch and (len(batch) == BATCH or size + len(image) > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(Upload(id=photo.id, image=image))
        size += len(image)
    if batch:
        yield batch


def label(client: GrpcClient, labels: Sequence[tuple[str, Photo]]) -> int:
    """Labels photos by concepts, except where that was done before; returns how many labels are new."""
    pairs = [(concept, photo.id) for concept, photo in labels]
    there = client.labels(photo_id for _, photo_id in pairs)
    new = [pair for pair in pairs if pair not in there]
    if new:
        client.label(new)
    return len(new)


def run_search(grpc_client: GrpcClient, rest_client: RestClient, search: DemoSearch, *, photos: int) -> Answer:
    """Runs one search over gRPC and over REST and checks the answers."""
    hits, took_ms = grpc_client.search(search.ranks, per_page=SHOWN)
    rest = rest_client.search(search.ranks, per_page=SHOWN)
    same_as = grpc_client.search(search.same_as, per_page=SHOWN)[0] if search.same_as else []
    parts = []
    if search.parts:
        for rank in search.ranks:
            single, _ = grpc_client.search([rank], per_page=min(1000, max(photos, SHOWN)))
            parts.append({hit.input_id: hit.score for hit in reversed(single)})
    return Answer(
        search=search,
        hits=tuple(hits),
        parts=tuple(parts),
        took_ms=took_ms,
        faults=tuple(faults(search, hits, rest, same_as)),
    )


@contextlib.contextmanager
def serving(photo: Photo) -> Iterator[str]:
    """Serves one photo on this machine and yields its address."""
    image = photo.load()
    path = f"/{photo.id}"
    kind = mimetypes.guess_type(photo.member or photo.path.name)[0] or "application/octet-stream"

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != path:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(image)))
            self.end_headers()
            self.wfile.write(image)

        def log_message(self, format: str, *args: object) -> None:
            """Keeps the screen for the demo."""

    with ThreadingHTTPServer((HOST, 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        try:
            yield local_address(httpd.server_port, photo.id)
        finally:
            httpd.shutdown()


def _forget(client: GrpcClient, ids: list[str]) -> None:
    """Deletes inputs and waits until they are gone, so that their ids can be posted again."""
    for start in range(0, len(ids), BATCH):
        client.delete_inputs(ids[start : start + BATCH])
    deadline = time.monotonic() + STALLED_AFTER_S
    while client.input_states().keys() & set(ids):
        if time.monotonic() > deadline:
            raise DemoError("Photos that failed in an earlier run could not be removed. Delete the data folder.")
        time.sleep(POLL_S)
