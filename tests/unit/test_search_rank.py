"""Ranking over a matrix: choosing contenders never costs a hit, so every page equals that part of the whole order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from sightrank.search import rank as ranking
from sightrank.search.compiled import NO_LABELS, CompiledRank, CompiledTerm, Labels
from sightrank.search.matrix import Matrix, Rows
from sightrank.search.order import Ranking
from sightrank.search.query import Unit
from sightrank.search.rank import rank
from sightrank.search.score import Direction, Link, to_score, unit

DIMS = 8
ROWS = 500
NOWHERE = Direction(vector=None)


def unit_vector(seed: int) -> NDArray[np.float64]:
    found = unit(np.random.default_rng([seed, 77]).normal(size=DIMS))
    assert found is not None
    return found


def matrix_of(vectors: NDArray[np.float64], *, areas_each: int = 1, seed: int = 0) -> Matrix:
    """Areas in a shuffled order, so that rows, inputs and creation have nothing to do with each other."""
    random = np.random.default_rng(seed)
    count = len(vectors)
    areas = random.permutation(count)
    matrix = Matrix(vectors.shape[1])
    matrix.upsert(
        Rows(
            area_ids=areas + 1000,
            input_numbers=areas % max(count // areas_each, 1),
            # Every fourth area shares its instant with three others.
            created_us=random.permutation(count) // 4,
            vectors=vectors.astype(np.float16),
        )
    )
    return matrix


def photos(count: int = ROWS, *, seed: int = 1, copies: float = 0.3) -> NDArray[np.float64]:
    """Unit vectors, of which a share are copies of a few, bit by bit, and some their very opposites."""
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(count, DIMS))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    chosen = random.random(count) < copies
    vectors[chosen] = vectors[random.integers(0, 4, chosen.sum())]
    vectors[random.random(count) < copies / 10] *= -1
    return vectors


def labels(matrix: Matrix, count: int, *, seed: int = 2) -> Labels:
    random = np.random.default_rng(seed)
    areas = random.choice(matrix.area_ids, size=count, replace=False)
    # One label is on an area that has no vector (any more).
    return Labels(area_ids=np.r_[areas, 5], values=random.choice([0.0, 0.25, 1.0, 1.0], size=count + 1))


def same(seed: int) -> CompiledTerm:
    return CompiledTerm(alternatives=((Direction(vector=unit_vector(seed)), NO_LABELS),))


def concept(
    seed: int, *, scale: float = 20.0, bias: float = -6.0, value: float = 1.0, said: Labels = NO_LABELS
) -> CompiledTerm:
    direction = Direction(vector=unit_vector(seed), link=Link.SIGMOID, scale=scale, bias=bias)
    return CompiledTerm(alternatives=((direction, said),), value=value)


def excluded(seed: int, *others: int, said: Labels = NO_LABELS) -> CompiledTerm:
    """A concept that others exclude."""
    [(direction, _)] = concept(seed).alternatives
    rivals = tuple(rival for other in others for rival, _ in concept(other, scale=-5.0 * other, bias=1.0).alternatives)
    return CompiledTerm(alternatives=((replace(direction, rivals=rivals), said),))


def whole_order(matrix: Matrix, ranks: tuple[CompiledRank, ...], by: Unit) -> Ranking:
    """Without a choice of contenders: every row scored exactly."""
    return rank(matrix, ranks, by, np.arange(len(matrix)), len(matrix))


def assert_every_count_is_the_beginning(matrix: Matrix, ranks: tuple[CompiledRank, ...], by: Unit) -> None:
    everything = whole_order(matrix, ranks, by)
    for count in (1, 41, 100, 1000):
        found = rank(matrix, ranks, by, None, count)
        assert found.rows.tolist() == everything.rows[:count].tolist()
        assert found.log_scores.tolist() == everything.log_scores[:count].tolist()


# One direction -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", Unit)
@pytest.mark.parametrize("areas_each", [1, 3])
@pytest.mark.parametrize("value", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("negate", [False, True])
def test_concept_in_two_stages_is_the_exact_order(by: Unit, areas_each: int, value: float, negate: bool) -> None:
    matrix = matrix_of(photos(), areas_each=areas_each)
    for count in (0, 40):
        said = labels(matrix, count) if count else NO_LABELS
        ranks = (CompiledRank(terms=(concept(1, value=value, said=said),), negate=negate),)

        assert_every_count_is_the_beginning(matrix, ranks, by)


@pytest.mark.parametrize("by", Unit)
@pytest.mark.parametrize("negate", [False, True])
def test_similarity_in_two_stages_is_the_exact_order(by: Unit, negate: bool) -> None:
    matrix = matrix_of(photos(), areas_each=2)

    assert_every_count_is_the_beginning(matrix, (CompiledRank(terms=(same(1),), negate=negate),), by)


@pytest.mark.parametrize("scale", [-30.0, 300.0, 1500.0, -1500.0])
@pytest.mark.parametrize("value", [0.3, 0.7, 1.0])
@pytest.mark.parametrize("negate", [False, True])
def test_where_a_steep_sigmoid_is_flat_creation_decides(scale: float, value: float, negate: bool) -> None:
    # Most scores are the same number to the last bit, although the cosines differ.
    matrix = matrix_of(photos())
    ranks = (CompiledRank(terms=(concept(3, scale=scale, bias=0.0, value=value),), negate=negate),)

    assert_every_count_is_the_beginning(matrix, ranks, Unit.ANNOTATION)


def test_vectors_a_little_longer_than_one_tie_at_the_top() -> None:
    # Halves are rounded: the cosine with itself may pass 1, where the score stops growing.
    vectors = np.tile(unit_vector(5), (300, 1)) * np.linspace(1.0001, 1.01, 300)[:, None]
    matrix = matrix_of(vectors)
    ranks = (CompiledRank(terms=(same(5),)),)

    found = rank(matrix, ranks, Unit.ANNOTATION, None, 30)

    exact = whole_order(matrix, ranks, Unit.ANNOTATION)
    assert found.rows.tolist() == exact.rows[:30].tolist()
    above = matrix.exact_cosines(np.arange(300), unit_vector(5)) >= 1.0
    oldest = np.lexsort((matrix.area_ids, matrix.created_us, ~above))[:30]
    assert found.rows.tolist() == oldest.tolist()


def test_copies_follow_their_creation_then_their_area() -> None:
    matrix = matrix_of(np.tile(unit_vector(6), (200, 1)))

    found = rank(matrix, (CompiledRank(terms=(same(1),)),), Unit.ANNOTATION, None, 50)

    assert found.rows.tolist() == np.lexsort((matrix.area_ids, matrix.created_us))[:50].tolist()
    assert len(set(found.log_scores.tolist())) == 1


def test_where_nothing_is_possible_creation_decides() -> None:
    matrix = matrix_of(photos())
    nobody = CompiledTerm(alternatives=((NOWHERE, NO_LABELS),))

    found = rank(matrix, (CompiledRank(terms=(nobody, same(1))),), Unit.ANNOTATION, None, 100)

    assert found.rows.tolist() == np.lexsort((matrix.area_ids, matrix.created_us))[:100].tolist()
    assert to_score(found.log_scores).tolist() == [0.0] * 100


def test_a_label_lifts_an_area_over_all_predictions() -> None:
    matrix = matrix_of(photos())
    direction = unit_vector(1)
    least = int(np.argmin(matrix.exact_cosines(np.arange(ROWS), direction)))
    most = int(np.argmax(matrix.exact_cosines(np.arange(ROWS), direction)))
    said = Labels(area_ids=matrix.area_ids[[least, most]], values=np.array([1.0, 0.0]))

    found = rank(matrix, (CompiledRank(terms=(concept(1, said=said),)),), Unit.ANNOTATION, None, ROWS)

    assert found.rows[0] == least
    assert found.rows[-1] == most
    assert to_score(found.log_scores)[[0, -1]].tolist() == [1.0, 0.0]


# Several directions --------------------------------------------------------------------------------------------------


def test_labels_over_others_count_where_there_are_both() -> None:
    people = Labels(area_ids=np.array([4, 7]), values=np.array([0.0, 1.0]))
    detector = Labels(area_ids=np.array([9, 4]), values=np.array([0.9, 0.8]))

    said = people.over(detector)

    assert dict(zip(said.area_ids.tolist(), said.values.tolist(), strict=True)) == {4: 0.0, 7: 1.0, 9: 0.9}
    assert people.over(NO_LABELS).area_ids.tolist() == [4, 7]
    assert NO_LABELS.over(detector).values.tolist() == [0.9, 0.8]


def mixtures(matrix: Matrix) -> dict[str, tuple[CompiledRank, ...]]:
    said = labels(matrix, 30)
    two_meanings = CompiledTerm(alternatives=(*concept(1).alternatives, *concept(2, said=said).alternatives), value=1.0)
    return {
        "two images": (CompiledRank(terms=(same(1), same(2))),),
        "not both": (CompiledRank(terms=(same(1), same(2)), negate=True),),
        "dog, but no cat": (CompiledRank(terms=(concept(1),)), CompiledRank(terms=(concept(2, value=0.0),))),
        "like this, not labelled": (
            CompiledRank(terms=(same(3),)),
            CompiledRank(terms=(concept(2, said=said),), negate=True),
        ),
        "two meanings": (CompiledRank(terms=(two_meanings,)),),
        "no meaning": (CompiledRank(terms=(replace(two_meanings, value=0.3),)),),
        "one that excludes others": (CompiledRank(terms=(excluded(1, 2, said=said),)),),
        "not one that excludes others": (CompiledRank(terms=(excluded(1, 2, 3), same(4)), negate=True),),
        "own concept": (CompiledRank(terms=(CompiledTerm(alternatives=((NOWHERE, said),)),)),),
        "everything": (
            CompiledRank(terms=(two_meanings, same(4)), negate=True),
            CompiledRank(terms=(same(1), concept(3, scale=-40.0, bias=3.0, value=0.8))),
            CompiledRank(terms=(CompiledTerm(alternatives=((NOWHERE, said),), value=0.0),)),
        ),
    }


@pytest.mark.parametrize("by", Unit)
@pytest.mark.parametrize("areas_each", [1, 4])
@pytest.mark.parametrize("name", sorted(mixtures(matrix_of(photos()))))
def test_mixtures_in_two_stages_are_the_exact_order(name: str, areas_each: int, by: Unit) -> None:
    matrix = matrix_of(photos(), areas_each=areas_each)

    assert_every_count_is_the_beginning(matrix, mixtures(matrix)[name], by)


@pytest.mark.parametrize("by", Unit)
def test_near_opposites_of_both_images_are_told_apart(by: Unit) -> None:
    # 1 - sqrt(p q) falls steeply where p is almost 0: a fixed margin for float32 would drop some of them.
    random = np.random.default_rng(9)
    vectors = -np.tile(unit_vector(1), (ROWS, 1)) + random.normal(scale=1e-3, size=(ROWS, DIMS))
    matrix = matrix_of(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), areas_each=2)
    other = unit(unit_vector(2) - 0.5 * unit_vector(1))
    terms = (same(1), CompiledTerm(alternatives=((Direction(vector=other), NO_LABELS),)))

    for negate in (False, True):
        assert_every_count_is_the_beginning(matrix, (CompiledRank(terms=terms, negate=negate),), by)


@pytest.mark.parametrize("by", Unit)
def test_a_scan_in_parts_is_the_exact_order(by: Unit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "_COSINES_AT_ONCE", 333)
    matrix = matrix_of(photos(), areas_each=3)

    for name in ("one that excludes others", "everything"):
        assert_every_count_is_the_beginning(matrix, mixtures(matrix)[name], by)


# Pages, groups, candidates -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", Unit)
@pytest.mark.parametrize("name", ["two images", "dog, but no cat", "one concept"])
def test_pages_of_seven_are_the_whole_order_in_parts(name: str, by: Unit) -> None:
    matrix = matrix_of(photos(250), areas_each=2)
    ranks = mixtures(matrix).get(name, (CompiledRank(terms=(concept(1),)),))
    everything = whole_order(matrix, ranks, by).rows.tolist()

    pages = [rank(matrix, ranks, by, None, start + 7).rows[start:].tolist() for start in range(0, len(everything), 7)]

    assert [row for page in pages for row in page] == everything


def test_an_input_is_scored_by_its_best_area_and_shown_by_it() -> None:
    vectors = photos(90, copies=0.0)
    matrix = matrix_of(vectors, areas_each=3)
    direction = unit_vector(1)
    cosines = matrix.exact_cosines(np.arange(90), direction)

    found = rank(matrix, (CompiledRank(terms=(same(1),)),), Unit.INPUT, None, 90)

    best = {
        number: max(np.flatnonzero(matrix.input_numbers == number), key=lambda row: cosines[row])
        for number in set(matrix.input_numbers.tolist())
    }
    assert found.rows.tolist() == sorted(best.values(), key=lambda row: -cosines[row])
    assert to_score(found.log_scores) == pytest.approx((1 + cosines[found.rows]) / 2)


def test_no_dog_means_no_dog_anywhere_in_the_picture() -> None:
    direction = np.eye(DIMS)[0]
    vectors = np.zeros((4, DIMS))
    vectors[:, 0], vectors[:, 1] = [0.9, -0.9, 0.1, 0.2], np.sqrt(1 - np.array([0.9, -0.9, 0.1, 0.2]) ** 2)
    matrix = Matrix(DIMS)
    matrix.upsert(
        Rows(
            area_ids=np.arange(4),
            input_numbers=np.array([1, 1, 2, 2]),
            created_us=np.arange(4),
            vectors=vectors.astype(np.float16),
        )
    )
    dog = CompiledTerm(alternatives=((Direction(vector=direction), NO_LABELS),))

    found = rank(matrix, (CompiledRank(terms=(dog,), negate=True),), Unit.INPUT, None, 10)

    assert matrix.input_numbers[found.rows].tolist() == [2, 1]
    assert to_score(found.log_scores) == pytest.approx([1 - (1 + 0.2) / 2, 1 - (1 + 0.9) / 2], abs=1e-3)


@pytest.mark.parametrize("by", Unit)
def test_only_candidates_are_ranked(by: Unit) -> None:
    matrix = matrix_of(photos(), areas_each=2)
    ranks = mixtures(matrix)["like this, not labelled"]
    wanted = matrix.input_numbers % 3 == 0

    found = rank(matrix, ranks, by, np.flatnonzero(wanted), 60)

    everything = whole_order(matrix, ranks, by).rows
    assert found.rows.tolist() == everything[wanted[everything]][:60].tolist()


@pytest.mark.parametrize("by", Unit)
def test_an_empty_matrix_has_no_hits(by: Unit) -> None:
    matrix = Matrix(DIMS)
    ranks = (CompiledRank(terms=(same(1), concept(2))),)

    assert rank(matrix, ranks, by, None, 10).rows.tolist() == []
    assert rank(matrix, ranks[:1], by, np.empty(0, np.intp), 10).rows.tolist() == []
