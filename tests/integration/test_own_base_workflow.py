"""An app's own workflow at ingest: what its nodes say comes with the input, once, never against what people said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from clarifai_grpc.grpc.api import resources_pb2, service_pb2
from structlog.testing import capture_logs
from tests.integration.own_flows import (
    DETECTOR,
    DOG,
    EMBEDDER,
    OVER,
    OVER_OR_AT,
    PENDING,
    PEOPLE,
    SHOWS,
    SUCCESS,
    TAGGER,
    UNDER,
    WATER,
    Flowing,
    Flows,
    annotating,
    tagger,
    vector,
)
from tests.integration.test_ingest_worker import until

from sightrank.errors import WorkflowDoesNotExist, WorkflowInvalid, WorkflowNeedsModel
from sightrank.ingest.intake import IdConflict, NewInput
from sightrank.ingest.jobs import Jobs
from sightrank.ingest.rows import Content, NamedConcept
from sightrank.store.clock import Clock
from sightrank.store.database import Connection
from sightrank.vision.box import Box
from sightrank.vision.detector import Detection

BOX = Box(top=0.25, left=0.25, bottom=0.5, right=0.75)


def test_what_is_sure_becomes_labels_and_what_is_doubtful_waits_for_a_person(flowing: Flowing) -> None:
    async def scenario(flows: Flows) -> None:
        await annotating(flows)

        await flows.index("crowd", "perhaps")

        assert await flows.written() == [
            ("crowd", "admin", SUCCESS, {"persons": 0.97}),
            ("crowd", "ann", PENDING, {"hounds": 0.03}),
            ("perhaps", "admin", SUCCESS, {"hounds": 0.95}),
            ("perhaps", "ann", PENDING, {"persons": 0.7}),
        ]
        assert await flows.labels() == [
            ("crowd", "hounds", 0.03, False),
            ("crowd", "persons", 0.97, True),
            ("perhaps", "hounds", 0.95, True),
            ("perhaps", "persons", 0.7, False),
        ]
        infos = await flows.database.rows("SELECT DISTINCT annotation_info FROM annotations WHERE written_by <> ''")
        assert sorted(info["by"] for (info,) in infos) == ["ask", "label"]
        ((version, labels),) = await flows.database.rows(
            "SELECT version, labels_version FROM app_buckets WHERE bucket = %s", [flows.place.bucket]
        )
        assert labels == version, "searches learn of the labels with the commit that brought the vectors"

    flowing(scenario)


def test_a_value_at_the_threshold_passes_only_where_equal_is_said(flowing: Flowing) -> None:
    async def scenario(flows: Flows) -> None:
        (row,) = tagger().probabilities(vector(SHOWS["crowd"])[None]).tolist()
        for name, comparison in (("over", OVER), ("over-or-at", OVER_OR_AT), ("under", UNDER)):
            await flows.threshold(name, comparison, {PEOPLE: row[0]})
            await flows.writer(f"write-{name}", SUCCESS)
        await flows.flow(
            "borders",
            "borders-1",
            concept=(TAGGER, "visual-classifier", ()),
            **{name: (name, "concept-threshold", ["concept"]) for name in ("over", "over-or-at", "under")},
            **{
                f"write-{name}": (f"write-{name}", "annotation-writer", [name])
                for name in ("over", "over-or-at", "under")
            },
        )
        await flows.patch("borders")

        await flows.index("crowd")

        rows = await flows.database.rows("SELECT written_by FROM annotations WHERE written_by <> ''")
        assert rows == [("write-over-or-at-1",)]
        own = await flows.database.rows("SELECT id, name FROM concepts WHERE bucket = %s", [flows.place.bucket])
        assert own == [(PEOPLE, "people")], "a public concept that is written is the app's own from then on"

    flowing(scenario)


def test_writers_keep_silent_where_people_have_said_something(flowing: Flowing) -> None:
    async def scenario(flows: Flows) -> None:
        await annotating(flows)
        said = (NamedConcept(id="persons", name="", value=0.0),)

        await flows.index("crowd", content=Content(concepts=said))

        assert await flows.written() == [("crowd", "ann", PENDING, {"hounds": 0.03})]
        assert await flows.labels() == [("crowd", "hounds", 0.03, False), ("crowd", "persons", 0.0, True)]

    flowing(scenario)


def test_writers_keep_silent_where_people_have_said_the_same_by_a_concept_of_their_own(flowing: Flowing) -> None:
    """A concept of the app and the public one of its name are one: the latest label of either counts."""

    async def scenario(flows: Flows) -> None:
        await flows.threshold("over", OVER, {PEOPLE: 0.5, WATER: 0.5})
        await flows.writer("label", SUCCESS)
        await flows.flow(
            "public",
            "public-1",
            concept=(TAGGER, "visual-classifier", ()),
            over=("over", "concept-threshold", ["concept"]),
            label=("label", "annotation-writer", ["over"]),
        )
        await flows.patch("public")
        said = (NamedConcept(id="mine", name="People", value=0.0),)

        await flows.index("crowd", content=Content(concepts=said))
        at_ingest = await flows.written()
        await flows.reindex("public")

        assert at_ingest == [("crowd", "admin", SUCCESS, {WATER: 0.99})]
        assert await flows.written() == at_ingest
        assert await flows.labels() == [("crowd", WATER, 0.99, True), ("crowd", "mine", 0.0, True)]

    flowing(scenario)


def test_an_input_that_is_looked_at_again_has_everything_once(flowing: Flowing) -> None:
    async def scenario(flows: Flows) -> None:
        await annotating(flows)
        await flows.post("crowd", "perhaps")
        async with flows.working():
            await until(flows.place.is_indexed)
            before = await flows.written(), await flows.labels()
            await flows.forget_vectors()
            await until(flows.place.is_indexed)

        assert (await flows.written(), await flows.labels()) == before
        assert await flows.database.rows("SELECT count(*) FROM past_annotations WHERE until > modified_at") == [(4,)]
        assert await flows.database.rows("SELECT count(*) FROM annotations WHERE model_id = %s", [TAGGER]) == [(2,)]

    flowing(scenario)


def test_two_workers_write_everything_once(flowing: Flowing) -> None:
    async def scenario(flows: Flows) -> None:
        await annotating(flows)
        shows = {f"p{n}": {PEOPLE: 0.97, DOG: 0.03} for n in range(60)}
        flows.eye.pictures.shows = shows
        await flows.post(*shows)

        async with flows.working("one"), flows.working("two"):
            await until(flows.place.is_indexed)

        written = await flows.written()
        assert [(name, status) for name, _, status, _ in written] == [
            (name, status) for name in sorted(shows) for status in (SUCCESS, PENDING)
        ]

    flowing(scenario)


def test_a_worker_that_dies_leaves_nothing_half_said(flowing: Flowing) -> None:
    async def scenario(flows: Flows) -> None:
        await annotating(flows)
        await flows.post("crowd")
        flows.eye.gate = asyncio.Event()

        async def seen() -> bool:
            return flows.eye.seen > 0

        dead = Jobs(
            flows.database, Clock(), flows.place.world.book, owner="dead", lease_s=0.3, workflow_ids=["General"]
        )
        (job,) = await dead.claim(1)
        async with flows.working("stopped"):
            await until(seen)  # it took over when the lease had run out, and is stopped in the middle of it
        assert await flows.written() == []
        flows.eye.gate.set()
        async with flows.working("next"):
            await until(flows.place.is_indexed)

        assert job.own_workflow_id == "auto"
        assert len(await flows.written()) == 2
        assert [attempts for _, _, attempts in await flows.place.states()] == [2]

    flowing(scenario)


@pytest.mark.parametrize("other", ["General", "later"])
def test_inputs_under_way_are_looked_at_by_the_workflow_the_app_has_when_they_are_done(
    flowing: Flowing, other: str
) -> None:
    async def scenario(flows: Flows) -> None:
        await annotating(flows)
        await flows.flow(
            "later",
            "later-1",
            concept=(TAGGER, "visual-classifier", ()),
            sure=("mapper", "concept-synonym-mapper", ["concept"]),
            ask=("ask", "annotation-writer", ["sure"]),
        )
        await flows.post("crowd")
        flows.eye.gate = asyncio.Event()

        async def seen() -> bool:
            return flows.eye.seen > 0

        async with flows.working():
            await until(seen)
            await flows.patch(other)
            flows.eye.gate.set()
            await until(flows.place.is_indexed)

        expected = [("crowd", "ann", PENDING, {"persons": 0.97, "hounds": 0.03})] if other == "later" else []
        assert await flows.written() == expected
        assert await flows.database.rows("SELECT count(*) FROM vectors_1") == [(1,)]

    flowing(scenario)


def test_the_latest_version_of_the_workflow_runs(flowing: Flowing) -> None:
    async def scenario(flows: Flows) -> None:
        await annotating(flows)
        await flows.flow(
            "auto",
            "auto-2",
            concept=(TAGGER, "visual-classifier", ()),
            mapper=("mapper", "concept-synonym-mapper", ["concept"]),
            label=("label", "annotation-writer", ["mapper"]),
        )

        await flows.index("crowd")

        assert await flows.written() == [("crowd", "admin", SUCCESS, {"persons": 0.97, "hounds": 0.03})]

    flowing(scenario)


@pytest.mark.parametrize(
    ("gone", "reason"),
    [
        ("DELETE FROM workflows", "it is not there any more"),
        ("DELETE FROM models WHERE id = 'mapper'", "no model 'mapper'"),
        ("UPDATE model_versions SET status = 21102 WHERE model_id = 'sure'", "'sure' has not been trained"),
        ("UPDATE model_versions SET params = '{}' WHERE model_id = 'mapper'", "no parameter knowledge_graph_id"),
        ("UPDATE model_versions SET params = '{}' WHERE model_id = 'ask'", "no parameter annotation_user_id"),
    ],
)
def test_an_input_is_indexed_although_its_workflow_cannot_run_and_says_why(
    flowing: Flowing, gone: str, reason: str
) -> None:
    async def scenario(flows: Flows) -> None:
        await annotating(flows)
        await flows.database.execute(gone)

        await flows.post("crowd")
        with capture_logs() as logs:
            async with flows.working():
                await until(flows.place.is_indexed)

        ((details,),) = await flows.database.rows("SELECT status_details FROM inputs")
        assert details.startswith("Workflow auto said nothing of this input: ")
        assert reason in details
        assert [log["workflow"] for log in logs if log["log_level"] == "warning"] == ["auto"]
        assert await flows.written() == []
        assert await flows.database.rows("SELECT count(*) FROM vectors_1") == [(1,)]

    flowing(scenario)


def test_what_was_written_stays_where_the_workflow_cannot_say_it_again(flowing: Flowing) -> None:
    async def scenario(flows: Flows) -> None:
        await annotating(flows)
        await flows.index("crowd")
        before = await flows.written(), await flows.labels()
        await flows.database.execute("DELETE FROM models WHERE id = 'mapper'")
        await flows.forget_vectors()

        async with flows.working():
            await until(flows.place.is_indexed)

        assert await flows.database.rows("SELECT status_details <> '' FROM inputs") == [(True,)]
        assert (await flows.written(), await flows.labels()) == before

    flowing(scenario)


def test_writers_behind_a_detector_write_on_its_regions(flowing: Flowing) -> None:
    async def scenario(flows: Flows) -> None:
        await flows.model("crop", "image-crop", {"margin": 0.5})
        await flows.threshold("sure", OVER, {WATER: 0.5})
        await flows.writer("label", SUCCESS)
        await flows.flow(
            "regions",
            "regions-1",
            find=(DETECTOR, "visual-detector", ()),
            crop=("crop", "image-crop", ["find"]),
            concept=(TAGGER, "visual-classifier", ["crop"]),
            sure=("sure", "concept-threshold", ["concept"]),
            label=("label", "annotation-writer", ["sure"]),
            people=("label", "annotation-writer", ["find"]),
        )
        await flows.database.execute("UPDATE apps SET own_workflow_id = 'regions' WHERE id = 'photos'")

        await flows.post("crowd")
        async with flows.working():
            await until(flows.place.is_indexed)
            await flows.forget_vectors()
            await until(flows.place.is_indexed)

        rows = await flows.database.rows(
            "SELECT r.box_top, r.model_version_id, a.concept_ids, a.data FROM annotations a"
            " JOIN areas r ON r.bucket = a.bucket AND r.id = a.area_id WHERE a.written_by <> '' ORDER BY a.concept_ids"
        )
        assert [(top, version, ids) for top, version, ids, _ in rows] == [(0.25, "d1", [PEOPLE]), (0.25, "d1", [WATER])]
        assert rows[0][3]["regions"][0]["region_info"]["bounding_box"]["top_row"] == 0.25
        assert flows.eye.cut == [Box(top=0.125, left=0.0, bottom=0.625, right=1.0)] * 2
        regions = await flows.database.rows("SELECT count(*) FROM areas WHERE region_id IS NOT NULL")
        assert regions == [(1,)], "a region that only writers speak of is found anew"

    found = (Detection(box=BOX, concept_id=PEOPLE, value=0.8),)
    flowing(scenario, found=found, in_regions={PEOPLE: 0.2, DOG: 0.2, WATER: 0.9})


def test_a_writer_that_is_told_to_write_for_nobody_writes_nothing(flowing: Flowing) -> None:
    """The app was patched when its writer wrote for somebody; a later version of the writer does not."""

    async def scenario(flows: Flows) -> None:
        await annotating(flows)
        await flows.database.execute(
            "UPDATE model_versions SET params = params || '{\"annotation_user_id\": \"nobody\"}' WHERE id = 'ask-1'"
        )

        await flows.index("crowd")

        assert await flows.written() == []
        ((details,),) = await flows.database.rows("SELECT status_details FROM inputs")
        assert "'nobody', and there is no such user" in details

    flowing(scenario)


def test_a_text_is_not_said_to_lack_what_no_workflow_says_of_texts(flowing: Flowing) -> None:
    async def scenario(flows: Flows) -> None:
        await annotating(flows)
        await flows.database.execute("DELETE FROM models WHERE id = 'mapper'")

        text = NewInput(id="text", media="text", content=Content(), text_raw="two riders")
        await flows.place.intake.accept(flows.place.bucket, "admin", [text], IdConflict.SKIP)
        await flows.index("crowd")

        rows = await flows.database.rows("SELECT id, status, status_details <> '' FROM inputs ORDER BY id")
        assert rows == [("crowd", 30000, True), ("text", 30000, False)]

    flowing(scenario)


def test_an_input_is_tried_again_where_storage_does_not_answer(flowing: Flowing) -> None:
    async def scenario(flows: Flows) -> None:
        await flows.model("crop", "image-crop", {"margin": 0.5})
        await flows.writer("label", SUCCESS)
        await flows.flow(
            "regions",
            "regions-1",
            find=(DETECTOR, "visual-detector", ()),
            crop=("crop", "image-crop", ["find"]),
            concept=(TAGGER, "visual-classifier", ["crop"]),
            label=("label", "annotation-writer", ["concept"]),
        )
        await flows.database.execute("UPDATE apps SET own_workflow_id = 'regions' WHERE id = 'photos'")
        loaded = 0

        async def load(bucket: int, *, url: str, blob: str) -> bytes:
            nonlocal loaded
            loaded += 1
            if loaded == 2:
                raise OSError("the disk is away")
            return b"crowd"

        flows.eye.pictures.load = load  # type: ignore[method-assign]
        await flows.post("crowd")
        async with flows.working(lease_s=1.0):
            await until(flows.place.is_indexed)

        assert await flows.database.rows("SELECT status_details FROM inputs") == [("",)]
        assert len(await flows.written()) == 1

    flowing(scenario, found=(Detection(box=BOX, concept_id=PEOPLE, value=0.8),))


def test_an_own_workflow_that_takes_long_holds_up_no_other_app(flowing: Flowing) -> None:
    async def scenario(flows: Flows) -> None:
        await flows.model("crop", "image-crop", {"margin": 0.5})
        await flows.flow(
            "regions",
            "regions-1",
            find=(DETECTOR, "visual-detector", ()),
            crop=("crop", "image-crop", ["find"]),
            concept=(TAGGER, "visual-classifier", ["crop"]),
        )
        await flows.database.execute("UPDATE apps SET own_workflow_id = 'regions' WHERE id = 'photos'")
        request = service_pb2.PostAppsRequest(
            user_app_id=resources_pb2.UserAppIDSet(user_id="me"),
            apps=[resources_pb2.App(id="other", default_workflow_id="General")],
        )
        await flows.place.world.call("PostApps", request)
        other = await flows.place.world.identity.app("admin", "other")
        assert other is not None
        answers, again = asyncio.Event(), asyncio.Event()
        loaded: set[str] = set()

        async def load(bucket: int, *, url: str, blob: str) -> bytes:
            if url in loaded:
                again.set()
                await answers.wait()
            loaded.add(url)
            return b"crowd"

        async def indexed(bucket: int) -> int:
            rows = await flows.database.rows(
                "SELECT count(*) FROM inputs WHERE bucket = %s AND status = 30000", [bucket]
            )
            return int(rows[0][0])

        async def others_are_done() -> bool:
            return await indexed(other.bucket) == 3

        flows.eye.pictures.load = load  # type: ignore[method-assign]
        await flows.post("crowd")
        async with flows.working():
            async with asyncio.timeout(60):
                await again.wait()
            items = [NewInput(id=f"o{n}", media="image", content=Content(), url=f"http://y/{n}") for n in range(3)]
            await flows.place.intake.accept(other.bucket, "admin", items, IdConflict.SKIP)
            await until(others_are_done)
            assert await indexed(flows.place.bucket) == 0
            answers.set()
            await until(flows.place.is_indexed)

    flowing(scenario, found=(Detection(box=BOX, concept_id=PEOPLE, value=0.8),))


def test_what_was_written_on_regions_that_are_found_anew_is_remembered_where_it_cannot_be_said_again(
    flowing: Flowing,
) -> None:
    async def scenario(flows: Flows) -> None:
        await flows.writer("label", SUCCESS)
        await flows.flow(
            "regions",
            "regions-1",
            find=(DETECTOR, "visual-detector", ()),
            people=("label", "annotation-writer", ["find"]),
        )
        await flows.database.execute("UPDATE apps SET own_workflow_id = 'regions' WHERE id = 'photos'")
        await flows.index("crowd")
        before = await flows.database.rows("SELECT id FROM annotations WHERE written_by <> ''")
        await flows.database.execute("DELETE FROM models WHERE id = 'label'")
        await flows.forget_vectors()

        async with flows.working():
            await until(flows.place.is_indexed)

        assert await flows.written() == []
        assert await flows.labels() == []
        assert await flows.database.rows("SELECT id FROM past_annotations") == before
        ((version, labels),) = await flows.database.rows(
            "SELECT version, labels_version FROM app_buckets WHERE bucket = %s", [flows.place.bucket]
        )
        assert labels == version, "searches learn of the labels that went"

    flowing(scenario, found=(Detection(box=BOX, concept_id=PEOPLE, value=0.8),))


def test_the_apps_own_models_say_what_they_predict(flowing: Flowing) -> None:
    async def scenario(flows: Flows) -> None:
        await flows.trained("mine", wet=1, dry=-1)
        await flows.threshold("sure", OVER, {"wet": 0.9})
        await flows.writer("label", SUCCESS)
        await flows.flow(
            "own",
            "own-1",
            embed=(EMBEDDER, "visual-embedder", ()),
            mine=("mine", "embedding-classifier", ["embed"]),
            sure=("sure", "concept-threshold", ["mine"]),
            label=("label", "annotation-writer", ["sure"]),
        )
        await flows.database.execute("UPDATE apps SET own_workflow_id = 'own' WHERE id = 'photos'")

        await flows.index("crowd", "perhaps")

        said = await flows.database.rows(
            "SELECT i.id, a.model_version_id, a.trusted, a.concept_ids FROM annotations a JOIN inputs i ON"
            " i.number = a.input_number WHERE a.model_id = 'mine' ORDER BY i.id"
        )
        assert said == [("crowd", "mine-1", False, ["wet", "dry"]), ("perhaps", "mine-1", False, ["dry", "wet"])]
        assert await flows.written() == [("crowd", "admin", SUCCESS, {"wet": 0.99})]

    flowing(scenario)


def test_an_app_shows_its_own_workflow_and_gets_rid_of_it(flowing: Flowing) -> None:
    async def scenario(flows: Flows) -> None:
        await annotating(flows)
        rows = "SELECT workflow_id, own_workflow_id FROM apps WHERE id = 'photos'"

        shown = await flows.patch("auto")
        app = await flows.place.world.identity.app("admin", "photos")
        during = await flows.database.rows(rows)
        back = await flows.patch("General")

        assert (shown.default_workflow_id, shown.default_workflow.app_id, shown.default_workflow.user_id) == (
            "auto",
            "photos",
            "admin",
        )
        assert app is not None
        assert (app.workflow_id, app.own_workflow_id) == ("General", "auto")
        assert during == [("General", "auto")]
        assert (back.default_workflow_id, back.default_workflow.app_id) == ("General", "main")
        assert await flows.database.rows(rows) == [("General", "")]

    flowing(scenario)


def test_a_workflow_that_cannot_be_a_base_is_refused(flowing: Flowing) -> None:
    async def scenario(flows: Flows) -> None:
        await flows.model("raw", "embedding-classifier", status=21102)
        await flows.writer("nobody", SUCCESS, "nobody")
        for name, node in {
            "untrained": ("raw", "embedding-classifier", ()),
            "bare": ("gone", "concept-threshold", ()),
            "stranger": ("nobody", "annotation-writer", ()),
        }.items():
            await flows.flow(name, f"{name}-1", node=node)

        for name, error in {
            "untrained": WorkflowNeedsModel,
            "bare": WorkflowNeedsModel,
            "stranger": WorkflowInvalid,
            "unheard-of": WorkflowDoesNotExist,
        }.items():
            with pytest.raises(error) as caught:
                await flows.patch(name)
        assert "General" in caught.value.details
        assert "App 'photos' has stranger, bare, untrained." in caught.value.details

        rows = await flows.database.rows("SELECT workflow_id, own_workflow_id FROM apps WHERE id = 'photos'")
        assert rows == [("General", "")]

    flowing(scenario)


@asynccontextmanager
async def asked_for_auto(flows: Flows) -> AsyncIterator[Connection]:
    """The app asks for the workflow ``auto``, which has been looked at; the answer comes after the block."""

    async def waiting() -> bool:
        rows = await flows.database.rows("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return rows == [(1,)]

    async with flows.database.transaction() as connection:
        await connection.execute("SELECT FROM apps WHERE id = 'photos' FOR UPDATE")
        patching = asyncio.create_task(flows.patch("auto"))
        await until(waiting)
        yield connection
    await patching


def test_a_workflow_that_goes_while_an_app_asks_for_it_is_refused(flowing: Flowing) -> None:
    async def scenario(flows: Flows) -> None:
        await annotating(flows)
        await flows.patch("General")

        with pytest.raises(WorkflowDoesNotExist):
            async with asked_for_auto(flows) as connection:
                await connection.execute("DELETE FROM workflows")

        assert await flows.database.rows("SELECT own_workflow_id FROM apps WHERE id = 'photos'") == [("",)]

    flowing(scenario)


def test_a_workflow_that_gets_other_nodes_while_an_app_asks_for_it_is_looked_at_again(flowing: Flowing) -> None:
    async def scenario(flows: Flows) -> None:
        await annotating(flows)
        await flows.patch("General")
        await flows.writer("nobody", SUCCESS, "nobody")

        with pytest.raises(WorkflowInvalid, match="in the name of 'nobody'"):
            async with asked_for_auto(flows):
                await flows.flow("auto", "auto-2", node=("nobody", "annotation-writer", ()))

        assert await flows.database.rows("SELECT own_workflow_id FROM apps WHERE id = 'photos'") == [("",)]

    flowing(scenario)


@pytest.mark.parametrize("model_id", ["mine", TAGGER])
def test_what_own_models_say_is_told_from_what_installed_ones_say_for_ever(flowing: Flowing, model_id: str) -> None:
    """At ingest and after all inputs are looked at again, also for one that is called like the tagger."""

    async def scenario(flows: Flows) -> None:
        await flows.trained(model_id, wet=1, dry=-1)
        await flows.flow("own", "own-1", mine=(model_id, "embedding-classifier", ()))
        await flows.database.execute("UPDATE apps SET own_workflow_id = 'own' WHERE id = 'photos'")
        said = "SELECT model_id, own_model FROM annotations WHERE model_version_id <> '' ORDER BY own_model"

        await flows.index("crowd")
        at_ingest = await flows.database.rows(said)
        await flows.database.execute(
            "INSERT INTO reindexes (bucket, workflow_id, own_workflow_id, state)"
            " VALUES (%s, 'General', 'own', 'sweeping')",
            [flows.place.bucket],
        )
        async with flows.reindexing():
            await until(flows.is_settled)

        assert at_ingest == await flows.database.rows(said) == [(TAGGER, False), (model_id, True)]

    flowing(scenario)
