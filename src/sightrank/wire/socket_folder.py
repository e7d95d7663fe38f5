"""The folder of the socket between the HTTP port and gRPC."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

_PREFIX = "sightrank-"
_SOCKET = "grpc"


class SocketFolder:
    """A temporary folder of the owner's alone (mode 700), locked as long as the process lives.

    ``note``: a link to it for as long as it is there. A server that was killed leaves both; the next one with that note
    removes them.
    """

    def __init__(self, note: Path | None) -> None:
        self._note = note
        if note is not None and note.is_symlink():
            _remove_left(note.readlink())
            note.unlink()
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._lock = _locked(self.path)
        if note is not None:
            note.symlink_to(self.path)

    @property
    def socket(self) -> Path:
        """Where the socket is to be: paths of temporary folders are short enough for one."""
        return self.path / _SOCKET

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)
        if self._note is not None:
            self._note.unlink(missing_ok=True)


def _remove_left(folder: Path) -> None:
    """Not where a server lives, whose data directory was copied with the note in it, and only what is a server's."""
    if not folder.name.startswith(_PREFIX):
        return
    with suppress(OSError):  # it is gone, locked, another user's, or has something else in it
        lock = _locked(folder)
        try:
            (folder / _SOCKET).unlink(missing_ok=True)
            folder.rmdir()
        finally:
            os.close(lock)


def _locked(folder: Path) -> int:
    """A descriptor of the folder that holds its lock. Raises BlockingIOError where another process holds it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
