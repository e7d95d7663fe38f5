"""The background work of exporting: shared by processes, survived by what waits, called off by who deletes."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from clarifai_grpc.grpc.api import resources_pb2
from psycopg import sql
from structlog.testing import capture_logs
from tests.integration.evaluating import wait_for
from tests.integration.explaining import Read, looked_at, on_grown_apps, reads
from tests.integration.exporting import EXPORTED, EXPORTING, FAILED, QUEUED, UNKNOWN_ERROR, unpacked
from tests.integration.worlds import small_vocabulary

from sightrank.api import dataset_exporter
from sightrank.api.dataset_archive import PROTOBUF, Archive
from sightrank.api.dataset_contents import DatasetContents, Portion
from sightrank.api.dataset_export_records import take_exports
from sightrank.api.dataset_exporter import DatasetExporter
from sightrank.api.records import Records
from sightrank.ingest.export_queue import ATTEMPTS, ExportQueue
from sightrank.ingest.media import HostedUrls
from sightrank.ingest.removal import Removal
from sightrank.search.concepts import ConceptBook
from sightrank.store import queries
from sightrank.store.blobs import BlobStore
from sightrank.store.database import Database
from sightrank.vision.threads import Threads

INPUTS = 250  # several portions

#: Two apps with a dataset ``d`` of text inputs, each with a label, and a version ``v`` that is ready.
_APPS = """
INSERT INTO users (id) VALUES ('me');
INSERT INTO app_buckets (bucket) VALUES (1), (2);
INSERT INTO apps (user_id, id, first_bucket, workflow_id)
SELECT 'me', 'app-' || bucket, bucket, 'General' FROM app_buckets;
INSERT INTO datasets (bucket, id) SELECT bucket, 'd' FROM app_buckets;
INSERT INTO inputs (bucket, number, id, created_at, modified_at, status, media, text_raw)
SELECT 1, n, 'i' || n, to_timestamp(n), to_timestamp(n), 30000, 'text', 'words' FROM generate_series(1, {inputs}) n;
INSERT INTO areas (bucket, id, input_number, created_at) SELECT bucket, number, number, created_at FROM inputs;
INSERT INTO annotations (bucket, input_number, id, area_id, created_at, modified_at, status, input_level, trusted,
    user_id, concept_ids, concept_values)
SELECT bucket, number, 'a' || number, number, created_at, created_at, 24150, true, true, 'me', '{{dog}}', '{{1}}'
FROM inputs;
INSERT INTO dataset_inputs (bucket, dataset_id, input_number, created_at)
SELECT bucket, 'd', number, created_at FROM inputs;
INSERT INTO dataset_versions (bucket, dataset_id, id, as_of, status, created_at, modified_at)
SELECT bucket, 'd', 'v', '2026-01-01Z', 64015, now(), now() FROM app_buckets;
"""


#: Each of four apps has 500 exports, all but one of them done.
_MANY_EXPORTS = """
INSERT INTO users (id) VALUES ('me');
INSERT INTO apps (user_id, id, first_bucket, workflow_id)
SELECT 'me', 'app-' || bucket, bucket, 'General' FROM app_buckets;
INSERT INTO datasets (bucket, id) SELECT bucket, 'd' FROM app_buckets;
INSERT INTO dataset_versions (bucket, dataset_id, id, as_of, status, created_at, modified_at)
SELECT bucket, 'd', 'v' || n, now(), 64015, now(), now() FROM app_buckets, generate_series(1, 500) n;
INSERT INTO dataset_exports (bucket, id, dataset_id, version_id, format, secret, status, blob)
SELECT bucket, 'e' || n, 'd', 'v' || n, 1, 'secret', CASE n WHEN 7 THEN 64201 ELSE 64200 END,
    CASE n WHEN 7 THEN '' ELSE bucket || '/ab/' || n END
FROM app_buckets, generate_series(1, 500) n;
"""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A database with something to export, and a folder for the files."""

    database: Database
    blobs: BlobStore
    root: Path
    threads: Threads

    def exporter(self, wake: asyncio.Event | None = None) -> DatasetExporter:
        book = ConceptBook(small_vocabulary())
        contents = DatasetContents(self.database, Records(self.database, book, HostedUrls("http://localhost")))
        formats = {1: PROTOBUF, 3: PROTOBUF}
        return DatasetExporter(self.database, self.blobs, contents, formats, self.threads, wake or asyncio.Event())

    def queue(self, owner: str, lease_s: float = 60.0) -> ExportQueue:
        return ExportQueue(self.database, owner=owner, lease_s=lease_s)

    async def ask(self, bucket: int = 1, wanted: int = 1) -> None:
        await self.database.execute(
            "INSERT INTO dataset_exports (bucket, id, dataset_id, version_id, format, secret, status)"
            " VALUES (%s, 'e' || %s, 'd', 'v', %s, 'secret', 64201)",
            (bucket, wanted, wanted),
        )

    async def states(self) -> list[int]:
        rows = await self.database.rows("SELECT status FROM dataset_exports ORDER BY bucket, format")
        return [status for (status,) in rows]

    async def until(self, *states: int) -> None:
        async def reached() -> bool:
            return await self.states() == list(states)

        await wait_for(f"the states {states}", reached)

    def files(self) -> list[Path]:
        return sorted(path for path in self.root.rglob("*") if path.is_file())

    @contextmanager
    def running(self, count: int = 1) -> Iterator[list[asyncio.Task[None]]]:
        tasks = [asyncio.create_task(self.exporter().run()) for _ in range(count)]
        try:
            yield tasks
        finally:
            for task in tasks:
                task.cancel()


Scenario = Callable[[Bench], Awaitable[None]]
Run = Callable[[Scenario], None]


@pytest.fixture
def run(database_url: str, tmp_path: Path) -> Run:
    async def opened(scenario: Scenario) -> None:
        database, threads = Database(database_url), Threads(2)
        blobs = BlobStore(tmp_path)
        await database.open()
        try:
            async with database.connection() as connection:
                await connection.execute(_APPS.format(inputs=INPUTS))  # type: ignore[arg-type]
            await scenario(Bench(database=database, blobs=blobs, root=tmp_path, threads=threads))
        finally:
            await database.close()
            blobs.close()
            threads.close()

    return lambda scenario: asyncio.run(opened(scenario))


@pytest.fixture
def slowly(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Exports stop after their first portion until the event is set."""
    go = asyncio.Event()
    portions = DatasetContents.portions

    async def slow(self: DatasetContents, *arguments: Any) -> Any:
        async for portion in portions(self, *arguments):
            yield portion
            await go.wait()

    monkeypatch.setattr(DatasetContents, "portions", slow)
    return go


def test_all_inputs_are_exported_portion_by_portion(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    messages = DatasetContents.messages

    def counted(self: DatasetContents, app: Any, portion: Portion) -> Iterator[resources_pb2.Input]:
        sizes.append(len(portion.inputs))
        return messages(self, app, portion)

    monkeypatch.setattr(DatasetContents, "messages", counted)

    async def scenario(bench: Bench) -> None:
        await bench.ask()
        with bench.running():
            await bench.until(EXPORTED)
        (file,) = bench.files()
        inputs = unpacked(file.read_bytes())
        assert [item.id for item in inputs] == [f"i{n}" for n in range(1, INPUTS + 1)]
        assert {item.data.concepts[0].id for item in inputs} == {"dog"}
        assert await bench.database.row("SELECT size, blob, progress FROM dataset_exports") == (
            file.stat().st_size,
            str(file.relative_to(bench.root)),
            1.0,
        )

    run(scenario)
    assert max(sizes) <= 100
    assert sum(sizes) == INPUTS


def test_a_portion_reads_no_more_of_a_dataset_than_it_has(database_url: str) -> None:
    """Else a dataset of a million inputs would be read ten thousand times."""
    after = {"after": datetime(1970, 1, 1, 0, 10, tzinfo=UTC), "after_number": 600}
    named = {"bucket": 1, "dataset_id": "all", "version_id": "v", "as_of": datetime.now(UTC)}
    unfiltered = {"filtered": False, "ignore_empty": False}
    portion = sql.SQL(queries.load("dataset_versions")["members"]).format(limit=20)

    async def scenario(database: Database) -> list[Read]:
        return await reads(database, portion, named | unfiltered | after)

    found = on_grown_apps(database_url, scenario)

    assert {read.table for read in found} == {"dataset_inputs", "past_dataset_inputs", "inputs"}
    assert looked_at(found) <= 2 * 20


def test_statements_about_one_export_read_by_index(database_url: str) -> None:
    one: dict[str, object] = {"bucket": 1, "id": "e7", "owner": "me", "lease_s": 30.0}
    of_version: dict[str, object] = {"bucket": 1, "dataset_id": "d", "version_id": "v7", "version_ids": ["v7"]}
    new = {"ids": ["n"], "formats": [1], "secrets": ["s"]}
    asked: dict[str, dict[str, object]] = {
        "waiting": one,
        "ask": of_version | new,
        "tell": one | {"ids": ["e7"]},
        "read": of_version,
        "file": one,
        "buckets_with_work": {},
        "claim": one,
        "renew": one | {"progress": 0.5},
        "finish": one | {"blob": "1/ab/cd", "size": 1},
        "fail": one | {"status": 64202, "details": "no"},
        "put_off": one | {"pause_s": 0.0, "blameless": True},
        "delete": of_version | {"dataset_ids": ["d"]},
    }

    async def scenario(database: Database) -> dict[str, list[Read]]:
        async with database.connection() as connection:
            await connection.execute(_MANY_EXPORTS)
            await connection.execute("VACUUM ANALYZE")
        statements = queries.load("dataset_exports")
        return {name: await reads(database, statements[name], parameters) for name, parameters in asked.items()}

    found = on_grown_apps(database_url, scenario)

    assert {name: reading for name, reading in found.items() if looked_at(reading) > 20} == {}


def test_several_processes_share_the_queue(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        for bucket, wanted in ((1, 1), (1, 3), (2, 1), (2, 3)):
            await bench.ask(bucket, wanted)
        with bench.running(3):
            await bench.until(*[EXPORTED] * 4)
        assert len(bench.files()) == 4
        assert await bench.database.row("SELECT max(attempts) FROM dataset_exports") == (1,)

    run(scenario)


def test_what_a_dead_process_had_is_taken_over_and_a_late_one_leaves_nothing(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.ask()
        late, quick = bench.queue("late", lease_s=0.0), bench.queue("quick")
        lost = await late.claim()
        assert lost is not None
        taken = await wait_for("the lease to run out", quick.claim)
        assert (taken.id, taken.attempts) == (lost.id, 2)

        assert not await late.keep(lost, 0.5)
        assert not await late.finish(lost, blob="1/ab/late", size=1)
        assert not await late.fail(lost, dataset_exporter.State.FAILED, "late")
        await late.put_off(lost, pause_s=0, blameless=True)

        assert await bench.states() == [EXPORTING]
        assert await quick.finish(taken, blob="1/ab/quick", size=1)
        assert await bench.database.row("SELECT blob FROM dataset_exports") == ("1/ab/quick",)

    run(scenario)


def test_who_is_overtaken_while_writing_removes_its_file(run: Run, slowly: asyncio.Event) -> None:
    async def scenario(bench: Bench) -> None:
        async def no_files() -> bool:
            return bench.files() == []

        await bench.ask()
        with bench.running():
            await bench.until(EXPORTING)
            await bench.database.execute("UPDATE dataset_exports SET lease_owner = 'another'")
            slowly.set()
            await wait_for("the file to go", no_files)
        assert await bench.states() == [EXPORTING]

    run(scenario)


def test_an_orderly_stop_gives_it_back_and_another_takes_it(run: Run, slowly: asyncio.Event) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.ask()
        with bench.running() as (task,):
            await bench.until(EXPORTING)
            task.cancel()
            await asyncio.wait([task])
        assert await bench.states() == [QUEUED]
        assert bench.files() == []
        slowly.set()
        with bench.running():
            await bench.until(EXPORTED)
        assert await bench.database.row("SELECT attempts FROM dataset_exports") == (1,)

    run(scenario)


@pytest.mark.parametrize("what", ["version", "dataset", "app"])
def test_deleting_what_is_exported_stops_it_and_leaves_nothing(run: Run, slowly: asyncio.Event, what: str) -> None:
    deletions = {
        "version": "DELETE FROM dataset_versions WHERE bucket = 1",
        "dataset": "DELETE FROM datasets WHERE bucket = 1",
        "app": "DELETE FROM inputs WHERE bucket = 1; DELETE FROM datasets WHERE bucket = 1;"
        " DELETE FROM apps WHERE first_bucket = 1; DELETE FROM app_buckets WHERE bucket = 1",
    }

    async def scenario(bench: Bench) -> None:
        await bench.ask()
        await bench.ask(bucket=2)
        with bench.running():
            await bench.until(EXPORTING, QUEUED)
            await bench.database.execute(deletions[what])
            slowly.set()
            await bench.until(EXPORTED)
        assert [path.relative_to(bench.root).parts[0] for path in bench.files()] == ["2"]

    run(scenario)


def test_a_full_disk_is_told_and_asking_again_tries_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Archive, item: resources_pb2.Input) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async def scenario(bench: Bench) -> None:
        await bench.ask()
        with monkeypatch.context() as patched, bench.running():
            patched.setattr(Archive, "add", full)
            await bench.until(FAILED)
        row = await bench.database.row("SELECT status_details FROM dataset_exports")
        assert row is not None
        assert row[0].startswith("Its archive cannot be written: No space left on device.")
        assert bench.files() == []

    run(scenario)


def test_a_version_that_is_not_ready_waits_and_one_that_failed_fails(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.database.execute("UPDATE dataset_versions SET status = 64005 WHERE bucket = 1")
        await bench.database.execute("UPDATE dataset_versions SET status = 64020, details = 'no' WHERE bucket = 2")
        await bench.ask()
        await bench.ask(bucket=2)
        with bench.running():
            await bench.until(QUEUED, FAILED)
            await bench.database.execute("UPDATE dataset_versions SET status = 64015 WHERE bucket = 1")
            await bench.until(EXPORTED, FAILED)
        row = await bench.database.row("SELECT status_details FROM dataset_exports WHERE bucket = 2")
        assert row == ("The version is not ready: no",)

    run(scenario)


def test_an_error_is_tried_again_and_told_in_the_end(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[int] = []

    def broken(self: DatasetContents, app: Any, portion: Portion) -> Iterator[resources_pb2.Input]:
        tries.append(len(portion.inputs))
        raise ValueError("what nobody thought of")

    monkeypatch.setattr(DatasetContents, "messages", broken)
    monkeypatch.setattr(dataset_exporter, "_AGAIN_S", 0.0)

    async def scenario(bench: Bench) -> None:
        await bench.ask()
        with bench.running():
            await bench.until(UNKNOWN_ERROR)
        row = await bench.database.row("SELECT status_details FROM dataset_exports")
        assert row == (f"It failed {ATTEMPTS} times: what nobody thought of",)

    with capture_logs() as logs:
        run(scenario)
    assert len(tries) == ATTEMPTS
    assert [entry["event"] for entry in logs] == ["export failed"] * ATTEMPTS


def test_what_ends_processes_again_and_again_is_given_up(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.ask()
        dying = bench.queue("dying", lease_s=0.0)
        for _ in range(ATTEMPTS):
            await wait_for("the lease to run out", dying.claim)
        with bench.running():
            await bench.until(FAILED)
        row = await bench.database.row("SELECT status_details FROM dataset_exports")
        assert row == (f"Exporting it ended the server {ATTEMPTS} times.",)

    run(scenario)


def test_taking_exports_waits_for_one_that_is_being_finished(run: Run) -> None:
    """Else its file would be nobody's."""

    async def scenario(bench: Bench) -> None:
        await bench.ask()
        queue = bench.queue("me")
        assert await queue.claim() is not None
        async with bench.database.transaction() as deleting:
            async with bench.database.transaction() as finishing:
                await finishing.execute("UPDATE dataset_exports SET status = 64200, blob = '1/ab/made'")
                taking = asyncio.create_task(take_exports(deleting, 1, ["d"]))
                await asyncio.wait([taking], timeout=0.2)
                assert not taking.done()
            assert await taking == ["1/ab/made"]

    run(scenario)


def test_the_sweep_leaves_files_of_exports(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.ask()
        with bench.running():
            await bench.until(EXPORTED)
        (kept,) = bench.files()
        await bench.blobs.put(1, b"of nothing")

        removed = await Removal(bench.database, bench.blobs).sweep(min_age_s=0.0)

        assert (removed, bench.files()) == (1, [kept])

    run(scenario)
