"""How much FFmpeg would have to remember of an MP4, MOV or 3GP, counted before it opens the file.

The tables of such a file announce samples, and FFmpeg makes an entry for each, once for every edit that shows it: a few
bytes can announce millions. Boxes are found as FFmpeg finds them: by their heads, in whatever it looks into, not only
where they belong.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Final

import numpy as np

from sightrank.errors import InputFailed, InputOverLimit

_MAX_SAMPLES: Final = 1_000_000  # of video, sound and all else, as often as edits show them; ten minutes have far fewer
_MAX_BOXES: Final = 500_000
_MAX_TRACKS: Final = 64
_MAX_DEPTH: Final = 12  # FFmpeg's own is 10
_NEEDED: Final = {
    b"mdat",
    b"moov",
    b"moof",
}  # anything else may be cut, or be no box at all: cameras append what they like
#: What FFmpeg looks into for boxes of any kind.
_CONTAINERS: Final = frozenset(
    b"dinf edts ilst mdia meta minf moof moov mvex schi sinf stbl traf trak tref udta wave wide".split()
)
_TABLES: Final = frozenset(b"cmov co64 ctts elst hdlr sbgp stco stsc stsd stsz stts stz2 trun".split())
#: Handlers that say nothing of the kind of a track: of metadata, and of where its data lie.
_OTHER_HANDLERS: Final = frozenset((b"alis", b"mdir", b"mdta", b"rsrc", b"url "))
_SOUND_PIECE: Final = 512  # raw sound is read in pieces of so many samples at least, mostly twice as many


@dataclass(frozen=True, slots=True)
class _Box:
    kind: bytes
    begins: int  # of what it holds
    ends: int


@dataclass(slots=True)
class _Track:
    """What the tables of a track announce; they may come in any order."""

    sizes: int = 0
    timed: int = 0
    shifted: int = 0
    grouped: int = 0
    times: set[tuple[int, int]] = field(default_factory=set)
    edits: int = 0
    chunks: int = 0
    largest_chunk: int = 0
    handlers: set[bytes] = field(default_factory=set)

    def entries(self) -> int:
        """How many entries FFmpeg makes for it."""
        return max(1, self.edits) * (
            self._pieces() if self._is_raw_sound() else max(self.sizes, self.timed, self.shifted, self.grouped)
        )

    def _is_raw_sound(self) -> bool:
        """Whether each sample is one moment of sound: of those there are millions, which FFmpeg reads in pieces."""
        plain = len(self.times) == 1 and all(ticks == 1 for _, ticks in self.times) and not self.shifted + self.grouped
        return plain and self.handlers - _OTHER_HANDLERS == {b"soun"}

    def _pieces(self) -> int:
        return self.chunks * (1 + self.largest_chunk // _SOUND_PIECE)


def check_index(file: BinaryIO, size: int, name: str) -> None:
    """Raises EOFError for a file that ends before it says, InputOverLimit for one that announces too much, InputFailed
    for one whose tables cannot be counted."""
    index = _Index(file)
    index.walk(_Box(b"", 0, size), depth=0)
    samples = index.samples()
    if samples > _MAX_SAMPLES:
        raise InputOverLimit(
            f"The {name} video announces {samples} samples, counted as often as its edits show them; the limit is "
            f"{_MAX_SAMPLES}."
        )


class _Index:
    """The tables of a file, added up."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._tracks = [_Track()]  # the first for tables that stand in no track
        self._in_fragments = 0
        self._boxes = 0

    def samples(self) -> int:
        return self._in_fragments + sum(track.entries() for track in self._tracks)

    def walk(self, outer: _Box, *, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise InputFailed("The boxes of the video are nested too deeply.")
        for box in self._inside(outer, outermost=depth == 0):
            if box.kind == b"trak":
                self._tracks.append(_Track())
                if len(self._tracks) > _MAX_TRACKS + 1:
                    raise InputOverLimit(f"The video has more than {_MAX_TRACKS} tracks.")
            if box.kind in _CONTAINERS or (box.kind in {b"free", b"hoov"} and self._hides_index(box)):
                self.walk(self._from_handler(box) if box.kind == b"meta" else box, depth=depth + 1)
            elif box.kind in _TABLES:
                self._count(box)

    def _inside(self, outer: _Box, *, outermost: bool) -> Iterator[_Box]:
        place = outer.begins
        while place + 8 <= outer.ends:
            self._boxes += 1
            if self._boxes > _MAX_BOXES:
                raise InputOverLimit(f"The video has more than {_MAX_BOXES} parts.")
            head = self._read(place, 16)
            kind, length, begins = head[4:8], _int(head, 0), place + 8
            if length == 1:
                length, begins = int.from_bytes(head[8:], "big"), place + 16
            if length == 0 or (outermost and length < begins - place):
                length = outer.ends - place
            elif length < begins - place:
                return  # no box: FFmpeg reads no further either
            if outermost and kind in _NEEDED and place + length > outer.ends:
                raise EOFError
            place = min(place + length, outer.ends)
            yield _Box(kind, begins, place)

    def _hides_index(self, box: _Box) -> bool:
        return self._read(box.begins + 4, 4) in {b"cmov", b"mvhd"}

    def _from_handler(self, box: _Box) -> _Box:
        """The boxes of ``meta`` begin at its handler, wherever that is."""
        for place in range(box.begins, box.ends, 2**16):
            data = self._read(place, min(2**16 + 8, box.ends - place))
            found = data.find(b"hdlr")
            while found >= 0:
                if found % 4 == 0:
                    return _Box(box.kind, max(box.begins, place + found - 4), box.ends)
                found = data.find(b"hdlr", found + 1)
        return _Box(box.kind, box.ends, box.ends)

    def _count(self, box: _Box) -> None:
        track = self._tracks[-1]
        match box.kind:
            case b"cmov":
                raise InputFailed("The video has a compressed index, which this server does not read.")
            case b"stsd":
                self._check_description(box)
            case b"hdlr":
                track.handlers.add(self._read(box.begins + 8, 4))
            case b"trun":
                self._in_fragments += self._int_at(box, 4)
            case b"stsz" | b"stz2":
                track.sizes += self._int_at(box, 8)
            case b"elst":
                track.edits += min(self._int_at(box, 4), (box.ends - box.begins) // 12)
            case b"stco" | b"co64":
                track.chunks += min(self._int_at(box, 4), (box.ends - box.begins) // 4)
            case b"stsc":
                track.largest_chunk = max(track.largest_chunk, int(self._columns(box, 8, 3)[:, 1].max(initial=0)))
            case b"stts":
                times = self._columns(box, 8, 2)
                track.timed += int(times[:, 0].sum())
                track.times.update((int(count), int(ticks)) for count, ticks in times[:2])
            case b"ctts":
                track.shifted += int(self._columns(box, 8, 2)[:, 0].sum())
            case b"sbgp":
                start = 16 if self._read(box.begins, 1) == b"\1" else 12
                track.grouped += int(self._columns(box, start, 2)[:, 0].sum())

    def _check_description(self, box: _Box) -> None:
        """FFmpeg looks into what comes after the fields of a description, too, where no table belongs."""
        data = self._read(box.begins, box.ends - box.begins)
        for kind in _TABLES - {b"hdlr"}:
            if kind in data:
                raise InputFailed(f"The video has a table ({kind.decode()}) inside the description of its samples.")

    def _columns(self, box: _Box, start: int, columns: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint64]]:
        """The rows of a table, as many as it says and as there is room for."""
        rows = min(self._int_at(box, start - 4), max(0, box.ends - box.begins - start) // (4 * columns))
        data = self._read(box.begins + start, rows * 4 * columns)
        return np.frombuffer(data, ">u4")[: len(data) // (4 * columns) * columns].astype(np.uint64).reshape(-1, columns)

    def _int_at(self, box: _Box, start: int) -> int:
        return _int(self._read(box.begins + start, 4), 0)

    def _read(self, place: int, count: int) -> bytes:
        self._file.seek(place, io.SEEK_SET)
        return self._file.read(count)


def _int(data: bytes, place: int) -> int:
    return int.from_bytes(data[place : place + 4], "big")
