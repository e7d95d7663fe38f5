"""Inputs that are there when an app gets a workflow of its own: looked at when asked for, beside what there is."""

from __future__ import annotations

import asyncio

import pytest
from tests.integration.own_flows import (
    DETECTOR,
    OVER,
    PENDING,
    PEOPLE,
    SUCCESS,
    TAGGER,
    UNDER,
    WATER,
    Flowing,
    Flows,
    annotating,
)
from tests.integration.test_ingest_worker import until

from sightrank.ingest.reindex_progress import progress_of
from sightrank.store import queries
from sightrank.vision.box import Box
from sightrank.vision.detector import Detection

_WORKFLOWS = queries.load("workflows")
BOX = Box(top=0.25, left=0.25, bottom=0.5, right=0.75)
WALKTHROUGH = [
    ("crowd", "admin", SUCCESS, {"persons": 0.97}),
    ("crowd", "ann", PENDING, {"hounds": 0.03}),
    ("perhaps", "admin", SUCCESS, {"hounds": 0.95}),
    ("perhaps", "ann", PENDING, {"persons": 0.7}),
]


def test_inputs_that_are_there_are_left_alone_until_asked_for(flowing: Flowing) -> None:
    async def scenario(flows: Flows) -> None:
        await flows.index("crowd", "perhaps")
        await annotating(flows)
        async with flows.reindexing():
            await until(flows.is_settled)
        before = await flows.written()

        await flows.reindex("auto")

        assert before == []
        assert await flows.written() == WALKTHROUGH
        assert [(name, trusted) for name, _, _, trusted in await flows.labels()] == [
            ("crowd", False),
            ("crowd", True),
            ("perhaps", True),
            ("perhaps", False),
        ]
        ((version, labels),) = await flows.database.rows(
            "SELECT version, labels_version FROM app_buckets WHERE bucket = %s", [flows.place.bucket]
        )
        assert 0 < labels <= version
        assert await flows.database.rows("SELECT count(*) FROM reindexed_annotations") == [(0,)]

    flowing(scenario)


def test_looking_again_replaces_what_writers_wrote_and_keeps_what_people_made_of_it(flowing: Flowing) -> None:
    async def scenario(flows: Flows) -> None:
        await annotating(flows)
        await flows.index("crowd", "perhaps")
        # As a patch leaves an annotation: it is the person's from then on.
        await flows.database.execute(
            "UPDATE annotations SET written_by = '', status = 24150, trusted = true WHERE concept_ids = '{hounds}'"
            " AND status = 24151"
        )
        await flows.database.execute("UPDATE labels SET trusted = true, value = 1 WHERE concept_id = 'hounds'")
        kept = await flows.database.rows("SELECT id FROM annotations WHERE written_by = '' AND user_id = 'ann'")
        await flows.threshold("lower", OVER, {"persons": 0.6, "hounds": 0.01})
        await flows.flow(
            "auto",
            "auto-2",
            concept=(TAGGER, "visual-classifier", ()),
            mapper=("mapper", "concept-synonym-mapper", ["concept"]),
            sure=("lower", "concept-threshold", ["mapper"]),
            label=("label", "annotation-writer", ["sure"]),
        )

        await flows.reindex("auto")

        assert await flows.written() == [
            ("crowd", "admin", SUCCESS, {"persons": 0.97}),
            ("perhaps", "admin", SUCCESS, {"persons": 0.7, "hounds": 0.95}),
        ]
        assert await flows.database.rows("SELECT id FROM annotations WHERE user_id = 'ann'") == kept
        assert ("crowd", "hounds", 1.0, True) in await flows.labels()
        past = await flows.database.rows("SELECT count(*) FROM past_annotations")
        assert past == [(3,)], "searches as of before find what writers wrote then"

    flowing(scenario)


def test_a_workflow_that_cannot_run_changes_nothing(flowing: Flowing) -> None:
    async def scenario(flows: Flows) -> None:
        await annotating(flows)
        await flows.index("crowd", "perhaps")

        async def failed() -> bool:
            return await flows.database.rows("SELECT state FROM reindexes") == [("failed",)]

        await flows.patch("auto", reindex=True)
        await flows.database.execute("DELETE FROM models WHERE id = 'mapper'")
        async with flows.reindexing():
            await until(failed)
        progress = await progress_of(flows.database, flows.place.bucket)
        kept = await flows.written()
        await flows.model("mapper", "concept-synonym-mapper", {"knowledge_graph_id": ""})
        await flows.reindex("auto")

        assert progress is not None
        assert "could not be indexed by auto: crowd: Workflow auto said nothing" in progress.text()
        assert "no model 'mapper'" in progress.text()
        assert kept == WALKTHROUGH
        assert await flows.written() == WALKTHROUGH

    flowing(scenario)


def test_inputs_that_said_why_nothing_was_said_are_put_right(flowing: Flowing) -> None:
    async def scenario(flows: Flows) -> None:
        await annotating(flows)
        await flows.database.execute("UPDATE model_versions SET status = 21102 WHERE model_id = 'mapper'")
        await flows.index("crowd")
        before = await flows.database.rows("SELECT status_details <> '' FROM inputs")
        await flows.database.execute("UPDATE model_versions SET status = 21100")

        await flows.reindex("auto")

        assert before == [(True,)]
        assert await flows.database.rows("SELECT status, status_details FROM inputs") == [(30000, "")]
        assert await flows.written() == WALKTHROUGH[:2]

    flowing(scenario)


def test_going_back_with_a_look_at_all_takes_away_what_was_written(flowing: Flowing) -> None:
    async def scenario(flows: Flows) -> None:
        await annotating(flows)
        await flows.index("crowd")

        await flows.patch("General")
        kept = await flows.written()
        await flows.reindex("General")

        assert kept == WALKTHROUGH[:2]
        assert await flows.written() == []
        assert await flows.labels() == []
        assert await flows.database.rows("SELECT count(*) FROM annotations WHERE model_id = %s", [TAGGER]) == [(1,)]

    flowing(scenario)


@pytest.mark.parametrize("labelled", [False, True])
def test_regions_found_anew_have_their_writers_words(flowing: Flowing, labelled: bool) -> None:
    async def scenario(flows: Flows) -> None:
        await flows.threshold("sure", OVER, {WATER: 0.5})
        await flows.threshold("doubtful", UNDER, {PEOPLE: 0.9})
        await flows.writer("label", SUCCESS)
        await flows.writer("ask", PENDING)
        await flows.flow(
            "regions",
            "regions-1",
            find=(DETECTOR, "visual-detector", ()),
            concept=(TAGGER, "visual-classifier", ["find"]),
            sure=("sure", "concept-threshold", ["concept"]),
            doubtful=("doubtful", "concept-threshold", ["find"]),
            label=("label", "annotation-writer", ["sure"]),
            ask=("ask", "annotation-writer", ["doubtful"]),
        )
        await flows.index("crowd")
        if labelled:
            # Somebody has spoken of the region, so it stays the same area.
            await flows.database.execute(
                "INSERT INTO annotations (bucket, input_number, id, area_id, created_at, modified_at, status, trusted,"
                " user_id) SELECT bucket, input_number, 'said', id, now(), now(), 24150, true, 'admin' FROM areas"
                " WHERE region_id IS NOT NULL"
            )
        await flows.database.execute(
            "INSERT INTO reindexes (bucket, workflow_id, own_workflow_id, state)"
            " VALUES (%s, 'General', 'regions', 'sweeping')",
            [flows.place.bucket],
        )

        async with flows.reindexing():
            await until(flows.is_settled)

        rows = await flows.database.rows(
            "SELECT r.model_version_id, a.status, a.concept_ids,"
            " a.data #>> '{regions,0,region_info,bounding_box,top_row}'"
            " FROM annotations a JOIN areas r ON r.bucket = a.bucket AND r.id = a.area_id WHERE a.written_by <> ''"
            " ORDER BY a.status"
        )
        assert rows == [("d1", SUCCESS, [WATER], "0.25"), ("d1", PENDING, [PEOPLE], "0.25")]
        assert await flows.database.rows("SELECT own_workflow_id FROM apps WHERE id = 'photos'") == [("regions",)]
        assert await flows.database.rows("SELECT count(*) FROM areas WHERE region_id IS NOT NULL") == [(1,)]

    found = (Detection(box=BOX, concept_id=PEOPLE, value=0.8),)
    flowing(scenario, found=found, in_regions={WATER: 0.9})


def test_a_writer_behind_nodes_that_say_the_same_writes_it_once(flowing: Flowing) -> None:
    async def scenario(flows: Flows) -> None:
        await flows.threshold("half", OVER, {PEOPLE: 0.5})
        await flows.threshold("most", OVER, {PEOPLE: 0.6, WATER: 0.6})
        await flows.writer("label", SUCCESS)
        await flows.flow(
            "same",
            "same-1",
            concept=(TAGGER, "visual-classifier", ()),
            half=("half", "concept-threshold", ["concept"]),
            most=("most", "concept-threshold", ["concept"]),
            label=("label", "annotation-writer", ["half", "most"]),
        )
        await flows.patch("same")
        await flows.index("crowd")
        at_ingest = await flows.written()

        await flows.reindex("same")

        assert at_ingest == [("crowd", "admin", SUCCESS, {PEOPLE: 0.97, WATER: 0.99})]
        assert await flows.written() == at_ingest
        ((ids,),) = await flows.database.rows("SELECT concept_ids FROM annotations WHERE written_by <> ''")
        assert sorted(ids) == [PEOPLE, WATER]

    flowing(scenario)


def test_a_workflow_may_get_another_id_while_inputs_are_looked_at_for_it(flowing: Flowing) -> None:
    async def scenario(flows: Flows) -> None:
        await annotating(flows)
        await flows.patch("General")
        await flows.index("crowd", "perhaps")
        flows.eye.seen, flows.eye.gate = 0, asyncio.Event()
        await flows.patch("auto", reindex=True)

        async def seen() -> bool:
            return flows.eye.seen > 0

        async with flows.reindexing():
            await until(seen)
            async with flows.database.transaction() as connection:
                for statement in ("rename", "rename_base", "rename_wanted"):
                    keys = {"bucket": flows.place.bucket, "id": "auto", "new_id": "renamed"}
                    await connection.execute(_WORKFLOWS[statement], keys)
            flows.eye.gate.set()
            await until(flows.is_settled)

        assert await flows.database.rows("SELECT own_workflow_id FROM apps WHERE id = 'photos'") == [("renamed",)]
        assert await flows.written() == WALKTHROUGH

    flowing(scenario)
