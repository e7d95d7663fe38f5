"""Waiting for something that happens elsewhere: look, look again, give up at a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_for(what: str, look: Callable[[], T | None], *, seconds: float = 120.0) -> T:
    """The first true thing ``look`` returns. Fails with ``what`` was waited for when the time is over."""
    deadline = time.monotonic() + seconds
    while True:
        if found := look():
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(0.02)
