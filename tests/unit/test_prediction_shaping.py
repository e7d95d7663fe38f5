"""How a prediction is cut, selected, sorted and named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from clarifai_grpc.grpc.api.resources_pb2 import Concept, Data, OutputConfig

from sightrank.api import predictions
from sightrank.api.concept_names import ConceptNames, OwnName
from sightrank.api.predictions import Selection, Wanted, check_selected, only, over, read_config, select, selected_ids
from sightrank.errors import InvalidRequest, ModelInvalidArgument
from sightrank.vision.box import Box
from sightrank.vision.detector import Detection
from sightrank.vision.operators import NodeData, Region, Said, found
from sightrank.vision.vocabulary import Term, Vocabulary

ALL = Selection(ids=None)
_NAMES = {"ai_1": "dog", "ai_2": "cat", "ai_3": "tree", "ai_4": "sky", "ai_5": "dog"}
VOCABULARY = Vocabulary(
    Term(id=id, names={"en": name} | ({"ja": "犬"} if id == "ai_1" else {}), hypernyms=(), definition="")
    for id, name in _NAMES.items()
)


KNOWN = [(term.id, term.name) for term in VOCABULARY]


def shown(said: NodeData, wanted: Wanted, selection: Selection = ALL, **names: Any) -> Data:
    data = Data()
    known = ConceptNames(public=VOCABULARY, **({"language": wanted.language or "en"} | names))
    predictions.fill(data, said, known, wanted, selection)
    return data


def whole(values: dict[str, float]) -> NodeData:
    return NodeData(whole=Said(concepts=tuple(values.items())))


def tagged(values: dict[str, float], wanted: Wanted) -> list[tuple[str, float]]:
    data = shown(whole(values), wanted, select(wanted, KNOWN))
    return [(concept.id, round(concept.value, 4)) for concept in data.concepts]


def config(**fields: object) -> Wanted:
    return read_config(OutputConfig(**fields))  # type: ignore[arg-type]


def test_the_likeliest_come_first_and_twenty_without_a_number() -> None:
    values = {f"c{n}": (n + 1) / 40 for n in range(30)}

    found = tagged(values, config())

    assert found == [(f"c{n}", round((n + 1) / 40, 4)) for n in range(29, 9, -1)]


def test_selected_concepts_are_all_that_is_answered_whatever_the_cut() -> None:
    values = {"ai_1": 0.3, "ai_2": 0.2, "ai_3": 0.9, "ai_4": 0.8}
    wanted = config(max_concepts=1, select_concepts=[Concept(id="ai_2"), Concept(name="dog")])

    assert tagged(values, wanted) == [("ai_1", 0.3), ("ai_2", 0.2)]


@pytest.mark.parametrize("concept", [Concept(name="Dog"), Concept(id="dog"), Concept(id="AI_1"), Concept(name="犬")])
def test_selected_concepts_are_found_by_their_exact_id_or_name(concept: Concept) -> None:
    selection = select(config(select_concepts=[concept]), KNOWN)

    assert selection.ids == frozenset()
    with pytest.raises(ModelInvalidArgument, match="none of the selected concepts"):
        check_selected([selection])
    check_selected([selection, select(config(select_concepts=[Concept(id="ai_2")]), KNOWN)])


def test_selected_concepts_that_are_not_known_are_told() -> None:
    selection = select(config(select_concepts=[Concept(id="ai_2"), Concept(name="unicorn")]), KNOWN)

    assert selection.ids == {"ai_2"}
    assert [concept.name for concept in selection.unknown] == ["unicorn"]


def test_names_come_in_the_language_asked_for_else_in_english() -> None:
    data = shown(whole({"ai_1": 0.9, "ai_2": 0.8}), config(language="ja"))

    assert [(c.id, c.name, c.language, c.app_id) for c in data.concepts] == [
        ("ai_1", "犬", "ja", "main"),
        ("ai_2", "cat", "en", "main"),
    ]


def test_concepts_of_an_app_have_its_names_and_ids() -> None:
    own = {"rex": OwnName(name="Rex", language="en", original="Rex")}

    data = shown(whole({"rex": 0.9, "ai_2": 0.8, "new": 0.7}), config(), own=own, user_id="ann", app_id="dogs")

    assert [(c.id, c.name, c.user_id, c.app_id) for c in data.concepts] == [
        ("rex", "Rex", "ann", "dogs"),
        ("ai_2", "cat", "clarifai", "main"),
        ("new", "new", "ann", "dogs"),
    ]


def test_a_configuration_over_another_replaces_what_it_sets() -> None:
    version = OutputConfig(max_concepts=3, min_value=0.5, select_concepts=[Concept(id="a")], language="de")

    merged = over(version, OutputConfig(min_value=0.25, select_concepts=[Concept(id="b")]), OutputConfig(sample_ms=500))

    assert merged == OutputConfig(
        max_concepts=3, min_value=0.25, select_concepts=[Concept(id="b")], language="de", sample_ms=500
    )


@pytest.mark.parametrize("value", [-0.1, 1.5])
def test_a_minimum_that_is_no_value_is_refused(value: float) -> None:
    with pytest.raises(InvalidRequest, match="min_value"):
        config(min_value=value)


def test_a_selection_without_a_name_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="neither id nor name"):
        config(select_concepts=[Concept(value=1)])


def test_random_requests_agree_with_a_plain_reading_of_the_rules() -> None:
    random = np.random.default_rng(4)
    for _ in range(300):
        values = {id: float(value) for id, value in zip(_NAMES, random.uniform(0.01, 0.99, len(_NAMES)), strict=True)}
        chosen = [id for id in _NAMES if random.random() < 0.4]
        least, most = float(random.choice([0.0, 0.3, 0.7])), int(random.integers(0, 4))
        wanted = config(max_concepts=most, min_value=least, select_concepts=[Concept(id=id) for id in chosen])

        expected = sorted(((id, value) for id, value in values.items() if value >= least), key=lambda pair: -pair[1])
        expected = [pair for pair in expected if pair[0] in chosen] if chosen else expected[: most or 20]

        found = tagged(values, wanted)
        assert [id for id, _ in found] == [id for id, _ in expected]
        assert [value for _, value in found] == pytest.approx([value for _, value in expected], abs=1e-3)


def test_regions_come_surest_first_with_their_place() -> None:
    box = Box(top=0.1, left=0.2, bottom=0.5, right=0.6)
    detections = [
        Detection(box=box, concept_id="ai_2", value=0.4),
        Detection(box=box, concept_id="ai_1", value=0.9),
        Detection(box=box, concept_id="ai_3", value=0.1),
    ]

    regions = shown(found(detections), config(min_value=0.2)).regions

    assert [(r.id, r.data.concepts[0].name, round(r.value, 3)) for r in regions] == [
        ("0", "dog", 0.9),
        ("1", "cat", 0.4),
    ]
    place = regions[0].region_info.bounding_box
    assert (place.top_row, place.left_col) == pytest.approx((0.1, 0.2))
    assert (place.bottom_row, place.right_col) == pytest.approx((0.5, 0.6))


def test_what_is_not_selected_can_go_before_the_answer_is_made() -> None:
    by_id, by_name = (config(select_concepts=[concept]) for concept in (Concept(id="ai_1"), Concept(name="dog")))
    box = Box(top=0.1, left=0.2, bottom=0.5, right=0.6)
    silent = Region(id="2", box=box, value=0.3, said=Said(vector=np.array([1.0], np.float32)))
    detections = [Detection(box=box, concept_id=id, value=0.5) for id in ("ai_1", "ai_3")]
    said = NodeData(
        whole=Said(concepts=(("ai_1", 0.1), ("ai_2", 0.9))), regions=(*(found(detections).regions or ()), silent)
    )

    assert selected_ids(config(), KNOWN) is None
    assert selected_ids(by_name, None) is None
    assert selected_ids(by_name, KNOWN) == {"ai_1", "ai_5"}
    ids = selected_ids(by_id, None)
    assert ids == {"ai_1"}
    cut = only(said, ids)
    assert cut.whole.concepts == (("ai_1", 0.1),)
    assert shown(cut, by_id, Selection(ids=ids)) == shown(said, by_id, Selection(ids=ids))
    assert len(cut.regions or ()) == 2


def test_a_region_of_which_nothing_was_said_stays_and_may_have_a_vector() -> None:
    box = Box(top=0.1, left=0.2, bottom=0.5, right=0.6)
    region = Region(id="0", box=box, value=0.5, said=Said(vector=np.array([0.6, 0.8], np.float32)))

    (told,) = shown(NodeData(regions=(region,)), config(min_value=0.9)).regions

    assert list(told.data.embeddings[0].vector) == pytest.approx([0.6, 0.8])
    assert told.data.embeddings[0].num_dimensions == 2
