"""The requests of the guide's Rank page in protobuf (its Python, Java and Node.js snippets), on every channel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from clarifai_grpc.grpc.api.resources_pb2 import Hit, Rank, UserAppIDSet
from clarifai_grpc.grpc.api.service_pb2 import Pagination
from tests.contract.clients import App, Channel, by_concept, by_image, by_input, connected, input_ids, key
from tests.contract.conftest import Library
from tests.contract.pictures import PHOTOS
from tests.contract.serving import Server

SAME = 0.99  # the least score of a picture searched by itself
CHANNELS: list[Channel] = ["grpc", "h2c", "tls", "json", "json-tls"]


@pytest.fixture(params=CHANNELS)
def guide(request: pytest.FixtureRequest, server: Server, library: Library) -> Iterator[App]:
    """The library as the guide's snippets see it: an app key and no app id, on each channel in turn."""
    with connected(server, request.param) as stub:
        yield App(stub=stub, metadata=key(server.api_key), user_app_id=None)


def rows(hits: list[Hit]) -> list[tuple[str, str, float]]:
    return [(hit.input.id, hit.annotation.id, round(hit.score, 5)) for hit in hits]


def test_by_a_concept_of_clarifai_main(guide: App, library: Library) -> None:
    hits = guide.rank(by_concept(id="people", value=1))
    assert sorted(input_ids(hits)) == sorted(library.pictures)
    assert all(0.0 <= hit.score <= 1.0 for hit in hits)
    assert all(hit.annotation.id and hit.annotation.input_id == hit.input.id for hit in hits)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


@pytest.mark.skipif(not PHOTOS.is_file(), reason="needs real photographs (../shared/data/photos.zip)")
def test_people_are_found_where_people_are(reader: App, library: Library) -> None:
    best = input_ids(reader.rank(by_concept(id="people", value=1)))[:5]
    assert sum("person" in library.pictures[name].shows for name in best) >= 4


def test_a_concept_may_be_named_instead(reader: App) -> None:
    by_id = reader.rank(by_concept(id="people", value=1))
    assert rows(reader.rank(by_concept(name="people", value=1))) == rows(by_id)


def test_value_0_turns_the_order_round(reader: App) -> None:
    present = {hit.input.id: hit.score for hit in reader.rank(by_concept(id="people", value=1))}
    absent = reader.rank(by_concept(id="people", value=0))
    assert input_ids(absent) == list(reversed(input_ids(reader.rank(by_concept(id="people", value=1)))))
    assert all(hit.score == pytest.approx(1 - present[hit.input.id], abs=1e-4) for hit in absent)


def test_by_a_custom_concept(guide: App, library: Library) -> None:
    hits = guide.rank(by_concept(id="favourite", value=1))
    assert set(input_ids(hits)[:3]) == library.favourites
    assert all(hit.score == pytest.approx(1.0, abs=1e-3) for hit in hits[:3])


def test_by_a_label_and_a_prediction(guide: App, library: Library) -> None:
    """A photo labelled "cat" in which General finds no dog comes first; one labelled with both comes after it."""
    hits = guide.rank(by_concept(id="cat", value=1), by_concept(id="dog", value=0))
    assert hits[0].input.id == library.cat
    assert hits[0].score > 2 * next(hit.score for hit in hits if hit.input.id == library.cat_and_dog)


def test_by_a_concept_in_another_language(guide: App) -> None:
    japanese = guide.rank(by_concept(name="犬", language="ja", value=1))
    assert japanese
    assert rows(japanese) == rows(guide.rank(by_concept(id="dog", value=1)))


def test_by_the_url_of_an_indexed_photo(guide: App, library: Library) -> None:
    for name, url in list(library.urls.items())[:3]:
        expect_first(guide, by_image(url=url), name)


def test_by_the_bytes_of_an_indexed_photo(guide: App, library: Library) -> None:
    for name, picture in list(library.pictures.items())[:3]:
        expect_first(guide, by_image(base64=picture.data), name)


def test_by_the_id_of_an_indexed_photo(guide: App, library: Library) -> None:
    for name in list(library.pictures)[:3]:
        expect_first(guide, by_input(name), name)


def test_by_the_hosted_url_of_an_uploaded_photo(reader: App, library: Library) -> None:
    uploaded = next(name for name in library.pictures if name not in library.urls)
    url = reader.call("GetInput", input_id=uploaded).input.data.image.url
    expect_first(reader, by_image(url=url), uploaded)


def test_a_token_names_its_app(guide: App, library: Library, server: Server) -> None:
    user_app_id = UserAppIDSet(user_id=server.user_id, app_id=server.app_id)
    with_token = App(stub=guide.stub, metadata=key(server.pat), user_app_id=user_app_id)
    me = App(stub=guide.stub, metadata=key(server.pat), user_app_id=UserAppIDSet(user_id="me", app_id=server.app_id))
    people = by_concept(id="people", value=1)
    assert rows(with_token.rank(people)) == rows(me.rank(people)) == rows(guide.rank(people))


def test_pages_are_cut_from_one_order(reader: App) -> None:
    people = by_concept(id="people", value=1)
    whole = rows(reader.rank(people))
    pages = [rows(reader.rank(people, pagination=Pagination(page=page, per_page=6))) for page in (1, 2, 3, 4, 5)]
    assert [len(page) for page in pages] == [6, 6, 6, 2, 0]
    assert [row for page in pages for row in page] == whole


def expect_first(app: App, rank: Rank, name: str) -> None:
    first = app.rank(rank)[0]
    assert (first.input.id, first.score >= SAME) == (name, True), f"{first.input.id} scores {first.score}"
