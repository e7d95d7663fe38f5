"""What is asked of a prediction, and the answer shaped from what the networks saw (api-spec 5.3). No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from clarifai_grpc.grpc.api import resources_pb2
from numpy.typing import NDArray

from sightrank.api.catalogue import ModelCard
from sightrank.api.identity import PUBLIC_APP, PUBLIC_USER
from sightrank.errors import InvalidRequest, ModelInvalidArgument
from sightrank.vision.box import Box
from sightrank.vision.detector import Detection
from sightrank.vision.tagger import Tagger
from sightrank.vision.video import MAX_SAMPLE_MS, MIN_SAMPLE_MS
from sightrank.vision.vocabulary import Vocabulary

#: Concepts of an output when the request does not say how many.
DEFAULT_CONCEPTS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """A concept that ``select_concepts`` names: exactly, by id or by name."""

    id: str
    name: str

    def describe(self) -> str:
        return f"id {self.id!r}" if self.id else f"name {self.name!r}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What of a prediction is wanted. ``max_concepts`` counts only where nothing is ``selected``.

    ``sample_ms`` is how often a video is looked at, in milliseconds; 0 is how often the app says.
    """

    max_concepts: int = DEFAULT_CONCEPTS
    min_value: float = 0.0
    selected: tuple[Selected, ...] = ()
    language: str = ""
    sample_ms: int = 0


def read_config(config: resources_pb2.OutputConfig) -> Wanted:
    """Raises InvalidRequest for values that make no sense."""
    if not 0.0 <= config.min_value <= 1.0:
        raise InvalidRequest(f"output_config.min_value is {config.min_value:g}; values lie between 0 and 1.")
    selected = tuple(Selected(id=concept.id, name=concept.name) for concept in config.select_concepts)
    if any(not concept.id and not concept.name for concept in selected):
        raise InvalidRequest("output_config.select_concepts has an item with neither id nor name.")
    return Wanted(
        max_concepts=config.max_concepts or DEFAULT_CONCEPTS,
        min_value=config.min_value,
        selected=selected,
        language=config.language,
        sample_ms=checked_sample_ms(config.sample_ms, "output_config.sample_ms"),
    )


def checked_sample_ms(sample_ms: int, field: str) -> int:
    """0 stands for a default. Raises InvalidRequest."""
    if sample_ms and not MIN_SAMPLE_MS <= sample_ms <= MAX_SAMPLE_MS:
        raise InvalidRequest(
            f"{field} is {sample_ms}; it is {MIN_SAMPLE_MS} to {MAX_SAMPLE_MS} milliseconds between two frames."
        )
    return sample_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The ids that may appear (None: all), and what was selected and is not known."""

    ids: frozenset[str] | None
    unknown: tuple[Selected, ...] = ()


def select(wanted: Wanted, known: Vocabulary) -> Selection:
    """Finds the selected concepts. Raises ModelInvalidArgument when the model predicts none of them."""
    if not wanted.selected:
        return Selection(ids=None)
    by_name: dict[str, list[str]] = {}
    for term in known:
        by_name.setdefault(term.name, []).append(term.id)
    found = {concept: _ids(concept, known, by_name) for concept in wanted.selected}
    ids = frozenset(id for ids in found.values() for id in ids)
    unknown = tuple(concept for concept, ids in found.items() if not ids)
    if not ids:
        names = ", ".join(concept.describe() for concept in unknown)
        raise ModelInvalidArgument(
            f"The model predicts none of the selected concepts ({names}); ListModelConcepts names those it does."
        )
    return Selection(ids=ids, unknown=unknown)


def _ids(concept: Selected, known: Vocabulary, by_name: dict[str, list[str]]) -> list[str]:
    if concept.id:
        return [concept.id] if concept.id in known else []
    return by_name.get(concept.name, [])


def tags(
    tagger: Tagger, vector: NDArray[np.float32], known: Vocabulary, wanted: Wanted, selection: Selection
) -> list[resources_pb2.Concept]:
    """The concepts of one picture, likeliest first."""
    (probabilities,) = tagger.probabilities(vector[None])
    pairs = zip(tagger.ids, probabilities.tolist(), strict=True)
    return _concepts([(id, value) for id, value in pairs], known, wanted, selection)


def _concepts(
    pairs: Sequence[tuple[str, float]], known: Vocabulary, wanted: Wanted, selection: Selection
) -> list[resources_pb2.Concept]:
    kept = [
        (id, value)
        for id, value in pairs
        if value >= wanted.min_value and (selection.ids is None or id in selection.ids)
    ]
    kept.sort(key=lambda pair: -pair[1])
    if selection.ids is None:
        kept = kept[: wanted.max_concepts]
    return [_concept(id, value, known, wanted.language) for id, value in kept]


def _concept(id: str, value: float, known: Vocabulary, language: str) -> resources_pb2.Concept:
    term = known.get(id)
    name, named_in = term.name_in(language or "en") if term else (id, "")
    return resources_pb2.Concept(
        id=id, name=name, value=value, language=named_in, user_id=PUBLIC_USER, app_id=PUBLIC_APP
    )


def regions(
    detections: Sequence[Detection], known: Vocabulary, wanted: Wanted, selection: Selection
) -> list[resources_pb2.Region]:
    """What a detector found, surest first; ``max_concepts`` bounds the regions."""
    kept = [
        (detection, concepts)
        for detection in sorted(detections, key=lambda detection: -detection.value)
        if (concepts := _concepts([(detection.concept_id, detection.value)], known, wanted, selection))
    ]
    return [
        resources_pb2.Region(
            id=f"{place}",
            value=detection.value,
            region_info=resources_pb2.RegionInfo(bounding_box=_bounding_box(detection.box)),
            data=resources_pb2.Data(concepts=concepts),
        )
        for place, (detection, concepts) in enumerate(kept)
    ]


def _bounding_box(box: Box) -> resources_pb2.BoundingBox:
    return resources_pb2.BoundingBox(top_row=box.top, left_col=box.left, bottom_row=box.bottom, right_col=box.right)


def embedding(vector: NDArray[np.float32]) -> resources_pb2.Embedding:
    """The vector of one picture."""
    return resources_pb2.Embedding(vector=vector.tolist(), num_dimensions=len(vector))


def unselected(card: ModelCard, selection: Selection) -> str:
    """What to say about selected concepts that the model does not know; '' when it knows all."""
    if not selection.unknown:
        return ""
    names = ", ".join(concept.describe() for concept in selection.unknown)
    return f"Model {card.id} does not predict the selected {names}; the others are answered."
