"""What is checked of a video file before FFmpeg opens it.

Whether the file is as long as it says, because a decoder would just stop at its end. And for MP4 and its kin how many
samples the tables announce: a few bytes can announce millions, and FFmpeg makes room for each of them.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import BinaryIO

from sightrank.errors import InputFailed, InputOverLimit

_SEGMENT = 0x18538067
_NEEDED = {b"mdat", b"moov", b"moof"}  # anything else may be cut, or be no box at all: cameras append what they like
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_HEADER_BYTES = 65_536
_MAX_SAMPLES = 1_000_000  # of video, sound and all else; ten minutes have far fewer
_MAX_BOXES = 200_000


def check(file: BinaryIO, name: str) -> None:
    """Raises InputFailed for a file that ends before it says, InputOverLimit for one that announces too much.

    ``name`` is what ``signature.video_format`` calls it.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    try:
        if name in {"WEBM", "MKV"}:
            _walk_matroska(file, size)
        elif name == "GIF":
            _walk_gif(file, size)
        elif name in {"MP4", "MOV", "3GP"}:
            _check_samples(name, sum(map(_samples, _indexes(file, size))))
        elif name == "AVI":
            # Less one: not every writer adds the byte that makes the length even.
            _check_end(int.from_bytes(_exactly(file, 8)[4:], "little") + 8 - 1, size)
        elif name == "WMV":
            _check_end(_asf_size(_exactly(file, min(size, _ASF_HEADER_BYTES))), size)
    except EOFError:
        raise InputFailed(f"The {name} ends early: bytes are missing.") from None


def gif_size(file: BinaryIO) -> tuple[int, int]:
    """Width and height of a GIF."""
    file.seek(6)
    sides = file.read(4)
    return int.from_bytes(sides[:2], "little"), int.from_bytes(sides[2:], "little")


def _walk_matroska(file: BinaryIO, size: int) -> None:
    """Elements of the outermost level, up to the one that holds the film."""
    while (start := file.tell()) < size:
        kind = _number(file, keep_marker=True)
        length = _number(file, keep_marker=False)
        if length is None:
            return  # written without going back: it ends where the file ends
        end = file.tell() + length
        if end > size:
            raise EOFError
        if kind == _SEGMENT or end <= start:
            return
        file.seek(end)


def _check_end(end: int, size: int) -> None:
    if end > size:
        raise EOFError


def _asf_size(start: bytes) -> int:
    """How long a WMV says it is; 0 for one that was written while it was sent, and does not know."""
    place = start.find(_ASF_PROPERTIES)
    properties = start[place : place + 89]
    if place < 0 or len(properties) < 89 or properties[88] & 1:
        return 0
    return int.from_bytes(properties[40:48], "little")


def _indexes(file: BinaryIO, size: int) -> Iterator[bytes]:
    """The outermost boxes of an MP4 but those that hold the film itself."""
    place = 0
    for _ in range(_MAX_BOXES):
        file.seek(place)
        head = file.read(16)
        if len(head) < 8:
            return
        length, header = int.from_bytes(head[:4], "big"), 8
        if length == 1:
            length, header = int.from_bytes(head[8:], "big"), 16
        length = length if length >= header else size - place
        if head[4:8] in _NEEDED:
            _check_end(place + length, size)
        length = min(length, size - place)
        if head[4:8] != b"mdat":
            file.seek(place)
            yield file.read(length)
        place += length
    raise InputOverLimit(f"The video has more than {_MAX_BOXES} parts.")


def _samples(index: bytes) -> int:
    """How many samples the tables of a box announce, wherever in it they stand."""
    if b"cmov" in index:
        raise InputFailed("The video has a compressed index, which this server does not read.")
    count = sum(_int(index, place + 8) for place in _places(index, b"trun"))
    for track in index.split(b"trak"):
        listed = sum(_int(track, place + 12) for kind in (b"stsz", b"stz2") for place in _places(track, kind))
        count += 0 if _is_raw_sound(track) else listed
    return count


def _is_raw_sound(track: bytes) -> bool:
    """Whether each sample is one moment of sound: of those there are millions, which are read in larger pieces."""
    times = [(_int(track, place + 8), _int(track, place + 16)) for place in _places(track, b"stts")]
    return b"soun" in track and bool(times) and all(one == (1, 1) for one in times)


def _places(data: bytes, name: bytes) -> Iterator[int]:
    place = data.find(name)
    while place >= 0:
        yield place
        place = data.find(name, place + 4)


def _int(data: bytes, place: int) -> int:
    return int.from_bytes(data[place : place + 4], "big")


def _check_samples(name: str, count: int) -> None:
    if count > _MAX_SAMPLES:
        raise InputOverLimit(f"The {name} video announces {count} samples; the limit is {_MAX_SAMPLES}.")


def _number(file: BinaryIO, *, keep_marker: bool) -> int | None:
    """One of Matroska's numbers of variable length; None for a length that is not known."""
    first = _exactly(file, 1)[0]
    length = 9 - first.bit_length()
    if length > 8:
        raise EOFError
    rest = int.from_bytes(_exactly(file, length - 1), "big")
    marker = 1 << (7 * length)
    value = first << (8 * (length - 1)) | rest
    if keep_marker:
        return value
    return None if value == 2 * marker - 1 else value - marker


def _walk_gif(file: BinaryIO, size: int) -> None:
    """Block by block to the trailer, which some writers forget. What is no block ends the film for every reader."""
    flags = _exactly(file, 13)[10]
    _skip(file, _palette_bytes(flags), size)
    while (kind := file.read(1)) not in {b";", b""}:
        if kind == b"!":
            _exactly(file, 1)
        elif kind == b",":
            flags = _exactly(file, 9)[8]
            _skip(file, _palette_bytes(flags) + 1, size)
        else:
            return
        while length := _exactly(file, 1)[0]:
            _skip(file, length, size)


def _palette_bytes(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _skip(file: BinaryIO, count: int, size: int) -> None:
    if file.seek(count, io.SEEK_CUR) > size:
        raise EOFError


def _exactly(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise EOFError
    return data
