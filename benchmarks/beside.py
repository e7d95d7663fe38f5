"""Work in a process of its own beside a measurement, so that the two share the machine and nothing else."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SPAWN = multiprocessing.get_context("spawn")
_GET_GOING_S = 2.0


class Signals:
    """Between a process and the one that started it."""

    def __init__(self) -> None:
        self._stop = _SPAWN.Event()
        self._done = _SPAWN.Value("q", 0)

    @property
    def done(self) -> int:
        """How much the process has done."""
        return int(self._done.value)

    def go_on(self, done: int, *, until: float) -> bool:
        """Tells how much more is done and pauses until that time of the monotonic clock; False when it is to stop."""
        with self._done.get_lock():
            self._done.value += done
        return not self._stop.wait(max(0.0, until - time.monotonic()))

    def stop(self) -> None:
        self._stop.set()


@contextmanager
def beside(work: Callable[..., None], *arguments: object) -> Iterator[Signals]:
    """Runs ``work(signals, *arguments)`` from a moment before the block until its end; it must last that long."""
    signals = Signals()
    process = _SPAWN.Process(target=work, args=(signals, *arguments))
    process.start()
    try:
        while not signals.done:
            assert process.is_alive(), "the process beside has ended early"
            time.sleep(0.05)
        time.sleep(_GET_GOING_S)
        yield signals
        assert process.is_alive(), "the process beside has ended early"
    finally:
        signals.stop()
        process.join()
