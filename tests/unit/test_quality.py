"""The measured quality of concepts: what the bundle says of its own, and files that say something else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sightrank.vision.bundle import BundleError, built_in_bundle, load_bundle
from sightrank.vision.quality import Quality, Verdict
from sightrank.vision.tagger import Tagger
from sightrank.vision.vocabulary import Vocabulary

BUNDLE = load_bundle(built_in_bundle())
VOCABULARY = Vocabulary.load(BUNDLE.vocabulary)
QUALITY = Quality.load(built_in_bundle())
LEAST_PRECISION, LEAST_AREA, LEAST_POSITIVES = 0.2, 0.8, 5


def test_every_concept_is_measured_or_marked_and_of_this_version() -> None:
    assert QUALITY.version == BUNDLE.version, "run `python -m training.evaluate --card`"
    assert set(QUALITY.concepts) == {term.id for term in VOCABULARY}
    assert len(VOCABULARY) >= 300


@pytest.mark.parametrize("name", [term.name for term in VOCABULARY])
def test_verdicts_follow_from_the_figures(name: str) -> None:
    (concept_id,) = VOCABULARY.by_name(name)
    found = QUALITY.of(concept_id)
    weak = {
        place
        for place, measure in found.sets.items()
        if measure.average_precision < LEAST_PRECISION or measure.roc_auc < LEAST_AREA
    }

    assert all(measure.positives >= LEAST_POSITIVES for measure in found.sets.values())
    if not found.sets:
        assert found.verdict is Verdict.UNMEASURED
    elif not weak:
        assert found.verdict is Verdict.GOOD
    elif weak == {"photographs"} and "evaluation" in found.sets:
        assert found.verdict is Verdict.WEAK_ON_PHOTOGRAPHS
    else:
        assert found.verdict is Verdict.WEAK


def test_what_the_tagger_does_not_predict_is_unmeasured() -> None:
    predicted = set(Tagger.load(BUNDLE).ids)

    for term in VOCABULARY:
        if term.id not in predicted:
            assert QUALITY.of(term.id).verdict is Verdict.UNMEASURED
    assert QUALITY.of("no such concept").verdict is Verdict.UNMEASURED


@pytest.mark.parametrize("name", ["dog", "cat", "car", "beach", "mountain", "food"])
def test_concepts_that_people_search_by_most_keep_their_area(name: str) -> None:
    (concept_id,) = VOCABULARY.by_name(name)

    assert QUALITY.of(concept_id).sets["evaluation"].roc_auc >= 0.9


def test_people_are_judged_on_full_photographs_and_fall_a_little_short() -> None:
    (concept_id,) = VOCABULARY.by_name("people")

    assert QUALITY.of(concept_id).sets["photographs"].roc_auc >= 0.86


@pytest.mark.parametrize(
    "content",
    [
        "no JSON",
        [],
        {"version": "1"},
        {"version": "1", "concepts": {"a": {"verdict": "splendid", "sets": {}}}},
        {"version": "1", "concepts": {"a": {"verdict": "good", "sets": {"evaluation": {"positives": 5}}}}},
        {"version": "1", "concepts": {"a": {"verdict": "good", "sets": {"evaluation": 5}}}},
    ],
)
def test_a_file_that_is_something_else_is_refused_by_name(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "quality.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))

    with pytest.raises(BundleError, match=r"quality\.json"):
        Quality.load(tmp_path)


def test_a_bundle_without_measures_is_told(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"quality\.json cannot be read"):
        Quality.load(tmp_path)
