"""One ingest worker: claim -> fetch and decode -> infer -> own workflows -> write, overlapped, every queue bounded.

The row in the database is the job and its lease; memory holds only what is being worked on. A worker that dies leaves
leases that run out; one that stops gives its jobs back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import psycopg
import structlog

from sightrank.errors import AppError, InputConnectionFailed, InputFailed, InputInvalidUrl, ServerBusy
from sightrank.ingest.annotator import Annotator
from sightrank.ingest.job import Job, Outcome
from sightrank.ingest.jobs import Jobs
from sightrank.ingest.media import ImageSource
from sightrank.ingest.outcomes import outcome_of, outcome_of_video
from sightrank.ingest.workflow import Workflow
from sightrank.vision.embedder import LARGEST_BATCH
from sightrank.vision.eye import Eye, Prepared
from sightrank.vision.tagger import DEFAULT_CONCEPTS
from sightrank.vision.threads import Lane, Threads
from sightrank.vision.viewing import watch

_log = structlog.get_logger()
_T = TypeVar("_T")

LEASE_S = 60.0
_CLAIM = 128  # jobs held at a time: enough to keep the network, the cores and the database busy at once
_FETCHERS = 16  # inputs that are being downloaded; uploaded ones have a lane of their own beside it
_VIDEOS = 2  # the same of videos: one is read while the other is fetched
_ANNOTATORS = 2  # own workflows that run at a time: one that takes long holds up the others less
_IDLE_S = 1.0  # how long an idle worker waits for other processes' inputs; its own server wakes it at once
_FULL_S = 0.02  # how long a worker with enough to do waits before it looks for more
# A full batch costs a fifth less per picture, and a commit costs much the same for 4 inputs as for 64. While others are
# under way it pays to wait for them a little; a single input never waits.
_GOOD_BATCH, _INFER_PATIENCE_S = 8, 0.03
_GOOD_COMMIT, _WRITE_PATIENCE_S = 64, 0.15
_ATTEMPTS = 5
_NOT_INDEXED = {
    "audio": "Audio is not indexed by this version of sightrank; post images, or text as text.raw.",
    "text": "Text by URL is not indexed by this version of sightrank; post the text itself as text.raw.",
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Picture:
    job: Job
    workflow: Workflow
    blob: str
    prepared: Prepared


class Worker:
    """``run()`` works until it is cancelled. ``wake`` is set by whoever has just accepted inputs. ``settled`` is told
    the bucket of an app when the worker has done all that it held of it.
    """

    def __init__(
        self,
        jobs: Jobs,
        images: ImageSource,
        workflows: Mapping[str, Workflow],
        annotator: Annotator,
        wake: asyncio.Event,
        *,
        threads: Threads,
        settled: Callable[[int], None] | None = None,
    ) -> None:
        self._jobs = jobs
        self._settled = settled
        self._images = images
        self._threads = threads
        self._workflows = workflows
        self._annotator = annotator
        self._wake = wake
        self._held: dict[tuple[int, int], Job] = {}
        self._to_download: asyncio.Queue[Job] = asyncio.Queue(_CLAIM)
        self._uploaded: asyncio.Queue[Job] = asyncio.Queue(_CLAIM)
        self._videos: asyncio.Queue[Job] = asyncio.Queue(_CLAIM)
        self._pictures: asyncio.Queue[_Picture] = asyncio.Queue(2 * LARGEST_BATCH)
        self._to_annotate: asyncio.Queue[Outcome] = asyncio.Queue(_CLAIM)
        self._outcomes: asyncio.Queue[Outcome] = asyncio.Queue(_CLAIM)

    async def run(self) -> None:
        """Works until cancelled, then gives back what is unfinished."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._forever(self._claim))
                for _ in range(_FETCHERS):
                    group.create_task(self._forever(self._download))
                # One more than can be decoded at once: it reads the next file meanwhile.
                for _ in range(self._threads.cores + 1):
                    group.create_task(self._forever(self._read))
                for _ in range(_VIDEOS):
                    group.create_task(self._forever(self._watch))
                for _ in range(self._threads.cores):
                    group.create_task(self._forever(self._infer))
                for _ in range(_ANNOTATORS):
                    group.create_task(self._forever(self._annotate))
                group.create_task(self._forever(self._write))
                group.create_task(self._forever(self._renew))
        finally:
            await asyncio.shield(self._jobs.hand_back())

    async def _forever(self, step: Callable[[], Awaitable[None]]) -> None:
        """Repeats one stage. An error nobody foresaw is logged; the jobs it hit come back when their lease runs out."""
        while True:
            try:
                await step()
            except Exception:
                _log.exception("ingest stage failed", stage=step.__name__)
                await asyncio.sleep(_IDLE_S)

    async def _claim(self) -> None:
        room = _CLAIM - len(self._held)
        if room < _CLAIM // 2 or any(job.suspect for job in self._held.values()):
            await asyncio.sleep(_FULL_S)
            return
        self._wake.clear()
        jobs = await self._jobs.claim(room)
        videos = sum(job.media == "video" for job in self._held.values())
        if videos < _VIDEOS:
            jobs += await self._jobs.claim(_VIDEOS - videos, video=True)
        if not jobs and not self._held:
            # Nothing else to do: time for inputs that may end the worker, one at a time and nothing beside them.
            jobs = await self._jobs.claim(1, suspect=True) or await self._jobs.claim(1, suspect=True, video=True)
        for job in jobs:
            self._held[job.bucket, job.number] = job
            await self._queue_of(job).put(job)
        if not jobs:
            await _wait(self._wake, _IDLE_S)

    def _queue_of(self, job: Job) -> asyncio.Queue[Job]:
        """Those that take long do not hold up the others."""
        if job.media == "video":
            return self._videos
        return self._uploaded if job.blob or not job.url else self._to_download

    async def _download(self) -> None:
        await self._take(await self._to_download.get())

    async def _read(self) -> None:
        await self._take(await self._uploaded.get())

    async def _watch(self) -> None:
        await self._take(await self._videos.get())

    async def _take(self, job: Job) -> None:
        try:
            await self._prepare(job)
        except (ServerBusy, psycopg.OperationalError, OSError) as error:
            # Not the input's fault: it is tried again when the lease runs out.
            _log.warning("input put off", input_id=job.id, bucket=job.bucket, reason=str(error))
            self._let_go([job])
            await self._jobs.put_off(job)
        except AppError as error:
            await self._fail(job, error)
        except _NotItsFault:
            self._let_go([job])
            raise
        except Exception as error:
            _log.exception("input failed unexpectedly", input_id=job.id, bucket=job.bucket)
            await self._fail(
                job, InputFailed(f"Processing failed inside the server ({type(error).__name__}); see its log.")
            )

    async def _prepare(self, job: Job) -> None:
        if job.attempts > _ATTEMPTS:
            raise InputFailed(
                f"Processing this input failed or ended the worker {_ATTEMPTS} times; it is left alone now."
            )
        workflow = self._workflows.get(job.workflow_id)
        if workflow is None or (job.media == "text" and not job.url):
            await self._pass_on(Outcome(job=job))
            return
        if job.media == "video":
            await self._watch_film(job, workflow.eye)
            return
        if job.media != "image":
            raise InputFailed(_NOT_INDEXED[job.media])
        data = await self._images.load(job.bucket, url=job.url, blob=job.blob)
        boxes = [area.box for area in job.areas if area.box is not None]
        prepared = await workflow.eye.prepare(data, boxes, Lane.INGEST, detect=True)
        blob = job.blob or await self._images.keep(job.bucket, data)
        await self._pictures.put(_Picture(job=job, workflow=workflow, blob=blob, prepared=prepared))

    async def _watch_film(self, job: Job, eye: Eye) -> None:
        async with self._images.video(job.bucket, Lane.INGEST, url=job.url, blob=job.blob) as data:
            try:
                video = await watch(eye, data, Lane.INGEST, sample_ms=job.sample_ms)
            except AppError:
                raise
            except Exception as error:
                # The network's trouble, as in `_infer`: whatever is wrong with a film is an AppError.
                raise _NotItsFault from error
            blob = job.blob or await self._images.keep(job.bucket, data)
        outcome = await self._threads.infer(
            Lane.INGEST, lambda: outcome_of_video(job, blob, video, lambda found: eye.top(found, DEFAULT_CONCEPTS))
        )
        await self._pass_on(outcome)

    async def _infer(self) -> None:
        pictures = await _some(
            self._pictures,
            LARGEST_BATCH,
            enough=lambda: min(_GOOD_BATCH, len(self._held)),
            patience_s=_INFER_PATIENCE_S,
        )
        by_eye: dict[Eye, list[_Picture]] = {}
        for picture in pictures:
            by_eye.setdefault(picture.workflow.eye, []).append(picture)
        try:
            for eye, group in by_eye.items():
                await self._embed(eye, group)
        except Exception:
            self._let_go([picture.job for picture in pictures])
            raise

    async def _embed(self, eye: Eye, pictures: Sequence[_Picture]) -> None:
        vectors = await eye.embed(np.concatenate([picture.prepared.pixels for picture in pictures]), Lane.INGEST)
        concepts = eye.top(vectors, DEFAULT_CONCEPTS)
        start = 0
        for picture in pictures:
            part = slice(start, start + len(picture.prepared.pixels))
            await self._pass_on(outcome_of(picture.job, picture.blob, picture.prepared, vectors[part], concepts[part]))
            start = part.stop

    async def _pass_on(self, outcome: Outcome) -> None:
        """To the app's own workflow, where it has one and something was seen, else to be written."""
        annotated = outcome.job.own_workflow_id and outcome.vectors is not None
        await (self._to_annotate if annotated else self._outcomes).put(outcome)

    async def _annotate(self) -> None:
        """Its own stage: a node may load and look at pictures again, one by one, and other apps' inputs are written
        meanwhile.
        """
        outcomes = await _some(self._to_annotate, LARGEST_BATCH, enough=lambda: 1, patience_s=0.0)
        for (bucket, workflow_id, _), group in _by_app(outcomes).items():
            await self._threads.give_way()
            try:
                for outcome in await self._annotator.look(self._workflows[workflow_id], group):
                    await self._outcomes.put(outcome)
            except Exception:
                _log.exception("an own workflow could not look at inputs", bucket=bucket, inputs=len(group))
                self._let_go([outcome.job for outcome in group])

    async def _write(self) -> None:
        outcomes = await _some(
            self._outcomes, _CLAIM, enough=lambda: min(_GOOD_COMMIT, len(self._held)), patience_s=_WRITE_PATIENCE_S
        )
        for (bucket, workflow_id, _), group in _by_app(outcomes).items():
            await self._threads.give_way()
            try:
                await self._jobs.finish(self._workflows.get(workflow_id), group)
            except Exception:
                # One app's trouble must not keep the others waiting; its jobs come back when their lease runs out.
                _log.exception("inputs could not be written", bucket=bucket, inputs=len(group))
            finally:
                self._let_go([outcome.job for outcome in group])

    async def _fail(self, job: Job, error: AppError) -> None:
        # A failed fetch says so by a code of its own; whatever else is wrong with the medium is 30002 and its reason.
        own_code = isinstance(error, InputConnectionFailed | InputInvalidUrl)
        try:
            await self._jobs.fail(job, error.code if own_code else InputFailed.code, error.details)
        finally:
            self._let_go([job])

    def _let_go(self, jobs: Sequence[Job]) -> None:
        """Stops renewing the leases of jobs that are done, or that another attempt must take up."""
        for job in jobs:
            self._held.pop((job.bucket, job.number), None)
        if self._settled is not None:
            for bucket in {job.bucket for job in jobs} - {bucket for bucket, _ in self._held}:
                self._settled(bucket)

    async def _renew(self) -> None:
        started = time.monotonic()
        await self._jobs.renew(list(self._held.values()))
        await asyncio.sleep(max(0.0, LEASE_S / 4 - (time.monotonic() - started)))


class _NotItsFault(Exception):
    """What failed for another reason than the input is taken up again when its lease runs out."""


def _by_app(outcomes: Sequence[Outcome]) -> Mapping[tuple[int, str, str], list[Outcome]]:
    """By bucket, base workflow and own one: what is looked at and committed together."""
    groups: dict[tuple[int, str, str], list[Outcome]] = {}
    for outcome in outcomes:
        job = outcome.job
        groups.setdefault((job.bucket, job.workflow_id, job.own_workflow_id), []).append(outcome)
    return groups


async def _some(queue: asyncio.Queue[_T], limit: int, *, enough: Callable[[], int], patience_s: float) -> list[_T]:
    """Waits for one item, then takes what else is there, up to ``limit``; below ``enough`` it waits a little more.

    What is enough is asked once there is an item: hours may have passed before it came.
    """
    items = [await queue.get()]
    wanted = enough()
    deadline = time.monotonic() + patience_s
    while len(items) < limit:
        if not queue.empty():
            items.append(queue.get_nowait())
            continue
        left_s = deadline - time.monotonic()
        if len(items) >= wanted or left_s <= 0:
            break
        try:
            async with asyncio.timeout(left_s):
                items.append(await queue.get())
        except TimeoutError:
            break
    return items


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return
