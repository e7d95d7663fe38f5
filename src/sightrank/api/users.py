"""The caller: who it is, what it may do, what it has (api-spec 2.1, 2.3)."""

from __future__ import annotations

from typing import Any

from clarifai_grpc.grpc.api import resources_pb2, service_pb2

from sightrank.api.call import Call, Handlers
from sightrank.api.identity import APP_KEY, ME, PAT, PUBLIC_USER
from sightrank.api.scopes import AuthType, endpoint_of, rpc_rules, scope_dependencies
from sightrank.errors import DoesNotExist, InvalidRequest, quoted
from sightrank.store.database import Database
from sightrank.store.queries import load


class Users:
    """GetUser, the scope rpcs, counts, and the (empty) lists of collaborators."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = load("identity")

    def handlers(self) -> Handlers:
        return {
            "GetUser": self.get,
            "MyScopes": self.my_scopes,
            "MyScopesUser": self.my_scopes_of_user,
            "ListScopes": self.list_scopes,
            "GetResourceCounts": self.resource_counts,
            "ListCollaborators": self.list_collaborators,
            "ListCollaborations": self.list_collaborations,
        }

    async def get(self, call: Call, request: service_pb2.GetUserRequest) -> service_pb2.SingleUserResponse:
        named = request.user_app_id.user_id
        user_id = call.require_caller().user_id if named in ("", ME) else named
        row = await self._database.row(self._sql["user"], {"user_id": user_id})
        if row is None:
            raise DoesNotExist(f"There is no user {quoted(user_id)}.")
        return service_pb2.SingleUserResponse(user=_user_proto(row))

    async def my_scopes(self, call: Call, request: service_pb2.MyScopesRequest) -> service_pb2.MultiScopeResponse:
        caller = call.require_caller()
        answer = service_pb2.MultiScopeResponse(scopes=sorted(caller.scopes), endpoints=sorted(caller.endpoints))
        if call.app is not None:
            answer.app.id, answer.app.user_id = call.app.app_id, call.app.user_id
        return answer

    async def my_scopes_of_user(
        self, call: Call, request: service_pb2.MyScopesUserRequest
    ) -> service_pb2.MultiScopeUserResponse:
        caller = call.require_caller()
        return service_pb2.MultiScopeUserResponse(scopes=sorted(caller.scopes), endpoints=sorted(caller.endpoints))

    async def list_scopes(
        self, call: Call, request: service_pb2.ListScopesRequest
    ) -> service_pb2.MultiScopeDepsResponse:
        """All scopes with those they need, and all endpoints that a key of the type can call."""
        if request.key_type not in ("", APP_KEY, PAT):
            raise InvalidRequest(f"key_type is {request.key_type}; it can be {APP_KEY} or {PAT}.")
        answer = service_pb2.MultiScopeDepsResponse()
        for scope, needed in scope_dependencies().items():
            answer.scope_deps.add(scope=scope, depending_scopes=needed)
        for rpc, rule in rpc_rules().items():
            if rule.auth_type is AuthType.KEY or (rule.auth_type is AuthType.PAT and request.key_type == PAT):
                answer.endpoint_deps.add(endpoint=endpoint_of(rpc), depending_scopes=sorted(rule.scopes))
        return answer

    async def resource_counts(
        self, call: Call, request: service_pb2.GetResourceCountsRequest
    ) -> service_pb2.GetResourceCountsResponse:
        row = await self._database.row(self._sql["resource_counts"], {"bucket": call.require_app().bucket})
        assert row is not None, "a statement that always returns a row"
        inputs, datasets, models, workflows = row
        return service_pb2.GetResourceCountsResponse(
            inputs=inputs, datasets=datasets, models=models, workflows=workflows
        )

    async def list_collaborators(
        self, call: Call, request: service_pb2.ListCollaboratorsRequest
    ) -> service_pb2.MultiCollaboratorsResponse:
        """Apps here have their owner only."""
        return service_pb2.MultiCollaboratorsResponse()

    async def list_collaborations(
        self, call: Call, request: service_pb2.ListCollaborationsRequest
    ) -> service_pb2.MultiCollaborationsResponse:
        return service_pb2.MultiCollaborationsResponse()


def _user_proto(row: Any) -> resources_pb2.User:
    user_id, first_name, last_name, created_at = row
    levels = resources_pb2.Visibility.Gettable
    visibility = levels.PUBLIC if user_id == PUBLIC_USER else levels.PRIVATE
    user = resources_pb2.User(
        id=user_id,
        first_name=first_name,
        last_name=last_name,
        visibility=resources_pb2.Visibility(gettable=visibility),
    )
    user.created_at.FromDatetime(created_at)
    return user
