"""Which workflow an app is to be indexed by: a public one, or one of the app's own (api-spec 5.6).

An own workflow does not index by itself. The models it names are those of a public one: by that the app is indexed and
searched, and the own one's other nodes run over what its models saw (``ingest.annotator``).
"""

from __future__ import annotations

from dataclasses import dataclass

from clarifai_grpc.grpc.api import resources_pb2

from sightrank.api.catalogue import Catalogue, WorkflowCard
from sightrank.api.identity import ME, PUBLIC_APP, PUBLIC_USER
from sightrank.errors import (
    ModelDoesNotExist,
    ModelNotTrained,
    WorkflowDoesNotExist,
    WorkflowInvalid,
    WorkflowNeedsModel,
)
from sightrank.ingest.base_workflow import WantedWorkflow
from sightrank.store import queries
from sightrank.store.database import Connection, Database, TryAgain
from sightrank.store.status import MODEL_TRAINED
from sightrank.teach.graph import Node
from sightrank.teach.own_models import OwnModel
from sightrank.teach.own_workflows import OwnWorkflow, OwnWorkflows
from sightrank.teach.steps import Step
from sightrank.teach.workbench import Workbench

_SQL = queries.load("apps")
_NAMED = 20  # own workflows, the latest, in a message


@dataclass(frozen=True, slots=True, kw_only=True)
class AppNow:
    """An app and the workflows it has."""

    user_id: str
    app_id: str
    bucket: int
    workflow_id: str
    own_workflow_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A workflow that ``app`` can have: ``card`` indexes, ``own_id`` names the app's own one, '' for none."""

    app: AppNow
    own_id: str
    card: WorkflowCard


class BaseWorkflows:
    """Finds out what an app is to be indexed by. ``base_workflow`` is what apps get that do not say."""

    def __init__(self, database: Database, catalogue: Catalogue, workbench: Workbench, *, base_workflow: str) -> None:
        self._database = database
        self._catalogue = catalogue
        self._workbench = workbench
        self._workflows = OwnWorkflows(database)
        self._base_workflow = base_workflow

    async def check(self, app: AppNow, named: resources_pb2.Workflow) -> Checked:
        """The workflow named, or the one the app has where ``named`` is empty.

        Raises WorkflowDoesNotExist (22102), WorkflowNeedsModel for a model that is gone, not installed here or not
        trained (22002), WorkflowInvalid for an own workflow by whose models no app can be indexed (22104).
        """
        if not named.id:
            named = _present(app)
        may_be_own = named.user_id in ("", ME, app.user_id) and named.app_id in ("", app.app_id)
        may_be_public = named.user_id in ("", PUBLIC_USER) and named.app_id in ("", PUBLIC_APP)
        if not may_be_own and not may_be_public:
            raise WorkflowDoesNotExist(
                f"default_workflow is of {named.user_id or app.user_id}/{named.app_id}; an app can have a workflow of"
                f" its own or one of {PUBLIC_USER}/{PUBLIC_APP}."
            )
        own = await self._workflows.find(app.bucket, named.id) if may_be_own and "\0" not in named.id else None
        if own is not None:
            card = self._indexing(app, own)
            await self._check_can_run(app, own, card)
            return Checked(app=app, own_id=own.id, card=card)
        if not may_be_public:
            raise WorkflowDoesNotExist(f"App {app.app_id} has no workflow {named.id}; make it by PostWorkflows first.")
        try:
            return Checked(app=app, own_id="", card=self._catalogue.usable_workflow(named.id))
        except WorkflowDoesNotExist as error:
            keys = {"bucket": app.bucket, "limit": _NAMED}
            names = [name for (name,) in await self._database.rows(_SQL["own_workflows"], keys)] if may_be_own else []
            if not names:
                raise
            raise WorkflowDoesNotExist(f"{error.details} App {app.app_id} has {', '.join(names)}.") from error

    async def wanted(self, connection: Connection, checked: Checked, now: AppNow, *, reindex: bool) -> WantedWorkflow:
        """What the app asks for; the caller holds its row. Raises TryAgain where its workflows changed since it was
        checked."""
        if now != checked.app:
            raise TryAgain
        if checked.own_id:
            keys = {"bucket": now.bucket, "id": checked.own_id}
            if await (await connection.execute(_SQL["has_own_workflow"], keys)).fetchone() is None:
                raise TryAgain
        card = checked.card
        return WantedWorkflow(
            id=card.id,
            own_id=checked.own_id,
            indexes=card.embedder is not None,
            alike=now.workflow_id == card.id or self._catalogue.same_embedder(now.workflow_id, card.id),
            reindex=reindex,
        )

    def _indexing(self, app: AppNow, own: OwnWorkflow) -> WorkflowCard:
        """The public workflow that runs all of the public models named and the fewest besides. Where none is named, the
        one that the app has; where that indexes nothing, the one that apps get that do not say."""
        ids = {self._public_id(own, node) for node in own.nodes if node.public}
        if not ids:
            card = self._catalogue.usable_workflow(app.workflow_id)
            return card if card.embedder else self._catalogue.usable_workflow(self._base_workflow)
        able = [
            card for card in self._catalogue.workflows if not card.lacks and ids <= {model.id for model in card.models}
        ]
        if not able:
            raise WorkflowInvalid(
                f"Workflow {own.id} names the models {', '.join(sorted(ids))}, and no workflow of {PUBLIC_USER}/"
                f"{PUBLIC_APP} runs all of these: an app is indexed by one embedding model and at most one detector."
                " Leave some of them out."
            )
        return min(able, key=lambda card: (len(card.models), card.id != app.workflow_id))

    def _public_id(self, own: OwnWorkflow, node: Node) -> str:
        card = self._catalogue.find_model(node.model_id)
        if card is None:
            raise WorkflowNeedsModel(
                f"Node {node.id} of workflow {own.id} needs the model {node.model_id}, which is not installed here."
                " Install it and start the server again, or patch the workflow."
            )
        return card.of_embedder or card.id

    async def _check_can_run(self, app: AppNow, own: OwnWorkflow, card: WorkflowCard) -> None:
        try:
            models = await self._workbench.models(app.bucket, own.nodes)
            steps = {name: await self._step(app, card, model) for name, model in models.items()}
        except (ModelDoesNotExist, ModelNotTrained) as error:
            raise WorkflowNeedsModel(f"Workflow {own.id} cannot run: {error.details}") from error
        try:
            await self._workbench.check_writers(steps.values())
        except WorkflowInvalid as error:
            raise WorkflowInvalid(f"Workflow {own.id} cannot run: {error.details}") from error

    async def _step(self, app: AppNow, card: WorkflowCard, model: OwnModel) -> Step:
        try:
            return await self._workbench.own_step(card.id, model)
        except ModelNotTrained as error:
            if model.status == MODEL_TRAINED and app.workflow_id != card.id:
                raise ModelNotTrained(
                    f"Model {model.id!r} knows the vectors of {app.workflow_id} only. Patch the app to {card.id} first:"
                    " when it has changed over, its models know the new ones."
                ) from error
            raise


def _present(app: AppNow) -> resources_pb2.Workflow:
    """What the app has, as a patch would name it."""
    if app.own_workflow_id:
        return resources_pb2.Workflow(id=app.own_workflow_id, app_id=app.app_id, user_id=app.user_id)
    return resources_pb2.Workflow(id=app.workflow_id, app_id=PUBLIC_APP, user_id=PUBLIC_USER)
