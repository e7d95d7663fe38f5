"""Values that are asked for on every call and change rarely: kept for a short time, loaded once for all who wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

_MAX_ENTRIES = 10_000


class ShortCache(Generic[K, V]):
    """Remembers found values for ``ttl_s`` seconds; what was not found (None) is asked for again.

    ``forget`` drops everything at once: a load that began before it cannot bring an old value back. The bound on
    entries is a guard, not a policy: a full cache starts over.
    """

    def __init__(self, ttl_s: float, clock: Callable[[], float]) -> None:
        self._ttl_s = ttl_s
        self._clock = clock
        self._found: dict[K, tuple[float, V]] = {}
        self._loading: dict[K, asyncio.Task[V | None]] = {}

    async def get(self, key: K, load: Callable[[], Awaitable[V | None]]) -> V | None:
        entry = self._found.get(key)
        if entry is not None and entry[0] > self._clock():
            return entry[1]
        task = self._loading.get(key)
        if task is None:
            task = asyncio.create_task(self._load(key, load, self._found, self._loading))
            self._loading[key] = task
        # One caller who gives up must not take the answer from the others.
        return await asyncio.shield(task)

    def forget(self) -> None:
        self._found = {}
        self._loading = {}

    async def _load(
        self,
        key: K,
        load: Callable[[], Awaitable[V | None]],
        found: dict[K, tuple[float, V]],
        loading: dict[K, asyncio.Task[V | None]],
    ) -> V | None:
        try:
            value = await load()
        finally:
            loading.pop(key, None)
        if value is not None:
            if len(found) >= _MAX_ENTRIES:
                found.clear()
            found[key] = (self._clock() + self._ttl_s, value)
        return value
