"""Compiled ranks over a matrix: which areas or inputs come first, exactly. No I/O.

Two stages. First a choice of contenders in float32: by the index alone when one direction decides, by the index along
tangents when several do and their score is concave, else by scoring every row. Then the contenders are scored in
float64 on the stored vectors and ordered. The choice keeps everything within a margin of the last place, so float32 can
never cost a hit; it only saves work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightrank.search.compiled import CompiledRank, CompiledTerm, Labels, vectors_of
from sightrank.search.matrix import Matrix
from sightrank.search.order import Groups, Probabilities, Ranking, known, log_scores_of, ordered
from sightrank.search.query import Unit
from sightrank.search.score import (
    Array,
    Direction,
    Link,
    LogProbability,
    log_probability,
    mean_log_score,
    term_log_score,
)
from sightrank.search.tangent import Part, tangent

_COSINE_MARGIN = 1e-5  # far above what float32 loses over a thousand products
_ROUNDING = 1e-14  # relative: scores that differ by less may be one and the same
SPARE = 64
#: How far down the order along each tangent to look, in times the hits wanted.
_TANGENTS = (4, 16, 64)
_TANGENT_ROWS = 8192  # fewer are sooner scored one and all
#: With more labels than this the index does not help.
MOST_LABELLED = 10_000
_COSINES_AT_ONCE = 2**23


def rank(
    matrix: Matrix, ranks: tuple[CompiledRank, ...], unit: Unit, candidates: NDArray[np.intp] | None, count: int
) -> Ranking:
    """The first ``count`` hits, at least one, among ``candidates`` (distinct rows; None: all rows).

    A hit of an input search is represented by the row that serves it best.
    """
    if candidates is not None and len(candidates) <= count + SPARE:
        return ordered(matrix, ranks, unit, candidates, count)
    search = _Search(matrix, ranks, unit, candidates, count)
    alone = single_direction(ranks)
    contenders = _near(search, alone) if alone is not None else _under_a_tangent(search)
    if contenders is None:
        contenders = _by_full_scan(search)
    return ordered(matrix, ranks, unit, contenders, count)


@dataclass(frozen=True, slots=True, eq=False)
class _Search:
    """What is looked for, and among which rows."""

    matrix: Matrix
    ranks: tuple[CompiledRank, ...]
    unit: Unit
    among: NDArray[np.intp] | None
    count: int

    @property
    def total(self) -> int:
        return len(self.matrix) if self.among is None else len(self.among)

    @property
    def by_area(self) -> bool:
        """Whether each area is a hit of its own."""
        return self.unit is Unit.ANNOTATION or self.matrix.one_area_each

    @property
    def by_best_area(self) -> bool:
        """Whether a hit scores what its best area does: of inputs with several areas where one probability decides, and
        the higher it is the better."""
        if self.by_area or len(self.ranks) > 1 or len(self.ranks[0].terms) > 1:
            return self.by_area
        return (self.ranks[0].terms[0].value > 0.5) != self.ranks[0].negate

    def whole(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """All rows searched that belong to the hits of these."""
        if self.by_area:
            return rows
        found = self.matrix.rows_of_inputs(self.matrix.input_numbers[rows])
        return found if self.among is None else np.intersect1d(found, self.among)

    def rows_of(self, area_ids: NDArray[np.int64]) -> NDArray[np.intp]:
        """The rows of those of these areas that are among the rows searched."""
        if len(area_ids) == 0:
            return np.empty(0, np.intp)
        rows = known(self.matrix.rows_of(area_ids))
        return rows if self.among is None else np.intersect1d(rows, self.among)

    def nearest(self, direction: NDArray[np.float64], count: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        if self.among is None:
            return self.matrix.nearest(direction, count)
        return self.matrix.nearest_among(self.among, direction, count)

    def cosines(self, part: slice, directions: NDArray[np.float64]) -> NDArray[np.float32]:
        return self.matrix.cosines(part if self.among is None else self.among[part], directions)


# Contenders: one direction -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Alone:
    """The one direction that decides, its labels, the sign by which the score grows along it, and whether it grows with
    the probability."""

    vector: NDArray[np.float64]
    labels: Labels
    sign: float
    likely_first: bool


def single_direction(ranks: tuple[CompiledRank, ...]) -> Alone | None:
    """None when more than one direction decides."""
    if len(ranks) != 1 or len(ranks[0].terms) != 1 or len(ranks[0].terms[0].alternatives) != 1:
        return None
    term = ranks[0].terms[0]
    direction, labels = term.alternatives[0]
    if direction.vector is None or direction.rivals or term.value == 0.5 or len(labels.area_ids) > MOST_LABELLED:
        return None
    likely_first = (term.value >= 0.5) != ranks[0].negate
    return Alone(
        vector=direction.vector, labels=labels, sign=_sign(ranks[0], term, direction), likely_first=likely_first
    )


def _sign(item: CompiledRank, term: CompiledTerm, direction: Direction) -> float:
    """1 where the score grows with the cosine, -1 where it falls."""
    grows = (term.value >= 0.5) != item.negate
    if direction.link is Link.SIGMOID and direction.scale < 0:
        grows = not grows
    return 1.0 if grows else -1.0


def _near(search: _Search, alone: Alone) -> NDArray[np.intp] | None:
    """The rows of the nearest hits and of labelled ones; None when so many tie at the end that the index cannot tell.

    Labels may lift any hit over the others or take it away, so as many more must be there.
    """
    wanted = search.count + len(alone.labels.area_ids)
    if not search.by_area:
        return _near_inputs(search, alone, wanted) if alone.likely_first else None
    rows, products = search.nearest(alone.sign * alone.vector, wanted + SPARE)
    if len(rows) < search.total and not is_told_apart(search.ranks, alone, products, wanted):
        return None
    return np.union1d(rows, search.rows_of(alone.labels.area_ids))


def _near_inputs(search: _Search, alone: Alone, wanted: int) -> NDArray[np.intp] | None:
    """All rows of the inputs whose best areas are nearest: an input is as near as its best area."""
    numbers = search.matrix.input_numbers
    inputs = wanted + SPARE
    reach = 2 * inputs
    while 2 * reach <= search.total:
        rows, products = search.nearest(alone.sign * alone.vector, reach)
        _, first = np.unique(numbers[rows], return_index=True)
        if len(first) >= inputs:
            best = np.sort(first)[:inputs]
            if not is_told_apart(search.ranks, alone, products[best], wanted):
                return None
            return search.whole(np.r_[rows[best], search.rows_of(alone.labels.area_ids)])
        reach *= 2
    return None


def is_told_apart(ranks: tuple[CompiledRank, ...], alone: Alone, products: NDArray[np.float32], wanted: int) -> bool:
    """Whether the last of ``products``, which fall, is certainly no hit among the first ``wanted``.

    Rows may tie by their cosines, or by scores that no longer follow them: beyond 1, or where a sigmoid is flat.
    """
    last_wanted = float(products[min(wanted, len(products)) - 1]) - _COSINE_MARGIN / 2
    first_left_out = float(products[-1]) + _COSINE_MARGIN / 2
    if first_left_out >= last_wanted:
        return False
    inside, outside = _log_scores_at(ranks[0], np.array([last_wanted, first_left_out]) * alone.sign).tolist()
    return bool(inside - _ROUNDING * abs(inside) > outside)


def _log_scores_at(item: CompiledRank, cosines: Array) -> Array:
    """What a rank of one direction gives to unlabelled areas with these cosines."""
    term = item.terms[0]
    probability = log_probability(term.alternatives[0][0], cosines)
    return mean_log_score([term_log_score(probability, term.value)], negate=item.negate)


# Contenders: several directions --------------------------------------------------------------------------------------


def _under_a_tangent(search: _Search) -> NDArray[np.intp] | None:
    """Rows among which the first hits certainly are, by tangents; None where the score is not concave, or too flat.

    A tangent at the score of the last hit wanted, as far as it is known, shows along which direction to look next.
    """
    parts = _concave_parts(search.ranks)
    labelled = [labels.area_ids for r in search.ranks for t in r.terms for _, labels in t.alternatives]
    if parts is None or not search.by_best_area or search.total < _TANGENT_ROWS:
        return None
    if sum(map(len, labelled)) > MOST_LABELLED:
        return None
    rows = search.whole(search.rows_of(np.concatenate(labelled)))
    touching = [np.zeros(len(part.directions)) for part in parts]
    last = -np.inf
    for times in _TANGENTS:
        reach = times * (search.count + SPARE)
        line = tangent(parts, touching)
        if line is None or 2 * reach > search.total:
            return None
        near, products = search.nearest(line.direction, reach)
        bounds = line.offset + line.slope * (products.astype(np.float64) + _COSINE_MARGIN)
        if np.isfinite(last):
            near = near[bounds >= last - _ROUNDING * abs(last)]
        near = np.union1d(rows, search.whole(near))
        best = ordered(search.matrix, search.ranks, search.unit, near, search.count)
        rows = np.union1d(rows, search.whole(best.rows))
        if len(best.rows) == search.count:
            last = float(best.log_scores[-1])
            if bounds[-1] < last - _ROUNDING * abs(last):
                return rows
        if len(best.rows):
            row = best.rows[-1:]
            touching = [
                np.array([search.matrix.exact_cosines(row, direction)[0] for direction in part.directions])
                for part in parts
            ]
    return None


def _concave_parts(ranks: tuple[CompiledRank, ...]) -> list[Part] | None:
    """The terms of a score whose logarithm is concave in the cosines; None for any other."""
    parts: list[Part] = []
    for item in ranks:
        if item.negate and len(item.terms) > 1:
            return None
        for term in item.terms:
            value = 1.0 - term.value if item.negate else term.value
            alone = len(term.alternatives) == 1
            part = Part.of(term.alternatives[0][0], value, 1.0 / (len(ranks) * len(item.terms))) if alone else None
            if part is None:
                return None
            parts.append(part)
    return parts


def _by_full_scan(search: _Search) -> NDArray[np.intp]:
    matrix, ranks, count = search.matrix, search.ranks, search.count
    rows = np.arange(len(matrix)) if search.among is None else search.among
    groups = Groups.of(matrix, rows, search.unit)
    if groups.count <= count + SPARE:
        return rows
    place = np.empty(len(matrix), np.intp)
    place[rows] = np.arange(len(rows))
    lowest, highest = (
        log_scores_of(matrix, ranks, groups, _taken(probabilities, place[groups.rows]))
        for probabilities in _bounds(search, len(rows))
    )
    last_wanted = np.partition(lowest, len(lowest) - count)[-count]
    return groups.rows_of(np.flatnonzero(highest >= last_wanted - _ROUNDING * abs(last_wanted)))


def _bounds(search: _Search, rows: int) -> tuple[Probabilities, Probabilities]:
    """The probabilities of all directions, in the order of the rows searched: by the first no score is too high, by the
    second none is too low.

    A score follows each of its cosines in one direction, so these hold whatever the law.
    """
    vectors = vectors_of(search.ranks)
    directions = np.stack(vectors) if vectors else np.empty((0, search.matrix.dims))
    step = max(_COSINES_AT_ONCE // max(len(vectors), 1), 1)
    parts = []
    for start in range(0, rows, step):
        cosines = search.cosines(slice(start, start + step), directions)
        parts.append(
            (_shifted(search.ranks, cosines, -_COSINE_MARGIN), _shifted(search.ranks, cosines, _COSINE_MARGIN))
        )
    return _joined([lower for lower, _ in parts]), _joined([higher for _, higher in parts])


def _shifted(ranks: tuple[CompiledRank, ...], cosines: NDArray[np.float32], shift: float) -> Probabilities:
    """The probabilities of all directions, with cosines moved by ``shift`` towards higher scores."""
    columns = iter(cosines.T)
    shifted: Probabilities = {}
    for item in ranks:
        for term in item.terms:
            for place, (direction, _) in enumerate(term.alternatives):
                signs = (_sign(item, term, direction), *(-_sign(item, term, rival) for rival in direction.rivals))
                moved = [
                    next(columns).astype(np.float64) + shift * sign
                    for _, sign in zip(direction.vectors, signs, strict=False)
                ]
                own, *rivals = moved or [np.zeros(len(cosines))]
                shifted[id(term), place] = log_probability(direction, own, rivals)
    return shifted


def _joined(parts: Sequence[Probabilities]) -> Probabilities:
    if len(parts) == 1:
        return parts[0]
    return {
        key: LogProbability(
            np.concatenate([part[key].yes for part in parts]), np.concatenate([part[key].no for part in parts])
        )
        for key in parts[0]
    }


def _taken(probabilities: Probabilities, places: NDArray[np.intp]) -> Probabilities:
    return {key: LogProbability(p.yes[places], p.no[places]) for key, p in probabilities.items()}
