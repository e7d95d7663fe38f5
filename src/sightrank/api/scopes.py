"""Scopes and what every rpc demands, read from the options of the proto's methods (api-spec 2.3).

A scope has two spellings, ``Inputs_Add`` (the proto's) and ``Inputs:Add`` (the portal's); inside, only the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache

from clarifai_grpc.grpc.api import service_pb2
from clarifai_grpc.grpc.auth.scope import scope_pb2
from clarifai_grpc.grpc.auth.types import types_pb2
from clarifai_grpc.grpc.auth.util import extension_pb2
from google.api import annotations_pb2

from sightrank.errors import InvalidRequest

ALL = "All"
_ENDPOINT_PREFIX = "/clarifai.api.V2/"
#: Rpcs that change something and of which the API demands scopes for reading only.
_WRITES = dict.fromkeys(
    ("PatchModelToolkits", "PatchModelUseCases", "PatchModelLanguages", "PatchModelCheckConsents"),
    frozenset({"Models_Add"}),
)


class AuthType(Enum):
    """Which credential opens an rpc. ``SESSION`` wants a logged-in person; here a personal access token is one."""

    NONE = "NoAuth"
    KEY = "KeyAuth"
    PAT = "PATAuth"
    SESSION = "SessionTokenAuth"

    @property
    def wants_pat(self) -> bool:
        return self in (AuthType.PAT, AuthType.SESSION)


@dataclass(frozen=True, slots=True)
class RpcRule:
    """``app_scoped``: the rpc has a path below ``/apps/{app_id}``, so a call of it belongs to one app."""

    auth_type: AuthType
    scopes: frozenset[str]
    app_scoped: bool


@cache
def rpc_rules() -> Mapping[str, RpcRule]:
    """Rpc name to its rule, for all rpcs of the service."""
    methods = service_pb2.DESCRIPTOR.services_by_name["V2"].methods
    return {method.name: _rule(method, _WRITES.get(method.name, frozenset())) for method in methods}


@cache
def scope_dependencies() -> Mapping[str, tuple[str, ...]]:
    """Scope name to the scopes it is useless without (``Inputs_Add`` to ``Inputs_Get``); no deprecated ones."""
    values = [value for value in scope_pb2.S.DESCRIPTOR.values if value.number and not value.GetOptions().deprecated]
    return {
        value.name: tuple(map(scope_pb2.S.Name, value.GetOptions().Extensions[scope_pb2.clarifai_depending_scopes]))
        for value in values
    }


def parse_scopes(names: Iterable[str]) -> tuple[str, ...]:
    """Scopes in either spelling as the proto's names, sorted, each once. Raises InvalidRequest for an unknown one."""
    parsed = {name.strip().replace(":", "_") for name in names}
    unknown = sorted(parsed - set(scope_pb2.S.keys()) | parsed & {"undef"})
    if unknown:
        raise InvalidRequest(f"Unknown scope {', '.join(unknown)}; ListScopes names all of them.")
    return tuple(sorted(parsed))


def parse_endpoints(names: Iterable[str]) -> tuple[str, ...]:
    """Endpoints as ``/clarifai.api.V2/<Rpc>``, sorted, each once. Raises InvalidRequest naming an unknown one."""
    rpcs = {name.strip().removeprefix(_ENDPOINT_PREFIX) for name in names}
    unknown = sorted(rpcs - rpc_rules().keys())
    if unknown:
        raise InvalidRequest(
            f"Unknown endpoint {', '.join(unknown)}; endpoints look like {_ENDPOINT_PREFIX}PostSearches."
        )
    return tuple(sorted(map(endpoint_of, rpcs)))


def endpoint_of(rpc: str) -> str:
    return _ENDPOINT_PREFIX + rpc


def missing_for(rpc: str, scopes: frozenset[str], endpoints: frozenset[str]) -> list[str]:
    """What a key lacks to call this rpc, in words; empty when it may.

    Endpoints, where a key has any, restrict which rpcs it may call; scopes govern data access on top of that.
    """
    lacking = [] if not endpoints or endpoint_of(rpc) in endpoints else [f"endpoint {endpoint_of(rpc)}"]
    needed = frozenset() if ALL in scopes else rpc_rules()[rpc].scopes - scopes
    return lacking + [f"scope {scope}" for scope in sorted(needed)]


def missing_to_grant(
    scopes: frozenset[str], endpoints: frozenset[str], *, by_scopes: frozenset[str], by_endpoints: frozenset[str]
) -> list[str]:
    """What the maker of a key lacks to hand out these scopes and endpoints: nobody gives more than they have."""
    lacking = [] if ALL in by_scopes else [f"scope {scope}" for scope in sorted(scopes - by_scopes)]
    if by_endpoints:
        beyond = endpoints - by_endpoints if endpoints else {"all"}
        lacking += [f"endpoint {endpoint}" for endpoint in sorted(beyond)]
    return lacking


def _rule(method: object, more: frozenset[str]) -> RpcRule:
    options = method.GetOptions()  # type: ignore[attr-defined]
    http = options.Extensions[annotations_pb2.http]
    paths = [getattr(binding, binding.WhichOneof("pattern")) for binding in (http, *http.additional_bindings)]
    auth_type = AuthType(types_pb2.AuthType.Name(options.Extensions[extension_pb2.cl_auth_type]))
    scopes = frozenset(map(scope_pb2.S.Name, options.Extensions[extension_pb2.cl_depending_scopes]))
    return RpcRule(auth_type, scopes | more, any("{user_app_id.app_id}" in path for path in paths))
