"""What a trained version is: it predicts the same by its probabilities, by its rows, and after a journey as bytes."""

from __future__ import annotations

import numpy as np
import pytest

from sightrank.search.compile import fitted_direction
from sightrank.search.score import log_probability
from sightrank.vision.concept_model import ConceptModel

DIMS = 8
IDS = ("dog", "cat", "bird")


def model(*, exclusive: bool, ids: tuple[str, ...] = IDS) -> ConceptModel:
    random = np.random.default_rng(4)
    directions = random.normal(size=(len(ids), DIMS))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    scale, bias = random.uniform(2, 9, len(ids)).astype(np.float32), random.normal(size=len(ids)).astype(np.float32)
    return ConceptModel(ids, directions.astype(np.float32), scale, bias, exclusive=exclusive)


@pytest.mark.parametrize("exclusive", [False, True])
def test_a_direction_says_what_the_probabilities_say(exclusive: bool) -> None:
    vectors = np.random.default_rng(5).normal(size=(20, DIMS))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    probabilities = ConceptModel.load(model(exclusive=exclusive).dump()).probabilities(vectors.astype(np.float32))

    for column, concept_id in enumerate(IDS):
        direction = fitted_direction(model(exclusive=exclusive), ("nobody's", concept_id))
        assert direction is not None
        own, *rivals = [vectors @ vector for vector in direction.vectors]
        assert len(rivals) == (2 if exclusive else 0)
        assert np.exp(log_probability(direction, own, rivals).yes) == pytest.approx(probabilities[:, column], abs=1e-6)


def test_what_a_model_does_not_know_has_no_direction() -> None:
    assert fitted_direction(model(exclusive=True), ("fish",)) is None
    assert model(exclusive=True).logits("fish") == ()


def test_a_concept_alone_excludes_nothing() -> None:
    alone = fitted_direction(model(exclusive=True, ids=("dog",)), ("dog",))

    assert alone is not None
    assert alone.rivals == ()
