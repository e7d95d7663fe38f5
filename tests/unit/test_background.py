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
        async with asyncio.timeout(60), background.background(forgetful()):
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
        async with asyncio.timeout(60):
            await background.end(tasks)
        return [task.cancelled() for task in tasks]

    assert asyncio.run(scenario()) == [False, True]


def test_a_block_whose_task_failed_ends_as_usual() -> None:
    reached = []

    async def failing() -> None:
        raise RuntimeError("broken")

    async def scenario() -> None:
        async with asyncio.timeout(60), background.background(failing()):
            await asyncio.sleep(0)
        reached.append("behind")

    asyncio.run(scenario())
    assert reached == ["behind"]


def test_what_was_taken_arrives_also_where_the_taker_is_cancelled_meanwhile() -> None:
    kept: list[str] = []

    async def scenario() -> None:
        begun, gate = asyncio.Event(), asyncio.Event()

        async def take() -> str:
            begun.set()
            await gate.wait()
            return "a lease"

        async def taker() -> None:
            kept.append(await background.to_its_end(take()))
            try:
                await asyncio.Event().wait()
            finally:
                kept.append("given back")

        task = asyncio.create_task(taker())
        async with asyncio.timeout(60):
            await begun.wait()
            task.cancel()
            await asyncio.sleep(0)
            gate.set()
            await asyncio.wait([task])
        assert task.cancelled()

    asyncio.run(scenario())
    assert kept == ["a lease", "given back"]


def test_what_never_ends_is_given_up_when_it_is_cancelled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_CANCEL_AGAIN_S", 0.01)

    async def scenario() -> bool:
        begun = asyncio.Event()
        ended = asyncio.Event()

        async def never() -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        task = asyncio.create_task(background.to_its_end(never()))
        async with asyncio.timeout(60):
            await begun.wait()
            await background.end([task])
            await ended.wait()
        return task.cancelled()

    assert asyncio.run(scenario())
