"""The vectors in memory: a cache that must hold exactly what was put into it, whatever came and went."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sightrank.search.matrix import Matrix, Rows

DIMS = 5


def rows(area_ids: list[int], vectors: NDArray[np.float16] | None = None, *, dims: int = DIMS) -> Rows:
    """Rows whose vector, input and time follow from the area, unless vectors are given."""
    ids = np.array(area_ids, np.int64)
    if vectors is None:
        vectors = np.array([vector_of(area, dims) for area in area_ids], np.float16).reshape(len(ids), dims)
    return Rows(area_ids=ids, input_numbers=ids * 10, created_us=ids * 100, vectors=vectors)


def vector_of(area: int, dims: int = DIMS) -> NDArray[np.float16]:
    return np.random.default_rng(area).normal(size=dims).astype(np.float16)


def matrix_of(*area_ids: int) -> Matrix:
    matrix = Matrix(DIMS)
    matrix.upsert(rows(list(area_ids)))
    return matrix


def content(matrix: Matrix) -> dict[int, tuple[int, int, tuple[float, ...]]]:
    vectors = matrix.vectors(np.arange(len(matrix)))
    return {
        area: (number, created, tuple(vector))
        for area, number, created, vector in zip(
            matrix.area_ids.tolist(),
            matrix.input_numbers.tolist(),
            matrix.created_us.tolist(),
            vectors.tolist(),
            strict=True,
        )
    }


def expected(area_ids: set[int]) -> dict[int, tuple[int, int, tuple[float, ...]]]:
    return {area: (area * 10, area * 100, tuple(vector_of(area).astype(float).tolist())) for area in area_ids}


def test_a_new_matrix_is_empty() -> None:
    matrix = Matrix(DIMS)

    assert len(matrix) == 0
    assert matrix.size_bytes == 0
    assert matrix.one_area_each
    assert matrix.rows_of(np.array([1, 2])).tolist() == [-1, -1]
    assert matrix.nearest(np.ones(DIMS), 3)[0].tolist() == []
    assert matrix.cosines(slice(None), np.ones((2, DIMS))).shape == (0, 2)
    assert matrix.exact_cosines(np.empty(0, np.intp), np.ones(DIMS)).tolist() == []


def test_rows_are_held_as_they_came() -> None:
    matrix = matrix_of(3, 1, 2)

    assert content(matrix) == expected({1, 2, 3})
    assert matrix.rows_of(np.array([2, 7, 3])).tolist() == [2, -1, 0]


def test_every_half_float_is_held_exactly() -> None:
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)]
    matrix = Matrix(1)

    matrix.upsert(rows(list(range(len(halves))), halves[:, None], dims=1))

    held = matrix.vectors(np.arange(len(matrix)))[:, 0].astype(np.float16)
    assert np.array_equal(held.view(np.uint16), halves.view(np.uint16))


def test_a_known_area_is_overwritten() -> None:
    matrix = matrix_of(1, 2, 3)

    matrix.upsert(rows([2, 4], np.array([[1.0] * DIMS, [2.0] * DIMS], np.float16)))

    assert matrix.vectors(matrix.rows_of(np.array([1, 2, 3, 4])))[:, 0].tolist() == [
        float(vector_of(1)[0]),
        1.0,
        float(vector_of(3)[0]),
        2.0,
    ]


@pytest.mark.parametrize("gone", [[1], [3], [2], [1, 2], [3, 1], [9], [], [2, 9, 2], [4, 3, 2, 1]])
def test_removed_areas_are_gone_and_the_others_stay(gone: list[int]) -> None:
    matrix = matrix_of(1, 2, 3, 4)

    matrix.remove(np.array(gone, np.int64))

    assert content(matrix) == expected({1, 2, 3, 4} - set(gone))


def test_an_emptied_matrix_can_be_filled_again() -> None:
    matrix = matrix_of(*range(2000))

    matrix.remove(np.arange(2000))
    empty = len(matrix), matrix.size_bytes
    matrix.upsert(rows([5, 6]))

    assert empty == (0, 0)
    assert content(matrix) == expected({5, 6})
    assert matrix.nearest(vector_of(6).astype(float), 1)[0].tolist() == [1]


def test_one_area_each_follows_every_change() -> None:
    matrix = matrix_of(1, 2)
    same_input = Rows(
        area_ids=np.array([3]),
        input_numbers=np.array([10]),
        created_us=np.array([300]),
        vectors=np.ones((1, DIMS), np.float16),
    )
    alone = matrix.one_area_each

    matrix.upsert(same_input)
    shared = matrix.one_area_each
    matrix.remove(np.array([3]))

    assert (alone, shared, matrix.one_area_each) == (True, False, True)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.lists(st.integers(0, 30), max_size=12, unique=True)), max_size=15))
def test_any_history_leaves_what_a_dict_would_hold(history: list[tuple[bool, list[int]]]) -> None:
    matrix = Matrix(DIMS)
    held: set[int] = set()
    for adds, area_ids in history:
        if adds:
            matrix.upsert(rows(area_ids))
            held |= set(area_ids)
        else:
            matrix.remove(np.array(area_ids, np.int64))
            held -= set(area_ids)

        assert content(matrix) == expected(held)
        found = matrix.rows_of(np.arange(31))
        assert {area for area in range(31) if found[area] >= 0} == held
        assert matrix.area_ids[found[found >= 0]].tolist() == sorted(held)


def test_nearest_finds_the_highest_products() -> None:
    matrix = matrix_of(*range(300))
    direction = vector_of(999).astype(float)

    found, products = matrix.nearest(direction, 10)

    exact = matrix.vectors(np.arange(300)) @ direction
    assert found.tolist() == np.argsort(-exact)[:10].tolist()
    assert products == pytest.approx(np.sort(exact)[::-1][:10], abs=1e-5)


def test_nearest_gives_no_more_than_there_are() -> None:
    found, products = matrix_of(1, 2, 3).nearest(np.ones(DIMS), 100)

    assert sorted(found.tolist()) == [0, 1, 2]
    assert len(products) == 3


@pytest.mark.parametrize("count", [1, 255, 256, 257, 1000])
def test_cosines_of_any_number_of_rows(count: int) -> None:
    matrix = matrix_of(*range(count))
    directions = np.random.default_rng(0).normal(size=(3, DIMS))

    found = matrix.cosines(slice(None), directions)

    assert found.shape == (count, 3)
    assert np.abs(found - matrix.vectors(np.arange(count)) @ directions.T).max() < 1e-5


@pytest.mark.parametrize("dims", [1, 7, 64, 256, 515])
def test_copies_have_the_same_cosine_to_the_last_bit(dims: int) -> None:
    random = np.random.default_rng(dims)
    vectors = random.normal(size=(60, dims)).astype(np.float16)
    vectors[[3, 17, 58]] = vectors[40]
    matrix = Matrix(dims)
    matrix.upsert(rows(list(range(60)), vectors, dims=dims))
    direction = random.normal(size=dims)

    together = matrix.exact_cosines(np.arange(60), direction)
    alone = [matrix.exact_cosines(np.array([row]), direction)[0] for row in (3, 17, 40, 58)]

    assert len({together[3], together[17], together[40], together[58], *alone}) == 1
