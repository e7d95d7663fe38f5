"""One batcher for each network: batches are formed across all that wait at the moment a thread is free.

Nothing waits for a batch to fill. While all threads of a lane are busy, work gathers, and the next free one takes it
together; so a single query runs at once, and many at a time share runs. A run for people is filled up to the next of
the network's batch sizes with work of ingest, because a padded place costs as much as a picture.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Generic, TypeVar

import numpy as np
import structlog
from numpy.typing import NDArray

from sightrank.errors import ServerBusy
from sightrank.vision.threads import Lane, Threads

_log = structlog.get_logger()
_Item = TypeVar("_Item")
Vectors = NDArray[np.float32]

DEADLINE_S = 20.0
_MOST_WAITING = 4096  # items of a lane; the places of whoever sends them are bounded much lower


@dataclass(slots=True, eq=False)
class _Request(Generic[_Item]):
    """Items that belong together, and what is known of them."""

    items: Sequence[_Item]
    done: asyncio.Future[Vectors]
    rows: list[Vectors | None] = field(default_factory=list)
    missing: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class _Place(Generic[_Item]):
    """One item of a request."""

    request: _Request[_Item]
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BatcherState:
    """How a batcher does: what waits, and what it ran so far."""

    waiting: int
    runs: int
    items: int


class Batcher(Generic[_Item]):
    """Runs ``run`` (items to one row each) on the threads of a lane, in batches of at most ``sizes[-1]`` items.

    ``sizes`` are the batch sizes at which the network is quickest, ascending. Used from one event loop.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[Sequence[_Item]], Vectors],
        *,
        threads: Threads,
        sizes: tuple[int, ...],
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._name = name
        self._run = run
        self._threads = threads
        self._sizes = sizes
        self._deadline_s = deadline_s
        self._waiting: dict[Lane, deque[_Place[_Item]]] = {lane: deque() for lane in Lane}
        self._running = dict.fromkeys(Lane, 0)
        self._tasks: set[asyncio.Task[None]] = set()
        self._runs = self._items = 0

    @property
    def state(self) -> BatcherState:
        return BatcherState(waiting=sum(map(len, self._waiting.values())), runs=self._runs, items=self._items)

    async def submit(self, items: Sequence[_Item], lane: Lane) -> Vectors:
        """One row for each item, in their order.

        Raises ServerBusy when too much waits already, or when the deadline passes first; and whatever the network
        raises.
        """
        if not items:
            raise ValueError("A batch needs at least one item.")
        waiting = self._waiting[lane]
        if len(waiting) + len(items) > _MOST_WAITING:
            raise ServerBusy(f"Too much waits for the model {self._name}; try again in a moment.")
        request = _Request(items, asyncio.get_running_loop().create_future())
        request.rows = [None] * len(items)
        request.missing = len(items)
        waiting.extend(_Place(request, index) for index in range(len(items)))
        self._start(lane)
        try:
            async with asyncio.timeout(self._deadline_s):
                return await request.done
        except TimeoutError:
            raise ServerBusy(
                f"The model {self._name} did not get to this within {self._deadline_s:g} s; try again in a moment."
            ) from None

    def _start(self, lane: Lane) -> None:
        """Gives work to free threads of the lane."""
        while self._running[lane] < self._threads.cores:
            places = self._take(lane)
            if not places:
                return
            self._running[lane] += 1
            task = asyncio.create_task(self._work(lane, places), name=f"batch of {self._name}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _take(self, lane: Lane) -> list[_Place[_Item]]:
        """The next batch of a lane. Who has gone away is passed over."""
        largest = self._sizes[-1]
        places = list(islice(_wanted(self._waiting[lane]), largest))
        if places and lane is Lane.INTERACTIVE:
            full = next(size for size in self._sizes if size >= len(places))
            places += islice(_wanted(self._waiting[Lane.INGEST]), full - len(places))
        return places

    async def _work(self, lane: Lane, places: Sequence[_Place[_Item]]) -> None:
        items = [place.request.items[place.index] for place in places]
        try:
            rows = await self._threads.infer(lane, lambda: self._run(items))
            _deliver(places, rows)
        except Exception as error:
            _log.warning("a batch failed", model=self._name, items=len(items), error=repr(error))
            for place in places:
                if not place.request.done.done():
                    place.request.done.set_exception(error)
        finally:
            self._runs += 1
            self._items += len(items)
            self._running[lane] -= 1
            self._start(lane)


def _wanted(waiting: deque[_Place[_Item]]) -> Iterator[_Place[_Item]]:
    """Takes from the queue those whose answer is still awaited."""
    while waiting:
        place = waiting.popleft()
        if not place.request.done.done():
            yield place


def _deliver(places: Sequence[_Place[_Item]], rows: Vectors) -> None:
    for place, row in zip(places, rows, strict=True):
        request = place.request
        request.rows[place.index] = row
        request.missing -= 1
        if request.missing == 0 and not request.done.done():
            request.done.set_result(np.stack([row for row in request.rows if row is not None]))
