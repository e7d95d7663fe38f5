"""Several ranks as one direction: a tangent is never below the score, and never costs a hit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from sightrank.search import rank as ranking
from sightrank.search.compiled import NO_LABELS, CompiledRank, CompiledTerm, Labels
from sightrank.search.matrix import Matrix, Rows
from sightrank.search.query import Unit
from sightrank.search.rank import rank
from sightrank.search.score import Array, Direction, Link, log_probability, term_log_score, unit
from sightrank.search.tangent import Part, tangent

DIMS = 12
ROWS = 9000


def unit_vector(seed: int) -> Array:
    found = unit(np.random.default_rng([seed, 5]).normal(size=DIMS))
    assert found is not None
    return found


def half(seed: int) -> Direction:
    return Direction(vector=unit_vector(seed))


def sigmoid(seed: int, scale: float, bias: float) -> Direction:
    return Direction(vector=unit_vector(seed), link=Link.SIGMOID, scale=scale, bias=bias)


def photos(seed: int) -> NDArray[np.float64]:
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(ROWS, DIMS))
    vectors[: ROWS // 10] = vectors[0]  # a tenth are copies of one
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def excluded(seed: int, *others: int) -> Direction:
    """By directions that are as steep as they please."""
    rivals = tuple(sigmoid(other, 15.0 * (-1) ** other * other, 1.0) for other in others)
    return replace(sigmoid(seed, 20.0, -2.0), rivals=rivals)


LAWS = [
    (half(1), 1.0),
    (half(1), 0.0),
    (half(1), 0.3),
    (sigmoid(1, 20.0, -6.0), 1.0),
    (sigmoid(1, 20.0, -6.0), 0.0),
    (sigmoid(1, -45.0, 3.0), 1.0),
    (sigmoid(1, 400.0, -30.0), 0.0),
]


@pytest.mark.parametrize(("direction", "value"), LAWS)
@pytest.mark.parametrize("touching", [-1.0, -0.2, 0.0, 0.4, 1.0])
def test_a_tangent_is_never_below_the_score(direction: Direction, value: float, touching: float) -> None:
    cosines = np.linspace(-1.01, 1.01, 401)
    parts = [Part.of(direction, value, 0.5), Part.of(half(2), 1.0, 0.5)]
    assert parts[0] is not None
    assert parts[1] is not None

    line = tangent([parts[0], parts[1]], [np.array([touching]), np.array([0.1])])

    assert line is not None
    other = 0.3 * np.sin(np.arange(401))
    scores = 0.5 * term_log_score(log_probability(direction, cosines), value)
    scores = scores + 0.5 * log_probability(half(2), other).yes
    # The product with the tangent's direction, from the cosines with both: it is a combination of the two.
    basis = np.concatenate([parts[0].directions, parts[1].directions])
    weights = np.linalg.lstsq(basis.T, line.direction, rcond=None)[0]
    products = weights[0] * cosines + weights[1] * other
    assert np.all(line.offset + line.slope * products >= scores - 1e-9)


@pytest.mark.parametrize("touching", range(5))
def test_a_tangent_is_never_below_a_softmax(touching: int) -> None:
    direction = excluded(1, 2, 3, 4)
    vectors = photos(8)
    cosines = vectors @ np.stack(direction.vectors).T
    part = Part.of(direction, 1.0, 0.5)
    assert part is not None

    line = tangent([part], [cosines[1000 * touching + 1]])

    assert line is not None
    scores = 0.5 * log_probability(direction, cosines[:, 0], list(cosines[:, 1:].T)).yes
    bounds = line.offset + line.slope * (vectors @ line.direction)
    assert np.all(bounds >= scores - 1e-9)
    assert bounds[1000 * touching + 1] == pytest.approx(scores[1000 * touching + 1], abs=1e-9)


def test_a_tangent_touches_where_it_should() -> None:
    part = Part.of(sigmoid(1, 20.0, -6.0), 1.0, 1.0)
    assert part is not None

    line = tangent([part], [np.array([0.25])])

    assert line is not None
    score = term_log_score(log_probability(sigmoid(1, 20.0, -6.0), np.array([0.25])), 1.0)[0]
    assert line.offset + line.slope * 0.25 == pytest.approx(score, abs=1e-12)


def test_what_is_not_concave_or_does_not_change_has_no_tangent() -> None:
    assert Part.of(sigmoid(1, 20.0, -6.0), 0.5, 1.0) is None
    assert Part.of(Direction(vector=None), 1.0, 1.0) is None
    assert Part.of(excluded(1, 2, 3), 0.0, 1.0) is None
    indifferent = Part.of(half(1), 0.5, 1.0)
    assert indifferent is not None
    assert tangent([indifferent], [np.array([0.3])]) is None


def ranks_of(name: str, matrix: Matrix) -> tuple[CompiledRank, ...]:
    def term(direction: Direction, value: float = 1.0, said: Labels = NO_LABELS) -> CompiledTerm:
        return CompiledTerm(alternatives=((direction, said),), value=value)

    said = Labels(area_ids=matrix.area_ids[::50], values=np.linspace(0.0, 1.0, len(matrix.area_ids[::50])))
    kinds = {
        "two images": (CompiledRank(terms=(term(half(1)),)), CompiledRank(terms=(term(half(2)),))),
        "image of an image": (CompiledRank(terms=(term(half(1)), term(half(2)))),),
        "this, not that": (
            CompiledRank(terms=(term(half(1)),)),
            CompiledRank(terms=(term(half(2)),), negate=True),
        ),
        "dog, no cat": (
            CompiledRank(terms=(term(sigmoid(1, 20.0, -6.0)),)),
            CompiledRank(terms=(term(sigmoid(2, 30.0, -9.0), 0.0),)),
        ),
        "three, labelled": (
            CompiledRank(terms=(term(sigmoid(1, 20.0, -6.0), 1.0, said),)),
            CompiledRank(terms=(term(sigmoid(2, 400.0, -30.0)),)),
            CompiledRank(terms=(term(half(3), 0.3),)),
        ),
        "what excludes others": (CompiledRank(terms=(term(excluded(1, 2, 3, 4), 1.0, said),)),),
        "what excludes others, like this": (
            CompiledRank(terms=(term(excluded(2, 3)), term(half(1)))),
            CompiledRank(terms=(term(sigmoid(4, 9.0, 0.0), 0.0),)),
        ),
        "flat": (
            CompiledRank(terms=(term(sigmoid(1, 4000.0, 4000.0)),)),
            CompiledRank(terms=(term(sigmoid(2, 4000.0, 4000.0)),)),
        ),
        "copies first": (
            CompiledRank(terms=(term(Direction(vector=unit(matrix.vectors(np.array([0]))[0]))),)),
            CompiledRank(terms=(term(half(2)),)),
        ),
    }
    return kinds[name]


@pytest.mark.parametrize(("by", "areas_each"), [(Unit.ANNOTATION, 1), (Unit.INPUT, 1), (Unit.INPUT, 3)])
@pytest.mark.parametrize(
    "name",
    [
        "two images",
        "image of an image",
        "this, not that",
        "dog, no cat",
        "three, labelled",
        "what excludes others",
        "what excludes others, like this",
        "flat",
        "copies first",
    ],
)
def test_hits_under_tangents_are_those_of_the_whole_order(name: str, by: Unit, areas_each: int) -> None:
    matrix = Matrix(DIMS)
    random = np.random.default_rng(3)
    areas = random.permutation(ROWS)
    matrix.upsert(
        Rows(
            area_ids=areas,
            input_numbers=areas // areas_each,
            created_us=random.permutation(ROWS) // 4,
            vectors=photos(4).astype(np.float16),
        )
    )
    ranks = ranks_of(name, matrix)
    everything = rank(matrix, ranks, by, np.arange(ROWS), ROWS)

    for count, among in ((1, None), (20, None), (300, None), (20, np.arange(ROWS))):
        found = rank(matrix, ranks, by, among, count)

        assert found.rows.tolist() == everything.rows[:count].tolist()
        assert found.log_scores.tolist() == everything.log_scores[:count].tolist()


def test_inputs_that_tie_follow_their_first_areas_of_which_the_tangent_says_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vectors = photos(7)
    vectors[-30:] = unit_vector(1)  # the last areas of 30 inputs
    random = np.random.default_rng(9)
    areas, inputs = np.arange(ROWS), ROWS // 2
    matrix = Matrix(DIMS)
    matrix.upsert(
        Rows(
            area_ids=areas,
            input_numbers=areas % inputs,
            created_us=np.r_[random.permutation(inputs), inputs + random.permutation(inputs)],
            vectors=vectors.astype(np.float16),
        )
    )
    direction = replace(sigmoid(1, 20.0, -2.0), rivals=(sigmoid(2, 0.1, 1.0),))
    ranks = (CompiledRank(terms=(CompiledTerm(alternatives=((direction, NO_LABELS),)),)),)
    everything = rank(matrix, ranks, Unit.INPUT, areas, ROWS)

    monkeypatch.setattr(ranking, "_by_full_scan", None)
    found = rank(matrix, ranks, Unit.INPUT, None, 10)

    assert len(np.unique(everything.log_scores[:30])) == 1
    assert found.rows.tolist() == everything.rows[:10].tolist()


@pytest.mark.parametrize(
    ("name", "by"),
    [
        ("dog, no cat", Unit.ANNOTATION),
        ("what excludes others, like this", Unit.ANNOTATION),
        ("what excludes others", Unit.INPUT),
    ],
)
def test_tangents_save_the_scan_of_all_rows(monkeypatch: pytest.MonkeyPatch, name: str, by: Unit) -> None:
    matrix = Matrix(DIMS)
    ids = np.arange(ROWS)
    matrix.upsert(Rows(area_ids=ids, input_numbers=ids // 3, created_us=ids, vectors=photos(6).astype(np.float16)))

    def refuse(_: object) -> None:
        raise AssertionError("scanned every row")

    monkeypatch.setattr(ranking, "_by_full_scan", refuse)

    assert len(rank(matrix, ranks_of(name, matrix), by, None, 20).rows) == 20
