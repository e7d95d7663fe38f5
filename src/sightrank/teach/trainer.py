"""Trains model versions: reads what people said, learns it in a thread, and commits the whole of it or nothing.

A version that is trained stays so when its app gets another embedder: it is fitted again, by the same examples, to the
new vectors.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial

import numpy as np
import psycopg
import structlog

from sightrank.errors import ServerBusy
from sightrank.store.status import MODEL_FAILED, MODEL_WITHOUT_DATA, MODEL_WITHOUT_POSITIVES
from sightrank.store.vectors import EmbedderTable
from sightrank.teach.awaited import awaited_inputs, left_out, waiting_for
from sightrank.teach.classroom import Classroom
from sightrank.teach.examples import Source, VersionGone, areas_of, frozen, read_examples, thawed
from sightrank.teach.leases import LeaseLost, Run, attempt, kept, new_owner, work_off
from sightrank.teach.training_queue import ANY_EFFORT, Refit, Training, TrainingQueue
from sightrank.vision.fitting import EFFORT_OF_CONCEPT, Examples, effort, fit, read_options

_log = structlog.get_logger(__name__)

LEASE_S = 30.0
# Trainings at once, and how many of them may be large: the place that is left is never taken for long. A small one is
# no more work than 10 concepts with 5,000 labels each, a second or two.
_AT_ONCE, _LARGE_AT_ONCE = 3, 2
SMALL = 10 * (EFFORT_OF_CONCEPT + 5_000)
_REFITS_S = 2.0  # how often it is looked for models that lack a fit, in apps that are about to change over
_EVERYWHERE_S = 30.0  # and in all apps, where one is lacking only after a start with another embedder
_AGAIN_S = 5.0  # until a training that failed is tried again


class Trainer:
    """``run()`` works until it is cancelled. ``wake`` is set by whoever has just asked for a training."""

    def __init__(self, room: Classroom, wake: asyncio.Event) -> None:
        self._room = room
        self._wake = wake
        self._large = 0
        self._awaiting: set[int] = set()  # buckets in which a version was told to wait for inputs
        self._refits_at = 0.0
        self._everywhere_at = 0.0
        self._again_at = math.inf
        self._queue = TrainingQueue(room.database, owner=new_owner(), lease_s=LEASE_S)

    async def run(self) -> None:
        """Takes one version after the other, waiting where there is none."""
        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(work_off(self._claim, self._take, self._wake))

    def settled(self, bucket: int) -> None:
        """For whoever has indexed the last inputs of an app that it held: a training may have waited for them."""
        if bucket in self._awaiting:
            self._wake.set()

    async def _claim(self) -> Training | None:
        full = self._large >= _LARGE_AT_ONCE
        training = await self._queue.claim(self._room.workflow_ids, most=SMALL if full else ANY_EFFORT)
        if training is not None:
            if not training.behind:
                self._awaiting.discard(training.bucket)
            return training
        return None if full else await self._claim_unfitted()

    async def _claim_unfitted(self) -> Refit | None:
        """Nobody waits for these, and looking for them takes longer than for the others."""
        now = time.monotonic()
        if now < self._refits_at:
            return None
        self._refits_at = now + _REFITS_S
        everywhere = now >= min(self._everywhere_at, self._again_at)
        if now >= self._again_at:
            self._again_at = math.inf
        refit = await self._queue.claim_unfitted(self._room.tables, everywhere=everywhere)
        if refit is not None:
            self._refits_at = 0.0
        elif everywhere:
            self._everywhere_at = now + _EVERYWHERE_S
        return refit

    async def _take(self, training: Training) -> None:
        """One training. What goes wrong for no reason of its own comes again; an error in learning ends it."""
        names = {"bucket": training.bucket, "model": training.model_id, "version": training.id}
        put_off = partial(self._put_off, training, blameless=True)
        try:
            async with attempt("training", put_off, pause_s=_AGAIN_S, **names):
                await self._train(training)
        except Exception as error:
            _log.exception("training failed", **names)
            with suppress(ServerBusy, psycopg.OperationalError):  # then it comes again when the lease runs out
                await self._give_up(training, MODEL_FAILED, f"Learning failed: {type(error).__name__}: {error}"[:500])

    async def _train(self, training: Training) -> None:
        async with kept(self._room.threads, lambda share: self._queue.keep(training, share)) as run:
            if isinstance(training, Refit):
                with self._counted(large=True):  # nobody waits for these
                    await self._fit_anew(training, run)
                return
            table = self._room.tables.get(training.workflow_id)
            if training.hopeless:
                reason = f"Training ended the server {training.attempts - 1} times; nothing was learnt."
                await self._give_up(training, MODEL_FAILED, reason)
            elif table is None:
                reason = f"Workflow {training.workflow_id} of the app makes no vectors to learn from; choose another."
                await self._give_up(training, MODEL_WITHOUT_DATA, reason)
            else:
                await self._fit_first(training, table, run)

    async def _fit_first(self, training: Training, table: EmbedderTable, run: Run) -> None:
        awaited = await awaited_inputs(self._room.database, self._room.book, training)
        if len(awaited) and not training.overdue:
            self._awaiting.add(training.bucket)
            await self._queue.wait_for(training, awaited.tolist(), waiting_for(len(awaited)))
            return
        source = Source.of(training.training)
        try:
            examples = await read_examples(
                self._room.database, self._room.book, training.bucket, table, training.concept_ids, source=source
            )
        except VersionGone as gone:
            await self._give_up(training, MODEL_WITHOUT_DATA, f"{gone} Train with another version, or without one.")
            return
        missing = left_out(len(np.setdiff1d(awaited, examples.input_numbers)))
        if not len(examples.area_ids):
            await self._give_up(training, MODEL_WITHOUT_DATA, missing or _no_data(source))
            return
        lacking = _without_positives(examples) if training.training.get("needs_positives") else ()
        if lacking:
            reason = f"No indexed input has the concept {', '.join(lacking)}: label some with value 1, and train again."
            await self._give_up(training, MODEL_WITHOUT_POSITIVES, f"{reason} {missing}".rstrip())
            return
        large = effort(examples) > SMALL
        if large and self._large >= _LARGE_AT_ONCE:
            await self._queue.wait_as_large(training, effort(examples))
            return
        with self._counted(large=large):
            fitted = await self._fit(training, examples, run)
        await self._queue.finish(
            training,
            table=table,
            fitted=fitted,
            examples=await asyncio.to_thread(frozen, examples),
            inputs=len(np.unique(examples.input_numbers)),
            details=missing,
        )
        _log.info("model trained", bucket=training.bucket, model=training.model_id, version=training.id)

    @contextmanager
    def _counted(self, *, large: bool) -> Iterator[None]:
        """What is large takes one of the places for such as long as the block lasts."""
        self._large += large
        try:
            yield
        finally:
            self._large -= large

    async def _fit_anew(self, refit: Refit, run: Run) -> None:
        examples = await thawed(self._room.database, refit.bucket, refit.table, refit.examples)
        missing = np.setdiff1d(areas_of(refit.examples), examples.area_ids)
        if len(missing) and await self._queue.any_awaited(refit, missing.tolist()):
            await self._put_off(refit, _AGAIN_S, blameless=True)
        elif not len(examples.area_ids):
            await self._put_off(refit, _AGAIN_S, blameless=False)
        else:
            fitted = await self._fit(refit, examples, run)
            await self._queue.finish_refit(refit, fitted)
            _log.info("model fitted anew", bucket=refit.bucket, model=refit.model_id, version=refit.id)

    async def _fit(self, training: Training, examples: Examples, run: Run) -> bytes:
        """What is learnt, as the database keeps it."""
        options = read_options(training.training)
        return await self._room.threads.learn(lambda: fit(examples, options, run.tell).dump())

    async def _give_up(self, training: Training, status: int, reason: str) -> None:
        """Ends it without a model. A version that is trained already only lacks a fit, and stays as it is."""
        if isinstance(training, Refit):
            await self._put_off(training, _AGAIN_S, blameless=False)
            return
        with suppress(LeaseLost):
            await self._queue.fail(training, status, reason)

    async def _put_off(self, training: Training, pause_s: float, *, blameless: bool) -> None:
        with suppress(ServerBusy, psycopg.OperationalError):  # then it comes again when the lease runs out
            await self._queue.hand_back(training, pause_s=pause_s, blameless=blameless)
            if isinstance(training, Refit):
                self._again_at = min(self._again_at, time.monotonic() + pause_s)


def _without_positives(examples: Examples) -> Sequence[str]:
    return [
        concept_id
        for concept_id, labels in zip(examples.concept_ids, examples.labels.T, strict=True)
        if not (labels > 0.5).any()
    ]


def _no_data(source: Source) -> str:
    where = f"of {source} " if source.dataset_id else ""
    return (
        f"No indexed input {where}has a label of the model's concepts. Label some with them (value 1: has it, 0: has it"
        " not), wait until they are at 30000, and train again."
    )
