"""What runs beside the server ends with it, also when a cancellation goes astray."""

from __future__ import annotations

import asyncio

import pytest

from sightrank import background


def test_a_task_that_forgets_a_cancellation_is_ended_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_CANCEL_AGAIN_S", 0.01)
    forgotten = 0

    async def forgetful() -> None:
        nonlocal forgotten
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                forgotten += 1
                if forgotten == 3:
                    raise

    async def scenario() -> None:
        async with asyncio.timeout(10), background.background(forgetful()):
            await asyncio.sleep(0)

    asyncio.run(scenario())
    assert forgotten == 3


def test_a_task_that_failed_does_not_keep_the_others_from_ending() -> None:
    async def failing() -> None:
        raise RuntimeError("broken")

    async def waiting() -> None:
        await asyncio.Event().wait()

    async def scenario() -> list[bool]:
        tasks = [asyncio.create_task(failing()), asyncio.create_task(waiting())]
        await asyncio.sleep(0)
        async with asyncio.timeout(10):
            await background.end(tasks)
        return [task.cancelled() for task in tasks]

    assert asyncio.run(scenario()) == [False, True]


def test_a_block_whose_task_failed_ends_as_usual() -> None:
    reached = []

    async def failing() -> None:
        raise RuntimeError("broken")

    async def scenario() -> None:
        async with asyncio.timeout(10), background.background(failing()):
            await asyncio.sleep(0)
        reached.append("behind")

    asyncio.run(scenario())
    assert reached == ["behind"]
