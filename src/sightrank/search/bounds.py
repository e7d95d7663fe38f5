"""The score laws over cosines alone: what areas score whose vectors are not at hand. No I/O.

A score follows each of its cosines in one direction, up or down. So cosines moved up that way by as much as they may be
wrong give a score no lower than the true one, moved down one no higher; and what nobody has looked at scores no more
than the cosines would at which each list of neighbours ended.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sightrank.search.compiled import NO_LABELS, CompiledRank, Labels
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Guide:
    """One direction of the ranks, or a rival of one. ``sign`` is 1 where the score grows with the cosine, -1 where it
    falls, 0 where it does not care."""

    direction: Direction
    sign: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Alternative:
    """A direction, whose guide is ``first`` and whose rivals' follow, and its labels in the order of their areas."""

    direction: Direction
    labels: Labels
    first: int


class Laws:
    """The score of compiled ranks as a function of the cosines [n, guides] with each of their ``guides``."""

    def __init__(self, ranks: tuple[CompiledRank, ...]) -> None:
        self._ranks = ranks
        guides: list[Guide] = []
        self._alternatives: list[_Alternative] = []
        for item in ranks:
            for term in item.terms:
                for direction, labels in term.alternatives:
                    self._alternatives.append(
                        _Alternative(direction=direction, labels=_sorted(labels), first=len(guides))
                    )
                    guides += _guides(item.negate, term.value, direction)
        self.guides = tuple(guides)
        self.signs = np.array([guide.sign for guide in self.guides])

    def labelled(self) -> NDArray[np.int64]:
        """Every area that somebody labelled with one of the concepts."""
        return np.unique(np.concatenate([one.labels.area_ids for one in self._alternatives]))

    def unlabelled(self, cosines: Array) -> Array:
        """The log scores of areas without labels."""
        return self._log_scores([_predicted(one, cosines) for one in self._alternatives], None)

    def of_areas(self, cosines: Array, area_ids: NDArray[np.int64], starts: NDArray[np.intp] | None) -> Array:
        """The log scores of these areas, or of the inputs whose areas begin at ``starts``."""
        said = [_said(_predicted(one, cosines), one.labels, area_ids) for one in self._alternatives]
        return self._log_scores(said, starts)

    def _log_scores(self, probabilities: list[LogProbability], starts: NDArray[np.intp] | None) -> Array:
        remaining = iter(probabilities)
        scores = []
        for item in self._ranks:
            terms = []
            for term in item.terms:
                probability = likeliest([next(remaining) for _ in term.alternatives])
                if starts is not None:
                    probability = highest_of_groups(probability, starts)
                terms.append(term_log_score(probability, term.value))
            scores.append(mean_log_score(terms, negate=item.negate))
        return mean_log_score(scores)


def without_indifference(ranks: tuple[CompiledRank, ...]) -> tuple[CompiledRank, ...]:
    """The same ranks, where terms of value 0.5, to which every area is worth 0.5, are so to the last bit."""
    nowhere = ((Direction(vector=None), NO_LABELS),)
    return tuple(
        replace(
            item,
            terms=tuple(replace(term, alternatives=nowhere) if term.value == 0.5 else term for term in item.terms),
        )
        for item in ranks
    )


def _guides(negate: bool, value: float, direction: Direction) -> list[Guide]:
    rivals = [Guide(direction=rival, sign=-_sign(negate, value, rival)) for rival in direction.rivals]
    return [Guide(direction=direction, sign=_sign(negate, value, direction)), *rivals]


def _predicted(one: _Alternative, cosines: Array) -> LogProbability:
    rivals = range(one.first + 1, one.first + 1 + len(one.direction.rivals))
    return log_probability(one.direction, cosines[:, one.first], [cosines[:, rival] for rival in rivals])


def _sign(negate: bool, value: float, direction: Direction) -> float:
    if direction.vector is None or (direction.link is Link.SIGMOID and direction.scale == 0.0):
        return 0.0
    grows = (value > 0.5) != negate
    if direction.link is Link.SIGMOID and direction.scale < 0.0:
        grows = not grows
    return 1.0 if grows else -1.0


def _sorted(labels: Labels) -> Labels:
    order = np.argsort(labels.area_ids)
    return Labels(area_ids=labels.area_ids[order], values=labels.values[order])


def _said(prediction: LogProbability, labels: Labels, area_ids: NDArray[np.int64]) -> LogProbability:
    if len(labels.area_ids) == 0:
        return prediction
    place = np.minimum(np.searchsorted(labels.area_ids, area_ids), len(labels.area_ids) - 1)
    return with_labels(prediction, labels.area_ids[place] == area_ids, labels.values[place])
