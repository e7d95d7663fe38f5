"""The legacy form: ``ands`` of PostSearches, each a filter or a rank (api-spec 4.9)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

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
    Rank,
    Search,
)
from clarifai_grpc.grpc.api.service_pb2 import Pagination
from google.protobuf.struct_pb2 import Struct
from tests.integration.serving import (
    App,
    Site,
    by_concept,
    by_image,
    hit_inputs,
    of_bytes,
    of_url,
    picture,
)

MISSING, BAD_SEARCH = 11101, 40002
Hit = resources_pb2.Hit


def has(concept_id: str, value: float = 1.0) -> Data:
    return Data(concepts=[Concept(id=concept_id, value=value)])


def text(input_id: str, *concepts: str, **data: Any) -> Input:
    labels = [Concept(id=concept, value=1) for concept in concepts]
    return Input(id=input_id, data=Data(text=resources_pb2.Text(raw=input_id), concepts=labels, **data))


def struct(**values: Any) -> Struct:
    message = Struct()
    message.update(values)
    return message


def point(longitude: float, latitude: float) -> Geo:
    return Geo(geo_point=GeoPoint(longitude=longitude, latitude=latitude))


def within(geo: Geo, kilometers: float) -> Geo:
    return Geo(geo_point=geo.geo_point, geo_limit=GeoLimit(type="withinKilometers", value=kilometers))


def labelled(data: Data, **fields: Any) -> And:
    return And(input=Input(data=data), **fields)


def predicted(data: Data, **fields: Any) -> And:
    return And(output=Output(data=data), **fields)


def alike(input: Input, **fields: Any) -> And:
    return And(output=Output(input=input), **fields)


def found_in(hits: Iterable[Hit]) -> list[tuple[str, str, float]]:
    """What was found; the inputs themselves may be indexed in between."""
    return [(hit.input.id, hit.annotation.id, hit.score) for hit in hits]


def hits(app: App, *ands: And, **query: Any) -> list[Hit]:
    """Of the query at the top of the request; the same in ``searches`` must be the same."""
    asked = Query(ands=ands, **query)
    top = app.call("PostSearches", query=asked)
    assert (top.query, list(top.searches)) == (asked, [])
    beneath = app.call("PostSearches", searches=[Search(query=asked)])
    assert [search.query for search in beneath.searches] == [asked]
    assert found_in(beneath.hits) == found_in(top.hits)
    assert "" != top.id != beneath.id
    return list(top.hits)


def found(app: App, *ands: And, **query: Any) -> list[str]:
    return hit_inputs(hits(app, *ands, **query))


# Filters -------------------------------------------------------------------------------------------------------------


def test_by_a_label(app: App) -> None:
    app.post(text("a", "mine"), text("b", "other"), text("c"))

    (hit,) = hits(app, labelled(has("mine")))

    assert (hit.input.id, hit.score) == ("a", 1.0)
    assert found(app, labelled(Data(concepts=[Concept(name="mine", value=1)]))) == ["a"]
    assert found(app, labelled(has("unknown"))) == []


def test_each_and_may_be_fulfilled_by_another_annotation(app: App) -> None:
    app.post(text("a", "x"), text("b", "x", "y"), text("c", "y"))
    app.annotate(Annotation(input_id="a", data=has("y"), trusted=True))
    assert found(app, labelled(has("x")), labelled(has("y"))) == ["a", "b"]


def test_negated(app: App) -> None:
    app.post(text("a", "x"), text("b", "x", "y"), text("c"))
    assert found(app, labelled(has("x"), negate=True)) == ["c"]
    assert found(app, labelled(has("x")), labelled(has("y", 0.0), negate=True)) == ["a"]


def test_by_metadata(app: App) -> None:
    app.post(text("a", metadata=struct(kind="x", deep={"in": [1, 2]})), text("b", metadata=struct(kind="y")), text("c"))
    assert found(app, labelled(Data(metadata=struct(kind="x")))) == ["a"]
    assert found(app, labelled(Data(metadata=struct(deep={"in": [2]})))) == ["a"]
    assert found(app, labelled(Data(metadata=struct(kind="x")), negate=True)) == ["b", "c"]


def test_by_place(app: App) -> None:
    app.post(text("a", geo=point(55, 44)), text("b", geo=point(-30, 40)), text("c"))
    corners = [GeoBoxedPoint(geo_point=GeoPoint(longitude=lo, latitude=la)) for lo, la in ((54, 43), (56, 45))]
    assert found(app, labelled(Data(geo=within(point(56, 43), 1000)))) == ["a"]
    assert found(app, labelled(Data(geo=within(point(-29, 40), 150)))) == ["b"]
    assert found(app, labelled(Data(geo=Geo(geo_box=corners)))) == ["a"]


def test_by_the_url_of_an_input(app: App, site: Site) -> None:
    first, second = site.show(picture(1)), site.show(picture(2))
    app.post(of_url(first, "a"), of_url(second, "b"))
    assert found(app, labelled(Data(image=Image(url=second)))) == ["b"]
    assert found(app, labelled(Data(image=Image(url=second + "?")))) == []


def test_by_id_status_and_dataset(app: App) -> None:
    app.call("PostDatasets", datasets=[resources_pb2.Dataset(id="set")])
    inputs = [text("a"), text("b")]
    inputs[1].dataset_ids.append("set")
    app.post(*inputs)
    app.post(of_bytes(b"no picture", "broken"))
    assert app.finished("broken").status.code == 30002
    app.finished("a")
    app.finished("b")

    assert found(app, And(input=Input(id="a"))) == ["a"]
    assert found(app, And(input=Input(dataset_ids=["set", "unknown"]))) == ["b"]
    assert found(app, And(input=Input(status={"code": 30000}))) == ["a", "b"]
    assert found(app, And(input=Input(status={"code": 30002}))) == ["broken"]


def test_by_an_annotation(app: App) -> None:
    app.post(text("a", "x"), text("b", "x"))
    (made,) = app.annotate(Annotation(input_id="b", data=has("y"), annotation_info=struct(source="me")))
    assert found(app, And(annotation=Annotation(data=has("y")))) == ["b"]
    assert found(app, And(annotation=Annotation(id=made.id))) == ["b"]
    assert found(app, And(annotation=Annotation(annotation_info=struct(source="me")))) == ["b"]
    assert found(app, And(annotation=Annotation(user_id="somebody"))) == []


# Ranks ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def pictures(app: App) -> App:
    """i0 to i4, of which i1 and i3 are mine."""
    mine = {1, 3}
    inputs = [of_bytes(picture(n), f"i{n}") for n in range(5)]
    for n in mine:
        inputs[n].data.concepts.add(id="mine", value=1)
    app.indexed(*inputs)
    return app


def ranked(app: App, *ranks: Rank, **query: Any) -> list[Hit]:
    searches = [Search(query=Query(ranks=ranks, **query))]
    return list(app.call("PostInputsSearches", searches=searches).hits)


@pytest.mark.parametrize("concept", [Concept(name="people", value=1), Concept(name="dog", value=0)])
def test_output_concepts_rank_by_prediction(pictures: App, concept: Concept) -> None:
    data = Data(concepts=[concept])
    expected = ranked(pictures, Rank(annotation=Annotation(data=data)))
    assert len(expected) == 5
    assert hits(pictures, predicted(data)) == expected


def test_a_name_is_read_in_the_language_of_the_query(pictures: App) -> None:
    chinese = found(pictures, predicted(Data(concepts=[Concept(name="人", value=1)])), language="zh")
    assert chinese == found(pictures, predicted(Data(concepts=[Concept(name="people", value=1)])))


def test_output_inputs_rank_by_likeness(pictures: App, site: Site) -> None:
    image = Image(base64=picture(2))
    expected = ranked(pictures, by_image(picture(2)))
    assert hits(pictures, alike(Input(data=Data(image=image)))) == expected
    assert expected[0].input.id == "i2"

    url = site.show(picture(4))
    assert found(pictures, alike(Input(data=Data(image=Image(url=url)))))[0] == "i4"
    by_id = hits(pictures, alike(Input(id="i3")))
    assert by_id == ranked(pictures, Rank(annotation=Annotation(input_id="i3")))
    assert by_id[0].input.id == "i3"


def test_a_negated_rank_is_turned_round(pictures: App) -> None:
    image = Input(data=Data(image=Image(base64=picture(2))))
    scores = {hit.input.id: hit.score for hit in hits(pictures, alike(image))}

    turned = hits(pictures, alike(image, negate=True))

    assert turned[-1].input.id == "i2"
    assert {hit.input.id: hit.score for hit in turned} == pytest.approx({i: 1 - s for i, s in scores.items()}, abs=1e-6)


def test_filters_and_ranks_of_both_forms_combine(pictures: App) -> None:
    image = by_image(picture(1))
    expected = ranked(pictures, by_concept("people"), image, filters=[Filter(annotation=Annotation(data=has("mine")))])
    assert hit_inputs(expected) in (["i1", "i3"], ["i3", "i1"])

    mixed = hits(pictures, labelled(has("mine")), predicted(has("people")), ranks=[image])
    new = hits(pictures, ranks=[by_concept("people"), image], filters=[Filter(annotation=Annotation(data=has("mine")))])

    assert mixed == new == expected


def test_minimum_and_pages(pictures: App) -> None:
    query = Query(ands=[alike(Input(id="i0"))])
    everything = pictures.call("PostSearches", query=query).hits
    assert len(everything) == 5
    lowest = everything[1].score - 1e-6

    some = pictures.call("PostSearches", searches=[Search(query=query, min_value=lowest)]).hits
    pages = [
        pictures.call("PostSearches", query=query, pagination=Pagination(page=n, per_page=2)).hits for n in (1, 2, 3, 4)
    ]

    assert list(some) == list(everything)[:2]
    assert [hit for page in pages for hit in page] == list(everything)
    assert [len(page) for page in pages] == [2, 2, 1, 0]


# Refused -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", [Query(), Query(ands=[And()]), Query(ands=[And(input=Input(), output=Output())])])
def test_nothing_asked_is_everything(app: App, query: Query) -> None:
    app.post(text("a"), text("b"))
    assert hit_inputs(app.call("PostSearches", query=query).hits) == ["a", "b"]
    assert hit_inputs(app.call("PostSearches", searches=[Search(query=query)]).hits) == ["a", "b"]


def test_query_and_searches_are_one_too_many(app: App) -> None:
    query = Query(ands=[labelled(has("x"))])
    answer = app.ask("PostSearches", query=query, searches=[Search(query=query)])
    assert answer.status.code == BAD_SEARCH
    assert "both query and searches" in answer.status.details


@pytest.mark.parametrize("rpc", ["PostAnnotationsSearches", "PostInputsSearches"])
def test_only_the_legacy_rpc_reads_ands(app: App, rpc: str) -> None:
    answer = app.ask(rpc, searches=[Search(query=Query(ands=[labelled(has("x"))]))])
    assert answer.status.code == BAD_SEARCH
    assert "ands" in answer.status.details


@pytest.mark.parametrize(
    ("part", "status"),
    [
        (predicted(has("nobody-knows-this")), BAD_SEARCH),
        (alike(Input(id="nothing")), MISSING),
        (labelled(Data(geo=point(1, 2))), BAD_SEARCH),
        (labelled(Data(concepts=[Concept(value=1)])), BAD_SEARCH),
        (And(output=Output(model=resources_pb2.Model(id="x"))), BAD_SEARCH),
    ],
)
def test_what_cannot_be_searched_by_is_refused(app: App, part: And, status: int) -> None:
    app.post(text("a"))
    answer = app.ask("PostSearches", query=Query(ands=[part]))
    assert answer.status.code == status, answer.status
    assert answer.status.details


def test_over_rest(app: App) -> None:
    """As the guide's cURL examples post it: no value, so 1; a trailing slash; the query at the top."""
    app.post(text("a", "mine"), text("b"))
    body = {"query": {"ands": [{"input": {"data": {"concepts": [{"id": "mine"}]}}}]}}

    answer = app.rest("POST", "/searches/", body)

    assert [hit["input"]["id"] for hit in answer["hits"]] == ["a"]
    assert answer["query"]["ands"][0]["input"]["data"]["concepts"] == [{"id": "mine", "value": 1}]
    assert "searches" not in answer
    bad = app.server.rest("POST", f"{app.path}/searches", {"query": {"ranks": [{"annotation": {"input_id": "x"}}]}})
    assert (bad.status_code, bad.json()["status"]["code"]) == (404, MISSING)
