"""Request bodies that a client has packed, as their header ``Content-Encoding`` says."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from enum import Enum

from sightrank.errors import BadRequestFormat

_HEADER = b"content-encoding"
_SLICE_BYTES = 256 * 1024
#: A packed byte may hold a thousand.
_PIECE_BYTES = 1024 * 1024


class Packing(Enum):
    GZIP = "gzip"
    DEFLATE = "deflate"


_NAMES = {"": None, "identity": None, "gzip": Packing.GZIP, "x-gzip": Packing.GZIP, "deflate": Packing.DEFLATE}


def packing_of(headers: Iterable[tuple[bytes, bytes]]) -> Packing | None:
    """How the body is packed, None for one that is not. Raises BadRequestFormat for what is not unpacked here."""
    value = b", ".join(value for name, value in headers if name == _HEADER).decode("latin-1").strip()
    if value.lower() not in _NAMES:
        raise BadRequestFormat(
            f"The body has the Content-Encoding {value[:40]!r}; send it as it is, or packed by gzip or deflate."
        )
    return _NAMES[value.lower()]


def unpacked(body: bytes, packing: Packing) -> Iterator[bytes]:
    """What is in a body, piece by piece, so that whoever takes them can stop. Raises BadRequestFormat."""
    unpacker = zlib.decompressobj(_window_bits(body, packing))
    try:
        for start in range(0, len(body), _SLICE_BYTES):
            packed = body[start : start + _SLICE_BYTES]
            while packed and not unpacker.eof:
                if piece := unpacker.decompress(packed, _PIECE_BYTES):
                    yield piece
                packed = unpacker.unconsumed_tail
            if unpacker.unused_data or (packed and unpacker.eof):
                raise _damaged(packing, "more follows after its end")
        while piece := unpacker.decompress(b"", _PIECE_BYTES):
            yield piece
    except zlib.error as error:
        raise _damaged(packing, str(error)) from error
    if not unpacker.eof:
        raise _damaged(packing, "it breaks off")


def _window_bits(body: bytes, packing: Packing) -> int:
    """As zlib wants it: what some clients call deflate lacks zlib's frame."""
    if packing is Packing.GZIP:
        return 31
    framed = len(body) >= 2 and body[0] & 15 == 8 and int.from_bytes(body[:2], "big") % 31 == 0
    return 15 if framed else -15


def _damaged(packing: Packing, why: str) -> BadRequestFormat:
    return BadRequestFormat(f"The body is not what its header says (Content-Encoding: {packing.value}): {why}.")
