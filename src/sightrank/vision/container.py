"""What is checked of a video file before FFmpeg opens it.

Whether the file is as long as it says, because a decoder would just stop at its end; and for MP4 and its kin how much
their tables announce (``mp4_index``).
"""

from __future__ import annotations

import io
from typing import BinaryIO

from sightrank.errors import InputFailed
from sightrank.vision.mp4_index import check_index

_SEGMENT = 0x18538067
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_HEADER_BYTES = 65_536


def check(file: BinaryIO, name: str) -> None:
    """Raises InputFailed for a file that ends before it says, or whose tables cannot be counted, and InputOverLimit for
    one that announces too much.

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
            check_index(file, size, name)
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
