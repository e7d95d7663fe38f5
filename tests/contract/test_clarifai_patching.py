"""Patching, streaming and adding in bulk as Clarifai's own clients do it, on both channels of the Python one."""

from __future__ import annotations

import uuid
from typing import Any

from clarifai_grpc.grpc.api.resources_pb2 import Annotation, Concept, Data, Geo, GeoPoint, Image, Input
from clarifai_grpc.grpc.api.status import status_code_pb2 as codes
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from tests.contract.clients import App, by_concept, of_bytes, of_url
from tests.contract.pictures import Picture, PictureServer
from tests.waiting import wait_for


def struct(values: dict[str, Any]) -> Struct:
    made = Struct()
    made.update(values)
    return made


def concepts(found: Input) -> list[tuple[str, str, float]]:
    return [(concept.id, concept.name, concept.value) for concept in found.data.concepts]


def test_post_list_patch_get_delete_image(app: App, site: PictureServer, photos: list[Picture]) -> None:
    (input_id,) = app.post([of_url(site, photos[0], concepts=[Concept(id="some-concept")])])

    patched = app.call(
        "PatchInputs",
        action="overwrite",
        inputs=[Input(id=input_id, data=Data(concepts=[Concept(id="some-new-concept")]))],
    )
    found = app.call("GetInput", input_id=input_id).input

    # Neither channel of this client can leave a value out: it arrives as 0.
    assert concepts(patched.inputs[0]) == concepts(found) == [("some-new-concept", "some-new-concept", 0.0)]
    assert found.data.image.url == site.url(photos[0])
    app.call("DeleteInput", input_id=input_id)
    assert app.ask("GetInput", input_id=input_id).status.code == codes.CONN_DOES_NOT_EXIST


def test_post_patch_get_image_with_id_concepts_geo_and_metadata(app: App, photos: list[Picture]) -> None:
    input_id = uuid.uuid4().hex
    geo = Geo(geo_point=GeoPoint(longitude=55.0, latitude=66.0))
    first, second = Concept(id="some-positive-concept", value=1), Concept(id="some-negative-concept", value=0)
    metadata = struct({"key1": 123, "key2": {"inner": [1, "two"]}})
    app.post([of_bytes(photos[0], id=input_id, concepts=[first, second], geo=geo, metadata=metadata)])

    moved = Geo(geo_point=GeoPoint(longitude=77.0, latitude=88.0))
    changes = Data(
        concepts=[Concept(id="another-positive-concept", value=1), Concept(id="some-positive-concept", value=0)],
        metadata=struct({"key2": {"other": True}, "new": "value"}),
        geo=moved,
    )
    (merged,) = app.call("PatchInputs", action="merge", inputs=[Input(id=input_id, data=changes)]).inputs

    assert [(name, value) for name, _, value in concepts(merged)] == [
        ("some-positive-concept", 0.0),
        ("some-negative-concept", 0.0),
        ("another-positive-concept", 1.0),
    ]
    assert MessageToDict(merged.data.metadata) == {
        "key1": 123,
        "key2": {"inner": [1, "two"], "other": True},
        "new": "value",
    }
    assert (merged.data.geo.geo_point.longitude, merged.data.geo.geo_point.latitude) == (77.0, 88.0)
    gone = Data(concepts=[Concept(id="some-negative-concept")], metadata=struct({"key2": True}))
    (left,) = app.call("PatchInputs", action="remove", inputs=[Input(id=input_id, data=gone)]).inputs
    assert [name for name, _, _ in concepts(left)] == ["some-positive-concept", "another-positive-concept"]
    assert MessageToDict(left.data.metadata) == {"key1": 123, "new": "value"}
    assert left.data.geo == moved
    assert app.rank(by_concept(id="another-positive-concept", value=1))[0].score == 1.0


def test_an_unknown_input_is_refused_alone(app: App, photos: list[Picture]) -> None:
    app.post([of_bytes(photos[0], id="known")])
    data = Data(concepts=[Concept(id="c", value=1)])

    answer = app.ask(
        "PatchInputs", action="merge", inputs=[Input(id="unknown", data=data), Input(id="known", data=data)]
    )

    assert answer.status.code == codes.MIXED_STATUS
    assert answer.inputs[0].status.code == codes.CONN_DOES_NOT_EXIST
    assert answer.inputs[0].status.description == "Resource does not exist"
    assert concepts(answer.inputs[1]) == [("c", "c", 1.0)]


def test_patched_annotation_comes_first_in_the_list_or_is_the_input_level_one(app: App, photos: list[Picture]) -> None:
    (input_id,) = app.post([of_bytes(photos[0])])
    (level,) = app.call("ListAnnotations", input_ids=[input_id]).annotations
    data = Data(concepts=[Concept(id="people-like-this", value=1)])

    patch = Annotation(id=level.id, input_id=input_id, data=data)
    (made,) = app.call("PatchAnnotations", action="merge", annotations=[patch]).annotations

    assert made.status.code == codes.ANNOTATION_SUCCESS
    assert made.input_level
    assert concepts(app.call("GetInput", input_id=input_id).input) == [("people-like-this", "people-like-this", 1.0)]


def test_stream_inputs(app: App, photos: list[Picture]) -> None:
    ids = app.post([of_bytes(photo) for photo in photos[:5]])

    seen: list[str] = []
    while page := app.call("StreamInputs", per_page=2, last_id=seen[-1] if seen else "").inputs:
        seen += [item.id for item in page]

    assert seen == ids
    assert [item.id for item in app.call("StreamInputs", descending=True).inputs] == ids[::-1]


def test_an_add_job_ends(app: App, photos: list[Picture]) -> None:
    inputs = [of_bytes(photo) for photo in photos[:3]]
    broken = Input(id="broken", data=Data(image=Image(base64=b"no image")))
    app.call("PostInputs", inputs=[*inputs, broken], inputs_add_job_id="bulk")

    def ended() -> Any:
        found = app.call("GetInputsAddJob", id="bulk").inputs_add_job
        return None if found.progress.pending_count or found.progress.in_progress_count else found

    job = wait_for("the job to end", ended, seconds=60)

    assert (job.progress.success_count, job.progress.failed_count) == (3, 1)
    assert job.status.code == codes.JOB_COMPLETED
    assert [found.id for found in app.call("ListInputsAddJobs").inputs_add_jobs] == ["bulk"]
