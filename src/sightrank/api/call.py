"""What every rpc handler gets: who calls, on which app, and under which request id."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class AppRef:
    """A resolved application and the buckets its rows live in (``bucket`` is the first and, mostly, the only one).

    ``workflow_id`` is the public workflow that indexes its inputs, ``own_workflow_id`` the app's own one whose other
    nodes run then, '' without one.
    """

    user_id: str
    app_id: str
    bucket: int
    workflow_id: str
    own_workflow_id: str = ""
    default_language: str = "en"
    public: bool = False
    sample_ms: int = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The owner of the presented credential. ``app`` is set for an app key: such a key opens that app only."""

    user_id: str
    key_type: str
    scopes: frozenset[str]
    endpoints: frozenset[str]
    app: AppRef | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One rpc call. ``caller`` is absent on NoAuth rpcs, ``app`` on rpcs that belong to no app."""

    rpc: str
    request_id: str
    caller: Caller | None
    app: AppRef | None

    def require_app(self) -> AppRef:
        assert self.app is not None, f"{self.rpc} is registered as an app rpc"
        return self.app

    def require_caller(self) -> Caller:
        assert self.caller is not None, f"{self.rpc} is registered as an authenticated rpc"
        return self.caller


#: One rpc: takes the call and the request message, returns the response message with its ``status`` filled or unset
#: (unset means success), or raises an ``AppError``.
Handler = Callable[[Call, Any], Awaitable[Message]]

#: Rpc name ("PostInputs") to handler. Rpcs without an entry answer 10040.
Handlers = Mapping[str, Handler]

#: Resolves the credential of a request: rpc name, the key as sent (or None), the request message, the request id.
#: Raises CredentialMissing, KeyInvalid, InsufficientScopes, DoesNotExist … (api-spec 2.2).
Authenticate = Callable[[str, str | None, Message, str], Awaitable[Call]]
