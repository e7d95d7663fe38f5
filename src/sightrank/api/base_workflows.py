"""Which workflow an app is to be indexed by: a public one, or one of the app's own (api-spec 5.6).

An own workflow does not index by itself. The models it names are those of a public one: by that the app is indexed and
searched, and the own one's other nodes run over what its models saw (``ingest.annotator``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clarifai_grpc.grpc.api import resources_pb2

from sightrank.api.catalogue import Catalogue, ModelType, WorkflowCard
from sightrank.api.identity import ME, PUBLIC_APP, PUBLIC_USER
from sightrank.errors import (
    DoesNotExist,
    ModelDoesNotExist,
    ModelNotTrained,
    WorkflowDoesNotExist,
    WorkflowInvalid,
    WorkflowNeedsModel,
)
from sightrank.ingest.base_workflow import WantedWorkflow, want_workflow
from sightrank.store import queries
from sightrank.store.database import Connection, Database, TryAgain
from sightrank.store.status import MODEL_TRAINED
from sightrank.teach.graph import Node
from sightrank.teach.own_models import OwnModel
from sightrank.teach.own_workflows import OwnWorkflows
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
    """A workflow that ``app`` can have: ``card`` indexes, ``own_id`` names the app's own one, '' for none, and
    ``version_id`` the version of it that was looked at, '' where it is yet to be made."""

    app: AppNow
    own_id: str
    card: WorkflowCard
    version_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherNodes:
    """What other nodes of an app's workflows mean for it: ``checked`` is what it is to be indexed by then, None where
    they are no concern of it. ``wanted``: by what, (public, own), it is to be indexed anyway; None where nothing is
    under way.
    """

    app: AppNow
    wanted: tuple[str, str] | None
    checked: Checked | None = None


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
        trained (22002), WorkflowInvalid for an own workflow by whose models no app can be indexed (22104), and TryAgain
        where they got other ids meanwhile.
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
            async with self._workflows.as_read(own):
                card = await self._card_of(app, own.id, own.nodes)
            return Checked(app=app, own_id=own.id, card=card, version_id=own.version_id)
        if not may_be_public:
            raise WorkflowDoesNotExist(f"App {app.app_id} has no workflow {named.id}; make it by PostWorkflows first.")
        try:
            return Checked(app=app, own_id="", card=self._catalogue.usable_workflow(named.id))
        except WorkflowDoesNotExist as error:
            raise WorkflowDoesNotExist(error.details + await self._own_ones(app, named.id, may_be_own)) from error

    async def _own_ones(self, app: AppNow, workflow_id: str, may_be_own: bool) -> str:
        """What to say of the app's own workflows when there is no public one of that id."""
        keys = {"bucket": app.bucket, "limit": _NAMED}
        names = [name for (name,) in await self._database.rows(_SQL["own_workflows"], keys)]
        if may_be_own:
            return f" App {app.app_id!r} has {', '.join(names)}." if names else ""
        if "\0" in workflow_id or await self._workflows.find(app.bucket, workflow_id) is None:
            return ""
        return f" App {app.app_id!r} has one of that id: name it by default_workflow_id."

    async def wanted(self, connection: Connection, checked: Checked, now: AppNow, *, reindex: bool) -> WantedWorkflow:
        """What the app asks for; the caller holds its row. Raises TryAgain where its workflows changed since it was
        checked."""
        if now != checked.app:
            raise TryAgain
        if checked.own_id:
            keys = {"bucket": now.bucket, "id": checked.own_id}
            latest = await (await connection.execute(_SQL["latest_version"], keys)).fetchone()
            if latest is None or latest[0] != checked.version_id:
                raise TryAgain
        return self._wanted(checked, reindex=reindex)

    async def other_nodes(self, bucket: int, nodes: Mapping[str, Sequence[Node]]) -> OtherNodes:
        """Whether workflows of an app, by id, can get these nodes: those by which it is indexed only as far as
        PatchApps would take them.

        Raises WorkflowInvalid and WorkflowNeedsModel as ``check`` does.
        """
        now, wanted = _bases(await self._database.row(_SQL["bases"], {"bucket": bucket}))
        next_id = now.own_workflow_id if wanted is None else wanted[1]
        checked = None
        for own_id in {now.own_workflow_id, next_id} & nodes.keys():
            try:
                card = await self._card_of(now, own_id, nodes[own_id])
                if own_id == next_id:
                    checked = Checked(app=now, own_id=own_id, card=card)
                elif not self._alike(now, card):
                    assert wanted is not None, "who has another workflow next is being re-indexed"
                    raise WorkflowInvalid(
                        f"they need an index by {card.id}, and the app is on its way to {wanted[1] or wanted[0]}"
                        f" (GetApp says how far it is). Wait until it is there, or patch the app to {own_id} first."
                    )
            except (WorkflowInvalid, WorkflowNeedsModel) as error:
                raise type(error)(
                    f"App {now.app_id} has {own_id} as its base workflow, which cannot get these nodes: {error.details}"
                ) from error
        return OtherNodes(app=now, wanted=wanted, checked=checked)

    async def take_over(self, connection: Connection, other: OtherNodes) -> None:
        """Has the app re-indexed where its base workflow, with the nodes checked, needs that.

        The nodes come in the same transaction, and other workflows of the app are locked after this. A re-index that is
        under way for that workflow starts anew. Raises TryAgain where the app's workflows changed since.
        """
        keys = {"bucket": other.app.bucket}
        await connection.execute(_SQL["lock_bases"], keys)
        row = await (await connection.execute(_SQL["bases"], keys)).fetchone()
        if _bases(row) != (other.app, other.wanted):
            raise TryAgain
        if other.checked is None or (other.wanted is None and self._alike(other.app, other.checked.card)):
            return
        current = (other.app.workflow_id, other.app.own_workflow_id)
        wanted = self._wanted(other.checked, reindex=other.wanted is not None)
        workflow_id, own_id = await want_workflow(connection, other.app.bucket, current, wanted)
        await connection.execute(_SQL["set_workflows"], {**keys, "workflow": workflow_id, "own_workflow": own_id})

    def _wanted(self, checked: Checked, *, reindex: bool) -> WantedWorkflow:
        card = checked.card
        return WantedWorkflow(
            id=card.id,
            own_id=checked.own_id,
            indexes=card.embedder is not None,
            alike=self._alike(checked.app, card),
            reindex=reindex,
        )

    def _alike(self, app: AppNow, card: WorkflowCard) -> bool:
        return app.workflow_id == card.id or self._catalogue.same_embedder(app.workflow_id, card.id)

    async def _card_of(self, app: AppNow, own_id: str, nodes: Sequence[Node]) -> WorkflowCard:
        """The public workflow by which the app would be indexed. Raises what ``check`` does of own workflows."""
        card = self._indexing(app, own_id, nodes)
        await self._check_can_run(app, own_id, nodes, card)
        return card

    def _indexing(self, app: AppNow, own_id: str, nodes: Sequence[Node]) -> WorkflowCard:
        """The public workflow that runs all public models named and the fewest besides. Where none is named, the
        one that the app has; where that indexes nothing, the one that apps get that do not say."""
        for node in nodes:
            if node.type_id == ModelType.DETECTOR.value and node.inputs:
                raise WorkflowInvalid(
                    f"Node {node.id} of workflow {own_id} looks in what {', '.join(node.inputs)} finds, which is for"
                    " predictions (PostWorkflowResults): an app is indexed by the regions of one detector. Leave it"
                    " out, or leave its node_inputs out."
                )
        ids = {self._public_id(own_id, node) for node in nodes if node.public}
        if not ids:
            card = self._catalogue.usable_workflow(app.workflow_id)
            return card if card.embedder else self._catalogue.usable_workflow(self._base_workflow)
        able = [
            card for card in self._catalogue.workflows if not card.lacks and ids <= {model.id for model in card.models}
        ]
        if not able:
            raise WorkflowInvalid(
                f"Workflow {own_id} names the models {', '.join(sorted(ids))}, and no workflow of {PUBLIC_USER}/"
                f"{PUBLIC_APP} runs all of these: an app is indexed by one embedding model and at most one detector."
                " Leave some of them out."
            )
        return min(able, key=lambda card: (len(card.models), card.id != app.workflow_id))

    def _public_id(self, own_id: str, node: Node) -> str:
        card = self._catalogue.find_model(node.model_id)
        if card is None:
            raise WorkflowNeedsModel(
                f"Node {node.id} of workflow {own_id} needs the model {node.model_id}, which is not installed here."
                " Install it and start the server again, or patch the workflow."
            )
        return card.of_embedder or card.id

    async def _check_can_run(self, app: AppNow, own_id: str, nodes: Sequence[Node], card: WorkflowCard) -> None:
        try:
            models = await self._workbench.models(app.bucket, nodes)
            steps = {name: await self._step(app, card, model) for name, model in models.items()}
        except (ModelDoesNotExist, ModelNotTrained) as error:
            raise WorkflowNeedsModel(f"Workflow {own_id} cannot run: {error.details}") from error
        try:
            await self._workbench.check_writers(steps.values())
        except WorkflowInvalid as error:
            raise WorkflowInvalid(f"Workflow {own_id} cannot run: {error.details}") from error

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


def _bases(row: Sequence[Any] | None) -> tuple[AppNow, tuple[str, str] | None]:
    """An app, and what it is being re-indexed for. Raises DoesNotExist when it is gone."""
    if row is None:
        raise DoesNotExist("The app was deleted.")
    user_id, app_id, bucket, workflow_id, own_workflow_id, next_id, next_own_id = row
    now = AppNow(
        user_id=user_id, app_id=app_id, bucket=bucket, workflow_id=workflow_id, own_workflow_id=own_workflow_id
    )
    return now, None if next_id is None else (next_id, next_own_id)


def _present(app: AppNow) -> resources_pb2.Workflow:
    """What the app has, as a patch would name it."""
    if app.own_workflow_id:
        return resources_pb2.Workflow(id=app.own_workflow_id, app_id=app.app_id, user_id=app.user_id)
    return resources_pb2.Workflow(id=app.workflow_id, app_id=PUBLIC_APP, user_id=PUBLIC_USER)
