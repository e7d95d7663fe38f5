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
    """The first ``count`` hits among ``candidates`` (distinct rows; None: all rows).

    A hit of an input search is represented by the row that serves it best.
    """
    contenders = _contenders(matrix, ranks, unit, count) if candidates is None else candidates
    return _ordered(matrix, ranks, unit, contenders, count)


# Contenders --------------------------------------------------------------------------------------------------------


def _contenders(matrix: Matrix, ranks: tuple[CompiledRank, ...], unit: Unit, count: int) -> NDArray[np.intp]:
    alone = _single_direction(ranks)
    if alone is not None and (unit is Unit.ANNOTATION or matrix.one_area_each):
        direction, labels, sign = alone
        near = _near(matrix, sign * direction, count + len(labels.area_ids) + _SPARE)
        if near is not None:
            return np.union1d(near, _known(matrix.rows_of(labels.area_ids)))
    return _by_full_scan(matrix, ranks, unit, count)


def _single_direction(ranks: tuple[CompiledRank, ...]) -> tuple[NDArray[np.float64], Labels, float] | None:
    """The one direction, its labels, and the sign by which the score grows along it; None when more decides."""
    if len(ranks) != 1 or len(ranks[0].terms) != 1 or len(ranks[0].terms[0].alternatives) != 1:
        return None
    term = ranks[0].terms[0]
    direction, labels = term.alternatives[0]
    if direction.vector is None or term.value == 0.5 or len(labels.area_ids) > 10_000:
        return None
    grows = (term.value > 0.5) != ranks[0].negate
    if direction.link is Link.SIGMOID and direction.scale < 0:
        grows = not grows
    return direction.vector, labels, 1.0 if grows else -1.0


def _near(matrix: Matrix, direction: NDArray[np.float64], count: int) -> NDArray[np.intp] | None:
    """At least the ``count - _SPARE`` nearest rows; None when so many tie at the end that the index cannot tell."""
    rows, products = matrix.nearest(direction, count)
    if len(rows) == len(matrix):
        return rows
    last_wanted = products[max(len(rows) - _SPARE, 1) - 1]
    return rows if products[-1] < last_wanted - _COSINE_MARGIN else None


def _by_full_scan(matrix: Matrix, ranks: tuple[CompiledRank, ...], unit: Unit, count: int) -> NDArray[np.intp]:
    rows = np.arange(len(matrix))
    directions = [d.vector for r in ranks for t in r.terms for d, _ in t.alternatives if d.vector is not None]
    cosines = iter(matrix.all_cosines(np.stack(directions)).T if directions else ())
    probabilities = {
        id(d): log_probability(
            d, np.asarray(next(cosines), np.float64) if d.vector is not None else np.zeros(len(rows))
        )
        for r in ranks
        for t in r.terms
        for d, _ in t.alternatives
    }
    groups = _Groups.of(matrix, rows, unit)
    log_scores = _log_scores(matrix, ranks, groups, probabilities)
    if len(log_scores) <= count + _SPARE:
        return rows
    last_wanted = np.partition(log_scores, len(log_scores) - count)[-count] if count else np.inf
    chosen = np.flatnonzero(log_scores >= last_wanted - _log_margin(ranks, float(last_wanted)))
    return groups.rows_of(chosen)


def _log_margin(ranks: tuple[CompiledRank, ...], log_score: float) -> float:
    """How far a log score near ``log_score`` can move when cosines move by the margin.

    A sigmoid's logarithm moves at most ``scale`` times as far. log((1 + cos) / 2) moves by 1 / (1 + cos) <= 1 / p,
    and each factor of a mean is at least the score to the power of their number; a negation adds one more such
    factor.
    """
    factors = sum(len(item.terms) for item in ranks) + 1
    steepest = max((abs(d.scale) for r in ranks for t in r.terms for d, _ in t.alternatives), default=1.0)
    return _COSINE_MARGIN * max(steepest, float(np.exp(min(-log_score * factors, 50.0))))


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
