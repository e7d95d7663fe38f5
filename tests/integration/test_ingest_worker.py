"""What a worker does when something goes wrong around it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from structlog.testing import capture_logs
from tests.eyes import blind_eye
from tests.integration.beside import beside
from tests.integration.worlds import World, Worlds

from sightrank.ingest.annotator import Annotator
from sightrank.ingest.base_workflow import warn_of_absent
from sightrank.ingest.intake import IdConflict, Intake, NewInput
from sightrank.ingest.jobs import Jobs
from sightrank.ingest.media import ImageSource
from sightrank.ingest.regions import Regions, Target
from sightrank.ingest.removal import Removal
from sightrank.ingest.rows import AnnotationRow, Content, insert_annotations
from sightrank.ingest.worker import Worker, _some
from sightrank.ingest.workflow import Workflow
from sightrank.search.fits import Fits
from sightrank.store import vectors
from sightrank.store.blobs import BlobStore, key_of
from sightrank.store.clock import Clock
from sightrank.teach.workbench import Workbench
from sightrank.vision.box import Box
from sightrank.vision.detector import Detection
from sightrank.vision.eye import Eye, Prepared
from sightrank.vision.threads import Lane, Threads

DIMS = 8
#: Those that can run here.
WORKFLOWS = ("General", "Empty")
DEADLINE_S = 60.0


@dataclass(eq=False)
class FakeEye:
    """Sees the same in every picture, and ``found`` in it. ``broken`` embeddings fail first; while ``gate`` is closed
    none comes out.
    """

    broken: int = 0
    found: tuple[Detection, ...] = ()
    gate: asyncio.Event | None = None
    slow_s: float = 0.0
    seen: int = 0
    batches: list[int] = field(default_factory=list)

    async def prepare(self, data: bytes, boxes: Sequence[Box], lane: Lane, *, detect: bool) -> Prepared:
        found = self.found if detect else ()
        pixels = np.zeros((1 + len(boxes) + len(found), 2, 2, 3), np.uint8)
        return Prepared(pixels=pixels, width=2, height=2, format="PNG", color_mode="RGB", detections=found)

    async def embed(self, pixels: np.ndarray[Any, Any], lane: Lane) -> np.ndarray[Any, Any]:
        self.seen += len(pixels)
        self.batches.append(len(pixels))
        await asyncio.sleep(self.slow_s)
        if self.gate is not None:
            await self.gate.wait()
        if self.broken:
            self.broken -= 1
            raise RuntimeError("the network is broken")
        return np.full((len(pixels), DIMS), DIMS**-0.5, np.float32)

    def top(self, found: np.ndarray[Any, Any], count: int) -> list[list[tuple[str, float]]]:
        return [[("thing", 0.5)] for _ in found]


@dataclass
class FakeImages:
    """Every file is there at once, but URLs answer only when ``site`` is open, and ``full`` says the disk is."""

    site: asyncio.Event | None = None
    full: bool = False
    loading: int = 0
    most: int = 0

    async def load(self, bucket: int, *, url: str, blob: str) -> bytes:
        if self.full:
            raise OSError("no space left")
        self.loading += 1
        self.most = max(self.most, self.loading)
        try:
            if url and self.site is not None:
                await self.site.wait()
            await asyncio.sleep(0)
        finally:
            self.loading -= 1
        return b"x"

    async def keep(self, bucket: int, data: bytes) -> str:
        return ""


@dataclass(frozen=True)
class Bench:
    world: World
    bucket: int
    workflow: Workflow
    intake: Intake

    def annotator(self, images: object) -> Annotator:
        """For apps without a workflow of their own."""
        workbench = Workbench(self.world.database, self.world.book, Fits(self.world.database), {}, {})
        return Annotator(self.world.database, workbench, cast(ImageSource, images))

    async def post(self, count: int, *, uploaded: bool = False) -> None:
        items = [
            NewInput(id=f"u{n}", media="image", content=Content(), data=b"x")
            if uploaded
            else NewInput(id=f"i{n}", media="image", content=Content(), url=f"http://x/{n}", allow_duplicate_url=True)
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

    async def is_indexed(self) -> bool:
        """Whether every input is."""
        return all(status == 30000 for status, _, _ in await self.states())

    @asynccontextmanager
    async def working(
        self, eye: FakeEye, owner: str = "w", lease_s: float = 60.0, images: FakeImages | None = None
    ) -> AsyncIterator[None]:
        jobs = Jobs(self.world.database, Clock(), self.world.book, owner=owner, lease_s=lease_s, workflow_ids=WORKFLOWS)

        def run(threads: Threads) -> Coroutine[Any, Any, None]:
            worker = Worker(
                jobs,
                cast(ImageSource, images or FakeImages()),
                {"General": replace(self.workflow, eye=cast(Eye, eye))},
                self.annotator(images or FakeImages()),
                asyncio.Event(),
                threads=threads,
            )
            return worker.run()

        async with beside(run):
            yield


async def bench(world: World, folder: Path) -> Bench:
    app = await world.identity.app("admin", "photos")
    assert app is not None
    table = await vectors.register(world.database, "fake", "v1", DIMS)
    workflow = Workflow(
        eye=blind_eye(),
        table=table,
        tagger_id="tagger",
        tagger_version_id="t1",
        detector_id="detector",
        detector_version_id="d1",
    )
    blobs = BlobStore(folder / "blobs")
    intake = Intake(world.database, blobs, Removal(world.database, blobs), world.book, Clock())
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

        async with place.working(FakeEye(broken=1), lease_s=0.4):
            await until(place.is_indexed)
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

        async with place.working(FakeEye(), owner="next"):
            await until(place.is_indexed)

    world.run(scenario)


def test_the_lease_of_a_dead_worker_runs_out(world: Worlds, tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        place = await bench(world, tmp_path)
        await place.post(2)
        dead = Jobs(world.database, Clock(), world.book, owner="dead", lease_s=60, workflow_ids=WORKFLOWS)
        assert len(await dead.claim(10)) == 2
        alive = Jobs(world.database, Clock(), world.book, owner="alive", lease_s=60, workflow_ids=WORKFLOWS)
        assert await alive.claim(10) == []

        await world.database.execute("UPDATE inputs SET lease_until = lease_until - interval '1 minute'")

        async def claimed() -> bool:
            return len(await alive.claim(10)) == 2

        await until(claimed)
        assert [owner for _, owner, _ in await place.states()] == ["alive", "alive"]

    world.run(scenario)


def test_inputs_wait_for_a_workflow_that_cannot_run_here(world: Worlds, tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        place = await bench(world, tmp_path)
        await place.post(2)
        jobs = Jobs(world.database, Clock(), world.book, owner="w", lease_s=60.0, workflow_ids=WORKFLOWS)
        change = "UPDATE apps SET workflow_id = %s WHERE first_bucket = %s"
        await world.database.execute(change, ["Face", place.bucket])

        with capture_logs() as logs:
            await warn_of_absent(world.database, WORKFLOWS)

        assert await jobs.claim(10) == []
        assert [status for status, _, _ in await place.states()] == [30001, 30001]
        assert [(log["workflow"], log["apps"]) for log in logs] == [("Face", 1)]
        await world.database.execute(change, ["General", place.bucket])
        assert len(await jobs.claim(10)) == 2

    world.run(scenario)


def test_an_input_that_ends_the_worker_again_and_again_is_left_alone(world: Worlds, tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        place = await bench(world, tmp_path)
        await place.post(1)
        await world.database.execute("UPDATE inputs SET attempts = 5")

        async def ended() -> bool:
            return all(status == 30002 for status, _, _ in await place.states())

        eye = FakeEye()
        async with place.working(eye):
            await until(ended)
        assert eye.batches == []

    world.run(scenario)


def test_inputs_of_an_app_that_got_another_workflow_meanwhile_are_looked_at_by_that_one(
    world: Worlds, tmp_path: Path
) -> None:
    async def scenario(world: World) -> None:
        place = await bench(world, tmp_path)
        await place.post(2)
        eye = FakeEye(gate=asyncio.Event())

        async def seen() -> bool:
            return eye.seen == 2

        async with place.working(eye):
            await until(seen)
            await world.database.execute(
                "UPDATE apps SET workflow_id = 'Empty' WHERE first_bucket = %s", [place.bucket]
            )
            assert eye.gate is not None
            eye.gate.set()
            await until(place.is_indexed)
        assert await world.database.rows("SELECT count(*) FROM vectors_1") == [(0,)]
        assert [attempts for _, _, attempts in await place.states()] == [1, 1]

    world.run(scenario)


def test_what_is_enough_is_asked_when_there_is_something() -> None:
    async def scenario() -> None:
        queue: asyncio.Queue[str] = asyncio.Queue()
        under_way = 8
        taking = asyncio.create_task(_some(queue, 16, enough=lambda: under_way, patience_s=DEADLINE_S * 2))
        await asyncio.sleep(0)
        under_way = 1  # the others ended long ago; this one is alone
        queue.put_nowait("alone")
        async with asyncio.timeout(DEADLINE_S):
            assert await taking == ["alone"]

    asyncio.run(scenario())


def test_inputs_that_may_end_the_worker_are_worked_on_alone_and_last(world: Worlds, tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        place = await bench(world, tmp_path)
        await place.post(9)
        await world.database.execute("UPDATE inputs SET attempts = 3 WHERE id IN ('i0', 'i1', 'i2')")
        eye = FakeEye(slow_s=0.05)

        jobs = Jobs(world.database, Clock(), world.book, owner="look", lease_s=0.0, workflow_ids=WORKFLOWS)
        assert [job.id for job in await jobs.claim(9)] == [f"i{n}" for n in range(3, 9)]
        assert [job.id for job in await jobs.claim(1, suspect=True)] == ["i0"]
        await jobs.hand_back()
        async with place.working(eye):
            await until(place.is_indexed)
        assert eye.batches[-3:] == [1, 1, 1]
        assert sum(eye.batches) == 9

    world.run(scenario)


def test_an_input_that_is_put_off_through_no_fault_of_its_own_counts_no_attempt(world: Worlds, tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        place = await bench(world, tmp_path)
        await place.post(2)
        images = FakeImages(full=True)

        async def put_off() -> bool:
            return await place.states() == [(30003, None, 0)] * 2

        async with place.working(FakeEye(), lease_s=1.0, images=images):
            await until(put_off)
            images.full = False
            await until(place.is_indexed)
        assert await world.database.rows("SELECT DISTINCT attempts FROM inputs") == [(1,)]

    world.run(scenario)


def test_sites_that_do_not_answer_hold_up_no_uploads(world: Worlds, tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        place = await bench(world, tmp_path)
        await place.post(30)
        await place.post(3, uploaded=True)
        images = FakeImages(site=asyncio.Event())

        async def uploads_indexed() -> bool:
            return [status for status, _, _ in await place.states()][-3:] == [30000] * 3

        async with place.working(FakeEye(), images=images):
            await until(uploads_indexed)
            assert [status for status, _, _ in await place.states()][:30] == [30003] * 30

    world.run(scenario)


def test_files_waiting_to_be_looked_at_are_few(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        images = FakeImages()
        regions = Regions(world.database, cast(ImageSource, images), Clock(), decoders=1)
        table = await vectors.register(world.database, "fake", "v1", DIMS)
        workflow = Workflow(eye=cast(Eye, FakeEye()), table=table)
        names = [f"i{n}" for n in range(50)]
        targets = {name: Target(number=1, status=30000, media="image", url="", blob="b") for name in names}

        looks = await regions.look(1, workflow, targets, {name: [None] for name in names})

        assert len(looks) == 50
        assert images.most <= 2

    world.run(scenario)


def test_files_no_input_names_are_swept_when_old_enough(world: Worlds, tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        app = await world.identity.app("admin", "photos")
        assert app is not None
        blobs = BlobStore(tmp_path / "blobs")
        removal = Removal(world.database, blobs)
        intake = Intake(world.database, blobs, removal, world.book, Clock())
        try:
            orphan, young = await blobs.put(app.bucket, b"orphan"), await blobs.put(app.bucket, b"young")
            elsewhere = await blobs.put(app.bucket + 1, b"of an app that is not in this database")
            old = time.time() - 7200
            os.utime(tmp_path / "blobs" / orphan, (old, old))
            os.utime(tmp_path / "blobs" / elsewhere, (old, old))
            assert await removal.sweep() == 0, "an app without inputs may be one that is still to be restored"

            item = NewInput(id="a", media="image", content=Content(), data=b"kept")
            await intake.accept(app.bucket, "admin", [item], IdConflict.SKIP)
            kept = key_of(app.bucket, b"kept")
            os.utime(tmp_path / "blobs" / kept, (old, old))

            assert await removal.sweep() == 1
            there = [await blobs.exists(key) for key in (orphan, young, kept, elsewhere)]
            assert there == [False, True, True, True]
        finally:
            await removal.close()
            blobs.close()

    world.run(scenario)


def test_what_was_uploaded_for_a_refused_input_is_removed_when_it_is_old_enough(world: Worlds, tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        app = await world.identity.app("admin", "photos")
        assert app is not None
        blobs = BlobStore(tmp_path / "blobs")
        removal = Removal(world.database, blobs, min_age_s=1.0)
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


# Regions that a detector finds ----------------------------------------------------------------------------------------

LEFT = Detection(box=Box(top=0.1, left=0.0, bottom=0.9, right=0.5), concept_id="person", value=0.9)
RIGHT = Detection(box=Box(top=0.2, left=0.5, bottom=1.0, right=1.0), concept_id="dog", value=0.7)
_SAID = """
SELECT r.region_id IS NOT NULL, round(r.box_left::numeric, 3)::float, a.model_version_id, a.concept_ids
FROM areas r JOIN annotations a ON a.bucket = r.bucket AND a.area_id = r.id
WHERE a.model_version_id <> '' ORDER BY a.created_at
"""


async def index(place: Bench, eye: FakeEye) -> None:

    async with place.working(eye):
        await until(place.is_indexed)


async def queue_again(world: World) -> None:
    await world.database.execute("UPDATE inputs SET status = 30001, attempts = 0")
    await world.database.execute("DELETE FROM annotations WHERE model_id = 'tagger'")
    await world.database.execute("TRUNCATE vectors_1")


def test_what_a_detector_finds_are_areas_with_vectors_and_annotations(world: Worlds, tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        place = await bench(world, tmp_path)
        await place.post(1)

        await index(place, FakeEye(found=(LEFT, RIGHT)))

        assert await world.database.rows(_SAID) == [
            (True, 0.0, "d1", ["person"]),
            (True, 0.5, "d1", ["dog"]),
            (False, None, "t1", ["thing"]),
            (True, 0.0, "t1", ["thing"]),
            (True, 0.5, "t1", ["thing"]),
        ]
        ((missing,),) = await world.database.rows(
            "SELECT count(*) FROM areas r LEFT JOIN vectors_1 v ON v.area_id = r.id WHERE v.area_id IS NULL"
        )
        assert missing == 0

    world.run(scenario)


def test_regions_are_replaced_when_an_input_is_looked_at_again(world: Worlds, tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        place = await bench(world, tmp_path)
        await place.post(1)
        await index(place, FakeEye(found=(LEFT, RIGHT)))
        await queue_again(world)

        await index(place, FakeEye(found=(RIGHT,)))

        regions = await world.database.rows("SELECT box_left FROM areas WHERE region_id IS NOT NULL")
        said = [row for row in await world.database.rows(_SAID) if row[2] == "d1"]
        ((vectors_left,),) = await world.database.rows("SELECT count(*) FROM vectors_1")
        assert regions == [(0.5,)]
        assert said == [(True, 0.5, "d1", ["dog"])]
        assert vectors_left == 2

    world.run(scenario)


def test_a_region_that_somebody_has_annotated_stays_when_it_is_found_again(world: Worlds, tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        place = await bench(world, tmp_path)
        await place.post(1)
        await index(place, FakeEye(found=(LEFT, RIGHT)))
        ((number, area),) = await world.database.rows("SELECT input_number, id FROM areas WHERE box_left = 0.5")
        async with world.database.transaction() as connection:
            label = AnnotationRow(
                input_number=number,
                id="mine",
                area_id=area,
                created_at=datetime.now(UTC),
                status=24150,
                trusted=True,
                user_id="admin",
                concept_ids=["rex"],
                concept_values=[1.0],
            )
            await insert_annotations(connection, place.bucket, [label])
        await queue_again(world)

        await index(place, FakeEye(found=(replace(RIGHT, value=0.8),)))

        kept = await world.database.rows("SELECT id FROM areas WHERE region_id IS NOT NULL")
        labels = await world.database.rows("SELECT concept_id, area_id FROM labels")
        ((vectors_left,),) = await world.database.rows("SELECT count(*) FROM vectors_1")
        said = await world.database.rows(_SAID)
        assert said == [(True, 0.5, "d1", ["dog"]), (False, None, "t1", ["thing"]), (True, 0.5, "t1", ["thing"])]
        surely = await world.database.rows("SELECT concept_values FROM annotations WHERE model_id = 'detector'")
        assert surely == [([pytest.approx(0.8)],)]
        assert kept == [(area,)]
        assert labels == [("rex", area)]
        assert vectors_left == 2

    world.run(scenario)
