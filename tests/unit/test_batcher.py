"""The batcher: who waits shares runs, people go first, nothing waits for a batch to fill."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import numpy as np
import pytest
from numpy.typing import NDArray

from sightrank.errors import ServerBusy
from sightrank.vision.batcher import Batcher
from sightrank.vision.threads import Lane, Threads

DEADLINE_S = 60.0


class Network:
    """Doubles numbers. While ``gate`` is closed no run ends, while ``queue_gate`` is closed none of numbers from 100;
    ``runs`` are the batches in the order they began.
    """

    def __init__(self) -> None:
        self.gate, self.queue_gate = threading.Event(), threading.Event()
        self.gate.set()
        self.queue_gate.set()
        self.runs: list[list[int]] = []
        self.broken = False

    def __call__(self, items: Sequence[int]) -> NDArray[np.float32]:
        self.runs.append(list(items))
        assert self.gate.wait(DEADLINE_S)
        if items[0] >= 100:
            assert self.queue_gate.wait(DEADLINE_S)
        if self.broken:
            raise RuntimeError("the network is broken")
        return np.array([[2.0 * item] for item in items], np.float32)


@asynccontextmanager
async def batching(network: Network, *, cores: int = 1, deadline_s: float = DEADLINE_S) -> AsyncIterator[Batcher[int]]:
    threads = Threads(cores)
    try:
        yield Batcher("doubling", network, threads=threads, sizes=(1, 2, 4, 8), deadline_s=deadline_s)
    finally:
        network.gate.set()
        network.queue_gate.set()
        await asyncio.to_thread(threads.close)


async def until(what: Callable[[], bool]) -> None:
    deadline = asyncio.get_running_loop().time() + DEADLINE_S
    while not what():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.001)


def submitted(
    batcher: Batcher[int], items: Sequence[int], lane: Lane = Lane.INTERACTIVE
) -> asyncio.Task[NDArray[np.float32]]:
    return asyncio.create_task(batcher.submit(items, lane))


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(3 * DEADLINE_S):
            await scenario()

    asyncio.run(bounded())


def test_a_single_item_runs_at_once_and_alone() -> None:
    async def scenario() -> None:
        network = Network()
        async with batching(network) as batcher:
            assert (await batcher.submit([21], Lane.INTERACTIVE)).tolist() == [[42.0]]
        assert network.runs == [[21]]

    run(scenario)


def test_what_gathers_while_a_run_lasts_shares_the_next_run_and_everybody_gets_their_own() -> None:
    async def scenario() -> None:
        network = Network()
        async with batching(network) as batcher:
            network.gate.clear()
            first = submitted(batcher, [1])
            await until(lambda: network.runs == [[1]])
            others = [submitted(batcher, [n, 10 * n]) for n in (2, 3, 4)]
            await until(lambda: batcher.state.waiting == 6)
            network.gate.set()

            assert (await first).tolist() == [[2.0]]
            assert [(await other).tolist() for other in others] == [[[4], [40]], [[6], [60]], [[8], [80]]]
        assert network.runs == [[1], [2, 20, 3, 30, 4, 40]]

    run(scenario)


def test_more_than_the_largest_batch_is_run_in_several() -> None:
    async def scenario() -> None:
        network = Network()
        async with batching(network) as batcher:
            rows = await batcher.submit(list(range(19)), Lane.INGEST)

            assert rows[:, 0].tolist() == [2.0 * n for n in range(19)]
        assert [len(batch) for batch in network.runs] == [8, 8, 3]

    run(scenario)


def test_people_do_not_wait_for_the_work_of_ingest() -> None:
    async def scenario() -> None:
        network = Network()
        async with batching(network) as batcher:
            network.gate.clear()
            queue = submitted(batcher, list(range(100, 124)), Lane.INGEST)
            await until(lambda: len(network.runs) == 1)
            person = submitted(batcher, [7])
            await until(lambda: len(network.runs) == 2)
            network.gate.set()

            assert (await person).tolist() == [[14.0]]
            assert (await queue)[:, 0].tolist() == [2.0 * n for n in range(100, 124)]
        assert network.runs[1][0] == 7

    run(scenario)


def test_free_places_of_a_run_for_people_are_filled_with_work_of_ingest() -> None:
    async def scenario() -> None:
        network = Network()
        async with batching(network) as batcher:
            network.queue_gate.clear()
            queue = submitted(batcher, list(range(100, 112)), Lane.INGEST)
            await until(lambda: len(network.runs) == 1)

            assert (await batcher.submit([2, 3, 4], Lane.INTERACTIVE)).tolist() == [[4.0], [6.0], [8.0]]
            network.queue_gate.set()
            assert (await queue)[:, 0].tolist() == [2.0 * n for n in range(100, 112)]
        assert network.runs[1] == [2, 3, 4, 108]

    run(scenario)


def test_a_failing_run_fails_its_own_items_only() -> None:
    async def scenario() -> None:
        network = Network()
        async with batching(network) as batcher:
            network.broken = True
            with pytest.raises(RuntimeError, match="the network is broken"):
                await batcher.submit([1], Lane.INTERACTIVE)
            network.broken = False

            assert (await batcher.submit([2], Lane.INTERACTIVE)).tolist() == [[4.0]]

    run(scenario)


def test_a_deadline_that_passes_says_so_and_its_work_is_not_done() -> None:
    async def scenario() -> None:
        network = Network()
        async with batching(network, deadline_s=0.05) as batcher:
            network.gate.clear()
            first = submitted(batcher, [1])
            await until(lambda: network.runs == [[1]])
            with pytest.raises(ServerBusy, match=r"doubling did not get to this within 0\.05 s"):
                await batcher.submit([2], Lane.INTERACTIVE)
            with pytest.raises(ServerBusy):
                await first
            network.gate.set()
            await until(lambda: batcher.state.runs == 1)

            assert (await batcher.submit([3], Lane.INTERACTIVE)).tolist() == [[6.0]]
        assert network.runs == [[1], [3]]

    run(scenario)


def test_who_goes_away_leaves_no_work_behind() -> None:
    async def scenario() -> None:
        network = Network()
        async with batching(network) as batcher:
            network.gate.clear()
            first = submitted(batcher, [1])
            await until(lambda: network.runs == [[1]])
            gone, stays = submitted(batcher, [2]), submitted(batcher, [3])
            await until(lambda: batcher.state.waiting == 2)
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)
            network.gate.set()

            assert (await stays).tolist() == [[6.0]]
            await first
        assert network.runs == [[1], [3]]

    run(scenario)


def test_too_much_waiting_is_refused_at_once() -> None:
    async def scenario() -> None:
        network = Network()
        async with batching(network) as batcher:
            network.gate.clear()
            queue = submitted(batcher, list(range(4000)), Lane.INGEST)
            await until(lambda: batcher.state.waiting > 3000)

            with pytest.raises(ServerBusy, match="Too much waits for the model doubling"):
                await batcher.submit(list(range(200)), Lane.INGEST)
            network.gate.set()
            assert len(await queue) == 4000

    run(scenario)


def test_many_at_a_time_all_get_their_answers() -> None:
    async def scenario() -> None:
        network = Network()
        async with batching(network, cores=3) as batcher:
            lanes = list(Lane)
            tasks = [submitted(batcher, [n] * (1 + n % 5), lanes[n % 2]) for n in range(300)]

            for n, task in enumerate(tasks):
                assert (await task).tolist() == [[2.0 * n]] * (1 + n % 5)
        assert batcher.state.items == sum(1 + n % 5 for n in range(300))
        assert max(map(len, network.runs)) > 1

    run(scenario)
