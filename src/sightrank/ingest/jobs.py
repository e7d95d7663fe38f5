"""The queue that is the table of inputs: claim, renew, finish, fail. Every act is one short transaction."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sightrank.ingest.areas import Area, NewFrame, make_frames, read_areas
from sightrank.ingest.base_workflow import has_workflows
from sightrank.ingest.dataset_freeze import between_versions
from sightrank.ingest.history import remembering
from sightrank.ingest.job import SUSPECT, Job, Outcome, finished_rows, vector_rows
from sightrank.ingest.remarks import name_models, write_remarks
from sightrank.ingest.rows import AnnotationRow, forget_removals, insert_annotations, new_id, to_json
from sightrank.ingest.workflow import Workflow, detection_row, prediction_row
from sightrank.search.concepts import ConceptBook
from sightrank.store import queries, vectors
from sightrank.store.buckets import next_version
from sightrank.store.clock import Clock
from sightrank.store.database import Connection, Database, retrying

_SQL = queries.load("ingest")
_FORGET_PREDICTIONS = remembering(_SQL["forget_predictions"])
_ANNOTATIONS = queries.load("annotations")
_APPS_IN_TURN = 1000  # whose turn is remembered


@dataclass(frozen=True, slots=True, kw_only=True)
class _FoundRegion:
    """A region that a detector found, as a row of ``areas``."""

    input_number: int
    created_at: datetime
    region_id: str
    box_top: float
    box_left: float
    box_bottom: float
    box_right: float
    model_version_id: str


class Jobs:
    """The queue as one worker sees it. ``owner`` names the worker in the leases it takes. Inputs of apps whose workflow
    is not among ``workflow_ids`` wait: its model may come back.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        book: ConceptBook,
        *,
        owner: str,
        lease_s: float,
        workflow_ids: Collection[str],
    ) -> None:
        self._database = database
        self._clock = clock
        self._book = book
        self._owner = owner
        self._lease_s = lease_s
        self._workflow_ids = sorted(workflow_ids)
        self._served: list[int] = []  # buckets whose videos were claimed, the latest last

    async def claim(self, limit: int, *, suspect: bool = False, video: bool = False) -> list[Job]:
        """Up to ``limit`` waiting inputs; every app gets its share, so that a large one does not hold up the others.

        ``suspect`` inputs and videos come only when asked for, and no others with them. Of videos there is room for so
        few that apps take turns.
        """
        which = {"suspect": suspect, "suspect_from": SUSPECT, "video": video}
        apps = {"workflow_ids": self._workflow_ids, "limit": limit, "served": self._served if video else []}
        buckets = await self._database.rows(_SQL["buckets_with_work"], {**apps, **which})
        claimed: list[Job] = []
        for place, (bucket, workflow_id, own_workflow_id, sample_ms) in enumerate(buckets):
            share = (limit - len(claimed)) // (len(buckets) - place)
            claimed += await self._claim_from(bucket, (workflow_id, own_workflow_id), sample_ms, share, which)
        if video:
            now = dict.fromkeys(job.bucket for job in claimed)
            self._served = [*(bucket for bucket in self._served if bucket not in now), *now][-_APPS_IN_TURN:]
        return claimed

    async def renew(self, jobs: Sequence[Job]) -> None:
        """Keeps the leases of these jobs alive."""
        for bucket, numbers in _by_bucket(jobs).items():
            await self._database.execute(
                _SQL["renew"], {"bucket": bucket, "numbers": numbers, "owner": self._owner, "lease_s": self._lease_s}
            )

    async def hand_back(self) -> None:
        """Gives all unfinished jobs of this worker back to whoever is next, for a stop in good order."""
        await self._database.execute(_SQL["hand_back_all"], {"owner": self._owner})

    async def put_off(self, job: Job) -> None:
        """Leaves a job alone until its lease runs out, without counting the attempt."""
        await self._database.execute(
            _SQL["put_off"], {"bucket": job.bucket, "number": job.number, "owner": self._owner}
        )

    async def fail(self, job: Job, status: int, details: str) -> None:
        """Ends a job with a status code and the reason."""
        await self._database.execute(
            _SQL["fail"],
            {"bucket": job.bucket, "number": job.number, "owner": self._owner, "status": status, "details": details},
        )

    async def finish(self, workflow: Workflow | None, outcomes: Sequence[Outcome]) -> None:
        """Commits outcomes of one bucket: vectors, annotations and the status 30000 in one transaction.

        An input that got another region meanwhile goes back to the queue, as all do when their app has other workflows
        by now; one that was deleted is dropped. ``workflow`` is None when nothing of them was embedded.
        """
        try:
            await retrying(
                lambda: self._finish(workflow, outcomes), busy="These inputs are being written to.", attempts=5
            )
        except _WorkflowChanged:
            async with self._database.connection() as connection:
                await self._hand_back(connection, outcomes[0].job.bucket, outcomes)

    async def _finish(self, workflow: Workflow | None, outcomes: Sequence[Outcome]) -> None:
        bucket = outcomes[0].job.bucket
        async with self._database.transaction() as connection:
            ready, changed = await self._still_ours(connection, bucket, outcomes)
            if changed:
                await self._hand_back(connection, bucket, changed)
            if not ready:
                return
            await connection.execute(_SQL["finish"], {"bucket": bucket, "rows": finished_rows(ready)})
            embedded = [outcome for outcome in ready if outcome.vectors is not None]
            former = await _former_regions(connection, bucket, embedded)
            last = await between_versions(connection, bucket)
            labels = await _forget(connection, bucket, embedded, former)
            if embedded and workflow is not None:
                embedded = await self._with_regions(connection, workflow, bucket, embedded)
                embedded = await with_frames(connection, self._clock, bucket, embedded)
                await self._annotate(connection, workflow, bucket, embedded)
                labels |= await self._remark(connection, bucket, embedded, after=last)
            # Also when nothing was embedded: what a filter leaves among the indexed inputs has changed.
            version = await next_version(connection, bucket, labels=labels)
            job = ready[0].job
            if not await has_workflows(connection, bucket, job.workflow_id, job.own_workflow_id):
                raise _WorkflowChanged
            if any(remark.model_version_id for outcome in embedded for remark in outcome.remarks):
                await name_models(connection, bucket, [outcome.job.number for outcome in embedded])
            if former:
                keys = {"bucket": bucket, "version": version, "area_ids": former}
                await connection.execute(_ANNOTATIONS["remove_areas"], keys)
                await forget_removals(connection, bucket, version)
            if embedded and workflow is not None:
                await vectors.insert(connection, workflow.table, bucket, version, vector_rows(embedded))

    async def _hand_back(self, connection: Connection, bucket: int, outcomes: Sequence[Outcome]) -> None:
        numbers = [outcome.job.number for outcome in outcomes]
        await connection.execute(_SQL["hand_back"], {"bucket": bucket, "numbers": numbers, "owner": self._owner})

    async def _claim_from(
        self, bucket: int, workflow_ids: tuple[str, str], sample_ms: int, limit: int, which: Mapping[str, int]
    ) -> list[Job]:
        rows = await self._database.rows(
            _SQL["claim"], {"bucket": bucket, "limit": limit, "owner": self._owner, "lease_s": self._lease_s, **which}
        )
        async with self._database.connection() as connection:
            areas = await read_areas(connection, bucket, [row[0] for row in rows])
        workflow_id, own_workflow_id = workflow_ids
        return [
            Job(
                bucket=bucket,
                workflow_id=workflow_id,
                own_workflow_id=own_workflow_id,
                number=number,
                id=name,
                media=media,
                url=url,
                blob=blob,
                attempts=attempts,
                areas=areas.get(number, ()),
                sample_ms=sampled_before or sample_ms,
            )
            for number, name, media, _, url, blob, attempts, sampled_before in sorted(rows, key=lambda row: row[3])
        ]

    async def _still_ours(
        self, connection: Connection, bucket: int, outcomes: Sequence[Outcome]
    ) -> tuple[list[Outcome], list[Outcome]]:
        """Outcomes that may be written, and those whose areas are no longer the ones that were embedded."""
        numbers = [outcome.job.number for outcome in outcomes]
        cursor = await connection.execute(
            _SQL["lock_leased"], {"bucket": bucket, "numbers": numbers, "owner": self._owner}
        )
        ours = {number for (number,) in await cursor.fetchall()}
        areas = await read_areas(connection, bucket, list(ours))
        ready: list[Outcome] = []
        changed: list[Outcome] = []
        for outcome in outcomes:
            if outcome.job.number in ours:
                same = areas.get(outcome.job.number, ()) == outcome.job.areas
                (ready if same else changed).append(outcome)
        return ready, changed

    async def _with_regions(
        self, connection: Connection, workflow: Workflow, bucket: int, outcomes: Sequence[Outcome]
    ) -> list[Outcome]:
        """Makes areas of what the detector found and writes what it says of them; the outcomes with these areas."""
        await self._say_again(connection, workflow, bucket, outcomes)
        found = [(outcome, detection) for outcome in outcomes for detection in outcome.detections]
        if not found:
            return list(outcomes)
        instants = self._clock.take(2 * len(found))
        rows = [
            _FoundRegion(
                input_number=outcome.job.number,
                created_at=instant,
                region_id=new_id(),
                box_top=detection.box.top,
                box_left=detection.box.left,
                box_bottom=detection.box.bottom,
                box_right=detection.box.right,
                model_version_id=workflow.detector_version_id,
            )
            for (outcome, detection), instant in zip(found, instants, strict=False)
        ]
        cursor = await connection.execute(_SQL["insert_found_regions"], {"bucket": bucket, "rows": to_json(rows)})
        ids: dict[str, int] = dict(await cursor.fetchall())
        areas: dict[int, list[Area]] = {}
        said: list[AnnotationRow] = []
        for row, (outcome, detection), instant in zip(rows, found, instants[len(rows) :], strict=True):
            area = Area(id=ids[row.region_id], created_at=row.created_at, box=detection.box, region_id=row.region_id)
            areas.setdefault(outcome.job.number, []).append(area)
            said.append(detection_row(workflow, outcome.job.number, area, instant, detection))
        await insert_annotations(connection, bucket, said)
        return [
            replace(outcome, job=replace(outcome.job, areas=(*outcome.job.areas, *areas.get(outcome.job.number, ()))))
            for outcome in outcomes
        ]

    async def _say_again(
        self, connection: Connection, workflow: Workflow, bucket: int, outcomes: Sequence[Outcome]
    ) -> None:
        """Writes what the detector says of regions that were areas before."""
        again = [
            (outcome.job, place, found) for outcome in outcomes for place, found in sorted(outcome.found_again.items())
        ]
        rows = [
            detection_row(workflow, job.number, job.areas[place], instant, detection)
            for (job, place, detection), instant in zip(again, self._clock.take(len(again)), strict=True)
        ]
        await insert_annotations(connection, bucket, rows)

    async def _annotate(
        self, connection: Connection, workflow: Workflow, bucket: int, outcomes: Sequence[Outcome]
    ) -> None:
        if not workflow.tagger_id:
            return
        tagged = [
            (outcome, area, concepts)
            for outcome in outcomes
            for area, concepts in zip(outcome.job.areas, outcome.concepts, strict=False)
        ]
        rows = [
            prediction_row(workflow, outcome.job.number, area, created_at, concepts)
            for (outcome, area, concepts), created_at in zip(tagged, self._clock.take(len(tagged)), strict=True)
        ]
        await insert_annotations(connection, bucket, rows)

    async def _remark(
        self, connection: Connection, bucket: int, outcomes: Sequence[Outcome], *, after: datetime
    ) -> bool:
        """Writes what the nodes of the app's own workflow say; whether there are new labels."""
        said = [
            (outcome.job.number, outcome.job.areas[remark.place], remark)
            for outcome in outcomes
            for remark in outcome.remarks
        ]
        return bool(said) and await write_remarks(connection, self._book, self._clock, bucket, said, after=after)


class _WorkflowChanged(Exception):
    """The app has another base workflow, or own one, than those that looked at its inputs."""


async def with_frames(connection: Connection, clock: Clock, bucket: int, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Makes areas of the frames that are none yet; the outcomes with these areas. Nothing else is written."""
    found = [(outcome, frame) for outcome in outcomes for frame in outcome.frames]
    if not found:
        return list(outcomes)
    instants = clock.take(len(found))
    rows = [
        NewFrame.of(outcome.job.number, frame, instant)
        for (outcome, frame), instant in zip(found, instants, strict=True)
    ]
    made = await make_frames(connection, bucket, rows)
    return [
        replace(outcome, frames=(), job=replace(outcome.job, areas=(*outcome.job.areas, *made[outcome.job.number])))
        if outcome.frames
        else outcome
        for outcome in outcomes
    ]


async def _former_regions(connection: Connection, bucket: int, outcomes: Sequence[Outcome]) -> list[int]:
    """Areas of regions that a detector found when it looked before, and that nobody has annotated since."""
    numbers = [outcome.job.number for outcome in outcomes]
    cursor = await connection.execute(_SQL["former_regions"], {"bucket": bucket, "numbers": numbers})
    return [area_id for (area_id,) in await cursor.fetchall()]


async def _forget(connection: Connection, bucket: int, outcomes: Sequence[Outcome], former: Sequence[int]) -> bool:
    """Removes what was said of these inputs when they were looked at before, and of areas that go; whether there were
    labels among it."""
    numbers = [outcome.job.number for outcome in outcomes]
    troubled = [outcome.job.number for outcome in outcomes if outcome.trouble]
    keys = {"bucket": bucket, "numbers": numbers, "troubled": troubled, "former": former}
    forgotten = await connection.execute(_FORGET_PREDICTIONS, keys)
    return forgotten.rowcount > 0


def _by_bucket(jobs: Sequence[Job]) -> Mapping[int, list[int]]:
    numbers: dict[int, list[int]] = {}
    for job in jobs:
        numbers.setdefault(job.bucket, []).append(job.number)
    return numbers
