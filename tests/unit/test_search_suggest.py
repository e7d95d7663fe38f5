"""What to label next: the uncertain, unlike each other, and never what has a label."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from clarifai_grpc.grpc.api import resources_pb2
from google.protobuf import json_format
from numpy.typing import NDArray

from sightrank.errors import SearchInvalid
from sightrank.search import suggest
from sightrank.search.compiled import NO_LABELS, CompiledRank, CompiledTerm, Labels
from sightrank.search.matrix import Matrix, Rows
from sightrank.search.parse import parse_legacy, parse_search
from sightrank.search.query import Query, Unit
from sightrank.search.rank import rank
from sightrank.search.score import Array, Direction, Link, to_score

DIMS, ROWS = 8, 300
CONCEPT = {"annotation": {"data": {"concepts": [{"id": "mine", "value": 1}]}}}


def photos(count: int = ROWS, *, seed: int = 1) -> NDArray[np.float64]:
    vectors = np.random.default_rng(seed).normal(size=(count, DIMS))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def matrix_of(vectors: NDArray[np.float64], *, areas_each: int = 1) -> Matrix:
    areas = np.random.default_rng(5).permutation(len(vectors))
    matrix = Matrix(DIMS)
    matrix.upsert(
        Rows(
            area_ids=areas + 1000,
            input_numbers=areas // areas_each,
            created_us=areas,
            vectors=vectors.astype(np.float16),
        )
    )
    return matrix


def concept(seed: int, labels: Labels = NO_LABELS, **link: float) -> tuple[Direction, Labels]:
    return Direction(vector=photos(1, seed=seed)[0], link=Link.SIGMOID, **{"scale": 12.0, "bias": -3.0} | link), labels


def ranks(*alternatives: tuple[Direction, Labels], value: float = 1.0) -> tuple[CompiledRank, ...]:
    return (CompiledRank(terms=(CompiledTerm(alternatives=alternatives, value=value),)),)


def probabilities(matrix: Matrix, direction: Direction) -> Array:
    assert direction.vector is not None
    return 1 / (
        1 + np.exp(-(direction.scale * (matrix.vectors(np.arange(len(matrix))) @ direction.vector) + direction.bias))
    )


def suggested(
    matrix: Matrix, asked: tuple[CompiledRank, ...], unit: Unit, count: int = ROWS
) -> tuple[list[int], Array]:
    """Rows and uncertainties of what is uncertain, most first."""
    found = rank(matrix, suggest.by_uncertainty(asked), unit, None, count)
    scores = to_score(found.log_scores)
    kept = scores > 0
    return found.rows[kept].tolist(), suggest.uncertainty(scores[kept])


# Uncertainty ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_areas_come_by_how_uncertain_they_are(value: float) -> None:
    matrix, known = matrix_of(photos()), concept(2)
    expected = 1 - np.abs(2 * probabilities(matrix, known[0]) - 1)

    rows, scores = suggested(matrix, ranks(known, value=value), Unit.ANNOTATION)

    assert rows == np.argsort(-expected, kind="stable").tolist()
    assert scores == pytest.approx(expected[rows], abs=1e-7)


def test_the_first_of_them_are_those_of_the_whole_order() -> None:
    matrix, known = matrix_of(photos(9000)), concept(2)
    whole, _ = suggested(matrix, ranks(known), Unit.ANNOTATION, 9000)

    for count in (1, 20, 500):
        assert suggested(matrix, ranks(known), Unit.ANNOTATION, count)[0] == whole[:count]


def test_what_has_a_label_is_left_out_whatever_it_says() -> None:
    matrix = matrix_of(photos())
    labelled = matrix.area_ids[[3, 50, 77]]
    known = concept(2, Labels(area_ids=labelled, values=np.array([0.0, 0.5, 1.0])))

    rows, _ = suggested(matrix, ranks(known), Unit.ANNOTATION)

    assert sorted(rows) == [row for row in range(ROWS) if row not in (3, 50, 77)]


def test_an_input_is_as_uncertain_as_its_likeliest_area_and_left_out_with_any_label() -> None:
    matrix = matrix_of(photos(), areas_each=3)
    labelled = int(matrix.input_numbers[10])
    known = concept(2, Labels(area_ids=matrix.area_ids[[10]], values=np.zeros(1)))
    likely = probabilities(matrix, known[0])
    best = {number: likely[matrix.input_numbers == number].max() for number in set(matrix.input_numbers.tolist())}
    expected = {number: 1 - abs(2 * p - 1) for number, p in best.items() if number != labelled}

    rows, scores = suggested(matrix, ranks(known), Unit.INPUT)
    numbers = matrix.input_numbers[rows].tolist()

    assert numbers == sorted(expected, key=lambda number: -expected[number])
    assert scores == pytest.approx([expected[number] for number in numbers], abs=1e-7)


def test_of_a_name_with_several_meanings_the_likeliest_counts() -> None:
    matrix, one, other = matrix_of(photos()), concept(2), concept(3)
    likelier = np.maximum(probabilities(matrix, one[0]), probabilities(matrix, other[0]))

    rows, scores = suggested(matrix, ranks(one, other), Unit.ANNOTATION)

    assert scores == pytest.approx(1 - np.abs(2 * likelier[rows] - 1), abs=1e-7)
    assert len(rows) == ROWS


def test_where_nothing_tells_nothing_is_uncertain() -> None:
    with pytest.raises(SearchInvalid, match="label a first example, or train a model"):
        suggest.by_uncertainty(ranks((Direction(vector=None), NO_LABELS)))


@pytest.mark.parametrize("probability", [0.5, 0.3, 0.7, 0.01, 1e-6])
def test_the_score_is_the_distance_from_even_odds(probability: float) -> None:
    found = suggest.uncertainty(np.sqrt(np.array([probability * (1 - probability)])))

    assert found == pytest.approx([1 - abs(2 * probability - 1)], rel=1e-6)


# Diversity ------------------------------------------------------------------------------------------------------------


def by_hand(uncertainties: Array, vectors: Array, count: int) -> list[int]:
    """The definition, without any shortcut."""
    chosen: list[int] = []
    while len(chosen) < min(count, len(uncertainties)):
        gains = [
            -1.0
            if place in chosen
            else uncertainties[place]
            * (1 - max([0.0, *(min(1.0, float(vectors[place] @ vectors[other])) for other in chosen)]))
            for place in range(len(uncertainties))
        ]
        chosen.append(int(np.argmax(gains)))
    return chosen


@pytest.mark.parametrize("seed", range(8))
def test_the_choice_is_the_greedy_one(seed: int) -> None:
    random = np.random.default_rng(seed)
    vectors, uncertainties = photos(30, seed=seed), np.sort(random.random(30))[::-1]

    assert suggest.diverse(uncertainties, vectors, 30).tolist() == by_hand(uncertainties, vectors, 30)


def test_copies_of_what_is_chosen_come_last() -> None:
    vectors = np.repeat(np.eye(DIMS)[:3], 4, axis=0)
    uncertainties = np.linspace(1.0, 0.5, 12)

    order = suggest.diverse(uncertainties, vectors, 12).tolist()

    assert order[:3] == [0, 4, 8]
    assert sorted(order) == list(range(12))


def test_a_page_is_a_part_of_the_same_order() -> None:
    vectors, uncertainties = photos(60), np.linspace(1.0, 0.2, 60)
    whole = suggest.diverse(uncertainties, vectors, 60).tolist()

    assert [suggest.diverse(uncertainties, vectors, count).tolist() for count in (1, 7, 59)] == [
        whole[:1],
        whole[:7],
        whole[:59],
    ]


def test_of_nothing_nothing_is_chosen() -> None:
    assert suggest.diverse(np.empty(0), np.empty((0, DIMS)), 10).tolist() == []


# The search -----------------------------------------------------------------------------------------------------------


def parsed(*items: dict[str, Any], algorithm: str = "active_learning") -> Query:
    message = json_format.ParseDict({"query": {"ranks": list(items)}, "algorithm": algorithm}, resources_pb2.Search())
    return parse_search(message, Unit.ANNOTATION, offset=0, limit=10)


def test_the_algorithm_asks_for_suggestions() -> None:
    assert parsed(CONCEPT).suggests
    assert not parsed(CONCEPT, algorithm="brute_force").suggests


def test_the_legacy_form_may_ask_too() -> None:
    search = resources_pb2.Search(algorithm="active_learning")
    query = json_format.ParseDict({"ands": [{"output": {"data": {"concepts": [{"id": "x"}]}}}]}, resources_pb2.Query())

    assert parse_legacy(query, search, offset=0, limit=10).suggests


@pytest.mark.parametrize(
    "items",
    [
        [],
        [CONCEPT, CONCEPT],
        [{"annotation": {"data": {"concepts": [{"id": "a"}, {"id": "b"}]}}}],
        [{"annotation": {"input_id": "a"}}],
        [{"annotation": {"data": {"text": {"raw": "dog"}}}}],
        [CONCEPT, {"annotation": {"input_id": "a"}}],
    ],
)
def test_anything_but_one_concept_is_refused(items: list[dict[str, Any]]) -> None:
    with pytest.raises(SearchInvalid, match="exactly one rank with exactly one concept"):
        parsed(*items)


def test_the_pool_does_not_depend_on_the_page_within_it() -> None:
    query = replace(parsed(CONCEPT), min_value=0.3)

    first, second = suggest.widened(query), suggest.widened(replace(query, offset=40, limit=20))

    assert first == second
    assert (first.offset, first.limit, first.min_value) == (0, suggest.POOL, 0.0)
    assert suggest.widened(replace(query, offset=900, limit=20)).limit == 920
