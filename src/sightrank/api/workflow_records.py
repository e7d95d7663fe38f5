"""Rows of workflows and of their versions, and the messages made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from clarifai_grpc.grpc.api import resources_pb2

from sightrank.api.call import AppRef
from sightrank.api.catalogue import Catalogue
from sightrank.api.workflow_nodes import shown_nodes


class VersionRow(NamedTuple):
    """Columns of the statement ``read_versions`` in workflows.sql."""

    id: str
    workflow_id: str
    nodes: bytes
    description: str
    license: str
    metadata: Mapping[str, Any]
    visibility: resources_pb2.Visibility.Gettable.ValueType
    is_deprecated: bool
    created_at: datetime
    modified_at: datetime


class WorkflowRow(NamedTuple):
    """Columns of the statements ``read`` and ``list``, up to those of the latest version."""

    id: str
    description: str
    notes: str
    metadata: Mapping[str, Any]
    use_cases: Sequence[str]
    image_url: str
    visibility: resources_pb2.Visibility.Gettable.ValueType
    created_at: datetime
    modified_at: datetime


def own_workflow_proto(catalogue: Catalogue, app: AppRef, columns: Sequence[Any]) -> resources_pb2.Workflow:
    """A row of ``read`` or ``list``: a workflow, and its latest version."""
    count = len(WorkflowRow._fields)
    row = WorkflowRow(*columns[:count])
    version = own_version_proto(catalogue, app, VersionRow(*columns[count:]))
    workflow = resources_pb2.Workflow(
        id=row.id,
        user_id=app.user_id,
        app_id=app.app_id,
        description=row.description,
        notes=row.notes,
        use_cases=row.use_cases,
        nodes=version.nodes,
        version=version,
        visibility=resources_pb2.Visibility(gettable=row.visibility),
    )
    if row.image_url:
        workflow.image.url = row.image_url
    workflow.metadata.update(row.metadata)
    workflow.created_at.FromDatetime(row.created_at)
    workflow.modified_at.FromDatetime(max(row.modified_at, version.created_at.ToDatetime(row.modified_at.tzinfo)))
    return workflow


def own_version_proto(catalogue: Catalogue, app: AppRef, row: VersionRow) -> resources_pb2.WorkflowVersion:
    """A version with its nodes."""
    version = resources_pb2.WorkflowVersion(
        id=row.id,
        workflow_id=row.workflow_id,
        user_id=app.user_id,
        app_id=app.app_id,
        description=row.description,
        license=row.license,
        is_deprecated=row.is_deprecated,
        nodes=shown_nodes(catalogue, resources_pb2.WorkflowVersion.FromString(row.nodes).nodes),
        visibility=resources_pb2.Visibility(gettable=row.visibility),
    )
    version.metadata.update(row.metadata)
    version.created_at.FromDatetime(row.created_at)
    version.modified_at.FromDatetime(row.modified_at)
    return version
