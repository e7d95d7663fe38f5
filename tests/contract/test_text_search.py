"""Ranking by a text with General, which reads none: the concepts it names are searched, and the answer says which."""

from __future__ import annotations

from typing import Any

import pytest
from clarifai_grpc.grpc.api import resources_pb2, service_pb2
from clarifai_grpc.grpc.api.resources_pb2 import Annotation, Concept, Data, Query, Rank, Search, Text
from tests.contract.clients import DOG, SUCCESS, App, by_concept, connected, key
from tests.contract.conftest import Library
from tests.contract.serving import Server


def by_text(raw: str) -> Rank:
    return Rank(annotation=Annotation(data=Data(text=Text(raw=raw))))


def search(app: App, *ranks: Rank, language: str = "", unit: str = "Annotations") -> Any:
    return app.ask(f"Post{unit}Searches", searches=[Search(query=Query(ranks=ranks, language=language))])


def scored(answer: Any) -> list[tuple[str, float]]:
    assert answer.status.code == SUCCESS, answer.status
    return [(hit.input.id, hit.score) for hit in answer.hits]


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("dog", '"dog" as dog'),
        ("Hund", '"Hund" as dog (a name in another language)'),
        ("犬", '"犬" as dog (a name in another language)'),
        ("poodle", '"poodle" as dog (more general)'),
        ("dogs", '"dogs" as dog (another form of the word)'),
    ],
)
@pytest.mark.parametrize("unit", ["Annotations", "Inputs"])
def test_a_text_ranks_as_the_concept_it_names(reader: App, text: str, note: str, unit: str) -> None:
    answer = search(reader, by_text(text), unit=unit)

    assert scored(answer) == scored(search(reader, by_concept(id=DOG, value=1), unit=unit))
    assert note in answer.status.details
    assert answer.status.details.startswith("The base workflow reads no text; searched by concepts instead: ")


def test_several_concepts_of_a_text_count_together(reader: App) -> None:
    answer = search(reader, by_text("a dog on the beach without people"))
    ranked = Rank(
        annotation=Annotation(
            data=Data(
                concepts=[Concept(id=DOG, value=1), Concept(name="beach", value=1), Concept(name="people", value=0)]
            )
        )
    )

    assert scored(answer) == scored(search(reader, ranked))
    assert '"people" as not people' in answer.status.details


def test_the_language_of_the_query_comes_first(reader: App) -> None:
    # In Spanish "once" would be a number; "perro" is no English word, and "gato" is cat.
    answer = search(reader, by_text("gato"), language="es")

    assert scored(answer) == scored(search(reader, by_concept(name="cat", value=1)))


def test_words_that_mean_nothing_are_told_and_ignored(reader: App) -> None:
    answer = search(reader, by_text("a blorf dog"))

    assert scored(answer) == scored(search(reader, by_concept(id=DOG, value=1)))
    assert 'Ignored, because no concept is near: "blorf".' in answer.status.details


def test_a_text_that_names_nothing_is_refused_with_a_hint(reader: App) -> None:
    answer = search(reader, by_text("catxyz"))

    assert answer.status.code == 40002
    assert "'catxyz' names no concept" in answer.status.details
    assert "cat" in answer.status.details.split("Perhaps one of")[1]
    assert search(reader, by_text("x" * 301)).status.code == 40002


def test_a_text_names_own_concepts_too(reader: App, library: Library) -> None:
    answer = search(reader, by_text("my favourite"))

    best = {input_id for input_id, _ in scored(answer)[: len(library.favourites)]}
    assert best == library.favourites
    assert '"favourite" as favourite' in answer.status.details


def test_legacy_and_saved_searches_read_texts_alike(server: Server, library: Library) -> None:
    with connected(server, "json") as stub:
        app = App(stub=stub, metadata=key(server.api_key), user_app_id=None)
        legacy = app.ask("PostSearches", query=Query(ranks=[by_text("poodle")]))
        saving = Search(id="poodles", save=True, query=Query(ranks=[by_text("poodle")]))
        saved = app.ask("PostAnnotationsSearches", searches=[saving])
        executed = app.ask("PostSearchesByID", id="poodles", pagination=service_pb2.Pagination(page=1, per_page=5))
        app.ask("DeleteSearch", id="poodles")

    assert '"poodle" as dog (more general)' in legacy.status.details
    assert saved.status.code == SUCCESS
    assert '"poodle" as dog (more general)' in executed.status.details
    assert [hit.input.id for hit in executed.hits] == [hit.input.id for hit in legacy.hits[:5]]


def test_a_search_without_texts_says_nothing_of_them(reader: App) -> None:
    answer = search(reader, by_concept(id=DOG, value=1))

    assert answer.status.details == ""
    assert isinstance(answer, service_pb2.MultiSearchResponse)
    assert all(isinstance(hit, resources_pb2.Hit) for hit in answer.hits)
