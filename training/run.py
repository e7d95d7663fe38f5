"""Make the built-in bundle from the photos, from first to last; each stage keeps what it has done."""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
from pathlib import Path

from training import bundle, card, data, detector, evaluate, teachers

FOLDER = Path(__file__).parent.parent / "src" / "sightrank" / "general"
RUN_NAME = "student"


def module(name: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a module of this package as a process of its own."""
    return subprocess.Popen([sys.executable, "-m", f"training.{name}", *arguments])


def together(started: list[subprocess.Popen[bytes]]) -> None:
    """Wait for all, and fail if one failed."""
    codes = [process.wait() for process in started]
    if any(codes):
        sys.exit("a stage of the training failed; what was done is kept, run it again to go on")


def teach(photo_dir: Path, work: Path, processes: int) -> None:
    """Everything the teachers have to say, photo by photo, in parallel processes."""
    count = len(data.load_train(work).labels)
    shards = [(str(shard), str(processes)) for shard in range(processes)]
    for network, kind in itertools.product(teachers.WIDTHS, teachers.VIEW_KINDS):
        teachers.open_targets(work, network, kind, count, "r+")
        together(
            [module("teachers", str(photo_dir / "teachers"), str(work), network, kind, *shard) for shard in shards]
        )
    detector.open_scores(work, count)
    together([module("detector", str(photo_dir), str(work), *shard) for shard in shards])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder with train-*.zip, eval-*.zip, teachers/")
    parser.add_argument("--work", type=Path, default=Path(".cache/training"), help="for 4 GB of intermediate results")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the bundle goes")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--minutes", type=float, default=1e9, help="end the training after this long, steps or not")
    parser.add_argument("--start", default="", help="an embedder.onnx to go on from, instead of from nothing")
    parser.add_argument("--rate-share", type=float, default=1.0, help="share of the full learning rate")
    parser.add_argument("--side", type=int, default=bundle.SIDE)
    parser.add_argument("--processes", type=int, default=2)
    chosen = parser.parse_args()
    data.prepare(chosen.data, chosen.work)
    teach(chosen.data, chosen.work, chosen.processes)
    arguments = ["--data", chosen.data, "--work", chosen.work, "--steps", chosen.steps, "--minutes", chosen.minutes]
    arguments += ["--start", chosen.start, "--rate-share", chosen.rate_share]
    together([module("train", "--name", RUN_NAME, *map(str, arguments))])
    bundle.make(chosen.data, chosen.work, chosen.folder, RUN_NAME, chosen.side)
    card.write(chosen.folder, evaluate.evaluate(chosen.data, chosen.folder, ceiling=True))


if __name__ == "__main__":
    main()
