"""A random app written through the public API alone, as a client would: what the server stores is read back."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from clarifai_grpc.grpc.api import resources_pb2
from clarifai_grpc.grpc.api.resources_pb2 import Annotation, Concept, ConceptLanguage, Dataset, Input
from clarifai_grpc.grpc.api.status import status_pb2
from google.protobuf.struct_pb2 import Struct
from tests.integration.serving import App, picture
from tests.oracle.apps import DATASETS
from tests.oracle.contents import INFOS, TASKS, add_region, random_data
from tests.oracle.records import Area

#: Concepts of the client: some are called like public ones, "dog" among them.
CONCEPTS = ("dog", "holiday", "ai_8S2Vq3cR", "ai_fvlBqXZR", "Rex")
PICTURES = 12
_STATUSES = (24150, 24150, 24151, 24157)


def publish(app: App, seed: int, *, inputs: int = 30) -> None:
    """Posts inputs and annotations, then patches and deletes some of them."""
    random = Random(seed)
    app.call("PostDatasets", datasets=[Dataset(id=dataset) for dataset in DATASETS])
    ids = app.post(*(_input(random, place) for place in range(inputs)))
    for input_id in ids:
        app.finished(input_id)
    app.call("PostConceptLanguages", concept_id="Rex", concept_languages=[ConceptLanguage(id="de", name="Hund")])
    change(app, seed, ids)


def change(app: App, seed: int, ids: Sequence[str]) -> None:
    """Posts annotations on these inputs, patches and deletes some of them, and deletes the first input."""
    random = Random(seed)
    posted = app.annotate(*(_annotation(random, random.choice(ids)) for _ in range(3 * len(ids))))
    for _ in range(2):
        _patch(app, random, random.sample(posted, len(ids)))
    _patch_inputs(app, random, random.sample(list(ids), len(ids) // 4))
    for annotation in random.sample(posted, len(ids) // 3):
        app.call("DeleteAnnotation", input_id=annotation.input_id, annotation_id=annotation.id)
    renamed = Concept(id="holiday", name=random.choice(("holiday", "dog", "people", "Rex", "vacation")))
    app.call("PatchConcepts", action="overwrite", concepts=[renamed])
    app.call("DeleteDatasetInputs", dataset_id=DATASETS[0], input_ids=ids[1:4])
    app.call("DeleteInputs", ids=ids[:1])


def _input(random: Random, place: int) -> Input:
    item = Input(id=f"input{place}", data=random_data(random, CONCEPTS, part=None))
    for name in ("frames", "time_segments", "text"):
        item.data.ClearField(name)  # type: ignore[arg-type]
    if place == 0:
        item.data.concepts.add(id="Rex", value=1.0)
    if place % 7 == 6:
        item.data.text.raw = "no picture at all"
    elif place % 11 == 10:
        item.data.image.base64 = b"no picture either"
    else:
        item.data.image.base64 = picture(place % PICTURES)
    item.dataset_ids.extend(dataset for dataset in DATASETS[:-1] if random.random() < 0.4)
    return item


def _annotation(random: Random, input_id: str) -> Annotation:
    data = random_data(random, CONCEPTS, part=None)
    data.ClearField("frames")  # an image has none
    if random.random() < 0.5:
        area = Area(id=0, created_us=0, is_region=True, has_box=random.random() < 0.7)
        while not data.regions or data.regions[0].id:
            del data.regions[:]
            add_region(random, data, area.has_box)
        _spread(random, data.regions[0].region_info)
    annotation = Annotation(input_id=input_id, data=data, task_id=random.choice(TASKS))
    annotation.status.CopyFrom(status_pb2.Status(code=random.choice(_STATUSES)))
    if random.random() < 0.3:
        annotation.annotation_info.CopyFrom(_struct(random))
    return annotation


def _spread(random: Random, info: resources_pb2.RegionInfo) -> None:
    """Boxes of different extents look different."""
    if info.HasField("bounding_box"):
        info.bounding_box.top_row = round(random.uniform(0.0, 0.4), 2)
        info.bounding_box.right_col = round(random.uniform(0.6, 1.0), 2)


def _struct(random: Random) -> Struct:
    made = Struct()
    made.update(random.choice(INFOS))
    return made


def _patch(app: App, random: Random, chosen: list[Annotation]) -> None:
    for action in ("merge", "overwrite"):
        patches = []
        for annotation in chosen[action == "merge" :: 2]:
            data = random_data(random, CONCEPTS, part=None)
            data.ClearField("frames")
            if not data.ListFields():
                data.concepts.add(id="holiday", value=1.0)
            if annotation.data.regions:
                data.regions.add(id=annotation.data.regions[0].id)
            patches.append(
                Annotation(
                    id=annotation.id,
                    input_id=annotation.input_id,
                    data=data,
                    status=status_pb2.Status(code=random.choice(_STATUSES)),
                )
            )
        app.patch(action, *patches)


def _patch_inputs(app: App, random: Random, ids: list[str]) -> None:
    items = [Input(id=input_id, data=random_data(random, CONCEPTS, part=None)) for input_id in ids]
    for item in items:
        for name in ("frames", "time_segments", "text"):
            item.data.ClearField(name)  # type: ignore[arg-type]
        item.data.concepts.add(id="holiday", value=0.0)
    app.call("PatchInputs", action="merge", inputs=items)
