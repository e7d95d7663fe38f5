"""Archives of dataset versions: what is in the file, and that only a batch of it is ever in memory."""

from __future__ import annotations

import json
import threading
import tracemalloc
import zipfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from clarifai.datasets.export.inputs_annotations import DatasetExportReader
from clarifai_grpc.grpc.api.resources_pb2 import Concept, Data, Image, Input, InputBatch

from sightrank.api import dataset_archive
from sightrank.api.dataset_archive import PROTOBUF, Archive, ArchiveFormat, json_format
from sightrank.wire.json_writer import JsonWriter

AT = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
JSON = json_format(JsonWriter([Input.DESCRIPTOR]).text)


def an_input(n: int, size: int = 0) -> Input:
    concept = Concept(id="dog", name="dog", value=0.0)
    return Input(id=f"i{n}", data=Data(image=Image(url=f"https://example.com/{n}/{'x' * size}"), concepts=[concept]))


def written(path: Path, archive_format: ArchiveFormat, inputs: list[Input]) -> zipfile.ZipFile:
    archive = Archive(path, archive_format, AT)
    for item in inputs:
        archive.add(item)
    archive.finish()
    return zipfile.ZipFile(path)


def test_the_sdk_reads_every_input_and_their_number(tmp_path: Path) -> None:
    inputs = [an_input(n) for n in range(2500)]
    written(tmp_path / "a.zip", PROTOBUF, inputs).close()

    with DatasetExportReader(local_archive_path=str(tmp_path / "a.zip")) as reader:
        assert len(reader) == 2500
        assert list(reader) == inputs
        assert reader.split_dir == "all"


def test_the_kind_of_file_comes_first_as_plain_text(tmp_path: Path) -> None:
    with written(tmp_path / "a.zip", PROTOBUF, [an_input(1), an_input(2)]) as archive:
        assert archive.namelist() == ["mimetype", "all/inputbatch_000001_n2"]
        assert archive.testzip() is None
        assert [InputBatch.FromString(archive.read(name)).inputs[1].id for name in archive.namelist()[1:]] == ["i2"]
    assert (tmp_path / "a.zip").read_bytes()[30:].startswith(b"mimetypeapplication/x.clarifai-data+protobuf")


def test_json_is_as_rest_prints_it(tmp_path: Path) -> None:
    with written(tmp_path / "a.zip", JSON, [an_input(n) for n in range(1001)]) as archive:
        assert archive.namelist() == ["mimetype", "all/inputbatch_000001_n1000.json", "all/inputbatch_000002_n1.json"]
        assert archive.read("mimetype") == b"application/x.clarifai-data+json"
        first, second = (json.loads(archive.read(name)) for name in archive.namelist()[1:])
    assert [len(batch["inputs"]) for batch in (first, second)] == [1000, 1]
    assert second["inputs"] == [
        {
            "id": "i1000",
            "data": {
                "image": {"url": "https://example.com/1000/"},
                "concepts": [{"id": "dog", "name": "dog", "value": 0}],
            },
        }
    ]


def test_nothing_to_export_is_an_archive_too(tmp_path: Path) -> None:
    with written(tmp_path / "a.zip", PROTOBUF, []) as archive:
        assert archive.namelist() == ["mimetype"]


def test_the_same_inputs_make_the_same_file(tmp_path: Path) -> None:
    for name in ("a.zip", "b.zip"):
        written(tmp_path / name, PROTOBUF, [an_input(1)]).close()
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_a_batch_ends_before_it_is_too_big(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_archive, "BATCH_BYTES", 10_000)
    inputs = [an_input(1, 4000), an_input(2, 4000), an_input(3, 4000), an_input(4, 30_000), an_input(5)]
    with written(tmp_path / "a.zip", PROTOBUF, inputs) as archive:
        sizes = [archive.getinfo(name).file_size for name in archive.namelist()[1:]]
        counts = [len(InputBatch.FromString(archive.read(name)).inputs) for name in archive.namelist()[1:]]
    assert counts == [2, 1, 1, 1]
    assert [size <= 10_000 for size in sizes] == [True, True, False, True]


def test_memory_does_not_grow_with_the_number_of_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_archive, "BATCH_BYTES", 100_000)
    archive = Archive(tmp_path / "a.zip", PROTOBUF, AT)
    tracemalloc.start()
    for n in range(4000):
        archive.add(an_input(n, 1000))
    archive.finish()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    with zipfile.ZipFile(tmp_path / "a.zip") as written_file:
        assert sum(info.file_size for info in written_file.infolist()) > 4_000_000
    assert peak < 1_000_000


def test_letting_go_of_an_archive_that_is_being_written_does_not_fail(tmp_path: Path) -> None:
    """A task that is cancelled leaves the thread that writes for it behind."""
    writing, go_on = threading.Event(), threading.Event()
    archive = Archive(tmp_path / "a.zip", PROTOBUF, AT)
    archive.add(an_input(1))
    original = zipfile.ZipFile.open

    def slow(self: zipfile.ZipFile, *arguments: Any, **options: Any) -> Any:
        opened = original(self, *arguments, **options)
        writing.set()
        assert go_on.wait(60)
        return opened

    with pytest.MonkeyPatch.context() as patched, ThreadPoolExecutor(1) as thread:
        patched.setattr(zipfile.ZipFile, "open", slow)
        finishing = thread.submit(archive.finish)
        assert writing.wait(60)
        archive.close()
        go_on.set()
        finishing.result()


def test_an_archive_left_unfinished_lets_go_of_its_file(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "a.zip", PROTOBUF, AT)
    archive.add(an_input(1))
    archive.close()
    archive.close()
    with zipfile.ZipFile(tmp_path / "a.zip") as left:
        assert left.namelist() == ["mimetype"]
