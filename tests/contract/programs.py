"""The example programs, made ready to run: tools looked for, packages fetched into the cache, tables read back."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
RUN_SECONDS = 300
FETCH_SECONDS = 300

#: A row of a printed table: number, score, input id, annotation id.
_ROW = re.compile(r"^ *(\d+)  (\d\.\d{4})  (\S+) +(\S+)$")
_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")  # Maven colours even what is not a terminal
_OUT_OF_REACH = ("Could not transfer", "Could not resolve", "offline mode", "ENOTFOUND", "ETIMEDOUT", "ECONNREFUSED")


@dataclass(frozen=True, slots=True)
class Row:
    score: float
    input_id: str
    annotation_id: str


@dataclass(frozen=True, slots=True)
class Finished:
    returncode: int
    tables: dict[str, list[Row]]  # by title, up to its first colon: what follows names an URL or an id
    errors: str


@dataclass(frozen=True, slots=True)
class Program:
    """An example in one language. It runs in ``folder``."""

    command: Sequence[str | Path]
    folder: Path = EXAMPLES
    variables: Mapping[str, str] = field(default_factory=dict)

    def run(self, environment: Mapping[str, str]) -> Finished:
        done = subprocess.run(
            self.command,
            cwd=self.folder,
            env={**environment, **self.variables},
            capture_output=True,
            encoding="utf-8",
            timeout=RUN_SECONDS,
            check=False,
        )
        return Finished(done.returncode, _tables(_ESCAPE.sub("", done.stdout)), _ESCAPE.sub("", done.stderr))


def python(name: str, _: Path) -> Program:
    return Program([sys.executable, "-W", "error", EXAMPLES / "python" / name])


def curl(_: Path) -> Program:
    _need("bash", "curl", "base64", "python3")
    return Program([EXAMPLES / "curl" / "rank.sh"])


def fetch(_: Path) -> Program:
    _need_node()
    return Program(["node", EXAMPLES / "fetch" / "rank.mjs"])


def nodejs(cache: Path) -> Program:
    """The program beside its packages, which are fetched once for each state of its lock file."""
    _need_node()
    _need("npm")
    source = EXAMPLES / "nodejs"
    folder = cache / f"nodejs-{_digest([source / 'package.json', source / 'package-lock.json'])}"
    if not (folder / "node_modules").is_dir():
        fresh = _copy(source, folder.with_suffix(".new"))
        _fetch(["npm", "ci", "--no-audit", "--no-fund"], fresh)
        fresh.rename(folder)
    shutil.copy(source / "rank.js", folder)
    return Program(["node", "rank.js"], folder)


def java(cache: Path) -> Program:
    """Compiled with Maven once for each state of its sources; Maven's downloads stay in the cache too."""
    _need("java", "javac", "mvn")
    source = EXAMPLES / "java"
    maven = ["mvn", "-q", "-B", f"-Dmaven.repo.local={cache / 'maven'}"]
    folder = cache / f"java-{_digest(sorted(path for path in source.rglob('*') if path.suffix in ('.xml', '.java')))}"
    if not folder.is_dir():
        fresh = _copy(source, folder.with_suffix(".new"))
        # An aim that is not there makes exec:java fetch all it needs and run nothing.
        _fetch([*maven, "compile", "exec:java", "-Dexec.skip=true"], fresh)
        fresh.rename(folder)
    # A program that runs for a second is done sooner when it is not compiled for speed.
    return Program([*maven, "-o", "exec:java"], folder, {"MAVEN_OPTS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"})


def _copy(source: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("node_modules", "target"))
    return target


def _fetch(command: Sequence[str], folder: Path) -> None:
    """Runs a package tool. No way out of this machine is a reason to skip; anything else is a failure."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False)
    if done.returncode == 0:
        return
    told = (done.stdout + done.stderr).strip()
    if any(sign in told for sign in _OUT_OF_REACH):
        pytest.skip(f"{command[0]} cannot fetch the official client: {told.splitlines()[0]}")
    pytest.fail(f"{' '.join(command)} failed:\n{told}")


def _need(*tools: str) -> None:
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")


def _need_node() -> None:
    _need("node")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True, timeout=30).stdout
    if int(version.removeprefix("v").split(".")[0]) < 18:
        pytest.skip(f"needs Node.js 18 for its fetch, not {version.strip()}")


def _digest(paths: Sequence[Path]) -> str:
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in paths)).hexdigest()[:12]


def _tables(text: str) -> dict[str, list[Row]]:
    tables: dict[str, list[Row]] = {}
    rows: list[Row] = []
    for line in text.splitlines():
        if line.startswith("by "):
            rows = tables.setdefault(line.split(":")[0], [])
        elif match := _ROW.match(line):
            rows.append(Row(float(match[2]), match[3], match[4]))
            assert int(match[1]) == len(rows), f"rows are not numbered in order: {line!r}"
    return tables
