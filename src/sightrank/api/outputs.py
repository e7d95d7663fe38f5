"""Predictions by themselves: models and workflows over images and videos that are not stored (api-spec 5.3, 5.6).

Every input is fetched, decoded and embedded once, whatever the number of models that read it; inputs are worked on side
by side, and one that fails leaves the others alone. Of a video every sampled frame is predicted like a picture.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from clarifai_grpc.grpc.api import resources_pb2, service_pb2
from numpy.typing import NDArray

from sightrank.api import predictions
from sightrank.api.call import AppRef, Call, Handlers
from sightrank.api.catalogue import Catalogue, ModelCard, ModelType
from sightrank.api.inputs import MAX_VIDEO_UPLOAD_BYTES, fill_batch_status
from sightrank.api.models import model_proto
from sightrank.api.predictions import Selection, Wanted
from sightrank.api.records import timestamp
from sightrank.api.workflows import workflow_proto
from sightrank.errors import AppError, InputFailed, InputInvalid, InputInvalidRequest, InputOverLimit, InvalidRequest
from sightrank.ingest.media import ImageSource
from sightrank.ingest.rows import new_id
from sightrank.search.query import ImageTerm
from sightrank.vision.detector import Detection
from sightrank.vision.eye import Eye
from sightrank.vision.threads import Lane
from sightrank.vision.viewing import Viewed, view

MAX_INPUTS = 128
MAX_WORKFLOW_INPUTS = 32
MAX_VIDEOS = 1
#: Inputs of one call that are worked on at the same time: pictures in memory, connections, decoders.
_AT_ONCE = 16
_MIXED = 10010


@dataclass(frozen=True, slots=True, kw_only=True)
class _Node:
    """One model to ask, and how."""

    card: ModelCard
    eye: Eye
    wanted: Wanted
    selection: Selection


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Seen:
    """One picture as the networks see it."""

    vector: NDArray[np.float32]
    detections: tuple[Detection, ...]


#: What came of an input: a picture, the frames of a video, or what was wrong.
_Result = _Seen | tuple[Viewed, ...] | AppError


class Outputs:
    """PostModelOutputs and PostWorkflowResults. ``eyes`` says by which networks each model of the catalogue runs."""

    def __init__(self, catalogue: Catalogue, images: ImageSource, eyes: Mapping[str, Eye]) -> None:
        self._catalogue = catalogue
        self._images = images
        self._eyes = eyes

    def handlers(self) -> Handlers:
        return {"PostModelOutputs": self.model_outputs, "PostWorkflowResults": self.workflow_results}

    async def model_outputs(
        self, call: Call, request: service_pb2.PostModelOutputsRequest
    ) -> service_pb2.MultiOutputResponse:
        """One output for each input, also for those that fail."""
        _check_count(request.inputs, MAX_INPUTS)
        version_id = request.version_id or request.model.model_version.id
        card = self._catalogue.model(request.model_id or request.model.id, version_id)
        node = self._node(card, _with_language(_model_config(request.model), call))
        results = await self._all(call, request.inputs, [node])
        response = service_pb2.MultiOutputResponse(
            outputs=[await _output(item, node, result) for item, result in zip(request.inputs, results, strict=True)]
        )
        errors = [result for result in results if isinstance(result, AppError)]
        _fill_status(response.status, errors, len(results))
        if not errors and node.selection.unknown:
            response.status.code = _MIXED
            response.status.details = predictions.unselected(card, node.selection)
        return response

    async def workflow_results(
        self, call: Call, request: service_pb2.PostWorkflowResultsRequest
    ) -> service_pb2.PostWorkflowResultsResponse:
        """One result for each input, with an output for each model of the workflow, in its order."""
        _check_count(request.inputs, MAX_WORKFLOW_INPUTS)
        workflow_id = request.workflow_id or (call.require_app().workflow_id)
        workflow = self._catalogue.usable_workflow(workflow_id, request.version_id)
        wanted = _with_language(request.output_config, call)
        nodes = [self._node(card, wanted) for card in workflow.models]
        if not nodes:
            raise InvalidRequest(f"Workflow {workflow.id} runs no model, so it predicts nothing.")
        results = await self._all(call, request.inputs, nodes)
        response = service_pb2.PostWorkflowResultsResponse(
            workflow=workflow_proto(workflow),
            results=[await _result(item, nodes, result) for item, result in zip(request.inputs, results, strict=True)],
        )
        _fill_status(response.status, [result for result in results if isinstance(result, AppError)], len(results))
        return response

    def _node(self, card: ModelCard, wanted: Wanted) -> _Node:
        # Only what predicts concepts can be asked for some of them.
        selection = predictions.select(wanted, card.concepts) if len(card.concepts) else Selection(ids=None)
        return _Node(card=card, eye=self._eyes[card.id], wanted=wanted, selection=selection)

    async def _all(self, call: Call, inputs: Sequence[resources_pb2.Input], nodes: Sequence[_Node]) -> list[_Result]:
        places = asyncio.Semaphore(_AT_ONCE)
        app = call.require_app()
        sample_ms = nodes[0].wanted.sample_ms or app.sample_ms
        eye = next((node.eye for node in nodes if node.card.type is ModelType.DETECTOR), nodes[0].eye)
        detect = any(node.card.type is ModelType.DETECTOR for node in nodes)
        reads = all(node.card.type is ModelType.MULTIMODAL_EMBEDDER for node in nodes)

        async def seen(item: resources_pb2.Input) -> _Result:
            async with places:
                try:
                    if _is_video(item):
                        return await self._view(app, eye, item, sample_ms=sample_ms, detect=detect)
                    return await self._see(app, eye, item, detect=detect, reads=reads)
                except AppError as error:
                    return error

        return list(await asyncio.gather(*map(seen, inputs)))

    async def _see(self, app: AppRef, eye: Eye, item: resources_pb2.Input, *, detect: bool, reads: bool) -> _Seen:
        if item.data.text.raw and reads:
            return _Seen(vector=await eye.read(item.data.text.raw), detections=())
        prepared = await self._images.prepare(app.bucket, eye, _picture(item), detect=detect)
        vectors = await eye.embed(prepared.pixels[:1], Lane.INTERACTIVE)
        return _Seen(vector=vectors[0], detections=prepared.detections)

    async def _view(
        self, app: AppRef, eye: Eye, item: resources_pb2.Input, *, sample_ms: int, detect: bool
    ) -> tuple[Viewed, ...]:
        data, url = _take_video(item)
        async with (
            self._images.video(app.bucket, Lane.INTERACTIVE, url=url, data=data) as content,
            aclosing(view(eye, content, Lane.INTERACTIVE, sample_ms=sample_ms, detect=detect)) as frames,
        ):
            return tuple([frame async for frame in frames])


def _model_config(model: resources_pb2.Model) -> resources_pb2.OutputConfig:
    """That of the model, or of its version, where newer clients put it."""
    if model.HasField("output_info"):
        return model.output_info.output_config
    return model.model_version.output_info.output_config


def _with_language(config: resources_pb2.OutputConfig, call: Call) -> Wanted:
    """Names come in the language asked for, else in the app's own."""
    filled = resources_pb2.OutputConfig()
    filled.CopyFrom(config)
    filled.language = filled.language or call.require_app().default_language
    return predictions.read_config(filled)


def _check_count(inputs: Sequence[resources_pb2.Input], most: int) -> None:
    if not inputs:
        raise InvalidRequest("inputs is empty; send at least one input.")
    if len(inputs) > most:
        raise InputInvalidRequest(f"inputs has {len(inputs)} items; send at most {most} in one call.")
    videos = sum(map(_is_video, inputs))
    if videos > MAX_VIDEOS:
        raise InputInvalidRequest(f"inputs has {videos} videos; send at most {MAX_VIDEOS} in one call.")


def _is_video(item: resources_pb2.Input) -> bool:
    """Some clients send the empty message of every medium; then what has something in it counts."""
    image, video = item.data.image, item.data.video
    return bool(video.url or video.base64) or (item.data.HasField("video") and not image.url and not image.base64)


def _picture(item: resources_pb2.Input) -> ImageTerm:
    """Raises InputInvalid for an input without a picture, InputFailed for media that are not predicted."""
    image = item.data.image
    if image.base64 or image.url:
        return ImageTerm(data=image.base64) if image.base64 else ImageTerm(url=image.url)
    if item.data.HasField("audio"):
        raise InputFailed("Only images and videos are predicted by this version of sightrank; the input has audio.")
    if item.data.text.raw:
        raise InputInvalid("This model looks at images and videos only; the input has a text.")
    raise InputInvalid("The input has no data.image.url and no data.image.base64 to look at.")


def _take_video(item: resources_pb2.Input) -> tuple[bytes, str]:
    """The bytes or the URL. The bytes are taken out of the request, whose echo is copied for every output.

    Raises InputInvalid for an input without a video, or with an image too, and InputOverLimit.
    """
    image, video = item.data.image, item.data.video
    data, url = video.base64, video.url
    video.ClearField("base64")
    if image.base64 or image.url:
        raise InputInvalid("The input has data.image and data.video; send two inputs.")
    if not data and not url:
        raise InputInvalid("The input has no data.video.url and no data.video.base64 to look at.")
    if len(data) > MAX_VIDEO_UPLOAD_BYTES:
        raise InputOverLimit(
            f"The video has {len(data)} bytes; the limit is {MAX_VIDEO_UPLOAD_BYTES}, and more for a video by URL."
        )
    return data, url


async def _output(item: resources_pb2.Input, node: _Node, result: _Result) -> resources_pb2.Output:
    output = resources_pb2.Output(
        id=new_id(), created_at=timestamp(datetime.now(UTC)), model=model_proto(node.card), input=_echo(item)
    )
    _fill_item_status(output.status, result)
    if isinstance(result, _Seen):
        _fill(output.data, node, result)
    elif not isinstance(result, AppError):
        for frame in result:
            told = output.data.frames.add()
            told.frame_info.index, told.frame_info.number = frame.time.index, frame.time.number
            told.frame_info.time = frame.time.time_ms
            _fill(told.data, node, frame)
            await asyncio.sleep(0)  # hundreds of frames: others have their turn between them
    return output


def _fill(data: resources_pb2.Data, node: _Node, result: _Seen | Viewed) -> None:
    if node.card.type is ModelType.DETECTOR:
        data.regions.extend(predictions.regions(result.detections, node.card.concepts, node.wanted, node.selection))
    elif node.card.type is ModelType.TAGGER:
        assert node.eye.tagger is not None
        data.concepts.extend(
            predictions.tags(node.eye.tagger, result.vector, node.card.concepts, node.wanted, node.selection)
        )
    else:
        data.embeddings.append(predictions.embedding(result.vector))


async def _result(item: resources_pb2.Input, nodes: Sequence[_Node], result: _Result) -> resources_pb2.WorkflowResult:
    message = resources_pb2.WorkflowResult(id=new_id(), created_at=timestamp(datetime.now(UTC)), input=_echo(item))
    _fill_item_status(message.status, result)
    message.outputs.extend([await _output(item, node, result) for node in nodes])
    return message


def _echo(item: resources_pb2.Input) -> resources_pb2.Input:
    """The input as sent, without its bytes: they would make the answer as large as the request."""
    echo = resources_pb2.Input()
    echo.CopyFrom(item)
    echo.id = item.id or new_id()
    if echo.data.HasField("image"):
        echo.data.image.ClearField("base64")
    return echo


def _fill_item_status(status: Any, result: _Result) -> None:
    if isinstance(result, AppError):
        status.code, status.description, status.details = result.code, result.description, result.details
    else:
        status.code, status.description = 10000, "Ok"


def _fill_status(status: Any, errors: Sequence[AppError], count: int) -> None:
    """As every batch, but inputs that all failed at being fetched or read say so by their own code (api-spec 5.3)."""
    fill_batch_status(status, errors, count)
    if len(errors) == count and all(error.code == InputFailed.code for error in errors):
        status.code, status.description = InputFailed.code, InputFailed.description
        status.details = errors[0].details
