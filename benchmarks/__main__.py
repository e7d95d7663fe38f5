"""`python -m benchmarks [NAME ...] --data DIR`: all measurements, or those named."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from benchmarks import (
    exactness,
    filters,
    follow,
    graph,
    inference,
    ingest,
    load,
    memory,
    pages,
    search,
    suggesting,
    teaching,
    training,
    videos,
)
from benchmarks.figures import console
from benchmarks.server import HOST, served
from benchmarks.stage import AREAS, Stage

#: In this order: memory is measured before there are areas, load and following add areas of their own, and what takes
#: the server minutes to build is built as seldom as can be.
MEASUREMENTS = {
    "memory": memory.run,
    "search": search.run,
    "filters": filters.run,
    "pages": pages.run,
    "exactness": exactness.run,
    "graph": graph.run,
    "load": load.run,
    "follow": follow.run,
    "ingest": ingest.run,
    "inference": inference.run,
    "videos": videos.run,
    "training": training.run,
    "teaching": teaching.run,
    "suggesting": suggesting.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(MEASUREMENTS)}; default all")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with photos.zip, if any")
    parser.add_argument("--areas", type=int, default=AREAS, help=f"areas to search; default {AREAS:,}")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(MEASUREMENTS))
    if unknown:
        parser.error(f"{unknown[0]} is no measurement; there are {', '.join(MEASUREMENTS)}")
    for name in ("no_proxy", "NO_PROXY"):  # local calls never go through a proxy
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), HOST)))
    console.print(f"Load before the run: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores. Ratios are what counts.")
    # Whoever ends this program ends the server and takes its folder away too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    with served() as server:
        stage = Stage(data=options.data, server=server, wanted=options.areas)
        for name, measure in MEASUREMENTS.items():
            if name in (options.names or MEASUREMENTS):
                measure(stage)


if __name__ == "__main__":
    main()
