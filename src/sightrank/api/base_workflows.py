"""Which workflow an app is to be indexed by: a public one, or one of the app's own (api-spec 5.6).

An own workflow does not index by itself. The models it names, or those its other nodes need, are those of a public one:
by that the app is indexed and searched, and the own one's further nodes run over what its models saw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clarifai_grpc.grpc.api import resources_pb2

from sightrank.api.catalogue import Catalogue, ModelCard, WorkflowCard
from sightrank.api.identity import ME, PUBLIC_APP, PUBLIC_USER
from sightrank.errors import WorkflowDoesNotExist, WorkflowInvalid, WorkflowNeedsModel
from sightrank.ingest.base_workflow import WantedWorkflow
from sightrank.store import queries
from sightrank.store.database import Connection
from sightrank.store.status import MODEL_TRAINED

_SQL = queries.load("ingest")
_MODELS = queries.load("models")


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchedApp:
    """An app whose workflow is to change, and what it has now."""

    user_id: str
    app_id: str
    bucket: int
    workflow_id: str
    own_workflow_id: str


class BaseWorkflows:
    """Finds out what an app has to be indexed by. ``base_workflow`` is what apps get that have not said."""

    def __init__(self, catalogue: Catalogue, *, base_workflow: str) -> None:
        self._catalogue = catalogue
        self._base_workflow = base_workflow

    def of_new_app(self, app: resources_pb2.App) -> str:
        """The workflow of an app that is being made, and so can have none of its own yet. Raises WorkflowDoesNotExist, or
        WorkflowNeedsModel where its model is not here."""
        named = app.default_workflow.id or app.default_workflow_id or self._base_workflow
        return self._catalogue.usable_workflow(named).id

    async def wanted(
        self, connection: Connection, app: PatchedApp, named: resources_pb2.Workflow, *, reindex: bool
    ) -> WantedWorkflow:
        """What the app asks for: the workflow named, or without a name the one it has. The caller holds the app's row.

        Raises WorkflowDoesNotExist (22102), WorkflowNeedsModel for a model that is not here, not trained or gone (22002),
        and WorkflowInvalid for an own workflow by whose models no app can be indexed.
        """
        own_id, card = await self._found(connection, app, named)
        return WantedWorkflow(
            id=card.id,
            own_id=own_id,
            indexes=card.embedder is not None,
            alike=app.workflow_id == card.id or self._catalogue.same_embedder(app.workflow_id, card.id),
            reindex=reindex,
        )

    async def _found(
        self, connection: Connection, app: PatchedApp, named: resources_pb2.Workflow
    ) -> tuple[str, WorkflowCard]:
        if not named.id:
            named = resources_pb2.Workflow(id=app.own_workflow_id or app.workflow_id)
            if not app.own_workflow_id:
                named.user_id, named.app_id = PUBLIC_USER, PUBLIC_APP
        whose = (named.user_id, named.app_id)
        may_be_own = named.user_id in ("", ME, app.user_id) and named.app_id in ("", app.app_id)
        may_be_public = named.user_id in ("", PUBLIC_USER) and named.app_id in ("", PUBLIC_APP)
        if not may_be_own and not may_be_public:
            raise WorkflowDoesNotExist(
                f"default_workflow is of {'/'.join(whose)}; an app can have a workflow of its own or one of"
                f" {PUBLIC_USER}/{PUBLIC_APP}."
            )
        nodes = await self._nodes(connection, app, named.id) if may_be_own else None
        if nodes is not None:
            return named.id, await self._base_of(connection, app, named.id, nodes)
        if not may_be_public:
            raise WorkflowDoesNotExist(f"App {app.app_id} has no workflow {named.id}; make it by PostWorkflows first.")
        return "", self._catalogue.usable_workflow(named.id)

    async def _nodes(
        self, connection: Connection, app: PatchedApp, workflow_id: str
    ) -> Sequence[resources_pb2.WorkflowNode] | None:
        """Those of the latest version of the app's own workflow; None where there is none of that id."""
        keys = {"bucket": app.bucket, "workflow_id": workflow_id}
        row = await (await connection.execute(_SQL["latest_nodes"], keys)).fetchone()
        return resources_pb2.WorkflowVersion.FromString(row[2]).nodes if row else None

    async def _base_of(
        self,
        connection: Connection,
        app: PatchedApp,
        workflow_id: str,
        nodes: Sequence[resources_pb2.WorkflowNode],
    ) -> WorkflowCard:
        public = []
        for node in nodes:
            card = await self._public_model(connection, app, workflow_id, node)
            if card is not None:
                public.append(card)
        return self._by_models(app, workflow_id, public)

    async def _public_model(
        self, connection: Connection, app: PatchedApp, workflow_id: str, node: resources_pb2.WorkflowNode
    ) -> ModelCard | None:
        """The node's model where that is a public one; None where it is one of the app's, which can run."""
        model = node.model
        if model.user_id != PUBLIC_USER:
            keys = {"bucket": app.bucket, "model_id": model.id, "version_id": model.model_version.id}
            row = await (await connection.execute(_MODELS["find"], keys)).fetchone()
            if row is not None:
                if row[3] != MODEL_TRAINED:
                    raise WorkflowNeedsModel(
                        f"Node {node.id} of workflow {workflow_id} needs model {model.id}, which is not trained yet;"
                        " train it by PostModelVersions first."
                    )
                return None
        card = self._catalogue.find_model(model.id)
        if card is None:
            raise WorkflowNeedsModel(
                f"Node {node.id} of workflow {workflow_id} needs model {model.id}, which is not there any more; patch the"
                " workflow, or make the model again."
            )
        return card

    def _by_models(self, app: PatchedApp, workflow_id: str, named: Sequence[ModelCard]) -> WorkflowCard:
        """The public workflow that runs all of these models and the fewest besides. Without any, the app stays with what it
        is indexed by, or gets what apps get that have not said, if that is nothing."""
        if not named:
            card = self._catalogue.usable_workflow(app.workflow_id)
            return card if card.embedder else self._catalogue.usable_workflow(self._base_workflow)
        ids = {card.id for card in named}
        able = [
            card
            for card in self._catalogue.workflows
            if not card.lacks and ids <= {model.id for model in card.models}
        ]
        if not able:
            raise WorkflowInvalid(
                f"Workflow {workflow_id} names the models {', '.join(sorted(ids))}, and no workflow of"
                f" {PUBLIC_USER}/{PUBLIC_APP} runs all of these: an app is indexed by one embedding model and at most one"
                " detector. Leave some of them out."
            )
        # The first of the smallest; the one the app has, if it is among them.
        return min(able, key=lambda card: (len(card.models), card.id != app.workflow_id))
