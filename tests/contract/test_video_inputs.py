"""Videos as inputs through the official client, on both of its channels: real photographs, a second each."""

from __future__ import annotations

import io

import numpy as np
import pytest
import requests
from clarifai_grpc.grpc.api.resources_pb2 import (
    Annotation,
    Concept,
    Data,
    Filter,
    Frame,
    FrameInfo,
    Input,
    Video,
)
from PIL import Image
from tests import films
from tests.contract.clients import App, by_concept, by_image, by_input, having, input_ids, of_bytes
from tests.contract.pictures import Picture, PictureServer
from tests.contract.serving import Server

SECONDS = 5
RATE = 10


def as_shown(photo: Picture) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.asarray(Image.open(io.BytesIO(photo.data)).convert("RGB").resize((320, 240)))


@pytest.fixture(scope="module")
def film(photos: list[Picture]) -> bytes:
    """The first photographs, each for a second."""
    shown = [as_shown(photo) for photo in photos[:SECONDS]]
    return films.film_of([(shown[n // RATE], n / RATE) for n in range(SECONDS * RATE)], rate=RATE)


def of_film(data: bytes, **fields: object) -> Input:
    return Input(data=Data(video=Video(base64=data)), **fields)  # type: ignore[arg-type]


def test_a_still_finds_the_second_of_the_film_it_is_from(app: App, film: bytes, photos: list[Picture]) -> None:
    app.post(
        [of_film(film, id="film"), *(of_bytes(photo, id=photo.name) for photo in photos[SECONDS + 2 : SECONDS + 5])]
    )

    hits = app.rank(by_image(base64=photos[3].data))

    assert hits[0].input.id == "film"
    (frame,) = hits[0].annotation.data.frames
    assert (frame.frame_info.index, frame.frame_info.time, frame.frame_info.number) == (3, 3500, 35)
    assert len(frame.data.concepts) == 20
    # One hit for each frame and one for the whole film, beside the photographs.
    assert len(hits) == SECONDS + 1 + 3
    assert input_ids(app.rank(by_input("film")))[0] == "film"


def test_films_come_by_url_and_as_gif(app: App, site: PictureServer, film: bytes, photos: list[Picture]) -> None:
    site.files["/film.mp4"] = ("video/mp4", film)
    app.post([Input(id="url", data=Data(video=Video(url=f"{site.base}/film.mp4")))])
    app.post([of_film(films.gif([as_shown(photo) for photo in photos[:3]], 1000), id="gif")])

    hits = app.rank(by_image(base64=photos[1].data))

    assert {hit.input.id for hit in hits[:2]} == {"url", "gif"}
    assert [hit.annotation.data.frames[0].frame_info.time for hit in hits[:2]] == [1500, 1500]
    found = app.call("GetInput", input_id="url").input.data.video
    assert (found.url, found.video_info.video_format) == (f"{site.base}/film.mp4", "MP4")


def test_a_label_on_a_frame_counts_for_that_frame(app: App, film: bytes) -> None:
    app.post([of_film(film, id="film")])
    goal = Frame(frame_info=FrameInfo(time=2500), data=Data(concepts=[Concept(id="goal", value=1)]))

    (made,) = app.call(
        "PostAnnotations", annotations=[Annotation(input_id="film", data=Data(frames=[goal]))]
    ).annotations

    assert made.data.frames[0].frame_info.index == 2
    best = app.rank(by_concept(id="goal", value=1))[0]
    assert (best.annotation.id, best.score) == (made.id, 1.0)
    of_frames = Filter(annotation=Annotation(data=Data(frames=[Frame(frame_info=FrameInfo())])))
    assert [hit.annotation.id for hit in app.filter(having(id="goal", value=1), of_frames)] == [made.id]
    assert input_ids(app.filter(Filter(input=Input(data=Data(video=Video()))), having(id="goal", value=1))) == ["film"]


def test_the_client_downloads_the_film_it_uploaded(app: App, server: Server, film: bytes) -> None:
    app.post([of_film(film, id="film")])
    video = app.call("GetInput", input_id="film").input.data.video

    session = requests.Session()
    session.trust_env = False
    answer = session.get(video.url, headers={"Authorization": f"Key {server.pat}"}, timeout=60)

    assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, "video/mp4", film)
    assert list(video.hosted.sizes) == ["orig", "thumbnail"]


def test_refusals_tell_why(app: App, film: bytes) -> None:
    two = app.ask("PostInputs", inputs=[of_film(film, id="a"), of_film(film, id="b")])
    assert (two.status.code, list(app.call("ListInputs").inputs)) == (39999, [])

    app.call("PostInputs", inputs=[of_film(film[:-3000], id="bad")])

    failed = app.finished("bad").status
    assert failed.code == 30002
    assert "ends early" in failed.details
