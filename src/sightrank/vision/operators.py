"""What the nodes of a workflow say of a picture, and what operators make of it. Pure: no network is behind them.

``NodeData`` is what goes from node to node: of the whole picture, or of each of its regions where a detector stands
before the node.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sightrank.vision import overlaps
from sightrank.vision.box import Box
from sightrank.vision.detector import Detection

Vectors = NDArray[np.float32]
#: A concept's id, and how surely it is there, 0..1.
Value = tuple[str, float]

#: Clarifai's numbers of comparisons: a value passes that compares so with its threshold.
COMPARISONS: Final[Mapping[int, Callable[[float, float], bool]]] = {
    1: operator.gt,
    2: operator.ge,
    3: operator.lt,
    4: operator.le,
    5: operator.eq,
}
#: Regions that are found in parts of a picture, together, and by how much two of one concept may overlap.
MOST_IN_PARTS: Final = 100
_SAME_THING = 0.5
_CLUSTER_BITS = 12
_SEED = 20_240_229
#: How much closer a neighbour must be, in cosine, to weigh e times as much.
_CLOSER = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """The part of the space that a vector lies in, and where the vector is on a plane through the space."""

    id: str
    projection: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Said:
    """What a node says of one picture or one region: concepts in any order, a unit vector [dims], a cluster."""

    concepts: tuple[Value, ...] = ()
    vector: Vectors | None = None
    cluster: Cluster | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Region:
    """A region and what was last said of it. ``value``: how surely its detector found it. ``cut``: what of the picture
    is looked at for it, where that is not its ``box``.
    """

    id: str
    box: Box
    value: float
    said: Said
    cut: Box | None = None

    @property
    def seen_in(self) -> Box:
        return self.cut or self.box


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NodeData:
    """What comes out of a node. ``regions`` is None where it speaks of the whole picture, () where none was found."""

    whole: Said = field(default_factory=Said)
    regions: tuple[Region, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Labelled:
    """Unit vectors [n, dims] of areas that people labelled, and with which of the concepts: those of an area are
    ``columns[starts[area] : starts[area + 1]]``, ``starts`` having n + 1 places. Most areas have few of many concepts.
    """

    concept_ids: tuple[str, ...]
    vectors: Vectors
    starts: NDArray[np.int64]
    columns: NDArray[np.int32]


def found(detections: Sequence[Detection]) -> NodeData:
    """What a detector says: regions, surest first."""
    surest = sorted(detections, key=lambda detection: -detection.value)
    return NodeData(
        regions=tuple(
            Region(
                id=f"{place}",
                box=detection.box,
                value=detection.value,
                said=Said(concepts=((detection.concept_id, detection.value),)),
            )
            for place, detection in enumerate(surest)
        )
    )


def found_in_parts(parts: Sequence[Sequence[Detection]]) -> NodeData:
    """What a detector says that looked at parts of a picture: what is seen in several parts that overlap is one region,
    and no more than the 100 surest are.
    """
    found_anywhere = [detection for part in parts for detection in part]
    kept: list[Detection] = []
    for concept_id in dict.fromkeys(detection.concept_id for detection in found_anywhere):
        alike = [detection for detection in found_anywhere if detection.concept_id == concept_id]
        boxes = np.array([(d.box.left, d.box.top, d.box.right, d.box.bottom) for d in alike], np.float32)
        values = np.array([detection.value for detection in alike], np.float32)
        kept += [alike[at] for at in overlaps.surest(boxes, values, limit=_SAME_THING, most=MOST_IN_PARTS)]
    return found(sorted(kept, key=lambda detection: -detection.value)[:MOST_IN_PARTS])


def surest(regions: Sequence[Region], count: int) -> Sequence[Region]:
    """At most ``count``: those that their detector was surest of."""
    return regions if len(regions) <= count else sorted(regions, key=lambda region: -region.value)[:count]


def joined(parts: Sequence[NodeData]) -> NodeData:
    """What several nodes say, as one: every concept and region once, concepts with the surest value, and the first
    vector and cluster there is. Regions are the same where their boxes and cuts are.
    """
    if len(parts) == 1:
        return parts[0]
    regions = [part.regions for part in parts if part.regions is not None]
    same: dict[tuple[Box, Box | None], list[Region]] = {}
    for region in (region for some in regions for region in some):
        same.setdefault((region.box, region.cut), []).append(region)
    return NodeData(
        whole=_all_said([part.whole for part in parts]),
        regions=tuple(
            replace(
                alike[0],
                id=f"{place}",
                value=max(region.value for region in alike),
                said=_all_said([region.said for region in alike]),
            )
            for place, alike in enumerate(same.values())
        )
        if regions
        else None,
    )


def _all_said(parts: Sequence[Said]) -> Said:
    values: dict[str, float] = {}
    for id, value in (pair for part in parts for pair in part.concepts):
        values[id] = max(value, values.get(id, 0.0))
    return Said(
        concepts=tuple(values.items()),
        vector=next((part.vector for part in parts if part.vector is not None), None),
        cluster=next((part.cluster for part in parts if part.cluster is not None), None),
    )


def likeliest(data: NodeData, count: int) -> NodeData:
    """At most ``count`` concepts of the whole and of each region: those with the highest values."""

    def cut(said: Said) -> Said:
        if len(said.concepts) <= count:
            return said
        return replace(said, concepts=tuple(sorted(said.concepts, key=lambda value: -value[1])[:count]))

    regions = data.regions
    if regions is not None:
        regions = tuple(replace(region, said=cut(region.said)) for region in regions)
    return NodeData(whole=cut(data.whole), regions=regions)


def threshold(data: NodeData, thresholds: Mapping[str, float], comparison: int) -> NodeData:
    """Only the concepts that compare as wanted with their thresholds, of the whole and of regions; regions that are
    left with none are left out. A concept without threshold never passes.
    """
    passes = COMPARISONS[comparison]

    def passing(said: Said) -> Said:
        return replace(
            said,
            concepts=tuple(
                (id, value) for id, value in said.concepts if id in thresholds and passes(value, thresholds[id])
            ),
        )

    return _changed(data, passing)


def mapped(data: NodeData, synonyms: Mapping[str, Sequence[str]]) -> NodeData:
    """Each concept replaced by its synonyms, the surest value where several lead to one; others are left out."""

    def translated(said: Said) -> Said:
        values: dict[str, float] = {}
        for id, value in said.concepts:
            for own in synonyms.get(id, ()):
                values[own] = max(value, values.get(own, 0.0))
        return replace(said, concepts=tuple(values.items()))

    return _changed(data, translated)


def cropped(data: NodeData, margin: float) -> NodeData:
    """Regions that are looked at with ``margin`` of their height and width more on each side, within the picture."""
    if data.regions is None:
        return data
    return replace(data, regions=tuple(replace(region, cut=region.box.wider(margin)) for region in data.regions))


def neighbours(labelled: Labelled, vectors: Vectors, k: int) -> list[tuple[Value, ...]]:
    """For each vector the concepts of its ``k`` nearest labelled areas, each neighbour weighted by its similarity: the
    values of all concepts sum to 1. None where nothing is labelled. Every labelled area has one of the concepts.
    """
    if not len(labelled.vectors):
        return [() for _ in vectors]
    nearest, close = _nearest(vectors @ labelled.vectors.T, min(k, len(labelled.vectors)))
    weights = np.exp((close - close[:, :1]) / _CLOSER)
    votes = _votes(labelled, nearest, weights)
    shares = votes / votes.sum(axis=1, keepdims=True)
    return [tuple(zip(labelled.concept_ids, row, strict=True)) for row in shares.tolist()]


def _nearest(cosines: Vectors, k: int) -> tuple[NDArray[np.intp], Vectors]:
    """[n, k] each: the places of the highest in each row, and these, highest first."""
    if k < cosines.shape[1]:
        places = np.sort(np.argpartition(-cosines, k - 1, axis=1)[:, :k], axis=1)
    else:
        places = np.tile(np.arange(cosines.shape[1]), (len(cosines), 1))
    close = np.take_along_axis(cosines, places, axis=1)
    order = np.argsort(-close, axis=1, kind="stable")
    return np.take_along_axis(places, order, axis=1), np.take_along_axis(close, order, axis=1)


def _votes(labelled: Labelled, nearest: NDArray[np.intp], weights: Vectors) -> Vectors:
    """[n, concepts]: the weights of the neighbours that have each concept, together."""
    areas = nearest.ravel()
    counts = labelled.starts[areas + 1] - labelled.starts[areas]
    before = np.cumsum(counts) - counts
    places = np.arange(counts.sum()) + np.repeat(labelled.starts[areas] - before, counts)
    rows = np.repeat(np.repeat(np.arange(len(nearest)), nearest.shape[1]), counts)
    votes = np.zeros((len(nearest), len(labelled.concept_ids)), np.float32)
    np.add.at(votes, (rows, labelled.columns[places]), np.repeat(weights.ravel(), counts))
    return votes


def clusters(vectors: Vectors) -> list[Cluster]:
    """For each vector the side of some planes through the origin that it lies on, as a code: alike vectors share it.
    The planes are the same for all vectors of that many dimensions, always.
    """
    products = vectors @ _planes(vectors.shape[1])
    codes = (products[:, :_CLUSTER_BITS] > 0) @ (1 << np.arange(_CLUSTER_BITS))
    return [
        Cluster(id=f"{code:03x}", projection=(x, y))
        for code, (x, y) in zip(codes.tolist(), products[:, _CLUSTER_BITS:].tolist(), strict=True)
    ]


@functools.cache
def _planes(dims: int) -> Vectors:
    """Unit vectors [dims, bits + 2] that stand on the planes."""
    directions = np.random.default_rng(_SEED).normal(size=(dims, _CLUSTER_BITS + 2)).astype(np.float32)
    return np.asarray(directions / np.linalg.norm(directions, axis=0), np.float32)


def _changed(data: NodeData, change: Callable[[Said], Said]) -> NodeData:
    regions = data.regions
    if regions is not None:
        changed = [replace(region, said=change(region.said)) for region in regions]
        regions = tuple(region for region in changed if region.said.concepts)
    return NodeData(whole=change(data.whole), regions=regions)
