"""Instants that neither repeat nor go back, and those that must be after another process's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sightrank.store.clock import Clock

TICK = timedelta(microseconds=1)


def test_instants_increase_within_a_call_and_from_call_to_call() -> None:
    clock = Clock()
    taken = [instant for _ in range(50) for instant in clock.take(20)]
    assert taken == sorted(set(taken))
    assert list(clock.take(0)) == []


def test_instants_are_after_one_that_is_ahead_and_others_are_not_put_off_by_it() -> None:
    clock = Clock()
    ahead = datetime.now(UTC) + timedelta(hours=1)

    put_off = clock.take(3, after=ahead)
    others = clock.take(2)

    assert list(put_off) == [ahead + TICK, ahead + 2 * TICK, ahead + 3 * TICK]
    assert max(others) < ahead
    assert clock.take(1, after=datetime.now(UTC) - timedelta(hours=1))[0] > max(others)
