"""Turns for downloads: so many at once from one host, so many in all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class HostSlots:
    """At most ``per_host`` downloads from one host and ``total`` altogether.

    The turn at the host comes first, so downloads that wait for a slow host keep no general turn from the others. A
    host is forgotten when nobody uses it or waits for it, so the map never outgrows the waiting downloads.
    """

    def __init__(self, *, per_host: int, total: int) -> None:
        self._per_host = per_host
        self._total = asyncio.Semaphore(total)
        self._hosts: dict[str, asyncio.Semaphore] = {}
        self._users: dict[str, int] = {}

    def __len__(self) -> int:
        """How many hosts are in use or waited for."""
        return len(self._hosts)

    @asynccontextmanager
    async def turn(self, host: str) -> AsyncIterator[None]:
        """Waits for a turn at ``host`` and holds it."""
        at_host = self._hosts.setdefault(host, asyncio.Semaphore(self._per_host))
        self._users[host] = self._users.get(host, 0) + 1
        try:
            async with at_host, self._total:
                yield
        finally:
            self._users[host] -= 1
            if not self._users[host]:
                del self._users[host], self._hosts[host]
