"""Ingest against the bare model: decode, resize and ONNX in a tight loop, with the threads that the server has."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from clarifai_grpc.grpc.api import resources_pb2, service_pb2

from benchmarks.figures import Row, show
from benchmarks.photos import distinct, photos
from benchmarks.server import Client
from benchmarks.stage import Stage
from sightrank.settings import available_cores
from sightrank.vision import decode
from sightrank.vision.bundle import built_in_bundle, load_bundle
from sightrank.vision.embedder import LARGEST_BATCH, Embedder

_ROUNDS = 5
_PHOTOS = 512
_BATCH = 64  # inputs in one PostInputs
_LEAST = 0.7
_MAX_PIXELS, _MAX_BYTES = 85_000_000, 20_000_000
_PATIENCE_S = 120.0


class BareModel:
    """The model without a server, in the two arrangements worth trying."""

    def __init__(self, threads: int) -> None:
        bundle = load_bundle(built_in_bundle())
        self._pool = ThreadPoolExecutor(threads)
        self._alone, self._together = Embedder(bundle, threads=1), Embedder(bundle, threads=threads)
        self._alone.warm_up()
        self._together.warm_up()

    def each_on_its_own(self, files: Sequence[bytes]) -> None:
        """Every thread decodes a batch and runs it through the network by itself."""
        list(self._pool.map(self._decode_and_embed, _batches(files)))

    def decoders_and_network(self, files: Sequence[bytes]) -> None:
        """All threads decode; whole batches go through a network that uses all threads."""
        pictures = self._pool.map(self._decode, files)
        for batch in _batches(files):
            self._together.embed(np.stack([next(pictures) for _ in batch]))

    def _decode_and_embed(self, files: Sequence[bytes]) -> None:
        self._alone.embed(np.stack([self._decode(data) for data in files]))

    def _decode(self, data: bytes) -> decode.Pixels:
        size = self._alone.size
        picture = decode.decode(data, size=size, max_pixels=_MAX_PIXELS, max_bytes=_MAX_BYTES)
        return decode.resize(picture.pixels, size)


def run(stage: Stage) -> None:
    """Prints images a second, and the server's as a share of the better bare arrangement in the same round."""
    files, source = photos(stage.data)
    threads = available_cores()
    bare, client = BareModel(threads), stage.client()
    speeds: dict[str, list[float]] = {"own": [], "together": [], "server": []}
    # The first round only warms up: files are read, memory is taken, statements are prepared.
    for number in range(_ROUNDS + 1):
        batch = distinct(files, _PHOTOS, serial=number * _PHOTOS)
        found = {
            "own": _speed(bare.each_on_its_own, batch),
            "together": _speed(bare.decoders_and_network, batch),
            "server": _speed(lambda files: _ingest(client, files), batch),
        }
        if number:
            for name, speed in found.items():
                speeds[name].append(speed)
    best = [max(pair) for pair in zip(speeds["own"], speeds["together"], strict=True)]
    ratio = statistics.median([server / model for server, model in zip(speeds["server"], best, strict=True)])
    show(
        "Ingest: images a second",
        [
            Row("bare model, each thread on its own", f"{statistics.median(speeds['own']):.0f}/s"),
            Row("bare model, decoders and one network", f"{statistics.median(speeds['together']):.0f}/s"),
            Row(
                "server, first PostInputs to last 30000",
                f"{statistics.median(speeds['server']):.0f}/s",
                f"{ratio:.2f}",
                f">= {_LEAST}",
                ratio >= _LEAST,
            ),
        ],
        caption=f"{_ROUNDS} rounds of {_PHOTOS} distinct 640 px JPEGs ({source}), taking turns, {threads} threads;"
        f" upload in calls of {_BATCH} by the official client on the same cores; ratio to the better bare one, median.",
    )


def _speed(work: Callable[[Sequence[bytes]], None], files: Sequence[bytes]) -> float:
    started = time.perf_counter()
    work(files)
    return len(files) / (time.perf_counter() - started)


def _ingest(client: Client, files: Sequence[bytes]) -> None:
    """Posts all files, one call after the other, and returns when the last has status 30000."""
    wanted = _indexed(client) + len(files)
    for batch in _batches(files, _BATCH):
        inputs = [
            resources_pb2.Input(data=resources_pb2.Data(image=resources_pb2.Image(base64=data))) for data in batch
        ]
        client.call("PostInputs", service_pb2.PostInputsRequest(user_app_id=client.ids, inputs=inputs))
    deadline = time.monotonic() + _PATIENCE_S
    while _indexed(client) < wanted:
        if time.monotonic() > deadline:
            raise RuntimeError("The inputs were not indexed in time.")
        time.sleep(0.02)


def _indexed(client: Client) -> int:
    request = service_pb2.GetInputCountRequest(user_app_id=client.ids)
    return int(client.call("GetInputCount", request).counts.processed)


def _batches(files: Sequence[bytes], size: int = LARGEST_BATCH) -> list[Sequence[bytes]]:
    return [files[start : start + size] for start in range(0, len(files), size)]
