"""Nodes of workflows: checking what is posted, and showing what is stored (api-spec 5.6).

Stored nodes say whose model they name, and of what type it is. Installed models are stored without a version: only the
one that is installed can run, and it changes when sightrank does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from clarifai_grpc.grpc.api import resources_pb2

from sightrank.api.call import AppRef
from sightrank.api.catalogue import Catalogue, ModelCard, WorkflowCard
from sightrank.api.identity import ME, PUBLIC_APP, PUBLIC_USER
from sightrank.api.models import version_proto
from sightrank.api.predictions import read_config
from sightrank.errors import InvalidRequest, ModelDoesNotExist, WorkflowInvalid, WorkflowNeedsModel, quoted
from sightrank.store.status import MODEL_TRAINED
from sightrank.teach.graph import Node, check
from sightrank.teach.own_models import OwnModel
from sightrank.teach.own_workflows import nodes_of
from sightrank.teach.workbench import Workbench

MAX_NODES = 100
MAX_NODE_ID_CHARACTERS = 128
MAX_STORED_BYTES = 2**20
MAX_ID_CHARACTERS = 48  # the SDK makes ids of 36 and lets 48 through
_Node = resources_pb2.WorkflowNode


class NodeReader:
    """Checks posted nodes against the models that there are."""

    def __init__(self, catalogue: Catalogue, workbench: Workbench) -> None:
        self._catalogue = catalogue
        self._workbench = workbench

    async def read(self, app: AppRef, nodes: Sequence[_Node]) -> list[_Node]:
        """The nodes as they are stored.

        Raises WorkflowInvalid for nodes that lack something, ModelDoesNotExist for an unknown model or version,
        WorkflowNeedsModel for one that is not trained, and WorkflowGraphInvalid where nodes do not fit together.
        """
        if not nodes:
            raise WorkflowInvalid("The workflow has no nodes; send at least one, each with an id and a model.")
        if len(nodes) > MAX_NODES:
            raise WorkflowInvalid(f"The workflow has {len(nodes)} nodes; {MAX_NODES} is the limit.")
        stored = [await self._read(app, node, f"nodes[{i}]") for i, node in enumerate(nodes)]
        size = sum(node.ByteSize() for node in stored)
        if size > MAX_STORED_BYTES:
            raise WorkflowInvalid(
                f"The nodes of the workflow have {size} bytes together, most in output_info_override perhaps;"
                f" {MAX_STORED_BYTES} is the limit."
            )
        check(nodes_of(stored))
        return stored

    async def _read(self, app: AppRef, node: _Node, where: str) -> _Node:
        if not node.id or "\0" in node.id:
            raise WorkflowInvalid(f"{where} has no id that can be stored; other nodes name it by that.")
        if len(node.id) > MAX_NODE_ID_CHARACTERS:
            raise WorkflowInvalid(
                f"{where} has an id of {len(node.id)} characters; {MAX_NODE_ID_CHARACTERS} is the limit."
            )
        try:
            model = await self._model(app, node.model, f"{where}.model")
            read_config(node.output_info_override.output_config)
        except ModelDoesNotExist as error:
            raise ModelDoesNotExist(f"Node {node.id!r}: {error.details}") from error
        except InvalidRequest as error:
            raise WorkflowInvalid(f"Node {node.id!r}: {error.details}") from error
        stored = _Node(id=node.id, model=model, node_inputs=node.node_inputs, suppress_output=node.suppress_output)
        if node.HasField("output_info_override"):
            stored.output_info_override.CopyFrom(node.output_info_override)
        return stored

    async def _model(self, app: AppRef, named: resources_pb2.Model, where: str) -> resources_pb2.Model:
        """The model as nodes name it. An app's own comes before an installed one, unless the node says whose it is."""
        if not named.id or "\0" in named.id + named.model_version.id:
            raise WorkflowInvalid(f"{where} has no id that can be stored; ListModels names the models there are.")
        user_id, app_id = named.user_id, named.app_id
        public = user_id in ("", PUBLIC_USER) and app_id in ("", PUBLIC_APP)
        own = user_id in ("", ME, app.user_id) and app_id in ("", app.app_id)
        if not public and not own:
            raise WorkflowInvalid(
                f"{where} is of {user_id or app.user_id}/{app_id or app.app_id}; a workflow can have models of its own"
                f" app and of {PUBLIC_USER}/{PUBLIC_APP}."
            )
        found = await self._own(app, named) if own else None
        if found is not None:
            return _own_model(app, found, pinned=bool(named.model_version.id))
        if not public:
            raise ModelDoesNotExist(f"App {app.app_id} has no model {named.id}; make it by PostModels first.")
        card = self._catalogue.model(named.id, named.model_version.id)
        return resources_pb2.Model(id=card.id, user_id=PUBLIC_USER, app_id=PUBLIC_APP, model_type_id=card.type.value)

    async def _own(self, app: AppRef, named: resources_pb2.Model) -> OwnModel | None:
        version_id = named.model_version.id
        found = await self._workbench.find(app.bucket, named.id, version_id)
        if found is None:
            if version_id and await self._workbench.find(app.bucket, named.id):
                raise ModelDoesNotExist(
                    f"Model {named.id} has no version {quoted(version_id)}; ListModelVersions names those it has."
                )
            return None
        if found.status != MODEL_TRAINED:
            raise WorkflowNeedsModel(
                f"Model {named.id} is not trained (status {found.status}); train it by PostModelVersions first."
            )
        await self._workbench.check_graph(found)
        return found


def _own_model(app: AppRef, own: OwnModel, *, pinned: bool) -> resources_pb2.Model:
    model = resources_pb2.Model(id=own.id, user_id=app.user_id, app_id=app.app_id, model_type_id=own.type_id)
    if pinned:
        model.model_version.id = own.version_id
    return model


def card_nodes(card: WorkflowCard) -> tuple[Node, ...]:
    """Those of a public workflow: one for each model, side by side."""
    return tuple(Node(id=model.id, model_id=model.id, type_id=model.type.value, public=True) for model in card.models)


def workflow_proto(card: WorkflowCard) -> resources_pb2.Workflow:
    """A public workflow as clients see it."""
    return resources_pb2.Workflow(
        id=card.id,
        user_id=PUBLIC_USER,
        app_id=PUBLIC_APP,
        description=card.description,
        nodes=_card_nodes(card),
        version=card_version_proto(card),
        visibility=_PUBLIC,
    )


def card_version_proto(card: WorkflowCard) -> resources_pb2.WorkflowVersion:
    """The one version of a public workflow."""
    return resources_pb2.WorkflowVersion(
        id=card.version_id,
        workflow_id=card.id,
        user_id=PUBLIC_USER,
        app_id=PUBLIC_APP,
        nodes=_card_nodes(card),
        visibility=_PUBLIC,
    )


def shown_nodes(catalogue: Catalogue, nodes: Iterable[_Node]) -> list[_Node]:
    """Stored nodes as clients see them: installed models with their names and the version that runs."""
    shown = []
    for node in nodes:
        message = _Node()
        message.CopyFrom(node)
        card = catalogue.find_model(node.model.id) if node.model.user_id == PUBLIC_USER else None
        if card is not None:
            message.model.CopyFrom(_card_model(card))
        shown.append(message)
    return shown


def named_workflow_proto(
    catalogue: Catalogue, app: AppRef, workflow_id: str, version_id: str, nodes: Iterable[_Node]
) -> resources_pb2.Workflow:
    """An app's workflow as results name it."""
    shown = shown_nodes(catalogue, nodes)
    return resources_pb2.Workflow(
        id=workflow_id,
        user_id=app.user_id,
        app_id=app.app_id,
        nodes=shown,
        version=resources_pb2.WorkflowVersion(
            id=version_id, workflow_id=workflow_id, user_id=app.user_id, app_id=app.app_id, nodes=shown
        ),
    )


_PUBLIC = resources_pb2.Visibility(gettable=resources_pb2.Visibility.Gettable.PUBLIC)


def _card_nodes(card: WorkflowCard) -> list[_Node]:
    """The concept model first: clients read ``outputs[0]`` (api-spec 5.6)."""
    return [_Node(id=model.id, model=_card_model(model)) for model in card.models]


def _card_model(card: ModelCard) -> resources_pb2.Model:
    return resources_pb2.Model(
        id=card.id,
        name=card.name,
        user_id=PUBLIC_USER,
        app_id=PUBLIC_APP,
        model_type_id=card.type.value,
        model_version=version_proto(card),
    )
