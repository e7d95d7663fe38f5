"""From models to what they do: the steps of workflows, and those of single predictions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sightrank.errors import (
    ModelBeingTrained,
    ModelDoesNotExist,
    ModelNotTrained,
    WorkflowInvalid,
    WorkflowNeedsModel,
    quoted,
)
from sightrank.search.concepts import ConceptBook
from sightrank.search.fits import Fits
from sightrank.store import queries
from sightrank.store.database import Database
from sightrank.store.status import MODEL_TRAINED, MODEL_UNTRAINED
from sightrank.store.vectors import EmbedderTable
from sightrank.teach.graph import Node
from sightrank.teach.neighbours import Neighbours
from sightrank.teach.own_models import OwnModel, OwnModels
from sightrank.teach.own_workflows import OwnWorkflow, OwnWorkflows
from sightrank.teach.steps import Changes, Crops, Finds, Looks, Step, Vectors, Writes
from sightrank.vision.concept_model import ConceptModel
from sightrank.vision.eye import Eye
from sightrank.vision.operators import (
    Labelled,
    Said,
    clusters,
    mapped,
    neighbours,
    threshold,
)
from sightrank.vision.tagger import Tagger

_BEING_TRAINED = {
    21101: "is being trained; wait until its version has the status 21100",
    21103: "waits for its training; wait until its version has the status 21100",
}
#: Areas that are compared with a picture in a thread: within a millisecond, fewer are done with.
_MANY_LABELLED = 2000
_SQL = queries.load("workflows")
_ANNOTATIONS = queries.load("annotations")
_RELATIONS = queries.load("relations")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PublicModel:
    """An installed model: its API type, and the eye that runs it."""

    id: str
    type_id: str
    eye: Eye


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Space:
    """What sees for the apps of a base workflow, and where their vectors are."""

    eye: Eye
    table: EmbedderTable


class Workbench:
    """``public``: installed models by id. ``spaces``: by id of public workflow; those that embed nothing have none."""

    def __init__(
        self,
        database: Database,
        book: ConceptBook,
        fits: Fits,
        public: Mapping[str, PublicModel],
        spaces: Mapping[str, Space],
    ) -> None:
        self._database = database
        self._models = OwnModels(database)
        self._workflows = OwnWorkflows(database)
        self._fits = fits
        self._neighbours = Neighbours(database, book)
        self._public = public
        self._spaces = spaces

    async def models(self, bucket: int, nodes: Sequence[Node]) -> dict[str, OwnModel]:
        """The app's models among those of these nodes, by node id. Raises ModelDoesNotExist."""
        own = [node for node in nodes if not node.public]
        there = await self._models.find_all(bucket, [(node.model_id, node.version_id) for node in own])
        found = {}
        for node in own:
            model = there.get((node.model_id, node.version_id))
            if model is None:
                wanted = (
                    f"{node.model_id!r} in version {node.version_id!r}" if node.version_id else f"{node.model_id!r}"
                )
                raise ModelDoesNotExist(
                    f"Node {node.id!r}: The app has no model {wanted}; ListModels names those it has."
                )
            found[node.id] = model
        return found

    async def models_of(self, workflow: OwnWorkflow) -> dict[str, OwnModel]:
        """As ``models``, of the nodes of a workflow. Raises TryAgain where one got another id meanwhile."""
        if all(node.public for node in workflow.nodes):
            return {}
        async with self._workflows.as_read(workflow):
            return await self.models(workflow.bucket, workflow.nodes)

    async def steps_of(
        self, base_workflow_id: str, nodes: Sequence[Node], models: Mapping[str, OwnModel]
    ) -> dict[str, Step]:
        """What each node does now, by node id. ``base_workflow_id``: the public one by which the app indexes;
        ``models``: the app's own, by node id.

        Raises ModelDoesNotExist for a model that is gone and WorkflowNeedsModel for one that cannot predict.
        """
        steps: dict[str, Step] = {}
        for node in nodes:
            try:
                own = models.get(node.id)
                steps[node.id] = (
                    self.public_step(node.model_id) if own is None else await self.own_step(base_workflow_id, own)
                )
            except ModelNotTrained as error:
                raise WorkflowNeedsModel(f"Node {node.id!r}: {error.details}") from error
            except ModelDoesNotExist as error:
                raise ModelDoesNotExist(f"Node {node.id!r}: {error.details}") from error
        return steps

    async def check_writers(self, steps: Iterable[Step]) -> None:
        """Raises WorkflowInvalid where one writes in the name of somebody who is no user here."""
        users = {step.user_id for step in steps if isinstance(step, Writes) and step.user_id}
        rows = await self._database.rows(_ANNOTATIONS["known_users"], {"ids": sorted(users)}) if users else []
        for user_id in sorted(users - {name for (name,) in rows}):
            raise WorkflowInvalid(
                f"It writes annotations in the name of {user_id!r}, and there is no such user on this server; leave"
                " annotation_user_id out for the app's owner."
            )

    async def check_graph(self, model: OwnModel) -> None:
        """Raises WorkflowInvalid for a mapper by a knowledge graph that the app has not."""
        graph_id = model.params.get("knowledge_graph_id", "")
        if graph_id and not await self._database.rows(
            _RELATIONS["graphs"], {"bucket": model.bucket, "ids": [graph_id]}
        ):
            raise WorkflowInvalid(
                f"Model {model.id} maps by the knowledge graph {quoted(graph_id)}, and the app has none such;"
                " make it with PostKnowledgeGraphs, or post a version of the model without knowledge_graph_id for all"
                " relations."
            )

    async def find(self, bucket: int, model_id: str, version_id: str = "") -> OwnModel | None:
        """The app's model in that version, else in the one that is in use."""
        return await self._models.find(bucket, model_id, version_id)

    def public_step(self, model_id: str) -> Step:
        """Raises ModelDoesNotExist for a model that is not installed here (any more)."""
        model = self._public.get(model_id)
        if model is None:
            raise ModelDoesNotExist(f"Model {model_id} is not installed here; ListModels names those that are.")
        eye = model.eye
        if model.type_id == "visual-detector":
            return Finds(eye=eye)
        if model.type_id == "clusterer":
            return Looks(eye=eye, says=_clustered)
        if model.type_id == "visual-classifier":
            assert eye.tagger is not None, "a tagger runs by an eye that has one"
            return Looks(eye=eye, says=partial(_predicted, eye.tagger))
        return Looks(eye=eye, says=_embedded)

    async def own_step(self, base_workflow_id: str, model: OwnModel) -> Step:
        """Raises ModelNotTrained for a version that cannot predict, WorkflowNeedsModel where the app's base workflow
        makes no vectors for it here, and where a parameter is missing.
        """
        if model.status != MODEL_TRAINED:
            raise _not_trained(model)
        match model.type_id:
            case "concept-threshold" | "region-threshold":
                thresholds, comparison = _param(model, "concepts"), _param(model, "concept_threshold_type")
                return Changes(change=partial(threshold, thresholds=thresholds, comparison=comparison))
            case "concept-synonym-mapper":
                synonyms = await self._synonyms(model.bucket, _param(model, "knowledge_graph_id"))
                return Changes(change=partial(mapped, synonyms=synonyms))
            case "image-crop":
                return Crops(margin=_param(model, "margin"))
            case "annotation-writer":
                user_id = _param(model, "annotation_user_id")
                return Writes(
                    status=_param(model, "annotation_status"),
                    user_id="" if user_id == "me" else user_id,
                    info=_param(model, "annotation_info"),
                )
        return await self._taught_step(base_workflow_id, model)

    async def learnt(self, base_workflow_id: str, model: OwnModel) -> ConceptModel:
        """What a version of a model that is trained predicts by, for the vectors that a base workflow makes.

        Raises ModelNotTrained, and WorkflowNeedsModel where the base workflow makes no vectors here.
        """
        if model.status != MODEL_TRAINED:
            raise _not_trained(model)
        return await self._fit(self._space(base_workflow_id, model), base_workflow_id, model)

    async def _taught_step(self, base_workflow_id: str, model: OwnModel) -> Step:
        space = self._space(base_workflow_id, model)
        if model.type_id == "knn-concept":
            labelled = await self._neighbours.labelled(model.bucket, space.table, model.concept_ids)
            says = partial(_voted, labelled, _param(model, "k"))
            return Looks(eye=space.eye, says=says, aside=len(labelled.vectors) > _MANY_LABELLED)
        return Looks(eye=space.eye, says=partial(_predicted, await self._fit(space, base_workflow_id, model)))

    def _space(self, base_workflow_id: str, model: OwnModel) -> Space:
        space = self._spaces.get(base_workflow_id)
        if space is None:
            raise WorkflowNeedsModel(
                f"Model {model.id!r} predicts by the vectors of its app's base workflow, and {base_workflow_id} makes"
                " none here. Choose another one by PatchApps."
            )
        return space

    async def _fit(self, space: Space, base_workflow_id: str, model: OwnModel) -> ConceptModel:
        fit = await self._fits.get(model.bucket, model.version_id, model.made_at, space.table.id)
        if fit is None:
            raise ModelNotTrained(
                f"Model {model.id!r} has not learnt by the vectors of workflow {base_workflow_id} yet; train a new"
                " version of it by PostModelVersions."
            )
        return fit

    async def _synonyms(self, bucket: int, knowledge_graph_id: str) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        parameters = {"bucket": bucket, "knowledge_graph_id": knowledge_graph_id}
        for predicted, own in await self._database.rows(_SQL["synonyms"], parameters):
            found.setdefault(predicted, []).append(own)
        return found


def _param(model: OwnModel, name: str) -> Any:
    """Raises WorkflowNeedsModel where the version was stored without it."""
    if name not in model.params:
        raise WorkflowNeedsModel(
            f"Model {model.id!r} ({model.type_id}) has no parameter {name}; post a new version of it by"
            " PostModelVersions."
        )
    return model.params[name]


def _predicted(model: Tagger | ConceptModel, vectors: Vectors) -> list[Said]:
    ids = model.ids
    return [Said(concepts=tuple(zip(ids, row, strict=True))) for row in model.probabilities(vectors).tolist()]


def _embedded(vectors: Vectors) -> list[Said]:
    return [Said(vector=vector) for vector in vectors]


def _clustered(vectors: Vectors) -> list[Said]:
    return [Said(cluster=cluster) for cluster in clusters(vectors)]


def _voted(labelled: Labelled, k: int, vectors: Vectors) -> list[Said]:
    return [Said(concepts=concepts) for concepts in neighbours(labelled, vectors, k)]


def _not_trained(model: OwnModel) -> ModelNotTrained:
    if model.status in _BEING_TRAINED:
        return ModelBeingTrained(f"Model {model.id!r} {_BEING_TRAINED[model.status]}.")
    if model.status == MODEL_UNTRAINED:
        return ModelNotTrained(f"Model {model.id!r} has not been trained; train a version of it by PostModelVersions.")
    return ModelNotTrained(
        f"Version {model.version_id} of model {model.id!r} could not be trained (status {model.status}); train another,"
        " or leave out which version you mean, to ask the latest that is trained."
    )
