"""An own concept called like a public one is that concept: labels and predictions belong together."""

from __future__ import annotations

from clarifai_grpc.grpc.api.resources_pb2 import (
    Annotation,
    Concept,
    ConceptLanguage,
    Data,
    Filter,
    Query,
    Rank,
    Search,
)
from tests.integration.serving import USER, App, of_bytes, picture

DOG = "ai_8S2Vq3cR"


def by(**named: str) -> Rank:
    return Rank(annotation=Annotation(data=Data(concepts=[Concept(value=1, **named)])))


def scores(app: App, rank: Rank) -> dict[str, float]:
    return {hit.input.id: hit.score for hit in app.rank(rank, inputs=True)}


def label_one(app: App) -> dict[str, float]:
    """Four pictures, of which a person then calls one a dog, in plain English; the scores by prediction before that."""
    app.indexed(*(of_bytes(picture(n), f"i{n}") for n in range(4)))
    predicted = scores(app, by(id=DOG))
    app.annotate(Annotation(input_id="i2", data=Data(concepts=[Concept(id="dog", value=1)])))
    return predicted


def test_the_label_counts_and_the_others_keep_their_prediction(app: App) -> None:
    predicted = label_one(app)

    for rank in (
        by(id="dog"),
        by(name="Dog"),
        by(id=DOG),
        by(name="犬", language="ja"),
        by(name="Hund", language="DE"),
    ):
        assert scores(app, rank) == {**predicted, "i2": 1.0}


def test_a_filter_finds_the_label_under_every_name(app: App) -> None:
    label_one(app)

    for named in ({"id": "dog"}, {"id": DOG}, {"name": "犬", "language": "ja"}):
        condition = Filter(annotation=Annotation(data=Data(concepts=[Concept(value=1, **named)])))
        hits = app.call("PostInputsSearches", searches=[Search(query=Query(filters=[condition]))]).hits
        assert [hit.input.id for hit in hits] == ["i2"]


def test_an_own_concept_with_another_name_is_another_concept(app: App) -> None:
    predicted = label_one(app)

    app.annotate(Annotation(input_id="i1", data=Data(concepts=[Concept(id="rex", name="Rex the dog", value=1)])))

    assert scores(app, by(id="rex"))["i1"] == 1.0
    assert scores(app, by(id="dog"))["i1"] == predicted["i1"]


def test_a_filter_knows_who_i_am(app: App) -> None:
    label_one(app)

    found = []
    for user_id in ("me", USER, "somebody-else"):
        search = Search(query=Query(filters=[Filter(annotation=Annotation(user_id=user_id))]))
        found.append(len(app.call("PostAnnotationsSearches", searches=[search]).hits))

    assert found == [5, 5, 0]


def test_a_new_name_holds_from_the_next_search_on(app: App) -> None:
    """What names mean is remembered between searches, until somebody names something."""
    app.indexed(*(of_bytes(picture(n), f"i{n}") for n in range(2)))
    for input_id, concept_id in (("i0", "one"), ("i1", "two")):
        app.annotate(Annotation(input_id=input_id, data=Data(concepts=[Concept(id=concept_id, value=1)])))
    app.call("PatchConcepts", concepts=[Concept(id="one", name="gadget")], action="overwrite")
    first = [scores(app, by(name="gadget"))["i1"] for _ in range(2)]

    app.call("PatchConcepts", concepts=[Concept(id="two", name="gadget")], action="overwrite")
    renamed = scores(app, by(name="gadget"))
    app.call("PostConcepts", concepts=[Concept(id="three", name="gizmo")])
    posted = scores(app, by(name="gizmo"))
    app.call("PostConceptLanguages", concept_id="two", concept_languages=[ConceptLanguage(id="de", name="gizmo")])
    translated = scores(app, by(name="gizmo", language="de"))
    app.call(
        "PatchConceptLanguages",
        concept_id="two",
        concept_languages=[ConceptLanguage(id="de", name="Ding")],
        action="overwrite",
    )
    translated_back = scores(app, by(name="gizmo", language="de"))

    assert first[0] == first[1] < 1.0
    assert renamed == {"i0": 1.0, "i1": 1.0}
    assert posted == {"i0": 0.0, "i1": 0.0}
    assert translated["i1"] == 1.0
    assert translated_back == posted
