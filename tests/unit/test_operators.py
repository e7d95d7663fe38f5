"""What operators make of concepts, regions and vectors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sightrank.vision.box import Box
from sightrank.vision.detector import Detection
from sightrank.vision.operators import (
    Labelled,
    NodeData,
    Region,
    Said,
    clusters,
    cropped,
    found,
    found_in_parts,
    joined,
    mapped,
    neighbours,
    threshold,
)

BOX = Box(top=0.2, left=0.4, bottom=0.6, right=0.8)


def whole(**values: float) -> NodeData:
    return NodeData(whole=Said(concepts=tuple(values.items())))


def region(id: str, **values: float) -> Region:
    return Region(id=id, box=BOX, value=0.9, said=Said(concepts=tuple(values.items())))


def concepts(data: NodeData) -> dict[str, float]:
    return dict(data.whole.concepts)


@pytest.mark.parametrize(
    ("comparison", "passing"),
    [(1, {"high"}), (2, {"high", "same"}), (3, {"low"}), (4, {"low", "same"}), (5, {"same"})],
)
def test_values_pass_that_compare_as_wanted_with_their_own_threshold(comparison: int, passing: set[str]) -> None:
    data = whole(low=0.25, same=0.5, high=0.75, other=0.75)

    left = threshold(data, {"low": 0.5, "same": 0.5, "high": 0.5}, comparison)

    assert set(concepts(left)) == passing


def test_a_region_is_left_out_when_none_of_its_concepts_passes() -> None:
    data = NodeData(regions=(region("0", dog=0.9, cat=0.1), region("1", dog=0.2)))

    left = threshold(data, {"dog": 0.5, "cat": 0.5}, 1)

    assert left.regions is not None
    assert [(one.id, one.said.concepts) for one in left.regions] == [("0", (("dog", 0.9),))]


def test_concepts_become_their_synonyms_with_the_surest_value_and_others_are_left_out() -> None:
    data = whole(man=0.6, person=0.8, tree=0.9)

    left = mapped(data, {"man": ["people", "adult"], "person": ["people"]})

    assert concepts(left) == {"people": 0.8, "adult": 0.6}


def test_the_concepts_of_regions_are_mapped_too() -> None:
    left = mapped(NodeData(regions=(region("0", man=0.6), region("1", tree=0.5))), {"man": ["people"]})

    assert left.regions is not None
    assert [one.said.concepts for one in left.regions] == [(("people", 0.6),)]


def test_a_crop_adds_its_margin_and_stays_within_the_picture() -> None:
    edge = Region(id="1", box=Box(top=0.0, left=0.9, bottom=0.5, right=1.0), value=0.5, said=Said())

    data = cropped(NodeData(regions=(region("0"), edge)), 0.25)

    assert data.regions is not None
    first, second = data.regions
    assert first.seen_in == Box(
        top=pytest.approx(0.1), left=pytest.approx(0.3), bottom=pytest.approx(0.7), right=pytest.approx(0.9)
    )
    assert first.box == BOX
    assert second.seen_in == Box(top=0.0, left=pytest.approx(0.875), bottom=0.625, right=1.0)


def test_regions_come_surest_first() -> None:
    data = found([Detection(box=BOX, concept_id="cat", value=0.3), Detection(box=BOX, concept_id="dog", value=0.8)])

    assert data.regions is not None
    assert [(one.id, one.value, one.said.concepts) for one in data.regions] == [
        ("0", 0.8, (("dog", 0.8),)),
        ("1", 0.3, (("cat", 0.3),)),
    ]


def test_what_several_nodes_say_is_joined() -> None:
    other = replace(region("0"), box=Box(top=0.0, left=0.0, bottom=1.0, right=0.5))

    both = joined([whole(dog=0.5), NodeData(regions=(region("0"),)), NodeData(regions=(other,)), whole(cat=0.1)])

    assert concepts(both) == {"dog": 0.5, "cat": 0.1}
    assert both.regions is not None
    assert [one.id for one in both.regions] == ["0", "1"]
    assert joined([whole(dog=1.0), whole()]).regions is None


def unit(*degrees: float) -> np.ndarray:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def labelled_areas(vectors: np.ndarray, *columns: tuple[int, ...]) -> Labelled:
    """Areas that have these of the concepts ann and ben."""
    return Labelled(
        concept_ids=("ann", "ben"),
        vectors=vectors,
        starts=np.cumsum([0, *map(len, columns)]),
        columns=np.array([column for some in columns for column in some], np.int32),
    )


def test_neighbours_vote_by_how_similar_they_are() -> None:
    labelled = labelled_areas(unit(0, 10, 90), (0,), (0,), (1,))

    near_ann, between, near_ben = (dict(values) for values in neighbours(labelled, unit(2, 50, 88), k=3))

    assert near_ann["ann"] > 0.99
    assert near_ben["ben"] > 0.99
    assert 0.2 < between["ann"] < 0.8
    for values in (near_ann, between, near_ben):
        assert sum(values.values()) == pytest.approx(1.0, abs=1e-6)


def test_only_the_nearest_k_vote() -> None:
    labelled = labelled_areas(unit(0, 1, 2), (0,), (1,), (1,))

    (one,), (all_three,) = neighbours(labelled, unit(0), k=1), neighbours(labelled, unit(0), k=10)

    assert dict(one) == {"ann": 1.0, "ben": 0.0}
    assert dict(all_three)["ben"] == pytest.approx(2 / 3, abs=0.01)


@pytest.mark.parametrize("k", [1, 2, 7, 60])
def test_neighbours_are_those_that_a_full_sort_finds(k: int) -> None:
    random = np.random.default_rng(5)
    has = random.random((60, 2)) < 0.5
    has[~has.any(axis=1), 0] = True
    columns = tuple(tuple(int(column) for column in np.flatnonzero(row)) for row in has)
    labelled, asked = labelled_areas(unit(*random.uniform(0, 360, 60)), *columns), unit(*random.uniform(0, 360, 9))

    said = neighbours(labelled, asked, k)

    for vector, values in zip(asked, said, strict=True):
        cosines = labelled.vectors @ vector
        nearest = np.argsort(-cosines)[:k]
        votes = np.exp((cosines[nearest] - cosines.max()) / 0.05) @ has[nearest]
        assert [value for _, value in values] == pytest.approx((votes / votes.sum()).tolist(), abs=1e-5)


def test_without_labels_nothing_is_said() -> None:
    nothing = labelled_areas(np.empty((0, 2), np.float32))

    assert neighbours(nothing, unit(0, 5), k=3) == [(), ()]


def test_alike_vectors_share_their_cluster_and_opposite_ones_do_not() -> None:
    random = np.random.default_rng(1)
    vector = random.normal(size=(1, 64)).astype(np.float32)
    vector /= np.linalg.norm(vector)

    one, same, opposite = clusters(np.concatenate([vector, vector, -vector]))

    assert one == same
    assert one.id != opposite.id
    assert one.projection == pytest.approx([-x for x in opposite.projection])


def test_what_several_nodes_say_of_the_same_concept_is_said_once_by_the_surest() -> None:
    data = joined([whole(dog=0.6, cat=0.3), whole(dog=0.8)])

    assert data.whole.concepts == (("dog", 0.8), ("cat", 0.3))


def test_a_region_that_several_nodes_pass_on_comes_once_with_what_each_says_of_it() -> None:
    elsewhere = Region(id="1", box=Box(top=0.0, left=0.0, bottom=1.0, right=0.5), value=0.5, said=Said())

    data = joined(
        [NodeData(regions=(region("0", dog=0.9), elsewhere)), NodeData(regions=(region("0", cat=0.2, dog=0.9),))]
    )

    assert data.regions is not None
    assert [(one.id, one.box, one.said.concepts) for one in data.regions] == [
        ("0", BOX, (("dog", 0.9), ("cat", 0.2))),
        ("1", elsewhere.box, ()),
    ]


def test_what_is_found_in_parts_that_overlap_is_one_region() -> None:
    def detection(left: float, value: float, concept_id: str = "face") -> Detection:
        box = Box(top=0.0, left=left, bottom=0.5, right=left + 0.4)
        return Detection(box=box, concept_id=concept_id, value=value)

    data = found_in_parts(
        [[detection(0.0, 0.7), detection(0.5, 0.9)], [detection(0.02, 0.8), detection(0.0, 0.6, "hat")], []]
    )

    assert data.regions is not None
    assert [(one.id, one.box.left, one.value, one.said.concepts) for one in data.regions] == [
        ("0", 0.5, 0.9, (("face", 0.9),)),
        ("1", 0.02, 0.8, (("face", 0.8),)),
        ("2", 0.0, 0.6, (("hat", 0.6),)),
    ]
    assert found_in_parts([]).regions == ()


def test_what_one_node_says_is_left_as_it_is() -> None:
    twice = NodeData(regions=(region("0", dog=0.9), region("1", cat=0.8)))

    assert joined([twice]) is twice
