"""Creation times that never repeat or go back within a process, so that order by creation is the order of posting."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta


class Clock:
    """Hands out instants at least one microsecond apart."""

    def __init__(self) -> None:
        self._last = datetime.min.replace(tzinfo=UTC)

    def take(self, count: int) -> Sequence[datetime]:
        """``count`` strictly increasing instants from now on."""
        start = max(datetime.now(UTC), self._last + timedelta(microseconds=1))
        instants = [start + timedelta(microseconds=i) for i in range(count)]
        if instants:
            self._last = instants[-1]
        return instants

    def pass_by(self, instant: datetime) -> None:
        """All instants from now on are later than that one, which another process's clock may have told."""
        self._last = max(self._last, instant)


def microseconds(instant: datetime) -> int:
    """Microseconds since 1970."""
    return round((instant - datetime.fromtimestamp(0, UTC)) / timedelta(microseconds=1))
