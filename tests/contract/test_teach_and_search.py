"""Label a few photographs, train, and rank by the new concept at once: the second way of the guide to search."""

from __future__ import annotations

import csv
import io
import random
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from clarifai_grpc.grpc.api import resources_pb2, service_pb2, service_pb2_grpc
from clarifai_grpc.grpc.api.resources_pb2 import Annotation, Concept, Data, Model, ModelVersion, OutputInfo
from clarifai_grpc.grpc.api.status import status_code_pb2
from tests.contract.clients import App, by_concept, of_bytes
from tests.contract.conftest import NewApp
from tests.contract.pictures import Picture, drawings
from tests.waiting import wait_for

CLOTHING = Path(__file__).parents[3] / "shared" / "data" / "eval-clothing.zip"
#: Garments of which there are enough photographs. General knows some of them by these names; "my shorts" are new to it.
GARMENTS = ("t-shirt", "longsleeve", "outwear", "shorts", "pants")
LABELLED = 20
TRAIN_SECONDS = 120.0
UNDER_WAY = (status_code_pb2.MODEL_QUEUED_FOR_TRAINING, status_code_pb2.MODEL_TRAINING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wardrobe:
    """An app full of photographs: their garments by input id, and who is labelled for which garment."""

    app: App
    garments: dict[str, str]
    positives: dict[str, list[str]]
    negatives: dict[str, list[str]]

    def average_precision(self, garment: str) -> float:
        """How well ranking by the concept brings that garment to the top, among inputs that carry no label of it."""
        labelled = {*self.positives[garment], *self.negatives[garment]}
        hits = self.app.search(
            resources_pb2.Query(ranks=[by_concept(id=own(garment), value=1)]),
            "Inputs",
            service_pb2.Pagination(page=1, per_page=1000),
        )
        found = [self.garments[hit.input.id] == garment for hit in hits if hit.input.id not in labelled]
        places = [place for place, right in enumerate(found, start=1) if right]
        assert len(found) == len(self.garments) - len(labelled)
        return sum(number / place for number, place in enumerate(places, start=1)) / len(places)


def own(garment: str) -> str:
    """The id of the concept that is taught."""
    return f"my-{garment}"


def photographs() -> list[tuple[Picture, str]]:
    with zipfile.ZipFile(CLOTHING) as archive:
        rows = csv.DictReader(io.TextIOWrapper(archive.open("labels.tsv"), encoding="utf-8"), delimiter="\t")
        return [(Picture(name=Path(row["file"]).stem, data=archive.read(row["file"])), row["labels"]) for row in rows]


def post_all(app: App, pictures: Sequence[Picture]) -> None:
    for start in range(0, len(pictures), 64):
        part = pictures[start : start + 64]
        app.post([of_bytes(picture, id=picture.name) for picture in part])


def label(app: App, names: Sequence[str], concept_id: str, value: float) -> None:
    annotations = [
        Annotation(input_id=name, data=Data(concepts=[Concept(id=concept_id, value=value)])) for name in names
    ]
    app.call("PostAnnotations", annotations=annotations)


def train(app: App, model_id: str, concept_ids: Sequence[str]) -> ModelVersion:
    """Asks for a version and waits for its end, as Clarifai's own tests do."""
    concepts = [Concept(id=concept_id) for concept_id in concept_ids]
    info = OutputInfo(data=Data(concepts=concepts))
    version = app.call("PostModelVersions", model_id=model_id, model_versions=[ModelVersion(output_info=info)])
    version_id = version.model.model_version.id

    def look() -> ModelVersion | None:
        found = app.call("GetModelVersion", model_id=model_id, version_id=version_id).model_version
        return None if found.status.code in UNDER_WAY else found

    return wait_for("the version to be trained", look, seconds=TRAIN_SECONDS)


@pytest.fixture(scope="module")
def wardrobe(grpc_stub: service_pb2_grpc.V2Stub, new_app: NewApp) -> Wardrobe:
    if not CLOTHING.is_file():
        pytest.skip("needs real photographs (../shared/data/eval-clothing.zip)")
    app = new_app(grpc_stub)
    shown = photographs()
    post_all(app, [picture for picture, _ in shown])
    garments = {picture.name: garment for picture, garment in shown}
    chosen = random.Random(7)
    positives, negatives = {}, {}
    for garment in GARMENTS:
        wearing = [name for name, kind in garments.items() if kind == garment]
        others = [name for name, kind in garments.items() if kind != garment]
        positives[garment] = chosen.sample(wearing, LABELLED)
        negatives[garment] = chosen.sample(others, LABELLED)
        label(app, positives[garment], own(garment), 1)
        label(app, negatives[garment], own(garment), 0)
    return Wardrobe(app=app, garments=garments, positives=positives, negatives=negatives)


def test_what_was_taught_ranks_better_than_the_mean_of_its_examples(wardrobe: Wardrobe) -> None:
    before = {garment: wardrobe.average_precision(garment) for garment in GARMENTS}
    for garment in GARMENTS:
        wardrobe.app.call("PostModels", models=[Model(id=f"model-{garment}")])
        version = train(wardrobe.app, f"model-{garment}", [own(garment)])
        assert version.status.code == status_code_pb2.MODEL_TRAINED, version
        assert version.total_input_count == 2 * LABELLED
    after = {garment: wardrobe.average_precision(garment) for garment in GARMENTS}

    gains = {garment: after[garment] / before[garment] for garment in GARMENTS}
    assert min(gains.values()) > 1.0, gains
    assert sum(gains.values()) / len(gains) >= 1.3, gains


def test_labels_still_come_first(wardrobe: Wardrobe) -> None:
    wardrobe.app.ask("PostModels", models=[Model(id="model-pants")])  # there already unless this test runs alone
    train(wardrobe.app, "model-pants", [own("pants")])
    hits = wardrobe.app.search(
        resources_pb2.Query(ranks=[by_concept(id=own("pants"), value=1)]),
        "Inputs",
        service_pb2.Pagination(page=1, per_page=1000),
    )
    scores = {hit.input.id: hit.score for hit in hits}
    assert {scores[name] for name in wardrobe.positives["pants"]} == {1.0}
    assert {scores[name] for name in wardrobe.negatives["pants"]} == {0.0}


def test_a_search_ranks_by_the_model_as_soon_as_it_is_trained_and_no_longer_once_it_is_gone(app: App) -> None:
    """Drawn pictures do: what counts here is that nothing has to be indexed again, over gRPC and REST."""
    pictures = drawings()
    app.post([of_bytes(picture, id=picture.name) for picture in pictures])
    names = [picture.name for picture in pictures]
    label(app, names[:3], "mine", 1)
    label(app, names[3:6], "mine", 0)
    unlabelled = set(names[6:])

    def scores() -> dict[str, float]:
        return {hit.input.id: hit.score for hit in app.rank(by_concept(id="mine", value=1))}

    by_mean = scores()
    app.call("PostModels", models=[Model(id="taught")])
    version = train(app, "taught", ["mine"])
    assert version.status.code == status_code_pb2.MODEL_TRAINED, version
    taught = scores()
    app.call("DeleteModel", model_id="taught")

    assert {name: taught[name] for name in names[:6]} == dict.fromkeys(names[:3], 1.0) | dict.fromkeys(names[3:6], 0.0)
    assert all(taught[name] != by_mean[name] for name in unlabelled)
    assert scores() == by_mean


@pytest.mark.parametrize("labelled_by", ["PostInputs", "PatchInputs", "PostAnnotations"])
def test_a_model_learns_from_all_that_was_labelled_before_the_call(app: App, labelled_by: str) -> None:
    """Nobody waits for the inputs to be indexed but the training."""
    names = [picture.name for picture in drawings()]
    values = dict(zip(names, [1.0, 0.0] * len(names), strict=False))

    def data(name: str) -> Data:
        return Data(concepts=[Concept(id="mine", value=values[name])])

    inputs = [of_bytes(picture, id=picture.name) for picture in drawings()]
    if labelled_by == "PostInputs":
        for item in inputs:
            item.data.MergeFrom(data(item.id))
    app.call("PostModels", models=[Model(id="taught")])
    app.call("PostInputs", inputs=inputs)
    if labelled_by == "PatchInputs":
        app.call(
            "PatchInputs", action="merge", inputs=[resources_pb2.Input(id=name, data=data(name)) for name in names]
        )
    if labelled_by == "PostAnnotations":
        app.call("PostAnnotations", annotations=[Annotation(input_id=name, data=data(name)) for name in names])

    version = train(app, "taught", ["mine"])

    assert version.status.code == status_code_pb2.MODEL_TRAINED, version
    assert (version.total_input_count, version.status.details) == (len(names), "")
