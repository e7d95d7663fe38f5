"""An app's own workflow over what the base models saw of its inputs (docs/auto-annotation.md).

Nothing is looked at twice: the nodes get the vectors and the regions that are about to be stored. What they say is
committed with the input, in one transaction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import psycopg
import structlog

from sightrank.errors import AppError, DoesNotExist, ServerBusy, WorkflowDoesNotExist, WorkflowNeedsModel
from sightrank.ingest.job import Outcome
from sightrank.ingest.media import ImageSource
from sightrank.ingest.remarks import Remark
from sightrank.ingest.workflow import Workflow
from sightrank.store import queries
from sightrank.store.database import Database, retrying
from sightrank.teach.graph import Node, ordered, run
from sightrank.teach.own_workflows import OwnWorkflows
from sightrank.teach.steps import Step, Writes
from sightrank.teach.workbench import Workbench
from sightrank.vision.box import Box
from sightrank.vision.detector import Detection
from sightrank.vision.eye import Eye, Vectors
from sightrank.vision.operators import NodeData, Value
from sightrank.vision.tagger import DEFAULT_CONCEPTS
from sightrank.vision.threads import Lane

_log = structlog.get_logger(__name__)
_SQL = queries.load("ingest")
#: Types of the app's models whose words are kept as those of the base models are.
_PREDICT = frozenset({"visual-classifier", "embedding-classifier", "knn-concept"})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Plan:
    """An own workflow ready to run: its nodes in order, what each does, and the model version behind each of the app's
    own; ``owner`` is in whose name it writes where a writer does not say."""

    nodes: Sequence[Node]
    steps: Mapping[str, Step]
    versions: Mapping[str, str]
    owner: str


class Annotator:
    """Looks at inputs by own workflows. One serves all apps."""

    def __init__(self, database: Database, workbench: Workbench, images: ImageSource) -> None:
        self._database = database
        self._workbench = workbench
        self._workflows = OwnWorkflows(database)
        self._images = images

    async def look(self, workflow: Workflow, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """These outcomes, of one app, with what its own workflow, as it is now, says of them.

        An input for which a node cannot run is none the worse: ``trouble`` tells why nothing is said of it. Raises
        ServerBusy, psycopg.Error and OSError (storage), when it is to be tried again.
        """
        job = outcomes[0].job
        try:
            plan = await retrying(
                lambda: self._plan(job.bucket, job.workflow_id, job.own_workflow_id),
                busy="Its models keep getting other ids.",
            )
        except ServerBusy:
            raise
        except AppError as error:
            _log.warning(
                "an own workflow cannot run", bucket=job.bucket, workflow=job.own_workflow_id, reason=error.details
            )
            return [_troubled(outcome, error.details) for outcome in outcomes]
        return [await self._looked(plan, workflow, outcome) for outcome in outcomes]

    async def _plan(self, bucket: int, workflow_id: str, own_workflow_id: str) -> _Plan:
        """Raises WorkflowDoesNotExist, WorkflowNeedsModel or ModelDoesNotExist for what is gone or cannot run,
        WorkflowInvalid for a writer in the name of nobody, and TryAgain where models got other ids meanwhile.
        """
        app = await self._database.row(_SQL["app_of_bucket"], {"bucket": bucket})
        if app is None:
            raise DoesNotExist("The app was deleted.")
        own = await self._workflows.find(bucket, own_workflow_id)
        if own is None:
            raise WorkflowDoesNotExist("it is not there any more. Patch the app to another default_workflow.")
        models = await self._workbench.models_of(own)
        steps = await self._workbench.steps_of(workflow_id, own.nodes, models)
        await self._workbench.check_writers(steps.values())
        return _Plan(
            nodes=ordered(own.nodes),
            steps=steps,
            versions={node_id: model.version_id for node_id, model in models.items()},
            owner=app[0],
        )

    async def _looked(self, plan: _Plan, workflow: Workflow, outcome: Outcome) -> Outcome:
        if outcome.vectors is None:
            return outcome
        remarks: list[Remark] = []
        try:
            for seen in self._views(workflow.eye, outcome):
                said = await run(plan.nodes, plan.steps, seen)
                remarks += _remarks(plan, said, seen)
        except (ServerBusy, psycopg.Error, OSError):
            raise
        except AppError as error:
            return _troubled(outcome, error.details)
        except Exception as error:
            job = outcome.job
            _log.exception("an own workflow failed", bucket=job.bucket, workflow=job.own_workflow_id, input_id=job.id)
            return _troubled(outcome, f"it failed inside the server ({type(error).__name__}); see its log.")
        return replace(outcome, remarks=tuple(remarks))

    def _views(self, eye: Eye, outcome: Outcome) -> Iterator[_Seen]:
        """A picture is looked at as a whole, with the regions found in it; a video frame by frame."""
        areas = outcome.job.areas
        if outcome.job.media != "video":
            found = [(place, detection) for place, detection in sorted(outcome.found_again.items())]
            found += enumerate(outcome.detections, len(areas))
            yield _Seen(self._images, eye, outcome, whole=0, found=found)
            return
        for place, area in enumerate(areas):
            if area.frame is not None:
                yield _Seen(self._images, eye, outcome, whole=place, found=())
        for place in range(len(areas), len(areas) + len(outcome.frames)):
            yield _Seen(self._images, eye, outcome, whole=place, found=())


class _Seen:
    """A picture or a frame as the base models saw it, for the nodes: ``teach.graph``'s Sight."""

    def __init__(
        self,
        images: ImageSource,
        eye: Eye,
        outcome: Outcome,
        *,
        whole: int,
        found: Sequence[tuple[int, Detection]],
    ) -> None:
        """``whole`` and ``found``: the places of its vectors, and of those of its regions, among the outcome's."""
        assert outcome.vectors is not None, "only what was embedded is looked at"
        self._images = images
        self._eye = eye
        self._outcome = outcome
        self._found = [detection for _, detection in found]
        self.places: dict[Box | None, int] = {None: whole}
        """Where the vector of the whole is, and that of each region."""
        for place, detection in found:
            self.places.setdefault(detection.box, place)
        self._known: dict[Box | None, Vectors] = {box: outcome.vectors[place] for box, place in self.places.items()}

    async def vectors(self, eye: Eye, boxes: Sequence[Box | None]) -> Vectors:
        """Raises WorkflowNeedsModel for a model by which the app is not indexed."""
        if eye.encoder is not self._eye.encoder:
            raise _other_model()
        missing = [box for box in dict.fromkeys(boxes) if box is not None and box not in self._known]
        if missing:
            await self._cut(missing)
        if not boxes:
            return np.empty((0, self._known[None].shape[-1]), np.float32)
        return np.stack([self._known[box] for box in boxes])

    async def detections(self, eye: Eye, boxes: Sequence[Box | None]) -> Sequence[Sequence[Detection]]:
        """Raises WorkflowNeedsModel for a model by which the app is not indexed, and for parts: what is found in them
        would be no area. In frames nothing is found.
        """
        if eye.detector is not self._eye.detector or any(box is not None for box in boxes):
            raise _other_model()
        return [self._found for _ in boxes]

    async def _cut(self, boxes: Sequence[Box]) -> None:
        """Looks at parts of the picture that are no regions, because a node wants them with a margin."""
        job = self._outcome.job
        data = await self._images.load(job.bucket, url=job.url, blob=self._outcome.blob or job.blob)
        prepared = await self._eye.prepare(data, boxes, Lane.INGEST, detect=False)
        found = await self._eye.embed(prepared.pixels[1:], Lane.INGEST)
        self._known |= dict(zip(boxes, found, strict=True))


def _other_model() -> WorkflowNeedsModel:
    return WorkflowNeedsModel(
        "it names a model by which the app is not indexed. Patch the app's default_workflow to this workflow again."
    )


def _troubled(outcome: Outcome, details: str) -> Outcome:
    """With the reason why nothing is said of it, where something would have been."""
    if outcome.vectors is None:
        return outcome
    return replace(outcome, trouble=f"Workflow {outcome.job.own_workflow_id} said nothing of this input: {details}")


def _remarks(plan: _Plan, said: Mapping[str, NodeData], seen: _Seen) -> Iterator[Remark]:
    """What is to be stored of what the nodes said: the words of writers, and those of the app's own models."""
    for node in plan.nodes:
        step = plan.steps[node.id]
        for place, concepts in _placed(said[node.id], seen):
            if isinstance(step, Writes):
                yield Remark(
                    place=place,
                    concepts=concepts,
                    user_id=step.user_id or plan.owner,
                    written_by=plan.versions[node.id],
                    status=step.status,
                    info=step.info or None,
                )
            elif node.id in plan.versions and node.type_id in _PREDICT:
                yield Remark(
                    place=place,
                    concepts=_likeliest(concepts),
                    model_id=node.model_id,
                    model_version_id=plan.versions[node.id],
                )


def _placed(data: NodeData, seen: _Seen) -> Iterator[tuple[int, tuple[Value, ...]]]:
    """The concepts of each area of which something is said, by the place of its vector."""
    if data.whole.concepts:
        yield seen.places[None], data.whole.concepts
    for region in data.regions or ():
        if region.said.concepts:
            yield seen.places[region.box], region.said.concepts


def _likeliest(concepts: Sequence[Value]) -> tuple[Value, ...]:
    return tuple(sorted(concepts, key=lambda value: -value[1])[:DEFAULT_CONCEPTS])
