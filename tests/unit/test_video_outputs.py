"""The answer for a video by each type of model, from films that a small encoder and detector see; and the turns that a
call for many pictures or frames takes.
"""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from clarifai_grpc.grpc.api import resources_pb2, service_pb2
from clarifai_grpc.grpc.api.resources_pb2 import Data, Image, Input, OutputConfig, Video
from PIL import Image as Picture
from tests import films
from tests.films import GREEN, RED
from tests.watching import CORNER, watched_eye

from sightrank.api.asking import Asking
from sightrank.api.call import AppRef, Call
from sightrank.api.catalogue import Catalogue, ModelCard, ModelType, WorkflowCard
from sightrank.api.hosted_access import HostedAccess
from sightrank.api.identity import Identity
from sightrank.api.outputs import Outputs, _result
from sightrank.api.predictions import Selection, Wanted
from sightrank.errors import ServerBusy
from sightrank.ingest.media import HostedUrls
from sightrank.search.concepts import ConceptBook
from sightrank.search.fits import Fits
from sightrank.search.query import ImageTerm
from sightrank.teach.workbench import PublicModel, Workbench
from sightrank.vision.detector import Detection, Detector
from sightrank.vision.eye import Eye
from sightrank.vision.operators import NodeData
from sightrank.vision.threads import Lane, Threads
from sightrank.vision.vocabulary import Term, Vocabulary

VOCABULARY = Vocabulary(
    Term(id=str(colour), names={"en": name, "de": german}, hypernyms=(), definition="")
    for colour, name, german in ((RED, "red", "rot"), (GREEN, "green", "grün"))
)
DETECTOR = ModelCard(
    id="corners", name="Corners", type=ModelType.DETECTOR, description="", version_id="1", concepts=VOCABULARY
)
EMBEDDER = ModelCard(id="means", name="Means", type=ModelType.EMBEDDER, description="", version_id="1", dims=3)
BOTH = ModelCard(id="both", name="Both", type=ModelType.MULTIMODAL_EMBEDDER, description="", version_id="1", dims=3)
APP = AppRef(user_id="ann", app_id="photos", bucket=1, workflow_id="Colours", sample_ms=2000)
CALL = Call(rpc="PostWorkflowResults", request_id="r", caller=None, app=APP)


class Media:
    """Where films and pictures come from: here, from the request only."""

    @asynccontextmanager
    async def video(self, bucket: int, lane: Lane, *, url: str, data: bytes) -> AsyncIterator[bytes]:
        assert (bucket, lane, url) == (1, Lane.INTERACTIVE, "")
        yield data

    @asynccontextmanager
    async def picture(self, bucket: int, term: ImageTerm) -> AsyncIterator[bytes]:
        yield term.data


class Nothing:
    """A database without models and workflows of apps."""

    async def row(self, statement: Any, parameters: Any) -> None:
        return None


@contextmanager
def outputs(detector: Detector | None = None) -> Iterator[tuple[Outputs, Threads]]:
    """By what an eye sees that finds a corner, or what the ``detector`` finds; with its threads."""
    threads = Threads(1)
    try:
        eye = watched_eye(threads)
        eye.detector = detector or eye.detector
        workflow = WorkflowCard(id="Colours", description="", models=(DETECTOR, EMBEDDER, BOTH))
        images: Any = Media()
        database: Any = Nothing()
        catalogue = Catalogue(workflows=(workflow,), vocabulary=VOCABULARY)
        public = {card.id: PublicModel(id=card.id, type_id=card.type.value, eye=eye) for card in workflow.models}
        workbench = Workbench(database, ConceptBook(VOCABULARY), Fits(database), public, {})
        hosted = HostedAccess(Identity(database), HostedUrls("http://here"), images)
        yield Outputs(catalogue, images, hosted, database, Asking(catalogue, database, workbench)), threads
    finally:
        threads.close()


def still() -> bytes:
    file = io.BytesIO()
    Picture.fromarray(films.plain(RED)).save(file, "PNG")
    return file.getvalue()


def results(data: bytes, **config: Any) -> list[resources_pb2.Output]:
    request = service_pb2.PostWorkflowResultsRequest(
        inputs=[Input(data=Data(video=Video(base64=data)))], output_config=OutputConfig(**config)
    )
    with outputs() as (service, _):
        answer = asyncio.run(service.workflow_results(CALL, request))
    (result,) = answer.results
    assert result.status.code == 10000, result.status
    assert not result.input.data.video.base64
    return list(result.outputs)


def test_a_detector_finds_regions_in_each_frame_and_embedders_make_a_vector_of_each() -> None:
    regions, means, both = results(films.film(2.0), sample_ms=1000, language="de")

    for output in (regions, means, both):
        times = [(frame.frame_info.index, frame.frame_info.time) for frame in output.data.frames]
        assert times == [(0, 500), (1, 1500)]
    found = [frame.data.regions[0] for frame in regions.data.frames]
    assert [region.data.concepts[0].name for region in found] == ["rot", "grün"]
    assert [region.region_info.bounding_box.right_col for region in found] == [CORNER.right] * 2
    vectors = [np.array(frame.data.embeddings[0].vector) for frame in means.data.frames]
    assert [films.named((vector * 230)[None]) for vector in vectors] == [RED, GREEN]
    assert [frame.data for frame in both.data.frames] == [frame.data for frame in means.data.frames]


def test_what_is_wanted_of_regions_holds_for_each_frame() -> None:
    unsure, *_ = results(films.film(2.0), sample_ms=1000, min_value=0.95)
    chosen, *_ = results(films.film(2.0), sample_ms=1000, select_concepts=[resources_pb2.Concept(name="green")])

    assert [len(frame.data.regions) for frame in unsure.data.frames] == [0, 0]
    assert [len(frame.data.regions) for frame in chosen.data.frames] == [0, 1]


def test_whoever_waits_has_their_turn_while_an_answer_is_built() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def scenario() -> int:
        waiting = asyncio.create_task(other())
        await asyncio.sleep(0)
        before = turns
        result: Any = [(None, {"a": NodeData()})]
        answer: Any = SimpleNamespace(
            asked=SimpleNamespace(node_id="a", model=resources_pb2.Model(), wanted=Wanted()),
            names=None,
            selection=Selection(ids=None),
        )
        await _result(Input(), [answer] * 10, result)
        waiting.cancel()
        return turns - before

    assert asyncio.run(scenario()) >= 10


@pytest.mark.parametrize(
    "inputs",
    [
        [Input(data=Data(image=Image(base64=still())))] * 8,
        [Input(data=Data(video=Video(base64=films.film(8.0))))],
    ],
    ids=["pictures", "a film"],
)
def test_whoever_asks_something_else_waits_for_one_of_many_in_a_call(inputs: list[Input]) -> None:
    done: list[str] = []
    searching, gate = threading.Event(), threading.Event()

    class Gated:
        concept_ids, provider = (str(RED),), "cpu"

        def detect(self, pixels: np.ndarray) -> list[Detection]:
            searching.set()
            assert gate.wait(60)
            done.append("picture")
            return []

    request = service_pb2.PostWorkflowResultsRequest(inputs=inputs, output_config=OutputConfig(sample_ms=1000))

    async def scenario(service: Outputs, threads: Threads) -> None:
        async with asyncio.timeout(60):
            answering = asyncio.create_task(service.workflow_results(CALL, request))
            await asyncio.to_thread(searching.wait)
            asking = asyncio.create_task(threads.decode(Lane.INTERACTIVE, lambda: done.append("question")))
            await asyncio.sleep(0)
            gate.set()
            await asyncio.gather(asking, answering)

    with outputs(Gated()) as (service, threads):
        asyncio.run(scenario(service, threads))

    assert done == ["picture", "question", *["picture"] * 7]


def test_the_app_says_how_often_where_the_call_does_not() -> None:
    regions, *_ = results(films.film(4.0))

    assert [frame.frame_info.time for frame in regions.data.frames] == [1000, 3000]


def test_frames_that_cannot_be_looked_at_end_their_film(monkeypatch: pytest.MonkeyPatch) -> None:
    """None is left waiting for the others."""
    embed, given_up = Eye.embed, ServerBusy("Too much waits.")

    async def refused(self: Eye, pixels: np.ndarray, lane: Lane) -> np.ndarray:
        if len(pixels) > 1:
            raise given_up
        return await embed(self, pixels, lane)

    monkeypatch.setattr(Eye, "embed", refused)
    film = Input(data=Data(video=Video(base64=films.film(3.0))))
    request = service_pb2.PostWorkflowResultsRequest(inputs=[film], output_config=OutputConfig(sample_ms=1000))

    async def scenario(service: Outputs) -> service_pb2.PostWorkflowResultsResponse:
        async with asyncio.timeout(60):
            answer = await service.workflow_results(CALL, request)
        assert len(asyncio.all_tasks()) == 1
        return answer

    with outputs() as (service, _):
        (result,) = asyncio.run(scenario(service)).results

    assert (result.status.code, result.status.details) == (given_up.code, "Too much waits.")
