"""Files by content: whole or not there, deleted safely, never outside the folder."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sightrank.store.blobs import BlobFolder, BlobMissingError, BlobStore, key_of, variant

DATA = b"the bytes of a picture"


def files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


def test_aged_files_are_listed_folder_by_folder_without_their_variants(tmp_path: Path) -> None:
    folder = BlobFolder(tmp_path / "blobs")
    old, young, other = folder.put(7, DATA), folder.put(7, b"young"), folder.put(12, DATA)
    folder.put_variant(old, "small", b"made")
    (tmp_path / "blobs" / "notes").mkdir()
    for path in files(tmp_path):
        if path.name not in young:
            os.utime(path, (time.time() - 100, time.time() - 100))

    folders = folder.folders()

    assert folders == sorted((int(key.split("/")[0]), key[: key.rindex("/")]) for key in (old, young, other))
    assert [key for _, name in folders for key in folder.aged(name, min_age_s=50)] == [old, other]
    assert folder.aged("7/zz", min_age_s=0) == []


def test_a_copy_in_another_app_outlives_the_file(tmp_path: Path) -> None:
    folder = BlobFolder(tmp_path / "blobs")
    key = folder.put(7, DATA)

    copied = folder.copy(key, 12)

    assert (copied, folder.copy(key, 12)) == (key_of(12, DATA), copied)
    assert folder.delete(key)
    assert folder.get(copied) == DATA
    with pytest.raises(BlobMissingError):
        folder.copy(key, 13)
    assert [path.name for path in files(tmp_path)] == [copied.rpartition("/")[2]]


def test_put_and_get(tmp_path: Path) -> None:
    folder = BlobFolder(tmp_path / "blobs")
    key = folder.put(7, DATA)
    digest = hashlib.sha256(DATA).hexdigest()
    assert key == f"7/{digest[:2]}/{digest}" == key_of(7, DATA)
    assert folder.get(key) == DATA
    assert folder.exists(key)
    assert folder.put(7, DATA) == key
    assert len(files(tmp_path)) == 1
    assert folder.put(8, DATA) != key
    with folder.open(key) as file:
        assert file.read(3) == DATA[:3]
        assert folder.delete(key)
        assert file.read() == DATA[3:]
    assert not folder.exists(key)
    assert folder.exists(key_of(8, DATA))
    assert not folder.delete(key)
    with pytest.raises(BlobMissingError):
        folder.get(key)


def test_what_was_drafted_is_kept_under_a_key_of_its_own(tmp_path: Path) -> None:
    folder = BlobFolder(tmp_path)
    first, second = folder.draft(), folder.draft()
    for draft in (first, second):
        draft.write_bytes(DATA)

    keys = [folder.keep(7, draft) for draft in (first, second)]

    assert [folder.get(key) for key in keys] == [DATA, DATA]
    assert len({*keys, key_of(7, DATA)}) == 3
    assert folder.delete(keys[0])
    assert (folder.exists(keys[0]), folder.exists(keys[1])) == (False, True)
    assert len(files(tmp_path)) == 1


def test_a_draft_that_is_not_kept_is_removed(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)

    async def break_off() -> None:
        async with store.draft() as draft:
            draft.write_bytes(DATA)
            raise RuntimeError("in between")

    async def keep() -> bytes:
        async with store.draft() as draft:
            draft.write_bytes(DATA)
            key = await store.keep(7, draft)
        return await store.get(key)

    with pytest.raises(RuntimeError, match="in between"):
        asyncio.run(break_off())
    assert files(tmp_path) == []
    assert asyncio.run(keep()) == DATA
    assert len(files(tmp_path)) == 1
    store.close()


def test_empty_file(tmp_path: Path) -> None:
    folder = BlobFolder(tmp_path)
    assert folder.get(folder.put(1, b"")) == b""


@pytest.mark.parametrize(
    "key", ["", "..", "../../etc/passwd", "/etc/passwd", "1/ab/cd/x", "tmp/ab", "1/ab/cd/" + "a" * 64 + "/..", "1\n"]
)
def test_only_keys_name_files(tmp_path: Path, key: str) -> None:
    folder = BlobFolder(tmp_path)
    for use in (folder.get, folder.open, folder.exists, folder.delete):
        with pytest.raises(ValueError, match="blob key"):
            use(key)


def test_links_do_not_lead_outside(tmp_path: Path) -> None:
    folder = BlobFolder(tmp_path / "blobs")
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    key = folder.put(1, DATA)
    path = tmp_path / "blobs" / key
    path.unlink()
    path.symlink_to(secret)
    with pytest.raises(OSError, match="symbolic links"):
        folder.get(key)
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "blobs" / "2").symlink_to(outside)
    with pytest.raises(ValueError, match="outside"):
        folder.put(2, DATA)
    assert not files(outside)


def test_variants_go_with_their_original(tmp_path: Path) -> None:
    folder = BlobFolder(tmp_path)
    key = folder.put(1, DATA)
    folder.put_variant(key, "small", b"s")
    folder.put_variant(key, "small", b"s2")
    assert folder.get(variant(key, "small")) == b"s2"
    folder.delete(key)
    assert files(tmp_path) == []
    with pytest.raises(BlobMissingError):
        folder.put_variant(key, "small", b"s")
    with pytest.raises(BlobMissingError):
        folder.put_variant(key_of(9, b"never"), "small", b"s")
    assert files(tmp_path) == []


def test_delete_spares_what_was_just_put_again(tmp_path: Path) -> None:
    folder = BlobFolder(tmp_path)
    key = folder.put(1, DATA)
    os.utime(tmp_path / key, (0, 0))
    folder.put(1, DATA)
    assert not folder.delete(key, min_age_s=60)
    os.utime(tmp_path / key, (0, 0))
    assert folder.delete(key, min_age_s=60)


def test_put_and_delete_at_once(tmp_path: Path) -> None:
    """Whoever is last, a put that returned after the last delete leaves the file whole."""
    folder = BlobFolder(tmp_path)
    key = key_of(1, DATA)

    def work(index: int) -> None:
        if index % 3:
            folder.put(1, DATA)
        else:
            folder.delete(key)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(200)))
    folder.put(1, DATA)
    assert folder.get(key) == DATA
    assert len(files(tmp_path)) == 1


def test_killed_process_leaves_only_unfinished_files(tmp_path: Path) -> None:
    program = (
        "import itertools, pathlib, sys\n"
        "from sightrank.store.blobs import BlobFolder\n"
        "folder = BlobFolder(pathlib.Path(sys.argv[1]))\n"
        "print('go', flush=True)\n"
        "for number in itertools.count():\n"
        "    folder.put(1, str(number).encode() * 200_000)\n"
    )
    for delay_s in (0.05, 0.11, 0.17):
        with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(delay_s)
            process.send_signal(signal.SIGKILL)
    folder = BlobFolder(tmp_path)
    folder.sweep(min_age_s=0)
    assert list((tmp_path / "tmp").iterdir()) == []
    kept = files(tmp_path)
    assert kept
    for path in kept:
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name


def test_sweep_spares_the_young(tmp_path: Path) -> None:
    folder = BlobFolder(tmp_path)
    (tmp_path / "tmp" / "old").write_bytes(b"x")
    os.utime(tmp_path / "tmp" / "old", (0, 0))
    (tmp_path / "tmp" / "young").write_bytes(b"x")
    assert folder.sweep() == 1
    assert [path.name for path in (tmp_path / "tmp").iterdir()] == ["young"]


def test_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = BlobFolder(tmp_path)

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            folder.put(1, DATA)
    assert files(tmp_path) == []
    assert folder.get(folder.put(1, DATA)) == DATA


def test_store_for_coroutines(tmp_path: Path) -> None:
    async def run() -> None:
        store = BlobStore(tmp_path, threads=2)
        try:
            keys = await asyncio.gather(*(store.put(1, bytes([number])) for number in range(20)))
            assert [await store.get(key) for key in keys] == [bytes([number]) for number in range(20)]
            with await store.open(keys[0]) as file:
                assert file.read() == b"\0"
            await store.put_variant(keys[0], "tiny", b"t")
            assert await store.delete(keys[0])
            assert not await store.exists(variant(keys[0], "tiny"))
            assert await store.exists(keys[1])
            assert await store.sweep() == 0
            usage = await store.usage()
            assert 0 < usage.free_bytes <= usage.total_bytes
        finally:
            store.close()

    asyncio.run(run())
