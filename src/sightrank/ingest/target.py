"""What a download is: its URL, its limits, the time it has left and what came of it."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self

from yarl import URL

from sightrank.errors import InputInvalidUrl
from sightrank.ingest.address import normal_host

_MAX_URL_CHARACTERS = 8192
_SHOWN_CHARACTERS = 300
_ONLY_URL_CHARACTERS = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+")
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f]")
_CREDENTIALS = re.compile(r"//[^/?#]*@")
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchLimits:
    """Bounds of one download (times in seconds) and of all at once (``per_host``, ``total`` downloads)."""

    total_s: float = 60.0
    connect_s: float = 10.0
    redirects: int = 5
    retries: int = 2
    retry_pause_s: float = 0.2  # before the first, four times that before the next
    retry_after_s: float = 5.0  # a server that asks for a longer pause is not asked again
    header_bytes: int = 16_384
    per_host: int = 8
    total: int = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A download. ``content_type`` is the server's word, ``final_url`` the last redirect's, without credentials."""

    data: bytes
    content_type: str
    final_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One URL to ask: ``url`` without credentials, and these as the value of an Authorization header."""

    url: URL
    authorization: str | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises InputInvalidUrl, with the reason, for what is no http or https URL with a host."""
        stripped = text.strip()
        if len(stripped) > _MAX_URL_CHARACTERS:
            raise InputInvalidUrl(f"The URL is longer than {_MAX_URL_CHARACTERS} characters: {shown(stripped)}")
        return cls._of(_url(stripped), stripped)

    @classmethod
    def _of(cls, url: URL, text: str) -> Self:
        if url.scheme not in _DEFAULT_PORTS:
            raise InputInvalidUrl(f"Only http and https URLs can be fetched, not {shown(text)!r}")
        try:
            host, port = url.host, url.port
            bare = url.with_user(None).with_fragment(None)
        except ValueError as error:
            raise InputInvalidUrl(f"The URL is malformed ({error}): {shown(text)!r}") from None
        if not host or not normal_host(host) or not port or _CONTROL_CHARACTERS.search(host):
            raise InputInvalidUrl(f"The URL names no valid host and port: {shown(text)!r}")
        return cls(url=bare, authorization=_authorization(url))

    @property
    def host(self) -> str:
        return normal_host(self.url.host or "")

    @property
    def shown(self) -> str:
        """The URL for error texts: no credentials, not endless."""
        return shown(str(self.url))

    def follow(self, location: str) -> Self:
        """The target of a redirect; credentials stay with the origin they were given for. Raises InputInvalidUrl."""
        if len(location) > _MAX_URL_CHARACTERS:
            raise InputInvalidUrl(f"The redirect is longer than {_MAX_URL_CHARACTERS} characters: {shown(location)}")
        try:
            joined = self.url.join(_url(location.strip()))
        except ValueError as error:
            raise InputInvalidUrl(f"The redirect's URL is malformed ({error}): {shown(location)!r}") from None
        following = type(self)._of(joined, location)
        authorization = self.authorization if following.url.origin() == self.url.origin() else None
        return type(self)(url=following.url, authorization=authorization)


@dataclass(slots=True)
class Budget:
    """Time and further attempts one download has left. Waiting for a turn costs nothing."""

    left_s: float
    retries: int

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Spends time while inside; raises TimeoutError when it runs out."""
        clock = asyncio.get_running_loop()
        started = clock.time()
        try:
            async with asyncio.timeout(self.left_s):
                yield
        finally:
            self.left_s = max(0.0, self.left_s - (clock.time() - started))

    async def retry_after(self, wait_s: float) -> None:
        """Spends one attempt and the time until it."""
        self.retries -= 1
        self.left_s -= wait_s
        await asyncio.sleep(wait_s)


def shown(url: str) -> str:
    """A URL as error texts show it: without credentials, at most 300 characters."""
    text = _CREDENTIALS.sub("//", url[: _MAX_URL_CHARACTERS * 2], count=1)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def _url(text: str) -> URL:
    if _CONTROL_CHARACTERS.search(text):
        raise InputInvalidUrl(f"The URL has control characters: {shown(text)!r}")
    try:
        # A URL that needs no quoting is sent exactly as given: signed URLs break when their escapes are rewritten.
        return URL(text, encoded=_ONLY_URL_CHARACTERS.fullmatch(text) is not None)
    except (ValueError, TypeError) as error:
        raise InputInvalidUrl(f"The URL is malformed ({error}): {shown(text)!r}") from None


def _authorization(url: URL) -> str | None:
    if url.user is None and url.password is None:
        return None
    pair = f"{url.user or ''}:{url.password or ''}"
    return "Basic " + base64.b64encode(pair.encode()).decode("ascii")
