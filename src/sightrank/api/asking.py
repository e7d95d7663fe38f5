"""What a call for predictions asks: the nodes that run, and how the answer of each is shaped (api-spec 5.3, 5.6).

A single model is a workflow of one node: public models, models of apps and nodes of workflows take the same way.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from clarifai_grpc.grpc.api import resources_pb2
from clarifai_grpc.grpc.api.status import status_pb2

from sightrank.api.call import AppRef, Call
from sightrank.api.catalogue import Catalogue, ModelType
from sightrank.api.datasets import public_only
from sightrank.api.models import model_proto
from sightrank.api.predictions import Wanted, over, read_config, selected_ids
from sightrank.errors import ModelDoesNotExist, ModelInvalidArgument, WorkflowDoesNotExist, quoted
from sightrank.store import queries
from sightrank.store.database import Database
from sightrank.teach.graph import Node, ordered, sees_input
from sightrank.teach.own_models import OwnModel
from sightrank.teach.own_workflows import OwnWorkflow, OwnWorkflows
from sightrank.teach.steps import Finds, Looks, Step
from sightrank.teach.workbench import Workbench
from sightrank.vision.eye import Eye

_SQL = queries.load("workflows")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Asked:
    """One node that is answered for. ``known``: the concepts it predicts by id and English name, those of an app by
    their ids alone; None for a node that passes on what others predict. ``ids``: of which concepts an answer can be,
    where that is plain at once; None: of any.
    """

    node_id: str
    model: resources_pb2.Model
    wanted: Wanted
    known: Sequence[tuple[str, str]] | None
    public: bool
    ids: frozenset[str] | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """All nodes in the order they run, what each does, and those that are answered for, in the order of outputs."""

    nodes: tuple[Node, ...]
    steps: Mapping[str, Step]
    asked: tuple[Asked, ...]

    @property
    def sample_ms(self) -> int:
        """How often a video is looked at; 0 is how often the app says."""
        return next((asked.wanted.sample_ms for asked in self.asked if asked.wanted.sample_ms), 0)

    @property
    def detecting(self) -> tuple[Eye, ...]:
        """The eyes that look for regions in the whole of the input."""
        finding = [self.steps[node.id] for node in self.nodes if not node.inputs]
        return tuple(dict.fromkeys(step.eye for step in finding if isinstance(step, Finds)))

    @property
    def eyes(self) -> tuple[Eye, ...]:
        """Those that see the input, one at least."""
        return tuple(dict.fromkeys(step.eye for step in self.steps.values() if isinstance(step, Finds | Looks)))

    @property
    def reads(self) -> bool:
        """Whether a text will do as input: all that look read, and none of them is a tagger of pictures."""
        reading = [
            step.eye.reads and (not node.public or node.type_id == ModelType.MULTIMODAL_EMBEDDER.value)
            for node, step in ((node, self.steps[node.id]) for node in self.nodes)
            if isinstance(step, Looks)
        ]
        return bool(reading) and all(reading) and not self.detecting


class Asking:
    """Finds models and workflows, an app's own before those of clarifai/main, and what their nodes do."""

    def __init__(self, catalogue: Catalogue, database: Database, workbench: Workbench) -> None:
        self._catalogue = catalogue
        self._database = database
        self._workbench = workbench
        self._workflows = OwnWorkflows(database)

    async def model(self, call: Call, model_id: str, version_id: str, config: resources_pb2.OutputConfig) -> Plan:
        """Raises ModelDoesNotExist, ModelNotTrained, WorkflowNeedsModel, and ModelInvalidArgument for an operator,
        which has nothing to work on by itself.
        """
        app = call.require_app()
        own = await self._own(call, model_id, version_id)
        if own is None:
            card = self._catalogue.model(model_id, version_id)
            node = Node(id=card.id, model_id=card.id, type_id=card.type.value, public=True)
            step = self._workbench.public_step(card.id)
            return Plan(nodes=(node,), steps={node.id: step}, asked=(self._public(app, node, config),))
        node = Node(id=own.id, model_id=own.id, version_id=own.version_id, type_id=own.type_id)
        if not sees_input(node):
            raise ModelInvalidArgument(
                f"Model {own.id!r} is of type {own.type_id} and works on what other models say; ask a workflow that"
                " has it behind them."
            )
        step = await self._workbench.own_step(app.workflow_id, own)
        asked = _owned(app, node, own, (await self._output_configs([own])).get(own.version_id), config)
        return Plan(nodes=(node,), steps={node.id: step}, asked=(asked,))

    async def workflow(
        self,
        app: AppRef,
        nodes: Sequence[Node],
        config: resources_pb2.OutputConfig,
        overrides: Mapping[str, resources_pb2.OutputConfig],
        workflow: OwnWorkflow | None = None,
    ) -> Plan:
        """``overrides``: what nodes say of their outputs, by node id; ``workflow``: the app's own that they are of.

        Raises ModelDoesNotExist, WorkflowNeedsModel, and TryAgain where models of ``workflow`` got other ids meanwhile.
        """
        models = await self._workbench.models_of(workflow) if workflow is not None else {}
        steps = await self._workbench.steps_of(app.workflow_id, nodes, models)
        configs = await self._output_configs(models.values())
        asked = []
        for node in nodes:
            if not node.suppressed:
                own, override = models.get(node.id), overrides.get(node.id, resources_pb2.OutputConfig())
                asked.append(
                    self._public(app, node, over(override, config))
                    if own is None
                    else _owned(app, node, own, configs.get(own.version_id), override, config)
                )
        return Plan(nodes=ordered(nodes), steps=steps, asked=tuple(asked))

    async def own_workflow(self, call: Call, workflow_id: str, version_id: str) -> OwnWorkflow | None:
        """The app's workflow in that version, else in its latest; None where it has none that the caller may see.

        Raises WorkflowDoesNotExist for another version.
        """
        app = call.require_app()
        found = await self._workflows.find(app.bucket, workflow_id, version_id)
        known = found or (await self._workflows.find(app.bucket, workflow_id) if version_id else None)
        if known is None or not _visible(call, known.visibility):
            return None
        if found is None:
            raise WorkflowDoesNotExist(
                f"Workflow {workflow_id} has no version {quoted(version_id)}; ListWorkflowVersions names those it has."
            )
        return found

    async def _own(self, call: Call, model_id: str, version_id: str) -> OwnModel | None:
        app = call.require_app()
        found = await self._workbench.find(app.bucket, model_id, version_id)
        known = found or (await self._workbench.find(app.bucket, model_id) if version_id else None)
        if known is None or not _visible(call, known.visibility):
            return None
        if found is None:
            raise ModelDoesNotExist(
                f"Model {model_id} has no version {quoted(version_id)}; ListModelVersions names those it has."
            )
        return found

    def _public(self, app: AppRef, node: Node, config: resources_pb2.OutputConfig) -> Asked:
        card = self._catalogue.model(node.model_id)
        wanted = _wanted(app, config)
        known = [(term.id, term.name) for term in card.concepts] if len(card.concepts) else None
        return Asked(
            node_id=node.id,
            model=model_proto(card),
            wanted=wanted,
            known=known,
            public=True,
            ids=selected_ids(wanted, known),
        )

    async def _output_configs(self, models: Collection[OwnModel]) -> dict[str, resources_pb2.OutputConfig]:
        """How the versions of these models, of one app, were posted to answer, by version id."""
        if not models:
            return {}
        keys = {
            "bucket": next(iter(models)).bucket,
            "version_ids": sorted({own.version_id for own in models}),
        }
        return {
            id: resources_pb2.ModelVersion.FromString(message).output_info.output_config
            for id, message in await self._database.rows(_SQL["version_messages"], keys)
        }


def _owned(
    app: AppRef,
    node: Node,
    own: OwnModel,
    posted: resources_pb2.OutputConfig | None,
    *configs: resources_pb2.OutputConfig,
) -> Asked:
    """``posted``: how the version was posted to answer; what ``configs`` set comes before it."""
    wanted = _wanted(app, over(posted or resources_pb2.OutputConfig(), *configs))
    return Asked(
        node_id=node.id,
        model=own_model_proto(app, own),
        wanted=wanted,
        known=[(id, id) for id in own.concept_ids] if sees_input(node) and own.concept_ids else None,
        public=False,
        ids=selected_ids(wanted, None),
    )


def own_model_proto(app: AppRef, own: OwnModel) -> resources_pb2.Model:
    """An app's model as outputs name it."""
    return resources_pb2.Model(
        id=own.id,
        name=own.name,
        user_id=app.user_id,
        app_id=app.app_id,
        model_type_id=own.type_id,
        model_version=resources_pb2.ModelVersion(
            id=own.version_id,
            user_id=app.user_id,
            app_id=app.app_id,
            active_concept_count=len(own.concept_ids),
            status=status_pb2.Status(code=own.status, description="Model is trained and ready for deployment"),
        ),
    )


def _visible(call: Call, visibility: int) -> bool:
    return not public_only(call) or visibility == resources_pb2.Visibility.Gettable.PUBLIC


def _wanted(app: AppRef, config: resources_pb2.OutputConfig) -> Wanted:
    """Names come in the language asked for, else in the app's own."""
    return read_config(over(resources_pb2.OutputConfig(language=app.default_language), config))
