"""What re-indexing does when something is wrong with an input, with its process, or with its turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

import numpy as np
import pytest
from tests.integration.beside import beside

from sightrank.ingest.annotator import Annotator
from sightrank.ingest.media import ImageSource
from sightrank.ingest.reindex_queue import ReindexQueue, State, Turn, TurnLost
from sightrank.ingest.reindexer import Reindexer
from sightrank.ingest.rows import AnnotationRow, insert_annotations
from sightrank.ingest.workflow import Workflow
from sightrank.search.concepts import ConceptBook
from sightrank.search.fits import Fits
from sightrank.store import vectors
from sightrank.store.clock import Clock
from sightrank.store.database import Database
from sightrank.teach.workbench import Workbench
from sightrank.vision.box import Box
from sightrank.vision.detector import Detection
from sightrank.vision.eye import Eye, Prepared
from sightrank.vision.threads import Lane, Threads
from sightrank.vision.vocabulary import Vocabulary

DIMS = 4
DEADLINE_S = 60.0


class Stubborn:
    """An eye that sees the same everywhere and finds the regions ``found``, but breaks at the picture ``bad``."""

    def __init__(self, *found: Detection) -> None:
        self.found = found

    async def prepare(self, data: bytes, boxes: Sequence[Box], lane: Lane, *, detect: bool) -> Prepared:
        if data == b"bad":
            raise RuntimeError("the decoder is broken")
        found = self.found if detect else ()
        pixels = np.zeros((1 + len(boxes) + len(found), 2, 2, 3), np.uint8)
        return Prepared(pixels=pixels, width=2, height=2, format="PNG", color_mode="RGB", detections=found)

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
async def reindexing(bench: Bench, *found: Detection) -> AsyncIterator[None]:
    """A process that re-indexes for the length of the block. New and Regions find these regions; Regions has the
    embedder of Old.
    """
    old, new = [await vectors.register(bench.database, name, "1", DIMS) for name in ("old", "new")]
    tagger = {"tagger_id": "tagger", "tagger_version_id": "1"}
    detector = {"eye": cast(Eye, Stubborn(*found)), "detector_id": "detector", "detector_version_id": "d1"}
    workflows = {
        "Old": Workflow(eye=cast(Eye, Stubborn()), table=old, **tagger),
        "New": Workflow(table=new, **detector, **tagger),
        "Regions": Workflow(table=old, **detector, **tagger),
    }
    book, images = ConceptBook(Vocabulary.empty()), cast(ImageSource, Names())
    annotator = Annotator(bench.database, Workbench(bench.database, book, Fits(bench.database), {}, {}), images)

    def run(threads: Threads) -> Coroutine[Any, Any, None]:
        clock = Clock()
        return Reindexer(
            bench.database, images, workflows, ("Empty",), annotator, book, threads=threads, clock=clock
        ).run()

    async with beside(run):
        yield


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


def test_an_input_of_which_nothing_can_be_written_is_found_and_named(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sightrank.ingest.reindexer._AGAIN_S", 0.0)

    async def scenario(bench: Bench) -> None:
        for name in ("old", "new"):
            await vectors.register(bench.database, name, "1", DIMS)
        await bench.database.execute("CREATE UNIQUE INDEX one_only ON vectors_2 (bucket)")
        async with reindexing(bench):
            await until(lambda: bench.is_in([("New", "failed")]))

        ((failure,),) = await bench.database.rows("SELECT failure FROM reindexes")
        assert "1 input(s) could not be indexed by New: in-b: what was seen of it cannot be written" in failure
        assert "one_only" in failure
        assert await bench.database.rows("SELECT workflow_id FROM apps") == [("Old",)]

    run(database_url, scenario, "a", "b")


def test_a_switch_that_cannot_be_written_ends_the_change(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sightrank.ingest.reindexer._AGAIN_S", 0.0)

    async def scenario(bench: Bench) -> None:
        await bench.database.execute("CREATE UNIQUE INDEX one_only ON annotations (bucket)")
        async with reindexing(bench):
            await until(lambda: bench.is_in([("New", "failed")]))

        ((failure,),) = await bench.database.rows("SELECT failure FROM reindexes")
        assert failure.startswith("what New says cannot be written")
        assert "one_only" in failure
        assert await bench.database.rows("SELECT workflow_id FROM apps") == [("Old",)]

    run(database_url, scenario, "a", "b")


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
        dead = ReindexQueue(bench.database, owner="dead", lease_s=60)
        alive = ReindexQueue(bench.database, owner="alive", lease_s=60)
        first = await dead.claim(["New"])

        async def claimed() -> bool:
            return await alive.claim(["New"]) is not None

        assert first is not None
        assert (first.state, first.attempts) == (State.SWEEPING, 1)
        assert await alive.claim(["New"]) is None
        await bench.database.execute("UPDATE reindexes SET lease_until = lease_until - interval '1 minute'")
        await until(claimed)
        with pytest.raises(TurnLost):
            async with dead.held(first):
                raise AssertionError("two processes at the same step")

    run(database_url, scenario)


def test_a_turn_that_is_taken_while_the_process_is_told_to_stop_is_given_back(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = ReindexQueue.claim
    taken = asyncio.Event()

    async def answered_late(self: ReindexQueue, workflow_ids: Collection[str]) -> Turn | None:
        turn = await claim(self, workflow_ids)
        taken.set()
        await asyncio.sleep(0.1)
        return turn

    monkeypatch.setattr(ReindexQueue, "claim", answered_late)

    async def scenario(bench: Bench) -> None:
        async with reindexing(bench):
            await asyncio.wait_for(taken.wait(), DEADLINE_S)

        assert await bench.database.rows("SELECT lease_owner, attempts FROM reindexes") == [(None, 0)]

    run(database_url, scenario, "a")


def test_a_process_without_the_wanted_model_leaves_the_turn_to_others(database_url: str) -> None:
    async def scenario(bench: Bench) -> None:
        queue = ReindexQueue(bench.database, owner="w", lease_s=60)

        assert await queue.claim(["Old", "Empty"]) is None
        assert await queue.claim(["New"]) is not None

    run(database_url, scenario)


# Regions that a detector finds ----------------------------------------------------------------------------------------

LEFT = Detection(box=Box(top=0.1, left=0.0, bottom=0.9, right=0.5), concept_id="person", value=0.9)
RIGHT = Detection(box=Box(top=0.2, left=0.5, bottom=1.0, right=1.0), concept_id="dog", value=0.7)
_SAID = """
SELECT i.id, r.box_left, a.model_version_id, a.concept_ids FROM annotations a
JOIN areas r ON r.bucket = a.bucket AND r.id = a.area_id
JOIN inputs i ON i.bucket = a.bucket AND i.number = a.input_number
ORDER BY i.id, a.created_at
"""


async def change(bench: Bench, workflow_id: str | None, *found: Detection) -> None:
    """Asks for a workflow, or for nothing but cleaning up, and waits until that is done."""
    keys = {"bucket": bench.bucket, "workflow_id": workflow_id}
    await bench.database.execute(
        "INSERT INTO reindexes (bucket, workflow_id, state) VALUES (%(bucket)s, %(workflow_id)s, 'sweeping')"
        " ON CONFLICT (bucket) DO UPDATE SET workflow_id = excluded.workflow_id, state = 'sweeping', after_number = 0",
        keys,
    )
    async with reindexing(bench, *found):
        await until(lambda: bench.is_in([]))


async def annotate_right(bench: Bench) -> int:
    """Somebody says what the region at the right is; returns its area."""
    ((number, area),) = await bench.database.rows("SELECT input_number, id FROM areas WHERE box_left = 0.5")
    async with bench.database.transaction() as connection:
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
        await insert_annotations(connection, bench.bucket, [label])
    return int(area)


async def vectors_of(bench: Bench, table: str) -> list[tuple[str, float | None, bool]]:
    """Input, left side of the box and whether the vector is stamped with the area's time, for each vector."""
    rows = await bench.database.rows(
        "SELECT i.id, r.box_left, v.created_us = (extract(epoch FROM r.created_at) * 1000000)::bigint"
        f" FROM {table} v JOIN areas r ON r.bucket = v.bucket AND r.id = v.area_id"
        " JOIN inputs i ON i.bucket = v.bucket AND i.number = v.input_number ORDER BY i.id, r.box_left NULLS FIRST"
    )
    return [(name, left, same) for name, left, same in rows]


def test_the_wanted_workflows_regions_come_all_at_once(database_url: str) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.database.execute("UPDATE reindexes SET workflow_id = 'Regions'")
        async with bench.database.transaction() as connection:
            await connection.execute("SELECT FROM apps FOR SHARE")  # the change over waits for this
            async with reindexing(bench, LEFT, RIGHT):
                await until(lambda: bench.is_in([("Regions", "switching")]))
                early = await bench.database.rows("SELECT count(*) FROM areas")
                aside = await bench.database.rows("SELECT count(*) FROM reindexed_regions")

        async with reindexing(bench, LEFT, RIGHT):
            await until(lambda: bench.is_in([]))

        assert (early, aside) == ([(2,)], [(4,)])
        assert await bench.database.rows(_SAID) == [
            (name, left, version, [concept])
            for name in ("in-a", "in-b")
            for left, version, concept in [
                (None, "1", "thing"),
                (0.0, "d1", "person"),
                (0.5, "d1", "dog"),
                (0.0, "1", "thing"),
                (0.5, "1", "thing"),
            ]
        ]
        assert await vectors_of(bench, "vectors_1") == [
            (name, left, True) for name in ("in-a", "in-b") for left in (None, 0.0, 0.5)
        ]
        assert await bench.database.rows("SELECT count(*) FROM reindexed_regions") == [(0,)]

    run(database_url, scenario, "a", "b")


def test_the_old_workflows_regions_go_unless_somebody_has_annotated_them(database_url: str) -> None:
    async def scenario(bench: Bench) -> None:
        await change(bench, "New", LEFT, RIGHT)
        mine = await annotate_right(bench)
        ((left,),) = await bench.database.rows("SELECT id FROM areas WHERE box_left = 0.0")

        await change(bench, "Old")

        assert await bench.database.rows("SELECT id FROM areas WHERE region_id IS NOT NULL") == [(mine,)]
        assert await bench.database.rows("SELECT area_id FROM removals") == [(left,)]
        assert await bench.database.rows(_SAID) == [
            ("in-a", 0.5, "", ["rex"]),
            ("in-a", None, "1", ["thing"]),
            ("in-a", 0.5, "1", ["thing"]),
        ]
        assert await vectors_of(bench, "vectors_1") == [("in-a", None, True), ("in-a", 0.5, True)]
        assert await bench.database.rows("SELECT count(*) FROM vectors_2") == [(0,)]

    run(database_url, scenario, "a")


def test_the_same_detector_again_leaves_no_region_twice(database_url: str) -> None:
    async def scenario(bench: Bench) -> None:
        await change(bench, "New", LEFT, RIGHT)
        mine = await annotate_right(bench)

        await change(bench, "Regions", LEFT, RIGHT)

        regions = await bench.database.rows("SELECT box_left, id = %s FROM areas WHERE box_top > 0 ORDER BY 1", [mine])
        assert regions == [(0.0, False), (0.5, True)]
        # What is said of a region that stays has changed without its vector: whoever keeps detections reads them anew.
        assert await bench.database.rows("SELECT labels_version = version FROM app_buckets") == [(True,)]
        assert await bench.database.rows(_SAID) == [
            ("in-a", 0.5, "", ["rex"]),
            ("in-a", None, "1", ["thing"]),
            ("in-a", 0.5, "1", ["thing"]),
            ("in-a", 0.5, "d1", ["dog"]),
            ("in-a", 0.0, "d1", ["person"]),
            ("in-a", 0.0, "1", ["thing"]),
        ]
        assert await vectors_of(bench, "vectors_1") == [("in-a", left, True) for left in (None, 0.0, 0.5)]

    run(database_url, scenario, "a")


@pytest.mark.parametrize("by", ["the detector", "a person"])
def test_an_annotated_region_that_is_deserted_while_the_change_waits_is_found_as_any_other(
    database_url: str, by: str
) -> None:
    async def scenario(bench: Bench) -> None:
        await change(bench, "New", LEFT, RIGHT)
        mine = await annotate_right(bench)
        if by == "a person":
            await bench.database.execute("UPDATE areas SET model_version_id = '' WHERE id = %s", [mine])
        await bench.database.execute(
            "INSERT INTO reindexes (bucket, workflow_id, state) VALUES (%s, 'Regions', 'sweeping')", [bench.bucket]
        )
        async with bench.database.transaction() as connection:
            await connection.execute("SELECT FROM apps FOR SHARE")
            async with reindexing(bench, LEFT, RIGHT):
                await until(lambda: bench.is_in([("Regions", "switching")]))
                if by == "a person":
                    await bench.database.execute("DELETE FROM areas WHERE id = %s", [mine])
                else:
                    await bench.database.execute("DELETE FROM annotations WHERE id = 'mine'")

        async with reindexing(bench, LEFT, RIGHT):
            await until(lambda: bench.is_in([]))

        assert await bench.database.rows("SELECT box_left FROM areas WHERE box_top > 0 ORDER BY 1") == [(0.0,), (0.5,)]
        assert await bench.database.rows("SELECT FROM areas WHERE id = %s", [mine]) == []
        said = await bench.database.rows(_SAID)
        assert sorted(row for row in said if row[1] is not None) == [
            ("in-a", 0.0, "1", ["thing"]),
            ("in-a", 0.0, "d1", ["person"]),
            ("in-a", 0.5, "1", ["thing"]),
            ("in-a", 0.5, "d1", ["dog"]),
        ]
        assert await vectors_of(bench, "vectors_1") == [("in-a", left, True) for left in (None, 0.0, 0.5)]

    run(database_url, scenario, "a")


def test_a_region_annotated_while_the_change_waits_is_looked_at_and_kept(database_url: str) -> None:
    async def scenario(bench: Bench) -> None:
        await change(bench, "New", LEFT, RIGHT)
        await bench.database.execute(
            "INSERT INTO reindexes (bucket, workflow_id, state) VALUES (%s, 'Old', 'sweeping')", [bench.bucket]
        )
        async with bench.database.transaction() as connection:
            await connection.execute("SELECT FROM apps FOR SHARE")
            async with reindexing(bench):
                await until(lambda: bench.is_in([("Old", "switching")]))
                mine = await annotate_right(bench)

        async with reindexing(bench):
            await until(lambda: bench.is_in([]))

        assert await bench.database.rows("SELECT id FROM areas WHERE region_id IS NOT NULL") == [(mine,)]
        assert await vectors_of(bench, "vectors_1") == [("in-a", None, True), ("in-a", 0.5, True)]

    run(database_url, scenario, "a")


def test_regions_put_aside_for_a_change_that_was_called_off_are_forgotten(database_url: str) -> None:
    async def scenario(bench: Bench) -> None:
        async with bench.database.transaction() as connection:
            await connection.execute("SELECT FROM apps FOR SHARE")
            async with reindexing(bench, LEFT, RIGHT):
                await until(lambda: bench.is_in([("New", "switching")]))
        aside = await bench.database.rows("SELECT count(*) FROM reindexed_regions")

        await change(bench, None)

        assert aside == [(2,)]
        assert await bench.database.rows("SELECT count(*) FROM reindexed_regions") == [(0,)]
        assert await bench.database.rows("SELECT region_id FROM areas") == [(None,)]

    run(database_url, scenario, "a")


def test_an_app_without_a_model_has_only_annotated_regions_left(database_url: str) -> None:
    async def scenario(bench: Bench) -> None:
        await change(bench, "New", LEFT, RIGHT)
        mine = await annotate_right(bench)
        await bench.database.execute("UPDATE apps SET workflow_id = 'Empty'")

        await change(bench, None)

        assert await bench.database.rows("SELECT id FROM areas WHERE region_id IS NOT NULL") == [(mine,)]
        assert await bench.database.rows(_SAID) == [("in-a", 0.5, "", ["rex"])]
        assert await bench.database.rows("SELECT count(*) FROM vectors_2") == [(0,)]

    run(database_url, scenario, "a")
