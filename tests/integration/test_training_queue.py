"""Which training is next: of what is posted, what is large, and which app's turn it is."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from psycopg.types.json import Jsonb
from tests.integration.beside import beside
from tests.integration.labels import say, with_app
from tests.integration.searching import Photo, Process, random_unit
from tests.integration.test_trainer import (
    BOOK,
    NO_DATA,
    QUEUED,
    TRAINED,
    TRAINING,
    Progress,
    labelled,
    queue,
    training,
    until,
    until_status,
    version,
)

from sightrank.teach import trainer as trainer_module
from sightrank.teach.classroom import Classroom
from sightrank.teach.trainer import SMALL, Trainer
from sightrank.teach.training_queue import TrainingQueue
from sightrank.vision.fitting import EFFORT_OF_CONCEPT, Examples, FitOptions, effort, fit
from sightrank.vision.threads import Threads

PENDING, INDEXED, FAILED = 30001, 30000, 30002
WAITING = "Waiting for {} labelled inputs to be indexed, 10 minutes from the call at most."


async def set_status(place: Process, photos: Sequence[Photo], status: int) -> None:
    numbers = [photo.number for photo in photos]
    await place.database.execute("UPDATE inputs SET status = %s WHERE number = ANY(%s)", [status, numbers])


async def posted(place: Process, bucket: int, count: int, seed: int = 50, **values: float) -> list[Photo]:
    """Inputs that are yet to be indexed, labelled so. What their vectors will be is known already."""
    photos = await place.add(bucket, *map(random_unit, range(seed, seed + count)))
    await set_status(place, photos, PENDING)
    for photo in photos if values else []:
        await say(place, bucket, photo, values)
    return photos


async def asked_long_ago(place: Process, seconds: float) -> None:
    """All versions and inputs are from so much earlier."""
    for table in ("model_versions", "inputs"):
        await place.database.execute(
            f"UPDATE {table} SET created_at = created_at - %s * interval '1 second'", [seconds]
        )


async def join(place: Process, bucket: int) -> None:
    """All inputs there are become members of the dataset, now."""
    await place.database.execute(
        "INSERT INTO dataset_inputs (bucket, dataset_id, input_number, created_at)"
        " SELECT bucket, 'some', number, clock_timestamp() FROM inputs WHERE bucket = %s ON CONFLICT DO NOTHING",
        [bucket],
    )


def test_a_training_waits_for_labelled_inputs_that_were_posted_before_it(database_url: str) -> None:
    async def scenario(place: Process, bucket: int) -> None:
        await labelled(place, bucket)
        photos = await posted(place, bucket, 3, cat=1.0)
        await queue(place, bucket, "v")

        async with training(place):

            async def is_told_to_wait() -> bool:
                return (await version(place, bucket))["details"] == WAITING.format(3)

            await until(is_told_to_wait)
            await set_status(place, photos[:1], FAILED)
            await set_status(place, photos[1:2], INDEXED)
            # Whoever is not behind anything does not wait with it.
            other = await place.new_app("General")
            await labelled(place, other)
            await queue(place, other, "w")
            assert (await until_status(place, other, TRAINED, "w"))["inputs"] == 6
            waits = await version(place, bucket)
            assert (waits["status"], waits["attempts"], waits["owner"]) == (QUEUED, 0, None)
            await set_status(place, photos[2:], INDEXED)
            done = await until_status(place, bucket, TRAINED)

        assert (done["inputs"], done["details"], done["attempts"]) == (8, "", 0)
        assert await place.database.row("SELECT awaited FROM model_versions WHERE id = 'v'") == ([],)

    with_app(database_url, scenario)


@pytest.mark.parametrize(
    "what", ["not labelled", "of another concept", "posted later", "not in the dataset", "not in its version"]
)
def test_other_inputs_are_not_waited_for(database_url: str, what: str) -> None:
    async def scenario(place: Process, bucket: int) -> None:
        await labelled(place, bucket)
        if what == "not labelled":
            await posted(place, bucket, 3)
        elif what == "of another concept":
            await posted(place, bucket, 3, bird=1.0)
        elif what == "not in the dataset":
            await place.database.execute("INSERT INTO datasets (bucket, id) VALUES (%s, 'some')", [bucket])
            await join(place, bucket)
            await posted(place, bucket, 3, cat=1.0)
        elif what == "not in its version":
            await place.database.execute("INSERT INTO datasets (bucket, id) VALUES (%s, 'some')", [bucket])
            await join(place, bucket)
            await place.database.execute(
                "INSERT INTO dataset_versions (bucket, dataset_id, id, as_of, status, created_at, modified_at)"
                " VALUES (%s, 'some', 'first', clock_timestamp(), 64015, now(), now())",
                [bucket],
            )
            await posted(place, bucket, 3, cat=1.0)
            await join(place, bucket)
        await queue(place, bucket, "v")
        if what.startswith("not in"):
            training_by = {"dataset_id": "some"} | ({"dataset_version_id": "first"} if "version" in what else {})
            await place.database.execute("UPDATE model_versions SET training = %s", [Jsonb(training_by)])
        if what == "posted later":
            later = await posted(place, bucket, 3, cat=1.0)
            await place.database.execute(
                "UPDATE inputs SET created_at = now() + interval '2 seconds' WHERE number = ANY(%s)",
                [[photo.number for photo in later]],
            )

        async with training(place):
            done = await until_status(place, bucket, TRAINED)

        assert (done["inputs"], done["details"]) == (6, "")

    with_app(database_url, scenario)


def test_after_ten_minutes_it_is_trained_by_what_is_there_and_says_what_was_left_out(database_url: str) -> None:
    async def scenario(place: Process, bucket: int) -> None:
        await labelled(place, bucket)
        await posted(place, bucket, 2, cat=1.0)
        await queue(place, bucket, "v")

        async with training(place):

            async def is_told_to_wait() -> bool:
                return (await version(place, bucket))["details"] == WAITING.format(2)

            await until(is_told_to_wait)
            await asked_long_ago(place, 601)
            done = await until_status(place, bucket, TRAINED)

        assert done["inputs"] == 6
        assert done["details"] == (
            "2 labelled inputs were left out, not being indexed 10 minutes after the call. Train again when they are at"
            " 30000."
        )

    with_app(database_url, scenario)


def test_where_nothing_else_is_labelled_the_wait_ends_without_data(database_url: str) -> None:
    async def scenario(place: Process, bucket: int) -> None:
        await posted(place, bucket, 1, dog=1.0)
        await queue(place, bucket, "v")
        await asked_long_ago(place, 601)

        async with training(place):
            done = await until_status(place, bucket, NO_DATA)

        assert done["details"].startswith("1 labelled input was left out, not being indexed 10 minutes after the call.")

    with_app(database_url, scenario)


def test_of_many_inputs_it_waits_for_the_last_and_then_looks_again(database_url: str) -> None:
    async def scenario(place: Process, bucket: int) -> None:
        photos = await posted(place, bucket, 130, cat=1.0)
        await queue(place, bucket, "v")
        queued = TrainingQueue(place.database, owner="me", lease_s=30)

        async with training(place):

            async def waits_for(count: int) -> bool:
                return (await version(place, bucket))["details"].startswith(f"Waiting for {count} labelled input")

            await until(lambda: waits_for(130))
            await set_status(place, photos[:30], INDEXED)
            assert await queued.claim(["General"]) is None
            await set_status(place, [*photos[:29], *photos[30:]], INDEXED)
            await set_status(place, photos[29:30], PENDING)
            await until(lambda: waits_for(1))
            await set_status(place, photos, INDEXED)
            assert (await until_status(place, bucket, TRAINED))["inputs"] == 130

    with_app(database_url, scenario)


def test_whoever_has_indexed_the_last_input_wakes_the_training(database_url: str) -> None:
    """Without it somebody looks every second; of apps in which nothing waits, nobody is woken."""

    async def scenario(place: Process, bucket: int) -> None:
        wake = asyncio.Event()
        trainers: list[Trainer] = []
        await labelled(place, bucket)
        await posted(place, bucket, 1, cat=1.0)
        await queue(place, bucket, "v")

        def run(threads: Threads) -> Coroutine[Any, Any, None]:
            tables = {"General": place.table}
            room = Classroom(database=place.database, book=BOOK, tables=tables, idle=["Empty"], threads=threads)
            trainers.append(Trainer(room, wake))
            return trainers[0].run()

        async with beside(run):

            async def is_told_to_wait() -> bool:
                return (await version(place, bucket))["details"].startswith("Waiting for 1 labelled input to be")

            await until(is_told_to_wait)
        wake.clear()
        trainers[0].settled(bucket + 1)
        assert not wake.is_set()
        trainers[0].settled(bucket)
        assert wake.is_set()

    with_app(database_url, scenario)


# Small and large ----------------------------------------------------------------------------------------------------


class Held:
    """Takes the place of learning: large trainings go on until they are let go, small ones are done at once."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.go = threading.Event()

    def __call__(self, examples: Examples, options: FitOptions, progress: Progress) -> Any:
        if effort(examples) > trainer_module.SMALL:
            self.begun.release()
            while not self.go.wait(0.01):
                progress(0.5)
        return fit(examples, options, progress)

    async def until_begun(self, count: int) -> None:
        for _ in range(count):
            assert await asyncio.to_thread(self.begun.acquire, timeout=60)


@asynccontextmanager
async def held(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Held]:
    """In the block large trainings take as long as it lasts, or until they are let go."""
    learning = Held()
    monkeypatch.setattr(trainer_module, "fit", learning)
    try:
        yield learning
    finally:
        learning.go.set()


async def concepts(place: Process, count: int, *version_ids: str) -> None:
    """Versions get so many concepts, of which the first two are labelled."""
    ids = ["cat", "dog", *(f"other-{number}" for number in range(count - 2))]
    await place.database.execute(
        "UPDATE model_versions SET concept_ids = %s WHERE id = ANY(%s)", [ids, list(version_ids)]
    )


def test_small_trainings_do_not_wait_for_large_ones(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(place: Process, bucket: int) -> None:
        other = await place.new_app("General")
        await labelled(place, bucket)
        await labelled(place, other)
        await queue(place, bucket, "large-0", "large-1", "large-2", "large-3", "small-0")
        await concepts(place, 25, *(f"large-{number}" for number in range(4)))
        async with held(monkeypatch) as learning, training(place):
            await learning.until_begun(2)
            await queue(place, other, "small-1")

            assert (await until_status(place, bucket, TRAINED, "small-0"))["fits"] == 1
            assert (await until_status(place, other, TRAINED, "small-1"))["fits"] == 1

            states = [(await version(place, bucket, f"large-{number}"))["status"] for number in range(4)]
            assert states == [TRAINING, TRAINING, QUEUED, QUEUED]
            learning.go.set()
            for number in range(4):
                await until_status(place, bucket, TRAINED, f"large-{number}")

    with_app(database_url, scenario)


def test_what_turns_out_large_goes_back_until_there_is_room(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its two concepts promised little; it has more labels than those."""
    monkeypatch.setattr(trainer_module, "SMALL", 2 * EFFORT_OF_CONCEPT + 20)

    async def scenario(place: Process, bucket: int) -> None:
        other = await place.new_app("General")
        await labelled(place, bucket)
        await labelled(place, other)
        for photo in await place.add(bucket, *map(random_unit, range(20, 29))):
            await say(place, bucket, photo, {"cat": 1.0})
        await queue(place, bucket, "large-0", "large-1")
        async with held(monkeypatch) as learning, training(place):
            await learning.until_begun(2)
            await queue(place, bucket, "large-2")

            async def is_known_to_be_large() -> bool:
                row = await place.database.row("SELECT effort, status FROM model_versions WHERE id = 'large-2'")
                return row == (2 * (EFFORT_OF_CONCEPT + 15), QUEUED)

            await until(is_known_to_be_large)
            await queue(place, other, "small")
            assert (await until_status(place, other, TRAINED, "small"))["fits"] == 1
            waits = await version(place, bucket, "large-2")
            assert (waits["status"], waits["attempts"]) == (QUEUED, 0)
            learning.go.set()
            for number in range(3):
                await until_status(place, bucket, TRAINED, f"large-{number}")

    with_app(database_url, scenario)


def test_apps_take_turns(database_url: str) -> None:
    async def scenario(place: Process, bucket: int) -> None:
        others = [await place.new_app("General") for _ in range(2)]
        await queue(place, bucket, "a0", "a1", "a2", "a3")
        await queue(place, others[0], "b0", "b1")
        queued = TrainingQueue(place.database, owner="me", lease_s=30)

        async def next_one() -> str:
            claimed = await queued.claim(["General"])
            return claimed.id if claimed else ""

        order = [await next_one() for _ in range(3)]
        await queue(place, others[1], "c0")
        order += [await next_one() for _ in range(5)]

        assert order == ["a0", "b0", "a1", "c0", "b1", "a2", "a3", ""]

    with_app(database_url, scenario)


def test_effort_follows_labels_and_concepts_and_small_ones_are_claimed_apart(database_url: str) -> None:
    async def scenario(place: Process, bucket: int) -> None:
        await queue(place, bucket, "many-concepts", "many-labels", "few")
        await concepts(place, 21, "many-concepts")
        await place.database.execute("UPDATE model_versions SET effort = %s WHERE id = 'many-labels'", [SMALL + 1])
        queued = TrainingQueue(place.database, owner="me", lease_s=30)

        found = [await queued.claim(["General"], most=SMALL) for _ in range(2)]
        rest = [await queued.claim(["General"]) for _ in range(2)]

        assert [one and one.id for one in found] == ["few", None]
        assert [one and one.id for one in rest] == ["many-concepts", "many-labels"]

    with_app(database_url, scenario)
