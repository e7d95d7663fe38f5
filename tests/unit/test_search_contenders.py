"""Bounds on scores, and who may be among the first: whatever the cosines really are, nobody is lost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from sightrank.search.bounds import Laws, without_indifference
from sightrank.search.compiled import NO_LABELS, CompiledRank, CompiledTerm, Labels
from sightrank.search.contenders import Contenders, TooManyContenders
from sightrank.search.matrix import Matrix, Rows
from sightrank.search.query import Unit
from sightrank.search.rank import rank
from sightrank.search.score import Direction, Link
from sightrank.store.vectors import ProductRows

AREAS = 400
DIMS = 3
NOWHERE = Direction(vector=None)
AXES = np.eye(DIMS)
SAID = Labels(area_ids=np.array([310, 7, 42, 399]), values=np.array([1.0, 0.0, 0.25, 1.0]))


def likeness(axis: int) -> Direction:
    return Direction(vector=AXES[axis])


def concept(axis: int, *, scale: float = 9.0, bias: float = -2.0) -> Direction:
    return Direction(vector=AXES[axis], link=Link.SIGMOID, scale=scale, bias=bias)


def excluded(axis: int) -> Direction:
    """By two others, one of which is the likelier the smaller its cosine."""
    rivals = (concept((axis + 1) % DIMS, scale=-7.0), concept((axis + 2) % DIMS, bias=0.5))
    return replace(concept(axis), rivals=rivals)


def ranks_of(*terms: CompiledTerm, negate: bool = False) -> tuple[CompiledRank, ...]:
    return (CompiledRank(terms=terms, negate=negate),)


def term(*directions: Direction, said: Labels = NO_LABELS, value: float = 1.0) -> CompiledTerm:
    return CompiledTerm(alternatives=tuple((direction, said) for direction in directions), value=value)


QUERIES = {
    "likeness": ranks_of(term(likeness(0))),
    "opposite": ranks_of(term(likeness(0)), negate=True),
    "concept that is not there": ranks_of(term(concept(1), value=0.0)),
    "falling concept": ranks_of(term(concept(1, scale=-9.0), value=0.8), negate=True),
    "labels": ranks_of(term(concept(1), said=SAID)),
    "excluded": ranks_of(term(excluded(0), said=SAID)),
    "not what excludes others": ranks_of(term(excluded(2), value=0.2), term(likeness(1)), negate=True),
    "labels alone": ranks_of(term(NOWHERE, said=SAID)),
    "alternatives": ranks_of(term(concept(0), concept(1), said=SAID, value=0.0)),
    "no matter": ranks_of(term(likeness(2), value=0.5)),
    "two terms and another rank": (
        *ranks_of(term(concept(0), said=SAID), term(likeness(1)), negate=True),
        *ranks_of(term(likeness(2))),
    ),
}


def app(seed: int = 1) -> tuple[Matrix, NDArray[np.float64]]:
    """Areas, three to an input, and their vectors, which are their cosines with the axes."""
    random = np.random.default_rng(seed)
    cosines = random.uniform(-0.57, 0.57, (AREAS, DIMS)).astype(np.float16)
    cosines[200:260] = cosines[0]
    matrix = Matrix(DIMS)
    numbers = np.arange(AREAS) // 3
    matrix.upsert(
        Rows(
            area_ids=np.arange(AREAS),
            input_numbers=numbers,
            created_us=random.permutation(AREAS)[numbers],
            vectors=cosines,
        )
    )
    return matrix, cosines.astype(np.float64)


def parts(matrix: Matrix, cosines: NDArray[np.float64], laws: Laws, size: int) -> list[ProductRows]:
    """The products of all areas with the guides, some inputs at a time."""
    columns = [
        np.zeros(AREAS) if guide.direction.vector is None else cosines @ guide.direction.vector for guide in laws.guides
    ]
    products = np.stack(columns, axis=1)
    return [
        ProductRows(
            area_ids=matrix.area_ids[start : start + size],
            input_numbers=matrix.input_numbers[start : start + size],
            created_us=matrix.created_us[start : start + size],
            products=products[start : start + size],
        )
        for start in range(0, AREAS, size)
    ]


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("by", Unit)
@pytest.mark.parametrize("margin", [0.0, 0.03])
@pytest.mark.parametrize("count", [1, 20, 150])
def test_the_first_are_among_the_contenders(query: str, by: Unit, margin: float, count: int) -> None:
    matrix, cosines = app()
    ranks = without_indifference(QUERIES[query])
    laws = Laws(ranks)
    wrong = cosines + np.random.default_rng(3).uniform(-margin, margin, cosines.shape)
    contenders = Contenders(laws, by, count, np.full(len(laws.guides), margin), at_most=10_000)

    for part in parts(matrix, wrong, laws, 60):
        contenders.add(part)

    rows = rank(matrix, ranks, by, np.arange(AREAS), count).rows
    first = matrix.area_ids[rows] if by is Unit.ANNOTATION else matrix.input_numbers[rows]
    assert set(first.tolist()) <= set(contenders.keys().tolist())
    assert len(set(contenders.keys().tolist())) == len(contenders.keys())


def test_few_contend_where_cosines_are_known_well() -> None:
    matrix, cosines = app()
    laws = Laws(QUERIES["likeness"])
    contenders = Contenders(laws, Unit.ANNOTATION, 10, np.array([1e-4]), at_most=10_000)

    for part in parts(matrix, cosines, laws, 100):
        contenders.add(part)

    assert 10 <= len(contenders.keys()) < 20


def test_more_contenders_than_may_be_is_told() -> None:
    matrix, cosines = app()
    laws = Laws(QUERIES["likeness"])
    contenders = Contenders(laws, Unit.ANNOTATION, 10, np.array([0.5]), at_most=50)

    first, *_ = parts(matrix, cosines, laws, 100)

    with pytest.raises(TooManyContenders):
        contenders.add(first)


@pytest.mark.parametrize("query", ["labels alone", "no matter"])
def test_equal_scores_that_are_known_exactly_are_no_crowd(query: str) -> None:
    matrix, cosines = app()
    laws = Laws(without_indifference(QUERIES[query]))
    contenders = Contenders(laws, Unit.ANNOTATION, 5, np.full(len(laws.guides), 0.1), at_most=12)

    for part in parts(matrix, cosines, laws, 30):
        # Some are equal in their creation too: the three areas of an input.
        contenders.add(part)

    assert 5 <= len(contenders.keys()) <= 12


@pytest.mark.parametrize("query", ["likeness", "opposite", "falling concept", "alternatives", "excluded"])
def test_scores_follow_their_cosines_the_way_the_signs_say(query: str) -> None:
    laws = Laws(QUERIES[query])
    cosines = np.random.default_rng(5).uniform(-0.9, 0.9, (200, len(laws.guides)))

    lower, higher = (laws.unlabelled(cosines + 0.05 * step * laws.signs) for step in (-1, 1))

    assert (lower <= laws.unlabelled(cosines)).all()
    assert (laws.unlabelled(cosines) <= higher).all()
    assert (lower < higher).any()


def test_only_terms_that_make_no_difference_lose_their_directions() -> None:
    (item,) = QUERIES["no matter"]
    (changed,) = without_indifference((item,))

    assert changed.terms[0].alternatives[0][0].vector is None
    assert (changed.terms[0].value, changed.negate) == (0.5, item.negate)
    assert without_indifference(QUERIES["labels"])[0].terms == QUERIES["labels"][0].terms
