"""Reading a request body: bounded in size, in time, and in the memory all unfinished bodies take together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sightrank.errors import BadRequestFormat, DeadlinePassed, MessageTooLarge, ServerBusy
from sightrank.wire.packing import Packing, unpacked

#: One ASGI event from the client.
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class BodyTooSlow(DeadlinePassed):
    """The client stopped sending, or sends too slowly; the connection is closed after the answer."""


@dataclass(slots=True)
class _Held:
    """Bytes of all bodies that are being read or used."""

    size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyReader:
    """``idle_s`` bounds each wait for the next piece, ``total_s`` the whole body."""

    max_bytes: int
    max_held_bytes: int
    idle_s: float
    total_s: float
    _held: _Held = field(default_factory=_Held, init=False)

    @contextmanager
    def lease(self) -> Iterator[BodyLease]:
        """The right to hold one body; its bytes count until the block ends."""
        lease = BodyLease(self)
        try:
            yield lease
        finally:
            self._held.size -= lease.size

    def count(self, size: int) -> None:
        if self._held.size + size > self.max_held_bytes:
            raise ServerBusy("Too many large requests are being read at once: try again shortly.")
        self._held.size += size


class BodyLease:
    """Reads one body."""

    def __init__(self, reader: BodyReader) -> None:
        self._reader = reader
        self.size = 0

    async def read(self, receive: Receive, content_length: int | None) -> bytes:
        """The whole body. Raises MessageTooLarge, BodyTooSlow, ServerBusy, or BadRequestFormat when it breaks off."""
        self._check_size(content_length or 0)
        try:
            async with asyncio.timeout(self._reader.total_s):
                return await self._collect(receive)
        except TimeoutError:
            seconds = min(self._reader.idle_s, self._reader.total_s)
            raise BodyTooSlow(f"The request body did not arrive in time (within {seconds:g} s).") from None

    async def unpack(self, body: bytes, packing: Packing) -> bytes:
        """What is in a packed body, under the same bounds. Raises MessageTooLarge, ServerBusy or BadRequestFormat."""
        pieces: list[bytes] = []
        source = unpacked(body, packing)
        size = 0
        while (piece := await asyncio.to_thread(next, source, None)) is not None:
            size += len(piece)
            self._check_size(size)
            self._reader.count(len(piece))
            self.size += len(piece)
            pieces.append(piece)
        return b"".join(pieces)

    async def _collect(self, receive: Receive) -> bytes:
        pieces: list[bytes] = []
        while True:
            async with asyncio.timeout(self._reader.idle_s):
                event = await receive()
            if event["type"] == "http.disconnect":
                raise BadRequestFormat("The connection closed before the body was complete.")
            piece: bytes = event.get("body", b"")
            self._check_size(self.size + len(piece))
            self._reader.count(len(piece))
            self.size += len(piece)
            pieces.append(piece)
            if not event.get("more_body", False):
                return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _check_size(self, size: int) -> None:
        if size > self._reader.max_bytes:
            limit = self._reader.max_bytes
            raise MessageTooLarge(f"The request body has more than {limit} bytes: send fewer inputs at once.")
