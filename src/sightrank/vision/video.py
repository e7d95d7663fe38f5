"""Video files to pixels: MP4, MOV, 3GP, AVI, WMV, WebM, Matroska, and GIF as a film.

Pure, safe to call from many threads; decoding and scaling release the GIL. Nothing but ``AppError`` comes out. A film
is cut into intervals of ``sample_ms``, and what it shows at the middle of each stands for the interval: 8-bit RGB,
turned upright, transparency laid over white. Times count from the first frame, whatever the file calls it.

Frames are decoded one after the other by one thread, and only those that are sampled become RGB; the reading itself
holds no more than one in full size.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Final, cast

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.sidedata.sidedata import SideData
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from sightrank.errors import AppError, InputFailed, InputOverLimit
from sightrank.vision import container, signature

Pixels = NDArray[np.uint8]
VideoFile = bytes | str | os.PathLike[str]

MAX_FRAMES = 600
MAX_DURATION_MS = 600_000
#: What may be asked for.
MIN_SAMPLE_MS, MAX_SAMPLE_MS = 100, 60_000

_MAX_PIXELS: Final = 7680 * 4320  # a codec keeps up to 17 frames of this size
_MAX_DECODED: Final = MAX_DURATION_MS // 1000 * 120
_MAX_DECODED_PIXELS: Final = MAX_DURATION_MS // 1000 * 60 * 3840 * 2160
#: How long all the work may take, however long it waits for its turns.
_MAX_WORK_S: Final = 900.0
_DEFAULT_FRAME_US: Final = 40_000
# The demuxer is named, never guessed: some read other files or addresses that a file names, such as playlists.
_DEMUXERS: Final = {
    "MP4": "mov",
    "MOV": "mov",
    "3GP": "mov",
    "AVI": "avi",
    "WMV": "asf",
    "WEBM": "matroska",
    "MKV": "matroska",
    "GIF": "gif",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameTime:
    """Which frame was taken, as the API says it (``frame_info``).

    ``index`` counts the sampled frames, ``time_ms`` is the middle of the interval, ``number`` counts the film's own
    frames; both counts begin at 0.
    """

    index: int
    time_ms: int
    number: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """What a film shows at the middle of an interval: ``pixels`` [height, width, 3], upright."""

    time: FrameTime
    pixels: Pixels


class Reading:
    """A film (its bytes, or the path of its file) that is being read. One thread at a time; ``close()`` it.

    ``format`` is MP4, MOV, 3GP, AVI, WMV, WEBM, MKV or GIF and known from the start, ``duration_ms`` once ``steps`` are
    done. Raises InputOverLimit for a film longer than ``MAX_DURATION_MS``, of more than ``MAX_FRAMES`` intervals, more
    than ``max_pixels`` (or 7680 x 4320) a frame or more than ``max_work_s`` of a processor's time, and InputFailed with
    the reason for what is no whole, valid video.
    """

    def __init__(self, data: VideoFile, *, sample_ms: int, max_pixels: int, max_work_s: float = _MAX_WORK_S) -> None:
        if sample_ms < 1:
            raise ValueError("sample_ms is at least 1.")
        self._sample_ms = sample_ms
        self._max_pixels = min(max_pixels, _MAX_PIXELS)
        self._max_work_s = max_work_s
        self._worked_s = 0.0
        self._resumed_at = 0.0
        self._files = ExitStack()
        self._file: BinaryIO = io.BytesIO(data) if isinstance(data, bytes) else self._files.enter_context(_open(data))
        self.duration_ms = 0
        try:
            self.format = _format(self._file)
            container.check(self._file, self.format)
            if self.format == "GIF":
                # FFmpeg knows the size of a GIF only once it has decoded a frame.
                self._check_size(*container.gif_size(self._file))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._files.close()

    def steps(self) -> Iterator[Sample | None]:
        """What the film shows at the middle of every interval, at least one sample; a picture that stays for several is
        one array. None between them says that some work was done: a place to pause.

        The last interval counts if the film lasts until its middle. A film shorter than half an interval gives one
        sample, that at its own middle.
        """
        steps = self._steps()
        while True:
            # The thread's own time: a film that waits, for its turn or for a core, has done nothing wrong.
            self._resumed_at = time.thread_time()
            try:
                step = next(steps)
            except StopIteration:
                return
            self._worked_s += time.thread_time() - self._resumed_at
            yield step

    def _steps(self) -> Iterator[Sample | None]:
        found = 0
        for sample in self._samples(_middles(self._sample_ms)):
            found += sample is not None
            yield sample
        if not found:
            # It ended before the first middle; only now is it known where its own middle is.
            yield from self._samples(iter((self.duration_ms // 2,)))

    def _samples(self, moments: Iterator[int]) -> Iterator[Sample | None]:
        """What is shown at these moments (milliseconds, ascending), as far as the film goes."""
        clock = _Clock()
        moment, index = next(moments), 0
        shown, pixels = None, None
        decoded = decoded_pixels = 0
        for frame in self._decoded():
            if frame is None:
                yield None
                continue
            decoded_pixels += frame.width * frame.height
            self._check_work(decoded, decoded_pixels)
            begins_us = clock.begins_us(frame)
            self._check_duration(begins_us)
            while shown is not None and moment * 1000 < begins_us:
                pixels = _rgb(shown, self.format) if pixels is None else pixels
                yield Sample(time=FrameTime(index=index, time_ms=moment, number=decoded - 1), pixels=pixels)
                moment, index = next(moments, _NEVER), index + 1
            shown, pixels, decoded = frame, None, decoded + 1
        if shown is None:
            raise InputFailed(f"The {self.format} video has no frame that can be shown.")
        ends_us = clock.ends_us()
        self._check_duration(ends_us)
        self.duration_ms = -(-ends_us // 1000)
        while moment * 1000 < ends_us:
            pixels = _rgb(shown, self.format) if pixels is None else pixels
            yield Sample(time=FrameTime(index=index, time_ms=moment, number=decoded - 1), pixels=pixels)
            moment, index = next(moments, _NEVER), index + 1

    def _decoded(self) -> Iterator[VideoFrame | None]:
        """The frames in the order in which they are shown; None where a packet made none."""
        self._file.seek(0)
        try:
            with self._opened() as (film, stream):
                for packet in film.demux(stream):
                    self._check_work_s()
                    if packet.is_corrupt:
                        raise InputFailed(f"The {self.format} video ends early or is damaged.")
                    yield None
                    yield from stream.decode(packet)
        except AppError:
            raise
        except Exception as error:
            # Damaged files make the library raise nearly everything, like those of images.
            raise _failure(self.format, error) from error

    def _check_work_s(self) -> None:
        if self._worked_s + time.thread_time() - self._resumed_at > self._max_work_s:
            raise InputOverLimit(f"Reading the video takes longer than {self._max_work_s:g} s.")

    @contextmanager
    def _opened(self) -> Iterator[tuple[InputContainer, VideoStream]]:
        # A codec counts its margins too.
        options = {"max_pixels": str(2 * self._max_pixels + 2**20), "threads": "1"}
        kind = _DEMUXERS[self.format]
        with av.open(self._file, "r", format=kind, options=options, metadata_errors="replace") as film:
            stream = _video_stream(film, self.format)
            context = stream.codec_context
            context.options = options
            context.thread_count = 1
            self._check_header(film, stream)
            yield film, stream

    def _check_header(self, film: InputContainer, stream: VideoStream) -> None:
        """Before anything is decoded: what the file says of itself."""
        self._check_size(stream.codec_context.width, stream.codec_context.height)
        if stream.duration is not None and stream.time_base is not None:
            self._check_duration(int(stream.duration * stream.time_base * 1_000_000))
        elif film.duration is not None:
            self._check_duration(film.duration)

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self._max_pixels:
            raise InputOverLimit(
                f"The video has {width} x {height} = {width * height} pixels; the limit is {self._max_pixels}."
            )

    def _check_duration(self, duration_us: int) -> None:
        if duration_us > MAX_DURATION_MS * 1000:
            raise InputOverLimit(
                f"The video lasts {duration_us / 1_000_000:.1f} s; the limit is {MAX_DURATION_MS // 1000} s."
            )
        middles = (duration_us // 1000 + self._sample_ms // 2) // self._sample_ms
        if middles > MAX_FRAMES:
            raise InputOverLimit(
                f"The video lasts {duration_us / 1_000_000:.1f} s, which are {middles} frames with a sample_ms of "
                f"{self._sample_ms}; the limit is {MAX_FRAMES}. Send a larger sample_ms."
            )

    def _check_work(self, frames: int, pixels: int) -> None:
        if frames > _MAX_DECODED or pixels > _MAX_DECODED_PIXELS:
            raise InputOverLimit(
                f"The video takes too long to read: the limit is {_MAX_DECODED} frames and "
                f"{_MAX_DECODED_PIXELS // 10**9} billion pixels in all."
            )


_NEVER: Final = 2**62


class _Clock:
    """When frames begin, in microseconds from the first. Times never run backwards."""

    def __init__(self) -> None:
        self._first_us: int | None = None
        self._last_us = 0
        self._duration_us = 0
        self._gap_us = 0

    def begins_us(self, frame: VideoFrame) -> int:
        absolute_us = _us(frame, frame.pts)
        if absolute_us is None:
            absolute_us = (self._first_us or 0) + self._last_us + (self._duration_us or self._gap_us)
        if self._first_us is None:
            self._first_us = absolute_us
        begins_us = max(absolute_us - self._first_us, self._last_us)
        self._gap_us = begins_us - self._last_us or self._gap_us
        self._duration_us = _us(frame, frame.duration) or 0
        self._last_us = begins_us
        return begins_us

    def ends_us(self) -> int:
        """The last frame stays as long as the file says, else as long as the one before it."""
        return self._last_us + (self._duration_us or self._gap_us or _DEFAULT_FRAME_US)


def _us(frame: VideoFrame, ticks: int | None) -> int | None:
    base = frame.time_base
    if ticks is None or base is None:
        return None
    return ticks * 1_000_000 * base.numerator // base.denominator


def _middles(sample_ms: int) -> Iterator[int]:
    moment = sample_ms // 2
    while True:
        yield moment
        moment += sample_ms


def _open(path: str | os.PathLike[str]) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:
        raise InputFailed(f"The video cannot be opened: {error.strerror or error}.") from error


def _format(file: BinaryIO) -> str:
    start = file.read(4096)
    name = signature.video_format(start)
    if name is None:
        hint = " Send it as an image." if signature.image_format(start) else ""
        raise InputFailed(
            f"The content is {signature.looks_like(start)}; only MP4, MOV, 3GP, AVI, WMV, WebM, Matroska and GIF "
            f"videos can be read.{hint}"
        )
    return name


def _video_stream(film: InputContainer, name: str) -> VideoStream:
    # The cover of a song is stored as a video of one frame.
    streams = [one for one in film.streams.video if not one.disposition & Disposition.attached_pic]
    if not streams:
        sound = " It has sound only." if film.streams.audio else ""
        raise InputFailed(f"The {name} file has no video stream.{sound}")
    stream = streams[0]
    if stream.codec_context is None:
        raise InputFailed(f"The {name} video is coded in a way this server cannot decode.")
    return stream


def _rgb(frame: VideoFrame, name: str) -> Pixels:
    try:
        if any(part.is_alpha for part in frame.format.components):
            pixels = _over_white(np.asarray(frame.to_ndarray(format="rgba", threads=1), np.uint8))
        else:
            pixels = np.asarray(frame.to_ndarray(format="rgb24", threads=1), np.uint8)
        return _upright(pixels, frame)
    except Exception as error:
        raise _failure(name, error) from error


def _over_white(pixels: Pixels) -> Pixels:
    alpha = pixels[..., 3:].astype(np.uint16)
    return np.asarray((pixels[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255, np.uint8)


def _upright(pixels: Pixels, frame: VideoFrame) -> Pixels:
    """Applies the film's own matrix: quarter turns and mirrorings, as phones write them."""
    by_type = cast(Mapping[SideDataType, SideData], frame.side_data)
    if SideDataType.DISPLAYMATRIX not in by_type:
        return pixels
    matrix = bytes(by_type[SideDataType.DISPLAYMATRIX])
    # Rows (a b u) (c d v): a pixel at (x, y) is shown at (ax + cy, bx + dy).
    a, b, _, c, d = (int(value) for value in np.frombuffer(matrix, np.int32)[:5])
    if abs(b) > abs(a):
        pixels, a, d = pixels.transpose(1, 0, 2), c, b
    if a < 0:
        pixels = pixels[:, ::-1]
    if d < 0:
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _failure(name: str, error: Exception) -> InputFailed:
    reason = (error.strerror if isinstance(error, FFmpegError) else str(error)) or type(error).__name__
    return InputFailed(f"The {name} video is damaged or of an unsupported kind ({reason.splitlines()[0][:200]}).")
