"""Compiled ranks over a matrix: which areas or inputs come first, exactly. No I/O.

Two stages. First a choice of contenders in float32: by the index alone when one direction decides, else by scoring
every row. Then the contenders are scored in float64 on the stored vectors and ordered. The choice keeps everything
within a margin of the last place, so float32 can never cost a hit; it only saves work.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightrank.search.matrix import Matrix
from sightrank.search.query import Unit
from sightrank.search.score import (
    Array,
    Direction,
    Link,
    LogProbability,
    highest_of_groups,
    likeliest,
    log_probability,
    mean_log_score,
    term_log_score,
    with_labels,
)

_COSINE_MARGIN = 1e-5  # far above what float32 loses over a thousand products
_ROUNDING = 1e-14  # relative: scores that differ by less may be one and the same
_SPARE = 64


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Labels:
    """The latest trusted label of one concept on each labelled area: parallel arrays, values 0..1."""

    area_ids: NDArray[np.int64]
    values: Array


NO_LABELS = Labels(area_ids=np.empty(0, np.int64), values=np.empty(0))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CompiledTerm:
    """Directions of which the likeliest counts (more than one when a name stands for several concepts), each with the
    labels that override it."""

    alternatives: tuple[tuple[Direction, Labels], ...]
    value: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CompiledRank:
    """One rank, ready to be scored."""

    terms: tuple[CompiledTerm, ...]
    negate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ranking:
    """Hits in order, parallel arrays: the row that represents each hit, and its log score."""

    rows: NDArray[np.intp]
    log_scores: Array


def rank(
    matrix: Matrix, ranks: tuple[CompiledRank, ...], unit: Unit, candidates: NDArray[np.intp] | None, count: int
) -> Ranking:
    """The first ``count`` hits, at least one, among ``candidates`` (distinct rows; None: all rows).

    A hit of an input search is represented by the row that serves it best.
    """
    contenders = _contenders(matrix, ranks, unit, count) if candidates is None else candidates
    return _ordered(matrix, ranks, unit, contenders, count)


# Contenders --------------------------------------------------------------------------------------------------------


def _contenders(matrix: Matrix, ranks: tuple[CompiledRank, ...], unit: Unit, count: int) -> NDArray[np.intp]:
    alone = _single_direction(ranks)
    if alone is not None and (unit is Unit.ANNOTATION or matrix.one_area_each):
        near = _near(matrix, ranks, alone, count + len(alone.labels.area_ids) + _SPARE)
        if near is not None:
            return np.union1d(near, _known(matrix.rows_of(alone.labels.area_ids)))
    return _by_full_scan(matrix, ranks, unit, count)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Alone:
    """The one direction that decides, its labels, and the sign by which the score grows along it."""

    vector: NDArray[np.float64]
    labels: Labels
    sign: float


def _single_direction(ranks: tuple[CompiledRank, ...]) -> _Alone | None:
    """None when more than one direction decides."""
    if len(ranks) != 1 or len(ranks[0].terms) != 1 or len(ranks[0].terms[0].alternatives) != 1:
        return None
    term = ranks[0].terms[0]
    direction, labels = term.alternatives[0]
    if direction.vector is None or term.value == 0.5 or len(labels.area_ids) > 10_000:
        return None
    return _Alone(vector=direction.vector, labels=labels, sign=_sign(ranks[0], term, direction))


def _sign(item: CompiledRank, term: CompiledTerm, direction: Direction) -> float:
    """1 where the score grows with the cosine, -1 where it falls."""
    grows = (term.value >= 0.5) != item.negate
    if direction.link is Link.SIGMOID and direction.scale < 0:
        grows = not grows
    return 1.0 if grows else -1.0


def _near(matrix: Matrix, ranks: tuple[CompiledRank, ...], alone: _Alone, count: int) -> NDArray[np.intp] | None:
    """At least the ``count - _SPARE`` nearest rows; None when so many tie at the end that the index cannot tell.

    Rows may tie by their cosines, or by scores that no longer follow them: beyond 1, or where a sigmoid is flat.
    """
    rows, products = matrix.nearest(alone.sign * alone.vector, count)
    if len(rows) == len(matrix):
        return rows
    last_wanted = float(products[max(len(rows) - _SPARE, 1) - 1]) - _COSINE_MARGIN / 2
    first_left_out = float(products[-1]) + _COSINE_MARGIN / 2
    if first_left_out >= last_wanted:
        return None
    wanted, left_out = _log_scores_at(ranks[0], np.array([last_wanted, first_left_out]) * alone.sign).tolist()
    return rows if wanted - _ROUNDING * abs(wanted) > left_out else None


def _log_scores_at(item: CompiledRank, cosines: Array) -> Array:
    """What a rank of one direction gives to unlabelled areas with these cosines."""
    term = item.terms[0]
    probability = log_probability(term.alternatives[0][0], cosines)
    return mean_log_score([term_log_score(probability, term.value)], negate=item.negate)


def _by_full_scan(matrix: Matrix, ranks: tuple[CompiledRank, ...], unit: Unit, count: int) -> NDArray[np.intp]:
    rows = np.arange(len(matrix))
    groups = _Groups.of(matrix, rows, unit)
    if groups.count <= count + _SPARE:
        return rows
    directions = [d.vector for r in ranks for t in r.terms for d, _ in t.alternatives if d.vector is not None]
    cosines = matrix.all_cosines(np.stack(directions)) if directions else np.empty((len(rows), 0), np.float32)
    cosines = cosines[groups.rows]
    lowest = _log_scores(matrix, ranks, groups, _shifted(ranks, cosines, -_COSINE_MARGIN))
    highest = _log_scores(matrix, ranks, groups, _shifted(ranks, cosines, _COSINE_MARGIN))
    last_wanted = np.partition(lowest, len(lowest) - count)[-count]
    return groups.rows_of(np.flatnonzero(highest >= last_wanted - _ROUNDING * abs(last_wanted)))


def _shifted(ranks: tuple[CompiledRank, ...], cosines: NDArray[np.float32], shift: float) -> dict[int, LogProbability]:
    """The probabilities of all directions, with cosines moved by ``shift`` towards higher scores.

    A score follows each of its cosines in one direction, so these give bounds that hold whatever the law.
    """
    columns = iter(cosines.T)
    return {
        id(d): log_probability(
            d,
            np.zeros(len(cosines)) if d.vector is None else next(columns).astype(np.float64) + shift * _sign(r, t, d),
        )
        for r in ranks
        for t in r.terms
        for d, _ in t.alternatives
    }


# Exact order -------------------------------------------------------------------------------------------------------


def _ordered(
    matrix: Matrix, ranks: tuple[CompiledRank, ...], unit: Unit, rows: NDArray[np.intp], count: int
) -> Ranking:
    if len(rows) == 0:
        return Ranking(rows=np.empty(0, np.intp), log_scores=np.empty(0))
    groups = _Groups.of(matrix, rows, unit)
    probabilities = {
        id(d): log_probability(
            d, np.zeros(len(rows)) if d.vector is None else matrix.exact_cosines(groups.rows, d.vector)
        )
        for r in ranks
        for t in r.terms
        for d, _ in t.alternatives
    }
    log_scores = _log_scores(matrix, ranks, groups, probabilities)
    representatives = groups.representatives(matrix, ranks, probabilities)
    order = np.lexsort((matrix.area_ids[representatives], groups.created_us(matrix), -log_scores))[:count]
    return Ranking(rows=representatives[order], log_scores=log_scores[order])


def _log_scores(
    matrix: Matrix, ranks: tuple[CompiledRank, ...], groups: _Groups, probabilities: dict[int, LogProbability]
) -> Array:
    scores = []
    for item in ranks:
        terms = [
            term_log_score(groups.reduce(_term_probability(matrix, term, groups, probabilities)), term.value)
            for term in item.terms
        ]
        scores.append(mean_log_score(terms, negate=item.negate))
    return mean_log_score(scores)


def _term_probability(
    matrix: Matrix, term: CompiledTerm, groups: _Groups, probabilities: dict[int, LogProbability]
) -> LogProbability:
    return likeliest(
        [_labelled(matrix, probabilities[id(direction)], labels, groups) for direction, labels in term.alternatives]
    )


def _labelled(matrix: Matrix, prediction: LogProbability, labels: Labels, groups: _Groups) -> LogProbability:
    if len(labels.area_ids) == 0:
        return prediction
    place = np.full(len(matrix), -1, np.intp)
    place[groups.rows] = np.arange(len(groups.rows))
    label_rows = matrix.rows_of(labels.area_ids)
    here = np.flatnonzero(label_rows >= 0)
    here = here[place[label_rows[here]] >= 0]
    labelled = np.zeros(len(groups.rows), np.bool_)
    values = np.zeros(len(groups.rows))
    labelled[place[label_rows[here]]] = True
    values[place[label_rows[here]]] = labels.values[here]
    return with_labels(prediction, labelled, values)


def _known(rows: NDArray[np.intp]) -> NDArray[np.intp]:
    return rows[rows >= 0]


@dataclass(frozen=True, slots=True, eq=False)
class _Groups:
    """Rows brought together by hit: each alone for an annotation search, by input for an input search.

    ``rows`` is sorted by input; ``starts`` are the beginnings of the groups in it.
    """

    rows: NDArray[np.intp]
    starts: NDArray[np.intp] | None

    @staticmethod
    def of(matrix: Matrix, rows: NDArray[np.intp], unit: Unit) -> _Groups:
        if unit is Unit.ANNOTATION or matrix.one_area_each:
            return _Groups(rows, None)
        rows = rows[np.argsort(matrix.input_numbers[rows], kind="stable")]
        inputs = matrix.input_numbers[rows]
        return _Groups(rows, np.flatnonzero(np.r_[True, inputs[1:] != inputs[:-1]]))

    @property
    def count(self) -> int:
        return len(self.rows if self.starts is None else self.starts)

    def reduce(self, probability: LogProbability) -> LogProbability:
        return probability if self.starts is None else highest_of_groups(probability, self.starts)

    def rows_of(self, groups: NDArray[np.intp]) -> NDArray[np.intp]:
        """The rows of the chosen groups."""
        if self.starts is None:
            return self.rows[groups]
        chosen = np.zeros(len(self.starts), np.bool_)
        chosen[groups] = True
        sizes = np.diff(np.r_[self.starts, len(self.rows)])
        return self.rows[np.repeat(chosen, sizes)]

    def created_us(self, matrix: Matrix) -> NDArray[np.int64]:
        """Creation time of each group: that of its first area, the whole image."""
        created = matrix.created_us[self.rows]
        return created if self.starts is None else np.minimum.reduceat(created, self.starts)

    def representatives(
        self, matrix: Matrix, ranks: tuple[CompiledRank, ...], probabilities: dict[int, LogProbability]
    ) -> NDArray[np.intp]:
        """For each group the row that alone would score highest; the oldest area among equals."""
        if self.starts is None:
            return self.rows
        alone = _log_scores(matrix, ranks, _Groups(self.rows, None), probabilities)
        group = np.repeat(np.arange(len(self.starts)), np.diff(np.r_[self.starts, len(self.rows)]))
        order = np.lexsort((matrix.area_ids[self.rows], -alone, group))
        return self.rows[order[self.starts]]
