"""The models that are installed, ready to run: what each public workflow sees with, and how the catalogue shows it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import structlog

from sightrank.api.catalogue import (
    CLUSTERER_ALIAS,
    CLUSTERER_VERSION,
    DETECTION_WORKFLOW,
    EMBEDDER_ALIAS,
    EMBEDDER_VERSION,
    EMPTY_WORKFLOW,
    FACE_ALIAS,
    FACE_VERSION,
    FACE_WORKFLOW,
    GENERAL_ALIAS,
    GENERAL_VERSION,
    UNIVERSAL_WORKFLOW,
    Catalogue,
    ModelCard,
    ModelType,
    WorkflowCard,
    missing_workflows,
)
from sightrank.vision.batcher import Batcher
from sightrank.vision.bundle import Bundle, BundleError, built_in_bundle, load_bundle
from sightrank.vision.detector import Detector
from sightrank.vision.embedder import BATCH_SIZES, Embedder
from sightrank.vision.eye import Eye, ImageLimits, Pixels, Reader
from sightrank.vision.faces import FACE, FaceDetector
from sightrank.vision.model_folders import InstalledModel, installed_models
from sightrank.vision.object_detector import ObjectDetector, built_in_detector, load_detector_bundle
from sightrank.vision.session import Provider
from sightrank.vision.tagger import Tagger, TaggerRow
from sightrank.vision.threads import Threads
from sightrank.vision.vocabulary import Vocabulary
from sightrank.vision.zero_shot import concept_rows, zero_shot_tagger

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorSpace:
    """The model version whose vectors a workflow stores, and their length."""

    model_id: str
    version_id: str
    dims: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InstalledWorkflow:
    """A public workflow that can run."""

    card: WorkflowCard
    eye: Eye
    space: VectorSpace


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InstalledModels:
    """Everything that can run here, and the public vocabulary with the words below it."""

    workflows: tuple[InstalledWorkflow, ...]
    vocabulary: Vocabulary
    words: Mapping[str, str]
    """Words that are no concept, each with the id of its more general one."""

    def runners(self) -> dict[str, Eye]:
        """Model id to the networks that run it: those of the first workflow it is in, which runs nothing besides."""
        runners: dict[str, Eye] = {}
        for workflow in self.workflows:
            for model in workflow.card.models:
                runners.setdefault(model.id, workflow.eye)
        runners[self._clusterer.id] = self.workflows[0].eye
        return runners

    @property
    def _clusterer(self) -> ModelCard:
        """Groups the vectors of the first workflow, General."""
        return clusterer_card(self.workflows[0].space.version_id)

    def catalogue(self) -> Catalogue:
        """What clients are shown: what can run, ``Empty``, and what programs of Clarifai's name although it cannot."""
        cards = tuple(workflow.card for workflow in self.workflows)
        empty = WorkflowCard(id=EMPTY_WORKFLOW, description="Runs no model: inputs are stored, nothing can be ranked.")
        return Catalogue((*cards, empty, *missing_workflows(cards)), self.vocabulary, (self._clusterer,))


def load_installed(
    threads: Threads,
    limits: ImageLimits,
    *,
    models_dir: Path,
    provider: Provider = "cpu",
    detector_dir: Path | None = None,
) -> InstalledModels:
    """Loads and warms up every installed model: the built-in ones, then those of ``models_dir``. ``detector_dir`` holds
    another detector of things than the one in the package.

    Raises BundleError when a built-in one is damaged or ``provider`` is not there. An added model that cannot be used
    is reported in the log and left out.
    """
    bundle = load_bundle(built_in_bundle())
    tagged = Vocabulary.load(bundle.vocabulary)
    vocabulary = Vocabulary((*tagged, FACE))
    general = _general(bundle, tagged, threads, limits, provider)
    found = [
        general,
        _finding_things(general, vocabulary, detector_dir or built_in_detector(), provider),
        *_finding_faces(general, vocabulary),
    ]
    for model in installed_models(models_dir):
        try:
            found += _added(model, tagged, threads, limits, provider)
        except BundleError as error:
            _log.error("a model is left out", model=model.id, reason=str(error))
    return InstalledModels(
        workflows=tuple(found),
        vocabulary=vocabulary,
        words=json.loads(bundle.words.read_text(encoding="utf-8")),
    )


def _general(
    bundle: Bundle, vocabulary: Vocabulary, threads: Threads, limits: ImageLimits, provider: Provider
) -> InstalledWorkflow:
    embedder = Embedder(bundle, threads=1, provider=provider)
    embedder.warm_up()
    pictures: Batcher[Pixels] = Batcher(
        bundle.id, lambda items: embedder.embed(np.stack(items)), threads=threads, sizes=BATCH_SIZES
    )
    tagger = Tagger.load(bundle)
    tagger_card, embedder_card = general_cards(bundle.version, bundle.dims, vocabulary.among(tagger.ids))
    return InstalledWorkflow(
        card=general_workflow(tagger_card, embedder_card),
        eye=Eye(embedder, pictures, threads=threads, limits=limits, tagger=tagger),
        space=VectorSpace(model_id=bundle.id, version_id=bundle.version, dims=bundle.dims),
    )


def _finding_things(
    general: InstalledWorkflow, vocabulary: Vocabulary, folder: Path, provider: Provider
) -> InstalledWorkflow:
    """``General-Detection``. Raises BundleError for a detector that cannot be used."""
    bundle = load_detector_bundle(folder)
    detector = ObjectDetector(bundle, threads=1, provider=provider)
    detector.warm_up()
    card = things_card(bundle.version, vocabulary.among(detector.concept_ids))
    return _with_detector(general, DETECTION_WORKFLOW, detector, card)


def _finding_faces(general: InstalledWorkflow, vocabulary: Vocabulary) -> list[InstalledWorkflow]:
    """``Face``, where OpenCV is there. Its cascades are loaded at the first picture."""
    try:
        detector = FaceDetector()
    except ImportError:
        return []  # the catalogue and `sightrank doctor` say what to do about it
    card = faces_card(detector.version, vocabulary.among(detector.concept_ids))
    return [_with_detector(general, FACE_WORKFLOW, detector, card)]


def _with_detector(
    general: InstalledWorkflow, workflow_id: str, detector: Detector, card: ModelCard
) -> InstalledWorkflow:
    """A workflow that sees as ``general`` does, by the same networks, and finds regions besides."""
    return InstalledWorkflow(
        card=detecting_workflow(workflow_id, general.card, card),
        eye=general.eye.with_detector(detector),
        space=general.space,
    )


def _added(
    model: InstalledModel, vocabulary: Vocabulary, threads: Threads, limits: ImageLimits, provider: Provider
) -> list[InstalledWorkflow]:
    """The workflow of an added model, and ``Universal`` where it has that role: the same networks and vectors."""
    encoder = model.load(threads=1, provider=provider)
    encoder.images.warm_up()
    tagger = zero_shot_tagger(vocabulary, encoder.texts, encoder.link, version=model.version, folder=model.folder)
    pictures: Batcher[Pixels] = Batcher(
        model.id, lambda items: encoder.images.embed(np.stack(items)), threads=threads, sizes=BATCH_SIZES
    )
    texts: Batcher[str] = Batcher(f"{model.id} texts", encoder.texts.encode, threads=threads, sizes=BATCH_SIZES)

    def row(name: str) -> TaggerRow:
        found = concept_rows([name], encoder.texts, encoder.link)
        return TaggerRow(direction=found.directions[0], scale=float(found.scale[0]), bias=float(found.bias[0]))

    eye = Eye(
        encoder.images,
        pictures,
        threads=threads,
        limits=limits,
        tagger=tagger,
        reader=Reader(texts=texts, row=row),
    )
    models = _added_cards(model, vocabulary)
    space = VectorSpace(model_id=model.id, version_id=model.version, dims=model.dims)
    return [
        InstalledWorkflow(
            card=WorkflowCard(
                id=workflow_id,
                description=f"Indexes images by {model.id} for search by pictures, concepts and texts.",
                models=models,
            ),
            eye=eye,
            space=space,
        )
        for workflow_id in ((UNIVERSAL_WORKFLOW, model.id) if model.universal else (model.id,))
    ]


def _added_cards(model: InstalledModel, vocabulary: Vocabulary) -> tuple[ModelCard, ...]:
    """The tagger first, because clients read the first output."""
    return (
        ModelCard(
            id=f"{model.id}-image-recognition",
            name=f"{model.id} Image Recognition",
            type=ModelType.TAGGER,
            description=f"Predicts which of {len(vocabulary)} concepts are in an image, by their names alone.",
            version_id=model.version,
            concepts=vocabulary,
        ),
        ModelCard(
            id=f"{model.id}-multimodal-embedding",
            name=f"{model.id} Multimodal Embedding",
            type=ModelType.MULTIMODAL_EMBEDDER,
            description=f"Describes images and texts by vectors of {model.dims} numbers, for search by both.",
            version_id=model.version,
            dims=model.dims,
        ),
    )


def general_cards(version_id: str, dims: int, vocabulary: Vocabulary) -> tuple[ModelCard, ModelCard]:
    """The tagger and the embedder of the built-in bundle."""
    tagger = ModelCard(
        id="general-image-recognition",
        name="Image Recognition",
        type=ModelType.TAGGER,
        description=f"Predicts which of {len(vocabulary)} concepts are in an image.",
        version_id=version_id,
        concepts=vocabulary,
        aliases=frozenset({GENERAL_ALIAS}),
        stands_for=frozenset({GENERAL_VERSION}),
    )
    embedder = ModelCard(
        id="general-image-embedding",
        name="General Image Embedding",
        type=ModelType.EMBEDDER,
        description=f"Describes an image by a vector of {dims} numbers, for search by similarity.",
        version_id=version_id,
        dims=dims,
        aliases=frozenset({EMBEDDER_ALIAS}),
        stands_for=frozenset({EMBEDDER_VERSION}),
    )
    return tagger, embedder


def clusterer_card(version_id: str) -> ModelCard:
    """What names the part of the space that a vector of the built-in embedder lies in."""
    return ModelCard(
        id="general-image-clustering",
        name="General Image Clustering",
        type=ModelType.CLUSTERER,
        description="Names the group of alike images that an image belongs to.",
        version_id=version_id,
        of_embedder="general-image-embedding",
        aliases=frozenset({CLUSTERER_ALIAS}),
        stands_for=frozenset({CLUSTERER_VERSION}),
    )


def things_card(version_id: str, vocabulary: Vocabulary) -> ModelCard:
    """The built-in detector of things."""
    return ModelCard(
        id="general-image-detection",
        name="General Image Detection",
        type=ModelType.DETECTOR,
        description=f"Finds where in an image people and things are, of {len(vocabulary)} concepts.",
        version_id=version_id,
        concepts=vocabulary,
    )


def faces_card(version_id: str, vocabulary: Vocabulary) -> ModelCard:
    """The detector of faces."""
    return ModelCard(
        id="face-detection",
        name="Face Detection",
        type=ModelType.DETECTOR,
        description="Finds where in an image faces are.",
        version_id=version_id,
        concepts=vocabulary,
        aliases=frozenset({FACE_ALIAS}),
        stands_for=frozenset({FACE_VERSION}),
    )


def general_workflow(tagger: ModelCard, embedder: ModelCard) -> WorkflowCard:
    """``General``: the tagger first, because clients read the first output."""
    return WorkflowCard(
        id="General",
        description="Predicts concepts of an image and indexes it for search.",
        models=(tagger, embedder),
    )


def detecting_workflow(workflow_id: str, general: WorkflowCard, detector: ModelCard) -> WorkflowCard:
    """``General`` with a detector behind its models: whoever reads General's outputs finds them in their places."""
    return WorkflowCard(
        id=workflow_id,
        description="Predicts concepts of an image, finds regions in it, and indexes it and each region for search.",
        models=(*general.models, detector),
    )
