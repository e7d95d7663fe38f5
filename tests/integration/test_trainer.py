"""The queue of trainings and what works on it: one or several processes, deaths, deletions, errors, other vectors."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import psycopg
import pytest
from tests.integration.beside import beside
from tests.integration.labels import say, with_app
from tests.integration.searching import DIMS, Process, process, random_unit

from sightrank.search.concepts import ConceptBook
from sightrank.store import vectors
from sightrank.store.buckets import next_version
from sightrank.store.vectors import EmbedderTable, VectorRows
from sightrank.teach import trainer as trainer_module
from sightrank.teach.classroom import Classroom
from sightrank.teach.trainer import Trainer
from sightrank.teach.training_queue import Refit, Training, TrainingQueue, lacks_fits
from sightrank.vision.fitting import Examples, FitOptions, fit
from sightrank.vision.threads import Threads
from sightrank.vision.vocabulary import Vocabulary

TRAINED, TRAINING, QUEUED, BROKEN, NO_DATA = 21100, 21101, 21103, 21106, 21110
BOOK = ConceptBook(Vocabulary.empty())
Progress = Callable[[float], None]


@asynccontextmanager
async def training(place: Process, *, table: EmbedderTable | None = None) -> AsyncIterator[None]:
    """A process that trains, for the length of the block."""
    tables = {"General": table or place.table}

    def run(threads: Threads) -> Coroutine[Any, Any, None]:
        room = Classroom(database=place.database, book=BOOK, tables=tables, idle=["Empty"], threads=threads)
        return Trainer(room, asyncio.Event()).run()

    async with beside(run):
        yield


async def queue(place: Process, bucket: int, *version_ids: str, **columns: Any) -> None:
    """Versions of the model ``m`` that wait to be trained."""
    await place.database.execute(
        "INSERT INTO models (bucket, id, name, model_type_id) VALUES (%s, 'm', 'm', 'embedding-classifier')"
        " ON CONFLICT DO NOTHING",
        [bucket],
    )
    for version_id in version_ids:
        values = {"lease_owner": None, "lease_s": None, "attempts": 0, "status": QUEUED, **columns}
        await place.database.execute(
            "INSERT INTO model_versions (bucket, id, model_id, status, concept_ids, lease_owner, lease_until, attempts)"
            " VALUES (%(bucket)s, %(id)s, 'm', %(status)s, '{cat,dog}', %(lease_owner)s,"
            " now() + %(lease_s)s * interval '1 second', %(attempts)s)",
            {"bucket": bucket, "id": version_id, **values},
        )


async def labelled(place: Process, bucket: int) -> None:
    photos = await place.add(bucket, *map(random_unit, range(6)))
    for number, photo in enumerate(photos):
        await say(place, bucket, photo, {"cat" if number % 2 else "dog": 1.0})


async def version(place: Process, bucket: int, version_id: str = "v") -> dict[str, Any]:
    row = await place.database.row(
        "SELECT status, status_details, attempts, lease_owner, total_input_count, completed_at, (SELECT count(*)"
        " FROM model_fits f WHERE f.bucket = v.bucket AND f.model_version_id = v.id)"
        " FROM model_versions v WHERE bucket = %s AND id = %s",
        [bucket, version_id],
    )
    names = ("status", "details", "attempts", "owner", "inputs", "completed_at", "fits")
    return dict(zip(names, row, strict=True)) if row else {}


async def until(look: Callable[[], Awaitable[bool]], *, seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not await look():  # noqa: ASYNC110 (what is waited for is in the database)
            await asyncio.sleep(0.02)


async def until_status(place: Process, bucket: int, status: int, version_id: str = "v") -> dict[str, Any]:
    async def is_there() -> bool:
        return (await version(place, bucket, version_id)).get("status") == status

    await until(is_there)
    return await version(place, bucket, version_id)


async def train(place: Process, bucket: int) -> dict[str, Any]:
    """Version ``v`` of the model ``m``, trained by photos that are labelled for it."""
    await labelled(place, bucket)
    await queue(place, bucket, "v")
    async with training(place):
        return await until_status(place, bucket, TRAINED)


class Slow:
    """Takes the place of learning: it goes on until it is told to stop."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.ended = threading.Event()

    def __call__(self, examples: Examples, options: FitOptions, progress: Progress) -> Any:
        self.begun.set()
        try:
            while True:
                progress(0.5)
                time.sleep(0.01)
        finally:
            self.ended.set()


@asynccontextmanager
async def learning(place: Process, bucket: int, slow: Slow) -> AsyncIterator[None]:
    """A process that has begun to train ``v``, in a block where ``slow`` takes the place of learning."""
    await labelled(place, bucket)
    await queue(place, bucket, "v")
    async with training(place):
        assert await asyncio.to_thread(slow.begun.wait, 60)
        yield


def test_a_training_is_one_commit_that_searches_see(database_url: str) -> None:
    async def scenario(place: Process, bucket: int) -> None:
        await labelled(place, bucket)
        await queue(place, bucket, "v")
        before = await place.database.row("SELECT version FROM app_buckets WHERE bucket = %s", [bucket])

        async with training(place):
            done = await until_status(place, bucket, TRAINED)

        assert (done["inputs"], done["fits"], done["owner"], done["attempts"]) == (6, 1, None, 0)
        after = await place.database.row("SELECT version, labels_version FROM app_buckets WHERE bucket = %s", [bucket])
        assert before is not None
        assert after == (before[0] + 1, before[0] + 1)

    with_app(database_url, scenario)


def test_the_work_of_a_process_that_died_is_done_anew(database_url: str) -> None:
    async def scenario(place: Process, bucket: int) -> None:
        await labelled(place, bucket)
        await queue(place, bucket, "v", status=TRAINING, lease_owner="dead", lease_s=0.5, attempts=1)

        async with training(place):
            done = await until_status(place, bucket, TRAINED)

        assert done["fits"] == 1

    with_app(database_url, scenario)


def test_what_ends_the_server_again_and_again_is_given_up(database_url: str) -> None:
    async def scenario(place: Process, bucket: int) -> None:
        await labelled(place, bucket)
        await queue(place, bucket, "v", status=TRAINING, lease_owner="dead", lease_s=-1, attempts=4)

        async with training(place):
            done = await until_status(place, bucket, BROKEN)

        assert done["details"] == "Training ended the server 4 times; nothing was learnt."
        assert done["fits"] == 0

    with_app(database_url, scenario)


def test_an_error_in_learning_is_told(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(examples: Examples, options: FitOptions, progress: Progress) -> Any:
        raise ValueError("no plane divides these")

    monkeypatch.setattr(trainer_module, "fit", broken)

    async def scenario(place: Process, bucket: int) -> None:
        await labelled(place, bucket)
        await queue(place, bucket, "v")

        async with training(place):
            done = await until_status(place, bucket, BROKEN)

        assert done["details"] == "Learning failed: ValueError: no plane divides these"

    with_app(database_url, scenario)


def test_a_database_that_is_away_when_an_error_is_to_be_told_ends_no_trainer(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = asyncio.Event()
    fail = TrainingQueue.fail

    def broken(examples: Examples, options: FitOptions, progress: Progress) -> Any:
        raise ValueError("no plane divides these")

    async def refused(self: TrainingQueue, training: Training, status: int, reason: str) -> None:
        if training.id == "v":
            away.set()
            raise psycopg.OperationalError("server closed the connection unexpectedly")
        await fail(self, training, status, reason)

    monkeypatch.setattr(trainer_module, "fit", broken)
    monkeypatch.setattr(TrainingQueue, "fail", refused)

    async def scenario(place: Process, bucket: int) -> None:
        await labelled(place, bucket)
        await queue(place, bucket, "v")

        async with training(place):
            await asyncio.wait_for(away.wait(), 60)
            await queue(place, bucket, "w")
            told = await until_status(place, bucket, BROKEN, "w")

        assert told["details"] == "Learning failed: ValueError: no plane divides these"

    with_app(database_url, scenario)


def test_an_app_without_vectors_has_no_data(database_url: str) -> None:
    async def scenario(place: Process, bucket: int) -> None:
        await labelled(place, bucket)
        await place.database.execute("UPDATE apps SET workflow_id = 'Empty'")
        await queue(place, bucket, "v")

        async with training(place):
            done = await until_status(place, bucket, NO_DATA)

        assert "Workflow Empty of the app makes no vectors" in done["details"]

    with_app(database_url, scenario)


def test_a_deletion_stops_the_learning(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow()
    monkeypatch.setattr(trainer_module, "fit", slow)

    async def scenario(place: Process, bucket: int) -> None:
        async with learning(place, bucket, slow):
            await place.database.execute("DELETE FROM models WHERE bucket = %s", [bucket])

            assert await asyncio.to_thread(slow.ended.wait, 60)
            monkeypatch.setattr(trainer_module, "fit", fit)
            await queue(place, bucket, "next")
            assert (await until_status(place, bucket, TRAINED, "next"))["fits"] == 1
        assert await place.database.row("SELECT count(*) FROM model_fits") == (1,)

    with_app(database_url, scenario)


def test_who_lost_the_lease_writes_nothing(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow()
    monkeypatch.setattr(trainer_module, "fit", slow)

    async def scenario(place: Process, bucket: int) -> None:
        async with learning(place, bucket, slow):
            await place.database.execute("UPDATE model_versions SET lease_owner = 'another'")
            assert await asyncio.to_thread(slow.ended.wait, 60)

        left = await version(place, bucket)
        assert (left["status"], left["owner"], left["fits"]) == (TRAINING, "another", 0)

    with_app(database_url, scenario)


def test_a_stop_gives_the_training_back(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow()
    monkeypatch.setattr(trainer_module, "fit", slow)

    async def scenario(place: Process, bucket: int) -> None:
        async with learning(place, bucket, slow):
            pass

        assert slow.ended.is_set()
        left = await version(place, bucket)
        assert (left["status"], left["owner"], left["attempts"], left["fits"]) == (QUEUED, None, 0, 0)

    with_app(database_url, scenario)


def test_the_version_that_waits_longest_is_claimed_first_of_whatever_app(database_url: str) -> None:
    async def scenario(place: Process, bucket: int) -> None:
        others = [await place.new_app("Empty"), await place.new_app("Removed")]
        for number, app in enumerate([others[1], bucket, others[0], bucket]):
            await queue(place, app, f"v{number}")
        queued = TrainingQueue(place.database, owner="me", lease_s=30)

        found = [await queued.claim(["General", "Empty"]) for _ in range(4)]

        # What an app waits for whose workflow cannot run here holds up nobody.
        assert [claimed and (claimed.bucket, claimed.id, claimed.workflow_id) for claimed in found] == [
            (bucket, "v1", "General"),
            (others[0], "v2", "Empty"),
            (bucket, "v3", "General"),
            None,
        ]

    with_app(database_url, scenario)


def test_many_claims_at_once_take_each_version_once(database_url: str) -> None:
    async def scenario(place: Process, bucket: int) -> None:
        apps = [bucket, *[await place.new_app("General") for _ in range(3)]]
        for app in apps:
            await queue(place, app, "v", "w")
        queues = [TrainingQueue(place.database, owner=f"process {n}", lease_s=30) for n in range(6)]
        claimed: list[Training] = []

        async def take_all(one: TrainingQueue) -> None:
            async def all_taken() -> bool:
                found = await one.claim(["General"])
                claimed.extend([found] if found else [])
                return len(claimed) == 8

            await until(all_taken)

        await asyncio.gather(*map(take_all, queues))

        taken = sorted((one.bucket, one.id, one.attempts) for one in claimed)
        assert taken == [(app, version_id, 1) for app in sorted(apps) for version_id in ("v", "w")]

    with_app(database_url, scenario)


def test_two_processes_train_each_version_once(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted: list[int] = []

    def counted(examples: Examples, options: FitOptions, progress: Progress) -> Any:
        fitted.append(threading.get_ident())
        return fit(examples, options, progress)

    monkeypatch.setattr(trainer_module, "fit", counted)
    ids = [f"v{number}" for number in range(12)]

    async def scenario(place: Process, bucket: int) -> None:
        await labelled(place, bucket)
        async with process(database_url) as other, training(place), training(other):
            await queue(place, bucket, *ids)
            for version_id in ids:
                assert (await until_status(place, bucket, TRAINED, version_id))["fits"] == 1
        assert len(fitted) == len(ids)

    with_app(database_url, scenario)


# Other vectors ------------------------------------------------------------------------------------------------------


async def embed_anew(place: Process, bucket: int, table: EmbedderTable) -> None:
    """Every area gets a vector of another embedder."""
    rows = await place.database.rows("SELECT id, input_number FROM areas WHERE bucket = %s ORDER BY id", [bucket])
    area_ids, numbers = np.array(rows, np.int64).T
    async with place.database.transaction() as connection:
        version_number = await next_version(connection, bucket, labels=False)
        chosen = np.stack([random_unit(1000 + seed) for seed in range(len(rows))]).astype(np.float16)
        made = VectorRows(area_ids=area_ids, input_numbers=numbers, created_us=numbers, vectors=chosen)
        await vectors.insert(connection, table, bucket, version_number, made)


async def fits_of(place: Process, bucket: int) -> set[int]:
    rows = await place.database.rows("SELECT embedder_id FROM model_fits WHERE bucket = %s", [bucket])
    return {embedder_id for (embedder_id,) in rows}


def test_a_trained_version_is_fitted_to_the_vectors_of_an_upgraded_model(database_url: str) -> None:
    async def scenario(place: Process, bucket: int) -> None:
        before = await train(place, bucket)
        other = await vectors.register(place.database, "model", "v2", DIMS)
        await place.database.execute("UPDATE inputs SET status = 30001 WHERE bucket = %s", [bucket])

        async with training(place, table=other):
            # As long as inputs wait for their vectors, so does the model.
            async def was_put_off() -> bool:
                row = await place.database.row("SELECT lease_until > now() AND lease_owner IS NULL FROM model_versions")
                return row == (True,)

            await until(was_put_off)
            assert await fits_of(place, bucket) == {place.table.id}
            await embed_anew(place, bucket, other)
            await place.database.execute("UPDATE inputs SET status = 30000 WHERE bucket = %s", [bucket])

            async def is_fitted() -> bool:
                return await fits_of(place, bucket) == {place.table.id, other.id}

            await until(is_fitted)

        after = await version(place, bucket)
        assert after == before | {"fits": 2}

    with_app(database_url, scenario)


def test_all_apps_are_looked_at_first_and_then_only_those_that_are_about_to_change_over(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[bool] = []
    claim_unfitted = TrainingQueue.claim_unfitted

    async def counted(self: TrainingQueue, tables: Mapping[str, EmbedderTable], *, everywhere: bool) -> Refit | None:
        looks.append(everywhere)
        return await claim_unfitted(self, tables, everywhere=everywhere)

    async def scenario(place: Process, bucket: int) -> None:
        await train(place, bucket)
        other = await vectors.register(place.database, "model", "v2", DIMS)
        await embed_anew(place, bucket, other)
        monkeypatch.setattr(TrainingQueue, "claim_unfitted", counted)
        monkeypatch.setattr(trainer_module, "_REFITS_S", 0.0)
        looking = TrainingQueue(place.database, owner="me", lease_s=30)
        assert await looking.claim_unfitted({"General": other}, everywhere=False) is None

        async with training(place, table=other):

            async def has_looked() -> bool:
                return len(looks) > 5 and len(await fits_of(place, bucket)) == 2

            await until(has_looked)

        assert await fits_of(place, bucket) == {place.table.id, other.id}
        # The app's own version, then none of any app, then what is about to change.
        first_of_few = looks.index(False, 1)
        assert all(looks[1:first_of_few])
        assert not any(looks[first_of_few:])

    with_app(database_url, scenario)


def test_models_are_fitted_before_their_app_changes_over(database_url: str) -> None:
    async def scenario(place: Process, bucket: int) -> None:
        await train(place, bucket)
        other = await vectors.register(place.database, "other", "v1", DIMS)
        await embed_anew(place, bucket, other)
        await place.database.execute(
            "INSERT INTO reindexes (bucket, workflow_id, embedder_id, state) VALUES (%s, 'Other', %s, 'switching')",
            [bucket, other.id],
        )
        assert await lacks_fits(place.database, bucket, other.id)

        async with training(place):

            async def has_all() -> bool:
                return not await lacks_fits(place.database, bucket, other.id)

            await until(has_all)
        assert await fits_of(place, bucket) == {place.table.id, other.id}

    with_app(database_url, scenario)


def test_inputs_that_wait_for_the_change_are_not_waited_for(database_url: str) -> None:
    """Ingest stands still until an app has changed over: whoever waits for it before waits for ever."""

    async def scenario(place: Process, bucket: int) -> None:
        await train(place, bucket)
        other = await vectors.register(place.database, "other", "v1", DIMS)
        await embed_anew(place, bucket, other)
        row = await place.database.row("SELECT max(number) FROM inputs WHERE bucket = %s", [bucket])
        assert row is not None
        await place.database.execute("UPDATE inputs SET status = 30001 WHERE number = %s", [row[0]])
        await place.database.execute(f"DELETE FROM vectors_{other.id} WHERE input_number = %s", [row[0]])
        await place.database.execute(
            "INSERT INTO reindexes (bucket, workflow_id, embedder_id, state) VALUES (%s, 'Other', %s, 'switching')",
            [bucket, other.id],
        )

        async with training(place):

            async def is_fitted() -> bool:
                return await fits_of(place, bucket) == {place.table.id, other.id}

            await until(is_fitted)

    with_app(database_url, scenario)


def test_what_cannot_be_fitted_again_stops_no_change(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried a few times; the version stays trained."""

    def broken(examples: Examples, options: FitOptions, progress: Progress) -> Any:
        raise ValueError("not with these")

    async def scenario(place: Process, bucket: int) -> None:
        await train(place, bucket)
        other = await vectors.register(place.database, "model", "v2", DIMS)
        await embed_anew(place, bucket, other)
        monkeypatch.setattr(trainer_module, "fit", broken)
        monkeypatch.setattr(trainer_module, "_AGAIN_S", 0.05)

        async with training(place, table=other):

            async def is_given_up() -> bool:
                return not await lacks_fits(place.database, bucket, other.id)

            await until(is_given_up)

        assert await fits_of(place, bucket) == {place.table.id}
        assert (await version(place, bucket))["status"] == TRAINED

    with_app(database_url, scenario)
