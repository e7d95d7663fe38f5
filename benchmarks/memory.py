"""Start-up time, and the memory of the serving process: idle, and with all areas in memory."""

from __future__ import annotations

import time

from benchmarks.figures import Row, show
from benchmarks.stage import Stage

_MOST_MB = 400
_STARTS = 3


def run(stage: Stage) -> None:
    """Restarts the server a few times; the memory is that of the last start, two seconds after it said ready."""
    starts = []
    for _ in range(_STARTS):
        stage.server.stop()
        starts.append(stage.server.start())
    time.sleep(2)
    idle = stage.server.resident_bytes() / 1e6
    stage.fill()
    stage.use()
    filled = stage.server.resident_bytes() / 1e6
    show(
        "Start and memory of the serving process",
        [
            Row("start on an existing database until ready", f"{sorted(starts)[len(starts) // 2]:.2f} s"),
            Row("resident, model loaded, idle", f"{idle:.0f} MB", "", f"<= {_MOST_MB} MB", idle <= _MOST_MB),
            Row(f"resident with {stage.areas:,} areas in memory", f"{filled:.0f} MB", f"+{filled - idle:.0f} MB"),
        ],
        caption=f"Median of {_STARTS} starts; VmRSS of the process, PostgreSQL's own processes not included.",
    )
