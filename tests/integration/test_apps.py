"""Applications (api-spec 2.1)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from clarifai_grpc.grpc.api import resources_pb2, service_pb2
from tests.integration.worlds import API_KEY, World, Worlds

from sightrank.errors import (
    AppError,
    DoesNotExist,
    DuplicateKey,
    InvalidRequest,
    KeyInvalid,
    WorkflowDoesNotExist,
    WorkflowNeedsModel,
)


def named(app_id: str = "", user_id: str = "me") -> resources_pb2.UserAppIDSet:
    return resources_pb2.UserAppIDSet(user_id=user_id, app_id=app_id)


async def post(world: World, *apps: resources_pb2.App) -> list[resources_pb2.App]:
    return list((await world.call("PostApps", service_pb2.PostAppsRequest(user_app_id=named(), apps=apps))).apps)


async def get(world: World, app_id: str) -> resources_pb2.App:
    return (await world.call("GetApp", service_pb2.GetAppRequest(user_app_id=named(app_id)))).app


async def app_ids(world: World, **fields: Any) -> list[str]:
    answer = await world.call("ListApps", service_pb2.ListAppsRequest(user_app_id=named(), **fields))
    return [app.id for app in answer.apps]


async def patch(world: World, app_id: str, *, action: str = "overwrite", **fields: Any) -> resources_pb2.App:
    request = service_pb2.PatchAppRequest(user_app_id=named(app_id), action=action, app=resources_pb2.App(**fields))
    return (await world.call("PatchApp", request)).app


async def add_input(world: World, app_id: str) -> int:
    app = await world.identity.app("admin", app_id)
    assert app is not None
    await world.database.execute(
        "INSERT INTO inputs (bucket, id, created_at, modified_at, status, media)"
        " VALUES (%s, 'i', now(), now(), 30000, 'image')",
        [app.bucket],
    )
    return app.bucket


def test_an_app_comes_back_as_it_was_made(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        app = resources_pb2.App(
            id="my_app-2",
            user_id="somebody-else",
            description="cats",
            notes="n",
            default_language="ja",
            default_workflow_id="Empty",
            visibility=resources_pb2.Visibility(gettable=50),
        )
        app.metadata.update({"count": 123, "nested": {"list": [1, "a", None]}})
        app.is_template.value = True
        (made,) = await post(world, app)
        assert made == await get(world, "my_app-2")
        assert (made.user_id, made.name, made.description, made.notes) == ("admin", "my_app-2", "cats", "n")
        assert (made.default_language, made.default_workflow_id) == ("ja", "Empty")
        workflow = made.default_workflow
        assert (workflow.id, workflow.app_id, workflow.user_id) == ("Empty", "main", "clarifai")
        assert (made.visibility.gettable, made.is_template.value) == (50, True)
        assert made.metadata["count"] == 123
        assert list(made.metadata["nested"]["list"]) == [1, "a", None]
        assert made.created_at.seconds > 0

    world.run(scenario)


def test_an_app_without_wishes_gets_an_id_and_the_base_workflow(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        (made,) = await post(world, resources_pb2.App())
        assert len(made.id) == 32
        assert (made.default_workflow.id, made.default_language, made.visibility.gettable) == ("General", "en", 10)

    world.run(scenario)


def test_each_app_has_a_bucket_of_its_own(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        made = await post(world, *(resources_pb2.App(id=f"app{n}") for n in range(5)))
        assert [app.id for app in made] == [f"app{n}" for n in range(5)]
        rows = await world.database.rows(
            "SELECT a.first_bucket, b.version FROM apps a JOIN app_buckets b ON b.bucket = a.first_bucket"
        )
        assert len({bucket for bucket, _ in rows}) == 7

    world.run(scenario)


@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ({"id": "a b"}, InvalidRequest, "not allowed"),
        ({"id": "-a"}, InvalidRequest, "not allowed"),
        ({"id": "a" * 65}, InvalidRequest, "not allowed"),
        ({"id": "ä"}, InvalidRequest, "not allowed"),
        ({"id": "x", "default_workflow_id": "Nope"}, WorkflowDoesNotExist, "General, Empty"),
        (
            {"id": "x", "default_workflow_id": "Universal"},
            WorkflowNeedsModel,
            "Universal cannot run: .* `sightrank models add",
        ),
        ({"id": "x", "default_language": "tlh"}, InvalidRequest, "zh-TW"),
        ({"id": "x", "description": "a\0b"}, InvalidRequest, "NUL"),
    ],
)
def test_a_wrong_app_is_refused_with_the_reason(
    world: Worlds, fields: dict[str, str], error: type[AppError], text: str
) -> None:
    async def scenario(world: World) -> None:
        with pytest.raises(error, match=text):
            await post(world, resources_pb2.App(id="good"), resources_pb2.App(**fields))
        assert await app_ids(world) == ["photos"]

    world.run(scenario)


def test_metadata_that_cannot_be_stored_is_refused_and_the_text_backslash_u0000_is_fine(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        app = resources_pb2.App(id="x")
        app.metadata.update({"a": "\\u0000"})
        (made,) = await post(world, app)
        assert made.metadata["a"] == "\\u0000"
        for wrong, what in (["\0"], "zero character"), ({"\0": 1}, "zero character"), (float("nan"), "not finite"):
            app = resources_pb2.App(id="y")
            app.metadata.update({"a": wrong})
            with pytest.raises(InvalidRequest, match=what):
                await post(world, app)

    world.run(scenario)


def test_an_id_is_taken_once_also_by_two_at_once(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        apps = [post(world, resources_pb2.App(id="same")) for _ in range(8)]
        results = await asyncio.gather(*apps, return_exceptions=True)
        assert sum(isinstance(result, DuplicateKey) for result in results) == 7
        with pytest.raises(DuplicateKey, match="twice"):
            await post(world, resources_pb2.App(id="twice"), resources_pb2.App(id="twice"))
        assert sorted(await app_ids(world)) == ["photos", "same"]
        rows = await world.database.rows("SELECT count(*) FROM app_buckets")
        assert rows[0][0] == 3

    world.run(scenario)


def test_no_apps_at_all_is_an_error(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        with pytest.raises(InvalidRequest, match="apps is empty"):
            await post(world)

    world.run(scenario)


def test_apps_are_listed_newest_first_in_pages(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        await post(world, *(resources_pb2.App(id=f"app{n}", name=f"Name {9 - n}") for n in range(4)))
        assert await app_ids(world) == ["app3", "app2", "app1", "app0", "photos"]
        assert await app_ids(world, page=2, per_page=2) == ["app1", "app0"]
        assert await app_ids(world, page=1000, per_page=500) == []
        assert await app_ids(world, sort_by_id=True, sort_ascending=True, per_page=1) == ["app0"]
        assert await app_ids(world, sort_by_name=True, sort_ascending=True, per_page=1) == ["app3"]
        assert await app_ids(world, search="NAME 8") == ["app1"]
        assert await app_ids(world, name="name 7") == ["app2"]
        assert await app_ids(world, id="hoto") == ["photos"]
        assert await app_ids(world, featured_only=True) == []
        with pytest.raises(InvalidRequest, match="1000"):
            await app_ids(world, per_page=1001)

    world.run(scenario)


def test_of_another_user_only_public_apps_are_listed(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        request = service_pb2.ListAppsRequest(user_app_id=named(user_id="clarifai"))
        assert [app.id for app in (await world.call("ListApps", request)).apps] == ["main"]
        await world.database.execute("UPDATE apps SET visibility = 10 WHERE id = 'main'")
        assert [app.id for app in (await world.call("ListApps", request)).apps] == []

    world.run(scenario)


def test_a_patch_changes_what_it_names(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        before = await get(world, "photos")
        after = await patch(
            world,
            "photos",
            description="new",
            visibility=resources_pb2.Visibility(gettable=50),
            default_workflow_id="Empty",
        )
        assert (after.description, after.visibility.gettable, after.default_workflow.id) == ("new", 50, "Empty")
        assert (after.name, after.created_at) == (before.name, before.created_at)
        assert after == await get(world, "photos")
        call = await world.identity.authenticate("ListConcepts", API_KEY, service_pb2.ListConceptsRequest(), "r")
        assert call.require_app().workflow_id == "Empty"

    world.run(scenario)


def test_metadata_is_overwritten_merged_or_removed(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        async def change(operation: str, metadata: dict[str, Any]) -> dict[str, Any]:
            request = service_pb2.PatchAppsRequest(user_app_id=named(), action="overwrite")
            request.apps.add(id="photos").metadata.update(metadata)
            request.metadata_action.op = operation
            return dict((await world.call("PatchApps", request)).apps[0].metadata)

        assert await change("", {"a": 1, "b": {"c": 1}}) == {"a": 1, "b": {"c": 1}}
        assert await change("merge", {"b": {"d": 2}}) == {"a": 1, "b": {"c": 1, "d": 2}}
        assert await change("remove", {"a": True}) == {"b": {"c": 1, "d": 2}}
        with pytest.raises(InvalidRequest, match="metadata_action"):
            await change("rotate", {"a": 1})

    world.run(scenario)


def test_a_wrong_patch_is_refused(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        with pytest.raises(InvalidRequest, match="overwrite"):
            await patch(world, "photos", action="merge", description="x")
        with pytest.raises(InvalidRequest, match="cannot change"):
            await patch(world, "photos", default_language="de")
        with pytest.raises(InvalidRequest, match="ids cannot change"):
            await patch(world, "photos", id="other")
        with pytest.raises(WorkflowDoesNotExist):
            await patch(world, "photos", default_workflow_id="Nope")
        request = service_pb2.PatchAppsRequest(user_app_id=named(), action="overwrite")
        request.apps.add(id="photos", description="changed")
        request.apps.add(id="nowhere", description="changed")
        with pytest.raises(DoesNotExist, match="nowhere"):
            await world.call("PatchApps", request)
        assert (await get(world, "photos")).description == ""

    world.run(scenario)


def test_the_workflow_of_an_app_with_indexed_inputs_stays_until_they_are_indexed_anew(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        bucket = await add_input(world, "photos")
        emptied = await patch(world, "photos", default_workflow_id="Empty")
        asked = await patch(world, "photos", default_workflow_id="General")
        wanted = await world.database.rows("SELECT bucket, workflow_id, state FROM reindexes")
        stopped = await patch(world, "photos", default_workflow_id="Empty")
        left = await world.database.rows("SELECT bucket, workflow_id, state FROM reindexes")

        assert emptied.default_workflow.id == "Empty"
        assert asked.default_workflow.id == "Empty"
        assert wanted == [(bucket, "General", "sweeping")]
        assert stopped.default_workflow.id == "Empty"
        assert left == [(bucket, None, "sweeping")]

    world.run(scenario)


def test_the_workflow_of_an_app_whose_inputs_still_wait_changes_at_once(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        bucket = await add_input(world, "photos")
        await world.database.execute("UPDATE inputs SET status = 30001 WHERE bucket = %s", [bucket])
        await world.database.execute("UPDATE apps SET workflow_id = 'Empty' WHERE id = 'photos'")
        assert (await patch(world, "photos", default_workflow_id="General")).default_workflow.id == "General"

    world.run(scenario)


def test_deleting_an_app_leaves_nothing_of_it_and_all_of_others(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        await post(world, resources_pb2.App(id="second"))
        buckets = [await add_input(world, app) for app in ("photos", "second")]
        # The table of an embedder is made later than the migrations; it goes with the rest.
        await world.database.execute("CREATE TABLE vectors_1 (bucket bigint, area_id bigint)")
        for bucket in buckets:
            await world.database.execute("INSERT INTO vectors_1 VALUES (%s, 1)", [bucket])
            await world.database.execute(
                "INSERT INTO concepts (bucket, id, name, name_folded) VALUES (%s, 'c', 'c', 'c')", [bucket]
            )
            await world.database.execute("INSERT INTO removals VALUES (%s, 1, 1)", [bucket])
        await world.call("DeleteApp", service_pb2.DeleteAppRequest(user_app_id=named("photos")))
        assert world.deleted == [buckets[0]]
        for table in ("inputs", "vectors_1", "concepts", "removals", "app_buckets"):
            rows = await world.database.rows(f"SELECT bucket FROM {table} WHERE bucket = ANY(%s)", [buckets])
            assert rows == [(buckets[1],)], table
        with pytest.raises(DoesNotExist):
            await get(world, "photos")
        with pytest.raises(KeyInvalid):
            await world.identity.caller(API_KEY)
        with pytest.raises(DoesNotExist):
            await world.call("DeleteApp", service_pb2.DeleteAppRequest(user_app_id=named("photos")))
        assert await app_ids(world) == ["second"]

    world.run(scenario)


def test_a_failed_deletion_deletes_nothing(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        bucket = await add_input(world, "photos")
        await world.database.execute("CREATE TABLE vectors_1 (bucket bigint REFERENCES app_buckets)")
        await world.database.execute("INSERT INTO vectors_1 VALUES (%s)", [bucket])
        with pytest.raises(Exception, match="violates foreign key"):
            await world.call("DeleteApp", service_pb2.DeleteAppRequest(user_app_id=named("photos")))
        assert (await get(world, "photos")).id == "photos"
        assert await world.database.rows("SELECT count(*) FROM inputs") == [(1,)]
        assert world.deleted == []

    world.run(scenario)


def test_nobody_writes_into_an_app_that_is_being_deleted(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        app = await world.identity.app("admin", "photos")
        assert app is not None
        async with world.database.transaction() as connection:
            await world.book.ensure_concepts(connection, app.bucket, [("early", "")])
            request = service_pb2.DeleteAppRequest(user_app_id=named("photos"))
            deleting = asyncio.create_task(world.call("DeleteApp", request))
            await asyncio.sleep(0.2)
            assert not deleting.done()
        await deleting
        async with world.database.transaction() as connection:
            with pytest.raises(DoesNotExist, match="just been deleted"):
                await world.book.ensure_concepts(connection, app.bucket, [("late", "")])
        assert await world.database.rows("SELECT count(*) FROM concepts") == [(0,)]

    world.run(scenario)


def test_images_that_cannot_be_removed_do_not_bring_the_app_back(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        async def full_disk(bucket: int) -> None:
            raise OSError("disk")

        world.handlers["DeleteApp"].__self__._on_deleted = full_disk
        await world.call("DeleteApp", service_pb2.DeleteAppRequest(user_app_id=named("photos")))
        assert await app_ids(world) == []

    world.run(scenario)


def test_the_public_app_cannot_be_deleted_or_patched(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        public = named("main", "clarifai")
        for rpc, request in [
            ("DeleteApp", service_pb2.DeleteAppRequest(user_app_id=public)),
            ("PatchApp", service_pb2.PatchAppRequest(user_app_id=public, action="overwrite")),
        ]:
            with pytest.raises(AppError, match="read-only"):
                await world.call(rpc, request)
        answer = await world.call("GetApp", service_pb2.GetAppRequest(user_app_id=public))
        assert answer.app.visibility.gettable == 50

    world.run(scenario)
