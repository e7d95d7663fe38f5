"""Workflows as graphs: whether nodes fit together, in which order they run, and running one input through them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from sightrank.errors import WorkflowGraphInvalid
from sightrank.teach.steps import Step
from sightrank.vision.operators import NodeData, joined, likeliest
from sightrank.vision.sight import Sight
from sightrank.vision.tagger import DEFAULT_CONCEPTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One model at its place in a workflow. ``version_id`` '' stands for the one that is in use; ``public``: it is one
    of those installed, not of the app. ``inputs``: the nodes whose data it gets; without any it sees the input itself.
    """

    id: str
    model_id: str
    version_id: str = ""
    type_id: str
    public: bool = False
    inputs: tuple[str, ...] = ()
    suppressed: bool = False


_WRITER: Final = "annotation-writer"
_DETECTOR: Final = "visual-detector"
#: How many detectors may look one in what the other finds.
MOST_DETECTORS_DEEP: Final = 3


class _Part(Enum):
    """What data may have in it; its value is the API's word."""

    CONCEPTS = "concepts"
    EMBEDDINGS = "embeddings"
    REGIONS = "regions"
    CLUSTERS = "clusters"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    """What nodes of a type take, one of ``takes``, and give. ``alone``: they also see the input itself.

    ``gives`` is empty for operators: they give what they are given.
    """

    takes: frozenset[_Part] = frozenset()
    gives: frozenset[_Part] = frozenset()
    alone: bool = False


_SEEN = frozenset({_Part.EMBEDDINGS, _Part.REGIONS})
_CLASSIFIER = _Rule(takes=_SEEN, gives=frozenset({_Part.CONCEPTS}), alone=True)
_EMBEDDER = _Rule(takes=frozenset({_Part.REGIONS}), gives=frozenset({_Part.EMBEDDINGS}), alone=True)
_RULES = {
    "visual-classifier": _CLASSIFIER,
    "embedding-classifier": _CLASSIFIER,
    "knn-concept": _CLASSIFIER,
    "visual-embedder": _EMBEDDER,
    "multimodal-embedder": _EMBEDDER,
    _DETECTOR: _Rule(takes=frozenset({_Part.REGIONS}), gives=frozenset({_Part.REGIONS, _Part.CONCEPTS}), alone=True),
    "clusterer": _Rule(takes=_SEEN, gives=frozenset({_Part.CLUSTERS}), alone=True),
    "concept-threshold": _Rule(takes=frozenset({_Part.CONCEPTS})),
    "concept-synonym-mapper": _Rule(takes=frozenset({_Part.CONCEPTS})),
    "region-threshold": _Rule(takes=frozenset({_Part.REGIONS})),
    "image-crop": _Rule(takes=frozenset({_Part.REGIONS})),
    _WRITER: _Rule(takes=frozenset({_Part.CONCEPTS, _Part.REGIONS})),
}


def sees_input(node: Node) -> bool:
    """Whether the node can do something without other nodes before it."""
    return _RULES[node.type_id].alone


def ordered(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """The nodes so that each comes after its inputs, else in their own order.

    Raises WorkflowGraphInvalid for two nodes of one id, for inputs that are no node, and for circles.
    """
    by_id: dict[str, Node] = {}
    for node in nodes:
        if node.id in by_id:
            raise WorkflowGraphInvalid(f"Two nodes have the id {node.id!r}; give each its own.")
        by_id[node.id] = node
    for node in nodes:
        for name in node.inputs:
            if name not in by_id:
                raise WorkflowGraphInvalid(
                    f"Node {node.id!r} takes its input from {name!r}, which is no node of the workflow; there are"
                    f" {', '.join(by_id)}."
                )
    placed: dict[str, Node] = {}
    while len(placed) < len(nodes):
        ready = [node for node in nodes if node.id not in placed and all(name in placed for name in node.inputs)]
        if not ready:
            rest = ", ".join(node.id for node in nodes if node.id not in placed)
            raise WorkflowGraphInvalid(f"Nodes wait for each other in a circle, so none can begin: {rest}.")
        placed |= {node.id: node for node in ready}
    return tuple(placed.values())


def check(nodes: Sequence[Node]) -> None:
    """Raises WorkflowGraphInvalid for what ``ordered`` refuses, for nodes that cannot use what they are given, and for
    too many detectors one behind the other.
    """
    given: dict[str, frozenset[_Part]] = {}
    for node in ordered(nodes):
        rule = _RULES[node.type_id]
        parents = frozenset[_Part]().union(*(given[name] for name in node.inputs))
        if not node.inputs and not rule.alone:
            raise WorkflowGraphInvalid(
                f"Node {node.id!r} ({node.type_id}) takes another node's {_either(rule.takes)}; name it in node_inputs."
            )
        if node.inputs and not rule.takes & parents:
            raise WorkflowGraphInvalid(
                f"Node {node.id!r} ({node.type_id}) takes {_either(rule.takes)}; its node_inputs give"
                f" {_either(parents)}."
            )
        if not rule.gives:
            given[node.id] = parents
        else:
            given[node.id] = rule.gives | (parents & {_Part.REGIONS})
    for node_id, depth in _depths(nodes).items():
        if depth > MOST_DETECTORS_DEEP:
            raise WorkflowGraphInvalid(
                f"Node {node_id!r} is detector number {depth} of those that look one in what the other finds;"
                f" {MOST_DETECTORS_DEEP} is the limit."
            )


def _depths(nodes: Sequence[Node]) -> dict[str, int]:
    """How many detectors stand one behind the other up to each node, itself included."""
    depths: dict[str, int] = {}
    for node in ordered(nodes):
        depths[node.id] = max((depths[name] for name in node.inputs), default=0) + (node.type_id == _DETECTOR)
    return depths


async def run(nodes: Sequence[Node], steps: Mapping[str, Step], sight: Sight) -> dict[str, NodeData]:
    """What each node, ``ordered`` and with its step, says of one input, by node id. Raises what ``sight`` raises.

    Of an installed model, which knows thousands of concepts, the next nodes get the likeliest ones, as many as a
    prediction shows: what it thinks unlikely it has not predicted, so that a threshold for low values finds the
    doubtful predictions and not all the rest. Of the app's own models they get all. A writer writes the likeliest of
    either.
    """
    public = frozenset(node.id for node in nodes if node.public)
    data: dict[str, NodeData] = {}
    for node in nodes:
        parts = [
            likeliest(data[name], DEFAULT_CONCEPTS) if name in public or node.type_id == _WRITER else data[name]
            for name in node.inputs
        ]
        given = joined(parts) if parts else None
        data[node.id] = await steps[node.id].run(given, sight)
        await asyncio.sleep(0)  # a hundred nodes over hundreds of frames: others have their turn between them
    return data


def _either(parts: Iterable[_Part]) -> str:
    return " or ".join(sorted(part.value for part in parts))
