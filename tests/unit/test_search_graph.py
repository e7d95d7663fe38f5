"""The graph of neighbours: what it answers is nearly always right, and where it would not be it says so."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from sightrank.search.graph import GivenUp, Graph
from sightrank.search.matrix import Matrix, Rows

DIMS = 64
ROWS = 12_000
CLUSTERS = 60


def clustered(count: int, *, seed: int) -> NDArray[np.float32]:
    """Unit vectors around the same centres, as pictures of the same things lie together."""
    centres = np.random.default_rng(0).standard_normal((CLUSTERS, DIMS))
    random = np.random.default_rng(seed)
    found = centres[random.integers(0, CLUSTERS, count)] + random.standard_normal((count, DIMS))
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


def rows(area_ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> Rows:
    return Rows(area_ids=area_ids, input_numbers=area_ids, created_us=area_ids, vectors=vectors.astype(np.float16))


def copy_of(matrix: Matrix) -> Rows:
    return Rows(
        area_ids=matrix.area_ids.copy(),
        input_numbers=matrix.input_numbers.copy(),
        created_us=matrix.created_us.copy(),
        vectors=matrix.copy_of_vectors(),
    )


def built(matrix: Matrix) -> Graph:
    graph = Graph(copy_of(matrix))
    graph.build(lambda: True)
    return graph


def filled(count: int = ROWS) -> Matrix:
    matrix = Matrix(DIMS)
    matrix.upsert(rows(np.arange(count) * 3 + 7, clustered(count, seed=1)))
    return matrix


@pytest.fixture(scope="module")
def whole() -> tuple[Matrix, Graph]:
    matrix = filled()
    return matrix, built(matrix)


def recall(matrix: Matrix, graph: Graph, directions: NDArray[np.float32]) -> float:
    """Of the twenty nearest, where the graph answers; it must for nine directions of ten."""
    shares = []
    for direction in directions.astype(np.float64):
        near = graph.nearest(matrix, direction, 164)
        if near is not None:
            shares.append(len(set(near[0][:20].tolist()) & set(matrix.nearest(direction, 20)[0].tolist())) / 20)
    assert len(shares) >= 0.9 * len(directions)
    return float(np.mean(shares))


def test_recall_of_pictures_like_those_in_the_app(whole: tuple[Matrix, Graph]) -> None:
    assert recall(*whole, clustered(200, seed=2)) >= 0.99


def test_products_are_those_of_the_rows_and_fall(whole: tuple[Matrix, Graph]) -> None:
    matrix, graph = whole
    direction = clustered(1, seed=3)[0].astype(np.float64)

    near = graph.nearest(matrix, direction, 50)

    assert near is not None
    assert near[1] == pytest.approx(matrix.exact_cosines(near[0], direction), abs=1e-5)
    assert near[1].tolist() == sorted(near[1].tolist(), reverse=True)


def test_a_direction_away_from_all_vectors_is_not_answered(whole: tuple[Matrix, Graph]) -> None:
    matrix, graph = whole
    for direction in clustered(50, seed=2).astype(np.float64):
        assert graph.nearest(matrix, -direction, 100) is None


def test_what_came_since_is_found_and_what_went_is_not() -> None:
    matrix = filled()
    graph = built(matrix)
    direction = clustered(1, seed=9)[0].astype(np.float64)
    gone = matrix.area_ids[matrix.nearest(direction, 5)[0]].copy()
    moved = matrix.area_ids[matrix.nearest(-direction, 1)[0]].copy()
    new = np.array([1, 2])

    matrix.remove(gone)
    graph.forget(len(gone))
    for changes in (
        rows(new, np.stack([direction, direction * 0.99]).astype(np.float32)),
        rows(moved, (direction * 0.98)[None].astype(np.float32)),
    ):
        matrix.upsert(changes)
        graph.absorb(changes)
    near = graph.nearest(matrix, direction, 100)

    assert near is not None
    assert matrix.area_ids[near[0]][:3].tolist() == [1, 2, int(moved[0])]
    assert not set(matrix.area_ids[near[0]].tolist()) & set(gone.tolist())
    assert len(set(near[0].tolist())) == 100
    assert recall(matrix, graph, clustered(100, seed=2)) >= 0.99


def test_where_too_many_neighbours_are_gone_it_does_not_answer() -> None:
    matrix = filled(2000)
    graph = built(matrix)
    direction = clustered(1, seed=9)[0].astype(np.float64)
    gone = matrix.area_ids[matrix.nearest(direction, 400)[0]].copy()

    matrix.remove(gone)
    graph.forget(len(gone))

    assert graph.nearest(matrix, direction, 100) is None


def test_it_is_stale_when_a_tenth_has_changed() -> None:
    matrix = filled(1000)
    graph = built(matrix)
    fresh = graph.is_stale

    graph.absorb(rows(np.arange(60), clustered(60, seed=5)))
    graph.forget(40)
    nearly = graph.is_stale
    graph.forget(1)

    assert (fresh, nearly, graph.is_stale) == (False, False, True)


def test_building_can_be_given_up() -> None:
    graph = Graph(copy_of(filled(3000)))
    parts = iter([True, True, False])

    with pytest.raises(GivenUp):
        graph.build(lambda: next(parts))


def test_its_memory_counts_vectors_and_links() -> None:
    graph = Graph(copy_of(filled(1000)))

    before = graph.size_bytes
    graph.build(lambda: True)

    assert graph.size_bytes == 1000 * Graph.row_bytes(DIMS)
    assert before == graph.size_bytes + 1000 * 2 * DIMS  # the copy it is built from
    assert Graph.row_bytes(DIMS) > 2 * DIMS + 8
