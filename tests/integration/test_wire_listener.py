"""The shared ports: TLS for gRPC, curl and browsers, clients that dawdle, and connections beyond the bound."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import json
import logging
import shutil
import ssl
import subprocess
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from clarifai_grpc.channel.clarifai_channel import ClarifaiChannel
from clarifai_grpc.grpc.api import resources_pb2, service_pb2, service_pb2_grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf.message import Message

from sightrank.api.call import Call
from sightrank.wire.listener import HTTP2_PREFACE
from sightrank.wire.options import MIB, WireOptions
from sightrank.wire.server import WireServer
from sightrank.wire.tls import CertificateError

KEY = (("authorization", "Key good"),)
Use = Callable[[WireServer], Coroutine[Any, Any, None]]


@pytest.fixture(autouse=True)
def quiet() -> Any:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for this machine's loopback address, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    built = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    built = built.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    signed = built.add_extension(x509.SubjectAlternativeName(names), critical=False).sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    paths = folder / "cert.pem", folder / "key.pem"
    paths[0].write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(private)
    return paths


async def authenticate(rpc: str, key: str | None, request: Message, request_id: str) -> Call:
    return Call(rpc=rpc, request_id=request_id, caller=None, app=None)


async def echo_inputs(call: Call, request: Any) -> Message:
    return service_pb2.MultiInputResponse(inputs=request.inputs)


async def list_inputs(call: Call, request: Any) -> Message:
    return service_pb2.MultiInputResponse()


async def ready() -> bool:
    return True


def with_server(use: Use, **changes: Any) -> None:
    handlers = {"PostInputs": echo_inputs, "ListInputs": list_inputs}

    async def run() -> None:
        options = WireOptions(**{"grpc_port": 0, "http_port": 0, **changes})
        async with WireServer(handlers, authenticate, ready, options) as server:
            await use(server)

    asyncio.run(run())


def with_tls(use: Use, certificate: tuple[Path, Path], **changes: Any) -> None:
    with_server(use, tls_port=0, tls_cert=certificate[0], tls_key=certificate[1], **changes)


# ---- TLS ----


def test_grpc_over_tls(certificate: tuple[Path, Path]) -> None:
    async def use(server: WireServer) -> None:
        address = f"127.0.0.1:{server.ports.tls}"
        image = resources_pb2.Image(base64=bytes(5 * MIB))
        sent = resources_pb2.Input(id="a", data=resources_pb2.Data(image=image))
        async with ClarifaiChannel.get_aio_grpc_channel(address, str(certificate[0])) as channel:
            stub = service_pb2_grpc.V2Stub(channel)
            answer = await stub.PostInputs(service_pb2.PostInputsRequest(inputs=[sent]), metadata=KEY)
        assert answer.inputs[0] == sent

        def program() -> int:
            with ClarifaiChannel.get_grpc_channel(address, str(certificate[0])) as channel:
                answer = service_pb2_grpc.V2Stub(channel).ListInputs(service_pb2.ListInputsRequest(), metadata=KEY)
                return int(answer.status.code)

        assert await asyncio.to_thread(program) == 10000

    with_tls(use, certificate)


def test_rest_over_tls(certificate: tuple[Path, Path]) -> None:
    async def use(server: WireServer) -> None:
        context = ssl.create_default_context(cafile=certificate[0])
        url = f"https://127.0.0.1:{server.ports.tls}/v2/inputs"
        for http2 in (False, True):
            async with httpx.AsyncClient(verify=context, http2=http2) as client:
                response = await client.get(url, headers={"authorization": "Key good"})
                assert (response.json()["status"]["code"], response.http_version) == (10000, "HTTP/1.1")

    with_tls(use, certificate)


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (["h2", "http/1.1"], "http/1.1"),
        (["http/1.1"], "http/1.1"),
        (["h2"], "h2"),
        (["grpc-exp", "h2"], "h2"),
        ([], None),
    ],
)
def test_rest_is_preferred_where_a_client_can_do_both(
    certificate: tuple[Path, Path], offered: list[str], chosen: str | None
) -> None:
    async def use(server: WireServer) -> None:
        context = ssl.create_default_context(cafile=certificate[0])
        if offered:
            context.set_alpn_protocols(offered)
        _, writer = await asyncio.open_connection("127.0.0.1", server.ports.tls, ssl=context)
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == chosen
        writer.close()
        await writer.wait_closed()

    with_tls(use, certificate)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("arguments", [[], ["--http2"], ["--http1.1"]])
def test_curl_over_tls(certificate: tuple[Path, Path], arguments: list[str]) -> None:
    async def use(server: WireServer) -> None:
        url = f"https://127.0.0.1:{server.ports.tls}/v2/inputs"
        command = ["curl", "-sk", *arguments, "-H", "Authorization: Key good", "-d", '{"inputs": [{"id": "a"}]}', url]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=True, timeout=20)
        assert b'"inputs":[{"id":"a"}]' in done.stdout

    with_tls(use, certificate)


def test_a_certificate_that_is_not_there(tmp_path: Path) -> None:
    async def nothing(server: WireServer) -> None:
        raise AssertionError

    with pytest.raises(CertificateError, match="--tls-cert"):
        with_server(nothing, tls_port=0)
    with pytest.raises(CertificateError, match=r"none\.pem"):
        with_server(nothing, tls_port=0, tls_cert=tmp_path / "none.pem", tls_key=tmp_path / "none.pem")


# ---- clients that dawdle ----


async def closed_after(port: int, *pieces: bytes, pause_s: float = 0.0) -> float:
    """Send pieces, then wait until the server closes; how long that took."""
    started = asyncio.get_running_loop().time()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(60):
            for piece in pieces:
                writer.write(piece)
                await asyncio.sleep(pause_s)
            await reader.read()
    except ConnectionError:
        pass
    finally:
        writer.close()
    return asyncio.get_running_loop().time() - started


@pytest.mark.parametrize(
    "pieces",
    [
        (),
        (b"PRI * HT",),
        (b"GET /healthz HTTP/1.1\r\n",),
        tuple(b"GET /healthz HTTP/1.1\r\nX: y\r\n"[i : i + 1] for i in range(20)),
    ],
)
def test_a_head_that_never_ends_is_cut(pieces: tuple[bytes, ...]) -> None:
    async def use(server: WireServer) -> None:
        assert 0.2 < await closed_after(server.ports.http, *pieces, pause_s=0.01) < 8

    with_server(use, head_s=0.3)


def test_a_second_head_that_never_ends_is_cut() -> None:
    async def use(server: WireServer) -> None:
        whole = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        took = await closed_after(server.ports.http, whole, b"GET /healthz HT", pause_s=0.1)
        assert 1.0 < took < 10

    with_server(use, head_s=0.3, idle_s=1.0)


def test_a_body_that_never_ends_is_answered_and_cut() -> None:
    async def use(server: WireServer) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.ports.http)
        writer.write(b"POST /v2/inputs HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
        async with asyncio.timeout(60):
            answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 504")
        assert b'"code":40032' in answer
        writer.close()

    with_server(use, body_idle_s=0.2)


def test_a_preface_without_settings_is_cut() -> None:
    async def use(server: WireServer) -> None:
        assert await closed_after(server.ports.http, HTTP2_PREFACE) < 12

    with_server(use, head_s=1.0)


def test_a_tls_handshake_that_never_ends_is_cut(certificate: tuple[Path, Path]) -> None:
    async def use(server: WireServer) -> None:
        assert server.ports.tls is not None
        assert await closed_after(server.ports.tls, b"\x16\x03\x01") < 8

    with_tls(use, certificate, head_s=0.3)


@pytest.mark.parametrize("sent", [b"BLAH BLAH\r\n\r\n", b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n"])
def test_what_is_no_http_is_answered_in_json(sent: bytes) -> None:
    async def use(server: WireServer) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.ports.http)
        writer.write(sent)
        async with asyncio.timeout(60):
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400")
        assert json.loads(body)["status"]["code"] == 11100
        writer.close()

    with_server(use)


def test_a_long_query_is_read() -> None:
    async def use(server: WireServer) -> None:
        ids = "&".join(f"input_ids={index:032x}" for index in range(1000))
        async with httpx.AsyncClient() as client:
            response = await client.get(f"http://127.0.0.1:{server.ports.http}/v2/annotations?{ids}")
        assert response.json()["status"]["code"] == 10040

    with_server(use)


def test_connections_are_bounded() -> None:
    async def use(server: WireServer) -> None:
        held = [await asyncio.open_connection("127.0.0.1", server.ports.http) for _ in range(3)]
        await asyncio.sleep(0.05)
        assert await closed_after(server.ports.http, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n") < 5
        for _, writer in held:
            writer.close()
        await asyncio.sleep(0.05)
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"http://127.0.0.1:{server.ports.http}/healthz")).status_code == 200

    with_server(use, max_connections=3)


def test_the_preface_may_come_in_pieces() -> None:
    async def use(server: WireServer) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.ports.http)
        for start in range(0, len(HTTP2_PREFACE), 5):
            writer.write(HTTP2_PREFACE[start : start + 5])
            await asyncio.sleep(0.01)
        writer.write(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
        # A SETTINGS frame is the first thing an HTTP/2 server says.
        async with asyncio.timeout(60):
            assert (await reader.readexactly(9))[3] == 4
        writer.close()

    with_server(use)
