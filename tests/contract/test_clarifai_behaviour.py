"""What the tests of Clarifai's own clients expect of the API, for what this version builds, on both channels.

Each test does what its namesake there does, against pictures of our own: inputs, concepts, annotations, searches.
"""

from __future__ import annotations

import uuid

import httpx
import pytest
from clarifai_grpc.grpc.api import resources_pb2
from clarifai_grpc.grpc.api.resources_pb2 import (
    Annotation,
    BoundingBox,
    Concept,
    ConceptQuery,
    Data,
    Geo,
    GeoPoint,
    Query,
    Region,
    RegionInfo,
)
from clarifai_grpc.grpc.api.status import status_code_pb2 as codes
from google.protobuf.struct_pb2 import Struct
from tests.contract.clients import DOG, App, by_concept, by_image, having, input_ids, of_bytes, of_url
from tests.contract.pictures import Picture, PictureServer
from tests.contract.serving import Server
from tests.waiting import wait_for

DELETE_SECONDS = 120.0


@pytest.fixture
def labelled(app: App, site: PictureServer, photos: list[Picture]) -> resources_pb2.Input:
    """One picture with a concept that has an id and a name of its own, in an app that also holds another picture."""
    concept = Concept(id=f"my-concept-{uuid.uuid4().hex[:8]}", name=f"my concept {uuid.uuid4().hex[:8]}", value=1)
    first, _ = app.post([of_url(site, photos[0], concepts=[concept]), of_bytes(photos[1])])
    return app.finished(first)


def box(top: float, left: float, bottom: float, right: float) -> RegionInfo:
    return RegionInfo(bounding_box=BoundingBox(top_row=top, left_col=left, bottom_row=bottom, right_col=right))


def labelled_region(input_id: str, region: RegionInfo, concept_id: str) -> Annotation:
    data = Data(concepts=[Concept(id=concept_id, value=1)])
    return Annotation(input_id=input_id, data=Data(regions=[Region(region_info=region, data=data)]))


def gone(app: App, input_id: str) -> bool:
    return app.ask("GetInput", input_id=input_id).status.code == codes.CONN_DOES_NOT_EXIST


# Inputs --------------------------------------------------------------------------------------------------------------


def test_post_list_get_delete_image(app: App, site: PictureServer, photos: list[Picture]) -> None:
    concept = Concept(id="some-concept")
    (input_id,) = app.post([of_url(site, photos[0], concepts=[concept])])
    assert len(app.call("ListInputs", per_page=1).inputs) == 1
    assert len(app.call("ListInputs", page=1000, per_page=500).inputs) == 0

    found = app.call("GetInput", input_id=input_id).input
    assert found.data.image.url == site.url(photos[0])
    # Neither channel of this client can say "absent", so a concept without value is a negative one.
    assert [(c.id, c.name, c.value) for c in found.data.concepts] == [("some-concept", "some-concept", 0.0)]

    app.call("DeleteInput", input_id=input_id)
    wait_for("the input to be gone", lambda: gone(app, input_id), seconds=DELETE_SECONDS)
    assert app.rank(by_concept(id=DOG, value=1)) == []


def test_post_delete_batch_images(app: App, site: PictureServer, photos: list[Picture]) -> None:
    ids = app.post([of_url(site, photos[0]), of_url(site, photos[1]), of_url(site, photos[2])])
    app.call("DeleteInputs", ids=ids[:2])
    wait_for("both inputs to be gone", lambda: gone(app, ids[0]) and gone(app, ids[1]), seconds=DELETE_SECONDS)
    assert input_ids(app.rank(by_concept(id=DOG, value=1))) == ids[2:]


def test_an_image_with_id_concepts_geo_and_metadata(app: App, site: PictureServer, photos: list[Picture]) -> None:
    metadata = Struct()
    metadata.update({"key1": 123, "key2": {"inner-key1": "inner-val1", "inner-key2": "inner-val2"}})
    concepts = [Concept(id="some-positive-concept", value=1), Concept(id="some-negative-concept", value=0)]
    geo = Geo(geo_point=GeoPoint(longitude=55.0, latitude=66.0))
    app.post([of_url(site, photos[0], id="with-all", concepts=concepts, geo=geo, metadata=metadata)])

    found = app.call("GetInput", input_id="with-all").input
    assert found.id == "with-all"
    labels = [("some-positive-concept", 1.0), ("some-negative-concept", 0.0)]
    assert [(concept.id, concept.value) for concept in found.data.concepts] == labels
    assert found.data.metadata["key1"] == 123
    assert dict(found.data.metadata["key2"]) == {"inner-key1": "inner-val1", "inner-key2": "inner-val2"}
    assert (found.data.geo.geo_point.longitude, found.data.geo.geo_point.latitude) == (55.0, 66.0)


def test_image_with_bytes(app: App, photos: list[Picture], server: Server) -> None:
    """What was uploaded is hosted by the server, byte for byte, for those who have the key."""
    (input_id,) = app.post([of_bytes(photos[0])])
    url = app.call("GetInput", input_id=input_id).input.data.image.url
    shown = httpx.get(url, headers={"Authorization": f"Key {server.pat}"}, trust_env=False)
    assert (shown.status_code, shown.content) == (200, photos[0].data)
    assert httpx.get(url, headers={"Authorization": "Key wrong"}, trust_env=False).status_code == 401


def test_input_counts(app: App, photos: list[Picture]) -> None:
    app.post([of_bytes(photos[0]), of_bytes(photos[1])])
    assert app.call("GetInputCount").counts.processed == 2


# Concepts ------------------------------------------------------------------------------------------------------------


def test_concept_post_get_patch(app: App) -> None:
    concept_id, name = f"concept-id-{uuid.uuid4().hex[:8]}", f"concept-name-的な-{uuid.uuid4().hex[:8]}"
    app.call("PostConcepts", concepts=[Concept(id=concept_id, name=name)])
    found = app.call("GetConcept", concept_id=concept_id).concept
    assert (found.id, found.name) == (concept_id, name)

    again = app.ask("PostConcepts", concepts=[Concept(id=concept_id)]).status
    assert (again.code, again.description) == (codes.CONCEPTS_INVALID_REQUEST, "Invalid request")
    assert "duplicate" in again.details.lower()

    matches = app.call("PostConceptsSearches", concept_query=ConceptQuery(name=name)).concepts
    assert name in matches[0].name

    renamed = Concept(id=concept_id, name="some new concept name")
    app.call("PatchConcepts", action="overwrite", concepts=[renamed])
    assert app.call("GetConcept", concept_id=concept_id).concept.name == "some new concept name"


def test_patching_public_concept_fails(app: App) -> None:
    renamed = Concept(id="ai_98Xb0K3q", name="this new name won't be applied")
    status = app.ask("PatchConcepts", action="overwrite", concepts=[renamed]).status
    assert (status.code, status.description) == (codes.CONN_DOES_NOT_EXIST, "Resource does not exist")


def test_an_app_lists_its_own_concepts(app: App, photos: list[Picture]) -> None:
    """Labels make concepts, and these outlive the inputs that carried them."""
    (input_id,) = app.post([of_bytes(photos[0], concepts=[Concept(id="mine", value=1)])])
    assert [concept.id for concept in app.call("ListConcepts").concepts] == ["mine"]
    app.call("DeleteInput", input_id=input_id)
    wait_for("the input to be gone", lambda: gone(app, input_id), seconds=DELETE_SECONDS)
    assert [concept.id for concept in app.call("ListConcepts").concepts] == ["mine"]


@pytest.mark.parametrize(
    ("name", "language"),
    [("dog*", ""), ("dog", ""), ("DOG", "en"), ("water", ""), ("palm", ""), ("狗*", "zh"), ("人", "ja")],
)
def test_search_public_concepts(app: App, name: str, language: str) -> None:
    concepts = app.call("PostConceptsSearches", concept_query=ConceptQuery(name=name, language=language)).concepts
    assert name.rstrip("*").lower() in concepts[0].name.lower()
    assert concepts[0].language in (language or "en", "")


def test_concept_languages(app: App) -> None:
    app.call("PostConcepts", concepts=[Concept(id="tail", name="tail")])
    german = resources_pb2.ConceptLanguage(id="de", name="Schwanz")
    app.call("PostConceptLanguages", concept_id="tail", concept_languages=[german])
    assert app.call("GetConceptLanguage", concept_id="tail", language="de").concept_language.name == "Schwanz"
    better = resources_pb2.ConceptLanguage(id="de", name="Schweif")
    app.call("PatchConceptLanguages", concept_id="tail", concept_languages=[better], action="overwrite")
    languages = app.call("ListConceptLanguages", concept_id="tail").concept_languages
    assert ("de", "Schweif") in [(language.id, language.name) for language in languages]


# Annotations ---------------------------------------------------------------------------------------------------------


def test_every_input_has_an_input_level_annotation(app: App, labelled: resources_pb2.Input) -> None:
    annotations = app.call("ListAnnotations", input_ids=[labelled.id]).annotations
    assert [(a.input_id, a.input_level, a.trusted) for a in annotations] == [(labelled.id, True, True)]
    assert [concept.id for concept in annotations[0].data.concepts] == [labelled.data.concepts[0].id]
    everything = app.call("ListAnnotations", input_ids=[labelled.id], list_all_annotations=True).annotations
    assert any(a.model_version_id and a.data.concepts and not a.trusted for a in everything)


def test_annotation_post_list_patch_delete(app: App, labelled: resources_pb2.Input) -> None:
    region = labelled_region(labelled.id, box(0.2, 0.2, 0.8, 0.8), "thing")
    (posted,) = app.call("PostAnnotations", annotations=[region]).annotations
    assert posted.id
    assert posted.status.code == codes.ANNOTATION_SUCCESS

    newest = app.call("ListAnnotations", input_ids=[labelled.id]).annotations[0]
    assert newest.id == posted.id
    assert newest.data.regions[0].region_info == box(0.2, 0.2, 0.8, 0.8)

    moved = Annotation(
        id=posted.id,
        input_id=labelled.id,
        data=Data(regions=[Region(region_info=box(0.4, 0.4, 0.6, 0.6), data=region.data.regions[0].data)]),
    )
    app.call("PatchAnnotations", action="merge", annotations=[moved])
    patched = app.call("GetAnnotation", input_id=labelled.id, annotation_id=posted.id).annotation
    assert [one.region_info for one in patched.data.regions] == [box(0.4, 0.4, 0.6, 0.6)]

    app.call("DeleteAnnotation", input_id=labelled.id, annotation_id=posted.id)
    answer = app.ask("GetAnnotation", input_id=labelled.id, annotation_id=posted.id)
    assert answer.status.code == codes.CONN_DOES_NOT_EXIST


def test_deleting_the_annotations_of_an_input_keeps_its_own(app: App, labelled: resources_pb2.Input) -> None:
    regions = [labelled_region(labelled.id, box(0.1, 0.1, 0.5, 0.5), name) for name in ("this", "that")]
    app.call("PostAnnotations", annotations=regions)
    app.call("DeleteAnnotations", input_ids=[labelled.id])
    (left,) = app.call("ListAnnotations", input_ids=[labelled.id]).annotations
    assert left.input_level


@pytest.mark.parametrize(
    "regions",
    [
        [box(0.1, 0.1, 0.4, 0.4), box(0.5, 0.5, 0.9, 0.9)],
        [box(0.8, 0.1, 0.2, 0.4)],
        [box(0.0, 0.0, 1.5, 0.5)],
    ],
    ids=["two", "upside-down", "outside"],
)
def test_regions_that_cannot_be(app: App, labelled: resources_pb2.Input, regions: list[RegionInfo]) -> None:
    data = Data(regions=[Region(region_info=region) for region in regions])
    answer = app.ask("PostAnnotations", annotations=[Annotation(input_id=labelled.id, data=data)])
    assert answer.status.code != codes.SUCCESS
    assert codes.ANNOTATION_INVALID_ARGUMENT in (answer.status.code, *(a.status.code for a in answer.annotations))
    assert len(app.call("ListAnnotations", input_ids=[labelled.id]).annotations) == 1


# Searches ------------------------------------------------------------------------------------------------------------


def test_post_annotations_searches(app: App, labelled: resources_pb2.Input) -> None:
    """Two regions with public concepts: each is found by its own; no single annotation has both."""
    ids = {
        name: app.call("PostConceptsSearches", concept_query=ConceptQuery(name=name)).concepts[0].id
        for name in ("palm", "water")
    }
    app.call("PostAnnotations", annotations=[labelled_region(labelled.id, box(0.0, 0.0, 0.45, 1.0), ids["palm"])])
    app.call("PostAnnotations", annotations=[labelled_region(labelled.id, box(0.6, 0.0, 1.0, 0.98), ids["water"])])
    palm, water = having(id=ids["palm"], value=1), having(id=ids["water"], value=1)
    assert input_ids(app.filter(palm)) == [labelled.id]
    (hit,) = app.filter(water)
    assert hit.annotation.data.regions[0].region_info == box(0.6, 0.0, 1.0, 0.98)
    assert app.filter(palm, water) == []
    both = Query(filters=[palm, water])
    assert input_ids(app.search(both, "Inputs")) == [labelled.id]


def test_a_region_is_searched_by_its_crop(app: App, labelled: resources_pb2.Input, photos: list[Picture]) -> None:
    """Ranked annotation searches hit areas: the whole picture and, of its own, the region."""
    region = labelled_region(labelled.id, box(0.0, 0.0, 0.5, 0.5), "corner")
    (posted,) = app.call("PostAnnotations", annotations=[region]).annotations
    rank = by_image(base64=photos[0].data)

    def ranked() -> list[resources_pb2.Hit] | None:
        hits = app.rank(rank)
        return hits if len(hits) == 3 else None

    hits = wait_for("the region to be searchable", ranked, seconds=30.0)
    assert (hits[0].input.id, hits[0].annotation.id != posted.id) == (labelled.id, True)
    assert posted.id in [hit.annotation.id for hit in hits]
    assert len(app.search(Query(ranks=[rank]), "Inputs")) == 2


@pytest.mark.parametrize("unit", ["Annotations", "Inputs"])
def test_search_by_custom_concept(app: App, labelled: resources_pb2.Input, unit: str) -> None:
    concept = labelled.data.concepts[0]
    for wanted in (having(id=concept.id, value=1), having(name=concept.name, value=1)):
        (hit,) = app.search(Query(filters=[wanted]), unit)  # type: ignore[arg-type]
        assert (hit.input.id, hit.score) == (labelled.id, 1.0)
    assert app.search(Query(filters=[having(id="deer", value=1)]), unit) == []  # type: ignore[arg-type]


def test_search_by_predicted_concept(app: App, labelled: resources_pb2.Input) -> None:
    by_id = app.search(Query(ranks=[by_concept(id=DOG, value=1)]), "Inputs")
    by_name = app.search(Query(ranks=[by_concept(name="dog", value=1)]), "Inputs")
    in_chinese = app.search(Query(ranks=[by_concept(name="狗", value=1)], language="zh"), "Inputs")
    assert labelled.id in input_ids(by_id)
    assert input_ids(by_id) == input_ids(by_name) == input_ids(in_chinese)


@pytest.mark.parametrize("unit", ["Annotations", "Inputs"])
def test_search_by_image(
    app: App, labelled: resources_pb2.Input, site: PictureServer, photos: list[Picture], unit: str
) -> None:
    for rank in (by_image(url=site.url(photos[0])), by_image(base64=photos[0].data)):
        hits = app.search(Query(ranks=[rank]), unit)  # type: ignore[arg-type]
        assert (hits[0].input.id, hits[0].score >= 0.99, len(hits)) == (labelled.id, True, 2)


def test_a_deleted_label_is_no_longer_found(app: App, labelled: resources_pb2.Input) -> None:
    annotation = Annotation(input_id=labelled.id, data=Data(concepts=[Concept(id="passing", value=1)]))
    (posted,) = app.call("PostAnnotations", annotations=[annotation]).annotations
    assert input_ids(app.filter(having(id="passing", value=1))) == [labelled.id]
    app.call("DeleteAnnotation", input_id=labelled.id, annotation_id=posted.id)
    assert app.filter(having(id="passing", value=1)) == []


# Apps ----------------------------------------------------------------------------------------------------------------


def test_app_get_list_patch_delete(app: App) -> None:
    app_id = app.user_app_id.app_id if app.user_app_id else ""
    found = app.call("GetApp").app
    assert (found.id, found.default_workflow.id) == (app_id, "General")
    assert app_id in [one.id for one in app.call("ListApps").apps]
    described = resources_pb2.App(id=app_id, description="a shelf of pictures")
    app.call("PatchApps", action="overwrite", apps=[described])
    assert app.call("GetApp").app.description == "a shelf of pictures"
    app.call("DeleteApp")
    wait_for(
        "the app to be gone",
        lambda: app.ask("GetApp").status.code == codes.CONN_DOES_NOT_EXIST,
        seconds=DELETE_SECONDS,
    )
