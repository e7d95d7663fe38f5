"""The public models and workflows of clarifai/main: exactly those whose bundle is installed (api-spec 5.1).

A bundle brings one embedder, perhaps a tagger, and one workflow that runs the tagger first and then the embedder. The
built-in bundle ``general`` carries Clarifai's names, so that programs written for them run. Its model id
``aaa03c23b3724a16a56b629203edc62c`` is an alias for the role "general image concepts"; Clarifai's *version* ids are not
accepted, because a version names particular weights and these are others: the error says which version is here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from sightrank.errors import ModelDoesNotExist, WorkflowDoesNotExist, WorkflowNeedsModel
from sightrank.vision.vocabulary import Vocabulary

EMPTY_WORKFLOW = "Empty"
_GENERAL = "general"
_GENERAL_ALIAS = "aaa03c23b3724a16a56b629203edc62c"
#: Workflows of Clarifai's that programs name (api-spec 5.1) and that run models of other kinds.
_CLARIFAI_WORKFLOWS = frozenset({"Universal", "Face", "Language-Understanding"})


class ModelType(Enum):
    TAGGER = "visual-classifier"
    EMBEDDER = "visual-embedder"


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleInfo:
    """What the catalogue needs to know of an installed bundle."""

    id: str
    version: str
    dims: int
    has_tagger: bool
    vocabulary: Vocabulary


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """One public model. ``bundle`` is the folder that runs it."""

    id: str
    name: str
    type: ModelType
    description: str
    bundle: BundleInfo
    aliases: frozenset[str] = frozenset()

    @property
    def version_id(self) -> str:
        return self.bundle.version


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowCard:
    """One public workflow. ``embedder`` makes the vectors of apps that have it as base workflow; None: no index."""

    id: str
    description: str
    models: tuple[ModelCard, ...] = ()
    bundle: BundleInfo | None = None

    @property
    def embedder(self) -> ModelCard | None:
        return next((model for model in self.models if model.type is ModelType.EMBEDDER), None)

    @property
    def tagger(self) -> ModelCard | None:
        return next((model for model in self.models if model.type is ModelType.TAGGER), None)

    @property
    def version_id(self) -> str:
        return self.bundle.version if self.bundle else "1"


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All public models and workflows."""

    models: tuple[ModelCard, ...]
    workflows: tuple[WorkflowCard, ...]
    vocabulary: Vocabulary

    @classmethod
    def of(cls, bundles: Iterable[BundleInfo]) -> Catalogue:
        """The catalogue of these bundles; the first one with a tagger brings the public vocabulary."""
        installed = tuple(bundles)
        workflows = [_workflow(bundle) for bundle in installed]
        models = tuple(model for workflow in workflows for model in workflow.models)
        empty = WorkflowCard(id=EMPTY_WORKFLOW, description="Runs no model: inputs are stored, nothing can be ranked.")
        vocabulary = next((bundle.vocabulary for bundle in installed if bundle.has_tagger), Vocabulary.empty())
        return cls(models, (*workflows, empty), vocabulary)

    def find_model(self, model_id: str) -> ModelCard | None:
        return next((model for model in self.models if model_id == model.id or model_id in model.aliases), None)

    def model(self, model_id: str, version_id: str = "") -> ModelCard:
        """The model by id or alias. Raises ModelDoesNotExist, also for a version that is not the installed one."""
        model = self.find_model(model_id)
        if model is None:
            raise ModelDoesNotExist(
                f"There is no model {model_id or '(empty model_id)'}; ListModels names those that exist."
            )
        if version_id not in ("", model.version_id):
            raise ModelDoesNotExist(
                f"Model {model.id} has no version {version_id}. The version installed here is {model.version_id}; leave"
                " the version id out to use it."
            )
        return model

    def workflow(self, workflow_id: str, version_id: str = "") -> WorkflowCard:
        """The workflow by id. Raises WorkflowNeedsModel for one of Clarifai's whose models are not here, else
        WorkflowDoesNotExist."""
        workflow = next((workflow for workflow in self.workflows if workflow.id == workflow_id), None)
        known = ", ".join(workflow.id for workflow in self.workflows)
        if workflow is None and workflow_id in _CLARIFAI_WORKFLOWS:
            raise WorkflowNeedsModel(
                f"Workflow {workflow_id} needs models that this release of sightrank does not have. Use one of its own"
                f" workflows: {known}."
            )
        if workflow is None or version_id not in ("", workflow.version_id):
            wanted = f"{workflow_id} (version {version_id})" if workflow else workflow_id or "(empty id)"
            raise WorkflowDoesNotExist(f"There is no workflow {wanted}. Workflows here: {known}.")
        return workflow

    def same_embedder(self, one: str, other: str) -> bool:
        """Whether two workflows index inputs alike, so that an app can change between them without re-indexing."""
        return self.workflow(one).embedder == self.workflow(other).embedder


def _workflow(bundle: BundleInfo) -> WorkflowCard:
    general = bundle.id == _GENERAL
    models = [_embedder(bundle)]
    if bundle.has_tagger:
        models.insert(0, _tagger(bundle))
    return WorkflowCard(
        id="General" if general else bundle.id,
        description="Predicts concepts of an image and indexes it for search.",
        models=tuple(models),
        bundle=bundle,
    )


def _tagger(bundle: BundleInfo) -> ModelCard:
    general = bundle.id == _GENERAL
    return ModelCard(
        id=f"{bundle.id}-image-recognition",
        name="Image Recognition" if general else f"{bundle.id} Image Recognition",
        type=ModelType.TAGGER,
        description=f"Predicts which of {len(bundle.vocabulary)} concepts are in an image.",
        bundle=bundle,
        aliases=frozenset({_GENERAL_ALIAS}) if general else frozenset(),
    )


def _embedder(bundle: BundleInfo) -> ModelCard:
    title = "General" if bundle.id == _GENERAL else bundle.id
    return ModelCard(
        id=f"{bundle.id}-image-embedding",
        name=f"{title} Image Embedding",
        type=ModelType.EMBEDDER,
        description=f"Describes an image by a vector of {bundle.dims} numbers, for search by similarity.",
        bundle=bundle,
    )
