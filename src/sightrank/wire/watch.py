"""Deadlines of HTTP/1 connections, which uvicorn has only in part: it never gives up on a half-sent request head.

The rule is one: a connection that runs no request must start one in time. The listener makes a ``ConnectionWatch`` per
connection and passes it to the application in the ASGI ``state``; the application says when requests run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import Message, Scope, Send

STATE_KEY = "sightrank.connection_watch"


class ConnectionWatch:
    """Cuts a connection whose first request has not started after ``first_s``, or a later one after ``wait_s``.

    A client that is still taking the last answer, however slowly, counts as alive.
    """

    def __init__(self, transport: asyncio.Transport, *, first_s: float, wait_s: float) -> None:
        self._transport = transport
        self._wait_s = wait_s
        self._running = 0
        self._unsent = 0
        self._timer = self._arm(first_s)

    def request_started(self) -> None:
        self._running += 1
        self._timer.cancel()

    def request_finished(self) -> None:
        self._running -= 1
        if not self._running and not self._transport.is_closing():
            self._timer.cancel()
            self._unsent = self._transport.get_write_buffer_size()
            self._timer = self._arm(self._wait_s)

    def _arm(self, seconds: float) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(seconds, self._expire)

    def _expire(self) -> None:
        before, self._unsent = self._unsent, self._transport.get_write_buffer_size()
        if 0 < self._unsent < before:
            self._timer = self._arm(self._wait_s)
        else:
            self._transport.abort()


@contextmanager
def requests_of(scope: Scope) -> Iterator[None]:
    """Tell the connection's watch, if it has one, that a request runs within this block."""
    watch: ConnectionWatch | None = scope.get("state", {}).get(STATE_KEY)
    if watch is None:
        yield
        return
    watch.request_started()
    try:
        yield
    finally:
        watch.request_finished()


def send_in_time(send: Send, seconds: float) -> Send:
    """``send`` that fails when the client takes nothing for ``seconds``."""

    async def send_bounded(message: Message) -> None:
        async with asyncio.timeout(seconds):
            await send(message)

    return send_bounded
