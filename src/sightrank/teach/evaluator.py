"""Evaluates model versions in the background, one after the other (docs/evaluation.md)."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial

import numpy as np
import psycopg
import structlog

from sightrank.errors import ServerBusy
from sightrank.search.fits import Fits
from sightrank.store.status import MODEL_TRAINED
from sightrank.store.vectors import EmbedderTable
from sightrank.teach.classroom import Classroom
from sightrank.teach.evaluation_queue import ATTEMPTS, Evaluation, EvaluationQueue, State
from sightrank.teach.examples import VersionGone, areas_of, read_examples, thawed
from sightrank.teach.leases import attempt, kept, new_owner, work_off
from sightrank.vision.evaluation import Progress, cross_validate, judge
from sightrank.vision.fitting import Examples, read_options
from sightrank.vision.metrics import Metrics, measure

_log = structlog.get_logger(__name__)

LEASE_S = 30.0
_AGAIN_S = 5.0  # until an evaluation that failed is tried again


class _NotMeasurable(Exception):
    """There is nothing to be measured, and never will be."""

    def __init__(self, state: State, reason: str) -> None:
        super().__init__(reason)
        self.state = state


class Evaluator:
    """``run()`` works until it is cancelled. ``wake`` is set by whoever has just asked for an evaluation."""

    def __init__(self, room: Classroom, fits: Fits, wake: asyncio.Event) -> None:
        self._room = room
        self._fits = fits
        self._wake = wake
        self._queue = EvaluationQueue(room.database, owner=new_owner(), lease_s=LEASE_S)

    async def run(self) -> None:
        """Takes one evaluation after the other, waiting where there is none."""
        await work_off(lambda: self._queue.claim(self._room.workflow_ids), self._take, self._wake)

    async def _take(self, evaluation: Evaluation) -> None:
        """One evaluation, to its end: measured, failed with a reason, or back in the queue."""
        names = {"bucket": evaluation.bucket, "evaluation": evaluation.id, "version": evaluation.version_id}
        put_off = partial(self._put_off, evaluation, blameless=True)
        try:
            async with attempt("evaluation", put_off, pause_s=_AGAIN_S, **names):
                async with kept(self._room.threads, lambda _share: self._queue.keep(evaluation)) as run:
                    metrics, details = await self._measured(evaluation, run.tell)
                await self._queue.finish(evaluation, metrics, details=details)
        except _NotMeasurable as error:
            await self._end(evaluation, error.state, str(error))
        except Exception as error:
            _log.exception("evaluation failed", **names)
            if evaluation.attempts < ATTEMPTS:
                await self._put_off(evaluation, _AGAIN_S, blameless=False)
            else:
                await self._end(evaluation, State.UNKNOWN_ERROR, f"It failed {evaluation.attempts} times: {error}")

    async def _end(self, evaluation: Evaluation, state: State, reason: str) -> None:
        with suppress(ServerBusy, psycopg.OperationalError):  # then it comes again when the lease runs out
            await self._queue.fail(evaluation, state, reason)

    async def _put_off(self, evaluation: Evaluation, pause_s: float, *, blameless: bool) -> None:
        with suppress(ServerBusy, psycopg.OperationalError):
            await self._queue.put_off(evaluation, pause_s=pause_s, blameless=blameless)

    async def _measured(self, evaluation: Evaluation, progress: Progress) -> tuple[Metrics, str]:
        """What was measured, and what people should know about it."""
        if evaluation.attempts > ATTEMPTS:
            raise _NotMeasurable(State.UNKNOWN_ERROR, f"Evaluating it ended the server {ATTEMPTS} times.")
        if evaluation.version_status != MODEL_TRAINED:
            reason = evaluation.version_details or f"its status is {evaluation.version_status}"
            raise _NotMeasurable(State.FAILED, f"The version is not trained: {reason}")
        table = self._room.tables.get(evaluation.workflow_id)
        if table is None:
            reason = f"The app's base workflow {evaluation.workflow_id!r} makes no vectors to predict from."
            raise _NotMeasurable(State.PREDICTION_FAILED, reason)
        if evaluation.source.dataset_id:
            return await self._judged(evaluation, table, progress)
        return await self._cross_validated(evaluation, table, progress), ""

    async def _cross_validated(self, evaluation: Evaluation, table: EmbedderTable, progress: Progress) -> Metrics:
        data = await self._queue.examples(evaluation)
        if data is None:
            raise _NotMeasurable(State.NEED_INPUTS, "What the version was trained with was not kept; name a dataset.")
        examples = await thawed(self._room.database, evaluation.bucket, table, data)
        if not len(examples.area_ids):
            raise _NotMeasurable(State.NEED_INPUTS, "None of the inputs that the version was trained with is there.")
        options = read_options(evaluation.training)
        return await self._room.threads.learn(lambda: measure(cross_validate(examples, options, progress), progress))

    async def _judged(self, evaluation: Evaluation, table: EmbedderTable, progress: Progress) -> tuple[Metrics, str]:
        made_at = evaluation.version_made_at
        model = await self._fits.get(evaluation.bucket, evaluation.version_id, made_at, table.id)
        if model is None:
            raise _NotMeasurable(State.PREDICTION_FAILED, "The version is not trained for the app's base workflow.")
        try:
            examples = await read_examples(
                self._room.database,
                self._room.book,
                evaluation.bucket,
                table,
                evaluation.concept_ids,
                source=evaluation.source,
                background=0,
            )
        except VersionGone as gone:
            raise _NotMeasurable(State.NEED_INPUTS, f"{gone} Name another, or the dataset alone.") from gone
        if not len(examples.area_ids):
            reason = f"No indexed input of {evaluation.source} has a label of the model's concepts."
            raise _NotMeasurable(State.NEED_LABELS, reason)
        metrics = await self._room.threads.learn(lambda: measure(judge(examples, model), progress))
        return metrics, await self._warning(evaluation, examples)

    async def _warning(self, evaluation: Evaluation, examples: Examples) -> str:
        """That a version is judged by what it has learnt by heart; '' where it is not."""
        data = await self._queue.examples(evaluation)
        if data is None:
            return ""
        known = examples.input_numbers[np.isin(examples.area_ids, areas_of(data))]
        if not len(known):
            return ""
        seen, count = len(np.unique(known)), len(np.unique(examples.input_numbers))
        return f"The version was trained on {seen} of these {count} inputs: on new ones it is not as good as it seems."
