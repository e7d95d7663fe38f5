"""Who calls, and which app the call is about (api-spec 2.2).

``Identity.authenticate`` is the only way a request becomes a ``Call``. It decides from four things: the rpc's rule
(``api/scopes``), the presented key, the ids in the request's ``user_app_id``, and what is public. Keys and apps are
cached for two seconds, so a busy client costs the database nothing; this process' own changes hold at once
(``forget``), another process' within those two seconds.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from clarifai_grpc.grpc.api import resources_pb2, service_pb2

from sightrank.api.cache import ShortCache
from sightrank.api.call import AppRef, Call, Caller
from sightrank.api.scopes import AuthType, RpcRule, missing_for, rpc_rules
from sightrank.errors import (
    CredentialMissing,
    DoesNotExist,
    InsufficientScopes,
    InvalidRequest,
    KeyInvalid,
    NotImplementedHere,
    quoted,
)
from sightrank.store.database import Database
from sightrank.store.queries import load

ME = "me"
PUBLIC_USER = "clarifai"
PUBLIC_APP = "main"
APP_KEY = "app_specific_key"
PAT = "personal_access_token"

#: Rpcs that work on clarifai/main when the request names no app (api-spec 5.1).
PUBLIC_FALLBACK = frozenset(
    [
        "GetModel",
        "ListModels",
        "PostModelsSearches",
        "GetModelOutputInfo",
        "ListModelVersions",
        "GetModelVersion",
        "ListModelConcepts",
        "ListModelReferences",
        "ListModelVersionInputExamples",
        "GetModelVersionInputExample",
        "ListModelTypes",
        "GetModelType",
        "GetWorkflow",
        "ListWorkflows",
        "ListWorkflowVersions",
        "GetWorkflowVersion",
        "PostModelOutputs",
        "StreamModelOutputs",
        "PostWorkflowResults",
    ]
)
#: What anybody with a valid key may do in somebody else's public app: read, predict, search.
PUBLIC_READS = PUBLIC_FALLBACK | frozenset(
    [
        "GetApp",
        "GetConcept",
        "ListConcepts",
        "PostConceptsSearches",
        "GetConceptCounts",
        "GetConceptLanguage",
        "ListConceptLanguages",
        "ListConceptRelations",
        "ListKnowledgeGraphs",
        "GetInput",
        "ListInputs",
        "StreamInputs",
        "GetInputCount",
        "GetAnnotation",
        "ListAnnotations",
        "ListAnnotationWorkers",
        "PostAnnotationsSearches",
        "PostInputsSearches",
        "PostSearches",
        "GetDataset",
        "ListDatasets",
        "ListDatasetInputs",
        "GetDatasetVersion",
        "ListDatasetVersions",
        "ListDatasetVersionMetricsGroups",
        "GetDatasetInput",
        "GetResourceCounts",
        "MyScopes",
    ]
)
#: App rpcs that also make sense without an app.
_APP_OPTIONAL = frozenset({"MyScopes"})
#: User rpcs that may look at another user, who shows only what is public.
_OTHER_USER_READS = frozenset({"GetUser", "ListApps"})


@dataclass(frozen=True, slots=True)
class _Known:
    """A key as stored: who it stands for, and until when."""

    caller: Caller
    expires_at: datetime | None

    def valid(self) -> bool:
        return self.expires_at is None or self.expires_at > datetime.now(UTC)


def key_hash(key: str) -> bytes:
    """What of a key is stored. Keys are 128 random bits, so one plain SHA-256 cannot be searched."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def lists_public(call: Call, ids: Any) -> bool:
    """Whether a list of models or workflows shows those of clarifai/main: when the request names that app or user, or
    neither app nor user ("me" is what JSON clients send for nothing, api-spec 1.2)."""
    if ids.app_id:
        app = call.require_app()
        return (app.user_id, app.app_id) == (PUBLIC_USER, PUBLIC_APP)
    return ids.user_id in ("", ME, PUBLIC_USER)


class Identity:
    """Turns credentials into callers and ids into apps."""

    def __init__(self, database: Database, *, ttl_s: float = 2.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._sql = load("identity")
        self._keys: ShortCache[bytes, _Known] = ShortCache(ttl_s, clock)
        self._apps: ShortCache[tuple[str, str], AppRef] = ShortCache(ttl_s, clock)

    async def authenticate(self, rpc: str, credential: str | None, request: Any, request_id: str) -> Call:
        """The call this request makes. Raises CredentialMissing, KeyInvalid, InsufficientScopes, DoesNotExist or
        InvalidRequest, by the rules of api-spec 2.2."""
        rule = rpc_rules().get(rpc)
        if rule is None:
            raise NotImplementedHere(f"The API has no rpc {rpc}.")
        if rule.auth_type is AuthType.NONE:
            return Call(rpc=rpc, request_id=request_id, caller=None, app=None)
        caller = await self.caller(credential)
        return Call(rpc=rpc, request_id=request_id, caller=caller, app=await self._allowed(rpc, rule, caller, request))

    async def app_to_read(self, caller: Caller, user_id: str, app_id: str) -> AppRef | None:
        """The app if this caller may read its inputs, by the same rules as if GetInput was called; None for one that
        may not be read as for one that is not there."""
        ids = resources_pb2.UserAppIDSet(user_id=user_id, app_id=app_id)
        request = service_pb2.GetInputRequest(user_app_id=ids)
        try:
            return await self._allowed("GetInput", rpc_rules()["GetInput"], caller, request)
        except (DoesNotExist, InsufficientScopes, KeyInvalid):
            return None

    async def _allowed(self, rpc: str, rule: RpcRule, caller: Caller, request: Any) -> AppRef | None:
        """The app of a call that this caller may make."""
        if rule.auth_type.wants_pat and caller.key_type != PAT:
            raise KeyInvalid(
                f"{rpc} needs a personal access token; the key sent is an app key. `sightrank env` prints the token of"
                " the first user as CLARIFAI_PAT."
            )
        missing = missing_for(rpc, caller.scopes, caller.endpoints)
        if missing:
            raise InsufficientScopes(f"{rpc} needs what this key lacks: {', '.join(missing)}.")
        return await self._app_of_call(rpc, rule, caller, request)

    async def caller(self, credential: str | None) -> Caller:
        """The owner of a key. Raises CredentialMissing without one, KeyInvalid for an unknown or expired one."""
        key = (credential or "").strip()
        if not key:
            raise CredentialMissing("Send your key in the header `Authorization: Key <your key>`.")
        hashed = key_hash(key)
        known = await self._keys.get(hashed, lambda: self._load_key(hashed))
        if known is None:
            raise KeyInvalid("No such key here; `sightrank env` prints the keys of this server.")
        if not known.valid():
            raise KeyInvalid("This key has expired; make a new one by PostKeys, with a personal access token.")
        return known.caller

    async def app(self, user_id: str, app_id: str) -> AppRef | None:
        """The app with these ids, or None."""
        if "\0" in user_id + app_id:
            return None
        return await self._apps.get((user_id, app_id), lambda: self._load_app(user_id, app_id))

    async def public_app(self) -> AppRef:
        """clarifai/main, which every database has after its bootstrap."""
        app = await self.app(PUBLIC_USER, PUBLIC_APP)
        if app is None:
            raise DoesNotExist(
                f"The public app {PUBLIC_USER}/{PUBLIC_APP} is missing; start the server once to make it."
            )
        return app

    def forget(self) -> None:
        """Call after changing keys or apps: the next request sees the change."""
        self._keys.forget()
        self._apps.forget()

    async def _app_of_call(self, rpc: str, rule: RpcRule, caller: Caller, request: Any) -> AppRef | None:
        ids = getattr(request, "user_app_id", None)
        user_id = "" if ids is None or ids.user_id == ME else ids.user_id
        app_id = "" if ids is None else ids.app_id
        if not rule.app_scoped:
            await self._check_user(rpc, caller, user_id)
            return None
        app = await self._named_app(rpc, caller, user_id, app_id)
        if app is not None and app.user_id != caller.user_id:
            _check_public(rpc, app, caller)
        return app

    async def _named_app(self, rpc: str, caller: Caller, user_id: str, app_id: str) -> AppRef | None:
        if app_id:
            return await self._app_by_id(caller, user_id or caller.user_id, app_id)
        if caller.app is not None and user_id in ("", caller.user_id):
            return caller.app
        if rpc in PUBLIC_FALLBACK:
            await self._check_exists(caller, user_id)
            return await self.public_app()
        if rpc in _APP_OPTIONAL:
            return None
        if caller.app is not None:
            raise _other_app(caller.app, user_id, "")
        raise InvalidRequest(
            f"{rpc} needs an app, and a personal access token names none: add app_id (user_app_id.app_id, or the path"
            " /v2/users/{user_id}/apps/{app_id}/…), or use an app key."
        )

    async def _app_by_id(self, caller: Caller, user_id: str, app_id: str) -> AppRef:
        """An app key opens its own app and public ones; anything else is not told apart from an unknown key."""
        if caller.app is not None and (user_id, app_id) == (caller.app.user_id, caller.app.app_id):
            return caller.app
        app = await self.app(user_id, app_id)
        if caller.app is not None and (app is None or not app.public):
            raise _other_app(caller.app, user_id, app_id)
        if app is None:
            raise DoesNotExist(f"There is no app {quoted(app_id)} of user {quoted(user_id)}.")
        return app

    async def _check_user(self, rpc: str, caller: Caller, user_id: str) -> None:
        if user_id in ("", caller.user_id):
            return
        await self._check_exists(caller, user_id)
        if rpc not in _OTHER_USER_READS:
            raise DoesNotExist(f"{rpc} works on your own user; {user_id} is another one.")

    async def _check_exists(self, caller: Caller, user_id: str) -> None:
        if user_id in ("", caller.user_id, PUBLIC_USER):
            return
        if "\0" in user_id or await self._database.row(self._sql["user"], {"user_id": user_id}) is None:
            raise DoesNotExist(f"There is no user {quoted(user_id)}.")

    async def _load_key(self, hashed: bytes) -> _Known | None:
        row = await self._database.row(self._sql["caller_of_key"], {"hash": hashed})
        if row is None:
            return None
        user_id, key_type, scopes, endpoints, expires_at, *app = row
        caller = Caller(
            user_id=user_id,
            key_type=key_type,
            scopes=frozenset(scopes),
            endpoints=frozenset(endpoints),
            app=_app_ref(app) if key_type == APP_KEY else None,
        )
        return _Known(caller, expires_at)

    async def _load_app(self, user_id: str, app_id: str) -> AppRef | None:
        row = await self._database.row(self._sql["app"], {"user_id": user_id, "app_id": app_id})
        return _app_ref(row) if row else None


def _other_app(own: AppRef, user_id: str, app_id: str) -> KeyInvalid:
    asked = f"app {quoted(app_id)} of user {quoted(user_id)}" if app_id else f"user {quoted(user_id)}"
    return KeyInvalid(
        f"This app key opens {own.user_id}/{own.app_id} only, and the request names {asked}. Leave user_app_id out, or"
        " send a personal access token."
    )


def _check_public(rpc: str, app: AppRef, caller: Caller) -> None:
    """Somebody else's app: a private one does not exist for this caller, a public one can be read."""
    if not app.public:
        raise DoesNotExist(f"There is no app {app.app_id} of user {app.user_id}.")
    if rpc not in PUBLIC_READS:
        raise InsufficientScopes(f"{app.user_id}/{app.app_id} is read-only for {caller.user_id}: {rpc} changes it.")


def _app_ref(row: Any) -> AppRef:
    user_id, app_id, bucket, workflow_id, own_workflow_id, language, public, sample_ms = row
    return AppRef(
        user_id=user_id,
        app_id=app_id,
        bucket=bucket,
        workflow_id=workflow_id,
        own_workflow_id=own_workflow_id,
        default_language=language,
        public=public,
        sample_ms=sample_ms,
    )
