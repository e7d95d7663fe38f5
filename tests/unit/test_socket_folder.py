"""The folder of the gRPC socket goes with the server, also with one that was killed."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sightrank.wire.socket_folder import SocketFolder

_LIVES = """
import sys, time
from pathlib import Path
from sightrank.wire.socket_folder import SocketFolder
folder = SocketFolder(Path(sys.argv[1]))
folder.socket.touch()
print(folder.path, flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.fixture
def note(tmp_path: Path) -> Path:
    return tmp_path / "note"


def killed(note: Path) -> Path:
    """The folder that a killed server has left."""
    with lives(note) as process:
        return ended(process)


def lives(note: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", _LIVES, str(note)], stdout=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> Path:
    assert process.stdout is not None
    folder = Path(process.stdout.readline().strip())
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    return folder


def test_it_is_the_owners_alone_and_goes_with_its_note(note: Path, temporary: Path) -> None:
    folder = SocketFolder(note)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(folder.socket))
    assert note.readlink() == folder.path
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700

    folder.remove()

    assert not note.is_symlink()
    assert list(temporary.iterdir()) == []


def test_without_a_note_nothing_else_is_touched(temporary: Path) -> None:
    other = SocketFolder(None)
    SocketFolder(None).remove()

    assert list(temporary.iterdir()) == [other.path]
    other.remove()


def test_what_a_killed_server_left_is_removed_by_the_next(note: Path, temporary: Path) -> None:
    left = killed(note)
    assert (left / "grpc").exists()

    folder = SocketFolder(note)

    assert list(temporary.iterdir()) == [folder.path]
    assert note.readlink() == folder.path
    folder.remove()


def test_the_folder_of_a_server_that_lives_stays_wherever_a_note_of_it_got_to(note: Path, tmp_path: Path) -> None:
    with lives(note) as process:
        assert process.stdout is not None
        path = Path(process.stdout.readline().strip())
        (copied := tmp_path / "copied").symlink_to(path)

        SocketFolder(copied).remove()

        assert (path / "grpc").exists()
        process.kill()


@pytest.mark.parametrize("name", ["elsewhere", "sightrank-with-more"])
def test_what_is_no_socket_folder_stays(note: Path, tmp_path: Path, name: str) -> None:
    (folder := tmp_path / name).mkdir()
    (folder / "file").touch()
    note.symlink_to(folder)

    SocketFolder(note).remove()

    assert [path.name for path in folder.iterdir()] == ["file"]


def test_a_note_of_a_folder_that_is_gone_is_replaced(note: Path, tmp_path: Path) -> None:
    note.symlink_to(tmp_path / "sightrank-gone")

    folder = SocketFolder(note)

    assert note.readlink() == folder.path
    folder.remove()
