"""Creation times that never repeat or go back within a process, so that order by creation is the order of posting."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

_TICK = timedelta(microseconds=1)


class Clock:
    """Hands out instants at least one microsecond apart."""

    def __init__(self) -> None:
        self._last = datetime.min.replace(tzinfo=UTC)

    def take(self, count: int, *, after: datetime | None = None) -> Sequence[datetime]:
        """``count`` strictly increasing instants from now on; ``after``: and after that one, which another process's
        clock may have told. That is one matter's business, and other instants are not put off by it."""
        start = max(datetime.now(UTC), self._last + _TICK)
        self._last = max(self._last, start + (count - 1) * _TICK)
        first = start if after is None else max(start, after + _TICK)
        return [first + i * _TICK for i in range(count)]


def microseconds(instant: datetime) -> int:
    """Microseconds since 1970."""
    return round((instant - datetime.fromtimestamp(0, UTC)) / timedelta(microseconds=1))
