"""The workflows of an app as whoever runs them sees them: which version, with which nodes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from clarifai_grpc.grpc.api import resources_pb2

from sightrank.errors import AppError
from sightrank.store import queries
from sightrank.store.database import Database, TryAgain
from sightrank.teach.graph import Node

_SQL = queries.load("workflows")


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnWorkflow:
    """A workflow of an app in one of its versions; ``nodes`` in the order of its outputs, ``stored`` the same as a
    WorkflowVersion in protobuf's own bytes, ``visibility`` as the API numbers it.
    """

    bucket: int
    id: str
    version_id: str
    nodes: tuple[Node, ...]
    stored: bytes
    visibility: int


class OwnWorkflows:
    """Workflows of apps, read anew each time: small rows by their key."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, bucket: int, workflow_id: str, version_id: str = "") -> OwnWorkflow | None:
        """The workflow in that version, else in its latest; None where there is none."""
        parameters = {"bucket": bucket, "workflow_id": workflow_id, "version_id": version_id}
        row = await self._database.row(_SQL["nodes"], parameters)
        if row is None:
            return None
        found_id, stored, visibility = row
        return OwnWorkflow(
            bucket=bucket,
            id=workflow_id,
            version_id=found_id,
            nodes=nodes_of(resources_pb2.WorkflowVersion.FromString(stored).nodes),
            stored=bytes(stored),
            visibility=visibility,
        )

    @asynccontextmanager
    async def as_read(self, *workflows: OwnWorkflow) -> AsyncIterator[None]:
        """What the block finds out about the models of these workflows is of theirs. Raises TryAgain, also in place of
        what the block raises, where one has got another id since the workflow was read: what has the former one now
        may be another model.
        """
        failed = None
        try:
            yield
        except AppError as error:
            failed = error
        for workflow in workflows:
            if await self.names_others(workflow):
                raise TryAgain
        if failed is not None:
            raise failed

    async def names_others(self, workflow: OwnWorkflow) -> bool:
        """Whether the version names other models than when it was read: one of them has got another id."""
        keys = {"bucket": workflow.bucket, "version_id": workflow.version_id, "stored": workflow.stored}
        return await self._database.row(_SQL["names_others"], keys) == (True,)


def nodes_of(messages: Iterable[resources_pb2.WorkflowNode]) -> tuple[Node, ...]:
    """Nodes whose models are named as stored: with their type, and those installed with clarifai/main as their app."""
    return tuple(
        Node(
            id=message.id,
            model_id=message.model.id,
            version_id=message.model.model_version.id,
            type_id=message.model.model_type_id,
            public=(message.model.user_id, message.model.app_id) == ("clarifai", "main"),
            inputs=tuple(dict.fromkeys(each.node_id for each in message.node_inputs)),
            suppressed=message.suppress_output,
        )
        for message in messages
    )
