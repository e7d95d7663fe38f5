"""Changing and removing versions of workflows: what is said of them, never their nodes (api-spec 5.6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clarifai_grpc.grpc.api import resources_pb2, service_pb2
from clarifai_grpc.grpc.api.status import status_pb2
from psycopg.types.json import Jsonb

from sightrank.api.annotation_patch import Action, merge_json, remove_json
from sightrank.api.apps import plain_text
from sightrank.api.base_workflows import BaseWorkflows
from sightrank.api.call import AppRef, Call, Handlers
from sightrank.api.catalogue import Catalogue
from sightrank.api.identity import Identity
from sightrank.api.texts import visibility_of
from sightrank.api.workflow_changes import lock_workflows
from sightrank.api.workflow_records import VersionRow, own_version_proto
from sightrank.errors import WorkflowDoesNotExist, WorkflowInvalid, quoted
from sightrank.search.contents import struct_to_json
from sightrank.store import queries
from sightrank.store.database import Connection, Database, TryAgain, retrying
from sightrank.teach.own_workflows import OwnWorkflows

_SQL = queries.load("workflows")
_COLUMNS = ("id", "description", "license", "metadata", "visibility", "is_deprecated")


class WorkflowVersions:
    """PatchWorkflowVersions and DeleteWorkflowVersions: each all or nothing."""

    def __init__(
        self, catalogue: Catalogue, database: Database, identity: Identity, base_workflows: BaseWorkflows
    ) -> None:
        self._catalogue = catalogue
        self._database = database
        self._identity = identity
        self._base_workflows = base_workflows
        self._workflows = OwnWorkflows(database)

    def handlers(self) -> Handlers:
        return {"PatchWorkflowVersions": self.patch, "DeleteWorkflowVersions": self.delete}

    async def patch(
        self, call: Call, request: service_pb2.PatchWorkflowVersionsRequest
    ) -> service_pb2.MultiWorkflowVersionResponse:
        """``merge`` and ``overwrite`` set what is sent, ``remove`` takes metadata away.

        Raises WorkflowInvalid for nodes.
        """
        app, action = call.require_app(), Action.named(request.action)
        if not request.workflow_versions:
            raise WorkflowInvalid("workflow_versions is empty; send at least one.")
        async with self._database.transaction() as connection:
            stored = await self._locked(connection, app, request.workflow_id)
            for place, version in enumerate(request.workflow_versions):
                before = stored.get(version.id)
                if before is None:
                    raise _missing(request.workflow_id, version.id)
                values = _patched(before, version, action, f"workflow_versions[{place}]")
                stored[version.id] = values
                keys = {"bucket": app.bucket, "workflow_id": request.workflow_id, "id": version.id}
                await connection.execute(
                    _SQL["update_version"], {**values, **keys, "metadata": Jsonb(values["metadata"])}
                )
            ids = [version.id for version in request.workflow_versions]
            keys = {"bucket": app.bucket, "workflow_id": request.workflow_id, "ids": ids}
            cursor = await connection.execute(_SQL["read_versions"], keys)
            rows = {row[0]: VersionRow(*row) for row in await cursor.fetchall()}
        return service_pb2.MultiWorkflowVersionResponse(
            workflow_versions=[
                own_version_proto(self._catalogue, app, rows[version.id]) for version in request.workflow_versions
            ]
        )

    async def delete(self, call: Call, request: service_pb2.DeleteWorkflowVersionsRequest) -> status_pb2.BaseResponse:
        """Where the latest goes, the one before it is in use again, also as the app's base workflow: that is checked,
        and the app re-indexed, as by a patch of the nodes. Raises WorkflowInvalid for all versions that there are.
        """
        app, ids = call.require_app(), set(request.workflow_version_ids)
        if not ids:
            raise WorkflowInvalid("workflow_version_ids is empty; send at least one.")
        keys = {"bucket": app.bucket, "workflow_id": plain_text(request.workflow_id, "workflow_id")}

        async def deleted() -> None:
            there = [version_id for (version_id,) in await self._database.rows(_SQL["version_ids"], keys)]
            next_id = next((version_id for version_id in there if version_id not in ids), "")
            used = None
            if next_id and next_id not in there[:1]:
                used = await self._workflows.find(app.bucket, request.workflow_id, next_id)
            other = None
            if used is not None:
                async with self._workflows.as_read(used):
                    other = await self._base_workflows.other_nodes(app.bucket, {used.id: used.nodes})
            async with self._database.transaction() as connection:
                if other is not None:
                    await self._base_workflows.take_over(connection, other)
                stored = await self._locked(connection, app, request.workflow_id)
                for version_id in ids:
                    if version_id not in stored:
                        raise _missing(request.workflow_id, version_id)
                if len(ids) == len(stored):
                    raise WorkflowInvalid(
                        f"These are all versions of workflow {request.workflow_id}; delete the workflow, or leave one."
                    )
                if list(stored) != there:
                    raise TryAgain
                await connection.execute(_SQL["delete_versions"], {**keys, "ids": sorted(ids)})

        await retrying(deleted, busy="This workflow keeps changing; try again in a moment.")
        self._identity.forget()  # it knows by what apps are indexed
        return status_pb2.BaseResponse()

    async def _locked(self, connection: Connection, app: AppRef, workflow_id: str) -> dict[str, Mapping[str, Any]]:
        await lock_workflows(connection, app, [workflow_id])
        cursor = await connection.execute(_SQL["lock_versions"], {"bucket": app.bucket, "workflow_id": workflow_id})
        return {row[0]: dict(zip(_COLUMNS, row, strict=True)) for row in await cursor.fetchall()}


def _missing(workflow_id: str, version_id: str) -> WorkflowDoesNotExist:
    return WorkflowDoesNotExist(
        f"Workflow {workflow_id} has no version {quoted(version_id)}; ListWorkflowVersions names those it has."
    )


def _patched(
    stored: Mapping[str, Any], version: resources_pb2.WorkflowVersion, action: Action, where: str
) -> dict[str, Any]:
    if version.nodes:
        raise WorkflowInvalid(f"{where}.nodes: the nodes of a version never change; patch the workflow for a new one.")
    metadata = struct_to_json(version.metadata, WorkflowInvalid)
    values = dict(stored)
    if action is Action.REMOVE:
        return values | {"metadata": remove_json(stored["metadata"], metadata)}
    sent = {
        "description": plain_text(version.description, f"{where}.description"),
        "license": plain_text(version.license, f"{where}.license"),
        "visibility": visibility_of(version.visibility, f"{where}.visibility"),
        "is_deprecated": version.is_deprecated,
    }
    values |= {name: value for name, value in sent.items() if value}
    if version.HasField("metadata"):
        values["metadata"] = merge_json(stored["metadata"], metadata) if action is Action.MERGE else metadata
    return values
