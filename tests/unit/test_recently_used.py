"""What is kept of what was used last, within so many bytes."""

from __future__ import annotations

from sightrank.search.recent import RecentlyUsed


def test_what_was_used_longest_ago_makes_room() -> None:
    kept: RecentlyUsed[str, int] = RecentlyUsed(10)
    kept.put("a", 1, 4)
    kept.put("b", 2, 4)
    assert kept.get("a") == 1

    kept.put("c", 3, 4)

    assert [kept.get(key) for key in "abc"] == [1, None, 3]


def test_a_value_takes_the_place_of_its_forerunner_and_of_its_bytes() -> None:
    kept: RecentlyUsed[str, int] = RecentlyUsed(10)
    kept.put("a", 1, 8)
    kept.put("a", 2, 2)
    kept.put("b", 3, 8)

    assert [kept.get(key) for key in "ab"] == [2, 3]


def test_one_that_is_too_large_is_kept_alone() -> None:
    kept: RecentlyUsed[str, int] = RecentlyUsed(10)
    kept.put("a", 1, 4)
    kept.put("b", 2, 100)
    assert [kept.get(key) for key in "ab"] == [None, 2]

    kept.put("c", 3, 4)

    assert [kept.get(key) for key in "bc"] == [None, 3]
    assert len(kept) == 1
