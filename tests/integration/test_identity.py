"""Which credential reaches which app (api-spec 2.2, 2.3)."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import pytest
from clarifai_grpc.grpc.api import resources_pb2, service_pb2
from tests.integration.worlds import API_KEY, PAT, World, Worlds

from sightrank.api.cache import ShortCache
from sightrank.errors import (
    CredentialMissing,
    DoesNotExist,
    InsufficientScopes,
    InvalidRequest,
    KeyInvalid,
    NotImplementedHere,
)


def ids(user: str = "", app: str = "") -> resources_pb2.UserAppIDSet:
    return resources_pb2.UserAppIDSet(user_id=user, app_id=app)


def concepts(user: str = "", app: str = "") -> service_pb2.ListConceptsRequest:
    return service_pb2.ListConceptsRequest(user_app_id=ids(user, app))


async def make_key(world: World, **fields: Any) -> str:
    request = service_pb2.PostKeysRequest(keys=[resources_pb2.Key(**fields)])
    return str((await world.call("PostKeys", request)).keys[0].id)


async def make_app(world: World, app_id: str, **fields: Any) -> None:
    await world.call("PostApps", service_pb2.PostAppsRequest(apps=[resources_pb2.App(id=app_id, **fields)]))


@pytest.mark.parametrize("key", [None, "", "   "])
def test_without_a_credential_the_request_is_invalid(world: Worlds, key: str | None) -> None:
    async def scenario(world: World) -> None:
        with pytest.raises(CredentialMissing) as caught:
            await world.identity.authenticate("ListConcepts", key, concepts(), "r")
        assert (caught.value.code, caught.value.http_status) == (11102, 401)
        assert "Authorization" in caught.value.details

    world.run(scenario)


@pytest.mark.parametrize("key", ["nobody", "x" * 5000, "\0", "ключ", "' OR 1=1 --"])
def test_an_unknown_key_is_invalid(world: Worlds, key: str) -> None:
    async def scenario(world: World) -> None:
        with pytest.raises(KeyInvalid) as caught:
            await world.identity.authenticate("ListConcepts", key, concepts(), "r")
        assert caught.value.code == 11008
        assert caught.value.description == "Invalid API key or Invalid API key/application pair"
        assert caught.value.details == "No such key here; `sightrank env` prints the keys of this server."

    world.run(scenario)


def test_rpcs_without_auth_need_no_key(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        call = await world.identity.authenticate("ListStatusCodes", None, service_pb2.ListStatusCodesRequest(), "r")
        assert (call.caller, call.app) == (None, None)

    world.run(scenario)


def test_an_unknown_rpc_is_not_implemented(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        with pytest.raises(NotImplementedHere):
            await world.identity.authenticate("PostMiracles", PAT, concepts(), "r")

    world.run(scenario)


@pytest.mark.parametrize(
    ("key", "user", "app"),
    [
        (API_KEY, "", ""),
        (API_KEY, "me", ""),
        (API_KEY, "me", "photos"),
        (API_KEY, "", "photos"),
        (API_KEY, "admin", "photos"),
        (PAT, "me", "photos"),
        (PAT, "", "photos"),
        (PAT, "admin", "photos"),
    ],
)
def test_both_kinds_of_key_land_in_the_same_app(world: Worlds, key: str, user: str, app: str) -> None:
    async def scenario(world: World) -> None:
        call = await world.identity.authenticate("PostConcepts", key, concepts(user, app), "req")
        assert (call.require_app().user_id, call.require_app().app_id) == ("admin", "photos")
        assert call.require_app().workflow_id == "General"
        assert not call.require_app().public
        assert (call.rpc, call.request_id, call.require_caller().user_id) == ("PostConcepts", "req", "admin")

    world.run(scenario)


def test_an_app_key_opens_no_other_private_app(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        await make_app(world, "second")
        for user, app in [("me", "second"), ("admin", "second"), ("me", "nowhere"), ("stranger", "photos")]:
            with pytest.raises(KeyInvalid, match=f"admin/photos only, and the request names app '{app}' of user"):
                await world.identity.authenticate("ListConcepts", API_KEY, concepts(user, app), "r")
        with pytest.raises(KeyInvalid, match="names user 'stranger'"):
            await world.identity.authenticate("ListConcepts", API_KEY, concepts("stranger"), "r")

    world.run(scenario)


@pytest.mark.parametrize("key", [API_KEY, PAT])
def test_public_apps_can_be_read_and_not_written(world: Worlds, key: str) -> None:
    async def scenario(world: World) -> None:
        call = await world.identity.authenticate("PostModelOutputs", key, concepts("clarifai", "main"), "r")
        assert call.require_app().public
        for rpc in ("PostConcepts", "PatchConcepts", "PostInputs"):
            with pytest.raises(InsufficientScopes, match="clarifai/main is read-only"):
                await world.identity.authenticate(rpc, key, concepts("clarifai", "main"), "r")

    world.run(scenario)


def test_a_token_must_name_an_app(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        for user in ("", "me", "admin"):
            with pytest.raises(InvalidRequest, match="app_id") as caught:
                await world.identity.authenticate("PostInputs", PAT, concepts(user), "r")
            assert caught.value.code == 11102

    world.run(scenario)


@pytest.mark.parametrize("user", ["", "me", "clarifai"])
def test_model_reads_fall_back_to_the_public_app(world: Worlds, user: str) -> None:
    async def scenario(world: World) -> None:
        call = await world.identity.authenticate("GetModel", PAT, concepts(user), "r")
        assert (call.require_app().user_id, call.require_app().app_id) == ("clarifai", "main")

    world.run(scenario)


def test_unknown_apps_and_users_do_not_exist(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        cases = [
            ("ListConcepts", "me", "nowhere"),
            ("ListConcepts", "stranger", "photos"),
            ("ListConcepts", "me", "\0"),
            ("GetModel", "stranger", ""),
            ("ListApps", "stranger", ""),
            ("GetUser", "\0", ""),
            ("ListKeys", "clarifai", ""),
        ]
        for rpc, user, app in cases:
            with pytest.raises(DoesNotExist):
                await world.identity.authenticate(rpc, PAT, concepts(user, app), "r")

    world.run(scenario)


def test_app_keys_are_refused_where_a_token_is_needed(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        for rpc in ("PostApps", "ListApps", "PostKeys", "GetUser", "DeleteApp", "ListScopes"):
            with pytest.raises(KeyInvalid, match="personal access token"):
                await world.identity.authenticate(rpc, API_KEY, concepts(), "r")

    world.run(scenario)


def test_missing_scopes_are_listed(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        key = await make_key(
            world, scopes=["Apps:Get", "Concepts_Get"], apps=[resources_pb2.App(id="photos", user_id="me")]
        )
        call = await world.identity.authenticate("ListConcepts", key, concepts(), "r")
        assert call.require_caller().scopes == {"Apps_Get", "Concepts_Get"}
        with pytest.raises(InsufficientScopes, match="scope Concepts_Add") as caught:
            await world.identity.authenticate("PostConcepts", key, concepts(), "r")
        assert "Apps_Get" not in caught.value.details
        assert caught.value.code == 11007

    world.run(scenario)


def test_without_apps_get_nothing_but_the_scopes_can_be_read(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        key = await make_key(world, scopes=["Concepts:Get"], apps=[resources_pb2.App(id="photos")])
        with pytest.raises(InsufficientScopes, match="scope Apps_Get"):
            await world.identity.authenticate("ListConcepts", key, concepts(), "r")
        answer = await world.call("MyScopes", service_pb2.MyScopesRequest(), key=key)
        assert (list(answer.scopes), answer.app.id, answer.app.user_id) == (["Concepts_Get"], "photos", "admin")

    world.run(scenario)


def test_endpoints_restrict_which_rpcs_may_be_called(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        endpoint = "/clarifai.api.V2/ListConcepts"
        key = await make_key(world, scopes=["All"], endpoints=[endpoint], apps=[resources_pb2.App(id="photos")])
        await world.identity.authenticate("ListConcepts", key, concepts(), "r")
        with pytest.raises(InsufficientScopes, match=r"endpoint .*/GetConcept"):
            await world.identity.authenticate("GetConcept", key, service_pb2.GetConceptRequest(), "r")

    world.run(scenario)


def test_an_expired_key_is_an_unknown_key_even_while_cached(world: Worlds, monkeypatch: pytest.MonkeyPatch) -> None:
    class Later(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.now(tz) + timedelta(hours=1)

    async def scenario(world: World) -> None:
        request = service_pb2.PostKeysRequest(keys=[resources_pb2.Key(type="personal_access_token", scopes=["All"])])
        request.keys[0].expires_at.FromDatetime(datetime.now(UTC) + timedelta(minutes=59))
        key = (await world.call("PostKeys", request)).keys[0].id
        await world.identity.caller(key)
        monkeypatch.setattr("sightrank.api.identity.datetime", Later)
        with pytest.raises(KeyInvalid, match="has expired"):
            await world.identity.caller(key)
        world.identity.forget()
        with pytest.raises(KeyInvalid):
            await world.identity.caller(key)

    world.run(scenario)


def test_a_private_app_of_another_user_does_not_exist(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        await world.database.execute("INSERT INTO users (id) VALUES ('eve')")
        await world.database.execute("UPDATE keys SET user_id = 'eve' WHERE app_id IS NULL")
        with pytest.raises(DoesNotExist):
            await world.identity.authenticate("ListConcepts", PAT, concepts("admin", "photos"), "r")
        await world.database.execute("UPDATE apps SET visibility = 50 WHERE id = 'photos'")
        world.identity.forget()
        await world.identity.authenticate("ListConcepts", PAT, concepts("admin", "photos"), "r")
        with pytest.raises(InsufficientScopes):
            await world.identity.authenticate("PostConcepts", PAT, concepts("admin", "photos"), "r")
        with pytest.raises(InsufficientScopes):
            await world.identity.authenticate("DeleteApp", PAT, concepts("admin", "photos"), "r")

    world.run(scenario)


def test_the_hot_path_asks_the_database_nothing(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        await world.identity.authenticate("ListConcepts", PAT, concepts("me", "photos"), "r")
        asked = world.database.row

        async def forbidden(*args: Any) -> None:
            raise AssertionError("the database was asked")

        world.database.row = forbidden  # type: ignore[method-assign]
        for _ in range(100):
            await world.identity.authenticate("ListConcepts", PAT, concepts("me", "photos"), "r")
        world.database.row = asked  # type: ignore[method-assign]

    world.run(scenario)


def test_many_waiting_callers_load_a_key_once(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        asked, count = world.database.row, 0

        async def counted(*args: Any) -> Any:
            nonlocal count
            count += 1
            return await asked(*args)

        world.database.row = counted  # type: ignore[method-assign]
        await asyncio.gather(*(world.identity.caller(PAT) for _ in range(200)))
        assert count == 1

    world.run(scenario)


def test_a_load_that_began_before_a_change_does_not_bring_the_old_value_back() -> None:
    async def scenario() -> None:
        cache: ShortCache[str, str] = ShortCache(60.0, time.monotonic)
        gate = asyncio.Event()

        async def slow() -> str:
            await gate.wait()
            return "old"

        async def fresh() -> str:
            return "new"

        waiting = asyncio.create_task(cache.get("key", slow))
        await asyncio.sleep(0)
        cache.forget()
        gate.set()
        assert await waiting == "old"
        assert await cache.get("key", fresh) == "new"
        assert await cache.get("key", slow) == "new"

    asyncio.run(scenario())


def test_a_caller_who_gives_up_does_not_take_the_answer_from_others() -> None:
    async def scenario() -> None:
        cache: ShortCache[str, str] = ShortCache(60.0, time.monotonic)
        gate = asyncio.Event()

        async def slow() -> str:
            await gate.wait()
            return "value"

        first = asyncio.create_task(cache.get("key", slow))
        second = asyncio.create_task(cache.get("key", slow))
        await asyncio.sleep(0)
        first.cancel()
        gate.set()
        assert await second == "value"

    asyncio.run(scenario())


def test_a_cached_value_expires_and_what_was_not_found_is_asked_for_again() -> None:
    async def scenario() -> None:
        now = 0.0
        cache: ShortCache[str, int] = ShortCache(2.0, lambda: now)
        answers: list[int | None] = [None, 1, 2]

        async def load() -> int | None:
            return answers.pop(0)

        assert await cache.get("key", load) is None
        assert await cache.get("key", load) == 1
        now = 1.9
        assert await cache.get("key", load) == 1
        now = 2.0
        assert await cache.get("key", load) == 2

    asyncio.run(scenario())


def test_user_scopes_and_counts_can_be_read(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        user = (await world.call("GetUser", service_pb2.GetUserRequest(user_app_id=ids("me")))).user
        assert (user.id, user.visibility.gettable) == ("admin", 10)
        public = await world.call("GetUser", service_pb2.GetUserRequest(user_app_id=ids("clarifai")))
        assert public.user.visibility.gettable == 50
        assert list((await world.call("MyScopes", service_pb2.MyScopesRequest())).scopes) == ["All"]
        assert list((await world.call("MyScopesUser", service_pb2.MyScopesUserRequest())).scopes) == ["All"]
        deps = await world.call("ListScopes", service_pb2.ListScopesRequest())
        needed = {dep.scope: list(dep.depending_scopes) for dep in deps.scope_deps}
        assert needed["Inputs_Add"] == ["Inputs_Get"]
        assert "Inputs_Patch" not in needed
        endpoints = {dep.endpoint for dep in deps.endpoint_deps}
        assert "/clarifai.api.V2/PostInputs" in endpoints
        assert "/clarifai.api.V2/PostKeys" not in endpoints
        counts = await world.call(
            "GetResourceCounts", service_pb2.GetResourceCountsRequest(user_app_id=ids("me", "photos"))
        )
        assert (counts.inputs, counts.datasets, counts.models, counts.workflows) == (0, 0, 0, 0)
        request = service_pb2.ListCollaboratorsRequest(user_app_id=ids("me", "photos"))
        assert list((await world.call("ListCollaborators", request)).collaborators) == []

    world.run(scenario)
