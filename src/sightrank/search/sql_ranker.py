"""Ranking inside PostgreSQL, for apps whose vectors do not fit into memory.

Every way ends with the same pure code as in memory (``search.rank``) over the few areas that are left, so scores and
order are exact; the ways differ in how they find these few.

1. Neighbours: for each direction the nearest areas, for a likeness by the bucket's HNSW index, else by a scan. How many
   depends on ``ceil(count / 1000)``, never on the page. The page is certain when the last hit wanted scores more than
   anything could that is on no list (Fagin's stop rule). Else more neighbours, then
2. products: PostgreSQL computes the cosines of every area in float32, which bound the scores; who may be among the
   first is scored exactly. Or, where too many are too close to each other,
3. vectors: all of them come, part by part, and are scored exactly.

The index is used only where it is good: of the 20 best of 200,000 it found all for images, but 92 % for negatives and
97 % for concepts of the tagger, where a scan finds all of them in 0.1 s.

The memory needed is that of a part and of the contenders, never that of the app. All statements of a search see one
snapshot.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sightrank.search.bounds import Guide, Laws, without_indifference
from sightrank.search.compiled import CompiledRank
from sightrank.search.contenders import ROUNDING, Contenders, TooManyContenders
from sightrank.search.matrix import Matrix, Rows
from sightrank.search.query import Unit
from sightrank.search.rank import rank
from sightrank.search.ranker import Ranked
from sightrank.search.score import Array, Link
from sightrank.store import vectors
from sightrank.store.database import Connection, Database
from sightrank.store.vectors import EmbedderTable, ProductRows, VectorRows

_NEIGHBOURS = 1200  # of each direction for each thousand hits
_ROUNDS = (1, 4)  # times so many; those of scans would be another scan each
_MOST_LISTS = 8
_MOST_SCANS = 2  # one takes a third of what all products take, whatever it is to find
_MOST_LABELLED = 10_000
_MOST_CONTENDERS = 50_000
_MOST_PRODUCTS = 64  # of each area; all vectors come sooner than more of them
_FLOAT32 = 1e-5  # far above what float32 loses over a thousand products
_LENGTH = 1.01  # stored vectors have length one, to within half floats


class SqlRanker:
    """Implements ``Ranker`` over the table of one embedder for one bucket; has nothing of its own to keep."""

    def __init__(self, database: Database, table: EmbedderTable, bucket: int) -> None:
        self._database = database
        self._table = table
        self._bucket = bucket

    @property
    def dims(self) -> int:
        return self._table.dims

    async def mean_of_areas(self, area_ids: NDArray[np.int64]) -> Array | None:
        async with vectors.snapshot(self._database) as connection:
            return await _mean(vectors.of_areas(connection, self._table, self._bucket, area_ids))

    async def mean_of_input(self, input_number: int) -> Array | None:
        async with vectors.snapshot(self._database) as connection:
            return await _mean(vectors.of_inputs(connection, self._table, self._bucket, np.array([input_number])))

    async def best(self, ranks: tuple[CompiledRank, ...], unit: Unit, count: int) -> Ranked:
        ranks = without_indifference(ranks)
        laws = Laws(ranks)
        async with vectors.snapshot(self._database) as connection:
            found = await self._by_neighbours(connection, ranks, laws, unit, count)
            if found is None:
                found = await self._by_products(connection, ranks, laws, unit, count)
            if found is None:
                found = await self._by_vectors(connection, ranks, unit, count)
        return found

    async def best_among(
        self, ranks: tuple[CompiledRank, ...], unit: Unit, count: int, area_ids: NDArray[np.int64]
    ) -> Ranked:
        async with vectors.snapshot(self._database) as connection:
            parts = vectors.of_areas(connection, self._table, self._bucket, area_ids, by_input=unit is Unit.INPUT)
            return await _first(parts, without_indifference(ranks), unit, count)

    # Neighbours ------------------------------------------------------------------------------------------------------

    async def _by_neighbours(
        self, connection: Connection, ranks: tuple[CompiledRank, ...], laws: Laws, unit: Unit, count: int
    ) -> Ranked | None:
        """None when neighbours cannot make the page certain."""
        labelled = laws.labelled()
        lists = np.count_nonzero(laws.signs)
        scans = sum(1 for guide in laws.guides if guide.sign and not _is_in_index(guide))
        if not 0 < lists <= _MOST_LISTS or scans > _MOST_SCANS or len(labelled) > _MOST_LABELLED:
            return None
        for times in (1,) if scans else _ROUNDS:
            wanted = times * _NEIGHBOURS * -(-count // 1000)
            near = [await self._neighbours(connection, guide, wanted) for guide in laws.guides if guide.sign]
            found = await _first(self._around(connection, near, labelled, unit), ranks, unit, count)
            if any(len(items.area_ids) < wanted for items in near):
                return found
            ends = np.zeros((1, len(laws.guides)))
            ends[0, laws.signs != 0] = [items.products.min() for items in near]
            ends = (ends + _margins(laws)) * laws.signs
            if len(found.area_ids) >= count:
                last_wanted = float(found.log_scores[count - 1])
                if last_wanted - ROUNDING * abs(last_wanted) > float(laws.unlabelled(ends)[0]):
                    return found
        return None

    async def _neighbours(self, connection: Connection, guide: Guide, wanted: int) -> ProductRows:
        """The areas that score best by one direction alone; fewer than ``wanted`` only if there are no more."""
        assert guide.direction.vector is not None
        towards = (guide.direction.vector * guide.sign).astype(np.float16)
        if _is_in_index(guide):
            async with vectors.nearest_by_index(connection):
                found = await vectors.nearest(connection, self._table, self._bucket, towards, wanted)
            if len(found.area_ids) == wanted:
                return found
        async with vectors.nearest_by_scan(connection):
            return await vectors.nearest(connection, self._table, self._bucket, towards, wanted)

    async def _around(
        self, connection: Connection, near: list[ProductRows], labelled: NDArray[np.int64], unit: Unit
    ) -> AsyncGenerator[VectorRows, None]:
        """The vectors of these areas and of the labelled ones; where hits are inputs, of all areas of their inputs."""
        if unit is Unit.ANNOTATION:
            areas = np.unique(np.concatenate([labelled, *(items.area_ids for items in near)]))
            parts = vectors.of_areas(connection, self._table, self._bucket, areas)
        else:
            said = await vectors.inputs_of(connection, self._table, self._bucket, labelled)
            numbers = np.unique(np.concatenate([said, *(items.input_numbers for items in near)]))
            parts = vectors.of_inputs(connection, self._table, self._bucket, numbers)
        async with aclosing(parts):
            async for part in parts:
                yield part

    # Products --------------------------------------------------------------------------------------------------------

    async def _by_products(
        self, connection: Connection, ranks: tuple[CompiledRank, ...], laws: Laws, unit: Unit, count: int
    ) -> Ranked | None:
        """None when too many areas are too close to the last place, or so many directions decide that it is no use."""
        if np.count_nonzero(laws.signs) > _MOST_PRODUCTS:
            return None
        contenders = Contenders(laws, unit, count, _margins(laws), at_most=_MOST_CONTENDERS)
        pointing = np.array([guide.direction.vector is not None for guide in laws.guides])
        halves = [
            guide.direction.vector.astype(np.float16) for guide in laws.guides if guide.direction.vector is not None
        ]
        directions = np.stack(halves) if halves else np.empty((0, self.dims), np.float16)
        by_input = unit is Unit.INPUT
        try:
            async with aclosing(
                vectors.products(connection, self._table, self._bucket, directions, by_input=by_input)
            ) as parts:
                async for part in parts:
                    cosines = np.zeros((len(part.area_ids), len(laws.guides)))
                    cosines[:, pointing] = part.products
                    await asyncio.to_thread(contenders.add, replace(part, products=cosines))
        except TooManyContenders:
            return None
        read = vectors.of_inputs if by_input else vectors.of_areas
        return await _first(read(connection, self._table, self._bucket, contenders.keys()), ranks, unit, count)

    # Vectors ---------------------------------------------------------------------------------------------------------

    async def _by_vectors(
        self, connection: Connection, ranks: tuple[CompiledRank, ...], unit: Unit, count: int
    ) -> Ranked:
        parts = vectors.of_bucket(connection, self._table, self._bucket, by_input=unit is Unit.INPUT)
        return await _first(parts, ranks, unit, count)


def _is_in_index(guide: Guide) -> bool:
    """Whether the index is good at finding what scores best by this direction."""
    return guide.sign > 0 and guide.direction.link is Link.HALF


def _margins(laws: Laws) -> Array:
    """For each guide how far the product with its half floats may be from the cosine."""
    margins = np.zeros(len(laws.guides))
    for i, guide in enumerate(laws.guides):
        if guide.direction.vector is not None:
            lost = guide.direction.vector - guide.direction.vector.astype(np.float16).astype(np.float64)
            margins[i] = _FLOAT32 + _LENGTH * float(np.linalg.norm(lost))
    return margins


# Exact -------------------------------------------------------------------------------------------------------------


async def _mean(parts: AsyncGenerator[VectorRows, None]) -> Array | None:
    total, count = None, 0
    async with aclosing(parts):
        async for part in parts:
            sums: Array = part.vectors.astype(np.float64).sum(axis=0)
            total = sums if total is None else total + sums
            count += len(part.area_ids)
    return None if total is None else total / count


async def _first(
    parts: AsyncGenerator[VectorRows, None], ranks: tuple[CompiledRank, ...], unit: Unit, count: int
) -> Ranked:
    """The first ``count`` hits of all parts, exactly; a part has all areas of its inputs where hits are inputs."""
    best = _Best.of_nothing()
    async with aclosing(parts):
        async for part in parts:
            best = await asyncio.to_thread(best.merged, part, ranks, unit, count)
    return Ranked(area_ids=best.area_ids, input_numbers=best.input_numbers, log_scores=best.log_scores)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Best:
    """The first hits of what was seen so far, in order: parallel arrays."""

    area_ids: NDArray[np.int64]
    input_numbers: NDArray[np.int64]
    created_us: NDArray[np.int64]
    log_scores: Array

    @staticmethod
    def of_nothing() -> _Best:
        none = np.empty(0, np.int64)
        return _Best(area_ids=none, input_numbers=none, created_us=none, log_scores=np.empty(0))

    def merged(self, part: VectorRows, ranks: tuple[CompiledRank, ...], unit: Unit, count: int) -> _Best:
        """With another part, which has no input in common with those before where hits are inputs."""
        matrix = Matrix(part.vectors.shape[1])
        matrix.upsert(
            Rows(
                area_ids=part.area_ids,
                input_numbers=part.input_numbers,
                created_us=part.created_us,
                vectors=part.vectors,
            )
        )
        ranking = rank(matrix, ranks, unit, None, count)
        input_numbers = matrix.input_numbers[ranking.rows]
        created_us = matrix.created_us[ranking.rows]
        if unit is Unit.INPUT:
            created_us = _first_created(matrix, input_numbers)
        area_ids = np.r_[self.area_ids, matrix.area_ids[ranking.rows]]
        input_numbers = np.r_[self.input_numbers, input_numbers]
        created_us = np.r_[self.created_us, created_us]
        log_scores = np.r_[self.log_scores, ranking.log_scores]
        order = np.lexsort((area_ids, created_us, -log_scores))[:count]
        return _Best(
            area_ids=area_ids[order],
            input_numbers=input_numbers[order],
            created_us=created_us[order],
            log_scores=log_scores[order],
        )


def _first_created(matrix: Matrix, input_numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """When the first area of each of these inputs was made: the whole image's."""
    inputs, group = np.unique(matrix.input_numbers, return_inverse=True)
    created_us = np.full(len(inputs), np.iinfo(np.int64).max)
    np.minimum.at(created_us, group, matrix.created_us)
    return created_us[np.searchsorted(inputs, input_numbers)]
