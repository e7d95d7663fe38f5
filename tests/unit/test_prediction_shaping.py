"""How a prediction is cut, selected, sorted and named."""

from __future__ import annotations

import numpy as np
import pytest
from clarifai_grpc.grpc.api.resources_pb2 import Concept, OutputConfig

from sightrank.api import predictions
from sightrank.api.predictions import Selection, Wanted, read_config, select
from sightrank.errors import InvalidRequest, ModelInvalidArgument
from sightrank.vision.box import Box
from sightrank.vision.detector import Detection
from sightrank.vision.tagger import Tagger
from sightrank.vision.vocabulary import Term, Vocabulary

_NAMES = {"ai_1": "dog", "ai_2": "cat", "ai_3": "tree", "ai_4": "sky", "ai_5": "dog"}
VOCABULARY = Vocabulary(
    Term(id=id, names={"en": name} | ({"ja": "犬"} if id == "ai_1" else {}), hypernyms=(), definition="")
    for id, name in _NAMES.items()
)


def tagger_of(values: dict[str, float]) -> Tagger:
    """A tagger that predicts these values for the vector (1, 0)."""
    logits = np.log(np.array(list(values.values()), np.float64) / (1 - np.array(list(values.values()))))
    directions = np.tile(np.array([[1.0, 0.0]], np.float32), (len(values), 1))
    return Tagger(list(values), directions, logits.astype(np.float32), np.zeros(len(values), np.float32))


def tagged(values: dict[str, float], wanted: Wanted) -> list[tuple[str, float]]:
    vector = np.array([1.0, 0.0], np.float32)
    found = predictions.tags(tagger_of(values), vector, VOCABULARY, wanted, select(wanted, VOCABULARY))
    return [(concept.id, round(concept.value, 4)) for concept in found]


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
    with pytest.raises(ModelInvalidArgument, match="none of the selected concepts"):
        select(config(select_concepts=[concept]), VOCABULARY)


def test_selected_concepts_that_are_not_known_are_told() -> None:
    selection = select(config(select_concepts=[Concept(id="ai_2"), Concept(name="unicorn")]), VOCABULARY)

    assert selection.ids == {"ai_2"}
    assert [concept.name for concept in selection.unknown] == ["unicorn"]


def test_names_come_in_the_language_asked_for_else_in_english() -> None:
    vector = np.array([1.0, 0.0], np.float32)
    wanted = config(language="ja")

    found = predictions.tags(tagger_of({"ai_1": 0.9, "ai_2": 0.8}), vector, VOCABULARY, wanted, Selection(ids=None))

    assert [(c.id, c.name, c.language, c.app_id) for c in found] == [
        ("ai_1", "犬", "ja", "main"),
        ("ai_2", "cat", "en", "main"),
    ]


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

    found = predictions.regions(detections, VOCABULARY, config(min_value=0.2), Selection(ids=None))

    assert [(region.data.concepts[0].name, round(region.value, 3)) for region in found] == [("dog", 0.9), ("cat", 0.4)]
    place = found[0].region_info.bounding_box
    assert (place.top_row, place.left_col) == pytest.approx((0.1, 0.2))
    assert (place.bottom_row, place.right_col) == pytest.approx((0.5, 0.6))
