"""What the boxes of an MP4 announce is counted as FFmpeg would find it: wherever they stand, and nothing but boxes."""

from __future__ import annotations

import io
import struct
from contextlib import closing

import av
import pytest
from tests import films
from tests.films import RED, plain

from sightrank.errors import InputFailed, InputOverLimit
from sightrank.vision.mp4_index import check_index
from sightrank.vision.video import Reading

MANY = 2**26


def box(kind: bytes, *parts: bytes) -> bytes:
    held = b"".join(parts)
    return struct.pack(">I", 8 + len(held)) + kind + held


def table(kind: bytes, *numbers: int) -> bytes:
    """A box of a version, flags and numbers."""
    return box(kind, struct.pack(f">{1 + len(numbers)}I", 0, *numbers))


def handler(kind: bytes, name: bytes = b"") -> bytes:
    return box(b"hdlr", bytes(8), kind, bytes(12), name, b"\0")


def sizes(count: int) -> bytes:
    return table(b"stsz", 1, count)


def one_tick_each(count: int) -> bytes:
    return table(b"stts", 1, count, 1)


def edits(count: int) -> bytes:
    return table(b"elst", count, *(1000, 0, 0x10000) * count)


def track(*tables: bytes, kind: bytes = b"vide", name: bytes = b"", edited: bytes = b"") -> bytes:
    media = box(b"mdia", handler(kind, name), box(b"minf", box(b"stbl", *tables)))
    return box(b"trak", box(b"edts", edited) if edited else b"", media)


def check(*boxes: bytes) -> None:
    data = b"".join(boxes)
    check_index(io.BytesIO(data), len(data), "MP4")


def titled(title: str) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        container.metadata["title"] = title
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for _ in range(20):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(plain(RED), "rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


@pytest.mark.parametrize(
    "title", ["The trunk of an elephant", "trunk", "Holiday cmov clip", "stsz stz2 elst", "Destruncation"]
)
def test_a_title_is_no_table(title: str) -> None:
    data = titled(title)

    with closing(Reading(data, sample_ms=1000, max_pixels=1_000_000)) as reading:
        assert len([sample for sample in reading.steps() if sample is not None]) == 2


def test_raw_sound_counts_by_its_pieces() -> None:
    listed = (sizes(MANY), one_tick_each(MANY))

    check(box(b"moov", track(*listed, table(b"stsc", 1, 1, MANY, 1), table(b"stco", 1, 0), kind=b"soun")))
    chunks = table(b"stco", 200, *[0] * 200)
    with pytest.raises(InputOverLimit, match="announces 26214600 samples"):
        check(box(b"moov", track(*listed, table(b"stsc", 1, 1, MANY, 1), chunks, kind=b"soun")))


@pytest.mark.parametrize(
    "disguised",
    [
        track(sizes(MANY), one_tick_each(MANY), name=b"soun"),
        track(sizes(MANY), one_tick_each(MANY), handler(b"vide"), kind=b"soun"),
        track(sizes(MANY), table(b"stts", 2, MANY - 1, 1, 1, 2), kind=b"soun"),
        track(sizes(MANY), one_tick_each(MANY), table(b"ctts", 1, MANY, 1), kind=b"soun"),
    ],
)
def test_only_raw_sound_counts_by_its_pieces(disguised: bytes) -> None:
    with pytest.raises(InputOverLimit, match="announces 67108864 samples"):
        check(box(b"moov", disguised))


def test_samples_count_once_for_each_edit_that_shows_them() -> None:
    with pytest.raises(InputOverLimit, match="announces 40000000 samples, counted as often as its edits show them"):
        check(box(b"moov", track(sizes(400_000), edited=edits(100))))


def test_a_film_may_be_edited() -> None:
    check(box(b"moov", track(sizes(36_000), edited=edits(16)), track(sizes(28_000), edited=edits(2), kind=b"soun")))


def test_all_tracks_count_together_and_there_are_not_too_many() -> None:
    with pytest.raises(InputOverLimit, match="announces 1200000 samples"):
        check(box(b"moov", track(sizes(600_000)), track(sizes(600_000))))
    with pytest.raises(InputOverLimit, match="more than 64 tracks"):
        check(box(b"moov", *[track(sizes(1))] * 65))


@pytest.mark.parametrize("around", [b"udta", b"tref", b"dinf", b"edts", b"wave", b"sinf", b"ilst"])
def test_tables_count_where_they_do_not_belong(around: bytes) -> None:
    with pytest.raises(InputOverLimit, match="announces 67108864 samples"):
        check(box(b"moov", track(box(around, sizes(MANY)))))


def test_tables_behind_the_handler_of_metadata_count() -> None:
    metadata = box(b"meta", bytes(4), handler(b"mdir"), sizes(MANY))

    with pytest.raises(InputOverLimit, match="announces 67108864 samples"):
        check(box(b"moov", box(b"udta", metadata)))


@pytest.mark.parametrize("kind", [b"free", b"hoov"])
def test_an_index_in_free_space_counts(kind: bytes) -> None:
    with pytest.raises(InputOverLimit, match="announces 67108864 samples"):
        check(box(kind, table(b"mvhd", 0), track(sizes(MANY))))


def test_a_table_in_a_description_of_samples_is_refused() -> None:
    with pytest.raises(InputFailed, match=r"table \(stsz\) inside the description"):
        check(box(b"moov", track(box(b"stsd", bytes(8), box(b"raw ", bytes(78), sizes(MANY))))))


def test_a_compressed_index_is_refused() -> None:
    with pytest.raises(InputFailed, match="compressed index"):
        check(box(b"moov", box(b"cmov", bytes(8))))


def test_boxes_without_end_are_refused() -> None:
    nested = sizes(1)
    for _ in range(20):
        nested = box(b"udta", nested)

    with pytest.raises(InputFailed, match="nested too deeply"):
        check(nested)
    with pytest.raises(InputOverLimit, match="more than 500000 parts"):
        check(box(b"moov", box(b"udta") * 500_001))


def test_samples_of_fragments_count() -> None:
    fragment = box(b"moof", box(b"traf", table(b"trun", 600_000)))

    check(fragment)
    with pytest.raises(InputOverLimit, match="announces 1200000 samples"):
        check(fragment, fragment)


def test_every_kind_of_film_passes() -> None:
    for data in (films.film(2.0, sound=True), films.moov_first(films.film(2.0)), films.film(2.0, format="mov")):
        check(data)
