"""Indexes an app's inputs for the base workflow it is to have, beside what it has, and switches when all is there.

    sweeping ──► running ──► switching ──► sweeping ──► gone       what is left of earlier attempts goes first, the old
                    │            │                                  vectors go last; before the switch the models of the
                    │            │                                  app are fitted to the new ones (``teach.trainer``)
                    └────────────┴──► failed                       an input cannot be looked at: nothing changes

One step, a batch or a part of the sweeping, is one lease. Between steps another app has its turn, another process may
go on, and whoever patches the app has called it off or asked for something else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

import psycopg
import structlog

from sightrank.background import to_its_end
from sightrank.errors import AppError, ServerBusy
from sightrank.ingest.annotator import Annotator
from sightrank.ingest.job import Job, Outcome
from sightrank.ingest.media import ImageSource
from sightrank.ingest.outcomes import outcome_of, outcome_of_video
from sightrank.ingest.reindex_queue import ReindexQueue, State, Turn, TurnLost
from sightrank.ingest.reindex_rows import Looked, ReindexRows
from sightrank.ingest.workflow import Workflow
from sightrank.search.concepts import ConceptBook
from sightrank.store.blobs import BlobMissingError
from sightrank.store.clock import Clock
from sightrank.store.database import Database
from sightrank.teach.leases import new_owner
from sightrank.teach.training_queue import lacks_fits
from sightrank.vision.eye import Eye
from sightrank.vision.tagger import DEFAULT_CONCEPTS
from sightrank.vision.threads import Lane, Threads
from sightrank.vision.viewing import watch

_log = structlog.get_logger(__name__)

_LEASE_S = 60.0
_BATCH = 64
_IDLE_S = 1.0
_AGAIN_S = 5.0  # until a step that failed is tried again
_FITS_S = 0.5  # until it is asked again whether the app's models have been fitted to the new vectors
_INGEST_S = 0.1  # until ingest is asked again whether it is done with its last inputs of the app


class Reindexer:
    """``run()`` works until it is cancelled."""

    def __init__(
        self,
        database: Database,
        images: ImageSource,
        workflows: Mapping[str, Workflow],
        idle: Collection[str],
        annotator: Annotator,
        book: ConceptBook,
        *,
        threads: Threads,
        clock: Clock,
    ) -> None:
        """``idle``: the workflows that run no model."""
        self._database = database
        self._threads = threads
        self._queue = ReindexQueue(database, owner=new_owner(), lease_s=_LEASE_S)
        self._rows = ReindexRows(database, self._queue, workflows, idle, book, clock=clock)
        self._images = images
        self._workflows = workflows
        self._annotator = annotator
        self._ids = (*workflows, *idle)
        # Whole files wait for a decoder: one each, and one to follow.
        self._reading = asyncio.Semaphore(2 * threads.cores)

    async def run(self) -> None:
        """Takes one step after the other, waiting where there is none."""
        while True:
            try:
                turn = await to_its_end(self._queue.claim(self._ids))
            except Exception:
                _log.exception("looking for apps to re-index failed")
                turn = None
            if turn is None:
                await asyncio.sleep(_IDLE_S)
            else:
                await self._take(turn)

    async def _take(self, turn: Turn) -> None:
        """One step. An error nobody foresaw is logged; the step comes again."""
        try:
            async with self._kept(turn):
                pause_s = await self._step(turn)
            await self._queue.release(turn, pause_s=pause_s)
        except asyncio.CancelledError:
            await asyncio.shield(self._queue.put_off(turn, pause_s=0.0, blameless=True))
            raise
        except TurnLost:
            return
        except (ServerBusy, psycopg.OperationalError, OSError) as error:
            _log.warning("re-indexing put off", bucket=turn.bucket, reason=str(error))
            await self._put_off(turn, blameless=not _clash(error))
        except Exception:
            _log.exception("re-indexing failed", bucket=turn.bucket)
            await self._put_off(turn, blameless=False)

    async def _put_off(self, turn: Turn, *, blameless: bool) -> None:
        with suppress(ServerBusy, psycopg.OperationalError):  # then it comes again when the lease runs out
            await self._queue.put_off(turn, pause_s=_AGAIN_S, blameless=blameless)

    @asynccontextmanager
    async def _kept(self, turn: Turn) -> AsyncIterator[None]:
        keeping = asyncio.create_task(self._queue.keep(turn))
        try:
            yield
        finally:
            keeping.cancel()
            await asyncio.wait([keeping])

    async def _step(self, turn: Turn) -> float:
        """Does what is next; returns the seconds until there is something to do again."""
        if turn.state is State.SWEEPING:
            await self._rows.sweep(turn)
            return 0.0
        assert turn.workflow_id is not None, "nothing is indexed for no workflow"
        workflow = self._workflows[turn.workflow_id]
        if turn.embedder_id != workflow.table.id:
            # The model was replaced by another version since: what is there is of no use.
            await self._rows.advance(turn, state=State.SWEEPING, embedder_id=None)
            return 0.0
        jobs = _batch(await self._rows.missing(turn, 1 if turn.careful else _BATCH))
        if jobs:
            looked = await self._look(turn, workflow, jobs)
            await self._threads.give_way()
            await self._stage(turn, workflow, looked, jobs)
            return 0.0
        if turn.after_number:
            # Regions and inputs may have come behind us.
            await self._rows.advance(turn, state=turn.state, embedder_id=turn.embedder_id)
            return 0.0
        return await self._finish(turn)

    async def _finish(self, turn: Turn) -> float:
        """All that can be looked at has been."""
        failures = await self._rows.failures(turn)
        if failures:
            failure = await self._rows.fail(turn, failures)
            _log.error("the base workflow stays as it is", bucket=turn.bucket, wanted=turn.workflow_id, reason=failure)
        elif turn.state is State.RUNNING:
            await self._rows.advance(turn, state=State.SWITCHING, embedder_id=turn.embedder_id)
        elif await self._rows.is_working(turn):
            return _INGEST_S
        elif turn.embedder_id is not None and await lacks_fits(self._database, turn.bucket, turn.embedder_id):
            return _FITS_S
        else:
            await self._switch(turn)
        return 0.0

    async def _stage(self, turn: Turn, workflow: Workflow, looked: Looked, jobs: Sequence[Job]) -> None:
        """What was seen is kept. An input of which it cannot be, again and again, is one that cannot be indexed."""
        after_number = jobs[-1].number
        try:
            await self._rows.stage(turn, workflow, looked, after_number)
        except ServerBusy as error:
            if not turn.careful or not _clash(error):
                raise
            refused = {jobs[0].number: f"what was seen of it cannot be written ({_clash(error)})"}
            await self._rows.stage(turn, workflow, Looked(refused=refused), after_number)

    async def _switch(self, turn: Turn) -> None:
        try:
            switched = await self._rows.switch(turn)
        except ServerBusy as error:
            if not turn.careful or not _clash(error):
                raise
            failure = f"what {turn.own_workflow_id or turn.workflow_id} says cannot be written ({_clash(error)})"
            await self._rows.end(turn, failure)
            _log.error("the base workflow stays as it is", bucket=turn.bucket, wanted=turn.workflow_id, reason=failure)
            return
        if switched:
            _log.info("the base workflow has changed", bucket=turn.bucket, workflow=turn.workflow_id)

    async def _look(self, turn: Turn, workflow: Workflow, jobs: Sequence[Job]) -> Looked:
        if turn.hopeless:
            reason = f"looking at it failed or ended the server {turn.attempts - 1} times"
            return Looked(refused={jobs[0].number: reason})
        # Not one after the other: they share runs of the network. Nobody is left behind at work when one fails.
        seen = await asyncio.gather(*(self._see(workflow, job) for job in jobs), return_exceptions=True)
        refused: dict[int, str] = {}
        outcomes: list[Outcome] = []
        for job, one in zip(jobs, seen, strict=True):
            if isinstance(one, Outcome):
                outcomes.append(one)
            elif isinstance(one, BlobMissingError):
                refused[job.number] = "its stored file is missing"
            elif isinstance(one, AppError) and not isinstance(one, ServerBusy):
                refused[job.number] = one.details
            else:
                raise one
        if turn.own_workflow_id and outcomes:
            outcomes = await self._annotator.look(workflow, outcomes)
            refused |= {outcome.job.number: outcome.trouble for outcome in outcomes if outcome.trouble}
        return Looked(outcomes=[outcome for outcome in outcomes if not outcome.trouble], refused=refused)

    async def _see(self, workflow: Workflow, job: Job) -> Outcome:
        eye = workflow.eye
        if job.media == "video":
            return await self._watch(eye, job)
        boxes = [area.box for area in job.areas if area.box is not None]
        async with self._reading:
            data = await self._images.load(job.bucket, url=job.url, blob=job.blob)
            prepared = await eye.prepare(data, boxes, Lane.INGEST, detect=True)
        blob = job.blob or await self._images.keep(job.bucket, data)
        found = await eye.embed(prepared.pixels, Lane.INGEST)
        return outcome_of(job, blob, prepared, found, eye.top(found, DEFAULT_CONCEPTS))

    async def _watch(self, eye: Eye, job: Job) -> Outcome:
        async with self._images.video(job.bucket, Lane.INGEST, url=job.url, blob=job.blob) as data:
            video = await watch(eye, data, Lane.INGEST, sample_ms=job.sample_ms)
            blob = job.blob or await self._images.keep(job.bucket, data)
        return await self._threads.infer(
            Lane.INGEST, lambda: outcome_of_video(job, blob, video, lambda found: eye.top(found, DEFAULT_CONCEPTS))
        )


def _clash(error: Exception) -> str:
    """Which key was taken whenever a step was written, where that put it off; '' for another reason.

    Once, that is a race with another transaction. When it comes again it is in the rows themselves: waiting is no use.
    """
    cause = error.__cause__
    return cause.diag.message_primary or str(cause) if isinstance(cause, psycopg.errors.UniqueViolation) else ""


def _batch(jobs: Sequence[Job]) -> Sequence[Job]:
    """A video takes as long as a batch of images and is one of its own."""
    first = next((place for place, job in enumerate(jobs) if job.media == "video"), len(jobs))
    return jobs[: max(first, 1)]
