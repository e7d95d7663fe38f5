"""Kept candidates: for one version only, within bounds."""

from __future__ import annotations

import numpy as np
import pytest

from sightrank.search import candidates
from sightrank.search.candidates import CandidateCache, Candidates, key_of
from sightrank.search.query import ConceptCondition, ConceptName, FieldCondition, Filter, Query, Unit
from sightrank.search.sql import FilterScope
from sightrank.search.versions import Versions

DOG = ConceptName(name="dog")


def versions(number: int) -> Versions:
    return Versions(all=number, labels=number)


def found(version: int, *area_ids: int, annotation_ids: list[str] | None = None) -> Candidates:
    return Candidates(versions=versions(version), area_ids=np.array(area_ids, np.int64), annotation_ids=annotation_ids)


def key(field: str = "input.id", value: str = "a", *, unit: Unit = Unit.ANNOTATION, bucket: int = 1) -> candidates.Key:
    condition = Filter(groups=((FieldCondition(field=field, value=value),),))
    query = Query(unit=unit, filters=(condition,), ranks=(), min_value=0.0, offset=0, limit=10)
    return key_of(query, FilterScope(bucket=bucket, concepts={}))


def test_a_set_is_given_for_its_own_version_only() -> None:
    cache = CandidateCache()
    cache.put(key(), found(7, 1, 2))

    assert cache.get(key(), versions(6)) is None
    assert cache.get(key(), versions(8)) is None
    held = cache.get(key(), versions(7))
    assert held is not None
    assert held.area_ids.tolist() == [1, 2]


def test_other_filters_apps_and_units_are_other_sets() -> None:
    cache = CandidateCache()
    cache.put(key(), found(7, 1))

    for other in (key(value="b"), key(field="input.media"), key(unit=Unit.INPUT), key(bucket=2)):
        assert cache.get(other, versions(7)) is None


def test_a_concept_that_means_something_else_now_is_another_set() -> None:
    condition = Filter(groups=((ConceptCondition(concept=DOG, positive=True),),))
    query = Query(unit=Unit.INPUT, filters=(condition,), ranks=(), min_value=0.0, offset=0, limit=10)

    before = key_of(query, FilterScope(bucket=1, concepts={DOG: (("ai_dog",),)}))
    after = key_of(query, FilterScope(bucket=1, concepts={DOG: (("ai_dog", "my-dog"),)}))

    assert before != after


def test_a_newer_set_takes_the_place_of_the_older() -> None:
    cache = CandidateCache()
    cache.put(key(), found(7, 1))
    cache.put(key(), found(8, 2))

    assert cache.get(key(), versions(7)) is None
    assert cache.get(key(), versions(8)) is not None


def test_the_least_recently_used_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "_SETS", 2)
    cache = CandidateCache()
    a, b, c = (key(value=value) for value in "abc")
    cache.put(a, found(1, 1))
    cache.put(b, found(1, 2))
    cache.get(a, versions(1))
    cache.put(c, found(1, 3))

    assert [cache.get(one, versions(1)) is not None for one in (a, b, c)] == [True, False, True]


def test_sets_stay_within_their_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "_BYTES", 4000)
    cache = CandidateCache()
    for i in range(10):
        cache.put(key(value=str(i)), found(1, *range(100)))  # 800 bytes each
    held = [i for i in range(10) if cache.get(key(value=str(i)), versions(1)) is not None]
    cache.put(key(value="huge"), found(1, *range(1000)))

    assert held == [5, 6, 7, 8, 9]
    assert cache.get(key(value="huge"), versions(1)) is None


def test_each_area_has_its_annotation() -> None:
    held = found(1, 30, 10, 20, annotation_ids=["thirty", "ten", "twenty"])

    assert held.annotations_of(np.array([10, 30, 20])) == ["ten", "thirty", "twenty"]
    assert held.annotations_of(np.empty(0, np.int64)) == []
    assert found(1, 30, 10).annotations_of(np.array([10])) == [None]


def test_the_share_of_survivors_is_remembered_until_there_are_few() -> None:
    cache = CandidateCache()
    unknown = cache.share_of_many(key())
    cache.note_many(key(), 0.25)
    many = cache.share_of_many(key())
    cache.note_few(key())

    assert (unknown, many, cache.share_of_many(key())) == (None, 0.25, None)
