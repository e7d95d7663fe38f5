"""Keys (api-spec 2.1)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from clarifai_grpc.grpc.api import resources_pb2, service_pb2
from tests.integration.worlds import API_KEY, PAT, World, Worlds

from sightrank.api.identity import Identity
from sightrank.errors import AppError, DoesNotExist, InsufficientScopes, InvalidRequest, KeyInvalid, KeyNotFound

TOKEN = "personal_access_token"
PHOTOS = resources_pb2.App(id="photos", user_id="me")


async def post(world: World, *, key: str = PAT, **fields: Any) -> resources_pb2.Key:
    request = service_pb2.PostKeysRequest(keys=[resources_pb2.Key(**fields)])
    return (await world.call("PostKeys", request, key=key)).keys[0]


async def listed(world: World, **fields: Any) -> list[resources_pb2.Key]:
    return list((await world.call("ListKeys", service_pb2.ListKeysRequest(**fields))).keys)


def test_a_key_is_shown_once_and_stored_hashed(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        key = await post(world, description="mine", scopes=["All"], apps=[PHOTOS])
        assert len(key.id) == 32
        assert set(key.id) <= set("0123456789abcdef")
        assert (key.type, key.description, list(key.scopes)) == ("app_specific_key", "mine", ["All"])
        assert [(app.id, app.user_id) for app in key.apps] == [("photos", "admin")]
        assert (await world.identity.caller(key.id)).user_id == "admin"
        for answer in (
            (await listed(world))[0],
            (await world.call("GetKey", service_pb2.GetKeyRequest(key_id=key.id))).key,
            (await world.call("GetKey", service_pb2.GetKeyRequest(key_id=key.id[:8]))).key,
        ):
            assert answer.id == key.id[:8]
            answer.id = key.id
            assert answer == key
        rows = await world.database.rows("SELECT k::text FROM keys k")
        assert not any(key.id in text or PAT in text for (text,) in rows)

    world.run(scenario)


@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ({"scopes": ["All"]}, InvalidRequest, "exactly one app"),
        ({"scopes": ["All"], "apps": [PHOTOS, PHOTOS]}, InvalidRequest, "exactly one app"),
        ({"scopes": ["All"], "apps": [PHOTOS], "type": TOKEN}, InvalidRequest, "bound to no app"),
        ({"scopes": ["All"], "apps": [resources_pb2.App(id="nowhere")]}, DoesNotExist, "nowhere"),
        ({"scopes": ["All"], "apps": [resources_pb2.App(id="main", user_id="clarifai")]}, DoesNotExist, "you own"),
        ({"scopes": [], "type": TOKEN}, InvalidRequest, "scopes is empty"),
        ({"scopes": ["Everything"], "type": TOKEN}, InvalidRequest, "Unknown scope Everything"),
        ({"scopes": ["All"], "endpoints": ["/x/Y"], "type": TOKEN}, InvalidRequest, "Unknown endpoint"),
        ({"scopes": ["All"], "type": "golden_key"}, InvalidRequest, "golden_key"),
        ({"scopes": ["All"], "type": TOKEN, "description": "\0"}, InvalidRequest, "NUL"),
    ],
)
def test_a_wrong_key_is_refused_with_the_reason(
    world: Worlds, fields: dict[str, Any], error: type[AppError], text: str
) -> None:
    async def scenario(world: World) -> None:
        with pytest.raises(error, match=text):
            await post(world, **fields)
        assert len(await listed(world)) == 2

    world.run(scenario)


def test_expiry_must_be_in_the_future(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        key = resources_pb2.Key(type=TOKEN, scopes=["All"])
        key.expires_at.FromDatetime(datetime.now(UTC) - timedelta(seconds=1))
        with pytest.raises(InvalidRequest, match="past"):
            await world.call("PostKeys", service_pb2.PostKeysRequest(keys=[key]))
        key.expires_at.seconds = 10**15
        with pytest.raises(InvalidRequest, match="no time"):
            await world.call("PostKeys", service_pb2.PostKeysRequest(keys=[key]))

    world.run(scenario)


def test_nobody_hands_out_more_than_they_have(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        scopes = ["Apps:Get", "Keys:Get", "Keys:Add"]
        small = (await post(world, type=TOKEN, scopes=scopes)).id
        with pytest.raises(InsufficientScopes, match="scope All"):
            await post(world, key=small, type=TOKEN, scopes=["All"])
        same = await post(world, key=small, type=TOKEN, scopes=scopes)
        request = service_pb2.PatchKeysRequest(action="overwrite")
        request.keys.add(id=same.id, scopes=["All"])
        with pytest.raises(InsufficientScopes, match="scope All"):
            await world.call("PatchKeys", request, key=small)
        endpoints = ["/clarifai.api.V2/PostKeys"]
        bound = (await post(world, type=TOKEN, scopes=["All"], endpoints=endpoints)).id
        with pytest.raises(InsufficientScopes, match="endpoint all"):
            await post(world, key=bound, type=TOKEN, scopes=["All"])
        with pytest.raises(InsufficientScopes, match=r"endpoint .*GetInput"):
            await post(world, key=bound, type=TOKEN, scopes=["All"], endpoints=[*endpoints, "GetInput"])

    world.run(scenario)


def test_a_deleted_key_is_refused_at_once(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        key = (await post(world, scopes=["All"], apps=[PHOTOS])).id
        await world.identity.authenticate("ListConcepts", key, service_pb2.ListConceptsRequest(), "r")
        await world.call("DeleteKey", service_pb2.DeleteKeyRequest(key_id=key))
        with pytest.raises(KeyInvalid):
            await world.identity.authenticate("ListConcepts", key, service_pb2.ListConceptsRequest(), "r")
        for rpc, request in [
            ("DeleteKey", service_pb2.DeleteKeyRequest(key_id=key)),
            ("GetKey", service_pb2.GetKeyRequest(key_id=key)),
            ("GetKey", service_pb2.GetKeyRequest(key_id="")),
        ]:
            with pytest.raises(KeyNotFound) as caught:
                await world.call(rpc, request)
            assert caught.value.code == 11009
            assert key not in caught.value.details

    world.run(scenario)


def test_another_process_sees_a_deleted_key_after_the_time_to_live(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        now_s = 0.0
        identity = Identity(world.database, ttl_s=2.0, clock=lambda: now_s)
        await identity.caller(API_KEY)
        await world.database.execute("DELETE FROM keys WHERE app_id IS NOT NULL")
        now_s = 1.9
        await identity.caller(API_KEY)
        now_s = 2.1
        with pytest.raises(KeyInvalid):
            await identity.caller(API_KEY)

    world.run(scenario)


def test_a_prefix_of_two_keys_is_ambiguous_and_the_full_key_is_not(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        key = (await post(world, type=TOKEN, scopes=["All"])).id
        await world.database.execute("UPDATE keys SET prefix = %s", [key[:8]])
        with pytest.raises(InvalidRequest, match="full key"):
            await world.call("GetKey", service_pb2.GetKeyRequest(key_id=key[:8]))
        await world.call("DeleteKey", service_pb2.DeleteKeyRequest(key_id=key))
        assert len(await listed(world)) == 2

    world.run(scenario)


def test_keys_are_listed_with_filters(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        key = await post(world, scopes=["Concepts:Get"], apps=[PHOTOS], endpoints=["ListConcepts"])
        assert [found.id for found in await listed(world, scopes=["Concepts_Get"])] == [key.id[:8]]
        assert [found.id for found in await listed(world, endpoints=["ListConcepts"])] == [key.id[:8]]
        assert [found.type for found in await listed(world, type=TOKEN)] == [TOKEN]
        assert len(await listed(world, per_page=2)) == 2
        assert len(await listed(world, per_page=2, page=2)) == 1
        await world.database.execute(
            "UPDATE keys SET expires_at = now() - interval '1 s' WHERE type = 'app_specific_key'"
        )
        assert [found.type for found in await listed(world, not_expired=True)] == [TOKEN]
        ids = resources_pb2.UserAppIDSet(user_id="me", app_id="photos")
        of_app = await world.call("ListAppKeys", service_pb2.ListAppKeysRequest(user_app_id=ids))
        assert [found.id for found in of_app.keys] == [key.id[:8], API_KEY[:8]]

    world.run(scenario)


def test_a_patch_replaces_what_it_names(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        key = await post(world, description="old", scopes=["All"], apps=[PHOTOS])
        request = service_pb2.PatchKeysRequest(action="overwrite")
        request.keys.add(id=key.id, scopes=["Apps:Get"])
        (patched,) = (await world.call("PatchKeys", request)).keys
        assert (patched.description, list(patched.scopes), patched.id) == ("old", ["Apps_Get"], key.id[:8])
        assert (await world.identity.caller(key.id)).scopes == {"Apps_Get"}
        request.action = "merge"
        with pytest.raises(InvalidRequest, match="overwrite"):
            await world.call("PatchKeys", request)
        request = service_pb2.PatchKeysRequest(action="overwrite", keys=[resources_pb2.Key(id="nothing")])
        with pytest.raises(KeyNotFound):
            await world.call("PatchKeys", request)

    world.run(scenario)


def test_other_users_keys_are_not_there(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        await world.database.execute("INSERT INTO users (id) VALUES ('eve')")
        key = (await post(world, type=TOKEN, scopes=["All"])).id
        await world.database.execute("UPDATE keys SET user_id = 'eve' WHERE prefix = %s", [key[:8]])
        world.identity.forget()
        with pytest.raises(KeyNotFound):
            await world.call("DeleteKey", service_pb2.DeleteKeyRequest(key_id=PAT), key=key)
        with pytest.raises(DoesNotExist):
            await post(world, key=key, scopes=["All"], apps=[resources_pb2.App(id="photos", user_id="admin")])

    world.run(scenario)
