"""One minute of 720p predicted by the server, against FFmpeg decoding it; and a picture predicted meanwhile."""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import av
import numpy as np
from clarifai_grpc.grpc.api import resources_pb2, service_pb2
from PIL import Image

from benchmarks.figures import Row, p50, p95, show, timed
from benchmarks.photos import photos
from benchmarks.server import Client
from benchmarks.stage import Stage

_MODEL = "general-image-recognition"
_SIZE, _RATE, _SECONDS = (1280, 720), 30, 60
_STEP = 4  # pixels that the picture moves from frame to frame
_ROUNDS, _PICTURES = 3, 40


def run(stage: Stage) -> None:
    """Prints the seconds of a call of sample_ms 1000, and the wait for a picture idle and beside such calls."""
    files, source = photos(stage.data)
    film, client = _film(files), stage.client()
    picture = resources_pb2.Data(image=resources_pb2.Image(base64=files[0]))
    video = resources_pb2.Data(video=resources_pb2.Video(base64=film))
    bare, whole = [], []
    for _ in range(_ROUNDS):
        bare.append(timed(lambda: _decode(film)) / 1000)
        whole.append(timed(lambda: _predict(client, video)) / 1000)
    idle = [timed(lambda: _predict(client, picture)) for _ in range(_PICTURES)]
    beside = _beside(client, video, picture)
    ratio = statistics.median(ours / alone for ours, alone in zip(whole, bare, strict=True))
    show(
        f"Videos: {_SECONDS} s of {_SIZE[0]} x {_SIZE[1]}, {_RATE} frames a second",
        [
            Row("FFmpeg decodes it, one thread", f"{p50(bare):.1f} s", "1.00"),
            Row("PostModelOutputs, a frame a second", f"{p50(whole):.1f} s", f"{ratio:.2f}"),
            Row("a picture, idle", f"{p95(idle):.0f} ms", "1.00"),
            Row("a picture while a video is predicted", f"{p95(beside):.0f} ms", f"{p95(beside) / p95(idle):.2f}"),
        ],
        caption=f"Medians of {_ROUNDS} calls by turns, p95 of pictures; {source}, {len(film) / 1e6:.1f} MB of H.264.",
    )


def _predict(client: Client, data: resources_pb2.Data) -> object:
    request = service_pb2.PostModelOutputsRequest(
        user_app_id=client.ids, model_id=_MODEL, inputs=[resources_pb2.Input(data=data)]
    )
    return client.call("PostModelOutputs", request)


def _beside(client: Client, video: resources_pb2.Data, picture: resources_pb2.Data) -> list[float]:
    """Milliseconds of pictures while videos are predicted, one after the other."""
    waits: list[float] = []
    with ThreadPoolExecutor(1) as pool:
        while len(waits) < _PICTURES:
            watched = pool.submit(_predict, client, video)
            while not watched.done():
                waits.append(timed(lambda: _predict(client, picture)))
                time.sleep(0.05)
            watched.result()
    return waits


def _decode(film: bytes) -> None:
    with av.open(io.BytesIO(film)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for _ in container.decode(stream):
            pass


def _film(files: Sequence[bytes]) -> bytes:
    """Each second another photograph, which moves."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=_RATE, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = *_SIZE, "yuv420p"
        for second in range(_SECONDS):
            still = Image.open(io.BytesIO(files[second % len(files)])).convert("RGB").resize(_SIZE)
            for frame in range(_RATE):
                moved = np.roll(np.asarray(still), _STEP * frame, axis=1)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(moved, "rgb24")))
        container.mux(stream.encode())
    return file.getvalue()
