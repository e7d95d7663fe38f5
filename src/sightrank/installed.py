"""The models that are installed, ready to run: what each public workflow sees with, and how the catalogue shows it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sightrank.api.catalogue import (
    EMPTY_WORKFLOW,
    GENERAL_ALIAS,
    Catalogue,
    ModelCard,
    ModelType,
    WorkflowCard,
    missing_workflows,
)
from sightrank.vision.batcher import Batcher
from sightrank.vision.bundle import Bundle, built_in_bundle, load_bundle
from sightrank.vision.embedder import BATCH_SIZES, Embedder
from sightrank.vision.eye import Eye, ImageLimits, Pixels
from sightrank.vision.tagger import Tagger
from sightrank.vision.threads import Threads
from sightrank.vision.vocabulary import Vocabulary


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
        """Model id to the networks that run it."""
        return {model.id: workflow.eye for workflow in self.workflows for model in workflow.card.models}

    def catalogue(self) -> Catalogue:
        """What clients are shown: what can run, ``Empty``, and what programs of Clarifai's name although it cannot."""
        cards = tuple(workflow.card for workflow in self.workflows)
        empty = WorkflowCard(id=EMPTY_WORKFLOW, description="Runs no model: inputs are stored, nothing can be ranked.")
        return Catalogue((*cards, empty, *missing_workflows(cards)), self.vocabulary)


def load_installed(threads: Threads, limits: ImageLimits) -> InstalledModels:
    """Loads and warms up every installed model; the built-in one comes first. Raises BundleError when it is damaged."""
    bundle = load_bundle(built_in_bundle())
    vocabulary = Vocabulary.load(bundle.vocabulary)
    embedder = Embedder(bundle, threads=1)
    embedder.warm_up()
    pictures: Batcher[Pixels] = Batcher(
        bundle.id, lambda items: embedder.embed(np.stack(items)), threads=threads, sizes=BATCH_SIZES
    )
    tagger = Tagger.load(bundle)
    tagger_card, embedder_card = general_cards(bundle.version, bundle.dims, vocabulary)
    space = _space(bundle)
    general = InstalledWorkflow(
        card=general_workflow(tagger_card, embedder_card),
        eye=Eye(embedder, pictures, threads=threads, limits=limits, tagger=tagger),
        space=space,
    )
    return InstalledModels(
        workflows=(general,),
        vocabulary=vocabulary,
        words=json.loads(bundle.words.read_text(encoding="utf-8")),
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
    )
    embedder = ModelCard(
        id="general-image-embedding",
        name="General Image Embedding",
        type=ModelType.EMBEDDER,
        description=f"Describes an image by a vector of {dims} numbers, for search by similarity.",
        version_id=version_id,
        dims=dims,
    )
    return tagger, embedder


def general_workflow(tagger: ModelCard, embedder: ModelCard) -> WorkflowCard:
    """``General``: the tagger first, because clients read the first output."""
    return WorkflowCard(
        id="General",
        description="Predicts concepts of an image and indexes it for search.",
        models=(tagger, embedder),
    )


def _space(bundle: Bundle) -> VectorSpace:
    return VectorSpace(model_id=bundle.id, version_id=bundle.version, dims=bundle.dims)
