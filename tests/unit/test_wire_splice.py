"""Two joined connections: back-pressure, half-close, and the end of either side."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from sightrank.wire.splice import SpliceEnd, splice

WAIT_S = 10.0
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Use = Callable[[asyncio.StreamReader, asyncio.StreamWriter, set[SpliceEnd]], Awaitable[None]]


class Front(asyncio.Protocol):
    """Splices every connection from its first bytes on."""

    def __init__(self, path: str, ends: set[SpliceEnd], tasks: set[asyncio.Task[None]]) -> None:
        self._path, self._ends, self._tasks = path, ends, tasks
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.pause_reading()
        self._tasks.add(asyncio.ensure_future(splice(self._transport, data, self._path, self._ends, wait_s=WAIT_S)))


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not happened():  # noqa: ASYNC110 (a few loop turns, not an event worth a channel)
            await asyncio.sleep(0.01)


def through(serve: Serve, use: Use) -> None:
    async def run(path: str) -> None:
        ends: set[SpliceEnd] = set()
        tasks: set[asyncio.Task[None]] = set()
        back = await asyncio.start_unix_server(serve, path)
        front = await asyncio.get_running_loop().create_server(lambda: Front(path, ends, tasks), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*front.sockets[0].getsockname()[:2])
        async with asyncio.timeout(60):
            await use(reader, writer, ends)
            writer.close()
            front.close()
            back.close()
            await until(lambda: not ends)
        await asyncio.gather(*tasks)

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(str(Path(folder) / "s")))


def test_a_reader_that_stops_stops_the_writer() -> None:
    total, piece = 64 * 1024 * 1024, 64 * 1024
    sent = 0

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.read(1)
        while sent < total:
            writer.write(bytes(piece))
            await writer.drain()
            sent += piece
        writer.close()

    async def use(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ends: set[SpliceEnd]) -> None:
        writer.write(b"x")
        await asyncio.sleep(0.5)
        # Socket buffers of the kernel on both hops, and one write buffer between them.
        assert sent < 16 * 1024 * 1024
        received = 0
        while data := await reader.read(1024 * 1024):
            received += len(data)
        assert received == total

    through(pour, use)


def test_what_was_read_first_and_what_follows_arrive_in_order() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(300_000))
        writer.close()

    async def use(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ends: set[SpliceEnd]) -> None:
        data = bytes(range(250)) * 1200
        writer.write(data[:10])
        await asyncio.sleep(0.01)
        writer.write(data[10:])
        assert await reader.read(-1) == data

    through(echo, use)


def test_a_half_closed_client_still_gets_its_answer() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        question = await reader.read(-1)
        await asyncio.sleep(0.05)
        writer.write(question[::-1])
        writer.close()

    async def use(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ends: set[SpliceEnd]) -> None:
        writer.write(b"abc")
        writer.write_eof()
        assert await reader.read(-1) == b"cba"

    through(answer, use)


def test_a_client_that_leaves_closes_the_server_side() -> None:
    left = False

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal left
        await reader.read(-1)
        left = True
        writer.close()

    async def use(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ends: set[SpliceEnd]) -> None:
        writer.write(b"abc")
        await until(lambda: len(ends) == 2)
        writer.transport.abort()
        await until(lambda: left)

    through(wait, use)


def test_a_client_that_left_while_connecting() -> None:
    async def run(path: str) -> None:
        ends: set[SpliceEnd] = set()
        seen: list[bytes] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen.append(await reader.read(-1))
            writer.close()

        back = await asyncio.start_unix_server(serve, path)
        near, far = asyncio.Protocol(), asyncio.Protocol()
        loop = asyncio.get_running_loop()
        front = await loop.create_server(lambda: near, "127.0.0.1", 0)
        client, _ = await loop.create_connection(lambda: far, *front.sockets[0].getsockname()[:2])
        client.pause_reading()
        joining = asyncio.ensure_future(splice(client, b"abc", path, ends, wait_s=WAIT_S))
        await asyncio.sleep(0)
        client.abort()
        await joining
        await until(lambda: not ends and bool(seen))
        assert seen == [b""]
        front.close()
        back.close()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(str(Path(folder) / "s")))
