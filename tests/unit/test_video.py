"""What is read of a film: which frames, when, and how they look; and what is refused."""

from __future__ import annotations

import io
import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from tests import films
from tests.films import BLUE, GREEN, RED, WHITE, plain

from sightrank.errors import InputFailed, InputOverLimit
from sightrank.vision import video
from sightrank.vision.decode import resize
from sightrank.vision.video import FrameTime, Reading

SIZE = 8
MAX_PIXELS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Film:
    """A film that has been read; ``pixels`` [frames, SIZE, SIZE, 3], ``first`` the first of them in full size."""

    frames: list[FrameTime]
    pixels: video.Pixels
    first: video.Pixels
    format: str
    duration_ms: int

    @property
    def width(self) -> int:
        return self.first.shape[1]

    @property
    def height(self) -> int:
        return self.first.shape[0]


def read(data: video.VideoFile, sample_ms: int = 1000, max_pixels: int = MAX_PIXELS) -> Film:
    with closing(Reading(data, sample_ms=sample_ms, max_pixels=max_pixels)) as reading:
        samples = [sample for sample in reading.steps() if sample is not None]
        return Film(
            frames=[sample.time for sample in samples],
            pixels=np.stack([resize(sample.pixels, SIZE) for sample in samples]),
            first=samples[0].pixels,
            format=reading.format,
            duration_ms=reading.duration_ms,
        )


def seen(found: Film) -> list[tuple[int, int, films.Colour]]:
    """Time and number of each frame, and the colour it shows."""
    assert [frame.index for frame in found.frames] == list(range(len(found.frames)))
    assert found.pixels.shape == (len(found.frames), SIZE, SIZE, 3)
    colours = map(films.named, found.pixels)
    return [(frame.time_ms, frame.number, colour) for frame, colour in zip(found.frames, colours, strict=True)]


FORMATS = [
    ("MP4", "mp4", "libx264"),
    ("MOV", "mov", "libx264"),
    ("3GP", "3gp", "mpeg4"),
    ("AVI", "avi", "mpeg4"),
    ("WMV", "asf", "wmv2"),
    ("WEBM", "webm", "libvpx-vp9"),
    ("MKV", "matroska", "libx264"),
    ("GIF", "gif", "gif"),
]


# Which frames --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "format", "codec"), FORMATS, ids=[name for name, _, _ in FORMATS])
def test_every_kind_of_film_gives_what_it_shows_in_the_middle_of_each_second(
    name: str, format: str, codec: str
) -> None:
    found = read(films.film(3.0, format=format, codec=codec))

    assert (found.format, found.width, found.height, found.duration_ms) == (name, 96, 64, 3000)
    assert seen(found) == [(500, 5, RED), (1500, 15, GREEN), (2500, 25, BLUE)]
    assert found.first.shape == (64, 96, 3)
    assert films.named(found.first) == RED


@pytest.mark.parametrize(
    ("seconds", "sample_ms", "expected"),
    [
        (4.0, 2000, [(1000, 10, GREEN), (3000, 30, RED)]),
        (4.0, 1500, [(750, 7, RED), (2250, 22, BLUE), (3750, 37, RED)]),
        (2.4, 1000, [(500, 5, RED), (1500, 15, GREEN)]),
        (2.5, 1000, [(500, 5, RED), (1500, 15, GREEN)]),
        (2.6, 1000, [(500, 5, RED), (1500, 15, GREEN), (2500, 25, BLUE)]),
        (0.5, 100, [(50, 0, RED), (150, 1, RED), (250, 2, RED), (350, 3, RED), (450, 4, RED)]),
    ],
)
def test_an_interval_counts_if_the_film_reaches_its_middle(
    seconds: float, sample_ms: int, expected: list[tuple[int, int, films.Colour]]
) -> None:
    assert seen(read(films.film(seconds), sample_ms)) == expected


@pytest.mark.parametrize(
    ("sample_ms", "time_ms", "number", "colour"), [(60_000, 1700, 17, GREEN), (7000, 1700, 17, GREEN)]
)
def test_a_film_shorter_than_half_an_interval_is_its_own_middle(
    sample_ms: int, time_ms: int, number: int, colour: films.Colour
) -> None:
    assert seen(read(films.film(3.4), sample_ms)) == [(time_ms, number, colour)]


def test_a_frame_stays_until_the_next_one() -> None:
    frames = [(plain(RED), 0.0), (plain(GREEN), 0.4), (plain(BLUE), 3.0), (plain(RED), 3.2)]
    found = read(films.film_of(frames))

    assert seen(found) == [(500, 1, GREEN), (1500, 1, GREEN), (2500, 1, GREEN)]
    assert seen(read(films.film_of(frames), 2000)) == [(1000, 1, GREEN), (3000, 2, BLUE)]


@pytest.mark.parametrize("format", ["mp4", "matroska"])
def test_time_counts_from_the_first_frame(format: str) -> None:
    assert seen(read(films.film(2.0, format=format, starts_s=5.0))) == [(500, 5, RED), (1500, 15, GREEN)]


def test_frames_without_times_follow_each_other_at_the_rate_of_the_film() -> None:
    # AVI has no times; those of frames that are shown in another order than decoded have to be found.
    found = read(films.film(3.0, format="avi", codec="libx264"))

    assert [time_ms for time_ms, _, _ in seen(found)] == [500, 1500, 2500]
    assert [colour for _, _, colour in seen(found)] == [RED, GREEN, BLUE]


def test_a_film_with_sound_and_one_with_its_index_first() -> None:
    assert seen(read(films.film(2.0, sound=True))) == [(500, 5, RED), (1500, 15, GREEN)]
    assert seen(read(films.moov_first(films.film(2.0)))) == [(500, 5, RED), (1500, 15, GREEN)]


def test_a_file_is_read_as_its_bytes_are(tmp_path: Path) -> None:
    path = tmp_path / "film.of.any.name"
    path.write_bytes(films.film(2.0))

    assert seen(read(path)) == seen(read(str(path))) == seen(read(films.film(2.0)))
    with pytest.raises(InputFailed, match="cannot be opened: No such file"):
        read(tmp_path / "none.mp4")


# GIFs ----------------------------------------------------------------------------------------------------------------


def test_frames_of_a_gif_last_as_long_as_they_say() -> None:
    found = read(films.gif([plain(RED), plain(GREEN), plain(BLUE)], [400, 1500, 700]))

    assert seen(found) == [(500, 1, GREEN), (1500, 1, GREEN), (2500, 2, BLUE)]
    assert found.duration_ms == 2600


def test_frames_of_a_gif_without_a_time_last_as_in_browsers() -> None:
    found = read(films.gif([plain(colour) for colour in (RED, GREEN, BLUE) * 4], 0))

    assert found.duration_ms == 1200
    assert seen(found) == [(500, 5, BLUE)]


def test_a_gif_of_one_frame_is_a_film_of_one_frame() -> None:
    found = read(films.gif([plain(RED)], 0))

    assert [(time.index, time.number) for time in found.frames] == [(0, 0)]
    assert films.named(found.pixels[0]) == RED
    assert 0 < found.frames[0].time_ms < found.duration_ms


def test_what_is_transparent_in_a_gif_is_white() -> None:
    clear = Image.new("P", (96, 64), 1)
    clear.putpalette([0, 0, 0, *RED])
    clear.paste(0, (0, 0, 48, 64))
    clear.info["transparency"] = 0
    still = io.BytesIO()
    clear.save(still, "GIF", transparency=0)

    pixels = read(still.getvalue()).pixels[0]

    assert (films.named(pixels[:, : SIZE // 2 - 1]), films.named(pixels[:, SIZE // 2 + 1 :])) == (WHITE, RED)


# How they look -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("turned", "size", "red_corner"),
    [(0, (96, 64), (0, 0)), (90, (64, 96), (1, 0)), (180, (96, 64), (1, 1)), (270, (64, 96), (0, 1))],
)
def test_a_film_is_turned_upright(turned: int, size: tuple[int, int], red_corner: tuple[int, int]) -> None:
    picture = plain(BLUE)
    picture[:32, :48] = RED
    found = read(films.film_of([(picture, n / 10) for n in range(10)], turned=turned))

    quarters = found.pixels[0].reshape(2, SIZE // 2, 2, SIZE // 2, 3).mean(axis=(1, 3))
    red = [(row, column) for row in (0, 1) for column in (0, 1) if films.named(quarters[row, column]) == RED]
    assert (found.width, found.height) == size
    assert red == [red_corner]


def test_a_mirrored_film_is_mirrored_back() -> None:
    picture = plain(BLUE)
    picture[:, :48] = RED
    data = films.film_of([(picture, n / 10) for n in range(10)])
    matrix = struct.pack(">9i", -(1 << 16), 0, 0, 0, 1 << 16, 0, 96 << 16, 0, 1 << 30)

    pixels = read(films.patched(data, b"tkhd", 40, matrix)).pixels[0]

    assert (films.named(pixels[:, : SIZE // 2]), films.named(pixels[:, SIZE // 2 :])) == (BLUE, RED)


def test_a_picture_that_stays_is_one_array() -> None:
    frames = [(plain(RED), 0.0), (plain(GREEN), 0.2), (plain(BLUE), 2.0), (plain(RED), 2.9)]
    with closing(Reading(films.film_of(frames), sample_ms=1000, max_pixels=MAX_PIXELS)) as reading:
        first, second, third = [sample.pixels for sample in reading.steps() if sample is not None]

    assert first is second
    assert list(map(films.named, (first, third))) == [GREEN, BLUE]


# What is refused -----------------------------------------------------------------------------------------------------


def cut(share: float, make: Callable[[], bytes]) -> bytes:
    data = make()
    return data[: int(len(data) * share)]


@pytest.mark.parametrize(
    "make",
    [
        lambda: films.film(3.0),
        lambda: films.moov_first(films.film(3.0)),
        lambda: films.film(3.0, format="avi", codec="mpeg4"),
        lambda: films.film(3.0, format="webm", codec="libvpx-vp9"),
        lambda: films.film(3.0, format="asf", codec="wmv2"),
        lambda: films.gif([plain(RED), plain(GREEN), plain(BLUE)], 1000),
    ],
    ids=["mp4", "mp4 with its index first", "avi", "webm", "wmv", "gif"],
)
@pytest.mark.parametrize("share", [0.3, 0.8, 0.99])
def test_a_film_that_ends_early_is_no_film(make: Callable[[], bytes], share: float) -> None:
    with pytest.raises(InputFailed, match=r"ends early|damaged"):
        read(cut(share, make))


@pytest.mark.parametrize(
    "data",
    [
        films.film(2.0) + b"notes of a camera, which are no box",
        films.film(2.0) + bytes(1000),
        films.gif([plain(RED), plain(GREEN)], 1000)[:-1],
        films.gif([plain(RED), plain(GREEN)], 1000) + b"notes",
    ],
    ids=["mp4 and notes", "mp4 and nothing", "gif without a trailer", "gif and notes"],
)
def test_what_players_forgive_is_forgiven(data: bytes) -> None:
    assert [colour for _, _, colour in seen(read(data))] == [RED, GREEN]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "The content is empty; only MP4"),
        (b"just words, called film.mp4\n" * 100, "The content is plain text; only MP4"),
        (b"#EXTM3U\n#EXTINF:1\nfile:///etc/passwd\n", "The content is plain text"),
        (films.sound_only(), "The MP4 file has no video stream. It has sound only."),
        (films.sound_only(format="matroska"), "The MKV file has no video stream. It has sound only."),
        (b"\0\0\0\x20ftypisom" + bytes(24), "MP4 video is damaged"),
        (films.film(1.0, format="asf", codec="wmv2")[:100], "WMV"),
        (b"RIFF\x10\0\0\0AVI " + bytes(64), "AVI video is damaged"),
        (b"GIF89a\x10\0\x10\0\0\0\0;", "GIF"),
    ],
)
def test_what_is_no_film_says_what_it_is(data: bytes, text: str) -> None:
    with pytest.raises(InputFailed, match=text):
        read(data)


def test_an_image_is_told_to_be_sent_as_one() -> None:
    jpeg = io.BytesIO()
    Image.new("RGB", (8, 8)).save(jpeg, "JPEG")

    with pytest.raises(InputFailed, match=r"The content is a JPEG image; .* Send it as an image\."):
        read(jpeg.getvalue())


def test_the_cover_of_a_song_is_no_film() -> None:
    song = io.BytesIO()
    with av.open(song, "w", format="mp4") as container:
        audio = container.add_stream("aac", rate=8000)
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 96, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), "fltp", "mono")
        sound.sample_rate = 8000
        container.mux(audio.encode(sound))
        container.mux(cover.encode(av.VideoFrame.from_ndarray(plain(RED), "rgb24").reformat(format="yuvj420p")))
        container.mux([*audio.encode(), *cover.encode()])

    with pytest.raises(InputFailed, match="no video stream"):
        read(song.getvalue())


def test_more_pixels_than_allowed_are_refused_before_they_are_decoded() -> None:
    data = films.film(1.0)

    assert read(data, max_pixels=96 * 64).width == 96
    with pytest.raises(InputOverLimit, match="96 x 64 = 6144 pixels; the limit is 6143"):
        read(data, max_pixels=96 * 64 - 1)


def test_a_gif_that_says_it_is_huge_is_refused() -> None:
    gif = films.gif([plain(RED), plain(GREEN)], 100)
    huge = gif[:6] + b"\xff\xff\xff\xff" + gif[10:]

    with pytest.raises(InputOverLimit, match="65535 x 65535"):
        read(huge)


def test_a_longer_film_than_allowed_is_refused() -> None:
    long = films.film_of([(plain(RED), 0.0), (plain(GREEN), 590.0), (plain(BLUE), 600.5)], rate=2)

    with pytest.raises(InputOverLimit, match=r"lasts 601.0 s; the limit is 600 s"):
        read(long)
    assert len(read(films.film_of([(plain(RED), 0.0), (plain(GREEN), 599.0)], rate=1)).frames) == 600


def test_frames_that_say_they_last_for_hours_are_refused() -> None:
    slow = films.patched(films.film(2.0), b"stts", 12, (2**26).to_bytes(4, "big"))

    with pytest.raises(InputOverLimit, match="the limit is 600 s"):
        read(slow)


def test_more_frames_than_allowed_are_refused_and_how_to_get_fewer_is_told() -> None:
    data = films.film(61.0, rate=1)

    assert len(read(data, 200).frames) == 305
    with pytest.raises(InputOverLimit, match=r"610 frames with a sample_ms of 100; the limit is 600. Send a larger"):
        read(data, 100)


def test_a_film_may_wait_between_its_steps_as_long_as_it_must() -> None:
    with closing(Reading(films.film(3.0), sample_ms=1000, max_pixels=MAX_PIXELS, max_work_s=1.0)) as reading:
        steps = reading.steps()
        first = next(steps)
        others_are_done_at = time.thread_time() + 1.1
        while time.thread_time() < others_are_done_at:
            pass
        samples = [step for step in (first, *steps) if step is not None]

    assert len(samples) == 3


def test_a_film_that_takes_too_much_work_is_refused() -> None:
    with (
        closing(Reading(films.film(3.0), sample_ms=1000, max_pixels=MAX_PIXELS, max_work_s=0.0)) as reading,
        pytest.raises(InputOverLimit, match="takes longer than 0 s"),
    ):
        list(reading.steps())


@pytest.mark.parametrize("box", [b"stsz", b"trun"])
def test_a_film_that_announces_millions_of_samples_in_a_few_bytes_is_refused(box: bytes) -> None:
    data = films.film(2.0)
    if box == b"stsz":
        many = films.patched(data, box, 4, (1).to_bytes(4, "big") + (2**26).to_bytes(4, "big"))
    else:
        many = data + b"\0\0\0\x20moof\0\0\0\x18traf\0\0\0\x10trun\0\0\0\0" + (2**26).to_bytes(4, "big")

    with pytest.raises(InputOverLimit, match="announces 67108"):
        read(many)


def test_raw_sound_may_have_millions_of_samples() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="mov") as container:
        stream = container.add_stream("libx264", rate=1)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        audio = container.add_stream("pcm_u8", rate=48000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 48000 * 25), np.uint8), "u8", "mono")
        silence.sample_rate = 48000
        for n in range(25):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(plain(films.colour_at(n)), "rgb24")))
        container.mux([*stream.encode(), *audio.encode(silence), *audio.encode()])

    assert len(read(file.getvalue()).frames) == 25


@pytest.mark.parametrize(("format", "codec"), [(format, codec) for _, format, codec in FORMATS])
def test_whatever_is_in_a_file_it_is_read_or_refused(format: str, codec: str) -> None:
    whole, random = films.film(2.0, format=format, codec=codec), np.random.default_rng(1)
    outcomes = set()
    for _ in range(60):
        data = bytearray(whole)
        for place in random.integers(0, len(data), random.integers(1, 6)):
            changed = random.integers(0, 256, 4, np.uint8).tobytes() if random.random() < 0.7 else b"\xff" * 4
            data[place : place + 4] = changed
        try:
            outcomes.add(0 < len(read(bytes(data)).frames) <= video.MAX_FRAMES)
        except (InputFailed, InputOverLimit) as error:
            outcomes.add(bool(error.details))
    assert outcomes == {True}


# Many at a time ------------------------------------------------------------------------------------------------------


def test_films_are_read_side_by_side() -> None:
    kinds = [films.film(3.0, format=format, codec=codec) for _, format, codec in FORMATS]
    alone = [seen(read(data)) for data in kinds]

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda n: seen(read(kinds[n % len(kinds)])), range(32)))

    assert together == [alone[n % len(kinds)] for n in range(32)]


def test_a_film_can_be_read_in_turns_by_one_thread_after_the_other() -> None:
    reading = video.Reading(films.film(3.0), sample_ms=1000, max_pixels=MAX_PIXELS)
    steps = reading.steps()
    found: list[FrameTime] = []
    threads: set[int] = set()
    ended = threading.Event()

    def turn() -> None:
        threads.add(threading.get_ident())
        step = next(steps, ended)
        if step is ended:
            ended.set()
        elif isinstance(step, video.Sample):
            found.append(step.time)

    while not ended.is_set():
        thread = threading.Thread(target=turn)
        thread.start()
        thread.join()

    assert [time.time_ms for time in found] == [500, 1500, 2500]
    assert reading.duration_ms == 3000
