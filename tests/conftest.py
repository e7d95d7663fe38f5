"""What holds for all tests.

Libraries compute on one thread each, as in a server (``cli``): pools of threads spin, which made learning three times
as slow on a busy machine. And a run that is told to end, by ``timeout`` perhaps, does so as by Ctrl-C: it ends the
servers it has started and removes what they wrote.
"""

from __future__ import annotations

import os
import signal

# Before anything imports them: they read it once.
for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")


def pytest_configure() -> None:
    """In each process of a parallel run."""
    signal.signal(signal.SIGTERM, _end)


def _end(number: int, frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # ``timeout`` sends it twice, which would stop the cleaning up
    raise KeyboardInterrupt
