"""The exact order of hits: scored in float64 on the stored vectors. No I/O."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightrank.search.compiled import CompiledRank, CompiledTerm, Labels
from sightrank.search.matrix import Matrix
from sightrank.search.query import Unit
from sightrank.search.score import (
    Array,
    Direction,
    LogProbability,
    highest_of_groups,
    likeliest,
    log_probability,
    mean_log_score,
    term_log_score,
    with_labels,
)

#: By term and by the place among its alternatives: terms may share a direction and want opposite things of it.
Probabilities = dict[tuple[int, int], LogProbability]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ranking:
    """Hits in order, parallel arrays: the row that represents each hit, and its log score."""

    rows: NDArray[np.intp]
    log_scores: Array


def ordered(matrix: Matrix, ranks: tuple[CompiledRank, ...], unit: Unit, rows: NDArray[np.intp], count: int) -> Ranking:
    """The first ``count`` hits among these rows, exactly scored and ordered."""
    if len(rows) == 0:
        return Ranking(rows=np.empty(0, np.intp), log_scores=np.empty(0))
    groups = Groups.of(matrix, rows, unit)
    probabilities = {
        (id(t), place): _exactly(matrix, d, groups.rows)
        for r in ranks
        for t in r.terms
        for place, (d, _) in enumerate(t.alternatives)
    }
    log_scores = log_scores_of(matrix, ranks, groups, probabilities)
    representatives = groups.representatives(matrix, ranks, probabilities)
    order = np.lexsort((matrix.area_ids[representatives], groups.created_us(matrix), -log_scores))[:count]
    return Ranking(rows=representatives[order], log_scores=log_scores[order])


def _exactly(matrix: Matrix, direction: Direction, rows: NDArray[np.intp]) -> LogProbability:
    own, *rivals = [matrix.exact_cosines(rows, vector) for vector in direction.vectors] or [np.zeros(len(rows))]
    return log_probability(direction, own, rivals)


def log_scores_of(
    matrix: Matrix, ranks: tuple[CompiledRank, ...], groups: Groups, probabilities: Probabilities
) -> Array:
    """The log score of each group, from the probabilities at its rows."""
    scores = []
    for item in ranks:
        terms = [
            term_log_score(groups.reduce(_term_probability(matrix, term, groups, probabilities)), term.value)
            for term in item.terms
        ]
        scores.append(mean_log_score(terms, negate=item.negate))
    return mean_log_score(scores)


def _term_probability(
    matrix: Matrix, term: CompiledTerm, groups: Groups, probabilities: Probabilities
) -> LogProbability:
    return likeliest(
        [
            _labelled(matrix, probabilities[id(term), place], labels, groups)
            for place, (_, labels) in enumerate(term.alternatives)
        ]
    )


def _labelled(matrix: Matrix, prediction: LogProbability, labels: Labels, groups: Groups) -> LogProbability:
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


def known(rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """Without the places of what has no row."""
    return rows[rows >= 0]


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """Rows brought together by hit: each alone for an annotation search, by input for an input search.

    ``rows`` is sorted by input; ``starts`` are the beginnings of the groups in it.
    """

    rows: NDArray[np.intp]
    starts: NDArray[np.intp] | None

    @staticmethod
    def of(matrix: Matrix, rows: NDArray[np.intp], unit: Unit) -> Groups:
        if unit is Unit.ANNOTATION or matrix.one_area_each:
            return Groups(rows, None)
        rows = rows[np.argsort(matrix.input_numbers[rows], kind="stable")]
        inputs = matrix.input_numbers[rows]
        return Groups(rows, np.flatnonzero(np.r_[True, inputs[1:] != inputs[:-1]]))

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
        self, matrix: Matrix, ranks: tuple[CompiledRank, ...], probabilities: Probabilities
    ) -> NDArray[np.intp]:
        """For each group the row that alone would score highest; the oldest area among equals."""
        if self.starts is None:
            return self.rows
        alone = log_scores_of(matrix, ranks, Groups(self.rows, None), probabilities)
        group = np.repeat(np.arange(len(self.starts)), np.diff(np.r_[self.starts, len(self.rows)]))
        order = np.lexsort((matrix.area_ids[self.rows], -alone, group))
        return self.rows[order[self.starts]]
