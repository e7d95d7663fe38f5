"""Keys: personal access tokens and app keys (api-spec 2.1).

The full key is shown once, as ``id`` in the answer of PostKeys. Only its SHA-256 is stored; every other answer carries
the first characters as ``id``. GetKey, PatchKeys and DeleteKey take either the full key or those characters.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from clarifai_grpc.grpc.api import resources_pb2, service_pb2
from clarifai_grpc.grpc.api.status import status_pb2
from psycopg.types.json import Jsonb

from sightrank.api.apps import plain_text
from sightrank.api.call import Call, Caller, Handlers
from sightrank.api.identity import APP_KEY, ME, PAT, Identity, key_hash
from sightrank.api.pages import list_page
from sightrank.api.scopes import missing_to_grant, parse_endpoints, parse_scopes
from sightrank.errors import DoesNotExist, InsufficientScopes, InvalidRequest, KeyNotFound, quoted
from sightrank.store.database import Connection, Database
from sightrank.store.queries import load


def new_key() -> str:
    """128 random bits as 32 hex digits."""
    return secrets.token_hex(16)


def key_prefix(key: str) -> str:
    """What tells keys apart for people: a quarter of the key at most, so that the secret part stays long."""
    return key[: min(8, len(key) // 4)]


class Keys:
    """The key rpcs. All need a personal access token and work on its owner's keys."""

    def __init__(self, database: Database, identity: Identity) -> None:
        self._database = database
        self._identity = identity
        self._sql = load("keys")

    def handlers(self) -> Handlers:
        return {
            "PostKeys": self.post,
            "GetKey": self.get,
            "ListKeys": self.list,
            "ListAppKeys": self.list_of_app,
            "PatchKeys": self.patch,
            "DeleteKey": self.delete,
        }

    async def post(self, call: Call, request: service_pb2.PostKeysRequest) -> service_pb2.MultiKeyResponse:
        """All of the keys, or none. The answer is the only place where the keys themselves can be read."""
        if not request.keys:
            raise InvalidRequest("keys is empty; send at least one key.")
        caller = call.require_caller()
        keys = [new_key() for _ in request.keys]
        wanted = [await self._wanted(caller, key) for key in request.keys]
        rows = await self._database.rows(self._sql["insert_keys"], _insert_values(caller.user_id, keys, wanted))
        answer = service_pb2.MultiKeyResponse(keys=map(key_proto, rows))
        for key, proto in zip(keys, answer.keys, strict=True):
            proto.id = key
        self._identity.forget()
        return answer

    async def get(self, call: Call, request: service_pb2.GetKeyRequest) -> service_pb2.SingleKeyResponse:
        async with self._database.transaction() as connection:
            row = await self._find(connection, call, request.key_id)
        return service_pb2.SingleKeyResponse(key=key_proto(row))

    async def list(self, call: Call, request: service_pb2.ListKeysRequest) -> service_pb2.MultiKeyResponse:
        filters = {
            "user_id": call.require_caller().user_id,
            "type": plain_text(request.type, "type"),
            "not_expired": request.not_expired,
            "scopes": list_of(parse_scopes(request.scopes)),
            "endpoints": list_of(parse_endpoints(request.endpoints)),
        }
        rows = await self._database.rows(list_page(request).limit(self._sql["list_keys"]), filters)
        return service_pb2.MultiKeyResponse(keys=map(key_proto, rows))

    async def list_of_app(self, call: Call, request: service_pb2.ListAppKeysRequest) -> service_pb2.MultiKeyResponse:
        app = call.require_app()
        statement = list_page(request).limit(self._sql["list_app_keys"])
        rows = await self._database.rows(statement, {"user_id": app.user_id, "app_id": app.app_id})
        return service_pb2.MultiKeyResponse(keys=map(key_proto, rows))

    async def patch(self, call: Call, request: service_pb2.PatchKeysRequest) -> service_pb2.MultiKeyResponse:
        """``overwrite`` only: what is set replaces description, scopes, endpoints and expiry; the rest stays."""
        if request.action != "overwrite":
            raise InvalidRequest(f"action is {request.action or 'empty'}; keys are patched by `overwrite`.")
        async with self._database.transaction() as connection:
            rows = [await self._patch(connection, call, key) for key in request.keys]
        self._identity.forget()
        return service_pb2.MultiKeyResponse(keys=map(key_proto, rows))

    async def delete(self, call: Call, request: service_pb2.DeleteKeyRequest) -> status_pb2.BaseResponse:
        async with self._database.transaction() as connection:
            row = await self._find(connection, call, request.key_id)
            await connection.execute(self._sql["delete_key"], {"hash": row[-1]})
        self._identity.forget()
        return status_pb2.BaseResponse()

    async def _wanted(self, caller: Caller, key: resources_pb2.Key) -> dict[str, Any]:
        """One new key, checked: its type, its app, and that the caller gives no more than the caller has."""
        key_type = key.type or APP_KEY
        if key_type not in (APP_KEY, PAT):
            raise InvalidRequest(f"type is {key.type}; it can be {APP_KEY} or {PAT}.")
        scopes, endpoints = parse_scopes(key.scopes), parse_endpoints(key.endpoints)
        if not scopes:
            raise InvalidRequest('scopes is empty; name what the key may do, for example ["All"] or ["Inputs:Get", …].')
        _check_grant(caller, scopes, endpoints)
        app_user_id, app_id = await self._bound_app(caller, key_type, key.apps)
        return {
            "types": key_type,
            "descriptions": plain_text(key.description, "description"),
            "scopes": Jsonb(scopes),
            "endpoints": Jsonb(endpoints),
            "app_user_ids": app_user_id,
            "app_ids": app_id,
            "expiries": _expiry(key),
        }

    async def _bound_app(
        self, caller: Caller, key_type: str, apps: Sequence[resources_pb2.App]
    ) -> tuple[str | None, str | None]:
        """An app key opens exactly one own app, a personal access token none in particular."""
        if key_type == PAT:
            if apps:
                raise InvalidRequest(
                    f"A {PAT} is bound to no app; leave apps empty, or leave out the type for an app key."
                )
            return None, None
        if len(apps) != 1:
            raise InvalidRequest(
                f"An app key is bound to exactly one app; apps has {len(apps)}. Name one, or set type {PAT}."
            )
        user_id = caller.user_id if apps[0].user_id in ("", ME) else apps[0].user_id
        app = await self._identity.app(user_id, apps[0].id) if user_id == caller.user_id else None
        if app is None:
            raise DoesNotExist(f"There is no app {quoted(apps[0].id)} of user {quoted(user_id)} that you own.")
        return app.user_id, app.app_id

    async def _patch(self, connection: Connection, call: Call, key: resources_pb2.Key) -> Sequence[Any]:
        row = await self._find(connection, call, key.id)
        scopes = parse_scopes(key.scopes) or tuple(row[3])
        endpoints = parse_endpoints(key.endpoints) or tuple(row[4])
        if key.scopes or key.endpoints:
            _check_grant(call.require_caller(), scopes, endpoints)
        values = {
            "hash": row[-1],
            "description": plain_text(key.description, "description") or None,
            "scopes": list_of(scopes),
            "endpoints": list_of(endpoints),
            "expires_at": _expiry(key),
        }
        patched = await (await connection.execute(self._sql["patch_key"], values)).fetchone()
        assert patched is not None, "the row was locked before"
        return patched

    async def _find(self, connection: Connection, call: Call, key_id: str) -> Sequence[Any]:
        """The caller's key by itself or by its first characters; its last column is the hash."""
        wanted = plain_text(key_id, "key_id")
        user_id = call.require_caller().user_id
        values = {"user_id": user_id, "hash": key_hash(wanted), "prefix": wanted}
        rows = await (await connection.execute(self._sql["find_keys"], values)).fetchall()
        if not rows:
            raise KeyNotFound(f"User {user_id} has no key {wanted[:8]}…")
        if len(rows) > 1 and rows[0][-1] != values["hash"]:
            raise InvalidRequest(f"{len(rows)} keys begin with {wanted}; give the full key.")
        return rows[0]


def list_of(values: Sequence[str]) -> Sequence[str]:
    """psycopg makes arrays of lists only."""
    return [*values]


def key_proto(row: Sequence[Any]) -> resources_pb2.Key:
    prefix, key_type, description, scopes, endpoints, app_user_id, app_id, created_at, expires_at = row[:9]
    key = resources_pb2.Key(id=prefix, type=key_type, description=description, scopes=scopes, endpoints=endpoints)
    if app_id is not None:
        key.apps.add(id=app_id, user_id=app_user_id)
    key.created_at.FromDatetime(created_at)
    if expires_at is not None:
        key.expires_at.FromDatetime(expires_at)
    return key


def _insert_values(user_id: str, keys: Sequence[str], wanted: Sequence[dict[str, Any]]) -> dict[str, Any]:
    columns = {name: [key[name] for key in wanted] for name in wanted[0]}
    hashes = {"hashes": [key_hash(key) for key in keys], "prefixes": [key_prefix(key) for key in keys]}
    return {"user_id": user_id} | hashes | columns


def _check_grant(caller: Caller, scopes: Sequence[str], endpoints: Sequence[str]) -> None:
    missing = missing_to_grant(
        frozenset(scopes), frozenset(endpoints), by_scopes=caller.scopes, by_endpoints=caller.endpoints
    )
    if missing:
        raise InsufficientScopes(
            f"A key cannot have more than the key that makes it, which lacks: {', '.join(missing)}."
        )


def _expiry(key: resources_pb2.Key) -> datetime | None:
    if not key.HasField("expires_at"):
        return None
    try:
        expires_at: datetime = key.expires_at.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidRequest(f"expires_at is no time: {error}.") from error
    if expires_at <= datetime.now(UTC):
        raise InvalidRequest(f"expires_at {expires_at.isoformat()} is in the past.")
    return expires_at
