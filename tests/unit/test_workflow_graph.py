"""Which nodes fit together, in which order they run, and what one input becomes on its way through them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, cast

import numpy as np
import pytest
from clarifai_grpc.grpc.api.resources_pb2 import NodeInput, WorkflowNode

from sightrank.errors import WorkflowGraphInvalid
from sightrank.teach.graph import Node, check, ordered, run
from sightrank.teach.own_workflows import nodes_of
from sightrank.teach.steps import Changes, Crops, Finds, Looks, Step, Writes
from sightrank.vision.box import Box
from sightrank.vision.detector import Detection
from sightrank.vision.eye import Eye
from sightrank.vision.operators import NodeData, Said, cropped, mapped, threshold

EYE = cast(Eye, object())
LEFT = Box(top=0.0, left=0.0, bottom=1.0, right=0.5)
RIGHT = Box(top=0.0, left=0.5, bottom=1.0, right=0.75)


def node(id: str, type_id: str, *inputs: str) -> Node:
    return Node(id=id, model_id=id, type_id=type_id, inputs=inputs)


CONCEPT = node("concept", "visual-classifier")
DETECTOR = node("faces", "visual-detector")


class Picture:
    """A sight whose vectors are the width of what is looked at and how much of the picture is left of it."""

    def __init__(self) -> None:
        self.looked: list[list[Box | None]] = []

    async def vectors(self, eye: Eye, boxes: Sequence[Box | None]) -> np.ndarray[Any, np.dtype[np.float32]]:
        self.looked.append(list(boxes))
        return np.array([(1.0, 0.0) if b is None else (b.right - b.left, b.left) for b in boxes], np.float32)

    async def detections(self, eye: Eye, boxes: Sequence[Box | None]) -> Sequence[Sequence[Detection]]:
        """In the whole two faces; in each part one, in its upper half."""
        upper = Box(top=0.0, left=0.0, bottom=0.5, right=1.0)
        both = [Detection(box=LEFT, concept_id="face", value=0.9), Detection(box=RIGHT, concept_id="face", value=0.8)]
        return [both if box is None else [Detection(box=upper.of(box), concept_id="eyes", value=0.7)] for box in boxes]


def looks(*names: str) -> Looks:
    """Says these concepts with the numbers of the vector as their values."""
    return Looks(
        eye=EYE,
        says=lambda vectors: [Said(concepts=tuple(zip(names, row, strict=False))) for row in vectors.tolist()],
    )


def ran(nodes: Sequence[Node], steps: Mapping[str, Step], picture: Picture) -> dict[str, NodeData]:
    return asyncio.run(run(ordered(nodes), steps, picture))


def test_nodes_run_after_their_inputs_and_otherwise_in_their_own_order() -> None:
    nodes = [
        node("write", "annotation-writer", "over"),
        node("over", "concept-threshold", "concept"),
        DETECTOR,
        CONCEPT,
    ]

    assert [one.id for one in ordered(nodes)] == ["faces", "concept", "over", "write"]


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([CONCEPT, CONCEPT], "Two nodes have the id 'concept'"),
        ([node("over", "concept-threshold", "nobody")], "'nobody', which is no node"),
        ([node("a", "concept-threshold", "b"), node("b", "concept-threshold", "a")], r"circle.*: a, b"),
        ([node("a", "concept-threshold", "a")], r"circle.*: a"),
    ],
)
def test_a_graph_that_has_no_order_is_refused(nodes: list[Node], message: str) -> None:
    with pytest.raises(WorkflowGraphInvalid, match=message):
        ordered(nodes)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([node("over", "concept-threshold")], "takes another node's concepts; name it in node_inputs"),
        ([CONCEPT, node("crop", "image-crop", "concept")], "takes regions; its node_inputs give concepts"),
        ([node("e", "visual-embedder"), node("m", "concept-synonym-mapper", "e")], "takes concepts; .* embeddings"),
        ([CONCEPT, node("faces", "visual-detector", "concept")], "takes regions; its node_inputs give concepts"),
        (
            [DETECTOR, *(node(f"d{n}", "visual-detector", f"d{n - 1}" if n else "faces") for n in range(3))],
            "Node 'd2' is detector number 4 of those that look one in what the other finds; 3 is the limit",
        ),
        ([CONCEPT, node("mine", "embedding-classifier", "concept")], "takes embeddings or regions"),
        ([node("c", "clusterer"), node("w", "annotation-writer", "c")], "takes concepts or regions; .* clusters"),
    ],
)
def test_a_node_that_cannot_use_what_it_is_given_is_refused(nodes: list[Node], message: str) -> None:
    with pytest.raises(WorkflowGraphInvalid, match=message):
        check(nodes)


def test_detectors_may_look_in_what_others_find() -> None:
    check([DETECTOR, node("crop", "image-crop", "faces"), node("eyes", "visual-detector", "crop"), CONCEPT])
    check([DETECTOR, node("eyes", "visual-detector", "faces"), node("iris", "visual-detector", "eyes", "faces")])


def test_a_detector_behind_a_crop_finds_in_each_region_and_says_where_in_the_whole() -> None:
    nodes = [
        DETECTOR,
        node("crop", "image-crop", "faces"),
        node("eyes", "visual-detector", "crop"),
        node("who", "embedding-classifier", "eyes"),
    ]
    steps: dict[str, Step] = {
        "faces": Finds(eye=EYE),
        "crop": Crops(margin=0.5),
        "eyes": Finds(eye=EYE),
        "who": looks("wide", "far"),
    }

    data = ran(nodes, steps, Picture())

    eyes = data["eyes"].regions
    assert eyes is not None
    assert [(region.id, region.box, region.said.concepts) for region in eyes] == [
        ("0", Box(top=0.0, left=0.0, bottom=0.5, right=0.75), (("eyes", 0.7),)),
        ("1", Box(top=0.0, left=0.375, bottom=0.5, right=0.875), (("eyes", 0.7),)),
    ]
    who = data["who"].regions
    assert who is not None
    assert [dict(region.said.concepts) for region in who] == [{"wide": 0.75, "far": 0.0}, {"wide": 0.5, "far": 0.375}]


def test_a_detector_looks_in_the_surest_regions_only_and_passes_on_a_bounded_number() -> None:
    class Crowd(Picture):
        def __init__(self) -> None:
            super().__init__()
            self.searched: list[int] = []

        async def detections(self, eye: Eye, boxes: Sequence[Box | None]) -> Sequence[Sequence[Detection]]:
            """Forty columns in the whole, the surest on the right; ten rows in each part."""
            self.searched.append(len(boxes))
            if boxes == [None]:
                columns = [Box(top=0.0, left=n / 40, bottom=1.0, right=(n + 1) / 40) for n in range(40)]
                return [[Detection(box=box, concept_id="one", value=n / 40) for n, box in enumerate(columns)]]
            rows = [Box(top=n / 10, left=0.0, bottom=(n + 1) / 10, right=1.0) for n in range(10)]
            return [[Detection(box=row.of(box), concept_id="row", value=0.5) for row in rows] for box in boxes if box]

    sight = Crowd()

    data = ran(
        [DETECTOR, node("rows", "visual-detector", "faces")], {"faces": Finds(eye=EYE), "rows": Finds(eye=EYE)}, sight
    )

    rows = data["rows"].regions
    assert rows is not None
    assert sight.searched == [1, 20]
    assert len(rows) == 100
    assert min(region.box.left for region in rows) >= 0.5


def test_where_nothing_is_found_the_next_detector_finds_nothing() -> None:
    nodes = [DETECTOR, node("sure", "region-threshold", "faces"), node("eyes", "visual-detector", "sure")]
    never = partial(threshold, thresholds={"face": 1.0}, comparison=1)
    steps: dict[str, Step] = {"faces": Finds(eye=EYE), "sure": Changes(change=never), "eyes": Finds(eye=EYE)}

    assert ran(nodes, steps, Picture())["eyes"].regions == ()


def test_the_workflows_of_the_guide_fit_together() -> None:
    annotating = [
        node("embed", "visual-embedder"),
        CONCEPT,
        node("cluster", "clusterer"),
        node("mapper", "concept-synonym-mapper", "concept"),
        node("over", "concept-threshold", "mapper"),
        node("write", "annotation-writer", "over"),
    ]
    recognising = [
        DETECTOR,
        node("sure", "region-threshold", "faces"),
        node("crop", "image-crop", "sure"),
        node("embed", "visual-embedder", "crop"),
        node("names", "knn-concept", "embed"),
        node("known", "concept-threshold", "names"),
    ]

    check(annotating)
    check(recognising)


def test_concepts_go_through_mapper_thresholds_and_writers() -> None:
    nodes = [
        CONCEPT,
        node("mapper", "concept-synonym-mapper", "concept"),
        node("over", "concept-threshold", "mapper"),
        node("under", "concept-threshold", "mapper"),
        node("write", "annotation-writer", "over"),
    ]
    limits = {"mine": 0.5, "yours": 0.5}
    steps: dict[str, Step] = {
        "concept": looks("theirs", "others"),
        "mapper": Changes(change=partial(mapped, synonyms={"theirs": ["mine"], "others": ["yours"]})),
        "over": Changes(change=partial(threshold, thresholds=limits, comparison=1)),
        "under": Changes(change=partial(threshold, thresholds=limits, comparison=3)),
        "write": Writes(status=24150),
    }

    data = ran(nodes, steps, Picture())

    assert data["over"].whole.concepts == (("mine", 1.0),)
    assert data["under"].whole.concepts == (("yours", 0.0),)
    assert data["write"].whole.concepts == (("mine", 1.0),)


@pytest.mark.parametrize(("public", "passed_on"), [(True, 20), (False, 30)])
def test_an_own_classifier_passes_on_all_its_concepts_and_an_installed_one_the_likeliest(
    public: bool, passed_on: int
) -> None:
    values = {f"c{place}": place / 100 for place in range(30)}
    nodes = [
        Node(id="concept", model_id="concept", type_id="visual-classifier", public=public),
        node("under", "concept-threshold", "concept"),
        node("write", "annotation-writer", "under"),
    ]
    steps: dict[str, Step] = {
        "concept": Looks(eye=EYE, says=lambda _: [Said(concepts=tuple(values.items()))]),
        "under": Changes(change=partial(threshold, thresholds=dict.fromkeys(values, 0.5), comparison=3)),
        "write": Writes(status=24151),
    }

    data = ran(nodes, steps, Picture())

    assert len(data["under"].whole.concepts) == passed_on
    assert sorted(data["write"].whole.concepts) == sorted(list(values.items())[10:])


def test_behind_a_detector_each_region_is_looked_at_as_it_was_cut() -> None:
    nodes = [DETECTOR, node("crop", "image-crop", "faces"), node("names", "knn-concept", "crop")]
    steps: dict[str, Step] = {
        "faces": Finds(eye=EYE),
        "crop": Changes(change=partial(cropped, margin=1.0)),
        "names": looks("ann"),
    }
    picture = Picture()

    regions = ran(nodes, steps, picture)["names"].regions

    assert regions is not None
    assert [(one.box, one.value, one.said.concepts) for one in regions] == [
        (LEFT, 0.9, (("ann", 1.0),)),
        (RIGHT, 0.8, (("ann", 0.75),)),
    ]
    assert picture.looked == [
        [Box(top=0.0, left=0.0, bottom=1.0, right=1.0), Box(top=0.0, left=0.25, bottom=1.0, right=1.0)]
    ]


def test_where_nothing_is_found_nothing_is_looked_at() -> None:
    class Empty(Picture):
        async def detections(self, eye: Eye, boxes: Sequence[Box | None]) -> Sequence[Sequence[Detection]]:
            return [[] for _ in boxes]

    data = ran(
        [DETECTOR, node("names", "knn-concept", "faces")], {"faces": Finds(eye=EYE), "names": looks("ann")}, Empty()
    )

    assert data["names"].regions == ()


def test_whoever_waits_has_their_turn_between_two_nodes() -> None:
    nodes = [node(f"{place}", "visual-classifier") for place in range(3)]
    ended: list[str] = []

    async def other() -> None:
        ended.append("other")

    async def scenario() -> None:
        waiting = asyncio.create_task(other())
        await run(nodes, {one.id: looks("wide") for one in nodes}, Picture())
        ended.append("nodes")
        await waiting

    asyncio.run(scenario())

    assert ended == ["other", "nodes"]


def test_a_node_that_is_named_again_and_again_is_one_input() -> None:
    message = WorkflowNode(id="over", node_inputs=[NodeInput(node_id=name) for name in ("b", "a", "b", "b")])

    (read,) = nodes_of([message])

    assert read.inputs == ("b", "a")
