"""Predictions over the frames of videos, through Clarifai's own client on both channels."""

from __future__ import annotations

import base64
import io
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
from clarifai_grpc.grpc.api import resources_pb2, service_pb2_grpc
from clarifai_grpc.grpc.api.resources_pb2 import Concept, Data, Image, Input, Model, OutputConfig, OutputInfo, Video
from PIL import Image as PillowImage
from tests import films
from tests.contract.clients import DOG, SUCCESS, App, of_bytes
from tests.contract.conftest import NewApp
from tests.contract.pictures import Picture, PictureServer
from tests.contract.serving import Server

TAGGER, EMBEDDER = "general-image-recognition", "general-image-embedding"
MIXED, FAILED = 10010, 30002
SIZE = (320, 240)
SECONDS = 4


@pytest.fixture(scope="module")
def film(photos: list[Picture]) -> bytes:
    """Each second another photo."""
    return film_of_photos(photos, SECONDS)


def film_of_photos(photos: list[Picture], seconds: int, rate: int = 10) -> bytes:
    shown = [np.asarray(as_shown(photo)) for photo in photos]
    frames = [(shown[n // rate % len(shown)], n / rate) for n in range(seconds * rate)]
    return films.film_of(frames, rate=rate)


def as_shown(photo: Picture) -> PillowImage.Image:
    return PillowImage.open(io.BytesIO(photo.data)).convert("RGB").resize(SIZE)


def of_film(data: bytes, **fields: Any) -> Input:
    return Input(data=Data(video=Video(base64=data)), **fields)


def predict(app: App, *inputs: Input, model_id: str = TAGGER, **config: Any) -> Any:
    model = Model(output_info=OutputInfo(output_config=OutputConfig(**config)))
    return app.ask("PostModelOutputs", model_id=model_id, inputs=inputs, model=model)


def frames_of(answer: Any) -> list[resources_pb2.Frame]:
    assert answer.status.code == SUCCESS, answer.status
    return list(answer.outputs[0].data.frames)


def times(frames: list[resources_pb2.Frame]) -> list[tuple[int, int, int]]:
    return [(frame.frame_info.index, frame.frame_info.time, frame.frame_info.number) for frame in frames]


def vectors(frames: list[resources_pb2.Frame]) -> np.ndarray[Any, Any]:
    return np.array([frame.data.embeddings[0].vector for frame in frames])


@pytest.mark.parametrize(
    ("sample_ms", "expected"),
    [
        (0, [(0, 500, 5), (1, 1500, 15), (2, 2500, 25), (3, 3500, 35)]),
        (1000, [(0, 500, 5), (1, 1500, 15), (2, 2500, 25), (3, 3500, 35)]),
        (2000, [(0, 1000, 10), (1, 3000, 30)]),
        (60000, [(0, 2000, 20)]),
    ],
)
def test_frames_stand_in_the_middle_of_their_intervals(
    app: App, film: bytes, sample_ms: int, expected: list[tuple[int, int, int]]
) -> None:
    frames = frames_of(predict(app, of_film(film, id="mine"), sample_ms=sample_ms))

    assert times(frames) == expected
    assert [len(frame.data.concepts) for frame in frames] == [20] * len(expected)


def test_a_frame_is_predicted_as_the_picture_it_shows(app: App, film: bytes, photos: list[Picture]) -> None:
    seen = vectors(frames_of(predict(app, of_film(film), model_id=EMBEDDER)))
    pictures = predict(app, *map(of_bytes, photos[:SECONDS]), model_id=EMBEDDER).outputs
    expected = np.array([output.data.embeddings[0].vector for output in pictures])

    cosines = seen @ expected.T
    assert np.linalg.norm(seen, axis=1) == pytest.approx(1.0, abs=1e-5)
    assert cosines.argmax(axis=1).tolist() == list(range(SECONDS))
    assert cosines.diagonal().min() > 0.9


def test_films_and_gifs_come_by_url_and_by_bytes_alike(
    app: App, film: bytes, photos: list[Picture], site: PictureServer
) -> None:
    gif = films.gif([as_shown(photo) for photo in photos[:SECONDS]], 1000)
    for path, kind, data in (("/films/a.mp4", "video/mp4", film), ("/films/a.gif", "image/gif", gif)):
        site.files[path] = (kind, data)
        by_url = predict(app, Input(data=Data(video=Video(url=site.base + path))))
        by_bytes = predict(app, of_film(data, id="mine"))

        assert [frame.data for frame in frames_of(by_url)] == [frame.data for frame in frames_of(by_bytes)]
        assert times(frames_of(by_url)) == times(frames_of(by_bytes))
        assert [frame.frame_info.time for frame in frames_of(by_url)] == [500, 1500, 2500, 3500]
        (output,) = by_bytes.outputs
        assert (output.input.id, output.input.data.video.base64) == ("mine", b"")
        assert not output.input.data.HasField("image")
        assert by_url.outputs[0].input.data.video.url == site.base + path


def test_parameters_hold_for_each_frame(app: App, film: bytes) -> None:
    all_of_them = frames_of(predict(app, of_film(film), max_concepts=200))
    three = frames_of(predict(app, of_film(film), max_concepts=3))
    above = frames_of(predict(app, of_film(film), min_value=0.5, max_concepts=200))
    chosen = frames_of(predict(app, of_film(film), select_concepts=[Concept(id=DOG)], language="ja"))

    for frame, best, certain, dog in zip(all_of_them, three, above, chosen, strict=True):
        values = [concept.value for concept in frame.data.concepts]
        assert values == sorted(values, reverse=True)
        assert [concept.value for concept in best.data.concepts] == values[:3]
        assert [concept.value for concept in certain.data.concepts] == [value for value in values if value >= 0.5]
        assert [concept.name for concept in dog.data.concepts] == ["犬"]


def test_a_workflow_predicts_the_frames_by_each_of_its_models(app: App, film: bytes) -> None:
    answer = app.call(
        "PostWorkflowResults",
        workflow_id="General",
        inputs=[of_film(film, id="mine")],
        output_config=OutputConfig(max_concepts=3, sample_ms=2000),
    )

    (result,) = answer.results
    tags, embeddings = result.outputs
    assert result.input.id == "mine"
    assert not result.input.data.video.base64
    assert [frame.frame_info.time for frame in tags.data.frames] == [1000, 3000]
    assert [len(frame.data.concepts) for frame in tags.data.frames] == [3, 3]
    assert [frame.data.embeddings[0].num_dimensions for frame in embeddings.data.frames] == [256, 256]
    assert not tags.data.concepts


def test_an_app_says_how_often_videos_are_looked_at(app: App, film: bytes) -> None:
    changed = resources_pb2.App(id=app.user_app_id.app_id if app.user_app_id else "", sample_ms=500)
    app.call("PatchApps", apps=[changed], action="overwrite")

    of_the_app = frames_of(predict(app, of_film(film)))
    of_the_call = frames_of(predict(app, of_film(film), sample_ms=1000))

    assert [frame.frame_info.time for frame in of_the_app] == list(range(250, 4000, 500))
    assert len(of_the_call) == SECONDS
    refused = app.ask("PatchApps", apps=[resources_pb2.App(id=changed.id, sample_ms=5)], action="overwrite")
    assert (refused.status.code, "sample_ms is 5" in refused.status.details) == (11102, True)


@pytest.mark.parametrize("sample_ms", [1, 99, 60001])
def test_intervals_out_of_bounds_are_refused(app: App, film: bytes, sample_ms: int) -> None:
    answer = predict(app, of_film(film), sample_ms=sample_ms)

    assert answer.status.code == 11102
    assert f"sample_ms is {sample_ms}" in answer.status.details


def test_pictures_beside_a_video_and_what_fails_among_them(app: App, film: bytes, photos: list[Picture]) -> None:
    answer = predict(app, of_bytes(photos[0]), of_film(film), Input(data=Data(image=Image(base64=b"no"))))

    picture, video, broken = answer.outputs
    assert answer.status.code == MIXED
    assert (picture.status.code, len(picture.data.concepts), len(picture.data.frames)) == (SUCCESS, 20, 0)
    assert (video.status.code, len(video.data.concepts), len(video.data.frames)) == (SUCCESS, 0, 4)
    assert broken.status.code == FAILED


def test_a_gif_sent_as_an_image_is_its_first_frame(app: App, photos: list[Picture]) -> None:
    gif = films.gif([as_shown(photo) for photo in photos[:2]], 1000)

    as_image = predict(app, Input(data=Data(image=Image(base64=gif))), model_id=EMBEDDER).outputs[0]
    as_video = predict(app, of_film(gif), model_id=EMBEDDER).outputs[0]

    (vector,) = as_image.data.embeddings
    assert vectors(list(as_video.data.frames))[0] @ np.array(vector.vector) > 0.99
    assert not as_image.data.frames


def test_what_is_no_video_says_so(app: App, film: bytes, photos: list[Picture], site: PictureServer) -> None:
    site.files["/films/text.mp4"] = ("video/mp4", b"This is not a film.\n" * 50)
    gone = site.base + "/films/gone.mp4"

    def refused(video: Video, code: int = FAILED) -> str:
        answer = predict(app, Input(data=Data(video=video)))
        (output,) = answer.outputs
        assert output.status.code == code
        assert not output.data.frames
        return str(output.status.details)

    assert "The content is a JPEG image" in refused(Video(base64=photos[0].data))
    assert "Send it as an image" in refused(Video(base64=photos[0].data))
    assert "The content is plain text" in refused(Video(url=site.base + "/films/text.mp4"))
    assert f"404 Client Error: Not Found for url: {gone}" in refused(Video(url=gone))
    assert "ends early" in refused(Video(base64=films.moov_first(film)[:-2000]))
    assert "no video stream" in refused(Video(base64=films.sound_only()))
    assert "no data.video.url" in refused(Video(), 30104)
    as_image = predict(app, Input(data=Data(image=Image(base64=film)))).outputs[0].status
    assert (as_image.code, "The content is an MP4 video" in as_image.details) == (FAILED, True)
    assert "Send it as a video; to search by it, a still" in as_image.details
    both = predict(app, Input(data=Data(video=Video(base64=film), image=Image(base64=photos[0].data))))
    assert both.outputs[0].status.code == 30104
    beside = predict(app, Input(data=Data(video=Video(), image=Image(base64=photos[0].data))))
    assert len(beside.outputs[0].data.concepts) == 20


def test_one_video_in_a_call(app: App, film: bytes) -> None:
    answer = predict(app, of_film(film), of_film(film))

    assert answer.status.code == 39999
    assert "2 videos" in answer.status.details


def test_too_many_frames_are_refused_with_what_to_do(app: App) -> None:
    answer = predict(app, of_film(films.film(61, rate=1)), sample_ms=100)

    assert answer.outputs[0].status.code == 30105
    assert "610 frames" in answer.outputs[0].status.details
    assert "larger sample_ms" in answer.outputs[0].status.details


def test_plain_json_has_the_frames_too(server: Server, film: bytes) -> None:
    body = {
        "inputs": [{"data": {"video": {"base64": base64.b64encode(film).decode()}}}],
        "model": {"output_info": {"output_config": {"sample_ms": 2000, "max_concepts": 1}}},
    }
    answer = httpx.post(
        f"{server.base}/v2/models/{TAGGER}/outputs",
        headers={"Authorization": f"Key {server.api_key}"},
        json=body,
        trust_env=False,
        timeout=30.0,
    ).json()

    frames = answer["outputs"][0]["data"]["frames"]
    assert answer["status"]["code"] == SUCCESS
    assert [(frame["frame_info"]["index"], frame["frame_info"]["time"]) for frame in frames] == [(0, 1000), (1, 3000)]
    assert [len(frame["data"]["concepts"]) for frame in frames] == [1, 1]


def test_pictures_are_answered_while_long_videos_are_watched(
    grpc_stub: service_pb2_grpc.V2Stub, new_app: NewApp, photos: list[Picture]
) -> None:
    app = new_app(grpc_stub)
    long = film_of_photos(photos[:8], 60, rate=25)
    alone = predict(app, of_bytes(photos[0]))

    with ThreadPoolExecutor(3) as pool:
        began = time.monotonic()
        watched = [pool.submit(predict, app, of_film(long)) for _ in range(3)]
        pictures, waits_s = [], []
        while not all(one.done() for one in watched):
            asked = time.monotonic()
            pictures.append(predict(app, of_bytes(photos[0])))
            waits_s.append(time.monotonic() - asked)
        took_s = time.monotonic() - began

    assert [len(frames_of(one.result())) for one in watched] == [60] * 3
    assert len(pictures) >= 4
    assert max(waits_s) < took_s / 2
    for picture in pictures:
        assert picture.outputs[0].data == alone.outputs[0].data
