"""The embedded PostgreSQL and the folder it lives in: one server each, and refusals that say what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from sightrank.store.embedded import DataDirectory, DataDirectoryError, EmbeddedServer, machine_memory_bytes

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the database as another user")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user can walk to."""
    path = Path(tempfile.mkdtemp(prefix="sightrank-embedded-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


# The folder's lock ----------------------------------------------------------------------------------------------------


def test_a_data_directory_belongs_to_one_server(folder: Path) -> None:
    first, second = DataDirectory(folder / "data"), DataDirectory(folder / "data")
    first.lock()

    with pytest.raises(DataDirectoryError, match=r"Another sightrank server uses .*data\. Stop it, or start this one"):
        second.lock()

    first.release()
    second.lock()
    second.release()


def test_a_server_in_another_process_is_refused_too(folder: Path) -> None:
    first = DataDirectory(folder)
    first.lock()
    program = (
        "import sys, pathlib; from sightrank.store.embedded import DataDirectory\n"
        "DataDirectory(pathlib.Path(sys.argv[1])).lock()"
    )
    command = [sys.executable, "-c", program, str(folder)]

    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    first.release()
    allowed = subprocess.run(command, capture_output=True, text=True, check=False)

    assert "Another sightrank server uses" in refused.stderr
    assert allowed.returncode == 0, allowed.stderr


def test_releasing_twice_or_unlocked_is_nothing(folder: Path) -> None:
    directory = DataDirectory(folder)

    directory.release()
    directory.lock()
    directory.release()
    directory.release()

    other = DataDirectory(folder)
    other.lock()
    with pytest.raises(DataDirectoryError):
        directory.lock()
    other.release()


def test_a_path_that_cannot_be_a_folder_is_refused(folder: Path) -> None:
    (folder / "file").write_text("")

    with pytest.raises(DataDirectoryError, match=r"Cannot use .*file/data as data directory"):
        DataDirectory(folder / "file" / "data").lock()


# The server -----------------------------------------------------------------------------------------------------------


@as_root
def test_root_is_told_of_a_folder_the_database_cannot_walk_to(folder: Path) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    (closed / "data").mkdir()

    with pytest.raises(DataDirectoryError, match=rf"cannot walk through {closed}\..*--data-dir"):
        EmbeddedServer(closed / "data", memory_bytes=2**29).start()

    assert closed.stat().st_mode & 0o777 == 0o700


def test_a_server_that_does_not_run_has_no_url(folder: Path) -> None:
    with pytest.raises(DataDirectoryError, match="starting or stopping"):
        EmbeddedServer(folder, memory_bytes=2**29).url_of_running()


def test_data_stays_from_one_start_to_the_next(folder: Path) -> None:
    def server(memory_bytes: int) -> EmbeddedServer:
        return EmbeddedServer(folder, memory_bytes=memory_bytes, max_connections=20)

    first = server(2**30)
    url = first.start()
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
        shared = connection.execute("SHOW shared_buffers").fetchone()
        allowed = connection.execute("SHOW max_connections").fetchone()
    assert first.url_of_running() == url
    first.stop()

    second = server(2**31)
    url = second.start()
    with psycopg.connect(url) as connection:
        kept = connection.execute("SELECT number FROM kept").fetchone()
        more = connection.execute("SHOW shared_buffers").fetchone()
    second.stop()

    assert kept == (7,)
    assert (shared, allowed, more) == (("64MB",), ("20",), ("128MB",))
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)


def test_the_memory_of_the_machine_is_known() -> None:
    assert 2**28 < machine_memory_bytes() < 2**50
