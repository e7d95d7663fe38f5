"""Downloads against real sockets on the loopback: addresses, redirects, limits, retries, TLS."""

from __future__ import annotations

import asyncio
import base64
import datetime
import gzip
import ipaddress
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.ports import free_ports

from sightrank.errors import AppError, InputConnectionFailed, InputFailed, InputInvalidUrl, InputOverLimit
from sightrank.ingest.address import AddressPolicy, parse_address
from sightrank.ingest.fetch import Fetcher
from sightrank.ingest.slots import HostSlots
from sightrank.ingest.target import Fetched, FetchLimits, shown

DEADLINE_S = 20.0

LOOPBACK = ("127.0.0.0/8",)
Writer = asyncio.StreamWriter
Answer = bytes | Callable[["Asked", Writer], Awaitable[None]]


@dataclass
class Asked:
    """One request as the server saw it."""

    path: str
    headers: dict[str, str]
    connection: int


@dataclass
class Server:
    """Answers each path with bytes or by a function; a list is used up answer by answer."""

    answers: dict[str, Answer | list[Answer]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    port: int = 0

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    async def talk(self, reader: asyncio.StreamReader, writer: Writer) -> None:
        self.connections += 1
        number = self.connections
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode("latin-1"):
                first, *lines = head.strip().split("\r\n")
                headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
                asked = Asked(first.split()[1], headers, number)
                self.asked.append(asked)
                answer = self.answers.get(asked.path, reply(404, "Not Found"))
                if isinstance(answer, list):
                    answer = answer.pop(0) if len(answer) > 1 else answer[0]
                if isinstance(answer, bytes):
                    writer.write(answer)
                    await writer.drain()
                else:
                    await answer(asked, writer)
                    return
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


def reply(status: int = 200, reason: str = "OK", body: bytes = b"", **headers: str) -> bytes:
    lines = {"Content-Length": str(len(body)), **{name.replace("_", "-"): value for name, value in headers.items()}}
    head = f"HTTP/1.1 {status} {reason}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return head.encode() + b"\r\n" + body


@asynccontextmanager
async def serving(tls: ssl.SSLContext | None = None, **answers: Any) -> AsyncIterator[Server]:
    server = Server({f"/{name}": answer for name, answer in answers.items()})
    listener = await asyncio.start_server(server.talk, "127.0.0.1", 0, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()


def get(
    url: Callable[[Server], str] | str,
    *,
    max_bytes: int = 10_000,
    allow: tuple[str, ...] = LOOPBACK,
    options: dict[str, Any] | None = None,
    limits: FetchLimits | None = None,
    **answers: Any,
) -> tuple[Fetched | AppError, Server]:
    """Fetches one URL from a fresh server; an AppError is returned, everything else raised."""

    async def run() -> tuple[Fetched | AppError, Server]:
        more = {"limits": limits, **(options or {})}
        async with serving(**answers) as server, Fetcher(allow=allow, **more) as fetcher:
            text = url if isinstance(url, str) else url(server)
            try:
                return await fetcher.fetch(text, max_bytes=max_bytes), server
            except AppError as error:
                return error, server

    return asyncio.run(run())


def test_plain_download() -> None:
    path = "a?x=%2F+~%7E"
    found, server = get(lambda s: s.url(f"/{path}"), **{path: reply(body=b"hello", Content_Type="image/png")})
    assert isinstance(found, Fetched)
    assert (found.data, found.content_type) == (b"hello", "image/png")
    assert found.final_url == server.url("/a?x=%2F+~%7E")
    asked = server.asked[0].headers
    assert asked["user-agent"] == "sightrank"
    assert asked["accept-encoding"] == "identity"
    assert "cookie" not in asked
    assert "authorization" not in asked


def test_urls_that_need_quoting() -> None:
    found, _ = get(lambda s: s.url("/ü b"), **{"%C3%BC%20b": reply(body=b"x")})
    assert isinstance(found, Fetched), found


@pytest.mark.parametrize(
    "url",
    [
        "",
        "cat.jpg",
        "/cat.jpg",
        "ftp://example.org/a",
        "file:///etc/passwd",
        "data:image/png;base64,AAAA",
        "gopher://x/",
        "http://",
        "http:///a",
        "http://[::1",
        "http://example.org:0/",
        "http://example.org:99999/",
        "http://exa\nmple.org/",
        "http://example.org/" + "a" * 9000,
        "http://127.0.0.1.:x/",
        "//example.org/a",
    ],
)
def test_malformed_urls(url: str) -> None:
    found, _ = get(url)
    assert isinstance(found, InputInvalidUrl), found
    assert len(found.details) < 600


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0",
        "0.0.0.0",
        "localhost",
        "LOCALHOST.",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[fe80::1%25lo]",
        "169.254.169.254",
        "[fd00:ec2::254]",
        "100.100.100.200",
        "168.63.129.16",
        "192.168.0.1",
        "10.0.0.1",
        "172.16.3.4",
        "224.0.0.1",
        "255.255.255.255",
        "１２７.0.0.1",
    ],
)
def test_private_hosts_are_refused(host: str) -> None:
    found, server = get(lambda s: s.url("/a", host), allow=(), a=reply(body=b"secret"))
    assert isinstance(found, InputInvalidUrl), found
    assert not server.connections
    if host[0].isdigit() and host.count(".") == 3 and host != "0177.0.0.1":
        assert "SIGHTRANK_FETCH_ALLOW" in found.details


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::8.8.8.8", True),
        ("64:ff9b::10.0.0.1", False),
        ("64:ff9b::169.254.169.254", False),
        ("64:ff9b:1::1", False),
        ("2002:0a00:0001::1", False),
        ("2002:0808:0808::1", True),
        ("2001:0:808:808::1", False),
        ("::10.0.0.1", False),
        ("2606:4700::5efe:10.0.0.1", False),
        ("fec0::1", False),
        ("fc00::1", False),
        ("fe80::1", False),
        ("ff02::1", False),
        ("2001:db8::1", False),
        ("100.64.0.1", False),
        ("198.18.0.1", False),
        ("192.0.2.1", False),
        ("240.0.0.1", False),
        ("192.0.0.192", False),
        ("192.88.99.1", False),
    ],
)
def test_address_policy(address: str, public: bool) -> None:
    parsed = parse_address(address)
    assert parsed is not None
    assert AddressPolicy().permits(parsed) is public
    assert AddressPolicy((f"{address}",)).permits(parsed)


def test_allow_list() -> None:
    policy = AddressPolicy(("10.1.0.0/16", "Pictures.Lan", "fd00::/8"))
    assert policy.permits(ipaddress.ip_address("10.1.2.3"))
    assert policy.permits(ipaddress.ip_address("::ffff:10.1.2.3"))
    assert not policy.permits(ipaddress.ip_address("10.2.2.3"))
    assert policy.permits_host("pictures.lan.")
    assert not policy.permits_host("evil.pictures.lan")
    for entry in ("10.0.0.0/99", "http://x", "", "a b", "*.lan"):
        with pytest.raises(ValueError, match="SIGHTRANK_FETCH_ALLOW"):
            AddressPolicy((entry,))


def test_allowed_host_name_does_not_open_its_address_to_others() -> None:
    async def run() -> None:
        names = {"pictures.lan": ["127.0.0.1"], "evil.org": ["127.0.0.1"]}
        async with serving(a=reply(body=b"ok")) as server:
            async with Fetcher(allow=("pictures.lan",), lookup=lambda host, _: names[host]) as fetcher:
                found = await fetcher.fetch(server.url("/a", "Pictures.LAN").replace("http", "HTTP"), max_bytes=99)
                assert found.data == b"ok"
                for host in ("evil.org", "127.0.0.1"):
                    with pytest.raises(InputInvalidUrl, match="SIGHTRANK_FETCH_ALLOW"):
                        await fetcher.fetch(server.url("/a", host), max_bytes=99)
            assert server.connections == 1

    asyncio.run(run())


def test_name_that_changes_its_answer_gains_nothing() -> None:
    """A resolver that answers public first and private later: whatever is connected to was vetted itself."""
    asked: list[str] = []

    def lookup(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["192.0.2.7"] if len(asked) == 1 else ["127.0.0.1"]

    limits = FetchLimits(connect_s=0.3, total_s=2)
    options = {"lookup": lookup, "limits": limits}
    for _ in range(2):
        found, server = get(lambda s: s.url("/a", "rebind.org"), allow=(), options=options, a=reply())
        assert isinstance(found, InputInvalidUrl)
        assert not server.connections
    assert len(asked) == 2


def test_private_answers_are_dropped_from_mixed_ones() -> None:
    async def run() -> None:
        async with serving(a=reply()) as server:
            limits = FetchLimits(connect_s=0.2, total_s=1, retries=0)
            lookup = {"mixed.org": ["127.0.0.1", "::1"]}
            async with Fetcher(allow=("::1",), limits=limits, lookup=lambda host, _: lookup[host]) as fetcher:
                with pytest.raises(InputConnectionFailed):  # only ::1 is tried, where nobody listens
                    await fetcher.fetch(server.url("/a", "mixed.org"), max_bytes=9)
            assert not server.connections

    asyncio.run(run())


def test_last_check_is_at_the_socket() -> None:
    """Even when an address gets past the checks before it, no socket is made for it."""
    from sightrank.ingest.resolve import AddressRefusedError, VettedResolver, VettedSockets

    async def run() -> None:
        policy = AddressPolicy()
        sockets = VettedSockets(policy, VettedResolver(policy, lambda host, port: [], threads=1))
        with pytest.raises(AddressRefusedError):
            sockets.open((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80)))

    asyncio.run(run())


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(status: int) -> None:
    found, server = get(
        lambda s: s.url("/a/b#part"), **{"a/b": reply(status, "Moved", Location="../c?d"), "c?d": reply(body=b"x")}
    )
    assert isinstance(found, Fetched)
    assert found.final_url == server.url("/c?d")
    assert {asked.connection for asked in server.asked} == {1}


@pytest.mark.parametrize(
    "location",
    [
        "http://10.0.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/",
        "file:///etc/passwd",
        "http://[::",
        "http://evil.org/",
    ],
)
def test_redirect_to_what_is_refused(location: str) -> None:
    options = {"lookup": lambda host, port: ["10.0.0.8"]}
    found, server = get(lambda s: s.url("/a"), options=options, a=reply(302, "Found", Location=location))
    assert isinstance(found, InputInvalidUrl), found
    assert len(server.asked) == 1


def test_too_many_redirects() -> None:
    found, server = get(lambda s: s.url("/a"), a=reply(302, "Found", Location="/a"))
    assert isinstance(found, InputFailed)
    assert found.details.startswith("Exceeded 5 redirects")
    assert len(server.asked) == 6


def test_statuses_as_requests_words_them() -> None:
    found, server = get(lambda s: s.url("/gone"))
    assert isinstance(found, InputFailed)
    assert found.details == f"404 Client Error: Not Found for url: {server.url('/gone')}"
    assert len(server.asked) == 1
    found, server = get(lambda s: s.url("/a"), a=reply(500, "Oops"))
    assert isinstance(found, InputFailed)
    assert found.details == f"500 Server Error: Oops for url: {server.url('/a')}"
    assert len(server.asked) == 1
    found, _ = get(lambda s: s.url("/a"), a=reply(304, "Not Modified"))
    assert isinstance(found, InputFailed)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_busy_servers_are_asked_again(status: int) -> None:
    limits = FetchLimits(retry_pause_s=0.01)
    answers: list[Answer] = [reply(status, "Busy"), reply(status, "Busy"), reply(body=b"x")]
    found, server = get(lambda s: s.url("/a"), limits=limits, a=answers)
    assert isinstance(found, Fetched)
    assert len(server.asked) == 3
    found, server = get(lambda s: s.url("/a"), limits=limits, a=reply(status, "Busy"))
    assert isinstance(found, InputFailed)
    assert found.details.startswith(f"{status} ")
    assert len(server.asked) == 3


def test_retry_after_is_honoured_up_to_a_few_seconds() -> None:
    started = time.monotonic()
    found, _ = get(lambda s: s.url("/a"), a=[reply(503, "Busy", Retry_After="1"), reply(body=b"x")])
    assert isinstance(found, Fetched)
    assert time.monotonic() - started >= 1
    for value in ("3600", "Wed, 21 Oct 2099 07:28:00 GMT"):
        found, server = get(lambda s: s.url("/a"), a=reply(503, "Busy", Retry_After=value))
        assert isinstance(found, InputFailed)
        assert len(server.asked) == 1


def test_announced_length_is_checked_first() -> None:
    async def endless(asked: Asked, writer: Writer) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n")
        await asyncio.sleep(30)

    found, _ = get(lambda s: s.url("/a"), a=endless, limits=FetchLimits(total_s=DEADLINE_S))
    assert isinstance(found, InputOverLimit)  # not of the deadline, which is before the rest would come
    assert "10000 bytes" in found.details


@pytest.mark.parametrize("chunked", [False, True])
def test_endless_body_without_length(chunked: bool) -> None:
    sent = 0

    async def endless(asked: Asked, writer: Writer) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\n" + (b"Transfer-Encoding: chunked\r\n\r\n" if chunked else b"\r\n"))
        while sent < 500_000_000:
            writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n" if chunked else b"x" * 65536)
            sent += 65536
            await writer.drain()

    found, _ = get(lambda s: s.url("/a"), a=endless, max_bytes=100_000)
    assert isinstance(found, InputOverLimit)
    assert sent < 50_000_000


def test_exact_fit() -> None:
    found, _ = get(lambda s: s.url("/a"), a=reply(body=b"x" * 100), max_bytes=100)
    assert isinstance(found, Fetched)
    found, _ = get(lambda s: s.url("/a"), a=reply(body=b"x" * 101), max_bytes=100)
    assert isinstance(found, InputOverLimit)


def test_compression_that_nobody_asked_for() -> None:
    bomb = gzip.compress(b"\0" * 5_000_000)
    assert len(bomb) < 10_000
    found, _ = get(lambda s: s.url("/a"), a=reply(body=bomb, Content_Encoding="gzip"))
    assert isinstance(found, InputOverLimit)
    whole = gzip.compress(b"hello")
    found, _ = get(lambda s: s.url("/a"), a=reply(body=whole, Content_Encoding="gzip"))
    assert isinstance(found, Fetched)
    assert found.data == b"hello"
    for body, encoding in ((whole[:-9], "gzip"), (b"junk", "gzip"), (b"x", "br")):
        found, _ = get(lambda s: s.url("/a"), a=reply(body=body, Content_Encoding=encoding))
        assert isinstance(found, InputFailed), (encoding, found)


def test_slow_body_meets_the_deadline() -> None:
    async def slow(asked: Asked, writer: Writer) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(1000):
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)

    found, server = get(lambda s: s.url("/a"), limits=FetchLimits(total_s=0.5), a=slow)
    assert isinstance(found, InputConnectionFailed)
    assert "longer than 0.5 s" in found.details
    assert len(server.asked) == 1


def test_silent_server_meets_the_deadline() -> None:
    async def silent(asked: Asked, writer: Writer) -> None:
        await asyncio.sleep(30)

    found, _ = get(lambda s: s.url("/a"), limits=FetchLimits(total_s=0.4), a=silent)
    assert isinstance(found, InputConnectionFailed)


def test_a_download_may_have_a_time_limit_of_its_own() -> None:
    async def silent(asked: Asked, writer: Writer) -> None:
        await asyncio.sleep(30)

    async def run() -> None:
        async with serving(a=silent) as server, Fetcher(allow=LOOPBACK, limits=FetchLimits(total_s=30)) as fetcher:
            with pytest.raises(InputConnectionFailed, match=r"longer than 0\.4 s"):
                await fetcher.fetch(server.url("/a"), max_bytes=9, total_s=0.4)

    asyncio.run(run())


def test_body_shorter_than_announced_is_tried_again() -> None:
    async def short(asked: Asked, writer: Writer) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")

    limits = FetchLimits(retry_pause_s=0.01)
    found, server = get(lambda s: s.url("/a"), limits=limits, a=[short, reply(body=b"whole")])
    assert isinstance(found, Fetched)
    assert found.data == b"whole"
    found, server = get(lambda s: s.url("/a"), limits=limits, a=short)
    assert isinstance(found, InputConnectionFailed)
    assert len(server.asked) == 3


def test_broken_http_and_endless_headers() -> None:
    async def noise(asked: Asked, writer: Writer) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.7\r\n\r\n")

    async def long_headers(asked: Asked, writer: Writer) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: %s\r\n" % (i, b"y" * 9000) for i in range(500)))
        writer.write(b"Content-Length: 0\r\n\r\n")

    async def long_field(asked: Asked, writer: Writer) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 40_000 + b"\r\nContent-Length: 0\r\n\r\n")

    for answer in (noise, long_headers, long_field):
        found, _ = get(lambda s: s.url("/a"), a=answer)
        assert isinstance(found, InputFailed), (answer, found)


def test_nobody_listens() -> None:
    (port,) = free_ports(1)
    found, _ = get(f"http://127.0.0.1:{port}/", limits=FetchLimits(retry_pause_s=0.01))
    assert isinstance(found, InputConnectionFailed)
    assert "Connection failed" in found.details


def test_unknown_names() -> None:
    calls: list[str] = []

    def lookup(host: str, port: int) -> list[str]:
        calls.append(host)
        raise socket.gaierror(socket.EAI_NONAME if host == "no.org" else socket.EAI_AGAIN, "Name or service not known")

    found, _ = get("http://no.org/", options={"lookup": lookup})
    assert isinstance(found, InputConnectionFailed)
    assert "cannot be resolved" in found.details
    assert len(calls) == 1
    found, _ = get("http://later.org/", limits=FetchLimits(retry_pause_s=0.01), options={"lookup": lookup})
    assert isinstance(found, InputConnectionFailed)
    assert len(calls) == 4


def test_name_server_that_hangs() -> None:
    found, _ = get(
        "http://slow.org/",
        limits=FetchLimits(connect_s=0.2, total_s=0.5),
        options={"lookup": lambda host, port: time.sleep(0.8) or []},
    )
    assert isinstance(found, InputConnectionFailed)


def test_connections_are_kept() -> None:
    async def run() -> None:
        async with serving(a=reply(body=b"x")) as server, Fetcher(allow=LOOPBACK) as fetcher:
            for _ in range(5):
                await fetcher.fetch(server.url("/a"), max_bytes=9)
            assert server.connections == 1

    asyncio.run(run())


def test_one_slow_host_leaves_the_others_alone() -> None:
    async def run() -> None:
        running = peak = 0
        gate, two = asyncio.Event(), asyncio.Event()

        async def slow(asked: Asked, writer: Writer) -> None:
            nonlocal running, peak
            running += 1
            peak = max(peak, running)
            if running == 2:
                two.set()
            await gate.wait()
            running -= 1
            writer.write(reply(body=b"slow"))

        async with serving(slow=slow, quick=reply(body=b"quick")) as server:
            limits = FetchLimits(per_host=2, total=4, total_s=DEADLINE_S)
            lookup = {"slow.org": ["127.0.0.1"], "quick.org": ["127.0.0.1"]}
            async with Fetcher(allow=LOOPBACK, limits=limits, lookup=lambda host, _: lookup[host]) as fetcher:
                slow_ones = [
                    asyncio.create_task(fetcher.fetch(server.url("/slow", "slow.org"), max_bytes=9)) for _ in range(8)
                ]
                async with asyncio.timeout(DEADLINE_S):
                    await two.wait()
                quick = await fetcher.fetch(server.url("/quick", "quick.org"), max_bytes=9)
                assert quick.data == b"quick"
                assert not any(one.done() for one in slow_ones)
                gate.set()
                await asyncio.gather(*slow_ones)
                assert peak == 2

    asyncio.run(run())


def test_waiting_for_a_turn_is_not_part_of_the_time() -> None:
    async def run() -> None:
        async def slow(asked: Asked, writer: Writer) -> None:
            await asyncio.sleep(0.3)
            writer.write(reply(body=b"x"))

        async with serving(a=slow) as server:
            limits = FetchLimits(per_host=1, total_s=1.2)
            async with Fetcher(allow=LOOPBACK, limits=limits) as fetcher:
                got = await asyncio.gather(*(fetcher.fetch(server.url("/a"), max_bytes=9) for _ in range(5)))
        assert [fetched.data for fetched in got] == [b"x"] * 5

    asyncio.run(run())


def test_slots_forget_hosts() -> None:
    async def run() -> None:
        slots = HostSlots(per_host=1, total=2)
        async with slots.turn("a"), slots.turn("b"):
            waiting = asyncio.create_task(anext(aiter_of(slots, "a")))
            await asyncio.sleep(0)
            assert len(slots) == 2
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        assert len(slots) == 0

    async def aiter_of(slots: HostSlots, host: str) -> AsyncIterator[None]:
        async with slots.turn(host):
            yield

    asyncio.run(run())


def test_credentials_are_sent_once_and_never_shown() -> None:
    async def run() -> None:
        async with serving(a=reply(302, "Found", Location="/b"), b=reply(body=b"x")) as server:
            other = server.url("/b", "other.org")
            server.answers["/c"] = reply(302, "Found", Location=other)
            names = {"other.org": ["127.0.0.1"]}
            async with Fetcher(allow=LOOPBACK, lookup=lambda host, _: names[host]) as fetcher:
                for path in ("/a", "/c"):
                    url = server.url(path).replace("//", "//ann:s%40cret@")
                    found = await fetcher.fetch(url, max_bytes=9)
                    assert "cret" not in found.final_url
                with pytest.raises(InputFailed) as caught:
                    await fetcher.fetch(server.url("/none").replace("//", "//ann:s%40cret@"), max_bytes=9)
                assert "cret" not in caught.value.details
            sent = [asked.headers.get("authorization") for asked in server.asked]
            basic = "Basic " + base64.b64encode(b"ann:s@cret").decode()
            assert sent == [basic, basic, basic, None, basic]

    asyncio.run(run())
    assert shown("http://a:b@c@host/x@y") == "http://host/x@y"


def test_environment_is_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    found, server = get(lambda s: s.url("/a"), a=reply(body=b"x"))
    assert isinstance(found, Fetched)
    assert "authorization" not in server.asked[0].headers


def test_cookies_are_not_kept() -> None:
    found, server = get(lambda s: s.url("/a"), a=reply(302, "F", Location="/b", Set_Cookie="k=v"), b=reply(body=b"x"))
    assert isinstance(found, Fetched)
    assert "cookie" not in server.asked[1].headers


def test_cancellation_frees_the_turn() -> None:
    async def run() -> None:
        async def silent(asked: Asked, writer: Writer) -> None:
            await asyncio.sleep(30)

        limits = FetchLimits(per_host=1)
        async with serving(a=silent, b=reply(body=b"x")) as server, Fetcher(allow=LOOPBACK, limits=limits) as fetcher:
            task = asyncio.create_task(fetcher.fetch(server.url("/a"), max_bytes=9))
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await fetcher.fetch(server.url("/b"), max_bytes=9)).data == b"x"

    asyncio.run(run())


def certificate(folder: Path, host: str) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    chain, secret = folder / "cert.pem", folder / "key.pem"
    chain.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return chain, secret


def test_tls_checks_the_name_in_the_url(tmp_path: Path) -> None:
    chain, secret = certificate(tmp_path, "pictures.test")
    names: list[str | None] = []
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(chain, secret)
    server_side.sni_callback = lambda connection, name, context: names.append(name)
    trusting = ssl.create_default_context(cafile=str(chain))

    async def run() -> None:
        async with serving(server_side, a=reply(body=b"x")) as server:
            lookup = {"pictures.test": ["127.0.0.1"], "other.test": ["127.0.0.1"]}
            async with Fetcher(allow=LOOPBACK, lookup=lambda host, _: lookup[host], tls=trusting) as fetcher:
                url = server.url("/a", "pictures.test").replace("http:", "https:")
                assert (await fetcher.fetch(url, max_bytes=9)).data == b"x"
                with pytest.raises(InputConnectionFailed, match="secure"):
                    await fetcher.fetch(url.replace("pictures", "other"), max_bytes=9)
            async with Fetcher(allow=LOOPBACK, lookup=lambda host, _: lookup[host]) as fetcher:
                with pytest.raises(InputConnectionFailed, match="secure"):
                    await fetcher.fetch(url, max_bytes=9)

    asyncio.run(run())
    assert names[:2] == ["pictures.test", "other.test"]
