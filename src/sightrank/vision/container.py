"""Whether the file of a video is whole, where the decoder would just stop at its end: Matroska, WebM and GIF."""

from __future__ import annotations

import io
from typing import BinaryIO

from sightrank.errors import InputFailed

_SEGMENT = 0x18538067


def check_whole(file: BinaryIO, name: str) -> None:
    """Raises InputFailed for a file that ends before it says. ``name`` is what ``signature.video_format`` calls it."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    try:
        if name in {"WEBM", "MKV"}:
            _walk_matroska(file, size)
        elif name == "GIF":
            _walk_gif(file, size)
    except EOFError:
        raise InputFailed(f"The {name} ends early: bytes are missing.") from None


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
    """Block by block to the trailer. What is no block ends the film for every reader, so it does here."""
    flags = _exactly(file, 13)[10]
    _skip(file, _palette_bytes(flags), size)
    while (kind := _exactly(file, 1)) != b";":
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
