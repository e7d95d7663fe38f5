"""Small films to read, each second of one colour, so that a frame tells by its colour when it was taken."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from fractions import Fraction

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

RED, GREEN, BLUE, WHITE, BLACK = (220, 20, 20), (20, 200, 20), (20, 20, 220), (255, 255, 255), (0, 0, 0)
#: Of the first, second, third … second, and so on from the start.
COLOURS = (RED, GREEN, BLUE)

Colour = tuple[int, int, int]
Pixels = NDArray[np.uint8]


def colour_at(seconds: float) -> Colour:
    return COLOURS[int(seconds) % len(COLOURS)]


def plain(colour: Colour, size: tuple[int, int] = (96, 64)) -> Pixels:
    """A picture [height, width, 3] of one colour; ``size`` is width and height."""
    return np.full((size[1], size[0], 3), colour, np.uint8)


def named(pixels: Pixels) -> Colour:
    """Which of the colours a picture shows, whatever the codec made of it."""
    mean = pixels.reshape(-1, 3).mean(axis=0)
    return min((RED, GREEN, BLUE, WHITE, BLACK), key=lambda colour: float(np.abs(mean - colour).sum()))


def film(
    seconds: float = 4.0,
    *,
    rate: int = 10,
    format: str = "mp4",
    codec: str = "libx264",
    size: tuple[int, int] = (96, 64),
    turned: int = 0,
    starts_s: float = 0.0,
    sound: bool = False,
) -> bytes:
    """A film whose colour changes every second. ``turned`` degrees counterclockwise it is to be shown."""
    frames = [(plain(colour_at(n / rate), size), n / rate) for n in range(round(seconds * rate))]
    return film_of(frames, rate=rate, format=format, codec=codec, turned=turned, starts_s=starts_s, sound=sound)


def film_of(
    frames: Sequence[tuple[Pixels, float]],
    *,
    rate: int = 10,
    format: str = "mp4",
    codec: str = "libx264",
    turned: int = 0,
    starts_s: float = 0.0,
    sound: bool = False,
) -> bytes:
    """A film of these pictures, each shown from its second on."""
    file = io.BytesIO()
    with av.open(file, "w", format=format) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames[0][0].shape[:2]
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        stream.codec_context.time_base = Fraction(1, rate)
        if turned:
            stream.set_display_rotation(turned)
        audio = container.add_stream("aac", rate=8000) if sound else None
        for pixels, begins_s in frames:
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            frame.time_base = Fraction(1, rate)
            frame.pts = round((begins_s + starts_s) * rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if audio is not None:
            _mux_silence(container, audio, frames[-1][1])
    return file.getvalue()


def sound_only(seconds: float = 1.0, format: str = "mp4") -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=format) as container:
        _mux_silence(container, container.add_stream("aac", rate=8000), seconds)
    return file.getvalue()


def gif(pictures: Sequence[Pixels | Image.Image], durations_ms: int | Sequence[int]) -> bytes:
    """An animated GIF; pictures of mode P keep their transparency."""
    images = [one if isinstance(one, Image.Image) else Image.fromarray(one) for one in pictures]
    file = io.BytesIO()
    images[0].save(
        file, "GIF", save_all=True, append_images=images[1:], duration=durations_ms, loop=0, disposal=2, optimize=False
    )
    return file.getvalue()


def patched(data: bytes, box: bytes, offset: int, value: bytes) -> bytes:
    """An MP4 in which ``value`` stands ``offset`` bytes behind the name of the first such box."""
    place = data.index(box) + len(box) + offset
    return data[:place] + value + data[place + len(value) :]


def boxes(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, begin and end of the outermost boxes of an MP4."""
    place = 0
    while place + 8 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        yield data[place + 4 : place + 8], place, place + length
        place += length


def moov_first(data: bytes) -> bytes:
    """The same MP4 with its index before the frames, as for the web."""
    parts = {name: data[begin:end] for name, begin, end in boxes(data)}
    moved = len(parts[b"moov"])
    place = parts[b"moov"].index(b"stco") + 8
    count = int.from_bytes(parts[b"moov"][place : place + 4], "big")
    moov = bytearray(parts[b"moov"])
    for at in range(place + 4, place + 4 + 4 * count, 4):
        moov[at : at + 4] = (int.from_bytes(moov[at : at + 4], "big") + moved).to_bytes(4, "big")
    rest = b"".join(part for name, part in parts.items() if name not in (b"ftyp", b"moov"))
    return parts[b"ftyp"] + bytes(moov) + rest


def _mux_silence(container: av.container.OutputContainer, stream: av.AudioStream, seconds: float) -> None:
    frame = av.AudioFrame.from_ndarray(np.zeros((1, max(1024, int(seconds * 8000))), np.float32), "fltp", "mono")
    frame.sample_rate = 8000
    frame.pts = 0
    container.mux(stream.encode(frame))
    container.mux(stream.encode())
