"""What is asked of a prediction, and the answer shaped from what the networks saw (api-spec 5.3). No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from clarifai_grpc.grpc.api import resources_pb2

from sightrank.api.concept_names import ConceptNames
from sightrank.errors import InvalidRequest, ModelInvalidArgument
from sightrank.vision.box import Box
from sightrank.vision.operators import NodeData, Said, Value
from sightrank.vision.tagger import DEFAULT_CONCEPTS
from sightrank.vision.video import MAX_SAMPLE_MS, MIN_SAMPLE_MS


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


def over(config: resources_pb2.OutputConfig, *more: resources_pb2.OutputConfig) -> resources_pb2.OutputConfig:
    """``config`` with what each of the others sets about predictions in its place, the last one last."""
    merged = resources_pb2.OutputConfig()
    for each in (config, *more):
        for name in ("max_concepts", "min_value", "language", "sample_ms"):
            value = getattr(each, name)
            if value:
                setattr(merged, name, value)
        if each.select_concepts:
            merged.ClearField("select_concepts")
            merged.select_concepts.extend(each.select_concepts)
    return merged


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


def select(wanted: Wanted, known: Iterable[tuple[str, str]]) -> Selection:
    """Finds the selected concepts among those that a model predicts, as (id, name)."""
    if not wanted.selected:
        return Selection(ids=None)
    by_name: dict[str, list[str]] = {}
    ids_known = set()
    for id, name in known:
        ids_known.add(id)
        by_name.setdefault(name, []).append(id)
    found = {
        concept: [concept.id] * (concept.id in ids_known) if concept.id else by_name.get(concept.name, [])
        for concept in wanted.selected
    }
    return Selection(
        ids=frozenset(id for ids in found.values() for id in ids),
        unknown=tuple(concept for concept, ids in found.items() if not ids),
    )


def selected_ids(wanted: Wanted, known: Iterable[tuple[str, str]] | None) -> frozenset[str] | None:
    """The ids that can be in an answer, as far as that is plain before anything is predicted; None: any.

    ``known``: all that a model predicts, as (id, name); None where only ids are to be relied on.
    """
    if wanted.selected and known is not None:
        return select(wanted, known).ids
    if wanted.selected and all(concept.id for concept in wanted.selected):
        return frozenset(concept.id for concept in wanted.selected)
    return None


def only(said: NodeData, ids: frozenset[str]) -> NodeData:
    """What is said of these concepts. Regions of which only others were said are left out, as in ``fill``."""
    regions = said.regions
    if regions is not None:
        kept = [(region, replace(region, said=_only(region.said, ids))) for region in regions]
        regions = tuple(now for before, now in kept if now.said.concepts or not before.said.concepts)
    return NodeData(whole=_only(said.whole, ids), regions=regions)


def _only(said: Said, ids: frozenset[str]) -> Said:
    return replace(said, concepts=tuple((id, value) for id, value in said.concepts if id in ids))


def check_selected(selections: Sequence[Selection]) -> None:
    """Raises ModelInvalidArgument when concepts were selected and none of these models predicts any of them."""
    if selections and all(selection.ids is not None and not selection.ids for selection in selections):
        names = ", ".join(concept.describe() for concept in selections[0].unknown)
        raise ModelInvalidArgument(
            f"The model predicts none of the selected concepts ({names}); ListModelConcepts names those it does."
        )


def unselected(model_id: str, selection: Selection) -> str:
    """What to say about selected concepts that the model does not know; '' when it knows all."""
    if not selection.unknown:
        return ""
    names = ", ".join(concept.describe() for concept in selection.unknown)
    return f"Model {model_id} does not predict the selected {names}; the others are answered."


def fill(data: resources_pb2.Data, said: NodeData, names: ConceptNames, wanted: Wanted, selection: Selection) -> None:
    """What a node says of a picture or a frame, as clients see it: concepts likeliest first, regions surest first."""
    _fill(data, said.whole, names, wanted, selection)
    if said.regions is None:
        return
    for region in sorted(said.regions, key=lambda region: -region.value):
        message = resources_pb2.Region(
            id=f"{len(data.regions)}",
            value=region.value,
            region_info=resources_pb2.RegionInfo(bounding_box=_bounding_box(region.box)),
        )
        _fill(message.data, region.said, names, wanted, selection)
        # A region is left out with the concepts that make it one; one that never had any stays.
        if message.data.concepts or not region.said.concepts:
            data.regions.append(message)


def _fill(data: resources_pb2.Data, said: Said, names: ConceptNames, wanted: Wanted, selection: Selection) -> None:
    data.concepts.extend(_concepts(said.concepts, names, wanted, selection))
    if said.vector is not None:
        data.embeddings.append(resources_pb2.Embedding(vector=said.vector.tolist(), num_dimensions=len(said.vector)))
    if said.cluster is not None:
        data.clusters.append(resources_pb2.Cluster(id=said.cluster.id, projection=said.cluster.projection))


def _concepts(
    pairs: Sequence[Value], names: ConceptNames, wanted: Wanted, selection: Selection
) -> list[resources_pb2.Concept]:
    kept = [
        (id, value)
        for id, value in pairs
        if value >= wanted.min_value and (selection.ids is None or id in selection.ids)
    ]
    kept.sort(key=lambda pair: -pair[1])
    if selection.ids is None:
        kept = kept[: wanted.max_concepts]
    return [names.concept(id, value) for id, value in kept]


def _bounding_box(box: Box) -> resources_pb2.BoundingBox:
    return resources_pb2.BoundingBox(top_row=box.top, left_col=box.left, bottom_row=box.bottom, right_col=box.right)
