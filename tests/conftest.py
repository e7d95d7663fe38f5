"""What holds for all tests: libraries compute on one thread each, as in a server (``cli``). Pools of threads spin,
which made learning three times as slow on a busy machine."""

from __future__ import annotations

import os

# Before anything imports them: they read it once.
for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
