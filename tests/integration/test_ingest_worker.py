"""What a worker does when something goes wrong around it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from tests.integration.worlds import World, Worlds

from sightrank.ingest.intake import IdConflict, Intake, NewInput
from sightrank.ingest.jobs import Jobs, Workflow
from sightrank.ingest.media import ImageSource
from sightrank.ingest.removal import Removal
from sightrank.ingest.rows import Content
from sightrank.ingest.worker import Worker
from sightrank.store import vectors
from sightrank.store.blobs import BlobStore
from sightrank.store.clock import Clock
from sightrank.vision.eye import Box, Eye, Prepared

DIMS = 8
DEADLINE_S = 20.0


@dataclass
class FakeEye:
    """Sees the same in every picture. ``broken`` embeddings fail first; while ``gate`` is closed none comes out."""

    broken: int = 0
    gate: asyncio.Event | None = None
    seen: int = 0
    threads: int = 1
    tagger: Any = field(init=False)

    def __post_init__(self) -> None:
        self.tagger = self

    async def prepare(self, data: bytes, boxes: tuple[Box, ...] = ()) -> Prepared:
        pixels = np.zeros((1 + len(boxes), 2, 2, 3), np.uint8)
        return Prepared(pixels=pixels, width=2, height=2, format="PNG", color_mode="RGB")

    async def embed(self, pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        self.seen += len(pixels)
        if self.gate is not None:
            await self.gate.wait()
        if self.broken:
            self.broken -= 1
            raise RuntimeError("the network is broken")
        return np.full((len(pixels), DIMS), DIMS**-0.5, np.float32)

    def top(self, found: np.ndarray[Any, Any], count: int) -> list[list[tuple[str, float]]]:
        return [[("thing", 0.5)] for _ in found]


class FakeImages:
    async def load(self, bucket: int, *, url: str, blob: str) -> bytes:
        return b"x"

    async def keep(self, bucket: int, data: bytes) -> str:
        return ""


@dataclass(frozen=True)
class Bench:
    world: World
    bucket: int
    workflow: Workflow
    intake: Intake

    async def post(self, count: int) -> None:
        items = [
            NewInput(id=f"i{n}", media="image", content=Content(), url=f"http://x/{n}", allow_duplicate_url=True)
            for n in range(count)
        ]
        await self.intake.accept(self.bucket, "admin", items, IdConflict.SKIP)

    async def states(self) -> list[tuple[int, str | None, int]]:
        """Status, lease owner and attempts of every input."""
        return [
            (status, owner, attempts)
            for status, owner, attempts in await self.world.database.rows(
                "SELECT status, lease_owner, attempts FROM inputs ORDER BY created_at"
            )
        ]

    @asynccontextmanager
    async def working(self, eye: FakeEye, owner: str = "w", lease_s: float = 60.0) -> AsyncIterator[None]:
        jobs = Jobs(self.world.database, Clock(), owner=owner, lease_s=lease_s)
        worker = Worker(
            jobs, cast(ImageSource, FakeImages()), cast(Eye, eye), {"General": self.workflow}, asyncio.Event()
        )
        task = asyncio.create_task(worker.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def bench(world: World, folder: Path) -> Bench:
    app = await world.identity.app("admin", "photos")
    assert app is not None
    table = await vectors.register(world.database, "fake", "v1", DIMS)
    workflow = Workflow(table=table, tagger_id="tagger", tagger_version_id="t1")
    blobs = BlobStore(folder / "blobs")
    intake = Intake(world.database, blobs, Removal(world.database, blobs), world.book, Clock())
    blobs.close()
    return Bench(world, app.bucket, workflow, intake)


async def until(what: Callable[[], Any]) -> None:
    deadline = asyncio.get_running_loop().time() + DEADLINE_S
    while not await what():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.02)


def test_inputs_whose_embedding_failed_are_taken_up_again(
    world: Worlds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sightrank.ingest.worker.LEASE_S", 0.4)

    async def scenario(world: World) -> None:
        place = await bench(world, tmp_path)
        await place.post(3)

        async def all_indexed() -> bool:
            return all(status == 30000 for status, _, _ in await place.states())

        async with place.working(FakeEye(broken=1), lease_s=0.4):
            await until(all_indexed)
        ((count,),) = await world.database.rows("SELECT count(*) FROM vectors_1")
        assert count == 3

    world.run(scenario)


def test_a_worker_that_stops_gives_everything_back_untouched(world: Worlds, tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        place = await bench(world, tmp_path)
        await place.post(40)
        eye = FakeEye(gate=asyncio.Event())

        async def busy() -> bool:
            return eye.seen > 0 and all(owner == "w" for _, owner, _ in await place.states())

        async with place.working(eye):
            await until(busy)

        assert await place.states() == [(30003, None, 0)] * 40

        async def all_indexed() -> bool:
            return all(status == 30000 for status, _, _ in await place.states())

        async with place.working(FakeEye(), owner="next"):
            await until(all_indexed)

    world.run(scenario)


def test_the_lease_of_a_dead_worker_runs_out(world: Worlds, tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        place = await bench(world, tmp_path)
        await place.post(2)
        dead = Jobs(world.database, Clock(), owner="dead", lease_s=0.3)
        assert len(await dead.claim(10)) == 2
        alive = Jobs(world.database, Clock(), owner="alive", lease_s=60)
        assert await alive.claim(10) == []

        async def claimed() -> bool:
            return len(await alive.claim(10)) == 2

        await until(claimed)
        assert [owner for _, owner, _ in await place.states()] == ["alive", "alive"]

    world.run(scenario)


def test_an_input_that_ends_the_worker_again_and_again_is_left_alone(world: Worlds, tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        place = await bench(world, tmp_path)
        await place.post(1)
        await world.database.execute("UPDATE inputs SET attempts = 5")

        async def ended() -> bool:
            return all(status == 30002 for status, _, _ in await place.states())

        async with place.working(FakeEye()):
            await until(ended)

    world.run(scenario)


def test_what_was_uploaded_for_a_refused_input_is_removed_when_it_is_old_enough(world: Worlds, tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        app = await world.identity.app("admin", "photos")
        assert app is not None
        blobs = BlobStore(tmp_path / "blobs")
        removal = Removal(world.database, blobs, min_age_s=0.2)
        intake = Intake(world.database, blobs, removal, world.book, Clock())

        def item(data: bytes) -> NewInput:
            return NewInput(id="same", media="image", content=Content(), data=data)

        async def files() -> int:
            return len([path for path in (tmp_path / "blobs").rglob("*") if path.is_file()])

        try:
            await intake.accept(app.bucket, "admin", [item(b"kept")], IdConflict.SKIP)
            await intake.accept(app.bucket, "admin", [item(b"refused"), item(b"kept")], IdConflict.SKIP)
            assert await files() == 2

            async def one_left() -> bool:
                return await files() == 1

            await until(one_left)
            await removal.delete_inputs(app.bucket, ["same"])
            await until(lambda: _none_left(files))
        finally:
            await removal.close()
            blobs.close()

    world.run(scenario)


async def _none_left(files: Callable[[], Any]) -> bool:
    return bool(await files() == 0)
