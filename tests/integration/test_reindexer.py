"""What re-indexing does when something is wrong with an input, with its process, or with its turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pytest

from sightrank.ingest.jobs import Workflow
from sightrank.ingest.media import ImageSource
from sightrank.ingest.reindex_queue import ReindexQueue, State, TurnLost
from sightrank.ingest.reindexer import Reindexer
from sightrank.store import vectors
from sightrank.store.database import Database
from sightrank.vision.box import Box
from sightrank.vision.eye import Eye, Prepared
from sightrank.vision.threads import Lane, Threads

DIMS = 4
DEADLINE_S = 20.0


class Stubborn:
    """An eye that sees the same everywhere, but breaks at the picture ``bad``."""

    async def prepare(self, data: bytes, boxes: Sequence[Box], lane: Lane, *, detect: bool) -> Prepared:
        if data == b"bad":
            raise RuntimeError("the decoder is broken")
        pixels = np.zeros((1 + len(boxes), 2, 2, 3), np.uint8)
        return Prepared(pixels=pixels, width=2, height=2, format="PNG", color_mode="RGB")

    async def embed(self, pixels: np.ndarray[Any, Any], lane: Lane) -> np.ndarray[Any, Any]:
        return np.full((len(pixels), DIMS), DIMS**-0.5, np.float32)

    def top(self, found: np.ndarray[Any, Any], count: int) -> list[list[tuple[str, float]]]:
        return [[("thing", 0.5)] for _ in found]


class Names:
    """Images whose bytes are the names of their files."""

    async def load(self, bucket: int, *, url: str, blob: str) -> bytes:
        return blob.encode()


@dataclass(frozen=True)
class Bench:
    """An app of workflow Old that is to get New."""

    database: Database
    bucket: int

    async def is_in(self, states: list[tuple[str | None, str]]) -> bool:
        """Whether these are the workflows that are wanted, and how far they are."""
        return await self.database.rows("SELECT workflow_id, state FROM reindexes") == states


@asynccontextmanager
async def reindexing(bench: Bench) -> AsyncIterator[None]:
    """A process that re-indexes for the length of the block."""
    tables = [await vectors.register(bench.database, name, "1", DIMS) for name in ("old", "new")]
    eye = cast(Eye, Stubborn())
    workflows = {
        name: Workflow(eye=eye, table=table, tagger_id="tagger", tagger_version_id="1")
        for name, table in zip(("Old", "New"), tables, strict=True)
    }
    threads = Threads(1)
    reindexer = Reindexer(bench.database, cast(ImageSource, Names()), workflows, (), threads=threads)
    task = asyncio.create_task(reindexer.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        threads.close()


def run(url: str, scenario: Callable[[Bench], Awaitable[None]], *blobs: str) -> None:
    async def opened() -> None:
        database = Database(url)
        await database.open()
        try:
            await database.execute("INSERT INTO users (id) VALUES ('me')")
            row = await database.row("INSERT INTO app_buckets DEFAULT VALUES RETURNING bucket")
            assert row is not None
            keys = {"bucket": row[0], "blobs": list(blobs)}
            await database.execute(
                "INSERT INTO apps (user_id, id, first_bucket, workflow_id) VALUES ('me', 'app', %(bucket)s, 'Old')",
                keys,
            )
            await database.execute(
                "INSERT INTO inputs (bucket, id, created_at, modified_at, status, media, blob, width)"
                " SELECT %(bucket)s, 'in-' || blob, now(), now(), 30000, 'image', blob, 2"
                " FROM unnest(%(blobs)s::text[]) AS blob",
                keys,
            )
            await database.execute(
                "INSERT INTO areas (bucket, input_number, created_at) SELECT bucket, number, created_at FROM inputs"
            )
            await database.execute(
                "INSERT INTO reindexes (bucket, workflow_id, state) VALUES (%(bucket)s, 'New', 'sweeping')", keys
            )
            await scenario(Bench(database, row[0]))
        finally:
            await database.close()

    asyncio.run(opened())


async def until(what: Callable[[], Awaitable[bool]]) -> None:
    deadline = asyncio.get_running_loop().time() + DEADLINE_S
    while not await what():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.02)


def test_an_input_that_ends_every_batch_is_found_and_named(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sightrank.ingest.reindexer._AGAIN_S", 0.0)

    async def scenario(bench: Bench) -> None:
        async with reindexing(bench):
            await until(lambda: bench.is_in([("New", "failed")]))

        ((failure,),) = await bench.database.rows("SELECT failure FROM reindexes")
        assert "1 input(s) could not be indexed by New: in-bad: " in failure
        assert await bench.database.rows("SELECT workflow_id FROM apps") == [("Old",)]
        assert await bench.database.rows("SELECT count(*) FROM vectors_2") == [(3,)]

    run(database_url, scenario, "a", "bad", "b", "c")


def test_what_an_earlier_change_failed_at_is_tried_again(database_url: str) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.database.execute("INSERT INTO reindex_failures SELECT bucket, number, 'damaged' FROM inputs")

        async with reindexing(bench):
            await until(lambda: bench.is_in([]))

        assert await bench.database.rows("SELECT workflow_id FROM apps") == [("New",)]
        assert await bench.database.rows("SELECT count(*) FROM vectors_2") == [(2,)]

    run(database_url, scenario, "a", "b")


def test_a_turn_goes_to_one_process_until_its_lease_runs_out(database_url: str) -> None:
    async def scenario(bench: Bench) -> None:
        dead = ReindexQueue(bench.database, owner="dead", lease_s=0.3)
        alive = ReindexQueue(bench.database, owner="alive", lease_s=60)
        first = await dead.claim(["New"])

        async def claimed() -> bool:
            return await alive.claim(["New"]) is not None

        assert first is not None
        assert (first.state, first.attempts) == (State.SWEEPING, 1)
        assert await alive.claim(["New"]) is None
        await until(claimed)
        with pytest.raises(TurnLost):
            async with dead.held(first):
                raise AssertionError("two processes at the same step")

    run(database_url, scenario)


def test_a_process_without_the_wanted_model_leaves_the_turn_to_others(database_url: str) -> None:
    async def scenario(bench: Bench) -> None:
        queue = ReindexQueue(bench.database, owner="w", lease_s=60)

        assert await queue.claim(["Old", "Empty"]) is None
        assert await queue.claim(["New"]) is not None

    run(database_url, scenario)
