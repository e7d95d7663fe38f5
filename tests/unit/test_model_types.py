"""What models of each type take, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from clarifai_grpc.grpc.api.resources_pb2 import Concept, Data, OutputConfig, OutputInfo

from sightrank.api.model_types import checked_params, type_card
from sightrank.errors import ModelInvalidArgument


def info(*concepts: Concept, **params: Any) -> OutputInfo:
    message = OutputInfo(data=Data(concepts=concepts))
    message.params.update(params)
    return message


DOG = Concept(id="dog", value=0.5)


@pytest.mark.parametrize(
    ("sent", "comparison"),
    [
        ({}, 1),
        ({"concept_threshold_type": 2}, 2),
        ({"concept_threshold_type": "LESS_THAN"}, 3),
        ({"concept_threshold_type": "equal"}, 5),
    ],
)
@pytest.mark.parametrize("type_id", ["concept-threshold", "region-threshold"])
def test_thresholds_are_those_of_the_concepts(type_id: str, sent: dict[str, Any], comparison: int) -> None:
    params = checked_params(type_card(type_id), info(DOG, Concept(id="cat", value=0.25), **sent))

    assert params == {"concept_threshold_type": comparison, "concepts": {"dog": 0.5, "cat": 0.25}}


def test_thresholds_may_come_as_parameters_and_need_not_come_at_once() -> None:
    card = type_card("concept-threshold")

    assert checked_params(card, info(DOG, concepts=[{"id": "cat", "value": 0.25}]))["concepts"] == {
        "dog": 0.5,
        "cat": 0.25,
    }
    assert checked_params(card, info()) == {"concept_threshold_type": 1, "concepts": {}}


def test_a_threshold_is_the_same_number_whichever_way_it_is_said() -> None:
    """Values are 32 bits wide, in messages and in what networks say; numbers of parameters are 64."""
    card = type_card("concept-threshold")

    as_parameter = checked_params(card, info(concepts=[{"id": "cat", "value": 0.8}]))["concepts"]

    assert as_parameter == checked_params(card, info(Concept(id="cat", value=0.8)))["concepts"]
    assert as_parameter["cat"] == float(np.float32(0.8))


def test_parameters_of_the_older_guide_are_read_too() -> None:
    message = OutputInfo(data=Data(concepts=[DOG]), output_config=OutputConfig())
    message.output_config.model_metadata.update({"concept_threshold_type": 3})

    assert checked_params(type_card("concept-threshold"), message)["concept_threshold_type"] == 3


@pytest.mark.parametrize(
    ("type_id", "sent", "expected"),
    [
        ("concept-synonym-mapper", {}, {"knowledge_graph_id": ""}),
        ("concept-synonym-mapper", {"knowledge_graph_id": "g"}, {"knowledge_graph_id": "g"}),
        (
            "annotation-writer",
            {"annotation_status": 24151, "annotation_user_id": "ann"},
            {"annotation_status": 24151, "annotation_user_id": "ann", "annotation_info": {}},
        ),
        (
            "annotation-writer",
            {"annotation_status": "ANNOTATION_SUCCESS", "annotation_info": {"by": "flow"}},
            {"annotation_status": 24150, "annotation_user_id": "", "annotation_info": {"by": "flow"}},
        ),
        (
            "concept-thresholder",
            {"concept_threshold_type": "GREATER_THAN"},
            {"concept_threshold_type": 1, "concepts": {}},
        ),
        ("image-crop", {"margin": 0.25}, {"margin": 0.25}),
        ("image-cropper", {}, {"margin": 0.0}),
        ("knn-concept", {}, {"k": 5}),
        ("knn-concept", {"k": 3.0}, {"k": 3}),
        ("embedding-classifier", {"anything": [1.0]}, {"anything": [1.0]}),
    ],
)
def test_parameters_have_their_defaults(type_id: str, sent: dict[str, Any], expected: dict[str, Any]) -> None:
    assert checked_params(type_card(type_id), info(**sent)) == expected


@pytest.mark.parametrize(
    ("type_id", "message", "details"),
    [
        ("concept-threshold", info(Concept(value=0.5)), "has no id"),
        ("concept-threshold", info(Concept(id="dog", value=1.5)), "threshold of concept 'dog' is 1.5"),
        ("concept-threshold", info(concepts=[{"id": "dog"}]), "threshold of concept 'dog' is None"),
        ("concept-threshold", info(concepts="dog"), "a list of objects with id and value"),
        ("concept-threshold", info(concepts=["dog"]), "a list of objects with id and value"),
        ("image-crop", info(concepts=[]), "no parameter 'concepts'"),
        ("concept-threshold", info(DOG, concept_threshold_type=6), "is one of GREATER_THAN"),
        ("concept-threshold", info(DOG, concept_threshold_type="MORE"), "is 'MORE'"),
        ("concept-threshold", info(DOG, threshold=1), "no parameter 'threshold'; they have concept_threshold_type"),
        ("concept-synonym-mapper", info(knowledge_graph_id=1), "it is a text"),
        ("annotation-writer", info(annotation_status=30000), "is one of SUCCESS"),
        ("annotation-writer", info(annotation_info="x"), "it is an object"),
        ("image-crop", info(margin=10), "a number from 0 to 1"),
        ("image-crop", info(margin=True), "a number from 0 to 1"),
        ("knn-concept", info(k=0), "a number from 1 to 100"),
        ("knn-concept", info(k=1.5), "a whole number"),
    ],
)
def test_what_makes_no_sense_is_refused(type_id: str, message: OutputInfo, details: str) -> None:
    with pytest.raises(ModelInvalidArgument, match=details):
        checked_params(type_card(type_id), message)


def test_an_unknown_type_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(
        ModelInvalidArgument, match=r"'magic'; models can be made of visual-classifier, emb.*annotation-writer"
    ):
        type_card("magic")


@pytest.mark.parametrize("type_id", ["embedding-classifier", "visual-classifier"])
def test_classifiers_can_be_trained_and_operators_work_at_once(type_id: str) -> None:
    assert type_card(type_id).trainable
    assert type_card(type_id).creatable
    operator = type_card("concept-threshold")
    assert (operator.creatable, operator.trainable) == (True, False)
    assert not type_card("visual-detector").creatable
