"""Jobs of adding inputs: how far the inputs are that several calls posted under one name (api-spec 3.1)."""

from __future__ import annotations

from collections.abc import Mapping

from clarifai_grpc.grpc.api import resources_pb2, service_pb2

from sightrank.api.annotation_list import storable
from sightrank.api.call import Call, Handlers
from sightrank.api.pages import list_page
from sightrank.api.records import timestamp
from sightrank.errors import DoesNotExist, quoted
from sightrank.ingest.add_jobs import AddJob, AddJobs

_QUEUED, _RUNNING, _COMPLETED, _CANCELLED = 64000, 64001, 64002, 64004
_TEXTS: Mapping[int, str] = {
    _QUEUED: "Job is queued",
    _RUNNING: "Job is running",
    _COMPLETED: "Job is completed",
    _CANCELLED: "Job is cancelled",
}


class InputsAddJobs:
    """The rpcs of jobs that PostInputs makes when it is given an ``inputs_add_job_id``."""

    def __init__(self, jobs: AddJobs) -> None:
        self._jobs = jobs

    def handlers(self) -> Handlers:
        return {
            "GetInputsAddJob": self.get,
            "ListInputsAddJobs": self.list,
            "CancelInputsAddJob": self.cancel,
        }

    async def get(
        self, call: Call, request: service_pb2.GetInputsAddJobRequest
    ) -> service_pb2.SingleInputsAddJobResponse:
        job = await self._jobs.read(call.require_app().bucket, _checked_id(request.id))
        return service_pb2.SingleInputsAddJobResponse(inputs_add_job=_job(job))

    async def list(
        self, call: Call, request: service_pb2.ListInputsAddJobsRequest
    ) -> service_pb2.MultiInputsAddJobResponse:
        """Newest first."""
        jobs = await self._jobs.newest(call.require_app().bucket, list_page(request).clause)
        return service_pb2.MultiInputsAddJobResponse(inputs_add_jobs=map(_job, jobs))

    async def cancel(
        self, call: Call, request: service_pb2.CancelInputsAddJobRequest
    ) -> service_pb2.SingleInputsAddJobResponse:
        """Inputs that still wait fail; those that are being worked on are finished."""
        job = await self._jobs.cancel(call.require_app().bucket, _checked_id(request.id))
        return service_pb2.SingleInputsAddJobResponse(inputs_add_job=_job(job))


def _checked_id(job_id: str) -> str:
    if not storable([job_id]):
        raise DoesNotExist(f"There is no job {quoted(job_id)} of adding inputs.")
    return job_id


def _job(job: AddJob) -> resources_pb2.InputsAddJob:
    message = resources_pb2.InputsAddJob(
        id=job.id,
        created_at=timestamp(job.created_at),
        modified_at=timestamp(job.modified_at),
        progress=resources_pb2.InputsAddJobProgress(
            pending_count=job.pending,
            in_progress_count=job.in_progress,
            success_count=job.done,
            failed_count=job.failed + job.refused,
        ),
    )
    message.status.code = _state(job)
    message.status.description = _TEXTS[message.status.code]
    return message


def _state(job: AddJob) -> int:
    """A job whose inputs failed is completed all the same: its counts say how it went."""
    if job.cancelled:
        return _CANCELLED
    if not job.pending + job.in_progress:
        return _COMPLETED
    begun = job.in_progress + job.done + job.failed
    return _RUNNING if begun else _QUEUED
