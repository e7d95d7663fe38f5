"""Two connections joined into one: what arrives on either is sent on the other.

Back-pressure is the transports': when one side cannot take more, reading from the other pauses, so at most one write
buffer per direction is held. A side that closes closes the other once what is on its way has been delivered, and a
delivery that does not end within a deadline is cut.
"""

from __future__ import annotations

import asyncio

_BUFFER_BYTES = 256 * 1024


class SpliceEnd(asyncio.Protocol):
    """One side of the joint, listed in ``ends`` while it is open. ``other`` is set before the first byte."""

    def __init__(self, ends: set[SpliceEnd], linger_s: float) -> None:
        self._ends = ends
        self.other: SpliceEnd
        self._transport: asyncio.Transport
        self._connected = False
        self._linger_s = linger_s
        self._ended = False
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.set_write_buffer_limits(high=_BUFFER_BYTES)
        self._transport = transport
        self._connected = True
        self._ends.add(self)

    def data_received(self, data: bytes) -> None:
        self.other.write(data)

    def pause_writing(self) -> None:
        self.other.pause_reading()

    def resume_writing(self) -> None:
        self.other.resume_reading()

    def eof_received(self) -> bool:
        self._ended = True
        if self.other.has_ended() or not self.other.finish_writing() or not self._transport.can_write_eof():
            # Both have said all, or one is TLS, which has no half-close: then the end is the end.
            self.close()
            self.other.close()
        else:
            # HTTP/2 has no use for half a connection, so what is still to be said must be said soon.
            asyncio.get_running_loop().call_later(self._linger_s, self.other.close)
        return self._transport.can_write_eof()

    def connection_lost(self, error: Exception | None) -> None:
        self._ends.discard(self)
        if not self.closed.done():
            self.closed.set_result(None)
        self.other.close()

    def has_ended(self) -> bool:
        """Whether this side has said all it will."""
        return self._ended

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    def pause_reading(self) -> None:
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def finish_writing(self) -> bool:
        if self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()
            return True
        return False

    def close(self) -> None:
        """Close after delivering what is buffered, within the deadline."""
        if self._connected and not self._transport.is_closing():
            self._transport.close()
            asyncio.get_running_loop().call_later(self._linger_s, self._transport.abort)

    def abort(self) -> None:
        if self._connected:
            self._transport.abort()


async def splice(
    client: asyncio.Transport, received: bytes, socket_path: str, ends: set[SpliceEnd], *, wait_s: float
) -> None:
    """Join a client's paused connection, of which ``received`` has been read, to a server behind a unix socket.

    ``ends`` lists the open ends; ``wait_s`` bounds the connecting and, at the end, the delivery of what is buffered.
    """
    near, far = SpliceEnd(ends, wait_s), SpliceEnd(ends, wait_s)
    near.other, far.other = far, near
    near.connection_made(client)
    client.set_protocol(near)
    async with asyncio.timeout(wait_s):
        await asyncio.get_running_loop().create_unix_connection(lambda: far, socket_path)
    if client.is_closing():
        far.abort()
        return
    far.write(received)
    near.resume_reading()
