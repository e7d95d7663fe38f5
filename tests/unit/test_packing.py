"""Packed request bodies, piece by piece."""

from __future__ import annotations

import gzip
import random
import zlib

import pytest

from sightrank.errors import BadRequestFormat
from sightrank.wire.packing import Packing, unpacked

NOISE = random.Random(7).randbytes(3_000_000)  # more than one slice, also when it is packed
ZEROS = bytes(5_000_000)


@pytest.mark.parametrize(
    "data", [b"", b"x", ZEROS, NOISE, ZEROS + NOISE], ids=["none", "one", "zeros", "noise", "both"]
)
def test_what_was_packed_comes_out_in_pieces(data: bytes) -> None:
    for packing, body in ((Packing.GZIP, gzip.compress(data)), (Packing.DEFLATE, zlib.compress(data))):
        pieces = list(unpacked(body, packing))

        assert b"".join(pieces) == data
        assert all(0 < len(piece) <= 2**20 for piece in pieces)


@pytest.mark.parametrize("data", [ZEROS, NOISE], ids=["zeros", "noise"])
def test_whatever_is_damaged_is_refused(data: bytes) -> None:
    body = gzip.compress(data)
    for damaged in (body[:-1], body[: len(body) // 2], body + b"more", body + body, body[:-8] + bytes(8), b"\x1f"):
        with pytest.raises(BadRequestFormat, match="Content-Encoding: gzip"):
            list(unpacked(damaged, Packing.GZIP))
