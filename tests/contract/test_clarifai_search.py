"""What the search tests of Clarifai's own clients expect, on both channels: legacy, filters, saved searches.

Each test does what its namesake there does, against pictures of our own.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import httpx
import pytest
from clarifai_grpc.grpc.api import resources_pb2
from clarifai_grpc.grpc.api.resources_pb2 import (
    And,
    Annotation,
    Concept,
    Data,
    Filter,
    Geo,
    GeoBoxedPoint,
    GeoLimit,
    GeoPoint,
    Image,
    Input,
    Output,
    Query,
    Search,
)
from clarifai_grpc.grpc.api.service_pb2 import Pagination
from clarifai_grpc.grpc.api.status import status_code_pb2 as codes
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from tests.contract.clients import DOG, READY, App, by_concept, by_image, having, input_ids, of_bytes, of_url
from tests.contract.conftest import Library
from tests.contract.pictures import Picture, PictureServer
from tests.contract.serving import Server

Hit = resources_pb2.Hit
Unit = Literal["Annotations", "Inputs"]
ALL = Pagination(page=1, per_page=1000)
CAT_IN_BOX = Geo(
    geo_box=[
        GeoBoxedPoint(geo_point=GeoPoint(longitude=43, latitude=54)),
        GeoBoxedPoint(geo_point=GeoPoint(longitude=45, latitude=56)),
    ]
)
NEARBY = Geo(geo_point=GeoPoint(longitude=43, latitude=56), geo_limit=GeoLimit(type="withinKilometers", value=1000))


def struct(values: dict[str, Any]) -> Struct:
    message = Struct()
    message.update(values)
    return message


def unique(word: str) -> str:
    return f"{word}-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def image(app: App, site: PictureServer, photos: list[Picture]) -> Input:
    """The picture their tests set up: a concept of its own, metadata and a place. Another one lies beside it."""
    metadata = struct({"some-key": "some-value", "another-key": {"inner-key": "inner-value"}})
    posted = of_url(
        site,
        photos[0],
        concepts=[Concept(id=unique("my-concept-id"), name=unique("my concept name"), value=1)],
        metadata=metadata,
        geo=Geo(geo_point=GeoPoint(longitude=44, latitude=55)),
    )
    first, _ = app.post([posted, of_bytes(photos[1])])
    return app.finished(first)


def legacy(app: App, *ands: And, **query: Any) -> list[Hit]:
    return list(app.call("PostSearches", query=Query(ands=ands, **query), pagination=ALL).hits)


def labelled(**fields: Any) -> And:
    return And(input=Input(data=Data(**fields)))


def predicted(**fields: Any) -> And:
    return And(output=Output(data=Data(concepts=[Concept(**fields)])))


# Legacy --------------------------------------------------------------------------------------------------------------


def test_search_by_annotated_concept_id(app: App, image: Input) -> None:
    hits = legacy(app, labelled(concepts=[Concept(id=image.data.concepts[0].id, value=1)]))
    assert input_ids(hits) == [image.id]


def test_search_by_annotated_concept_name(app: App, image: Input) -> None:
    hits = legacy(app, labelled(concepts=[Concept(name=image.data.concepts[0].name, value=1)]))
    assert input_ids(hits) == [image.id]


def test_search_by_predicted_concept(app: App, image: Input) -> None:
    by_id = legacy(app, predicted(id=DOG, value=1))
    by_name = legacy(app, predicted(name="dog", value=1))
    in_chinese = legacy(app, predicted(name="狗", value=1), language="zh")
    assert image.id in input_ids(by_id)
    assert input_ids(by_id) == input_ids(by_name) == input_ids(in_chinese)


@pytest.mark.parametrize("source", ["url", "bytes"])
def test_search_by_image(app: App, image: Input, site: PictureServer, photos: list[Picture], source: str) -> None:
    wanted = Image(url=site.url(photos[0])) if source == "url" else Image(base64=photos[0].data)
    hits = legacy(app, And(output=Output(input=Input(data=Data(image=wanted)))))
    assert (hits[0].input.id, hits[0].score >= 0.99, len(hits)) == (image.id, True, 2)


def test_search_by_metadata(app: App, image: Input) -> None:
    nested = struct({"another-key": {"inner-key": "inner-value"}})
    assert input_ids(legacy(app, labelled(metadata=nested))) == [image.id]
    assert legacy(app, labelled(metadata=struct({"another-key": {"inner-key": "other"}}))) == []


def test_search_by_geo_point_and_limit(app: App, image: Input) -> None:
    assert input_ids(legacy(app, labelled(geo=NEARBY))) == [image.id]


def test_search_by_geo_box(app: App, image: Input) -> None:
    assert input_ids(legacy(app, labelled(geo=CAT_IN_BOX))) == [image.id]


def test_search_by_image_url_and_geo_box(app: App, image: Input, site: PictureServer, photos: list[Picture]) -> None:
    visual = And(output=Output(input=Input(data=Data(image=Image(url=site.url(photos[0]))))))
    (hit,) = legacy(app, visual, labelled(geo=CAT_IN_BOX))
    assert (hit.input.id, hit.score >= 0.99) == (image.id, True)


def test_search_by_geo_box_and_annotated_name_and_predicted_name(app: App, image: Input) -> None:
    name = labelled(concepts=[Concept(name=image.data.concepts[0].name, value=1)])
    hits = legacy(app, labelled(geo=CAT_IN_BOX), name, predicted(name="dog", value=1))
    assert input_ids(hits) == [image.id]
    assert 0 <= hits[0].score < 1


# Filters and ranks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["Annotations", "Inputs"])
def test_filters(app: App, image: Input, unit: Unit) -> None:
    wanted = {
        "metadata": Data(metadata=struct({"another-key": {"inner-key": "inner-value"}})),
        "geo point": Data(geo=NEARBY),
        "geo box": Data(geo=CAT_IN_BOX),
        "concept": Data(concepts=[Concept(id=image.data.concepts[0].id, value=1)]),
    }
    for what, data in wanted.items():
        (hit,) = app.search(Query(filters=[Filter(annotation=Annotation(data=data))]), unit)
        assert (hit.input.id, hit.score) == (image.id, 1.0), what
    every = [Filter(annotation=Annotation(data=data)) for data in wanted.values()]
    assert input_ids(app.search(Query(filters=every), unit)) == [image.id]
    far = Geo(geo_point=GeoPoint(longitude=-43, latitude=56), geo_limit=NEARBY.geo_limit)
    assert app.search(Query(filters=[Filter(annotation=Annotation(data=Data(geo=far)))]), unit) == []


@pytest.mark.parametrize("unit", ["Annotations", "Inputs"])
def test_filter_and_rank(app: App, image: Input, photos: list[Picture], unit: Unit) -> None:
    place = Filter(annotation=Annotation(data=Data(geo=CAT_IN_BOX)))
    (hit,) = app.search(Query(filters=[place], ranks=[by_image(base64=photos[1].data)]), unit)
    assert (hit.input.id, hit.score < 0.99) == (image.id, True)


def test_filter_by_status_and_type_of_the_input(app: App, image: Input) -> None:
    """Types and status are alternatives in one filter."""
    data = resources_pb2.Data(text=resources_pb2.Text(), audio=resources_pb2.Audio())
    either = Filter(input=Input(data=data, status={"code": READY}))
    assert len(app.search(Query(filters=[either]), "Inputs")) == 2
    assert app.search(Query(filters=[Filter(input=Input(data=data))]), "Inputs") == []


def test_filter_by_dataset(app: App, photos: list[Picture]) -> None:
    app.call("PostDatasets", datasets=[resources_pb2.Dataset(id="some-dataset")])
    app.post([of_bytes(photos[0], id="in", dataset_ids=["some-dataset"]), of_bytes(photos[1], id="out")])

    def members(*ids: str) -> list[str]:
        return input_ids(app.search(Query(filters=[Filter(input=Input(dataset_ids=ids))]), "Inputs"))

    assert members("some-dataset", "random_dataset") == ["in"]
    assert members("random_dataset") == []


def test_only_count(app: App, image: Input) -> None:
    searches = [Search(query=Query(filters=[having(id=image.data.concepts[0].id, value=1)])), Search()]
    answer = app.call("PostInputsSearches", searches=searches, only_count=True)
    assert [count.estimated_total for count in answer.hit_counts] == [1, 2]
    assert list(answer.hits) == []


# Saved searches ------------------------------------------------------------------------------------------------------


def test_save_and_execute_search_by_id(app: App, image: Input) -> None:
    """With an `as_of` in five seconds, as their test has it: what comes until then is part of the answer."""
    search_id, concept = unique("my-search-id"), image.data.concepts[0]
    soon = Timestamp()
    soon.FromDatetime(datetime.now(UTC) + timedelta(seconds=5))
    query = Query(ands=[labelled(concepts=[Concept(id=concept.id, value=1)])])

    saved = app.call("PostSearches", searches=[Search(id=search_id, query=query, save=True, as_of=soon)])

    assert list(saved.hits) == []
    assert [(search.id, search.save) for search in saved.searches] == [(search_id, True)]
    answer = app.call("PostSearchesByID", id=search_id, pagination=ALL)
    assert input_ids(answer.hits) == [image.id]
    assert answer.hits[0].score == 1


def test_save_and_execute_annotations_search_by_id(app: App, image: Input) -> None:
    search_id, concept = unique("my-search-id"), image.data.concepts[0]
    mine = Annotation(input_id=image.id, data=Data(concepts=[Concept(id=concept.id, value=1)]))
    app.call("PostAnnotations", annotations=[mine])
    query = Query(filters=[having(id=concept.id, value=1)])

    saved = app.call("PostAnnotationsSearches", searches=[Search(id=search_id, query=query, save=True)])

    assert list(saved.hits) == []
    answer = app.call("PostSearchesByID", id=search_id, pagination=ALL)
    assert input_ids(answer.hits) == [image.id, image.id]
    assert all(hit.score == 1 for hit in answer.hits)
    assert len({hit.annotation.id for hit in answer.hits}) == 2
    first = app.call("PostSearchesByID", id=search_id, pagination=Pagination(page=1, per_page=1))
    assert list(first.hits) == [answer.hits[0]]


def test_save_and_execute_inputs_search_by_id(app: App, image: Input) -> None:
    search_id = unique("my-search-id")
    query = Query(filters=[having(id=image.data.concepts[0].id, value=1)], ranks=[by_concept(name="dog", value=1)])
    search = Search(id=search_id, query=query, min_value=1e-9, algorithm="brute_force", metric="COSINE_DISTANCE")
    expected = list(app.call("PostInputsSearches", searches=[search]).hits)
    assert input_ids(expected) == [image.id]
    search.save = True
    app.call("PostInputsSearches", searches=[search])

    assert list(app.call("PostSearchesByID", id=search_id).hits) == expected


def test_saved_searches_are_listed_changed_and_deleted(app: App, image: Input) -> None:
    ids = [unique("search") for _ in range(3)]
    by_label = Query(filters=[having(id=image.data.concepts[0].id, value=1)])
    app.call("PostAnnotationsSearches", searches=[Search(id=name, save=True, query=by_label) for name in ids])

    listed = app.call("ListSearches", per_page=2).searches
    assert [search.id for search in listed] == ids[:0:-1]
    assert [search.id for search in app.call("ListSearches", page=2, per_page=2).searches] == ids[:1]
    assert list(app.call("ListSearches", page=1000, per_page=500).searches) == []
    found = app.call("GetSearch", id=ids[0]).search
    assert (found.query, found.application_id) == (by_label, app.user_app_id.app_id if app.user_app_id else "")
    assert found == app.call("ListSearches", page=3, per_page=1).searches[0]

    nobody = Query(filters=[having(id="nobody", value=1)])
    app.call("PatchSearches", action="overwrite", searches=[Search(id=ids[0], query=nobody, name="nothing")])
    assert list(app.call("PostSearchesByID", id=ids[0]).hits) == []
    app.call("PatchAnnotationsSearches", action="overwrite", searches=[Search(id=ids[0], query=by_label)])
    assert input_ids(app.call("PostSearchesByID", id=ids[0]).hits) == [image.id]
    assert app.call("GetSearch", id=ids[0]).search.name == "nothing"

    app.call("DeleteSearch", id=ids[0])
    for rpc in ("GetSearch", "DeleteSearch", "PostSearchesByID"):
        assert app.ask(rpc, id=ids[0]).status.code == codes.CONN_DOES_NOT_EXIST
    answer = app.ask("PatchInputsSearches", action="overwrite", searches=[Search(id=ids[0])])
    assert answer.status.code == codes.CONN_DOES_NOT_EXIST
    again = app.ask("PostInputsSearches", searches=[Search(id=ids[1], save=True)])
    assert again.status.code == codes.DATABASE_DUPLICATE_KEY
    assert again.status.description == "Object has a duplicate ID; another object with same ID already exist."


def test_annotation_filters(app: App, image: Input) -> None:
    search = Search(query=Query(filters=[having(id=image.data.concepts[0].id, value=1)]))
    item = resources_pb2.AnnotationFilter(id="mine", search=search)
    app.call("PostAnnotationFilters", annotation_filters=[item])
    assert app.call("GetAnnotationFilter", annotation_filter_id="mine").annotation_filter.search == search
    item.search.query.filters[0].negate = True
    app.call("PatchAnnotationFilters", action="overwrite", annotation_filters=[item])
    (listed,) = app.call("ListAnnotationFilters").annotation_filters
    assert listed.search.query.filters[0].negate
    app.call("DeleteAnnotationFilters", annotation_filter_ids=["mine"])
    assert list(app.call("ListAnnotationFilters").annotation_filters) == []


# As cURL and fetch write it ------------------------------------------------------------------------------------------


@pytest.fixture
def labelled_id(app: App, photos: list[Picture]) -> str:
    (name,) = app.post([of_bytes(photos[0], concepts=[Concept(id="mine", value=1)])])
    return name


Json = dict[str, Any]


class Curl:
    """JSON to the app's own paths."""

    def __init__(self, server: Server, app: App) -> None:
        assert app.user_app_id is not None
        self._base = f"{server.base}/v2/users/{server.user_id}/apps/{app.user_app_id.app_id}"
        self._headers = {"Authorization": f"Key {server.pat}"}

    def __call__(self, method: str, path: str, body: Json | None = None) -> tuple[int, Json]:
        answer = httpx.request(
            method, self._base + path, headers=self._headers, json=body, trust_env=False, timeout=60.0
        )
        return answer.status_code, answer.json()


@pytest.fixture
def curl(server: Server, app: App) -> Curl:
    return Curl(server, app)


def hits_of(answer: tuple[int, Json]) -> list[str]:
    http_status, content = answer
    assert (http_status, content["status"]["code"]) == (200, codes.SUCCESS), content
    return [hit["input"]["id"] for hit in content["hits"]]


@pytest.mark.parametrize("stub", ["json"], indirect=True)
def test_saved_by_json_and_executed(curl: Curl, labelled_id: str) -> None:
    """Spellings that JSON clients use: camelCase, numbers for enums, RFC 3339 times, no value for 1, a last slash."""
    later = (datetime.now(UTC) + timedelta(days=1)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    concept = {"annotation": {"data": {"concepts": [{"id": "mine"}]}}}
    search = {"id": "s", "save": True, "asOf": later, "minValue": "0.5", "metric": 2, "query": {"filters": [concept]}}

    status, saved = curl("POST", "/annotations/searches/", {"searches": [search]})

    assert (status, saved["hits"]) == (200, [])
    (echo,) = saved["searches"]
    assert (echo["id"], echo["as_of"], echo["min_value"], echo["metric"]) == ("s", later, 0.5, 2)
    assert echo["visibility"] == {"gettable": 10}
    assert echo["created_at"].endswith("Z")
    assert hits_of(curl("POST", "/searches/s", {"pagination": {"page": 1, "perPage": 10}})) == [labelled_id]
    assert hits_of(curl("POST", "/searches/s/")) == [labelled_id]
    assert curl("GET", "/searches/s")[1]["search"] == echo
    assert curl("GET", "/searches/?per_page=5")[1]["searches"] == [echo]

    status, patched = curl(
        "PATCH", "/annotations/searches", {"action": "overwrite", "searches": [{"id": "s", "name": "n"}]}
    )
    assert (status, patched["searches"][0]["name"]) == (200, "n")
    assert curl("PATCH", "/searches", {"action": "overwrite", "searches": [{"id": "s", "name": "m"}]})[0] == 200
    status, deleted = curl("DELETE", "/searches/s")
    assert (status, deleted["status"]["code"]) == (200, codes.SUCCESS)


@pytest.mark.parametrize("stub", ["json"], indirect=True)
def test_http_statuses(curl: Curl, app: App) -> None:
    body: Json = {"searches": [{"id": "s", "save": True}]}
    assert curl("POST", "/inputs/searches", body)[0] == 200
    expected = [
        ("POST", "/inputs/searches", body, 409, codes.DATABASE_DUPLICATE_KEY),
        ("POST", "/searches/unknown", {}, 404, codes.CONN_DOES_NOT_EXIST),
        ("GET", "/searches/unknown", None, 404, codes.CONN_DOES_NOT_EXIST),
        ("DELETE", "/searches/unknown", None, 404, codes.CONN_DOES_NOT_EXIST),
        ("PATCH", "/searches", {"action": "merge", "searches": [{"id": "s"}]}, 400, codes.CONN_INVALID_REQUEST),
        ("POST", "/searches", {"searches": [{"min_value": 7}]}, 400, codes.SEARCH_INVALID_REQUEST),
        ("POST", "/searches", {"searches": [{"as_of": "yesterday"}]}, 400, codes.CONN_BAD_REQUEST_FORMAT),
        ("POST", "/searches/s", {"pagination": {"per_page": 5000}}, 400, codes.CONN_INVALID_REQUEST),
        ("POST", "/searches/s", {"pagination": {"page": 900, "per_page": 900}}, 400, codes.SEARCH_INVALID_REQUEST),
    ]
    for method, path, sent, http_status, code in expected:
        status, content = curl(method, path, sent)
        assert (status, content["status"]["code"]) == (http_status, code), (method, path, content)
        assert content["status"]["details"]


@pytest.mark.parametrize("stub", ["json"], indirect=True)
def test_the_legacy_forms_of_the_guide(curl: Curl, labelled_id: str) -> None:
    """A query at the top with `ands`, one with filters and ranks, and searches: all at /searches."""
    concept = {"data": {"concepts": [{"id": "mine"}]}}
    ands: Json = {"query": {"ands": [{"input": concept}, {"output": {"data": {"concepts": [{"name": "dog"}]}}}]}}
    new: Json = {"query": {"filters": [{"annotation": concept}], "ranks": [{"annotation": concept}]}}
    for body in (ands, new, {"searches": [ands]}, {"searches": [new]}):
        assert hits_of(curl("POST", "/searches", body)) == [labelled_id]
    negated: Json = {"query": {"ands": [{"input": concept, "negate": True}]}}
    assert hits_of(curl("POST", "/searches", negated)) == []


def test_an_app_key_needs_no_app_id(server: Server, library: Library) -> None:
    """The short paths, with what the guide's cURL examples send."""
    name, headers = unique("saved"), {"Authorization": f"Key {server.api_key}", "Content-Type": "application/json"}
    favourite = {"annotation": {"data": {"concepts": [{"id": "favourite"}]}}}
    with httpx.Client(base_url=f"{server.base}/v2", headers=headers, trust_env=False, timeout=60.0) as client:
        search = {"id": name, "save": True, "query": {"filters": [favourite]}}
        assert client.post("/annnotations/searches", json={"searches": [search]}).json()["hits"] == []
        answer = client.post(f"/searches/{name}")
        assert {hit["input"]["id"] for hit in answer.json()["hits"]} == library.favourites
        assert client.get(f"/searches/{name}").json()["search"]["application_id"] == server.app_id
        assert name in [saved["id"] for saved in client.get("/searches").json()["searches"]]
        assert client.delete(f"/searches/{name}").json()["status"]["code"] == codes.SUCCESS
        assert client.get(f"/searches/{name}").status_code == 404
