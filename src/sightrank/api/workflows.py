"""Public workflows: reading them (api-spec 5.6)."""

from __future__ import annotations

from collections.abc import Sequence

from clarifai_grpc.grpc.api import resources_pb2, service_pb2

from sightrank.api.call import Call, Handlers
from sightrank.api.catalogue import Catalogue, WorkflowCard
from sightrank.api.identity import PUBLIC_APP, PUBLIC_USER, lists_public
from sightrank.api.models import version_proto
from sightrank.api.pages import list_page
from sightrank.vision.vocabulary import fold


class Workflows:
    """GetWorkflow, ListWorkflows and their versions. Like models, workflows are found in clarifai/main from any app."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def handlers(self) -> Handlers:
        return {
            "GetWorkflow": self.get,
            "ListWorkflows": self.list,
            "GetWorkflowVersion": self.get_version,
            "ListWorkflowVersions": self.list_versions,
        }

    async def get(self, call: Call, request: service_pb2.GetWorkflowRequest) -> service_pb2.SingleWorkflowResponse:
        card = self._catalogue.workflow(request.workflow_id)
        return service_pb2.SingleWorkflowResponse(workflow=workflow_proto(card))

    async def list(self, call: Call, request: service_pb2.ListWorkflowsRequest) -> service_pb2.MultiWorkflowResponse:
        text = fold(request.search or request.query or request.search_term)
        cards = [
            card
            for card in self._visible(call, request)
            if request.id in ("", card.id) and text in fold(card.id) and not request.starred_only
        ]
        if request.sort_by_id:
            cards.sort(key=lambda card: card.id, reverse=not request.sort_ascending)
        return service_pb2.MultiWorkflowResponse(workflows=map(workflow_proto, list_page(request).of(cards)))

    async def get_version(
        self, call: Call, request: service_pb2.GetWorkflowVersionRequest
    ) -> service_pb2.SingleWorkflowVersionResponse:
        card = self._catalogue.workflow(request.workflow_id, request.workflow_version_id)
        return service_pb2.SingleWorkflowVersionResponse(workflow_version=_version_proto(card))

    async def list_versions(
        self, call: Call, request: service_pb2.ListWorkflowVersionsRequest
    ) -> service_pb2.MultiWorkflowVersionResponse:
        versions = [_version_proto(self._catalogue.workflow(request.workflow_id))]
        return service_pb2.MultiWorkflowVersionResponse(workflow_versions=list_page(request).of(versions))

    def _visible(self, call: Call, request: service_pb2.ListWorkflowsRequest) -> Sequence[WorkflowCard]:
        """Those of clarifai/main, unless the request names another app or user, who have none of their own yet."""
        return self._catalogue.workflows if lists_public(call, request.user_app_id) else ()


def workflow_proto(card: WorkflowCard) -> resources_pb2.Workflow:
    return resources_pb2.Workflow(
        id=card.id,
        user_id=PUBLIC_USER,
        app_id=PUBLIC_APP,
        description=card.description,
        nodes=_nodes(card),
        version=_version_proto(card),
        visibility=resources_pb2.Visibility(gettable=resources_pb2.Visibility.Gettable.PUBLIC),
    )


def _version_proto(card: WorkflowCard) -> resources_pb2.WorkflowVersion:
    return resources_pb2.WorkflowVersion(
        id=card.version_id,
        workflow_id=card.id,
        user_id=PUBLIC_USER,
        app_id=PUBLIC_APP,
        nodes=_nodes(card),
        visibility=resources_pb2.Visibility(gettable=resources_pb2.Visibility.Gettable.PUBLIC),
    )


def _nodes(card: WorkflowCard) -> list[resources_pb2.WorkflowNode]:
    """The concept model first: clients read ``outputs[0]`` (api-spec 5.6)."""
    return [
        resources_pb2.WorkflowNode(
            id=model.id,
            model=resources_pb2.Model(
                id=model.id,
                name=model.name,
                user_id=PUBLIC_USER,
                app_id=PUBLIC_APP,
                model_type_id=model.type.value,
                model_version=version_proto(model),
            ),
        )
        for model in card.models
    ]
