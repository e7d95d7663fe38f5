"""The two lanes: ingest begins nothing new while an answer is being made, and still goes on where people never stop."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from sightrank.vision.threads import Lane, Threads

DEADLINE_S = 60.0


@asynccontextmanager
async def lanes() -> AsyncIterator[Threads]:
    threads = Threads(1)
    try:
        yield threads
    finally:
        await asyncio.to_thread(threads.close)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ingest gives way for longer than a test lasts."""
    monkeypatch.setattr("sightrank.vision.threads._GIVES_WAY_S", 10 * DEADLINE_S)


@pytest.mark.usefixtures("patient")
def test_ingest_begins_nothing_while_somebody_waits_for_an_answer() -> None:
    async def scenario() -> list[str]:
        begun: list[str] = []
        async with lanes() as threads, asyncio.timeout(DEADLINE_S):
            await threads.decode(Lane.INGEST, lambda: begun.append("before"))
            with threads.answering():
                waiting = asyncio.create_task(threads.decode(Lane.INGEST, lambda: begun.append("after")))
                await asyncio.sleep(0)
                await threads.decode(Lane.INTERACTIVE, lambda: begun.append("person"))
            await waiting
        return begun

    assert asyncio.run(scenario()) == ["before", "person", "after"]


def test_ingest_goes_on_as_soon_as_the_last_answer_is_made() -> None:
    async def scenario() -> list[str]:
        order: list[str] = []
        async with lanes() as threads:
            with threads.answering():
                with threads.answering():
                    waiting = asyncio.create_task(threads.give_way())
                    waiting.add_done_callback(lambda _: order.append("ingest"))
                    await asyncio.sleep(0)
                order.append("one left")
            order.append("none left")
            async with asyncio.timeout(DEADLINE_S):
                await waiting
                await asyncio.sleep(0)
        return order

    assert asyncio.run(scenario()) == ["one left", "none left", "ingest"]


def test_ingest_goes_on_slowly_where_somebody_always_waits() -> None:
    async def scenario() -> int:
        async with lanes() as threads:
            with threads.answering():
                async with asyncio.timeout(DEADLINE_S):
                    return sum([await threads.infer(Lane.INGEST, lambda: 1) for _ in range(3)])

    assert asyncio.run(scenario()) == 3


@pytest.mark.usefixtures("patient")
def test_an_answer_that_fails_holds_nobody_up() -> None:
    async def scenario() -> int:
        async with lanes() as threads, asyncio.timeout(DEADLINE_S):
            with pytest.raises(ValueError, match="broken"), threads.answering():
                raise ValueError("broken")
            return await threads.decode(Lane.INGEST, lambda: 1)

    assert asyncio.run(scenario()) == 1


@pytest.mark.skipif(os.uname().sysname != "Linux", reason="only Linux has priorities by thread")
def test_threads_of_ingest_have_a_lower_priority() -> None:
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    async def scenario() -> tuple[int, int]:
        async with lanes() as threads:
            return await threads.infer(Lane.INTERACTIVE, niceness), await threads.infer(Lane.INGEST, niceness)

    own = os.getpriority(os.PRIO_PROCESS, 0)
    interactive, ingest = asyncio.run(scenario())

    assert interactive == own
    assert ingest == max(own, 10)


def test_what_learns_makes_way_for_an_answer_but_not_for_ever() -> None:
    """Asked in its thread, between two pieces of work."""

    async def scenario() -> float:
        def made_way() -> float:
            started = time.monotonic()
            threads.make_way()
            return time.monotonic() - started

        async with lanes() as threads, asyncio.timeout(DEADLINE_S):
            await threads.learn(made_way)
            with threads.answering():
                return await threads.learn(made_way)

    assert asyncio.run(scenario()) >= 0.05
