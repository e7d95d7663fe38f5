"""Downloads from URLs that callers chose: the only code that opens outside URLs.

    async with Fetcher(allow=settings.fetch_allow_list()) as fetcher:
        fetched = await fetcher.fetch("https://example.org/cat.jpg", max_bytes=20_000_000)

Every connection goes to an address that ``AddressPolicy`` permits, checked when it is made and again at every redirect.
Bytes, headers, redirects and time are bounded. Proxy variables, netrc files and cookies are ignored. Credentials in a
URL are sent as basic authentication to that origin only and never appear in an error text.
"""

from __future__ import annotations

import email.utils
import io
import ssl
import zlib
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import aiohttp

from sightrank.errors import AppError, InputConnectionFailed, InputFailed, InputInvalidUrl, InputOverLimit
from sightrank.ingest.address import AddressPolicy, parse_address
from sightrank.ingest.resolve import (
    AddressRefusedError,
    Lookup,
    NameUnknownError,
    VettedResolver,
    VettedSockets,
    system_lookup,
)
from sightrank.ingest.slots import HostSlots
from sightrank.ingest.target import Budget, Fetched, FetchLimits, Target, shown

_HEADERS = {"User-Agent": "sightrank", "Accept": "image/*,*/*;q=0.8", "Accept-Encoding": "identity"}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_BUSY = frozenset({429, 502, 503, 504})


class _TryAgainError(Exception):
    """A failure that may pass. ``error`` is what it becomes if not; ``wait_s`` is what the server asked for."""

    def __init__(self, error: AppError, wait_s: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.wait_s = wait_s


class Fetcher:
    """One pool of connections; use it as an async context manager and share it.

    ``allow`` names private networks and hosts that may be fetched (``SIGHTRANK_FETCH_ALLOW``; ValueError when an entry
    is neither). ``lookup`` and ``tls`` replace the machine's resolver and trusted certificates.
    """

    def __init__(
        self,
        *,
        allow: tuple[str, ...] = (),
        limits: FetchLimits | None = None,
        lookup: Lookup = system_lookup,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._limits = limits or FetchLimits()
        self._policy = AddressPolicy(allow)
        self._lookup = lookup
        self._tls = tls
        self._slots = HostSlots(per_host=self._limits.per_host, total=self._limits.total)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        resolver = VettedResolver(self._policy, self._lookup, threads=16)
        connector = aiohttp.TCPConnector(
            resolver=resolver,
            socket_factory=VettedSockets(self._policy, resolver).open,
            ssl=self._tls or True,
            limit=0,  # ``HostSlots`` bounds the connections in use; this only would bound them twice.
            keepalive_timeout=15,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers=_HEADERS,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # a bound on the bytes must hold for what comes out of decompression
            trust_env=False,
            max_line_size=self._limits.header_bytes,
            max_field_size=self._limits.header_bytes,
            timeout=aiohttp.ClientTimeout(
                total=None, connect=self._limits.connect_s, sock_connect=self._limits.connect_s
            ),
        )
        self._resolver = resolver
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            await self._resolver.close()
            self._session = None

    async def fetch(self, url: str, *, max_bytes: int, total_s: float | None = None) -> Fetched:
        """Downloads one http or https URL of at most ``max_bytes`` (after decompression), within ``total_s``.

        The time limit, by default that of all downloads, counts from the moment a turn at the host is free, retries
        and redirects included. Connection failures and 429, 502, 503, 504 are tried again within it. Raises
        InputInvalidUrl (malformed, another scheme, a refused address), InputConnectionFailed (name, connection,
        certificate, time), InputFailed (any status but 2xx, too many redirects, broken HTTP) and InputOverLimit (too
        many bytes).
        """
        target = Target.parse(url)
        total_s = self._limits.total_s if total_s is None else total_s
        budget = Budget(left_s=total_s, retries=self._limits.retries)
        for _ in range(self._limits.redirects + 1):
            answer = await self._answer(target, max_bytes, budget, total_s)
            if isinstance(answer, Fetched):
                return answer
            target = target.follow(answer)
        raise InputFailed(f"Exceeded {self._limits.redirects} redirects for url: {shown(url)}")

    async def _answer(self, target: Target, max_bytes: int, budget: Budget, total_s: float) -> Fetched | str:
        """The content, or the Location of a redirect; tries again what may pass."""
        pause_s = self._limits.retry_pause_s
        while True:
            try:
                async with self._slots.turn(target.host), budget.running():
                    return await self._request(target, max_bytes)
            except TimeoutError:
                raise InputConnectionFailed(
                    f"The download took longer than {total_s:g} s for url: {target.shown}"
                ) from None
            except _TryAgainError as trouble:
                wait_s = pause_s if trouble.wait_s is None else trouble.wait_s
                if not budget.retries or wait_s > min(self._limits.retry_after_s, budget.left_s):
                    raise trouble.error from trouble.__cause__
                await budget.retry_after(wait_s)
                pause_s *= 4

    async def _request(self, target: Target, max_bytes: int) -> Fetched | str:
        if self._session is None:
            raise RuntimeError("Fetcher is an async context manager: use it inside `async with`.")
        address = parse_address(target.host)
        if address is not None and not self._policy.permits(address):
            raise _refused(target)
        headers = {"Authorization": target.authorization} if target.authorization else {}
        try:
            async with self._session.get(target.url, allow_redirects=False, headers=headers) as response:
                if response.status in _REDIRECTS and "Location" in response.headers:
                    return response.headers["Location"]
                _check_status(response, target)
                data = await _body(response, target, max_bytes)
                content_type = response.headers.get("Content-Type", "")
                return Fetched(data=data, content_type=content_type, final_url=str(target.url))
        except (aiohttp.ClientError, NameUnknownError, OSError, ValueError, zlib.error) as error:
            # Our own deadline arrives as CancelledError here, so a TimeoutError is aiohttp's limit on connecting.
            raise _translated(error, target, self._limits) from error


def _check_status(response: aiohttp.ClientResponse, target: Target) -> None:
    status, reason = response.status, (response.reason or "")[:100]
    if 200 <= status < 300:
        return
    kind = "Client Error" if 400 <= status < 500 else "Server Error" if status >= 500 else "Unexpected Answer"
    error = InputFailed(f"{status} {kind}: {reason} for url: {target.shown}")
    if status in _BUSY:
        raise _TryAgainError(error, _retry_after_s(response.headers.get("Retry-After", "")))
    raise error


async def _body(response: aiohttp.ClientResponse, target: Target, max_bytes: int) -> bytes:
    if (response.content_length or 0) > max_bytes:
        raise _too_large(target, max_bytes)
    expand = _expander(response.headers.get("Content-Encoding", ""), target)
    data = io.BytesIO()  # hands its bytes over without a second copy: a video has hundreds of megabytes
    async for chunk in response.content.iter_any():
        # One byte more than fits tells an exact fit from too much; nothing beyond it is ever expanded.
        data.write(expand.decompress(chunk, max_bytes + 1 - data.tell()) if expand else chunk)
        if data.tell() > max_bytes:
            raise _too_large(target, max_bytes)
    if expand and not expand.eof:
        raise InputFailed(f"The compressed content ends early for url: {target.shown}")
    return data.getvalue()


def _expander(encoding: str, target: Target) -> zlib._Decompress | None:
    """For servers that compress although asked not to."""
    name = encoding.strip().lower()
    if name in {"", "identity"}:
        return None
    if name in {"gzip", "x-gzip", "deflate"}:
        return zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # finds out itself whether gzip or zlib
    raise InputFailed(f"The server sent the content as {name[:40]!r}, not as it is, for url: {target.shown}")


def _retry_after_s(value: str) -> float | None:
    """Seconds of a Retry-After header (a number or a date), None when there is none."""
    text = value.strip()
    if text.isdecimal():
        return float(text[:9])
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _translated(error: Exception, target: Target, limits: FetchLimits) -> Exception:
    """An aiohttp failure as the error a caller sees, inside ``_TryAgainError`` where another attempt makes sense."""
    cause = getattr(error, "os_error", error)
    if isinstance(cause, AddressRefusedError):
        return _refused(target)
    if isinstance(error, NameUnknownError):
        unknown = InputConnectionFailed(f"The host name cannot be resolved ({error}) for url: {target.shown}")
        return _TryAgainError(unknown) if error.temporary else unknown
    if isinstance(error, aiohttp.ClientSSLError):
        return InputConnectionFailed(f"No secure connection: {_reason(cause)} for url: {target.shown}")
    if isinstance(error, aiohttp.InvalidURL):
        return InputInvalidUrl(f"The host is not valid in url: {target.shown}")
    if isinstance(error, TimeoutError):
        text = f"No connection within {limits.connect_s:g} s for url: {target.shown}"
        return _TryAgainError(InputConnectionFailed(text))
    if isinstance(error, aiohttp.ClientResponseError):
        return InputFailed(f"The answer is not valid HTTP ({_reason(error)}) for url: {target.shown}")
    if isinstance(error, aiohttp.ClientPayloadError):
        return _TryAgainError(InputConnectionFailed(f"The content ended early for url: {target.shown}"))
    if isinstance(error, zlib.error):
        return InputFailed(f"The compressed content is damaged ({_reason(error)}) for url: {target.shown}")
    if isinstance(error, ValueError):
        return InputInvalidUrl(f"The URL cannot be requested ({_reason(error)}): {target.shown}")
    return _TryAgainError(InputConnectionFailed(f"Connection failed ({_reason(cause)}) for url: {target.shown}"))


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or getattr(error, "message", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0][:200]


def _refused(target: Target) -> InputInvalidUrl:
    return InputInvalidUrl(
        f"{target.host} is, or resolves to, a private or reserved address, which this server does not fetch from; to "
        f"allow it, name the host or its network in SIGHTRANK_FETCH_ALLOW. Url: {target.shown}"
    )


def _too_large(target: Target, max_bytes: int) -> InputOverLimit:
    return InputOverLimit(f"The content is larger than {max_bytes} bytes for url: {target.shown}")
