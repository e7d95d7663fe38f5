"""Uploaded files on a local folder, named by what is in them, and archives written here, named by chance.

A key is ``<bucket>/ab/<sha256>``: the same bytes twice in one app are one file, and no key can name a path outside.
A variant (``<key>.small``) is made from a file and goes with it. A file appears under its name whole or not at all; a
killed process leaves at most a file in ``tmp/`` for ``sweep``.

``BlobFolder`` works in the calling thread, ``BlobStore`` is the same for coroutines.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

_T = TypeVar("_T")
_KEY = re.compile(r"[0-9]{1,19}/[0-9a-f]{2}/[0-9a-f]{64}(\.[a-z]{1,16})?")


class BlobMissingError(LookupError):
    """No file has this key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Bytes of the disk that holds the folder."""

    total_bytes: int
    free_bytes: int


def key_of(bucket: int, data: bytes) -> str:
    """The key that ``data`` has in the app bucket."""
    digest = hashlib.sha256(data).hexdigest()
    # One level of folders: each new one costs two more waits for the disk, and file systems index theirs.
    return f"{bucket}/{digest[:2]}/{digest}"


def variant(key: str, name: str) -> str:
    """The key of what was made from ``key``; ``name`` is 1 to 16 lower case letters."""
    return f"{key}.{name}"


class BlobFolder:
    """The files under ``root``, which is made if need be. Raises ValueError for a text that is no key."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self._root = root.resolve()
        self._unfinished = self._root / "tmp"
        self._unfinished.mkdir(exist_ok=True)

    def put(self, bucket: int, data: bytes) -> str:
        """Keeps ``data``, on disk when this returns, and returns its key. The same again changes nothing."""
        return self.put_all(bucket, [data])[0]

    def put_all(self, bucket: int, files: Sequence[bytes]) -> list[str]:
        """Keeps these files, on disk when this returns, and returns their keys. The same again changes nothing."""
        keys = [key_of(bucket, data) for data in files]
        changed = {folder for key, data in zip(keys, files, strict=True) if (folder := self._place(key, data))}
        for folder in changed:
            _sync_directory(folder)
        return keys

    def copy(self, key: str, bucket: int) -> str:
        """Keeps the file ``key`` in another app bucket too, on disk when this returns, and returns its key there.

        Raises BlobMissingError.
        """
        copied = f"{int(bucket)}/{key.partition('/')[2]}"
        with self.open(key) as file:
            folder = self._place(copied, file)
        if folder is not None:
            _sync_directory(folder)
        return copied

    def _place(self, key: str, data: bytes | BinaryIO) -> Path | None:
        """Puts a file where its key says; the folder that must now be synced, None where nothing changed."""
        path = self._path(key)
        _make_directory(path.parent, self._root)
        with _locked(path.parent):
            if _touch(path):
                return None
        with self._written(data) as unfinished, _locked(path.parent):
            unfinished.replace(path)
        return path.parent

    def draft(self) -> Path:
        """A new empty file to write in, for what is too big to be held in memory: to be kept, or removed."""
        path = self._unfinished / secrets.token_hex(16)
        path.touch(exist_ok=False)
        return path

    def keep(self, bucket: int, draft: Path) -> str:
        """Keeps what was written into a draft, on disk when this returns, and returns its key, which no other file
        ever has: whoever kept it may delete it.
        """
        name = secrets.token_hex(32)
        key = f"{bucket}/{name[:2]}/{name}"
        path = self._path(key)
        _make_directory(path.parent, self._root)
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(path)
        _sync_directory(path.parent)
        return key

    def put_variant(self, key: str, name: str, data: bytes) -> None:
        """Keeps what was made from ``key``. Raises BlobMissingError when that was deleted meanwhile."""
        original, path = self._path(key), self._path(variant(key, name))
        with self._written(data) as unfinished:
            if not original.parent.is_dir():
                raise BlobMissingError(f"There is no blob {key}.")
            with _locked(path.parent):
                # Under the lock that delete takes: no variant may outlive its original.
                if not original.is_file():
                    raise BlobMissingError(f"There is no blob {key}.")
                unfinished.replace(path)

    def get(self, key: str) -> bytes:
        """The whole file. Raises BlobMissingError."""
        with self.open(key) as file:
            return file.read()

    def open(self, key: str) -> BinaryIO:
        """The file for reading in parts; the caller closes it. It stays readable when deleted meanwhile.

        Raises BlobMissingError.
        """
        path = self._path(key)
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            raise BlobMissingError(f"There is no blob {key}.") from None
        return os.fdopen(handle, "rb")

    def size(self, key: str) -> int:
        """Of the file in bytes. Raises BlobMissingError."""
        with self.open(key) as file:
            return os.fstat(file.fileno()).st_size

    def exists(self, key: str) -> bool:
        return self._path(key).is_file()

    def delete(self, key: str, *, min_age_s: float = 0.0) -> bool:
        """Removes a file and its variants; False when there was none, or when it was put within ``min_age_s``.

        The age protects against a race: an upload of the same bytes between the caller's count of references and this.
        """
        path = self._path(key)
        if not path.parent.is_dir():
            return False
        with _locked(path.parent):
            try:
                age_s = time.time() - path.stat(follow_symlinks=False).st_mtime
            except FileNotFoundError:
                return False
            if age_s < min_age_s:
                return False
            for made in path.parent.glob(f"{path.name}.*"):
                made.unlink(missing_ok=True)
            path.unlink()
            _sync_directory(path.parent)
        return True

    def delete_bucket(self, bucket: int) -> None:
        """Removes all files of an app bucket that is gone for good."""
        shutil.rmtree(self._root / str(int(bucket)), ignore_errors=True)

    def folders(self) -> list[tuple[int, str]]:
        """(bucket, folder) of every folder that may hold files, for ``aged``."""
        found = self._root.glob("[0-9]*/[0-9a-f][0-9a-f]")
        return sorted((int(path.parent.name), f"{path.parent.name}/{path.name}") for path in found if path.is_dir())

    def aged(self, folder: str, *, min_age_s: float) -> list[str]:
        """Keys in one of ``folders()``, variants left out, that were last put at least so long ago."""
        latest = time.time() - min_age_s
        keys = []
        with suppress(FileNotFoundError), os.scandir(self._root / folder) as entries:
            for entry in entries:
                key = f"{folder}/{entry.name}"
                with suppress(FileNotFoundError):
                    if "." not in key and _KEY.fullmatch(key) and entry.stat(follow_symlinks=False).st_mtime <= latest:
                        keys.append(key)
        return keys

    def sweep(self, *, min_age_s: float = 3600.0) -> int:
        """Removes what killed processes left unfinished, if at least this old; returns how many files."""
        removed = 0
        for path in self._unfinished.iterdir():
            with suppress(FileNotFoundError):
                if time.time() - path.stat(follow_symlinks=False).st_mtime >= min_age_s:
                    path.unlink()
                    removed += 1
        return removed

    def usage(self) -> Usage:
        disk = shutil.disk_usage(self._root)
        return Usage(total_bytes=disk.total, free_bytes=disk.free)

    def _path(self, key: str) -> Path:
        if _KEY.fullmatch(key) is None:
            raise ValueError(f"{key[:100]!r} is not a blob key.")
        path = self._root / key
        if not path.parent.resolve().is_relative_to(self._root):
            raise ValueError(f"The folder of blob {key} leads outside the blob folder.")
        return path

    @contextmanager
    def _written(self, data: bytes | BinaryIO) -> Iterator[Path]:
        """A file on disk with ``data``, or with what is in it, to be renamed inside the block; else it is removed."""
        path = self._unfinished / secrets.token_hex(16)
        try:
            with path.open("xb") as file:
                if isinstance(data, bytes):
                    file.write(data)
                else:
                    shutil.copyfileobj(data, file)
                file.flush()
                os.fsync(file.fileno())
            yield path
        finally:
            path.unlink(missing_ok=True)


class BlobStore:
    """``BlobFolder`` for coroutines: at most ``threads`` file operations at once. ``close()`` ends the threads."""

    def __init__(self, root: Path, *, threads: int = 8) -> None:
        self._folder = BlobFolder(root)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="blobs")

    def close(self) -> None:
        self._threads.shutdown(wait=True)

    async def put(self, bucket: int, data: bytes) -> str:
        """Keeps ``data`` and returns its key."""
        return (await self.put_all(bucket, [data]))[0]

    async def put_all(self, bucket: int, files: Sequence[bytes]) -> list[str]:
        """Keeps these files and returns their keys.

        All in one thread: writing is little work between waits for the disk, and threads that hand the interpreter to
        each other for it took twice the processor time.
        """
        return await self._run(lambda: self._folder.put_all(bucket, files))

    @asynccontextmanager
    async def draft(self) -> AsyncIterator[Path]:
        """A new empty file to write in; removed at the end of the block unless it was kept."""
        path = await self._run(self._folder.draft)
        try:
            yield path
        finally:
            # In this thread: a task that is cancelled would not wait for another one.
            path.unlink(missing_ok=True)

    async def keep(self, bucket: int, draft: Path) -> str:
        """Keeps what was written into a draft and returns its key, which no other file ever has."""
        return await self._run(lambda: self._folder.keep(bucket, draft))

    async def copy(self, key: str, bucket: int) -> str:
        """Keeps the file ``key`` in another app bucket too, and returns its key there. Raises BlobMissingError."""
        return await self._run(lambda: self._folder.copy(key, bucket))

    async def put_variant(self, key: str, name: str, data: bytes) -> None:
        """Keeps what was made from ``key``. Raises BlobMissingError when that is gone."""
        await self._run(lambda: self._folder.put_variant(key, name, data))

    async def get(self, key: str) -> bytes:
        """The whole file. Raises BlobMissingError."""
        return await self._run(lambda: self._folder.get(key))

    async def open(self, key: str) -> BinaryIO:
        """The file for reading in parts; the caller closes it. Raises BlobMissingError."""
        return await self._run(lambda: self._folder.open(key))

    async def size(self, key: str) -> int:
        """Of the file in bytes. Raises BlobMissingError."""
        return await self._run(lambda: self._folder.size(key))

    async def exists(self, key: str) -> bool:
        return await self._run(lambda: self._folder.exists(key))

    async def delete(self, key: str, *, min_age_s: float = 0.0) -> bool:
        """Removes a file and its variants, unless it was put within ``min_age_s``."""
        return await self._run(lambda: self._folder.delete(key, min_age_s=min_age_s))

    async def delete_bucket(self, bucket: int) -> None:
        await self._run(lambda: self._folder.delete_bucket(bucket))

    async def folders(self) -> list[tuple[int, str]]:
        """(bucket, folder) of every folder that may hold files, for ``aged``."""
        return await self._run(self._folder.folders)

    async def aged(self, folder: str, *, min_age_s: float) -> list[str]:
        """Keys in one of ``folders()`` that were last put at least so long ago."""
        return await self._run(lambda: self._folder.aged(folder, min_age_s=min_age_s))

    async def sweep(self, *, min_age_s: float = 3600.0) -> int:
        """Removes what killed processes left unfinished."""
        return await self._run(lambda: self._folder.sweep(min_age_s=min_age_s))

    async def usage(self) -> Usage:
        return await self._run(self._folder.usage)

    async def _run(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Keeps put and delete of one folder apart, in all threads and processes; the kernel unlocks for a dead process."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _touch(path: Path) -> bool:
    """Makes an existing file young again, so that a delete with a least age leaves it; False when there is none."""
    try:
        os.utime(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _make_directory(path: Path, root: Path) -> None:
    if path.is_dir():
        return
    _make_directory(path.parent, root)
    path.mkdir(exist_ok=True)
    # A new folder is on disk only when its parent is.
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
