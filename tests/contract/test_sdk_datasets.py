"""The `clarifai` SDK's App and Dataset classes: datasets, their members, and relations between concepts."""

from __future__ import annotations

import io
import json
import uuid
import zipfile
from pathlib import Path

import pytest
import requests
from clarifai.client.app import App as SdkApp
from clarifai.client.dataset import Dataset as SdkDataset
from clarifai_grpc.grpc.api import service_pb2_grpc
from clarifai_grpc.grpc.api.resources_pb2 import (
    Annotation,
    BoundingBox,
    Concept,
    ConceptRelation,
    Data,
    DatasetVersionExport,
    InputBatch,
    Region,
    RegionInfo,
)
from google.protobuf import struct_pb2
from PIL import Image
from tests.contract.clients import App, of_bytes, of_url
from tests.contract.conftest import NewApp
from tests.contract.pictures import Picture, PictureServer
from tests.contract.serving import Server
from tests.waiting import wait_for

PUBLIC = 50


@pytest.fixture
def mine(grpc_stub: service_pb2_grpc.V2Stub, new_app: NewApp) -> App:
    """A new, empty application through the stub."""
    return new_app(grpc_stub)


@pytest.fixture
def sdk(server: Server, mine: App) -> SdkApp:
    """The same application through the SDK."""
    assert mine.user_app_id is not None
    return SdkApp(user_id=server.user_id, app_id=mine.user_app_id.app_id, pat=server.pat, base_url=server.base)


def dataset(sdk: SdkApp, server: Server, name: str) -> SdkDataset:
    return SdkDataset(dataset_id=name, user_id=server.user_id, app_id=sdk.id, pat=server.pat, base_url=server.base)


def fact(relation: ConceptRelation) -> tuple[str, str, str]:
    return relation.subject_concept.id, relation.predicate, relation.object_concept.id


def test_making_changing_and_deleting_datasets(sdk: SdkApp) -> None:
    metadata = struct_pb2.Struct()
    metadata.update({"year": 2026})
    sdk.create_dataset("summer", description="at sea", metadata=metadata)
    sdk.create_dataset("winter")
    sdk.patch_dataset(
        "summer", notes="by hand", visibility=PUBLIC, image_url="https://example.com/a.jpg", metadata=metadata
    )
    found = sdk.dataset("summer")
    assert (found.id, found.description, found.notes) == ("summer", "at sea", "by hand")
    assert (found.visibility.gettable, found.image.url) == (PUBLIC, "https://example.com/a.jpg")
    assert found.dataset_info.metadata["year"] == 2026
    assert [item.id for item in sdk.list_datasets()] == ["winter", "summer"]
    assert [item.id for item in sdk.list_datasets(page_no=2, per_page=1)] == ["summer"]

    sdk.patch_dataset("summer", action="remove", image_url="https://example.com/a.jpg")
    assert not sdk.dataset("summer").dataset_info.HasField("image")

    sdk.delete_dataset("winter")
    assert [item.id for item in sdk.list_datasets()] == ["summer"]
    with pytest.raises(Exception, match="Resource does not exist"):
        sdk.dataset("winter")
    with pytest.raises(Exception, match="duplicate ID"):
        sdk.create_dataset("summer")


def test_uploading_into_a_dataset_and_merging_another(
    sdk: SdkApp, mine: App, server: Server, photos: list[Picture]
) -> None:
    names = [f"p{n}" for n in range(3)]
    summer, winter = sdk.create_dataset("summer"), sdk.create_dataset("winter")
    inputs = sdk.inputs()
    for name, photo in zip(names, photos, strict=False):
        inputs.upload_from_bytes(name, image_bytes=photo.data, dataset_id="winter")
    mine.post([of_bytes(photos[3], id="outside")])
    for name in names:
        mine.finished(name)

    assert [item.id for item in dataset(sdk, server, "winter").list_inputs()] == names[::-1]
    assert list(summer.list_inputs()) == []
    summer.merge_dataset("winter")
    assert sorted(item.id for item in summer.list_inputs(input_type="image")) == names
    winter.merge_dataset("never-made")
    assert len(list(winter.list_inputs())) == 3
    assert len(list(winter.list_inputs(page_no=2, per_page=2))) == 1

    found = sdk.search(top_k=10, base_url=server.base).query(filters=[{"input_dataset_ids": ["summer"]}])
    assert sorted(hit.input.id for page in found for hit in page.hits) == names


def test_exporting_a_dataset_with_its_pictures(
    sdk: SdkApp, mine: App, server: Server, photos: list[Picture], site: PictureServer, tmp_path: Path
) -> None:
    """What `Dataset.export` makes: pictures and annotations of a version, as it was, in one archive."""
    sdk.create_dataset("summer")
    uploaded = of_bytes(photos[0], id="uploaded", concepts=[Concept(id="dog", value=1)], dataset_ids=["summer"])
    fetched = of_url(site, photos[1], id="fetched", dataset_ids=["summer"])
    mine.post([uploaded, fetched])
    box = BoundingBox(top_row=0.25, left_col=0, bottom_row=0.75, right_col=0.5)
    region = Region(region_info=RegionInfo(bounding_box=box), data=Data(concepts=[Concept(id="nose", value=1)]))
    mine.call("PostAnnotations", annotations=[Annotation(input_id="fetched", data=Data(regions=[region]))])
    made = dataset(sdk, server, "summer").create_version()
    mine.call("DeleteDatasetInputs", dataset_id="summer", input_ids=["uploaded"])
    made.export(str(tmp_path / "summer.zip"), split="train")

    with zipfile.ZipFile(tmp_path / "summer.zip") as archive:
        assert sorted(archive.namelist()) == [
            "train/annotations/fetched.json",
            "train/annotations/uploaded.json",
            "train/inputs/fetched.png",
            "train/inputs/uploaded.png",
        ]
        for name, photo in (("uploaded", photos[0]), ("fetched", photos[1])):
            png = io.BytesIO(archive.read(f"train/inputs/{name}.png"))
            with Image.open(png) as saved, Image.open(io.BytesIO(photo.data)) as posted:
                assert (saved.size, saved.tobytes()) == (posted.size, posted.tobytes())
        (label,) = json.loads(archive.read("train/annotations/uploaded.json"))
        assert (label["id"], label["value"]) == ("dog", 1.0)
        (part,) = json.loads(archive.read("train/annotations/fetched.json"))
        assert part["regionInfo"]["boundingBox"] == {"topRow": 0.25, "leftCol": 0, "bottomRow": 0.75, "rightCol": 0.5}
        assert [concept["id"] for concept in part["data"]["concepts"]] == ["nose"]


def test_both_channels_export_what_can_be_downloaded_without_a_key(app: App, photos: list[Picture]) -> None:
    """As Clarifai's own test of its client does."""
    app.call("PostDatasets", datasets=[{"id": "d"}])
    app.post([of_bytes(photos[0], id="p0", dataset_ids=["d"]), of_bytes(photos[1], id="p1", dataset_ids=["d"])])
    app.call("PostDatasetVersions", dataset_id="d", dataset_versions=[{"id": "v"}])
    named = {"dataset_id": "d", "dataset_version_id": "v"}
    wait_for("the version", lambda: app.call("GetDatasetVersion", **named).dataset_version.status.code == 64015)
    app.call("PutDatasetVersionExports", **named, exports=[{"format": 1}, {"format": 3}])

    def exports() -> list[DatasetVersionExport]:
        info = app.call("GetDatasetVersion", **named).dataset_version.export_info
        both = [info.clarifai_data_protobuf, info.clarifai_data_json]
        return both if all(one.status.code == 64200 for one in both) else []

    for export, name in zip(wait_for("the exports", exports), ("protobuf", "json"), strict=True):
        answer = requests.get(export.url, timeout=60)
        assert (answer.status_code, len(answer.content)) == (200, export.size)
        with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
            assert archive.read("mimetype").decode() == f"application/x.clarifai-data+{name}"
            (batch,) = archive.namelist()[1:]
            data = archive.read(batch)
        ids = (
            [item["id"] for item in json.loads(data)["inputs"]]
            if name == "json"
            else [item.id for item in InputBatch.FromString(data).inputs]
        )
        assert ids == ["p0", "p1"]


def test_relations_between_concepts(sdk: SdkApp, mine: App) -> None:
    mine.call("PostConcepts", concepts=[Concept(id=name) for name in ("food", "honey", "bread", "nectar")])
    sdk.create_concept_relations("food", ["honey", "bread"], ["hypernym", "hypernym"])
    sdk.create_concept_relations("honey", ["nectar"], ["synonym"])

    everything = list(sdk.search_concept_relations(show_tree=True))

    assert sorted(map(fact, everything)) == [
        ("bread", "hyponym", "food"),
        ("honey", "hyponym", "food"),
        ("honey", "synonym", "nectar"),
    ]
    of_honey = list(sdk.search_concept_relations(concept_id="honey"))
    assert list(map(fact, of_honey)) == [("honey", "hyponym", "food"), ("honey", "synonym", "nectar")]
    assert of_honey[0].object_concept.name == "food"
    assert of_honey[0].object_concept.created_at.seconds > 0
    wider = sdk.search_concept_relations(concept_id="food", predicate="hypernym")
    assert sorted(item.object_concept.id for item in wider) == ["bread", "honey"]

    sdk.delete_concept_relations("honey", [of_honey[0].id])  # the path names the object of what was posted
    assert len(list(sdk.search_concept_relations())) == 2
    sdk.delete_concept_relations("honey")
    sdk.delete_concept_relations("honey")
    assert list(map(fact, sdk.search_concept_relations())) == [("bread", "hyponym", "food")]


def test_a_relation_the_server_refuses_raises(sdk: SdkApp, mine: App) -> None:
    mine.call("PostConcepts", concepts=[Concept(id="food")])
    with pytest.raises(Exception, match="Resource does not exist"):
        sdk.create_concept_relations("food", [uuid.uuid4().hex], ["hypernym"])
    with pytest.raises(Exception, match="it can be hypernym, hyponym, synonym"):
        sdk.create_concept_relations("food", ["food"], ["parent"])
    assert list(sdk.search_concept_relations()) == []


def test_both_channels_make_list_and_delete_alike(app: App) -> None:
    """As gRPC, and as the JSON that the official client makes of the same messages."""
    app.call("PostConcepts", concepts=[Concept(id="food"), Concept(id="honey")])
    relation = ConceptRelation(object_concept=Concept(id="honey"), predicate="hypernym")
    (made,) = app.call("PostConceptRelations", concept_id="food", concept_relations=[relation]).concept_relations
    assert fact(made) == ("food", "hypernym", "honey")
    (listed,) = app.call("ListConceptRelations").concept_relations
    assert (listed.id, fact(listed)) == (made.id, ("honey", "hyponym", "food"))
    (of_food,) = app.call("ListConceptRelations", concept_id="food").concept_relations
    assert of_food == made
    app.call("DeleteConceptRelations", concept_id="honey", ids=[made.id])
    assert list(app.call("ListConceptRelations").concept_relations) == []
    app.call("PostKnowledgeGraphs", knowledge_graphs=[{"id": "menu"}])
    assert [graph.id for graph in app.call("ListKnowledgeGraphs").knowledge_graphs] == ["menu"]


def test_both_channels_fill_and_empty_a_dataset(app: App, photos: list[Picture]) -> None:
    app.call("PostDatasets", datasets=[{"id": "d", "metadata": {"a": {"b": [1]}}}])
    assert app.call("GetDataset", dataset_id="d").dataset.metadata["a"]["b"] == [1]
    app.post([of_bytes(photos[0], id="p0"), of_bytes(photos[1], id="p1")])
    wanted = [{"input": {"id": name}} for name in ("p0", "p1", "nobody")]
    answer = app.ask("PostDatasetInputs", dataset_id="d", dataset_inputs=wanted)
    assert (answer.status.code, answer.dataset_inputs[2].input.status.code) == (10010, 30102)
    app.call("DeleteDatasetInputs", dataset_id="d", input_ids=["p0"])
    assert [item.input.id for item in app.call("ListDatasetInputs", dataset_id="d").dataset_inputs] == ["p1"]
    by_dataset = {"query": {"filters": [{"input": {"dataset_ids": ["d"]}}]}}
    app.call("PostDatasets", datasets=[{"id": "copy"}])
    app.call("PostDatasetInputs", dataset_id="copy", search=by_dataset)
    assert app.call("GetDatasetInput", dataset_id="copy", input_id="p1").dataset_input.input.id == "p1"
    app.call("PatchDatasets", action="merge", datasets=[{"id": "copy", "notes": "by search"}])
    app.call("DeleteDatasets", dataset_ids=["d"])
    (left,) = app.call("ListDatasets").datasets
    assert (left.id, left.notes) == ("copy", "by search")
