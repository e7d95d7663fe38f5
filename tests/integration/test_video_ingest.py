"""Films under way: what a kill leaves, leases, what images and other videos wait for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from tests.footage import film, still
from tests.integration.serving import (
    INDEXED,
    WORKING,
    by_image,
    connected,
    home,
    new_app,
    of_bytes,
    server_at,
    wait_for,
)
from tests.integration.test_ingest_worker import DIMS, WORKFLOWS, Bench, FakeEye, FakeImages, bench, until
from tests.integration.test_videos import of_film, times
from tests.integration.worlds import World, Worlds

from sightrank.background import end
from sightrank.ingest.intake import IdConflict, NewInput
from sightrank.ingest.jobs import Jobs
from sightrank.ingest.media import ImageSource
from sightrank.ingest.removal import Removal
from sightrank.ingest.rows import Content
from sightrank.ingest.worker import Worker
from sightrank.store.blobs import BlobStore
from sightrank.store.clock import Clock
from sightrank.vision.embedder import LARGEST_BATCH
from sightrank.vision.eye import Eye, ImageLimits
from sightrank.vision.threads import Lane, Threads

_AREAS = """
SELECT count(*) FILTER (WHERE r.frame_index IS NULL), count(r.frame_index), count(v.area_id), count(a.id)
FROM areas r LEFT JOIN vectors_1 v ON v.bucket = r.bucket AND v.area_id = r.id
LEFT JOIN annotations a ON a.bucket = r.bucket AND a.area_id = r.id AND a.model_version_id <> ''
JOIN inputs i ON i.bucket = r.bucket AND i.number = r.input_number WHERE i.id = 'film'
"""


def test_a_film_is_indexed_once_after_a_kill_in_the_middle_of_it() -> None:
    long = film([1, 2, 3, 4], seconds_each=75, rate=10)
    with home() as folder, server_at(folder) as server:
        server.start()
        with connected(server) as stub:
            app = new_app(server, stub)
            app.post(of_film(long, "film"), of_bytes(still(9), "photo"))
            wait_for(
                "a worker to take it",
                lambda: server.sql("SELECT 1 FROM inputs WHERE id = 'film' AND status = %s", WORKING),
            )
        server.kill()
        assert server.sql("SELECT status FROM inputs WHERE id = 'film'") == [(WORKING,)], "it was killed too late"

        server.start()

        with connected(server) as stub:
            app = replace(app, stub=stub)
            assert app.finished("film").status.code == INDEXED
            assert app.finished("photo").status.code == INDEXED
            assert server.sql(_AREAS) == [(1, 300, 301, 301)]
            (hit, *_) = app.rank(by_image(still(3)))
            assert hit.input.id == "film"
            assert 150_000 <= times([hit.annotation])[0] < 225_000


# Without a network -------------------------------------------------------------------------------------------------


class _Encoder:
    size = 2

    def fit(self, pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.ascontiguousarray(pixels[:2, :2])


@dataclass(eq=False)
class WatchingEye(FakeEye):
    """As FakeEye, for films as well, which it may be slow at."""

    threads: Threads = field(default_factory=lambda: Threads(1))
    encoder: _Encoder = field(default_factory=_Encoder)
    limits: ImageLimits = field(default_factory=lambda: ImageLimits(max_bytes=10**9, max_pixels=10**7))
    detector: None = None
    slow_films_s: float = 0.0
    network_broken: int = 0
    tagged_in: set[str] = field(default_factory=set)

    async def embed(self, pixels: np.ndarray[Any, Any], lane: Lane) -> np.ndarray[Any, Any]:
        if pixels.any():  # the pictures are black
            await asyncio.sleep(self.slow_films_s)
            if self.network_broken:
                self.network_broken -= 1
                raise RuntimeError("the network is broken")
        return await super().embed(pixels, lane)

    def top(self, vectors: np.ndarray[Any, Any], count: int) -> list[list[tuple[str, float]]]:
        self.tagged_in.add(threading.current_thread().name.rsplit("_")[0])
        return super().top(vectors, count)


@dataclass
class Films(FakeImages):
    """A film behind every blob."""

    data: bytes = b""

    @asynccontextmanager
    async def video(self, bucket: int, lane: Lane, *, url: str, blob: str) -> AsyncIterator[bytes]:
        yield self.data


async def post_films(place: Bench, count: int) -> None:
    items = [
        NewInput(id=f"film{n}" if n else "film", media="video", content=Content(), data=b"film") for n in range(count)
    ]
    await place.intake.accept(place.bucket, "admin", items, IdConflict.SKIP)


@asynccontextmanager
async def watching(place: Bench, eye: WatchingEye, images: Films, *, lease_s: float = 60.0) -> AsyncIterator[None]:
    worker = Worker(
        Jobs(place.world.database, Clock(), place.world.book, owner="w", lease_s=lease_s, workflow_ids=WORKFLOWS),
        cast(ImageSource, images),
        {"General": replace(place.workflow, eye=cast(Eye, eye))},
        place.annotator(images),
        asyncio.Event(),
        threads=eye.threads,
    )
    task = asyncio.create_task(worker.run())
    try:
        yield
    finally:
        await end([task])
        await asyncio.to_thread(eye.threads.close)


def test_the_lease_of_a_long_film_is_kept_and_its_frames_come_in_groups(
    world: Worlds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sightrank.ingest.worker.LEASE_S", 1.0)

    async def scenario(world: World) -> None:
        place = await bench(world, tmp_path)
        await post_films(place, 1)
        eye = WatchingEye(slow_films_s=0.5)
        rival = Jobs(world.database, Clock(), world.book, owner="rival", lease_s=60.0, workflow_ids=WORKFLOWS)

        async def indexed() -> bool:
            assert await rival.claim(10, video=True) == []
            return await place.is_indexed()

        async with watching(place, eye, Films(data=film(range(70), rate=1)), lease_s=1.0):

            async def taken() -> bool:
                return await place.states() == [(30003, "w", 1)]

            await until(taken)
            await until(indexed)
        assert eye.batches == [16, 16, 16, 16, 6]
        assert eye.tagged_in == {"infer ingest"}, "the loop stood still"
        assert max(eye.batches) <= LARGEST_BATCH
        assert await world.database.rows(_AREAS) == [(1, 70, 71, 71)]

    world.run(scenario)


_APPS = """
WITH bucket AS (INSERT INTO app_buckets DEFAULT VALUES RETURNING bucket)
INSERT INTO apps (user_id, id, first_bucket, workflow_id) SELECT 'admin', %s, bucket, 'General' FROM bucket
RETURNING first_bucket
"""
_QUEUE = """
INSERT INTO inputs (bucket, id, created_at, modified_at, status, media)
SELECT %s, %s || n, now() + %s * interval '1 min' + n * interval '1 s', now(), 30001, 'video'
FROM generate_series(1, %s) n
"""


def test_apps_take_turns_with_their_films(world: Worlds, tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await bench(world, tmp_path)
        for place, (name, count) in enumerate({"a": 6, "b": 4, "c": 1}.items()):
            row = await world.database.row(_APPS, [f"app-{name}"])
            assert row is not None
            await world.database.execute(_QUEUE, [row[0], name, 10 * place, count])
        jobs = Jobs(world.database, Clock(), world.book, owner="w", lease_s=60.0, workflow_ids=WORKFLOWS)

        claimed = []
        while found := await jobs.claim(1, video=True):
            claimed += [job.id for job in found]

        assert claimed == ["a1", "b1", "c1", "a2", "b2", "a3", "b3", "a4", "b4", "a5", "a6"]

    world.run(scenario)


def test_images_pass_films_that_take_long(world: Worlds, tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        place = await bench(world, tmp_path)
        await post_films(place, 100)
        await place.post(20, uploaded=True)
        eye = WatchingEye(slow_films_s=30.0)

        async def images_indexed() -> bool:
            return [status for status, _, _ in await place.states()][100:] == [30000] * 20

        async with watching(place, eye, Films(data=film([1, 2]))):
            await until(images_indexed)
            owners = [owner for _, owner, _ in await place.states()][:100]
            assert owners.count("w") == 2, "more films than are worked on must not be held"

    world.run(scenario)


def test_a_film_whose_embedding_failed_is_taken_up_again(
    world: Worlds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sightrank.ingest.worker.LEASE_S", 0.4)

    async def scenario(world: World) -> None:
        place = await bench(world, tmp_path)
        await post_films(place, 1)

        async with watching(place, WatchingEye(network_broken=1), Films(data=film([1, 2])), lease_s=0.4):
            await until(place.is_indexed)
        assert await world.database.rows(_AREAS) == [(1, 2, 3, 3)]

    world.run(scenario)


def test_a_worker_that_stops_gives_a_film_back(world: Worlds, tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        place = await bench(world, tmp_path)
        await post_films(place, 1)

        async def taken() -> bool:
            return await place.states() == [(30003, "w", 1)]

        async with watching(place, WatchingEye(slow_films_s=30.0), Films(data=film([1, 2]))):
            await until(taken)

        assert await place.states() == [(30003, None, 0)]

    world.run(scenario)


def test_a_film_that_is_deleted_while_it_is_read_leaves_nothing(world: Worlds, tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        place = await bench(world, tmp_path)
        await post_films(place, 1)
        eye = WatchingEye(slow_films_s=0.3)
        removal = Removal(world.database, BlobStore(tmp_path / "others"))

        async def read() -> bool:
            return len(eye.batches) == 1

        async def next_indexed() -> bool:
            return [status for status, _, _ in await place.states()] == [30000]

        async with watching(place, eye, Films(data=film(range(20), rate=1))):
            await until(read)
            assert await removal.delete_inputs(place.bucket, ["film"]) == 1
            await post_films(place, 1)
            await until(next_indexed)

        assert await world.database.rows(_AREAS) == [(1, 20, 21, 21)]
        assert await world.database.rows("SELECT count(*) FROM areas") == [(21,)]

    world.run(scenario)


def test_a_film_looked_at_again_keeps_its_frames(world: Worlds, tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        place = await bench(world, tmp_path)
        await post_films(place, 1)
        images = Films(data=film([1, 2, 3]))

        async with watching(place, WatchingEye(), images):
            await until(place.is_indexed)
        before = await world.database.rows("SELECT id, frame_index, frame_time_ms FROM areas ORDER BY id")
        # After an upgrade with another model; the app has changed its mind about frames meanwhile.
        await world.database.execute("UPDATE inputs SET status = 30001, attempts = 0")
        await world.database.execute("UPDATE apps SET sample_ms = 500")
        await world.database.execute("DELETE FROM annotations WHERE model_id = 'tagger'")
        await world.database.execute("TRUNCATE vectors_1")

        async with watching(place, WatchingEye(), images):
            await until(place.is_indexed)

        assert await world.database.rows("SELECT id, frame_index, frame_time_ms FROM areas ORDER BY id") == before
        assert len(before) == 4
        assert await world.database.rows(_AREAS) == [(1, 3, 4, 4)]
        ((dims,),) = await world.database.rows("SELECT DISTINCT vector_dims(vector) FROM vectors_1")
        assert dims == DIMS

    world.run(scenario)
