"""What labels do to searches: they win over predictions, area by area (design, score laws)."""

from __future__ import annotations

import pytest
from clarifai_grpc.grpc.api.resources_pb2 import Annotation, Concept, Data, Filter, Query, Search
from tests.integration.serving import App, by_concept, hit_inputs, of_bytes, picture
from tests.integration.test_annotations_post import LEFT, boxed, has, on, pair


def scores(app: App, concept_id: str, value: float = 1.0, *, inputs: bool = False) -> dict[str, float]:
    """The best score of each input."""
    best: dict[str, float] = {}
    for hit in app.rank(by_concept(concept_id, value), inputs=inputs):
        best[hit.input.id] = max(hit.score, best.get(hit.input.id, 0.0))
    return best


def cat(app: App) -> str:
    """The id of the public concept "cat", which the tagger predicts."""
    query = {"concept_query": {"name": "cat"}}
    found = app.rest("POST", "/concepts/searches", query)["concepts"]
    return str(next(concept["id"] for concept in found if concept["name"] == "cat"))


@pytest.mark.parametrize("value", [1.0, 0.0])
def test_a_label_wins_over_the_prediction(app: App, value: float) -> None:
    app.indexed(*(of_bytes(picture(n), f"i{n}") for n in range(4)))
    concept = cat(app)
    before = scores(app, concept)
    assert set(before) == {"i0", "i1", "i2", "i3"}

    app.annotate(on("i2", Data(concepts=[has(concept, value)])))

    after = scores(app, concept)
    assert after.pop("i2") == value
    assert after == {name: score for name, score in before.items() if name != "i2"}
    opposite = scores(app, concept, 0.0)
    assert opposite["i2"] == 1.0 - value


def test_the_latest_of_several_labels_counts_until_it_is_deleted(app: App) -> None:
    app.indexed(of_bytes(picture(1), "a", concepts=[has("mine", 1)]), of_bytes(picture(2), "b"))
    (late,) = app.annotate(on("a", Data(concepts=[has("mine", 0)])))
    assert scores(app, "mine")["a"] == 0

    app.call("DeleteAnnotation", input_id="a", annotation_id=late.id)

    assert scores(app, "mine")["a"] == 1


def test_labels_given_with_the_input_rank_it_first(app: App) -> None:
    app.indexed(
        of_bytes(picture(1), "plain"),
        of_bytes(picture(2), "yes", concepts=[has("mine", 1)]),
        of_bytes(picture(3), "no", concepts=[has("mine", 0)]),
    )

    hits = app.rank(by_concept("mine"))

    assert hit_inputs(hits) == ["yes", "plain", "no"]
    assert (hits[0].score, hits[-1].score) == (1.0, 0.0)
    assert hit_inputs(app.rank(by_concept("mine", 0.0)))[0] == "no"


def test_a_label_on_a_region_is_about_that_region(app: App) -> None:
    both, _, _ = pair(1, 2)
    app.indexed(of_bytes(both, "both"), of_bytes(picture(9), "other"))
    concept = cat(app)
    whole_before = scores(app, concept)["both"]

    (made,) = app.annotate(on("both", boxed(LEFT, has(concept))))

    hits = [hit for hit in app.rank(by_concept(concept)) if hit.input.id == "both"]
    assert [(hit.annotation.id == made.id, hit.score) for hit in hits] == [(True, 1.0), (False, whole_before)]
    assert scores(app, concept, inputs=True)["both"] == 1.0


def test_no_dog_means_no_dog_anywhere_in_the_picture(app: App) -> None:
    both, _, _ = pair(1, 2)
    app.indexed(of_bytes(both, "has-one"), of_bytes(picture(3), "has-none"))
    app.annotate(
        on("has-one", Data(concepts=[has("dog", 0)])),
        on("has-one", boxed(LEFT, has("dog", 1))),
        on("has-none", Data(concepts=[has("dog", 0)])),
    )

    by_input = scores(app, "dog", 0.0, inputs=True)
    by_area = [(hit.input.id, hit.score) for hit in app.rank(by_concept("dog", 0.0))]

    assert by_input == {"has-none": 1.0, "has-one": 0.0}
    assert sorted(by_area) == [("has-none", 1.0), ("has-one", 0.0), ("has-one", 1.0)]


def test_filters_see_labels_as_they_are_now(app: App) -> None:
    app.indexed(*(of_bytes(picture(n), f"i{n}") for n in range(3)))
    (made,) = app.annotate(on("i1", Data(concepts=[has("boat")]), "one"))

    def labelled(concept_id: str) -> list[str]:
        wanted = Filter(annotation=Annotation(data=Data(concepts=[Concept(id=concept_id, value=1)])))
        searches = [Search(query=Query(filters=[wanted]))]
        return hit_inputs(app.call("PostInputsSearches", searches=searches).hits)

    assert labelled("boat") == ["i1"]
    app.patch("overwrite", on("i1", Data(concepts=[has("car")]), made.id))
    assert (labelled("boat"), labelled("car")) == ([], ["i1"])
    app.call("DeleteAnnotations", input_ids=["i1"])
    assert labelled("car") == []
