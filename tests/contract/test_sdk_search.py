"""The `clarifai` SDK's Search class: gRPC without TLS on the HTTP port, because its base is CLARIFAI_API_BASE."""

from __future__ import annotations

from typing import Any

import pytest
from clarifai.client.search import Search
from clarifai.errors import UserError
from clarifai_grpc.grpc.api import resources_pb2, service_pb2_grpc
from clarifai_grpc.grpc.api.resources_pb2 import Concept, Geo, GeoPoint
from google.protobuf.struct_pb2 import Struct
from tests.contract.clients import READY, App, of_bytes
from tests.contract.conftest import Library, NewApp
from tests.contract.pictures import Picture
from tests.contract.serving import Server


@pytest.fixture(params=["http", "https"])
def base(request: pytest.FixtureRequest, server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """http:// means plaintext gRPC to that port, https:// TLS. A client inside Search reads the CA from here only."""
    monkeypatch.setenv("CLARIFAI_ROOT_CERTIFICATES_PATH", str(server.ca))
    return server.base if request.param == "http" else server.tls_base


def found(
    server: Server, base: str, *, app_id: str = "", top_k: int = 100, algorithm: str = "nearest_neighbor", **query: Any
) -> list[tuple[str, float]]:
    search = Search(
        user_id=server.user_id,
        app_id=app_id or server.app_id,
        pat=server.pat,
        base_url=base,
        top_k=top_k,
        algorithm=algorithm,
        metric="cosine" if algorithm == "brute_force" else "euclidean",
    )
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


# Places, metadata, datasets ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kennel(new_app: NewApp, grpc_stub: service_pb2_grpc.V2Stub, photos: list[Picture]) -> App:
    """What the SDK's own tests set up: a dog of a breed at a place in a dataset, a deer elsewhere, a text."""
    app = new_app(grpc_stub)
    app.call("PostDatasets", datasets=[resources_pb2.Dataset(id="dogs")])
    breed = Struct()
    breed.update({"Breed": "Saint Bernard", "food": {"likes": ["fish", "meat"], "cups": 2}})
    dog = of_bytes(photos[0], id="dog", metadata=breed, geo=Geo(geo_point=GeoPoint(longitude=-30, latitude=40)))
    dog.data.concepts.add(id="dog", value=1)
    dog.dataset_ids.append("dogs")
    deer = of_bytes(photos[1], id="deer", concepts=[Concept(id="deer", value=1), Concept(id="dog", value=0)])
    deer.data.geo.geo_point.latitude = 10
    text = resources_pb2.Input(id="text", data=resources_pb2.Data(text=resources_pb2.Text(raw="about dogs")))
    app.post([dog, deer, text])
    return app


@pytest.fixture
def kept(server: Server, kennel: App, base: str) -> Any:
    assert kennel.user_app_id is not None
    app_id = kennel.user_app_id.app_id

    def names_of(*filters: dict[str, Any], **query: Any) -> list[str]:
        return names(found(server, base, app_id=app_id, filters=list(filters) or [{}], **query))

    return names_of


@pytest.mark.parametrize(("kilometers", "expected"), [(50, []), (150, ["dog"]), (10_000, ["dog", "deer"])])
def test_filter_by_place(kept: Any, kilometers: int, expected: list[str]) -> None:
    assert kept({"geo_point": {"longitude": -29.0, "latitude": 40.0, "geo_limit": kilometers}}) == expected


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"Breed": "Saint Bernard"}, ["dog"]),
        ({"Breed": "saint bernard"}, []),
        ({"food": {"likes": ["meat"]}}, ["dog"]),
        ({"food": {"cups": 2.0}}, ["dog"]),
        ({"food": {"likes": ["meat"], "cups": 3}}, []),
        ({"food": {"cups": 3}, "Breed": "Saint Bernard"}, ["dog"]),  # keys at the top are alternatives
        ({}, ["dog", "deer", "text"]),
    ],
)
def test_filter_by_metadata(kept: Any, metadata: dict[str, Any], expected: list[str]) -> None:
    assert kept({"metadata": metadata}) == expected


def test_filter_by_what_people_said(kept: Any) -> None:
    dog, deer = {"id": "dog", "value": 1}, {"name": "deer", "value": 1}
    assert kept({"concepts": [deer, dog]}) == ["dog", "deer"]
    assert kept({"concepts": [{"id": "dog", "value": 0}]}) == ["deer"]
    assert kept({"concepts": [dog]}, {"concepts": [deer]}) == []


def test_filter_by_dataset(kept: Any) -> None:
    assert kept({"input_dataset_ids": ["random_dataset", "dogs"]}) == ["dog"]
    assert kept({"input_dataset_ids": ["random_dataset"]}) == []


def test_filter_by_type(kept: Any) -> None:
    assert kept({"input_types": ["text"]}) == ["text"]
    assert kept({"input_types": ["image"]}) == ["dog", "deer"]
    assert kept({"input_types": ["video"], "input_status_code": READY}) == ["dog", "deer", "text"]
    assert kept({"input_types": ["image"]}, {"input_status_code": 30002}) == []


def test_filters_of_every_kind_and_a_rank(kept: Any, photos: list[Picture]) -> None:
    place = {"geo_point": {"longitude": 0.0, "latitude": 10.0, "geo_limit": 9000}}
    anywhere = kept(place, ranks=[{"image_bytes": photos[1].data}])
    assert anywhere == ["deer", "dog"]
    narrow = kept(
        place,
        {"input_types": ["image"]},
        {"concepts": [{"id": "dog", "value": 1}]},
        {"metadata": {"Breed": "Saint Bernard"}},
        ranks=[{"image_bytes": photos[1].data}],
    )
    assert narrow == ["dog"]


def test_algorithms_and_metrics_agree(kept: Any, photos: list[Picture]) -> None:
    ranks = [{"image_bytes": photos[0].data}]
    assert kept(ranks=ranks, algorithm="brute_force") == kept(ranks=ranks) == ["dog", "deer"]


def test_each_input_is_one_hit(kept: Any, kennel: App) -> None:
    """However many annotations it has."""
    for _ in range(3):
        data = resources_pb2.Data(concepts=[Concept(id="dog", value=1)])
        kennel.call("PostAnnotations", annotations=[resources_pb2.Annotation(input_id="dog", data=data)])
    assert kept({"concepts": [{"id": "dog", "value": 1}]}) == ["dog"]
    assert kept(ranks=[{"concepts": [{"id": "dog", "value": 1}]}])[0] == "dog"
    assert len(kept(ranks=[{"concepts": [{"id": "dog", "value": 1}]}])) == 2
