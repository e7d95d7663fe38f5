"""The vectors of one app and embedder in memory, ranked exactly.

A ``Matrix`` is a cache of the table ``vectors_<embedder>`` for one bucket at one commit version. Rows are half
floats, as stored, inside a faiss flat index, which scans them at memory speed; beside each row stand its area, its
input and its creation time. Rows are added, overwritten and removed in place; a removed row is filled by the last
one.

Nothing here waits or does I/O. The owner (``search.follow``) serialises changes and searches.
"""

from __future__ import annotations

from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

# Rows decoded at a time when all cosines are wanted: they stay in the cache, and their product is too small for BLAS to
# share among threads, whose waiting for each other costs ten times the work on a busy machine.
_CHUNK_ROWS = 256
# The bits of a half float, moved to where a float has sign, exponent and fraction, make a float of the 2^-112th part:
# the exponents count from 15 and from 127. numpy's own conversion takes five times as long.
_HALF_SHIFT = 13
_EXACT_ROWS = 4096  # rows in float64 at a time, 8 MB at 256 dimensions, however many candidates there are
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
        self._index = faiss.IndexScalarQuantizer(dims, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
        self._row_of_area: dict[int, int] = {}
        self._area_ids = np.empty(0, np.int64)
        self._input_numbers = np.empty(0, np.int64)
        self._created_us = np.empty(0, np.int64)
        self._inputs: int | None = None

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def size_bytes(self) -> int:
        """Memory taken, the lookup of areas included (about 100 bytes a row)."""
        return len(self) * (2 * self.dims + 24 + 100)

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
        if self._inputs is None:
            self._inputs = len(np.unique(self.input_numbers))
        return self._inputs == len(self)

    def upsert(self, rows: Rows) -> None:
        """Adds rows; a row whose area is already there overwrites it."""
        known = [self._row_of_area.get(area, -1) for area in rows.area_ids.tolist()]
        places = np.array(known, np.int64)
        old, new = np.flatnonzero(places >= 0), np.flatnonzero(places < 0)
        if len(old):
            self._codes()[places[old]] = rows.vectors[old]
        if len(new):
            self._append(rows, new)
        self._inputs = None

    def remove(self, area_ids: NDArray[np.int64]) -> None:
        """Removes areas; unknown ones are ignored."""
        codes = self._codes()
        count = len(self)
        for area in area_ids.tolist():
            row = self._row_of_area.pop(area, None)
            if row is None:
                continue
            count -= 1
            if row != count:
                codes[row] = codes[count]
                for column in (self._area_ids, self._input_numbers, self._created_us):
                    column[row] = column[count]
                self._row_of_area[int(self._area_ids[row])] = row
        self._index.codes.resize(count * self._index.code_size)
        self._index.ntotal = count
        self._inputs = None

    def rows_of(self, area_ids: NDArray[np.int64]) -> NDArray[np.intp]:
        """The row of each area, -1 where it has none."""
        return np.array([self._row_of_area.get(area, -1) for area in area_ids.tolist()], np.intp)

    def vectors(self, rows: NDArray[np.intp]) -> NDArray[np.float64]:
        """The stored vectors of these rows, exactly."""
        return self._codes()[rows].astype(np.float64)

    def exact_cosines(self, rows: NDArray[np.intp], direction: NDArray[np.float64]) -> NDArray[np.float64]:
        """Inner products in float64. Equal vectors give equal bits, wherever they stand: sums run row by row."""
        products = np.empty(len(rows))
        for start in range(0, len(rows), _EXACT_ROWS):
            part = slice(start, start + _EXACT_ROWS)
            np.einsum("ij,j->i", self.vectors(rows[part]), direction, out=products[part])
        return products

    def nearest(self, direction: NDArray[np.float64], count: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """The ``count`` rows with the highest inner products (fewer if there are fewer), and these, in float32."""
        count = min(count, len(self))
        if count == 0:
            return np.empty(0, np.intp), np.empty(0, np.float32)
        products, rows = self._index.search(direction.astype(np.float32)[None, :], count)
        return rows[0].astype(np.intp), products[0]

    def all_cosines(self, directions: NDArray[np.float64]) -> NDArray[np.float32]:
        """[r, dims] directions to the inner products [rows, r] of all rows, in float32."""
        codes = self._codes().view(np.int16)
        wanted = np.ascontiguousarray(directions.T, np.float32) * _HALF_SCALE
        products = np.empty((len(self), len(directions)), np.float32)
        buffer = np.empty((min(_CHUNK_ROWS, max(len(self), 1)), self.dims), np.int32)
        for start in range(0, len(self), _CHUNK_ROWS):
            count = min(_CHUNK_ROWS, len(self) - start)
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
        self._index.add(rows.vectors[chosen].astype(np.float32))
        self._row_of_area.update(zip(area_ids.tolist(), range(start, start + len(chosen)), strict=True))

    def _reserve(self, count: int) -> None:
        if count <= len(self._area_ids):
            return
        capacity = max(count, 2 * len(self._area_ids), 1024)
        self._area_ids = np.resize(self._area_ids, capacity)
        self._input_numbers = np.resize(self._input_numbers, capacity)
        self._created_us = np.resize(self._created_us, capacity)
