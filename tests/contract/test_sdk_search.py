"""The `clarifai` SDK's Search class: gRPC without TLS on the HTTP port, because its base is CLARIFAI_API_BASE."""

from __future__ import annotations

from typing import Any

import pytest
from clarifai.client.search import Search
from clarifai.errors import UserError
from tests.contract.clients import READY
from tests.contract.conftest import Library
from tests.contract.serving import Server


@pytest.fixture(params=["http", "https"])
def base(request: pytest.FixtureRequest, server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """http:// means plaintext gRPC to that port, https:// TLS. A client inside Search reads the CA from here only."""
    monkeypatch.setenv("CLARIFAI_ROOT_CERTIFICATES_PATH", str(server.ca))
    return server.base if request.param == "http" else server.tls_base


def found(server: Server, base: str, *, top_k: int = 100, **query: Any) -> list[tuple[str, float]]:
    search = Search(user_id=server.user_id, app_id=server.app_id, pat=server.pat, base_url=base, top_k=top_k)
    return [(hit.input.id, hit.score) for page in search.query(**query) for hit in page.hits]


def names(hits: list[tuple[str, float]]) -> list[str]:
    return [name for name, _ in hits]


def test_by_concept(server: Server, library: Library, base: str) -> None:
    hits = found(server, base, ranks=[{"concepts": [{"id": "people", "value": 1}]}])
    assert sorted(names(hits)) == sorted(library.pictures)


def test_by_two_concepts(server: Server, library: Library, base: str) -> None:
    ranks = [{"concepts": [{"id": "cat", "value": 1}]}, {"concepts": [{"id": "dog", "value": 0}]}]
    assert names(found(server, base, ranks=ranks))[0] == library.cat


def test_by_a_concept_in_another_language(server: Server, library: Library, base: str) -> None:
    """The SDK lets no 犬 through as a name, but as an id, and an id that no concept has is read as a name."""
    japanese = found(server, base, ranks=[{"concepts": [{"id": "犬", "language": "ja", "value": 1}]}])
    assert names(japanese) == names(found(server, base, ranks=[{"concepts": [{"id": "dog", "value": 1}]}]))
    with pytest.raises(UserError, match="Invalid rank or filter"):
        found(server, base, ranks=[{"concepts": [{"name": "犬", "language": "ja", "value": 1}]}])


def test_by_image_url(server: Server, library: Library, base: str) -> None:
    name, url = next(iter(library.urls.items()))
    first, score = found(server, base, ranks=[{"image_url": url}])[0]
    assert first == name
    assert score >= 0.99


def test_by_image_bytes(server: Server, library: Library, base: str) -> None:
    name, picture = list(library.pictures.items())[1]
    first, score = found(server, base, ranks=[{"image_bytes": picture.data}])[0]
    assert first == name
    assert score >= 0.99


def test_filter_by_concept(server: Server, library: Library, base: str) -> None:
    hits = found(server, base, filters=[{"concepts": [{"id": "favourite", "value": 1}]}])
    assert set(names(hits)) == library.favourites
    assert {score for _, score in hits} == {1.0}


def test_filters_are_anded_and_their_parts_ored(server: Server, library: Library, base: str) -> None:
    cat, dog = {"id": "cat", "value": 1}, {"name": "dog", "value": 1}
    either = found(server, base, filters=[{"concepts": [cat, dog]}])
    both = found(server, base, filters=[{"concepts": [cat]}, {"concepts": [dog]}])
    assert set(names(either)) == {library.cat, library.cat_and_dog}
    assert names(both) == [library.cat_and_dog]


def test_a_filter_cuts_what_a_rank_orders(server: Server, library: Library, base: str) -> None:
    ranks = [{"concepts": [{"id": "people", "value": 1}]}]
    everything = names(found(server, base, ranks=ranks))
    filtered = names(found(server, base, ranks=ranks, filters=[{"concepts": [{"id": "favourite", "value": 1}]}]))
    assert filtered == [name for name in everything if name in library.favourites]


def test_filter_by_type_or_status(server: Server, library: Library, base: str) -> None:
    """Types and status are alternatives within one filter: an app of images still matches by its status."""
    filters = [{"input_types": ["text", "audio"], "input_status_code": READY}]
    assert set(names(found(server, base, filters=filters))) == set(library.pictures)
    assert found(server, base, filters=[{"input_types": ["text", "audio"]}]) == []


def test_an_unknown_concept_filters_everything_out(server: Server, library: Library, base: str) -> None:
    assert found(server, base, filters=[{"concepts": [{"id": "never-heard-of", "value": 1}]}]) == []


def test_top_k(server: Server, library: Library, base: str) -> None:
    assert len(found(server, base, top_k=7, ranks=[{"concepts": [{"id": "people", "value": 1}]}])) == 7


def test_pages(server: Server, library: Library, base: str) -> None:
    search = Search(user_id=server.user_id, app_id=server.app_id, pat=server.pat, base_url=base, pagination=True)
    ranks = [{"concepts": [{"id": "people", "value": 1}]}]
    pages = list(search.query(ranks=ranks))
    assert [len(page.hits) for page in pages] == [len(library.pictures)]
    second = [hit.input.id for page in search.query(ranks=ranks, page_no=2, per_page=5) for hit in page.hits]
    assert second == [hit.input.id for hit in pages[0].hits][5:10]


def test_a_wrong_key_is_named(server: Server, library: Library, base: str) -> None:
    search = Search(user_id=server.user_id, app_id=server.app_id, pat="0" * 32, base_url=base, top_k=5)
    with pytest.raises(Exception, match="Invalid API key or Invalid API key/application pair"):
        list(search.query(ranks=[{"concepts": [{"id": "people", "value": 1}]}]))
