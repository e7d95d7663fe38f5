"""What was used last, in memory: as much as fits."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


class RecentlyUsed(Generic[_Key, _Value]):
    """Values by key, up to ``max_bytes`` of them; the one used longest ago goes first. One larger than all is kept
    alone: whoever needs it needs it again."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[_Key, tuple[_Value, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: _Key) -> _Value | None:
        found = self._kept.get(key)
        if found is None:
            return None
        self._kept.move_to_end(key)
        return found[0]

    def put(self, key: _Key, value: _Value, size_bytes: int) -> None:
        """Keeps the value in place of another one of that key."""
        self._bytes += size_bytes - self._kept.pop(key, (None, 0))[1]
        self._kept[key] = (value, size_bytes)
        while self._bytes > self._max_bytes and len(self._kept) > 1:
            _, (_, gone_bytes) = self._kept.popitem(last=False)
            self._bytes -= gone_bytes
