"""Reading workflows: an app's own, and those of clarifai/main (api-spec 5.1, 5.6)."""

from __future__ import annotations

from collections.abc import Sequence

from clarifai_grpc.grpc.api import resources_pb2, service_pb2
from psycopg import sql

from sightrank.api.apps import plain_text
from sightrank.api.call import AppRef, Call, Handlers
from sightrank.api.catalogue import Catalogue, WorkflowCard
from sightrank.api.datasets import public_only
from sightrank.api.identity import PUBLIC_APP, PUBLIC_USER, lists_public
from sightrank.api.pages import Page, list_page
from sightrank.api.patterns import like_pattern
from sightrank.api.workflow_nodes import card_version_proto, workflow_proto
from sightrank.api.workflow_records import VersionRow, own_version_proto, own_workflow_proto
from sightrank.errors import WorkflowDoesNotExist, quoted
from sightrank.store import queries
from sightrank.store.database import Database
from sightrank.vision.vocabulary import fold, matches

_SQL = queries.load("workflows")


class Workflows:
    """GetWorkflow, ListWorkflows and their versions. An id is looked for in the app first, then in clarifai/main."""

    def __init__(self, catalogue: Catalogue, database: Database) -> None:
        self._catalogue = catalogue
        self._database = database

    def handlers(self) -> Handlers:
        return {
            "GetWorkflow": self.get,
            "ListWorkflows": self.list,
            "GetWorkflowVersion": self.get_version,
            "ListWorkflowVersions": self.list_versions,
        }

    async def get(self, call: Call, request: service_pb2.GetWorkflowRequest) -> service_pb2.SingleWorkflowResponse:
        own = await self._own(call, request.workflow_id)
        return service_pb2.SingleWorkflowResponse(
            workflow=own or workflow_proto(self._public(call, request.workflow_id))
        )

    async def list(self, call: Call, request: service_pb2.ListWorkflowsRequest) -> service_pb2.MultiWorkflowResponse:
        """The app's own, newest first unless told otherwise, and then the public ones where they are asked for.

        ``id`` takes ``*`` for any text. Nothing here is featured, starred or bookmarked.
        """
        page = list_page(request)
        if request.featured_only or request.starred_only or request.bookmark:
            return service_pb2.MultiWorkflowResponse()
        workflows = [*await self._own_list(call, request, page)]
        if lists_public(call, request.user_app_id):
            workflows += [workflow_proto(card) for card in self._catalogue.workflows if _wanted(card.id, request)]
        if request.sort_by_id:
            workflows.sort(key=lambda workflow: workflow.id, reverse=not request.sort_ascending)
        return service_pb2.MultiWorkflowResponse(workflows=page.of(workflows))

    async def get_version(
        self, call: Call, request: service_pb2.GetWorkflowVersionRequest
    ) -> service_pb2.SingleWorkflowVersionResponse:
        wanted = plain_text(request.workflow_version_id, "workflow_version_id")
        if await self._own(call, request.workflow_id) is None:
            card = self._public(call, request.workflow_id, wanted)
            return service_pb2.SingleWorkflowVersionResponse(workflow_version=card_version_proto(card))
        versions = await self._versions(call.require_app(), request.workflow_id, wanted, Page(1, 1))
        if not versions or not wanted:
            raise WorkflowDoesNotExist(
                f"Workflow {request.workflow_id} has no version {quoted(wanted)}; ListWorkflowVersions names"
                " those it has."
            )
        return service_pb2.SingleWorkflowVersionResponse(workflow_version=versions[0])

    async def list_versions(
        self, call: Call, request: service_pb2.ListWorkflowVersionsRequest
    ) -> service_pb2.MultiWorkflowVersionResponse:
        """Newest first."""
        page = list_page(request)
        if await self._own(call, request.workflow_id) is None:
            only = [card_version_proto(self._public(call, request.workflow_id))]
            return service_pb2.MultiWorkflowVersionResponse(workflow_versions=page.of(only))
        versions = await self._versions(call.require_app(), request.workflow_id, "", page)
        return service_pb2.MultiWorkflowVersionResponse(workflow_versions=versions)

    def _public(self, call: Call, workflow_id: str, version_id: str = "") -> WorkflowCard:
        """A public one, where the app has none of that id. Raises WorkflowDoesNotExist."""
        return self._catalogue.workflow(workflow_id, version_id, after_app=call.require_app().app_id)

    async def _own(self, call: Call, workflow_id: str) -> resources_pb2.Workflow | None:
        """The app's workflow; None where it has none that this caller may see."""
        app = call.require_app()
        parameters = {"bucket": app.bucket, "ids": [plain_text(workflow_id, "workflow_id")]}
        row = await self._database.row(_SQL["read"], parameters)
        if row is None:
            return None
        workflow = own_workflow_proto(self._catalogue, app, row)
        if public_only(call) and workflow.visibility.gettable != resources_pb2.Visibility.Gettable.PUBLIC:
            return None
        return workflow

    async def _own_list(
        self, call: Call, request: service_pb2.ListWorkflowsRequest, page: Page
    ) -> Sequence[resources_pb2.Workflow]:
        """As many of the app's as the page can reach."""
        app = call.require_app()
        if (app.user_id, app.app_id) == (PUBLIC_USER, PUBLIC_APP):
            return []
        parameters = {
            "bucket": app.bucket,
            "id": like_pattern(plain_text(request.id, "id")),
            "visibility": request.visibility.gettable,
            "public_only": public_only(call),
            "text": plain_text(request.search or request.query or request.search_term, "search"),
        }
        statement = sql.SQL("{} {} LIMIT {}").format(
            sql.SQL(_SQL["list"]), _order(request), sql.Literal(page.offset + page.per_page)
        )
        rows = await self._database.rows(statement, parameters)
        return [own_workflow_proto(self._catalogue, app, row) for row in rows]

    async def _versions(
        self, app: AppRef, workflow_id: str, version_id: str, page: Page
    ) -> Sequence[resources_pb2.WorkflowVersion]:
        parameters = {"bucket": app.bucket, "workflow_id": workflow_id, "ids": [version_id] if version_id else None}
        rows = await self._database.rows(page.limit(_SQL["read_versions"]), parameters)
        return [own_version_proto(self._catalogue, app, VersionRow(*row)) for row in rows]


def _wanted(public_id: str, request: service_pb2.ListWorkflowsRequest) -> bool:
    text = fold(request.search or request.query or request.search_term)
    return (
        matches(fold(request.id) or "*", fold(public_id))
        and text in fold(public_id)
        and request.visibility.gettable in (0, resources_pb2.Visibility.Gettable.PUBLIC)
    )


def _order(request: service_pb2.ListWorkflowsRequest) -> sql.Composed:
    column = "id" if request.sort_by_id else "modified_at" if request.sort_by_modified_at else "created_at"
    direction = sql.SQL("ASC" if request.sort_ascending else "DESC")
    return sql.SQL("ORDER BY {} {direction}, w.id {direction}").format(sql.Identifier("w", column), direction=direction)
