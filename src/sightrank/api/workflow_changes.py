"""Making, changing and removing the workflows of apps (api-spec 5.6)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clarifai_grpc.grpc.api import resources_pb2, service_pb2
from clarifai_grpc.grpc.api.status import status_pb2
from psycopg.types.json import Jsonb

from sightrank.api.annotation_patch import Action, merge_json, remove_json
from sightrank.api.apps import PRIVATE, plain_text
from sightrank.api.base_workflows import BaseWorkflows
from sightrank.api.call import AppRef, Call, Handlers
from sightrank.api.catalogue import Catalogue
from sightrank.api.identity import PUBLIC_USER, Identity
from sightrank.api.texts import visibility_of
from sightrank.api.workflow_nodes import MAX_ID_CHARACTERS, NodeReader
from sightrank.api.workflow_records import own_workflow_proto
from sightrank.errors import ModelDoesNotExist, WorkflowDoesNotExist, WorkflowDuplicate, WorkflowInvalid, quoted
from sightrank.ingest.rows import hold_app, new_id
from sightrank.search.contents import struct_to_json
from sightrank.store import queries
from sightrank.store.database import Connection, Database, TryAgain, retrying
from sightrank.teach.own_workflows import OwnWorkflow, OwnWorkflows, nodes_of

MAX_IN_ONE_CALL = 128
_ID = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_-]{{0,{MAX_ID_CHARACTERS - 1}}}")
_SQL = queries.load("workflows")
_Node = resources_pb2.WorkflowNode


@dataclass(frozen=True, slots=True, kw_only=True)
class _NewNodes:
    """What a patch makes of the latest version, ``made_from``."""

    nodes: Sequence[_Node]
    made_from: OwnWorkflow


class WorkflowChanges:
    """PostWorkflows, PatchWorkflows, PatchWorkflowIds, DeleteWorkflow and DeleteWorkflows: each all or nothing."""

    def __init__(
        self,
        catalogue: Catalogue,
        database: Database,
        identity: Identity,
        reader: NodeReader,
        base_workflows: BaseWorkflows,
    ) -> None:
        self._catalogue = catalogue
        self._database = database
        self._identity = identity
        self._reader = reader
        self._base_workflows = base_workflows
        self._workflows = OwnWorkflows(database)

    def handlers(self) -> Handlers:
        return {
            "PostWorkflows": self.post,
            "PatchWorkflows": self.patch,
            "PatchWorkflowIds": self.patch_ids,
            "DeleteWorkflow": self.delete,
            "DeleteWorkflows": self.delete_many,
        }

    async def post(self, call: Call, request: service_pb2.PostWorkflowsRequest) -> service_pb2.MultiWorkflowResponse:
        """All of the workflows, each with its first version. Raises WorkflowDuplicate when an id is taken."""
        app = call.require_app()
        _check_number("workflows", request.workflows)
        rows, versions = [], []
        for place, workflow in enumerate(request.workflows):
            where = f"workflows[{place}]"
            nodes = await self._reader.read(app, workflow.nodes)
            values = _sent(workflow, where)
            row = {"place": place, "id": checked_id(workflow.id or new_id(), f"{where}.id"), **values}
            row["visibility"] = row["visibility"] or PRIVATE
            rows.append(row)
            versions.append((row["id"], nodes, workflow.version))
        parameters = {"bucket": app.bucket, "rows": json.dumps(rows)}
        async with self._database.transaction() as connection:
            await hold_app(connection, app.bucket)
            made = [name for (name,) in await (await connection.execute(_SQL["insert"], parameters)).fetchall()]
            for row in rows:
                if row["id"] not in made:
                    raise WorkflowDuplicate(
                        f"There is already a workflow {row['id']!r} in app {app.app_id!r}; choose another id."
                    )
                made.remove(row["id"])
            for workflow_id, nodes, version in versions:
                await insert_version(connection, app, workflow_id, nodes, version)
            return await self._answer(connection, app, [row["id"] for row in rows])

    async def patch(self, call: Call, request: service_pb2.PatchWorkflowsRequest) -> service_pb2.MultiWorkflowResponse:
        """``merge`` and ``overwrite`` set what is sent, ``remove`` takes away what is named: nodes by their ids. Other
        nodes are a new version, and re-index the app where they are its base workflow and need another index.
        """
        app = call.require_app()
        _check_number("workflows", request.workflows)
        action = Action.named(request.action)
        ids = [workflow.id for workflow in request.workflows]
        if len(set(ids)) < len(ids):
            raise WorkflowInvalid("workflows names a workflow twice; say in one item what is to be done to it.")

        async def patched() -> service_pb2.MultiWorkflowResponse:
            # Models are looked up before the transaction: nobody is to wait for a second connection while he has one.
            nodes = {
                workflow.id: await self._new_nodes(app, workflow, action)
                for workflow in request.workflows
                if workflow.nodes
            }
            named = {name: nodes_of(new.nodes) for name, new in nodes.items()}
            other = None
            if named:
                async with self._workflows.as_read(*(new.made_from for new in nodes.values())):
                    other = await self._base_workflows.other_nodes(app.bucket, named)
            async with self._database.transaction() as connection:
                if other is not None:
                    await self._base_workflows.take_over(connection, other)
                stored = await lock_workflows(connection, app, ids)
                for place, workflow in enumerate(request.workflows):
                    values = _patched(stored[workflow.id], workflow, action, f"workflows[{place}]")
                    keys = {"bucket": app.bucket, "id": workflow.id, "metadata": Jsonb(values["metadata"])}
                    await connection.execute(_SQL["update"], {**values, **keys})
                    if workflow.nodes:
                        await self._insert_patched(connection, app, workflow, nodes[workflow.id])
                return await self._answer(connection, app, ids)

        answer = await retrying(patched, busy="These workflows keep changing; try again in a moment.")
        self._identity.forget()  # it knows by what apps are indexed
        return answer

    async def patch_ids(
        self, call: Call, request: service_pb2.PatchWorkflowIdsRequest
    ) -> service_pb2.MultiWorkflowResponse:
        """Gives workflows other ids; an app goes on being indexed by one that it has as its base workflow."""
        app = call.require_app()
        _check_number("ids", request.ids)
        if request.action != "overwrite":
            raise WorkflowInvalid(f"action is {request.action or 'empty'}; ids are patched by `overwrite`.")
        new_ids = [checked_id(item.new_id, f"ids[{place}].new_id") for place, item in enumerate(request.ids)]

        async def renamed() -> service_pb2.MultiWorkflowResponse:
            async with self._database.transaction() as connection:
                await connection.execute(_SQL["bases"], {"bucket": app.bucket})
                stored = await lock_workflows(connection, app, [*(item.id for item in request.ids), *new_ids], new_ids)
                for item, wanted in zip(request.ids, new_ids, strict=True):
                    if wanted in stored:
                        raise WorkflowDuplicate(
                            f"There is already a workflow {wanted!r} in app {app.app_id!r}; choose another id."
                        )
                    keys = {"bucket": app.bucket, "id": item.id, "new_id": wanted}
                    if item.id not in stored:
                        raise _missing(app, item.id)
                    for statement in ("rename", "rename_base", "rename_wanted"):
                        await connection.execute(_SQL[statement], keys)
                    stored[wanted] = stored.pop(item.id)
                return await self._answer(connection, app, new_ids)

        answer = await retrying(renamed, busy="These workflows keep changing; try again in a moment.")
        self._identity.forget()  # it knows apps with the ids of their base workflows
        return answer

    async def delete(self, call: Call, request: service_pb2.DeleteWorkflowRequest) -> status_pb2.BaseResponse:
        """Raises WorkflowInvalid for the app's base workflow."""
        return await self._delete(call.require_app(), [request.workflow_id])

    async def delete_many(self, call: Call, request: service_pb2.DeleteWorkflowsRequest) -> status_pb2.BaseResponse:
        """All of these, or with ``delete_all`` all of the app."""
        app, ids = call.require_app(), list(dict.fromkeys(request.ids))
        if request.delete_all:
            if ids:
                raise WorkflowInvalid("ids and delete_all are both sent; send one of them.")
            ids = [name for (name,) in await self._database.rows(_SQL["all_ids"], {"bucket": app.bucket})]
            return await self._delete(app, ids)
        _check_number("ids", ids)
        return await self._delete(app, ids)

    async def _delete(self, app: AppRef, ids: Sequence[str]) -> status_pb2.BaseResponse:
        async with self._database.transaction() as connection:
            cursor = await connection.execute(_SQL["bases"], {"bucket": app.bucket})
            bases = {name for (name,) in await cursor.fetchall()}
            await lock_workflows(connection, app, ids)
            for name in ids:
                if name in bases:
                    raise WorkflowInvalid(
                        f"Workflow {name} is the base workflow of app {app.app_id}; choose another one by PatchApps"
                        " first."
                    )
            await connection.execute(_SQL["delete"], {"bucket": app.bucket, "ids": list(ids)})
        return status_pb2.BaseResponse()

    async def _new_nodes(self, app: AppRef, workflow: resources_pb2.Workflow, action: Action) -> _NewNodes:
        """The nodes after the patch. Raises WorkflowDoesNotExist, and TryAgain where a model of those that were there
        has got another id meanwhile.
        """
        before = await self._workflows.find(app.bucket, plain_text(workflow.id, "id"))
        if before is None:
            raise _missing(app, workflow.id)
        stored = resources_pb2.WorkflowVersion.FromString(before.stored).nodes
        async with self._workflows.as_read(before):
            nodes = await self._reader.read(app, _patched_nodes(stored, workflow.nodes, action))
        return _NewNodes(nodes=nodes, made_from=before)

    async def _insert_patched(
        self, connection: Connection, app: AppRef, workflow: resources_pb2.Workflow, new: _NewNodes
    ) -> None:
        """Raises TryAgain when the workflow has another version since, or its models have other ids."""
        keys = {"bucket": app.bucket, "workflow_id": workflow.id, "version_id": ""}
        row = await (await connection.execute(_SQL["nodes"], keys)).fetchone()
        if row is None or row[:2] != (new.made_from.version_id, new.made_from.stored):
            raise TryAgain
        await insert_version(connection, app, workflow.id, new.nodes, workflow.version)

    async def _answer(
        self, connection: Connection, app: AppRef, ids: Sequence[str]
    ) -> service_pb2.MultiWorkflowResponse:
        cursor = await connection.execute(_SQL["read"], {"bucket": app.bucket, "ids": list(ids)})
        rows = {row[0]: row for row in await cursor.fetchall()}
        return service_pb2.MultiWorkflowResponse(
            workflows=[own_workflow_proto(self._catalogue, app, rows[name]) for name in ids]
        )


async def lock_workflows(
    connection: Connection, app: AppRef, ids: Sequence[str], may_lack: Sequence[str] = ()
) -> dict[str, Mapping[str, Any]]:
    """Holds these workflows until the transaction ends; what is stored of each, by id.

    Raises WorkflowDoesNotExist for one that is not there and not among ``may_lack``.
    """
    known = [plain_text(name, "id") for name in ids]
    cursor = await connection.execute(_SQL["lock"], {"bucket": app.bucket, "ids": known})
    columns = ("id", "description", "notes", "metadata", "use_cases", "image_url", "visibility")
    stored: dict[str, Mapping[str, Any]] = {
        row[0]: dict(zip(columns, row, strict=True)) for row in await cursor.fetchall()
    }
    for name in ids:
        if name not in stored and name not in may_lack:
            raise _missing(app, name)
    return stored


async def insert_version(
    connection: Connection,
    app: AppRef,
    workflow_id: str,
    nodes: Sequence[_Node],
    sent: resources_pb2.WorkflowVersion,
) -> None:
    """Makes these checked nodes the workflow's latest version.

    Raises ModelDoesNotExist where a model of theirs has been deleted since, or has got another id.
    """
    own = sorted({node.model.id for node in nodes if node.model.user_id != PUBLIC_USER})
    cursor = await connection.execute(_SQL["hold_models"], {"bucket": app.bucket, "ids": own})
    gone = set(own) - {name for (name,) in await cursor.fetchall()}
    if gone:
        raise ModelDoesNotExist(f"The app has no model {min(gone)} any more; ListModels names those it has.")
    await connection.execute(
        _SQL["insert_version"],
        {
            "bucket": app.bucket,
            "id": new_id(),
            "workflow_id": workflow_id,
            "nodes": resources_pb2.WorkflowVersion(nodes=nodes).SerializeToString(),
            "description": plain_text(sent.description, "version.description"),
            "license": plain_text(sent.license, "version.license"),
            "metadata": Jsonb(struct_to_json(sent.metadata, WorkflowInvalid)),
            "visibility": visibility_of(sent.visibility, "version.visibility") or PRIVATE,
        },
    )


def checked_id(workflow_id: str, where: str) -> str:
    """Raises WorkflowInvalid for what can be no id of a workflow."""
    if not _ID.fullmatch(workflow_id):
        raise WorkflowInvalid(
            f"{where} is {quoted(workflow_id)}; use up to {MAX_ID_CHARACTERS} letters, digits, '-' and '_', beginning"
            " with a letter or digit."
        )
    return workflow_id


def _missing(app: AppRef, workflow_id: str) -> WorkflowDoesNotExist:
    return WorkflowDoesNotExist(
        f"There is no workflow {quoted(workflow_id)} in app {app.app_id}. Those of clarifai/main cannot change."
    )


def _check_number(field: str, items: Sequence[Any]) -> None:
    if not items:
        raise WorkflowInvalid(f"{field} is empty; send at least one.")
    if len(items) > MAX_IN_ONE_CALL:
        raise WorkflowInvalid(f"{field} has {len(items)} items; send at most {MAX_IN_ONE_CALL} in one call.")


def _sent(workflow: resources_pb2.Workflow, where: str) -> dict[str, Any]:
    """The columns that a message sets; empty where it says nothing."""
    return {
        "description": plain_text(workflow.description, f"{where}.description"),
        "notes": plain_text(workflow.notes, f"{where}.notes"),
        "metadata": struct_to_json(workflow.metadata, WorkflowInvalid),
        "use_cases": [plain_text(text, f"{where}.use_cases") for text in workflow.use_cases],
        "image_url": plain_text(workflow.image.url, f"{where}.image.url"),
        "visibility": visibility_of(workflow.visibility, f"{where}.visibility"),
    }


def _patched(stored: Mapping[str, Any], workflow: resources_pb2.Workflow, action: Action, where: str) -> dict[str, Any]:
    """The columns after the patch."""
    sent = _sent(workflow, where)
    values = dict(stored)
    if action is Action.REMOVE:
        values["metadata"] = remove_json(stored["metadata"], sent["metadata"])
        values["use_cases"] = [text for text in stored["use_cases"] if text not in sent["use_cases"]]
        return values
    values |= {name: value for name, value in sent.items() if value}
    if action is Action.MERGE:
        values["metadata"] = merge_json(stored["metadata"], sent["metadata"])
        values["use_cases"] = list(dict.fromkeys([*stored["use_cases"], *sent["use_cases"]]))
    return values


def _patched_nodes(before: Sequence[_Node], sent: Sequence[_Node], action: Action) -> list[_Node]:
    named = {node.id: node for node in sent}
    if action is Action.OVERWRITE:
        return list(sent)
    if action is Action.REMOVE:
        known = {node.id for node in before}
        for name in named:
            if name not in known:
                raise WorkflowInvalid(f"The workflow has no node {name!r} to remove.")
        return [node for node in before if node.id not in named]
    kept = [named.pop(node.id, node) for node in before]
    return [*kept, *(node for node in sent if node.id in named)]
