"""Many readers or one writer: never both, nobody starves, and who is cancelled leaves nothing behind."""

from __future__ import annotations

import asyncio

import pytest

from sightrank.search.readers import Readers


def test_readers_are_inside_together() -> None:
    async def scenario() -> list[int]:
        readers, inside = Readers(), asyncio.Barrier(3)

        async def read() -> int:
            async with readers.reading():
                return await asyncio.wait_for(inside.wait(), 60)

        return await asyncio.gather(read(), read(), read())

    # Each passed the barrier, which opens only for all three at once.
    assert sorted(asyncio.run(scenario())) == [0, 1, 2]


def test_a_writer_is_alone_and_goes_before_later_readers() -> None:
    async def scenario() -> list[str]:
        readers, leave, order = Readers(), asyncio.Event(), list[str]()

        async def read(name: str, until: asyncio.Event | None = None) -> None:
            async with readers.reading():
                order.append(f"{name} in")
                if until is not None:
                    await until.wait()
                order.append(f"{name} out")

        async def write() -> None:
            async with readers.writing():
                order.append("writer in")
                await asyncio.sleep(0)
                order.append("writer out")

        first = asyncio.create_task(read("first", leave))
        await asyncio.sleep(0)
        writer = asyncio.create_task(write())
        await asyncio.sleep(0)
        second = asyncio.create_task(read("second"))
        await asyncio.sleep(0)
        leave.set()
        await asyncio.gather(first, writer, second)
        return order

    assert asyncio.run(scenario()) == ["first in", "first out", "writer in", "writer out", "second in", "second out"]


def test_a_writer_that_gives_up_waiting_lets_readers_in_again() -> None:
    async def scenario() -> None:
        readers, leave = Readers(), asyncio.Event()

        async def read() -> None:
            async with readers.reading():
                await leave.wait()

        async def write() -> None:
            async with readers.writing():
                raise AssertionError("a reader is inside")

        first = asyncio.create_task(read())
        await asyncio.sleep(0)
        writer = asyncio.create_task(write())
        await asyncio.sleep(0)
        second = asyncio.create_task(read())
        await asyncio.sleep(0)
        writer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writer
        leave.set()
        await asyncio.wait_for(asyncio.gather(first, second), 60)

    asyncio.run(scenario())


def test_a_reader_that_fails_or_is_cancelled_makes_way_for_the_writer() -> None:
    async def scenario() -> None:
        readers = Readers()

        async def fail() -> None:
            async with readers.reading():
                raise ValueError("inside")

        async def wait() -> None:
            async with readers.reading():
                await asyncio.Event().wait()

        with pytest.raises(ValueError, match="inside"):
            await fail()
        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0)
        waiting.cancel()
        async with asyncio.timeout(60), readers.writing():
            pass
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(scenario())
