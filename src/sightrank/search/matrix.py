"""The vectors of one app and embedder in memory, ranked exactly.

A ``Matrix`` is a cache of the table ``vectors_<embedder>`` for one bucket at one commit version. Rows are half
floats, as stored, inside a faiss flat index, which scans them at memory speed; beside each row stand its area, its
input and its creation time. Rows are added, overwritten and removed in place; a removed row is filled by the last
one.

Nothing here waits or does I/O. Any number of threads may read at once; the owner (``search.followed``) keeps changes
and reads apart.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Generic, TypeVar

import faiss
import numpy as np
from numpy.typing import NDArray

_T = TypeVar("_T")
# Rows decoded at a time when all cosines are wanted: they stay in the cache, and their product is too small for BLAS to
# share among threads, whose waiting for each other costs ten times the work on a busy machine.
_CHUNK_ROWS = 256
# The bits of a half float, moved to where a float has sign, exponent and fraction, make a float of the 2^-112th part:
# the exponents count from 15 and from 127. numpy's own conversion takes five times as long.
_HALF_SHIFT = 13
_EXACT_ROWS = 4096  # rows in float64 at a time, 8 MB at 256 dimensions, however many candidates there are
_SETS_KEPT = 16
_MOST_ROWS_COPIED = 65_536  # of which copies are kept, all in all: 32 MB at 256 dimensions
_HALF_MASK = np.int32(-0x70002000)
_HALF_SCALE = np.float32(2.0**112)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rows:
    """Rows from the database, parallel arrays: ``vectors`` [n, dims] float16, ``created_us`` microseconds."""

    area_ids: NDArray[np.int64]
    input_numbers: NDArray[np.int64]
    created_us: NDArray[np.int64]
    vectors: NDArray[np.float16]


class Matrix:
    """See the module. Row numbers are valid until the next ``upsert`` or ``remove``."""

    def __init__(self, dims: int) -> None:
        self.dims = dims
        self.version = 0
        self._index = flat_index(dims)
        self._row_of_area: dict[int, int] = {}
        self._areas_of_input: Counter[int] = Counter()
        self._area_ids = np.empty(0, np.int64)
        self._input_numbers = np.empty(0, np.int64)
        self._created_us = np.empty(0, np.int64)
        # The same candidates are often ranked again: what was found out about them holds until the next change.
        self._rows_of_set: _Recent[NDArray[np.intp]] = _Recent()
        self._index_of_rows: _Recent[faiss.IndexScalarQuantizer] = _Recent(_MOST_ROWS_COPIED)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def size_bytes(self) -> int:
        """Memory taken."""
        return len(self) * self.row_bytes(self.dims)

    @staticmethod
    def row_bytes(dims: int) -> int:
        """Memory for one row, the look-ups of areas and inputs included (about 100 bytes each)."""
        return 2 * dims + 24 + 200

    @property
    def area_ids(self) -> NDArray[np.int64]:
        return self._area_ids[: len(self)]

    @property
    def input_numbers(self) -> NDArray[np.int64]:
        return self._input_numbers[: len(self)]

    @property
    def created_us(self) -> NDArray[np.int64]:
        return self._created_us[: len(self)]

    @property
    def one_area_each(self) -> bool:
        """Whether no input has more than one area, so that areas and inputs rank alike."""
        return len(self._areas_of_input) == len(self)

    def upsert(self, rows: Rows) -> None:
        """Adds rows; a row whose area is already there overwrites it."""
        self._forget_sets()
        places = self.rows_of(rows.area_ids)
        old, new = np.flatnonzero(places >= 0), np.flatnonzero(places < 0)
        if len(old):
            self._codes()[places[old]] = rows.vectors[old]
        if len(new):
            self._append(rows, new)

    def remove(self, area_ids: NDArray[np.int64]) -> None:
        """Removes areas; unknown ones are ignored."""
        self._forget_sets()
        codes = self._codes()
        count = len(self)
        for area in area_ids.tolist():
            row = self._row_of_area.pop(area, None)
            if row is None:
                continue
            self._forget_input(int(self._input_numbers[row]))
            count -= 1
            if row != count:
                codes[row] = codes[count]
                for column in (self._area_ids, self._input_numbers, self._created_us):
                    column[row] = column[count]
                self._row_of_area[int(self._area_ids[row])] = row
        self._index.codes.resize(count * self._index.code_size)
        self._index.ntotal = count

    def rows_of(self, area_ids: NDArray[np.int64]) -> NDArray[np.intp]:
        """The row of each area, -1 where it has none."""
        return np.fromiter(map(self._row_of_area.get, area_ids.tolist(), repeat(-1)), np.intp, len(area_ids))

    def known_rows(self, area_ids: NDArray[np.int64]) -> NDArray[np.intp]:
        """The rows of those of these areas that have one; asked for the same array again, the same array."""
        rows = self._rows_of_set.get(area_ids)
        if rows is None:
            found = self.rows_of(area_ids)
            rows = self._rows_of_set[area_ids] = found[found >= 0]
        return rows

    def rows_of_inputs(self, input_numbers: NDArray[np.int64]) -> NDArray[np.intp]:
        """The rows of all areas of these inputs."""
        return np.flatnonzero(np.isin(self.input_numbers, input_numbers))

    def vectors(self, rows: NDArray[np.intp]) -> NDArray[np.float64]:
        """The stored vectors of these rows, exactly."""
        return self._codes()[rows].astype(np.float64)

    def copy_of_vectors(self) -> NDArray[np.float16]:
        """All stored vectors, in memory of their own."""
        return self._codes().copy()

    def exact_cosines(self, rows: NDArray[np.intp], direction: NDArray[np.float64]) -> NDArray[np.float64]:
        """Inner products in float64. Equal vectors give equal bits, wherever they stand: sums run row by row."""
        products = np.empty(len(rows))
        for start in range(0, len(rows), _EXACT_ROWS):
            part = slice(start, start + _EXACT_ROWS)
            np.einsum("ij,j->i", self.vectors(rows[part]), direction, out=products[part])
        return products

    def nearest(self, direction: NDArray[np.float64], count: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """The ``count`` rows with the highest inner products (fewer if there are no more), and these, in float32."""
        return _nearest(self._index, direction, count)

    def nearest_among(
        self, rows: NDArray[np.intp], direction: NDArray[np.float64], count: int
    ) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """``nearest`` of some rows only. A copy of them is scanned fast; a selection inside the index is not."""
        index = self._index_of_rows.get(rows)
        if index is None:
            index = flat_index(self.dims)
            index.add_sa_codes(self._codes()[rows].view(np.uint8))
            self._index_of_rows[rows] = index
        places, products = _nearest(index, direction, count)
        return rows[places], products

    def cosines(self, rows: NDArray[np.intp] | slice, directions: NDArray[np.float64]) -> NDArray[np.float32]:
        """[r, dims] directions to the inner products [rows, r] of these rows, in float32; a slice is not copied."""
        return self._products(self._codes()[rows], directions)

    def _products(self, vectors: NDArray[np.float16], directions: NDArray[np.float64]) -> NDArray[np.float32]:
        codes = vectors.view(np.int16)
        wanted = np.ascontiguousarray(directions.T, np.float32) * _HALF_SCALE
        products = np.empty((len(codes), len(directions)), np.float32)
        buffer = np.empty((min(_CHUNK_ROWS, max(len(codes), 1)), self.dims), np.int32)
        for start in range(0, len(codes), _CHUNK_ROWS):
            count = min(_CHUNK_ROWS, len(codes) - start)
            part = buffer[:count]
            np.copyto(part, codes[start : start + count])
            np.left_shift(part, _HALF_SHIFT, out=part)
            np.bitwise_and(part, _HALF_MASK, out=part)
            np.matmul(part.view(np.float32), wanted, out=products[start : start + count])
        return products

    def _codes(self) -> NDArray[np.float16]:
        """The index's own memory as half floats [rows, dims]; dies with the next change of length."""
        if len(self) == 0:
            return np.empty((0, self.dims), np.float16)
        raw = faiss.rev_swig_ptr(self._index.codes.data(), self._index.codes.size())
        return raw.view(np.float16).reshape(len(self), self.dims)

    def _append(self, rows: Rows, chosen: NDArray[np.intp]) -> None:
        start = len(self)
        self._reserve(start + len(chosen))
        area_ids = rows.area_ids[chosen]
        self._area_ids[start : start + len(chosen)] = area_ids
        self._input_numbers[start : start + len(chosen)] = rows.input_numbers[chosen]
        self._created_us[start : start + len(chosen)] = rows.created_us[chosen]
        self._areas_of_input.update(rows.input_numbers[chosen].tolist())
        self._index.add_sa_codes(np.ascontiguousarray(rows.vectors[chosen]).view(np.uint8))
        self._row_of_area.update(zip(area_ids.tolist(), range(start, start + len(chosen)), strict=True))

    def _forget_sets(self) -> None:
        self._rows_of_set = _Recent()
        self._index_of_rows = _Recent(_MOST_ROWS_COPIED)

    def _forget_input(self, input_number: int) -> None:
        self._areas_of_input[input_number] -= 1
        if not self._areas_of_input[input_number]:
            del self._areas_of_input[input_number]

    def _reserve(self, count: int) -> None:
        if count <= len(self._area_ids):
            return
        capacity = max(count, 2 * len(self._area_ids), 1024)
        self._area_ids = np.resize(self._area_ids, capacity)
        self._input_numbers = np.resize(self._input_numbers, capacity)
        self._created_us = np.resize(self._created_us, capacity)


class _Recent(Generic[_T]):
    """What was made of the last few arrays, by their identity; ``at_most`` bounds their entries all in all. Threads may
    share it; at worst they make one twice.
    """

    def __init__(self, at_most: int | None = None) -> None:
        self._at_most = at_most
        self._made: dict[int, tuple[NDArray[Any], _T]] = {}

    def get(self, array: NDArray[Any]) -> _T | None:
        made = self._made.get(id(array))
        return None if made is None else made[1]

    def __setitem__(self, array: NDArray[Any], value: _T) -> None:
        # The array is kept too, so that its identity stays its own.
        kept = [*self._made.items(), (id(array), (array, value))][-_SETS_KEPT:]
        while self._at_most is not None and sum(len(entry[0]) for _, entry in kept) > self._at_most:
            del kept[0]
        self._made = dict(kept)


def flat_index(dims: int) -> faiss.IndexScalarQuantizer:
    """Half floats one after the other, scanned at memory speed; the index knows rows, no ids."""
    return faiss.IndexScalarQuantizer(dims, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)


def _nearest(
    index: faiss.IndexScalarQuantizer, direction: NDArray[np.float64], count: int
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    count = min(count, int(index.ntotal))
    if count == 0:
        return np.empty(0, np.intp), np.empty(0, np.float32)
    products, rows = index.search(direction.astype(np.float32)[None, :], count)
    return rows[0].astype(np.intp), products[0]
