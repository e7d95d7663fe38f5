"""Where rpcs are called: errors in-band, request ids, deadlines, load; and the headers and codes it uses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import structlog
from clarifai_grpc.grpc.api import resources_pb2, service_pb2
from google.protobuf.message import Message

from sightrank.api.call import Call, Handlers
from sightrank.errors import AppError, BadRequestFormat, CredentialMissing, ModelDoesNotExist
from sightrank.wire.body import BodyReader
from sightrank.wire.credentials import Sender, new_request_id, read_key, read_sender
from sightrank.wire.dispatch import Answer, Dispatcher
from sightrank.wire.service import read_service
from sightrank.wire.status_codes import read_table, status_code_handlers

RPCS = read_service()
CODES = read_table()
SENDER = read_sender([("authorization", "Key k"), ("x-clarifai-request-id-prefix", "python-grpc-12.6.0")])


async def authenticate(rpc: str, key: str | None, request: Message, request_id: str) -> Call:
    if key is None:
        raise CredentialMissing("Send `Authorization: Key …`.")
    return Call(rpc=rpc, request_id=request_id, caller=None, app=None)


def make(handlers: Handlers, **changes: Any) -> Dispatcher:
    settings: dict[str, Any] = {"timeout_s": 5.0, "max_running": 8, **changes}
    return Dispatcher(handlers=handlers, authenticate=authenticate, codes=CODES, log=structlog.get_logger(), **settings)


def call(dispatcher: Dispatcher, rpc: str = "ListInputs", *, sender: Sender = SENDER, read: Any = None) -> Any:
    async def nothing() -> Message:
        return RPCS[rpc].request_type()

    return dispatcher.call(RPCS[rpc], sender, read or nothing)


def answer_of(
    handler: Callable[[Call, Message], Awaitable[Message]], rpc: str = "ListInputs", **changes: Any
) -> Answer:
    with structlog.testing.capture_logs():
        answer: Answer = asyncio.run(call(make({rpc: handler}, **changes), rpc))
    return answer


def status_of(answer: Answer) -> Any:
    return answer.message.status  # type: ignore[attr-defined]


async def empty(call: Call, request: Message) -> Message:
    return service_pb2.MultiInputResponse()


def test_every_unbuilt_rpc_says_so_in_its_own_response() -> None:
    async def all_answers() -> None:
        dispatcher = make({})
        for rpc in RPCS.values():
            answer = await call(dispatcher, rpc.name)
            assert isinstance(answer.message, rpc.response_type)
            assert (status_of(answer).code, answer.http_status) == (10040, 501)
            assert rpc.name in status_of(answer).details

    with structlog.testing.capture_logs():
        asyncio.run(all_answers())


def test_an_unset_status_means_ok() -> None:
    answer = answer_of(empty)
    status = status_of(answer)
    assert (status.code, status.description, answer.http_status) == (10000, "Ok", 200)
    assert status.req_id == SENDER.request_id


@pytest.mark.parametrize(("code", "http_status"), [(10010, 200), (10020, 400), (30002, 400), (21200, 404)])
def test_a_status_of_the_handler_stays(code: int, http_status: int) -> None:
    async def mixed(call: Call, request: Message) -> Message:
        response = service_pb2.MultiInputResponse(inputs=[resources_pb2.Input(id="a")])
        response.status.code = code  # type: ignore[assignment]
        return response

    answer = answer_of(mixed)
    assert (status_of(answer).code, answer.http_status) == (code, http_status)
    assert status_of(answer).description == CODES[code].description
    assert status_of(answer).req_id == SENDER.request_id


def test_an_error_is_an_answer() -> None:
    async def fail(call: Call, request: Message) -> Message:
        raise ModelDoesNotExist("There is no model `x`.")

    answer = answer_of(fail)
    status = status_of(answer)
    assert isinstance(answer.message, service_pb2.MultiInputResponse)
    assert (status.code, status.description, status.details) == (
        21200,
        "Model does not exist",
        "There is no model `x`.",
    )
    assert answer.http_status == 404


def test_a_missing_credential_is_401() -> None:
    with structlog.testing.capture_logs():
        answer = asyncio.run(call(make({"ListInputs": empty}), sender=read_sender([])))
    assert (status_of(answer).code, answer.http_status) == (11102, 401)


def test_an_unforeseen_failure_leaks_nothing_and_is_logged() -> None:
    async def fail(call: Call, request: Message) -> Message:
        raise RuntimeError("the secret table is gone")

    with structlog.testing.capture_logs() as logs:
        answer = asyncio.run(call(make({"ListInputs": fail})))
    assert (status_of(answer).code, answer.http_status) == (99009, 500)
    assert "secret" not in str(answer.message)
    assert isinstance(logs[0]["exc_info"], RuntimeError)
    assert logs[0]["req_id"] == status_of(answer).req_id == SENDER.request_id


def test_one_line_per_call() -> None:
    with structlog.testing.capture_logs() as logs:
        asyncio.run(call(make({"ListInputs": empty})))
    assert len(logs) == 1
    line = logs[0]
    assert (line["rpc"], line["code"], line["req_id"]) == ("ListInputs", 10000, SENDER.request_id)
    assert line["ms"] >= 0


async def forever(call: Call, request: Message) -> Message:
    await asyncio.Event().wait()
    raise AssertionError


def test_the_server_has_a_deadline() -> None:
    answer = answer_of(forever, timeout_s=0.01)
    assert (status_of(answer).code, answer.http_status) == (40032, 504)


def test_a_timeout_inside_a_handler_is_not_the_deadline() -> None:
    async def fail(call: Call, request: Message) -> Message:
        raise TimeoutError("a socket")

    assert status_of(answer_of(fail)).code == 99009


def test_cancellation_passes() -> None:
    async def cancelled() -> None:
        task = asyncio.create_task(call(make({"ListInputs": forever})))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())


def test_calls_at_once_are_bounded() -> None:
    async def crowd() -> list[int]:
        gate = asyncio.Event()

        async def wait(call: Call, request: Message) -> Message:
            await gate.wait()
            return service_pb2.MultiInputResponse()

        dispatcher = make({"ListInputs": wait}, max_running=2)
        tasks = [asyncio.create_task(call(dispatcher)) for _ in range(3)]
        await asyncio.sleep(0.01)
        gate.set()
        codes = [status_of(answer).code for answer in await asyncio.gather(*tasks)]
        return [*codes, status_of(await call(dispatcher)).code]

    with structlog.testing.capture_logs():
        assert asyncio.run(crowd()) == [10000, 10000, 40031, 10000]


def test_an_unreadable_request_is_answered() -> None:
    async def read() -> Message:
        raise BadRequestFormat("The body is not JSON.")

    with structlog.testing.capture_logs():
        answer = asyncio.run(call(make({"ListInputs": empty}), read=read))
    assert (status_of(answer).code, answer.http_status) == (11100, 400)


# ---- work that is no rpc ----


def test_other_work_has_a_deadline_a_place_and_a_line() -> None:
    async def work() -> str:
        return "done"

    async def stuck() -> None:
        await asyncio.Event().wait()

    async def use() -> tuple[str, list[int]]:
        dispatcher = make({}, timeout_s=0.3, max_running=1)
        result = await dispatcher.run("GET /media", SENDER, work)
        waiting = asyncio.create_task(dispatcher.run("GET /media", SENDER, stuck))
        await asyncio.sleep(0)
        codes = []
        for attempt in (dispatcher.run("GET /media", SENDER, work), waiting):
            with pytest.raises(AppError) as caught:
                await attempt
            codes.append(caught.value.code)
        return result, codes

    with structlog.testing.capture_logs() as logs:
        assert asyncio.run(use()) == ("done", [40031, 40032])
    assert [(line["rpc"], line["code"], line["req_id"]) for line in logs] == [("GET /media", 10000, SENDER.request_id)]


# ---- headers ----


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ("Key abc", "abc"),
        ("key abc", "abc"),
        ("KEY   abc ", "abc"),
        ("", None),
        ("Key", None),
        ("Key ", None),
        ("abc", None),
        ("Key a b", None),
        ("Basic abc", None),
    ],
)
def test_the_key_of_an_authorization(header: str, key: str | None) -> None:
    assert read_key(header) == key


def test_a_session_token_passes_as_given() -> None:
    assert read_sender([("x-clarifai-session-token", "tok")]).key == "tok"
    assert read_sender([("x-clarifai-session-token", "tok"), ("authorization", "Key k")]).key == "k"
    assert read_sender([("authorization", "Key "), ("x", b"\xff")]).key is None


def test_request_ids() -> None:
    assert len(new_request_id()) == 32
    assert new_request_id("sdk-python-12.5.0").startswith("sdk-python-12.5.0-")
    assert len(new_request_id("new\nline")) == 32


# ---- status codes ----


def test_the_table_lists_every_code_once() -> None:
    assert len(CODES) > 400
    assert CODES[11008].description == "Invalid API key or Invalid API key/application pair"
    assert (CODES[11102].http_status, CODES[10000].description) == (400, "Ok")
    assert all(entry.description and 200 <= entry.http_status < 600 for entry in CODES.values())


def test_a_status_code_by_its_number() -> None:
    async def look_up(wanted: str) -> Answer:
        async def read() -> Message:
            return service_pb2.GetStatusCodeRequest(status_code_id=wanted)

        answer: Answer = await call(make(status_code_handlers(CODES)), "GetStatusCode", read=read)
        return answer

    with structlog.testing.capture_logs() as logs:
        found = asyncio.run(look_up("21200"))
        unknown, odd = asyncio.run(look_up("5")), asyncio.run(look_up("x"))
    assert (status_of(found).code, status_of(found).details, found.http_status) == (21200, "MODEL_DOES_NOT_EXIST", 200)
    assert (status_of(unknown).code, unknown.http_status) == (11101, 404)
    assert (status_of(odd).code, odd.http_status) == (11100, 400)
    assert [line["code"] for line in logs] == [10000, 11101, 11100], "looking up a failure is not one"


# ---- bodies ----


def read_body(events: list[dict[str, Any]], content_length: int | None = None, **changes: Any) -> bytes:
    settings: dict[str, Any] = {"max_bytes": 10, "max_held_bytes": 15, "idle_s": 1.0, "total_s": 1.0, **changes}
    reader = BodyReader(**settings)

    async def receive() -> dict[str, Any]:
        if events:
            return events.pop(0)
        await asyncio.Event().wait()
        raise AssertionError

    async def read() -> bytes:
        with reader.lease() as lease:
            body = await lease.read(receive, content_length)
        assert reader._held.size == 0
        return body

    return asyncio.run(read())


def piece(body: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


def test_a_body_in_pieces() -> None:
    assert read_body([piece(b"abc", True), piece(b"def")]) == b"abcdef"


@pytest.mark.parametrize(
    ("events", "length", "changes", "code"),
    [
        ([], 11, {}, 40033),
        ([piece(b"x" * 6, True), piece(b"x" * 6)], None, {}, 40033),
        ([piece(b"x" * 6)], None, {"max_held_bytes": 5}, 40031),
        ([piece(b"x", True)], None, {"idle_s": 0.01}, 40032),
        ([piece(b"x", True)], None, {"total_s": 0.01}, 40032),
        ([piece(b"x", True), {"type": "http.disconnect"}], None, {}, 11100),
    ],
)
def test_a_body_out_of_bounds(events: list[Any], length: int | None, changes: dict[str, Any], code: int) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 (the code says which)
        read_body(events, length, **changes)
    assert caught.value.code == code  # type: ignore[attr-defined]
