"""The public models and workflows of clarifai/main (api-spec 5.1): what is installed, and nothing else.

The built-in models carry Clarifai's names, so that programs written for them run. Clarifai's model id
``aaa03c23b3724a16a56b629203edc62c`` is an alias for the role "general image concepts". The version ids that Clarifai's
guide prints beside its model ids are accepted too, and the installed version answers under its own id. Other unknown
versions are refused: a version names particular weights and these are others; the error says which version is here.

Workflows that programs of Clarifai's name are listed even if their models are not here; whoever uses one is told so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from sightrank.api.identity import PUBLIC_APP
from sightrank.errors import ModelDoesNotExist, WorkflowDoesNotExist, WorkflowNeedsModel, quoted
from sightrank.vision.vocabulary import Vocabulary

EMPTY_WORKFLOW = "Empty"
DETECTION_WORKFLOW = "General-Detection"
FACE_WORKFLOW = "Face"
UNIVERSAL_WORKFLOW = "Universal"
GENERAL_ALIAS = "aaa03c23b3724a16a56b629203edc62c"
GENERAL_VERSION = "aa7f35c01e0642fda5cf400f543e7c40"
EMBEDDER_ALIAS = "bbb5f41425b8468d9b7a554ff10f8581"
EMBEDDER_VERSION = "bb186755eda04f9cbb6fe32e816be104"
CLUSTERER_ALIAS = "cccbe437d6e54e2bb911c6aa292fb072"
CLUSTERER_VERSION = "cc2074cff6dc4c02b6f4e1b8606dcb54"
FACE_ALIAS = "d02b4508df58432fbb84e800597b8959"
FACE_VERSION = "6ca3b762008e419583258aca49b88401"


class ModelType(Enum):
    """Clarifai's ids of model types."""

    TAGGER = "visual-classifier"
    EMBEDDER = "visual-embedder"
    DETECTOR = "visual-detector"
    MULTIMODAL_EMBEDDER = "multimodal-embedder"
    CLUSTERER = "clusterer"

    @property
    def embeds(self) -> bool:
        return self in (ModelType.EMBEDDER, ModelType.MULTIMODAL_EMBEDDER)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """One public model. ``concepts`` are those it predicts, ``dims`` the length of its vectors (0: it makes none).

    ``aliases`` are Clarifai's ids of what it stands for, ``stands_for`` the versions of it that the guide prints;
    ``of_embedder`` is the model whose vectors a clusterer groups.
    """

    id: str
    name: str
    type: ModelType
    description: str
    version_id: str
    concepts: Vocabulary = field(default_factory=Vocabulary.empty)
    dims: int = 0
    aliases: frozenset[str] = frozenset()
    stands_for: frozenset[str] = frozenset()
    of_embedder: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowCard:
    """One public workflow: ``models`` in the order of its outputs; none for one that indexes nothing.

    ``lacks`` tells why the workflow cannot run and what to do about it; '' where it can.
    """

    id: str
    description: str
    models: tuple[ModelCard, ...] = ()
    lacks: str = ""

    @property
    def embedder(self) -> ModelCard | None:
        """What makes the vectors of apps that have this as base workflow."""
        return next((model for model in self.models if model.type.embeds), None)

    @property
    def tagger(self) -> ModelCard | None:
        return next((model for model in self.models if model.type is ModelType.TAGGER), None)

    @property
    def detector(self) -> ModelCard | None:
        return next((model for model in self.models if model.type is ModelType.DETECTOR), None)

    @property
    def version_id(self) -> str:
        """That of its first model: a workflow changes when its models do."""
        return self.models[0].version_id if self.models else "1"


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All public models and workflows, and the vocabulary they share. ``others`` are models of no public workflow."""

    workflows: tuple[WorkflowCard, ...]
    vocabulary: Vocabulary
    others: tuple[ModelCard, ...] = ()

    @property
    def models(self) -> tuple[ModelCard, ...]:
        """Each model once, in the order of the workflows that run it, and then the others."""
        of_workflows = {model.id: model for workflow in self.workflows for model in workflow.models}
        return (*of_workflows.values(), *self.others)

    def find_model(self, model_id: str) -> ModelCard | None:
        return next((model for model in self.models if model_id == model.id or model_id in model.aliases), None)

    def model(self, model_id: str, version_id: str = "") -> ModelCard:
        """The model by id or alias. Raises ModelDoesNotExist, also for a version that is neither the installed one nor
        one that it stands for.
        """
        model = self.find_model(model_id)
        if model is None:
            raise ModelDoesNotExist(f"There is no model {quoted(model_id)}; ListModels names those that exist.")
        if version_id not in ("", model.version_id, *model.stands_for):
            raise ModelDoesNotExist(
                f"Model {model.id} has no version {quoted(version_id)}. The version installed here is"
                f" {model.version_id}; leave"
                " the version id out to use it."
            )
        return model

    def has_workflow(self, workflow_id: str) -> bool:
        return any(workflow.id == workflow_id for workflow in self.workflows)

    def workflow(self, workflow_id: str, version_id: str = "", *, after_app: str = "") -> WorkflowCard:
        """The workflow by id, whether it can run or not; ``after_app`` is where it was looked for before. Raises
        WorkflowDoesNotExist."""
        workflow = next((workflow for workflow in self.workflows if workflow.id == workflow_id), None)
        if workflow is None:
            known = ", ".join(workflow.id for workflow in self.workflows)
            wanted = quoted(workflow_id)
            if after_app in ("", PUBLIC_APP):
                raise WorkflowDoesNotExist(f"clarifai/main has no workflow {wanted}: it has {known}.")
            raise WorkflowDoesNotExist(
                f"App {after_app!r} has no workflow {wanted}; ListWorkflows names its own. clarifai/main has none such"
                f" either: it has {known}."
            )
        if version_id not in ("", workflow.version_id):
            raise WorkflowDoesNotExist(
                f"Workflow {workflow_id} of clarifai/main has no version {quoted(version_id)}. The version installed"
                " here"
                f" is {workflow.version_id}; leave the version id out to use it."
            )
        return workflow

    def usable_workflow(self, workflow_id: str, version_id: str = "", *, after_app: str = "") -> WorkflowCard:
        """The workflow by id, to be run. Raises WorkflowDoesNotExist, or WorkflowNeedsModel where one is missing."""
        workflow = self.workflow(workflow_id, version_id, after_app=after_app)
        if workflow.lacks:
            raise WorkflowNeedsModel(f"Workflow {workflow.id} cannot run: {workflow.lacks}")
        return workflow

    def lacks(self, workflow_id: str) -> str:
        """Why the base workflow of an app cannot run here and what to do about it; '' where it can."""
        workflow = next((workflow for workflow in self.workflows if workflow.id == workflow_id), None)
        if workflow is None:
            return "its model is not installed here any more. Install it again and start the server again."
        return workflow.lacks

    def same_embedder(self, one: str, other: str) -> bool:
        """Whether two workflows index inputs alike, so that an app can change between them without re-indexing.

        How one did whose model is no longer installed, nobody knows.
        """
        cards = {workflow.id: workflow for workflow in self.workflows}
        first, second = cards.get(one), cards.get(other)
        if first is None or second is None or first.lacks or second.lacks:
            return False
        return first.embedder == second.embedder and first.detector == second.detector


def missing_workflows(present: Sequence[WorkflowCard]) -> tuple[WorkflowCard, ...]:
    """Cards of the workflows that Clarifai's programs name and whose models are not among ``present``."""
    there = {workflow.id for workflow in present}
    return tuple(
        WorkflowCard(id=id, description=description, lacks=lacks)
        for id, description, lacks in _NAMED_BY_PROGRAMS
        if id not in there
    )


_NAMED_BY_PROGRAMS = (
    (
        FACE_WORKFLOW,
        "Finds faces and indexes each of them for search beside the whole image.",
        "faces are found by OpenCV, which cannot be loaded here. Install it by `pip install 'sightrank[faces]'` and"
        " start the server again.",
    ),
    (
        UNIVERSAL_WORKFLOW,
        "Indexes images for search by pictures and by texts.",
        "no model that reads texts and pictures is installed. Add one by `sightrank models add OWNER/NAME --id NAME`"
        " (for example Xenova/clip-vit-base-patch32) and start the server again.",
    ),
    (
        "Language-Understanding",
        "Indexes texts.",
        "sightrank indexes pictures; texts are stored and not ranked. Use General for pictures.",
    ),
)
