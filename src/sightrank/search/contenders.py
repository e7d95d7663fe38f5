"""Who may be among the first: areas or inputs whose scores are known to within bounds, part after part. No I/O."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sightrank.search.bounds import Laws
from sightrank.search.query import Unit
from sightrank.search.score import Array
from sightrank.store.vectors import ProductRows

#: Relative: scores that differ by less may be one and the same.
ROUNDING = 1e-14


class TooManyContenders(Exception):
    """So many may be among the first that only their vectors can tell."""


class Contenders:
    """Of all rows that are added, those that may be among the first ``count`` hits; never many more than ``at_most``.

    ``margins`` [guides]: how far each cosine may be off.
    """

    def __init__(self, laws: Laws, unit: Unit, count: int, margins: Array, *, at_most: int) -> None:
        self._laws = laws
        self._unit = unit
        self._count = count
        self._towards = margins * laws.signs
        self._at_most = max(at_most, 2 * count)
        self._keys = np.empty(0, np.int64)
        self._created_us = np.empty(0, np.int64)
        self._lowest = np.empty(0)
        self._highest = np.empty(0)

    def add(self, part: ProductRows) -> None:
        """``part`` has a product for each guide; for hits that are inputs, all areas of each of its inputs.

        Raises TooManyContenders.
        """
        keys, created_us, starts = part.area_ids, part.created_us, None
        if self._unit is Unit.INPUT:
            starts = np.flatnonzero(np.r_[True, part.input_numbers[1:] != part.input_numbers[:-1]])
            keys, created_us = part.input_numbers[starts], np.minimum.reduceat(created_us, starts)
        self._keys = np.r_[self._keys, keys]
        self._created_us = np.r_[self._created_us, created_us]
        lowest, highest = (
            self._laws.of_areas(part.products + shift, part.area_ids, starts)
            for shift in (-self._towards, self._towards)
        )
        self._lowest = np.r_[self._lowest, lowest]
        self._highest = np.r_[self._highest, highest]
        self._drop_who_cannot_be()
        if len(self._keys) > self._at_most:
            raise TooManyContenders

    def keys(self) -> NDArray[np.int64]:
        """The areas, or the inputs, that are left."""
        return self._keys

    def _drop_who_cannot_be(self) -> None:
        if len(self._keys) <= self._count:
            return
        last_wanted = np.partition(self._lowest, len(self._lowest) - self._count)[-self._count]
        self._keep(np.flatnonzero(self._highest >= last_wanted - ROUNDING * abs(last_wanted)))
        # What is known exactly (a label, a sigmoid's end) is ordered already, however many are equal.
        exact = np.flatnonzero(self._lowest == self._highest)
        if len(exact) > self._count:
            last = exact[np.lexsort((self._created_us[exact], -self._lowest[exact]))[self._count - 1]]
            behind = (self._lowest[exact] < self._lowest[last]) | (
                (self._lowest[exact] == self._lowest[last]) & (self._created_us[exact] > self._created_us[last])
            )
            self._keep(np.delete(np.arange(len(self._keys)), exact[behind]))

    def _keep(self, chosen: NDArray[np.intp]) -> None:
        self._keys, self._created_us = self._keys[chosen], self._created_us[chosen]
        self._lowest, self._highest = self._lowest[chosen], self._highest[chosen]
