"""What to label next (active learning): areas for which a concept is least certain, unlike each other. No I/O.

An area's uncertainty is 1 - |2p - 1|: 1 where p is 1/2, 0 where it is sure. The most uncertain are a pool, whose order
is a greedy one: next comes what has the highest product of its uncertainty and its distance from the nearest before it.
Whatever is less uncertain than the pool follows by its uncertainty alone. So the order depends on nothing but the areas
there are, and pages of it neither skip nor repeat a hit.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sightrank.errors import SearchInvalid
from sightrank.search.compiled import CompiledRank, Labels
from sightrank.search.query import ConceptTerm, Query
from sightrank.search.score import Array

#: So many areas are chosen from for being unlike each other.
POOL = 100


def check(query: Query) -> None:
    """Raises SearchInvalid unless the query ranks by exactly one concept."""
    terms = [term for item in query.ranks for term in item.terms]
    if len(terms) != 1 or not isinstance(terms[0], ConceptTerm):
        raise SearchInvalid(
            "algorithm 'active_learning' suggests what to label next with one concept: send exactly one rank with"
            f" exactly one concept, and no image, input, text or embedding; this search ranks by {len(terms)} terms"
            f"{'' if len(terms) != 1 else ', which is no concept'}."
        )


def widened(query: Query) -> Query:
    """The same search for the whole pool, or for more where the page lies behind it; all of it, whatever the score."""
    return replace(query, offset=0, limit=max(POOL, query.offset + query.limit), min_value=0.0)


def by_uncertainty(ranks: tuple[CompiledRank, ...]) -> tuple[CompiledRank, ...]:
    """A rank whose score is the geometric mean of p and 1 - p, so that its order is that of uncertainty.

    What carries a label of the concept, whatever it says, scores 0; so does an input with such an area. Raises
    SearchInvalid where nothing tells p.
    """
    (item,) = ranks
    (term,) = item.terms
    if all(direction.vector is None for direction, _ in term.alternatives):
        raise SearchInvalid(
            "Nothing tells how likely this concept is, so nothing is uncertain: label a first example, or train a"
            " model."
        )
    certain = tuple(
        (direction, Labels(area_ids=labels.area_ids, values=np.ones(len(labels.area_ids))))
        for direction, labels in term.alternatives
    )
    both = (replace(term, alternatives=certain, value=1.0), replace(term, alternatives=certain, value=0.0))
    return (CompiledRank(terms=both),)


def uncertainty(scores: Array) -> Array:
    """1 - |2p - 1| of the scores that ``by_uncertainty`` gives."""
    found: Array = 1.0 - np.sqrt(np.clip(1.0 - 4.0 * scores**2, 0.0, 1.0))
    return found


def diverse(uncertainties: Array, vectors: Array, count: int) -> NDArray[np.intp]:
    """The first ``count`` places of a pool in the order in which to label them.

    ``uncertainties`` [n], falling; ``vectors`` [n, dims] of unit length. Among equals the first comes first.
    """
    chosen = np.empty(min(count, len(uncertainties)), np.intp)
    likeness = np.zeros(len(uncertainties))  # with the nearest of those chosen
    for place in range(len(chosen)):
        gains = uncertainties * (1.0 - likeness)
        gains[chosen[:place]] = -np.inf
        chosen[place] = np.argmax(gains)
        likeness = np.clip(np.maximum(likeness, vectors @ vectors[chosen[place]]), 0.0, 1.0)
    return chosen
