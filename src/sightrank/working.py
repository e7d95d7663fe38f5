"""What works on the queues, in a server or in a process of its own: it indexes, re-indexes, trains and evaluates."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sightrank.background import end
from sightrank.core import Core
from sightrank.ingest.jobs import Jobs
from sightrank.ingest.reindexer import Reindexer
from sightrank.ingest.worker import LEASE_S, Worker
from sightrank.teach.classroom import Classroom
from sightrank.teach.evaluator import Evaluator
from sightrank.teach.leases import new_owner
from sightrank.teach.trainer import Trainer


@asynccontextmanager
async def working(core: Core, count: int, wake: asyncio.Event) -> AsyncIterator[None]:
    """``count`` ingest workers for the length of the block, and one each that re-indexes, trains and evaluates."""
    room = _classroom(core)
    trainer, evaluator = Trainer(room, core.to_train), Evaluator(room, core.fits, core.to_evaluate)
    workers = [_worker(core, wake, trainer) for _ in range(count)]
    tasks = [asyncio.create_task(worker.run(), name="ingest worker") for worker in workers]
    if count:
        tasks.append(asyncio.create_task(_reindexer(core).run(), name="re-indexing"))
        tasks.append(asyncio.create_task(trainer.run(), name="training"))
        tasks.append(asyncio.create_task(evaluator.run(), name="evaluation"))
    try:
        yield
    finally:
        await end(tasks)


def _worker(core: Core, wake: asyncio.Event, trainer: Trainer) -> Worker:
    able = core.workflows.keys() | core.idle
    jobs = Jobs(core.database, core.clock, core.book, owner=new_owner(), lease_s=LEASE_S, workflow_ids=able)
    return Worker(
        jobs, core.images, core.workflows, core.annotator, wake, threads=core.threads, settled=trainer.settled
    )


def _reindexer(core: Core) -> Reindexer:
    return Reindexer(
        core.database,
        core.images,
        core.workflows,
        core.idle,
        core.annotator,
        core.book,
        threads=core.threads,
        clock=core.clock,
    )


def _classroom(core: Core) -> Classroom:
    tables = {id: workflow.table for id, workflow in core.workflows.items()}
    return Classroom(database=core.database, book=core.book, tables=tables, idle=core.idle, threads=core.threads)
