"""Relations between concepts: both ends, both forms, once (api-spec 3.5)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

import pytest
from clarifai_grpc.grpc.api.resources_pb2 import Concept, ConceptRelation, KnowledgeGraph, UserAppIDSet, Visibility
from clarifai_grpc.grpc.api.service_pb2_grpc import V2Stub
from tests.integration.serving import USER, App, Server, by_concept, new_app, of_bytes, picture
from tests.integration.test_dataset_inputs import answered_beside
from tests.integration.test_datasets import key_of_another_user

HYPERNYM, HYPONYM, SYNONYM = "hypernym", "hyponym", "synonym"
MAIN = UserAppIDSet(user_id="clarifai", app_id="main")

#: subject, predicate, object
Fact = tuple[str, str, str]


def fact(relation: ConceptRelation) -> Fact:
    return relation.subject_concept.id, relation.predicate, relation.object_concept.id


def relation(predicate: str, object_id: str, *, app_id: str = "", **fields: Any) -> ConceptRelation:
    return ConceptRelation(predicate=predicate, object_concept=Concept(id=object_id, app_id=app_id), **fields)


def relate(app: App, subject_id: str, predicate: str, *object_ids: str, **fields: Any) -> list[str]:
    """Ids of the relations."""
    relations = [relation(predicate, object_id, **fields) for object_id in object_ids]
    made = app.call("PostConceptRelations", concept_id=subject_id, concept_relations=relations).concept_relations
    assert [fact(item) for item in made] == [(subject_id, predicate, object_id) for object_id in object_ids]
    return [item.id for item in made]


def facts(app: App, **fields: Any) -> list[Fact]:
    return [fact(item) for item in app.call("ListConceptRelations", **fields).concept_relations]


@pytest.fixture
def kitchen(app: App) -> App:
    """An app with some concepts."""
    names = ("food", "honey", "bread", "nectar", "thing")
    app.call("PostConcepts", concepts=[Concept(id=name, name=name.title()) for name in names])
    return app


def dog(app: App) -> Concept:
    """A public concept that has a hypernym."""
    found = app.rest("POST", "/concepts/searches", {"concept_query": {"name": "dog"}})["concepts"]
    (concept,) = [concept for concept in found if concept["name"] == "dog"]
    return Concept(id=concept["id"], name=concept["name"])


# Both ends ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subject_id", "predicate", "object_id"),
    [("honey", HYPONYM, "food"), ("food", HYPERNYM, "honey")],
)
def test_each_form_makes_the_inverse_visible(kitchen: App, subject_id: str, predicate: str, object_id: str) -> None:
    relate(kitchen, subject_id, predicate, object_id)
    assert facts(kitchen, concept_id="honey") == [("honey", HYPONYM, "food")]
    assert facts(kitchen, concept_id="food") == [("food", HYPERNYM, "honey")]
    assert facts(kitchen) == [("honey", HYPONYM, "food")]
    assert facts(kitchen, predicate=HYPONYM) == [("honey", HYPONYM, "food")]
    assert facts(kitchen, predicate=HYPERNYM) == [("food", HYPERNYM, "honey")]
    assert facts(kitchen, predicate=SYNONYM) == []
    assert facts(kitchen, concept_id="honey", predicate=HYPERNYM) == []
    assert facts(kitchen, concept_id="food", predicate=HYPERNYM) == [("food", HYPERNYM, "honey")]
    assert facts(kitchen, concept_id="bread") == []


@pytest.mark.parametrize(("one", "other"), [("honey", "nectar"), ("nectar", "honey")])
def test_a_synonym_is_the_same_from_both_ends(kitchen: App, one: str, other: str) -> None:
    relate(kitchen, one, SYNONYM, other)
    assert facts(kitchen, concept_id=one) == [(one, SYNONYM, other)]
    assert facts(kitchen, concept_id=other) == [(other, SYNONYM, one)]
    assert len(facts(kitchen)) == 1
    assert facts(kitchen, concept_id=one, predicate=SYNONYM) == [(one, SYNONYM, other)]


def test_a_relation_that_exists_is_answered_as_it_is(kitchen: App) -> None:
    (hyponym,) = relate(kitchen, "honey", HYPONYM, "food")
    (synonym,) = relate(kitchen, "honey", SYNONYM, "nectar", visibility=Visibility(gettable=Visibility.PUBLIC))
    assert relate(kitchen, "honey", HYPONYM, "food", id="another") == [hyponym]
    assert relate(kitchen, "food", HYPERNYM, "honey") == [hyponym]
    assert relate(kitchen, "nectar", SYNONYM, "honey", "honey") == [synonym, synonym]
    again = kitchen.call("ListConceptRelations", concept_id="nectar").concept_relations[0]
    assert (again.id, again.visibility.gettable) == (synonym, Visibility.PUBLIC)
    assert len(facts(kitchen)) == 2


def test_all_edges_of_a_concept_oldest_first_in_pages(kitchen: App) -> None:
    relate(kitchen, "food", HYPERNYM, "honey", "bread")
    relate(kitchen, "food", HYPONYM, "thing")
    relate(kitchen, "food", SYNONYM, "nectar")
    everything = [
        ("food", HYPERNYM, "honey"),
        ("food", HYPERNYM, "bread"),
        ("food", HYPONYM, "thing"),
        ("food", SYNONYM, "nectar"),
    ]
    assert facts(kitchen, concept_id="food") == everything
    assert facts(kitchen, concept_id="food", per_page=3, page=2) == everything[3:]
    assert facts(kitchen, concept_id="food", per_page=2, page=3) == []
    assert len(facts(kitchen, per_page=3)) == 3
    assert facts(kitchen, per_page=3, page=2) == [("food", SYNONYM, "nectar")]
    assert kitchen.ask("ListConceptRelations", per_page=1001).status.code == 11102


def test_concepts_come_with_their_names_and_apps(kitchen: App) -> None:
    public = dog(kitchen)
    relate(kitchen, "thing", HYPERNYM, public.id)
    (seen,) = kitchen.call("ListConceptRelations", concept_id=public.id).concept_relations
    assert fact(seen) == (public.id, HYPONYM, "thing")
    assert (seen.subject_concept.name, seen.subject_concept.app_id) == ("dog", "main")
    assert (seen.subject_concept.user_id, seen.subject_concept.value) == ("clarifai", 1.0)
    assert (seen.object_concept.name, seen.object_concept.app_id) == ("Thing", kitchen.id)
    assert (seen.object_concept.user_id, seen.object_concept.value) == (USER, 1.0)
    assert seen.knowledge_graph_id == ""
    assert seen.visibility.gettable == 10


def test_the_object_may_say_that_it_is_public(kitchen: App) -> None:
    public = dog(kitchen)
    for named in (
        Concept(id=public.id, app_id="main"),
        Concept(id=public.id, app_id="main", user_id="clarifai"),
        Concept(id=public.id, user_id="clarifai"),
        Concept(id=public.id),
    ):
        relations = [ConceptRelation(predicate=SYNONYM, object_concept=named)]
        answer = kitchen.call("PostConceptRelations", concept_id="thing", concept_relations=relations)
        assert fact(answer.concept_relations[0]) == ("thing", SYNONYM, public.id)
    assert len(facts(kitchen)) == 1


def test_the_subject_may_be_in_the_relation_alone(kitchen: App) -> None:
    told = relation(HYPONYM, "food", subject_concept=Concept(id="honey"))
    kitchen.call("PostConceptRelations", concept_relations=[told])
    kitchen.call("PostConceptRelations", concept_id="honey", concept_relations=[told])
    assert facts(kitchen) == [("honey", HYPONYM, "food")]
    other = kitchen.ask("PostConceptRelations", concept_id="bread", concept_relations=[told])
    assert (other.status.code, "'honey'" in other.status.details) == (11102, True)


def test_whatever_was_said_both_ends_tell_the_same(app: App) -> None:
    """Random relations of a few concepts, made and deleted, against a plain set of them."""
    random = Random(5)
    names = ["a", "b", "c", "d"]
    app.call("PostConcepts", concepts=[Concept(id=name) for name in names])
    told: dict[Fact, str] = {}  # as stored, to the relation's id
    for _ in range(60):
        subject_id, object_id = random.sample(names, 2)
        said = (subject_id, random.choice([HYPERNYM, HYPONYM, SYNONYM]), object_id)
        edge = min(said, _turned(said)) if said[1] == SYNONYM else said if said[1] == HYPONYM else _turned(said)
        if edge in told and random.random() < 0.7:
            app.call("DeleteConceptRelations", concept_id=random.choice(said[::2]), ids=[told.pop(edge)])
        elif edge[1] == HYPONYM and _has_circle([(low, high) for low, kind, high in [*told, edge] if kind == HYPONYM]):
            refused = app.ask("PostConceptRelations", concept_id=said[0], concept_relations=[relation(*said[1:])])
            assert refused.status.code == 11102
        else:
            (made,) = relate(app, *said)
            assert told.setdefault(edge, made) == made
        both = set(told) | {_turned(edge) for edge in told}
        assert sorted(facts(app)) == sorted(told)
        assert sorted(facts(app, predicate=HYPERNYM)) == sorted(_turned(e) for e in told if e[1] == HYPONYM)
        for name in names:
            assert sorted(facts(app, concept_id=name)) == sorted(e for e in both if e[0] == name)
    assert len(told) > 2


def _turned(said: Fact) -> Fact:
    return said[2], {HYPERNYM: HYPONYM, HYPONYM: HYPERNYM, SYNONYM: SYNONYM}[said[1]], said[0]


# Refusals -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subject_id", "told", "code", "details"),
    [
        ("food", relation("parent", "honey"), 11102, "'parent'"),
        ("food", relation("", "honey"), 11102, "predicate is ''"),
        ("food", relation(SYNONYM, "food"), 11102, "to itself"),
        ("food", relation(SYNONYM, ""), 11102, "object_concept.id is empty"),
        ("", relation(SYNONYM, "food"), 11102, "concept_id is empty"),
        ("food", relation(SYNONYM, "unknown"), 11101, "[1].object_concept: there is no concept 'unknown'"),
        ("unknown", relation(SYNONYM, "food"), 11101, "concept_id: there is no concept 'unknown'"),
        ("food", relation(SYNONYM, "ho\0ney"), 11102, "NUL"),
        ("fo\0od", relation(SYNONYM, "honey"), 11102, "NUL"),
        ("food", relation(SYNONYM, "honey", knowledge_graph_id="unknown"), 11101, "'unknown'"),
        ("food", relation(SYNONYM, "honey", visibility=Visibility(gettable=7)), 11102, "7"),  # type: ignore[arg-type]
        ("food", relation(SYNONYM, "honey", id="x" * 129), 11102, "128"),
        ("food", relation(SYNONYM, "honey", id="x\0"), 11102, "NUL"),
        ("food", relation(SYNONYM, "honey", app_id="main"), 11101, "main"),
        ("food", relation(SYNONYM, "honey", app_id="other"), 11102, "other"),
    ],
)
def test_a_wrong_relation_is_refused_with_all_others(
    kitchen: App, subject_id: str, told: ConceptRelation, code: int, details: str
) -> None:
    relations = [relation(SYNONYM, "bread"), told]
    answer = kitchen.ask("PostConceptRelations", concept_id=subject_id, concept_relations=relations)
    assert answer.status.code == code, answer
    assert details in answer.status.details
    assert facts(kitchen) == []


def test_a_call_has_bounds(kitchen: App) -> None:
    assert kitchen.ask("PostConceptRelations", concept_id="food").status.code == 11102
    many = [relation(SYNONYM, "honey")] * 1001
    assert kitchen.ask("PostConceptRelations", concept_id="food", concept_relations=many).status.code == 11102


def test_an_id_is_of_one_relation(kitchen: App) -> None:
    assert relate(kitchen, "honey", HYPONYM, "food", id="mine") == ["mine"]
    taken = [relation(SYNONYM, "bread"), relation(SYNONYM, "thing", id="mine")]
    answer = kitchen.ask("PostConceptRelations", concept_id="food", concept_relations=taken)
    assert (answer.status.code, "'mine'" in answer.status.details) == (40010, True)
    assert facts(kitchen) == [("honey", HYPONYM, "food")]


def test_no_concept_is_a_kind_of_itself(kitchen: App) -> None:
    relate(kitchen, "honey", HYPONYM, "food")
    relate(kitchen, "food", HYPONYM, "thing")
    for subject_id, predicate, object_id in (
        ("food", HYPONYM, "honey"),
        ("thing", HYPONYM, "honey"),
        ("honey", HYPERNYM, "thing"),
    ):
        refused = kitchen.ask(
            "PostConceptRelations", concept_id=subject_id, concept_relations=[relation(predicate, object_id)]
        )
        assert (refused.status.code, "kind of itself" in refused.status.details) == (11102, True)
    both = [relation(HYPONYM, "bread"), relation(HYPERNYM, "bread")]
    assert kitchen.ask("PostConceptRelations", concept_id="nectar", concept_relations=both).status.code == 11102
    # More than one way up is no circle.
    relate(kitchen, "honey", HYPONYM, "thing")
    relate(kitchen, "honey", SYNONYM, "thing")
    assert len(facts(kitchen)) == 4


def test_lists_of_what_does_not_exist(kitchen: App) -> None:
    assert kitchen.ask("ListConceptRelations", concept_id="unknown").status.code == 11101
    assert kitchen.ask("ListConceptRelations", concept_id="un\0known").status.code == 11102
    assert kitchen.ask("ListConceptRelations", knowledge_graph_id="unknown").status.code == 11101
    wrong = kitchen.ask("ListConceptRelations", predicate="parent")
    assert (wrong.status.code, "'parent'" in wrong.status.details) == (11102, True)
    assert facts(kitchen) == []


# Deleting -------------------------------------------------------------------------------------------------------------


def test_a_relation_is_deleted_through_either_of_its_concepts(kitchen: App) -> None:
    first, second = relate(kitchen, "food", HYPERNYM, "honey", "bread")
    (third,) = relate(kitchen, "food", SYNONYM, "nectar")
    kitchen.call("DeleteConceptRelations", concept_id="honey", ids=[first])
    assert facts(kitchen, concept_id="honey") == []
    kitchen.call("DeleteConceptRelations", concept_id="food", ids=[second, second])
    assert facts(kitchen) == [("food", SYNONYM, "nectar")]
    kitchen.call("DeleteConceptRelations", ids=[third])
    assert facts(kitchen) == []


def test_deleting_all_or_nothing(kitchen: App) -> None:
    first, second = relate(kitchen, "food", HYPERNYM, "honey", "bread")
    for concept_id, ids in (("food", [first, "unknown"]), ("bread", [second, first]), ("thing", [first])):
        refused = kitchen.ask("DeleteConceptRelations", concept_id=concept_id, ids=ids)
        assert (refused.status.code, "has no relation" in refused.status.details) == (11101, True)
    assert kitchen.ask("DeleteConceptRelations", concept_id="food", ids=["\0"]).status.code == 11102
    assert kitchen.ask("DeleteConceptRelations", concept_id="food").status.code == 11102
    assert len(facts(kitchen)) == 2


# Graphs, apps, keys ---------------------------------------------------------------------------------------------------


def test_graphs_keep_relations_apart(kitchen: App) -> None:
    kitchen.call("PostKnowledgeGraphs", knowledge_graphs=[KnowledgeGraph(id="menu"), KnowledgeGraph(id="shop")])
    (own,) = relate(kitchen, "honey", HYPONYM, "food")
    (menu,) = relate(kitchen, "honey", HYPONYM, "food", knowledge_graph_id="menu")
    relate(kitchen, "food", HYPONYM, "honey", knowledge_graph_id="shop")  # no circle: another graph
    assert own != menu
    assert facts(kitchen, knowledge_graph_id="menu") == [("honey", HYPONYM, "food")]
    assert facts(kitchen, concept_id="food", knowledge_graph_id="menu") == [("food", HYPERNYM, "honey")]
    assert facts(kitchen, concept_id="food", knowledge_graph_id="shop") == [("food", HYPONYM, "honey")]
    graphs = [item.knowledge_graph_id for item in kitchen.call("ListConceptRelations").concept_relations]
    assert graphs == ["", "menu", "shop"]


def test_relations_are_of_one_app(kitchen: App, server: Server, stub: V2Stub) -> None:
    (made,) = relate(kitchen, "honey", HYPONYM, "food")
    other = new_app(server, stub)
    assert facts(other) == []
    assert other.ask("ListConceptRelations", concept_id="honey").status.code == 11101
    assert other.ask("DeleteConceptRelations", concept_id="honey", ids=[made]).status.code == 11101
    assert facts(kitchen) == [("honey", HYPONYM, "food")]


def test_of_another_users_public_app_only_public_relations_are_seen(kitchen: App, server: Server) -> None:
    relate(kitchen, "honey", HYPONYM, "food")
    relate(kitchen, "bread", HYPONYM, "food", visibility=Visibility(gettable=Visibility.PUBLIC))
    kitchen.call("PatchApp", action="overwrite", app={"id": kitchen.id, "visibility": {"gettable": 50}})
    stranger = App(server=server, stub=kitchen.stub, id=kitchen.id, key=key_of_another_user(server))
    assert facts(stranger) == [("bread", HYPONYM, "food")]
    assert facts(stranger, concept_id="food") == [("food", HYPERNYM, "bread")]
    refused = stranger.ask("PostConceptRelations", concept_id="food", concept_relations=[relation(SYNONYM, "thing")])
    assert refused.status.code == 11007


def test_clarifai_main_has_the_hypernyms_of_its_vocabulary(app: App) -> None:
    public = dog(app)

    def ask(**fields: Any) -> list[ConceptRelation]:
        fields["user_app_id"] = MAIN
        request = app.server.rest("GET", _main_path(**fields)).json()
        assert request["status"]["code"] == 10000, request
        return request["concept_relations"]  # type: ignore[no-any-return]

    above = ask(concept_id=public.id, predicate=HYPONYM)
    assert above, "the vocabulary says what a dog is"
    parent: Any = above[0]
    assert parent["subject_concept"]["id"] == public.id
    parent_id = parent["object_concept"]["id"]
    below: list[Any] = ask(concept_id=parent_id, predicate=HYPERNYM, per_page=1000)
    assert parent["id"] in [item["id"] for item in below]
    assert {item["subject_concept"]["id"] for item in below} == {parent_id}
    assert {item["predicate"] for item in below} == {HYPERNYM}
    once: list[Any] = ask(per_page=1000)
    assert {item["predicate"] for item in once} == {HYPONYM}
    turned: list[Any] = ask(predicate=HYPERNYM, per_page=1000)
    assert [item["id"] for item in turned] == [item["id"] for item in once]
    assert turned[0]["subject_concept"] == once[0]["object_concept"]
    assert ask(predicate=SYNONYM) == []
    # An own app does not repeat them.
    assert facts(app, concept_id=public.id) == []


def _main_path(*, user_app_id: UserAppIDSet, concept_id: str = "", **query: Any) -> str:
    place = f"concepts/{concept_id}/relations" if concept_id else "concepts/relations"
    fields = "&".join(f"{name}={value}" for name, value in query.items())
    return f"/v2/users/{user_app_id.user_id}/apps/{user_app_id.app_id}/{place}?{fields}"


def test_over_rest(kitchen: App) -> None:
    body = {"concept_relations": [{"object_concept": {"id": "honey"}, "predicate": HYPERNYM}]}
    (made,) = kitchen.rest("POST", "/concepts/food/relations", body)["concept_relations"]
    assert (made["subject_concept"]["id"], made["predicate"], made["object_concept"]["value"]) == ("food", HYPERNYM, 1)
    (listed,) = kitchen.rest("GET", "/concepts/relations")["concept_relations"]
    assert (listed["id"], listed["predicate"]) == (made["id"], HYPONYM)
    (of_honey,) = kitchen.rest("GET", "/concepts/honey/relations?predicate=hyponym")["concept_relations"]
    assert of_honey["object_concept"]["name"] == "Food"
    assert kitchen.server.rest("GET", "/v2/concepts/relations").json()["status"]["code"] == 11102  # which app?
    gone = kitchen.rest("DELETE", "/concepts/honey/relations", {"ids": [made["id"]]})
    assert gone["status"]["code"] == 10000
    assert kitchen.rest("GET", "/concepts/relations")["concept_relations"] == []


def test_an_app_key_does_not_open_relations(kitchen: App) -> None:
    wanted = {"scopes": ["All"], "apps": [{"id": kitchen.id, "user_id": USER}]}
    made = kitchen.server.rest("POST", f"/v2/users/{USER}/keys", {"keys": [wanted]}).json()
    key = made["keys"][0]["id"]
    with_key = App(server=kitchen.server, stub=kitchen.stub, id=kitchen.id, key=key)
    assert with_key.ask("ListConceptRelations").status.code == 11008
    assert with_key.ask("ListKnowledgeGraphs").status.code == 10000


def test_searches_do_not_look_at_relations(app: App) -> None:
    app.indexed(
        of_bytes(picture(1), "labelled", concepts=[Concept(id="honey", value=1)]), of_bytes(picture(2), "other")
    )
    app.call("PostConcepts", concepts=[Concept(id="food")])
    before = [(hit.input.id, hit.score) for hit in app.rank(by_concept("food"))]
    relate(app, "honey", HYPONYM, "food")
    relate(app, "food", SYNONYM, dog(app).id)
    assert [(hit.input.id, hit.score) for hit in app.rank(by_concept("food"))] == before


# At once --------------------------------------------------------------------------------------------------------------


def test_calls_at_once_make_each_edge_once_and_no_circle(app: App) -> None:
    names = [f"c{n}" for n in range(12)]
    app.call("PostConcepts", concepts=[Concept(id=name) for name in names])

    def post(turn: int) -> int:
        """Every second call says the opposite of the others, in the opposite order."""
        pairs = [(names[n], names[(n + 1 + turn % 3) % 12]) for n in range(12)]
        relations = [
            relation(HYPONYM if turn % 2 else HYPERNYM, wider, subject_concept=Concept(id=narrower))
            for narrower, wider in (pairs if turn % 4 < 2 else pairs[::-1])[:8]
        ]
        return int(app.ask("PostConceptRelations", concept_relations=relations).status.code)

    with ThreadPoolExecutor(8) as threads:
        codes = list(threads.map(post, range(24)))

    assert set(codes) <= {10000, 11102}
    edges = [
        (item.subject_concept.id, item.object_concept.id) for item in app.call("ListConceptRelations").concept_relations
    ]
    assert len(edges) == len(set(edges)) > 0
    assert not _has_circle(edges)


def test_two_halves_of_a_circle_wait_for_each_other(kitchen: App) -> None:
    other_half = (
        "WITH held AS (SELECT bucket FROM app_buckets JOIN apps ON first_bucket = bucket WHERE id = %s"
        " FOR NO KEY UPDATE OF app_buckets)"
        " INSERT INTO concept_relations (bucket, id, subject_id, object_id, predicate)"
        " SELECT bucket, 'half', 'honey', 'food', 'hyponym' FROM held"
    )
    half = [relation(HYPONYM, "honey")]
    answer = answered_beside(kitchen, other_half, "PostConceptRelations", concept_id="food", concept_relations=half)
    assert (answer.status.code, "kind of itself" in answer.status.details) == (11102, True)
    assert facts(kitchen) == [("honey", HYPONYM, "food")]


def test_deleting_at_once(kitchen: App) -> None:
    ids = relate(kitchen, "food", HYPERNYM, "honey", "bread", "nectar", "thing")

    def delete(turn: int) -> int:
        order = ids if turn % 2 else ids[::-1]
        return int(kitchen.ask("DeleteConceptRelations", concept_id="food", ids=order).status.code)

    with ThreadPoolExecutor(8) as threads:
        assert sorted(threads.map(delete, range(8))) == [10000] + [11101] * 7
    assert facts(kitchen) == []


def _has_circle(edges: list[tuple[str, str]]) -> bool:
    """Takes away concepts that nothing is above of until none is left, or all that are left go round."""
    left = set(edges)
    while left:
        narrower = {below for below, _ in left}
        kept = {(below, above) for below, above in left if above in narrower}
        if kept == left:
            return True
        left = kept
    return False
