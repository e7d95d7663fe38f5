"""The server with toy handlers, called by the official clients over every port and protocol."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import re
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest
import structlog
from clarifai_grpc.channel.clarifai_channel import ClarifaiChannel
from clarifai_grpc.grpc.api import resources_pb2, service_pb2, service_pb2_grpc
from google.protobuf.message import Message
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from tests.rest_paths import binding_path

from sightrank.api.call import Call
from sightrank.errors import CredentialMissing, DoesNotExist, KeyInvalid
from sightrank.wire.options import MIB, WireOptions
from sightrank.wire.server import PortTakenError, WireServer
from sightrank.wire.service import read_service

#: Request ids of calls whose handler was cancelled.
CANCELLED: list[str] = []

#: Inputs whose reading takes a while.
PAUSES_S = {"slow": 0.4, "endless": 100.0}

KEY = (("authorization", "Key good"),)


@pytest.fixture(autouse=True)
def quiet() -> Any:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


async def authenticate(rpc: str, key: str | None, request: Message, request_id: str) -> Call:
    if rpc not in ("ListStatusCodes", "GetStatusCode") and key is None:
        raise CredentialMissing("Send `Authorization: Key …`.")
    if key not in (None, "good"):
        raise KeyInvalid()
    return Call(rpc=rpc, request_id=request_id, caller=None, app=None)


async def echo_inputs(call: Call, request: Any) -> Message:
    return service_pb2.MultiInputResponse(inputs=request.inputs)


async def get_input(call: Call, request: Any) -> Message:
    if request.input_id == "missing":
        raise DoesNotExist(f"There is no input `{request.input_id}`.")
    if request.input_id in PAUSES_S:
        try:
            await asyncio.sleep(PAUSES_S[request.input_id])
        except asyncio.CancelledError:
            CANCELLED.append(call.request_id)
            raise
    user = request.user_app_id
    return service_pb2.SingleInputResponse(
        input=resources_pb2.Input(id=request.input_id, dataset_ids=[user.user_id, user.app_id])
    )


async def list_inputs(call: Call, request: Any) -> Message:
    count = request.per_page if request.page <= 1 else 0
    return service_pb2.MultiInputResponse(inputs=[resources_pb2.Input(id=f"i{index}") for index in range(count)])


async def hello(request: Request) -> Response:
    return PlainTextResponse("hello")


async def peer(request: Request) -> Response:
    assert request.client is not None
    return PlainTextResponse(f"{request.url.scheme} {request.client.host}")


async def broken(request: Request) -> Response:
    raise RuntimeError("secret")


HANDLERS = {"PostInputs": echo_inputs, "GetInput": get_input, "ListInputs": list_inputs}
ROUTES = [Route("/hello", hello), Route("/peer", peer), Route("/broken", broken)]


async def ready() -> bool:
    return True


def make_server(is_ready: Callable[[], Awaitable[bool]] = ready, **changes: Any) -> WireServer:
    options = WireOptions(**{"grpc_port": 0, "http_port": 0, **changes})
    return WireServer(HANDLERS, authenticate, is_ready, options, extra_routes=lambda dispatcher: ROUTES)


def with_server(use: Callable[[WireServer], Coroutine[Any, Any, None]], **changes: Any) -> None:
    async def run() -> None:
        async with make_server(**changes) as server:
            await use(server)

    asyncio.run(run())


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not happened():  # noqa: ASYNC110 (what is waited for is inside the server)
            await asyncio.sleep(0.01)


def running(server: WireServer) -> int:
    return server._dispatcher._load.running


def web(server: WireServer) -> httpx.AsyncClient:
    headers = {"authorization": "Key good"}
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.ports.http}", headers=headers, timeout=30)


# ---- the official clients ----


def use_stub(stub: Any) -> None:
    """What a program does: post, read back, page past the end, fail."""
    concepts = [resources_pb2.Concept(id="cat", value=0), resources_pb2.Concept(id="dog", value=1)]
    data = resources_pb2.Data(concepts=concepts, image=resources_pb2.Image(base64=b"\x00\xff" * 500))
    data.metadata.update({"a": {"b": [1, 2.5, None]}})
    sent = resources_pb2.Input(id="one", data=data)
    response = stub.PostInputs(service_pb2.PostInputsRequest(inputs=[sent]), metadata=KEY)
    assert response.status.code == 10000
    assert response.status.req_id.startswith("python-json-") or len(response.status.req_id) == 32
    assert response.inputs[0] == sent

    app = resources_pb2.UserAppIDSet(user_id="me", app_id="main")
    one = stub.GetInput(service_pb2.GetInputRequest(user_app_id=app, input_id="x y"), metadata=KEY)
    assert (one.input.id, list(one.input.dataset_ids)) == ("x y", ["me", "main"])

    page = stub.ListInputs(service_pb2.ListInputsRequest(page=1000, per_page=500), metadata=KEY)
    assert [field.name for field, _ in page.ListFields()] == ["status"]

    missing = stub.GetInput(service_pb2.GetInputRequest(input_id="missing"), metadata=KEY)
    assert (missing.status.code, missing.status.description) == (11101, "Resource does not exist")
    wrong = stub.ListInputs(service_pb2.ListInputsRequest(), metadata=(("authorization", "Key bad"),))
    assert wrong.status.description == "Invalid API key or Invalid API key/application pair"
    unbuilt = stub.ListModels(service_pb2.ListModelsRequest(), metadata=KEY)
    assert (unbuilt.status.code, list(unbuilt.models)) == (10040, [])


@pytest.mark.parametrize("port", ["grpc", "http"])
def test_insecure_grpc_channel(port: str) -> None:
    async def use(server: WireServer) -> None:
        def program() -> None:
            with ClarifaiChannel.get_insecure_grpc_channel("127.0.0.1", getattr(server.ports, port)) as channel:
                use_stub(service_pb2_grpc.V2Stub(channel))

        await asyncio.to_thread(program)

    with_server(use)


def test_json_channel() -> None:
    async def use(server: WireServer) -> None:
        def program() -> None:
            channel = ClarifaiChannel.get_json_channel(f"http://127.0.0.1:{server.ports.http}")
            with channel.session:
                use_stub(service_pb2_grpc.V2Stub(channel))

        await asyncio.to_thread(program)

    with_server(use)


@pytest.mark.parametrize("port", ["grpc", "http"])
def test_large_messages_both_ways(port: str) -> None:
    image = resources_pb2.Image(base64=bytes(9 * MIB))
    sent = resources_pb2.Input(id="big", data=resources_pb2.Data(image=image))

    async def use(server: WireServer) -> None:
        address = getattr(server.ports, port)
        async with ClarifaiChannel.get_aio_insecure_grpc_channel("127.0.0.1", address) as channel:
            stub = service_pb2_grpc.V2Stub(channel)
            calls = [stub.PostInputs(service_pb2.PostInputsRequest(inputs=[sent]), metadata=KEY) for _ in range(3)]
            answers = await asyncio.gather(*calls)
        assert all(answer.inputs[0] == sent for answer in answers)

    with_server(use)


def test_a_large_body_over_rest() -> None:
    text = "A" * (8 * MIB)

    async def use(server: WireServer) -> None:
        async with web(server) as client:
            response = await client.post("/v2/inputs", json={"inputs": [{"data": {"image": {"base64": text}}}]})
        assert response.json()["inputs"][0]["data"]["image"]["base64"] == text

    with_server(use)


# ---- every rpc ----


def test_every_unbuilt_rpc_answers_over_grpc_and_rest() -> None:
    rpcs = [rpc for rpc in read_service().values() if rpc.name not in HANDLERS]
    rpcs = [rpc for rpc in rpcs if not rpc.name.endswith(("StatusCode", "StatusCodes"))]

    async def over_grpc(server: WireServer) -> None:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.ports.grpc}") as channel:
            for rpc in rpcs:
                if rpc.request_stream:
                    call = channel.stream_stream(rpc.path)(iter([b""]))
                    raw = await anext(aiter(call))
                elif rpc.response_stream:
                    raw = await anext(aiter(channel.unary_stream(rpc.path)(b"")))
                else:
                    raw = await channel.unary_unary(rpc.path)(b"")
                response: Any = rpc.response_type()
                response.MergeFromString(raw)
                assert response.status.code == 10040, rpc.name

    async def over_rest(server: WireServer) -> None:
        async with web(server) as client:
            for rpc in rpcs:
                # First bindings only: PatchRunners and StreamLogEntries state paths of other rpcs (see the route test).
                binding = rpc.bindings[0]
                path = binding_path(binding, dict.fromkeys(re.findall(r"{([^}]*)}", binding.template), "x"))
                response = await client.request(binding.method, path)
                assert response.status_code == 501, rpc.name
                assert response.json()["status"]["code"] == 10040

    async def use(server: WireServer) -> None:
        await over_grpc(server)
        await over_rest(server)

    with_server(use)


def test_grpc_errors_are_in_band_unless_the_method_is_unknown() -> None:
    async def use(server: WireServer) -> None:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.ports.http}") as channel:
            raw = await channel.unary_unary("/clarifai.api.V2/PostInputs")(b"\xff\xff\xff", metadata=KEY)
            response = service_pb2.MultiInputResponse.FromString(raw)
            assert response.status.code == 11100
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary("/clarifai.api.V2/Nothing")(b"")
            assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED

    with_server(use)


def test_a_client_deadline_is_kept() -> None:
    CANCELLED.clear()

    async def use(server: WireServer) -> None:
        async with ClarifaiChannel.get_aio_insecure_grpc_channel("127.0.0.1", server.ports.grpc) as channel:
            stub = service_pb2_grpc.V2Stub(channel)
            await stub.GetInput(service_pb2.GetInputRequest(input_id="first"), metadata=KEY)  # it is connected
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.GetInput(service_pb2.GetInputRequest(input_id="endless"), metadata=KEY, timeout=0.5)
            assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            await until(lambda: len(CANCELLED) == 1)

    with_server(use)


# ---- REST ----


def test_rest_reads_what_people_write() -> None:
    async def use(server: WireServer) -> None:
        async with web(server) as client:
            plain = {"content-type": "text/plain;charset=UTF-8"}
            body = '{"user_app_id": {"app_id": "other"}, "inputs": [{"data": {"concepts": [{"id": "a"}]}}]}'
            response = await client.post("/v2/inputs/", content=body, headers=plain)
            assert response.json()["inputs"][0]["data"]["concepts"] == [{"id": "a", "value": 1.0}]
            path = "/v2/users/me/apps/main/inputs/x?user_app_id.app_id=other"
            assert (await client.get(path)).json()["input"]["dataset_ids"] == ["me", "main"]
            assert len((await client.get("/v2/inputs?perPage=3&page=1")).json()["inputs"]) == 3
            with_body = await client.request("GET", "/v2/inputs?page=1", content=b'{"per_page": 2}')
            assert len(with_body.json()["inputs"]) == 2

    with_server(use)


def test_rest_errors_are_json_with_open_origin() -> None:
    async def use(server: WireServer) -> None:
        async with web(server) as client:
            for method, path, http_status, code in [
                ("GET", "/v2/inputs/missing", 404, 11101),
                ("GET", "/v2/nothing", 404, 11101),
                ("GET", "/favicon.ico", 404, 11101),
                ("GET", "/hello/", 404, 11101),
                ("POST", "/hello/", 404, 11101),
                ("PUT", "/v2/inputs", 405, 11103),
                ("POST", "/hello", 405, 11103),
                ("GET", "/broken", 500, 99009),
                ("GET", "/v2/inputs?page=x", 400, 11100),
                ("GET", "/v2/models", 501, 10040),
            ]:
                response = await client.request(method, path)
                status = response.json()["status"]
                assert (response.status_code, status["code"]) == (http_status, code), path
                assert response.headers["access-control-allow-origin"] == "*"
                assert status["req_id"]
                assert "secret" not in response.text
            broken_json = await client.post("/v2/inputs", content=b'{"inputs": [\n{"id": a}]}')
            assert "line 2, column 8" in broken_json.json()["status"]["details"]
            no_key = await client.get("/v2/inputs", headers={"authorization": ""})
            assert (no_key.status_code, no_key.json()["status"]["code"]) == (401, 11102)

    with_server(use)


def test_pages_that_are_no_rpc() -> None:
    state = {"ready": False}

    async def is_ready() -> bool:
        return state["ready"]

    async def use(server: WireServer) -> None:
        async with web(server) as client:
            del client.headers["authorization"]
            assert (await client.get("/healthz")).json() == {"status": "alive"}
            assert (await client.get("/readyz")).status_code == 503
            state["ready"] = True
            assert (await client.get("/readyz")).status_code == 200
            assert (await client.get("/v2/auth/methods")).json()["status"]["code"] == 10000
            assert (await client.get("/hello")).text == "hello"
            assert (await client.get("/peer")).text == "http 127.0.0.1"
            assert len((await client.get("/v2/status_codes")).json()["statuses"]) > 400
            code = (await client.get("/v2/status_codes/11008")).json()["status"]
            assert (code["code"], code["details"]) == (11008, "CONN_KEY_INVALID")

    async def run() -> None:
        async with make_server(is_ready) as server:
            await use(server)

    asyncio.run(run())


def test_preflight() -> None:
    async def use(server: WireServer) -> None:
        asked = {
            "origin": "https://page.example",
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization,content-type,x-clarifai-request-id-prefix,x-clarifai-new",
        }
        async with web(server) as client:
            response = await client.options("/v2/annnotations/searches", headers=asked)
        assert response.status_code == 204
        assert response.headers["access-control-allow-origin"] == "*"
        assert "POST" in response.headers["access-control-allow-methods"]
        allowed = response.headers["access-control-allow-headers"].lower()
        assert all(name in allowed for name in asked["access-control-request-headers"].split(","))

    with_server(use)


def allowed_headers(asked: str) -> list[str]:
    """What a preflight that asks for these headers is told, in lower case."""
    found: list[str] = []

    async def use(server: WireServer) -> None:
        headers = {
            "origin": "https://page.example",
            "access-control-request-method": "GET",
            "access-control-request-headers": asked,
        }
        async with web(server) as client:
            answer = await client.options("/v2/inputs", headers=headers)
        assert answer.status_code == 204
        found.extend(answer.headers["access-control-allow-headers"].lower().split(", "))

    with_server(use)
    return found


def test_a_page_may_send_whatever_headers_it_has() -> None:
    added = ["x-requested-with", "traceparent", "baggage", "if-none-match", "x-grpc-web", "~odd|but.'fine`"]
    usual = allowed_headers("")

    assert allowed_headers(",".join(added)) == [*usual, *added]
    assert allowed_headers("Accept ,, AUTHORIZATION, baggage, Baggage") == [*usual, "baggage"]


@pytest.mark.parametrize("wrong", ["a b", "x:1", "x/y", "<b>", "(x)", "x" * 65, '"x"'])
def test_only_names_of_headers_are_allowed(wrong: str) -> None:
    assert allowed_headers(f"before, {wrong}, after")[-2:] == ["before", "after"]


def test_a_preflight_answers_in_few_words() -> None:
    assert len(allowed_headers(",".join(f"x{number}" for number in range(1000)))) < 100


@pytest.mark.parametrize("place", ["/v2/users/me/apps/été/inputs/ü", "/v2/inputs/ü?user_app_id.app_id=été"])
@pytest.mark.parametrize("pieces", [1, 2, 200])
def test_a_url_may_hold_utf8_as_it_is_typed(place: str, pieces: int) -> None:
    head = f"GET {place} HTTP/1.1\r\nHost: sightrank\r\nAuthorization: Key good\r\nX-Name: ü\r\n\r\n".encode()

    async def use(server: WireServer) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.ports.http)
        for _ in range(2):  # the second request of a connection as the first
            size = -(-len(head) // pieces)
            for start in range(0, len(head), size):
                writer.write(head[start : start + size])
                await writer.drain()
                await asyncio.sleep(0)
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200 ")
            (length,) = re.findall(rb"content-length: (\d+)", answer)
            found = json.loads(await reader.readexactly(int(length)))["input"]
            assert (found["id"], found["dataset_ids"][-1]) == ("ü", "été")
        writer.close()

    with_server(use)


def test_a_busy_server_says_when_to_come_back() -> None:
    async def use(server: WireServer) -> None:
        async with web(server) as client:
            fine = await client.get("/v2/inputs")
            endless = asyncio.create_task(client.get("/v2/inputs/endless"))
            await until(lambda: running(server) == 1)
            busy = await client.get("/v2/inputs")
            endless.cancel()
            await asyncio.gather(endless, return_exceptions=True)
        assert (busy.status_code, busy.json()["status"]["code"]) == (503, 40031)
        assert busy.headers["retry-after"] == "1"
        assert busy.headers["access-control-expose-headers"] == "Retry-After"
        assert (fine.status_code, "retry-after" in fine.headers) == (200, False)

    with_server(use, max_running=1)


def test_a_body_may_be_as_much_longer_as_base64_is() -> None:
    async def use(server: WireServer) -> None:
        async with web(server) as client:
            body = b"{" + b" " * (4 * MIB // 3 - 2) + b"}"
            fits = await client.post("/v2/inputs", content=body)
            longer = await client.post("/v2/inputs", content=body + b" ")
        assert fits.status_code != 413
        assert longer.status_code == 413

    with_server(use, max_message_bytes=MIB)


BODY = b'{"inputs": [{"id": "a"}]}'


def raw_deflate(data: bytes) -> bytes:
    """Without the frame of zlib, as some clients send what they call deflate."""
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", gzip.compress(BODY)),
        ("X-GZip", gzip.compress(BODY)),
        ("deflate", zlib.compress(BODY)),
        ("deflate", raw_deflate(BODY)),
        ("identity", BODY),
        ("", BODY),
        ("gzip", gzip.compress(BODY + b" " * MIB)),
    ],
    ids=["gzip", "x-gzip", "zlib", "deflate", "identity", "none", "many pieces"],
)
def test_a_packed_body_is_unpacked(coding: str, body: bytes) -> None:
    async def use(server: WireServer) -> None:
        async with web(server) as client:
            answer = await client.post("/v2/inputs", content=body, headers={"content-encoding": coding})
            assert [item["id"] for item in answer.json()["inputs"]] == ["a"]
            assert server.app._bodies._held.size == 0

    with_server(use)


@pytest.mark.parametrize(
    ("coding", "body", "told"),
    [
        ("br", BODY, "Content-Encoding 'br'"),
        ("gzip, gzip", gzip.compress(gzip.compress(BODY)), "Content-Encoding 'gzip, gzip'"),
        ("gzip", BODY, "Content-Encoding: gzip"),
        ("gzip", gzip.compress(BODY)[:-9], "Content-Encoding: gzip"),
        ("gzip", gzip.compress(BODY) + b"more", "Content-Encoding: gzip"),
        ("deflate", BODY, "Content-Encoding: deflate"),
    ],
    ids=["unknown", "twice", "not packed", "broken off", "more after it", "no deflate"],
)
def test_a_body_that_cannot_be_unpacked_is_refused_by_its_header(coding: str, body: bytes, told: str) -> None:
    async def use(server: WireServer) -> None:
        async with web(server) as client:
            answer = await client.post("/v2/inputs", content=body, headers={"content-encoding": coding})
        status = answer.json()["status"]
        assert (answer.status_code, status["code"]) == (400, 11100)
        assert told in status["details"]

    with_server(use)


def test_a_packed_body_is_bounded_by_what_it_holds() -> None:
    async def use(server: WireServer) -> None:
        async with web(server) as client:
            for size, status in ((4 * MIB // 3, 400), (4 * MIB // 3 + 1, 413), (200 * MIB, 413)):
                packed = gzip.compress(b"\0" * size)
                answer = await client.post("/v2/inputs", content=packed, headers={"content-encoding": "gzip"})
                assert answer.status_code == status
        assert server.app._bodies._held.size == 0

    with_server(use, max_message_bytes=MIB)


def test_what_packed_bodies_hold_counts_among_all_bodies() -> None:
    async def use(server: WireServer) -> None:
        async with web(server) as client:
            packed = gzip.compress(b" " * 2 * MIB)
            answer = await client.post("/v2/inputs", content=packed, headers={"content-encoding": "gzip"})
        assert (answer.status_code, answer.json()["status"]["code"]) == (503, 40031)

    with_server(use, max_held_bytes=MIB)


@pytest.mark.parametrize("chunked", [False, True])
def test_an_oversized_body_is_413(chunked: bool) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 100_000

    async def use(server: WireServer) -> None:
        async with web(server) as client:
            response = await client.post("/v2/inputs", content=pieces() if chunked else b" " * 2_000_000)
            assert (response.status_code, response.json()["status"]["code"]) == (413, 40033)
            # The rest of the body was swallowed: the connection is good for the next request.
            assert (await client.get("/healthz")).status_code == 200

    with_server(use, max_message_bytes=MIB)


def test_an_oversized_message_is_a_transport_error() -> None:
    async def use(server: WireServer) -> None:
        for port in (server.ports.grpc, server.ports.http):
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await channel.unary_unary("/clarifai.api.V2/PostInputs")(bytes(2 * MIB))
                assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED

    with_server(use, max_message_bytes=MIB)


def test_mixed_traffic_at_once() -> None:
    async def use(server: WireServer) -> None:
        async with (
            web(server) as client,
            ClarifaiChannel.get_aio_insecure_grpc_channel("127.0.0.1", server.ports.grpc) as native,
            ClarifaiChannel.get_aio_insecure_grpc_channel("127.0.0.1", server.ports.http) as shared,
        ):
            stubs = [service_pb2_grpc.V2Stub(native), service_pb2_grpc.V2Stub(shared)]

            async def over_grpc(stub: Any, count: int) -> int:
                answer = await stub.ListInputs(service_pb2.ListInputsRequest(per_page=count), metadata=KEY)
                return len(answer.inputs)

            async def over_rest(count: int) -> int:
                return len((await client.get(f"/v2/inputs?per_page={count}")).json()["inputs"])

            counts = list(range(60))
            work = [over_rest(count) for count in counts]
            work += [over_grpc(stub, count) for stub in stubs for count in counts]
            assert await asyncio.gather(*work) == counts * 3

    with_server(use)


# ---- start and stop ----


@pytest.mark.parametrize("port", ["grpc", "http"])
def test_a_taken_port_is_named(port: str) -> None:
    async def use(server: WireServer) -> None:
        taken = getattr(server.ports, port)
        with pytest.raises(PortTakenError, match=f"port {taken}.*--{port}-port"):
            await make_server(**{f"{port}_port": taken}).start()

    with_server(use)


@pytest.mark.parametrize("over", ["grpc", "shared", "rest"])
def test_running_requests_finish_at_shutdown(over: str) -> None:
    async def run() -> None:
        server = make_server()
        ports = await server.start()
        async with (
            web(server) as client,
            ClarifaiChannel.get_aio_insecure_grpc_channel(
                "127.0.0.1", ports.http if over == "shared" else ports.grpc
            ) as channel,
        ):
            stub = service_pb2_grpc.V2Stub(channel)
            if over == "rest":
                call = asyncio.ensure_future(client.get("/v2/inputs/slow"))
            else:
                call = stub.GetInput(service_pb2.GetInputRequest(input_id="slow"), metadata=KEY)
            await until(lambda: running(server) == 1)
            await server.stop(10)
            answer = await call
            found = answer.json()["input"]["id"] if over == "rest" else answer.input.id
            assert found == "slow"
            with pytest.raises(httpx.ConnectError):
                await client.get("/healthz")

    asyncio.run(run())


def test_shutdown_does_not_wait_for_ever() -> None:
    async def run() -> None:
        server = make_server()
        await server.start()
        async with web(server) as client:
            call = asyncio.ensure_future(client.get("/v2/inputs/endless"))
            await until(lambda: running(server) == 1)
            await asyncio.wait_for(server.stop(0.05), 60)
            with pytest.raises(httpx.HTTPError):
                (await call).raise_for_status()

    asyncio.run(run())
