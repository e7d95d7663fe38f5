"""Jobs of adding inputs: progress of what several calls posted under one name, and cancelling it (api-spec 3.1)."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from clarifai.client.input import Inputs
from clarifai_grpc.grpc.api import resources_pb2, service_pb2_grpc
from clarifai_grpc.grpc.api.resources_pb2 import Data, Input, InputsAddJob, Text
from tests.integration.serving import (
    FAILED,
    INDEXED,
    MIXED,
    PAT,
    PENDING,
    USER,
    App,
    Server,
    Site,
    by_image,
    connected,
    home,
    new_app,
    of_bytes,
    of_url,
    picture,
    server_at,
    wait_for,
)
from tests.integration.test_annotations_post import has

QUEUED, RUNNING, COMPLETED, CANCELLED = 64000, 64001, 64002, 64004


def text(input_id: str, **fields: Any) -> Input:
    return Input(id=input_id, data=Data(text=Text(raw=input_id), **fields))


def add(app: App, job_id: str, *inputs: Input) -> Any:
    return app.ask("PostInputs", inputs=inputs, inputs_add_job_id=job_id)


def job(app: App, job_id: str) -> InputsAddJob:
    found: InputsAddJob = app.call("GetInputsAddJob", id=job_id).inputs_add_job
    return found


def counts(found: InputsAddJob) -> tuple[int, int, int, int]:
    """Pending, in progress, succeeded, failed."""
    progress = found.progress
    return progress.pending_count, progress.in_progress_count, progress.success_count, progress.failed_count


def ended(app: App, job_id: str) -> InputsAddJob:
    def look() -> InputsAddJob | None:
        found = job(app, job_id)
        return None if any(counts(found)[:2]) else found

    return wait_for(f"job {job_id} to end", look)


@pytest.fixture
def idle() -> Iterator[App]:
    """A server without workers: what is posted waits."""
    with home() as folder, server_at(folder, SIGHTRANK_WORKERS="0") as server:
        server.start()
        with connected(server) as stub:
            yield new_app(server, stub)


# Progress -----------------------------------------------------------------------------------------------------------


def test_a_job_counts_what_becomes_of_its_inputs(app: App) -> None:
    add(app, "j", of_bytes(picture(1), "a"), of_bytes(picture(2), "b"), of_bytes(b"no image", "bad"))
    app.post(of_bytes(picture(3), "stranger"))

    found = ended(app, "j")

    assert (found.id, counts(found)) == ("j", (0, 0, 2, 1))
    assert (found.status.code, found.status.description) == (COMPLETED, "Job is completed")
    assert found.modified_at.ToDatetime() >= app.call("GetInput", input_id="b").input.modified_at.ToDatetime()
    assert found.created_at.ToDatetime() <= found.modified_at.ToDatetime()


def test_a_second_call_extends_the_job(app: App) -> None:
    add(app, "j", text("a"))
    first = ended(app, "j")
    add(app, "j", text("b"), text("c"))

    found = ended(app, "j")

    assert counts(found) == (0, 0, 3, 0)
    assert found.created_at == first.created_at
    assert found.modified_at.ToDatetime() > first.modified_at.ToDatetime()


def test_what_is_refused_counts_as_failed(app: App) -> None:
    app.post(text("taken"))
    nothing, bad_id = Input(id="nothing"), text("a/b")

    answer = add(app, "j", text("a"), text("taken"), text("a"), nothing, bad_id)
    assert answer.status.code == MIXED
    assert counts(ended(app, "j")) == (0, 0, 1, 4)
    answer = add(app, "all", nothing)

    assert answer.inputs[0].status.code == 30104
    assert counts(job(app, "all")) == (0, 0, 0, 1)
    assert job(app, "all").status.code == COMPLETED


def test_calls_at_once_into_one_job_are_all_counted(app: App) -> None:
    def call(n: int) -> None:
        add(app, "j", text(f"i{n}-0"), text(f"i{n}-1"), text("same"))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(call, range(12)))

    assert counts(ended(app, "j")) == (0, 0, 25, 11)


def test_states_while_it_runs(app: App, site: Site) -> None:
    gate = threading.Event()
    url = site.show(picture(1), gate=gate)
    add(app, "j", of_url(url, "slow"), text("quick"))
    wait_for("the download to begin", lambda: url.removeprefix(site.base) in site.asked)
    wait_for("the text to be done", lambda: counts(job(app, "j"))[2])

    found = job(app, "j")

    assert (counts(found), found.status.code) == ((0, 1, 1, 0), RUNNING)
    gate.set()
    assert (counts(ended(app, "j")), job(app, "j").status.code) == ((0, 0, 2, 0), COMPLETED)


def test_deleted_inputs_are_no_longer_counted(app: App) -> None:
    add(app, "j", text("a"), text("b"))
    ended(app, "j")

    app.call("DeleteInput", input_id="a")

    assert counts(job(app, "j")) == (0, 0, 1, 0)


def test_jobs_are_listed_newest_first(app: App, server: Server, stub: service_pb2_grpc.V2Stub) -> None:
    for n in range(5):
        add(app, f"j{n}", text(f"i{n}"))
    add(new_app(server, stub), "other", text("a"))

    def ids(**fields: Any) -> list[str]:
        return [found.id for found in app.call("ListInputsAddJobs", **fields).inputs_add_jobs]

    assert ids() == ["j4", "j3", "j2", "j1", "j0"]
    assert [ids(page=page, per_page=2) for page in (1, 2, 3, 4)] == [["j4", "j3"], ["j2", "j1"], ["j0"], []]
    assert [sum(counts(found)) for found in app.call("ListInputsAddJobs").inputs_add_jobs] == [1] * 5


def test_jobs_over_rest(app: App) -> None:
    body = {"inputs": [{"id": "a", "data": {"text": {"raw": "a"}}}], "inputs_add_job_id": "j"}
    assert app.rest("POST", "/inputs", body)["status"]["code"] == 10000
    ended(app, "j")

    found = app.rest("GET", "/inputs/jobs/add/j")["inputs_add_job"]
    listed = app.rest("GET", "/inputs/jobs/add")["inputs_add_jobs"]
    cancelled = app.rest("PATCH", "/inputs/jobs/add/j", {})["inputs_add_job"]

    assert (found["id"], found["progress"]["success_count"], found["status"]["code"]) == ("j", 1, COMPLETED)
    assert listed == [found]
    assert cancelled["status"]["code"] == COMPLETED


@pytest.mark.parametrize("job_id", ["nobody", "zero\0", ""])
def test_an_unknown_job_does_not_exist(app: App, job_id: str) -> None:
    assert app.ask("GetInputsAddJob", id=job_id).status.code == 11101
    assert app.ask("CancelInputsAddJob", id=job_id).status.code == 11101


@pytest.mark.parametrize("job_id", ["a/b", "zero\0", "x" * 129, "-"])
def test_a_job_id_fits_into_a_path(app: App, job_id: str) -> None:
    answer = add(app, job_id, text("a"))

    assert answer.status.code == 11102
    assert app.call("ListInputs").inputs == []


# Cancelling ---------------------------------------------------------------------------------------------------------


def test_cancelling_fails_what_waits(idle: App) -> None:
    add(idle, "j", text("a"), of_bytes(picture(1), "b", concepts=[has("c")]))
    add(idle, "other", text("d"))
    assert (counts(job(idle, "j")), job(idle, "j").status.code) == ((2, 0, 0, 0), QUEUED)

    found = idle.call("CancelInputsAddJob", id="j").inputs_add_job

    assert (counts(found), found.status.code, found.status.description) == ((0, 0, 0, 2), CANCELLED, "Job is cancelled")
    status = idle.call("GetInput", input_id="b").input.status
    assert (status.code, "job j was cancelled" in status.details) == (FAILED, True)
    assert idle.call("GetInput", input_id="d").input.status.code == PENDING
    assert job(idle, "other").status.code == QUEUED
    again = idle.call("CancelInputsAddJob", id="j").inputs_add_job
    assert (counts(again), again.status.code) == ((0, 0, 0, 2), CANCELLED)
    answer = add(idle, "j", text("late"))
    assert (answer.status.code, "cancelled" in answer.status.details) == (11102, True)
    assert idle.ask("GetInput", input_id="late").status.code == 11101


def test_what_is_being_worked_on_is_finished(app: App, site: Site) -> None:
    gate = threading.Event()
    url = site.show(picture(1), gate=gate)
    add(app, "j", of_url(url, "slow"))
    wait_for("the download to begin", lambda: url.removeprefix(site.base) in site.asked)

    found = app.call("CancelInputsAddJob", id="j").inputs_add_job
    gate.set()

    assert (counts(found), found.status.code) == ((0, 1, 0, 0), CANCELLED)
    assert app.finished("slow").status.code == INDEXED
    assert (counts(job(app, "j")), job(app, "j").status.code) == ((0, 0, 1, 0), CANCELLED)


def test_a_job_that_has_ended_cannot_be_cancelled_and_goes_on(app: App) -> None:
    add(app, "j", text("a"))
    ended(app, "j")

    assert app.call("CancelInputsAddJob", id="j").inputs_add_job.status.code == COMPLETED
    assert add(app, "j", text("b")).status.code == 10000
    assert counts(ended(app, "j")) == (0, 0, 2, 0)


def test_what_is_indexed_anew_is_not_cancelled(idle: App) -> None:
    """After an upgrade indexed inputs wait again; to the job they are done."""
    add(idle, "j", of_bytes(picture(1), "a"), of_bytes(picture(2), "b"))
    idle.server.sql("UPDATE inputs SET format = 'JPEG' WHERE id = 'a' RETURNING id")
    assert counts(job(idle, "j")) == (1, 0, 1, 0)

    idle.call("CancelInputsAddJob", id="j")

    assert counts(job(idle, "j")) == (0, 0, 1, 1)
    assert idle.call("GetInput", input_id="a").input.status.code == PENDING


def test_posting_into_a_job_while_it_is_cancelled_leaves_nothing_waiting(idle: App) -> None:
    add(idle, "j", text("first"))

    def work(n: int) -> int:
        if n == 6:
            return int(idle.ask("CancelInputsAddJob", id="j").status.code)
        return int(add(idle, "j", text(f"i{n}")).status.code)

    with ThreadPoolExecutor(6) as pool:
        codes = list(pool.map(work, range(18)))

    accepted = sum(code == 10000 for n, code in enumerate(codes) if n != 6)
    assert codes[6] == 10000
    assert set(codes) <= {10000, 11102}
    assert counts(job(idle, "j")) == (0, 0, 0, accepted + 1)


# The official SDK ---------------------------------------------------------------------------------------------------


def sdk(app: App) -> Inputs:
    return Inputs(user_id=USER, app_id=app.id, pat=PAT, base_url=app.server.base)


def made(app: App, pictures: Sequence[bytes]) -> list[resources_pb2.Input]:
    inputs = sdk(app)
    return [
        inputs.get_input_from_bytes(input_id=f"i{n}", image_bytes=data, labels=[f"label-{n % 2}"])
        for n, data in enumerate(pictures)
    ]


def test_the_bulk_upload_of_the_sdk_ends(app: App) -> None:
    posted = made(app, [picture(n) for n in range(12)])

    sdk(app)._bulk_upload(inputs=posted, batch_size=5)

    assert {item.status.code for item in app.call("ListInputs").inputs} == {INDEXED}
    jobs = app.call("ListInputsAddJobs").inputs_add_jobs
    assert sorted(counts(found)[2] for found in jobs) == [2, 5, 5]
    assert app.rank(by_image(picture(3)))[0].input.id == "i3"


def test_the_wait_of_the_sdk_ends_also_when_inputs_fail(app: App) -> None:
    inputs = sdk(app)
    posted = made(app, [picture(1), b"no image", picture(2)])

    failed = inputs._upload_batch(posted)

    assert [item.id for item in failed] == ["i1"]
    assert sorted(item.id for item in app.call("ListInputs").inputs) == ["i0", "i2"]
    assert inputs._wait_for_inputs("nobody") is False


def test_the_sdk_patches_inputs(app: App) -> None:
    inputs = sdk(app)
    app.post(text("a", concepts=[has("x")]))

    inputs.patch_inputs([Input(id="a", data=Data(concepts=[has("y")]))], action="merge")
    inputs.patch_inputs([Input(id="a", data=Data(concepts=[has("x")]))], action="remove")

    assert [concept.id for concept in app.call("GetInput", input_id="a").input.data.concepts] == ["y"]
