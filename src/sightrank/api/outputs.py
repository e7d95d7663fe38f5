"""Predictions by themselves: models and workflows over images and videos that are not stored (api-spec 5.3, 5.6).

Every input is fetched, decoded and embedded once, whatever the number of models that read it; inputs are worked on side
by side, and one that fails leaves the others alone. Of a video every sampled frame is predicted like a picture.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from clarifai_grpc.grpc.api import resources_pb2, service_pb2

from sightrank.api import predictions
from sightrank.api.asking import Asked, Asking, Plan
from sightrank.api.call import AppRef, Call, Handlers
from sightrank.api.catalogue import Catalogue
from sightrank.api.concept_names import ConceptNames, own_names
from sightrank.api.hosted_access import HostedAccess
from sightrank.api.inputs import MAX_VIDEO_UPLOAD_BYTES, fill_batch_status
from sightrank.api.predictions import Selection
from sightrank.api.records import timestamp
from sightrank.api.workflow_nodes import card_nodes, named_workflow_proto, workflow_proto
from sightrank.errors import AppError, InputFailed, InputInvalid, InputInvalidRequest, InputOverLimit, InvalidRequest
from sightrank.ingest.media import ImageSource
from sightrank.ingest.rows import new_id
from sightrank.search.query import ImageTerm
from sightrank.store.database import Database, retrying
from sightrank.teach.graph import run
from sightrank.vision.operators import NodeData, likeliest
from sightrank.vision.sight import PictureSight, Sight, TextSight
from sightrank.vision.threads import Lane
from sightrank.vision.together import Together
from sightrank.vision.video import FrameTime, Pixels, Sample
from sightrank.vision.viewing import view

MAX_INPUTS = 128
MAX_WORKFLOW_INPUTS = 32
MAX_VIDEOS = 1
#: Inputs of one call that are held at the same time: pictures in memory, connections.
_AT_ONCE = 16
_MIXED = 10010


#: What the nodes say of one picture, by node id, and of which frame, where it is one of a film.
_Told = tuple[FrameTime | None, Mapping[str, NodeData]]
#: What came of an input: a picture, the frames of a video, or what was wrong.
_Result = Sequence[_Told] | AppError


class Outputs:
    """PostModelOutputs and PostWorkflowResults, by models of apps and by those of clarifai/main."""

    def __init__(
        self,
        catalogue: Catalogue,
        images: ImageSource,
        hosted: HostedAccess,
        database: Database,
        asking: Asking,
    ) -> None:
        self._catalogue = catalogue
        self._images = images
        self._hosted = hosted
        self._database = database
        self._asking = asking

    def handlers(self) -> Handlers:
        return {"PostModelOutputs": self.model_outputs, "PostWorkflowResults": self.workflow_results}

    async def model_outputs(
        self, call: Call, request: service_pb2.PostModelOutputsRequest
    ) -> service_pb2.MultiOutputResponse:
        """One output for each input, also for those that fail."""
        _check_count(request.inputs, MAX_INPUTS)
        app = call.require_app()
        plan = await self._asking.model(
            call,
            request.model_id or request.model.id,
            request.version_id or request.model.model_version.id,
            _model_config(request.model),
        )
        results = await self._all(call, request.inputs, plan)
        (answer,) = await self._answers(app, plan, results)
        response = service_pb2.MultiOutputResponse(
            outputs=[await _output(item, answer, result) for item, result in zip(request.inputs, results, strict=True)]
        )
        errors = [result for result in results if isinstance(result, AppError)]
        _fill_status(response.status, errors, len(results))
        if not errors and answer.selection.unknown:
            response.status.code = _MIXED
            response.status.details = predictions.unselected(answer.asked.model.id, answer.selection)
        return response

    async def workflow_results(
        self, call: Call, request: service_pb2.PostWorkflowResultsRequest
    ) -> service_pb2.PostWorkflowResultsResponse:
        """One result for each input, with an output for each node that is not suppressed, in their order."""
        _check_count(request.inputs, MAX_WORKFLOW_INPUTS)
        app = call.require_app()
        shown, plan = await retrying(
            lambda: self._workflow(call, request), busy="The models of this workflow keep getting other ids."
        )
        results = await self._all(call, request.inputs, plan)
        answers = await self._answers(app, plan, results)
        response = service_pb2.PostWorkflowResultsResponse(
            workflow=shown,
            results=[await _result(item, answers, got) for item, got in zip(request.inputs, results, strict=True)],
        )
        _fill_status(response.status, [result for result in results if isinstance(result, AppError)], len(results))
        return response

    async def _workflow(
        self, call: Call, request: service_pb2.PostWorkflowResultsRequest
    ) -> tuple[resources_pb2.Workflow, Plan]:
        """The workflow named, else the app's base workflow; an app's own before a public one of the same id. Raises
        TryAgain where models of it got other ids meanwhile.
        """
        app = call.require_app()
        own_id = request.workflow_id or app.own_workflow_id
        workflow_id = own_id or app.workflow_id
        own = None
        if own_id and not (request.favor_clarifai_workflows and self._catalogue.has_workflow(own_id)):
            own = await self._asking.own_workflow(call, own_id, request.version_id)
        if own is not None:
            version = resources_pb2.WorkflowVersion.FromString(own.stored)
            overrides = {
                node.id: node.output_info_override.output_config
                for node in version.nodes
                if node.HasField("output_info_override")
            }
            plan = await self._asking.workflow(app, own.nodes, request.output_config, overrides, own)
            return named_workflow_proto(self._catalogue, app, own.id, own.version_id, version.nodes), plan
        card = self._catalogue.usable_workflow(workflow_id, request.version_id, after_app=app.app_id)
        if not card.models:
            raise InvalidRequest(f"Workflow {card.id} runs no model, so it predicts nothing.")
        plan = await self._asking.workflow(app, card_nodes(card), request.output_config, {})
        return workflow_proto(card), plan

    async def _all(self, call: Call, inputs: Sequence[resources_pb2.Input], plan: Plan) -> list[_Result]:
        held, places = asyncio.Semaphore(_AT_ONCE), asyncio.Semaphore(plan.eyes[0].threads.cores)

        async def told(item: resources_pb2.Input) -> _Result:
            async with held:
                try:
                    if _is_video(item):
                        return await self._film(call, plan, item, places)
                    if item.data.text.raw and plan.reads:
                        return [(None, await _said(plan, TextSight(item.data.text.raw)))]
                    term = _picture(item)
                    bucket = await self._hosted.bucket(call, term.url)
                    async with self._images.picture(bucket, term) as data:
                        return [(None, await _said(plan, PictureSight(data, Lane.INTERACTIVE, plan.detecting, places)))]
                except AppError as error:
                    return error

        return list(await asyncio.gather(*map(told, inputs)))

    async def _film(self, call: Call, plan: Plan, item: resources_pb2.Input, places: asyncio.Semaphore) -> _Result:
        data, url = _take_video(item)
        bucket = await self._hosted.bucket(call, url)
        sample_ms = plan.sample_ms or call.require_app().sample_ms
        film = _Film(plan, places)
        async with (
            self._images.video(bucket, Lane.INTERACTIVE, url=url, data=data) as content,
            aclosing(view(plan.eyes[0], content, Lane.INTERACTIVE, sample_ms=sample_ms)) as groups,
        ):
            return [told async for group in groups for told in await film.told(group)]

    async def _answers(self, app: AppRef, plan: Plan, results: Sequence[_Result]) -> list[_Answer]:
        """How each node is answered. Raises ModelInvalidArgument when none of them predicts what is selected."""
        answers = []
        for asked in plan.asked:
            appearing = {} if asked.public and asked.known else _concepts_of(asked.node_id, results)
            names = ConceptNames(public=self._catalogue.vocabulary, language=asked.wanted.language)
            known = asked.known
            if not asked.public:
                ids = appearing.keys() | {id for id, _ in known or ()}
                names = await own_names(self._database, app, self._catalogue.vocabulary, ids, asked.wanted.language)
                known = [(id, names.name(id)) for id in ids]
            selection = predictions.select(asked.wanted, known or ())
            if asked.known is None:
                selection = replace(selection, unknown=())
            answers.append(_Answer(asked=asked, names=names, selection=selection))
        predictions.check_selected([answer.selection for answer in answers if answer.asked.known is not None])
        return answers


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Answer:
    """How what one node says is shown."""

    asked: Asked
    names: ConceptNames
    selection: Selection


class _Film:
    """A film on its way through the nodes: frames of a group side by side, so that networks see them together, and a
    picture that stays for several frames once.
    """

    def __init__(self, plan: Plan, places: asyncio.Semaphore) -> None:
        self._plan = plan
        self._places = places
        self._last: list[tuple[Pixels, Mapping[str, NodeData]]] = []

    async def told(self, group: Sequence[Sample]) -> list[_Told]:
        """What the nodes say of these frames. Raises an AppError for what cannot be seen in one of them."""
        known = {id(pixels): said for pixels, said in self._last}
        new = {id(sample.pixels): sample.pixels for sample in group if id(sample.pixels) not in known}
        together = Together(len(new), Lane.INTERACTIVE)
        try:
            async with asyncio.TaskGroup() as tasks:
                running = {key: tasks.create_task(self._said(pixels, together)) for key, pixels in new.items()}
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        known |= {key: task.result() for key, task in running.items()}
        self._last = [(group[-1].pixels, known[id(group[-1].pixels)])]
        return [(sample.time, known[id(sample.pixels)]) for sample in group]

    async def _said(self, pixels: Pixels, together: Together) -> Mapping[str, NodeData]:
        sight = PictureSight(pixels, Lane.INTERACTIVE, self._plan.detecting, self._places, together)
        said = await _said(self._plan, sight)
        await together.leave()
        return said


async def _said(plan: Plan, sight: Sight) -> dict[str, NodeData]:
    """What the nodes that are answered for say of one picture, of all their concepts no more than will be shown."""
    data = await run(plan.nodes, plan.steps, sight)
    return {asked.node_id: _kept(asked, data[asked.node_id]) for asked in plan.asked}


def _kept(asked: Asked, said: NodeData) -> NodeData:
    if asked.ids is not None:
        return predictions.only(said, asked.ids)
    return said if asked.wanted.selected else likeliest(said, asked.wanted.max_concepts)


def _concepts_of(node_id: str, results: Sequence[_Result]) -> dict[str, None]:
    """The ids of all concepts that a node named."""
    return {
        id: None
        for result in results
        if not isinstance(result, AppError)
        for _, said in result
        for part in (said[node_id].whole, *(region.said for region in said[node_id].regions or ()))
        for id, _ in part.concepts
    }


def _model_config(model: resources_pb2.Model) -> resources_pb2.OutputConfig:
    """That of the model, under that of its version. The SDK sends the model as it read it, with what is wanted of this
    call within the version."""
    return predictions.over(model.output_info.output_config, model.model_version.output_info.output_config)


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


async def _output(item: resources_pb2.Input, answer: _Answer, result: _Result) -> resources_pb2.Output:
    output = resources_pb2.Output(
        id=new_id(), created_at=timestamp(datetime.now(UTC)), model=answer.asked.model, input=_echo(item)
    )
    _fill_item_status(output.status, result)
    if isinstance(result, AppError):
        return output
    for time, said in result:
        data = output.data
        if time is not None:
            frame = output.data.frames.add()
            frame.frame_info.index, frame.frame_info.number = time.index, time.number
            frame.frame_info.time = time.time_ms
            data = frame.data
        await asyncio.sleep(0)  # hundreds of frames, or pictures by nodes: others have their turn between them
        predictions.fill(data, said[answer.asked.node_id], answer.names, answer.asked.wanted, answer.selection)
    return output


async def _result(
    item: resources_pb2.Input, answers: Sequence[_Answer], result: _Result
) -> resources_pb2.WorkflowResult:
    message = resources_pb2.WorkflowResult(id=new_id(), created_at=timestamp(datetime.now(UTC)), input=_echo(item))
    _fill_item_status(message.status, result)
    message.outputs.extend([await _output(item, answer, result) for answer in answers])
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
