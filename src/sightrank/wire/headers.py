"""Headers of every answer.

CORS: pages of any origin may call the API, because Clarifai's fetch examples run in browsers (api-spec 1.2). That gives
a page nothing it has no key for: rpcs read no cookies, and browsers keep answers to requests with cookies from pages
when the origin is "*".

Hosted images are opened by a cookie too. Were every origin told that it may send cookies, any page that somebody visits
could read what the cookie opens. So only pages of the host that was asked are told so: a cookie belongs to a host, and
those on other ports of it have it anyway.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from email.utils import formatdate
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Message, Scope, Send

#: Headers clients send; "*" would not cover Authorization. Others are allowed as a page asks for them: libraries and
#: tracing add some of their own, and none of them gives a page what it has no key for.
_HEADERS = ("Authorization", "Content-Type", "Accept", "Python-Client", "X-Clarifai-Request-ID-Prefix")
_KNOWN = frozenset(name.lower() for name in _HEADERS)
#: A token (RFC 9110, 5.6.2), and no longer than names are.
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_MOST_NAMES = 64
_ANY_ORIGIN = [(b"access-control-allow-origin", b"*")]
_NOT_NOW = 503
#: In seconds, and for pages too.
_LATER = [(b"retry-after", b"1"), (b"access-control-expose-headers", b"Retry-After")]
#: The paths that are opened by cookies.
_BY_COOKIE = "/media/"


def with_common_headers(scope: Scope, send: Send) -> Send:
    """``send`` with the date and the allowed origin on every answer, errors included; one that says "not now" says when
    to come back."""
    origin = _origin(scope)

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            date = (b"date", formatdate(usegmt=True).encode())
            later = _LATER if message["status"] == _NOT_NOW else []
            message = {**message, "headers": [*message.get("headers", ()), date, *origin, *later]}
        await send(message)

    return send_with_headers


def _origin(scope: Scope) -> list[tuple[bytes, bytes]]:
    if not scope["path"].startswith(_BY_COOKIE):
        return _ANY_ORIGIN
    headers = Headers(scope=scope)
    asking = headers.get("origin", "")
    vary = (b"vary", b"Origin")
    if not _is_of_host(asking, headers.get("host", ""), scope["scheme"]):
        return [*_ANY_ORIGIN, vary]
    allowed = (b"access-control-allow-origin", asking.encode("latin-1"))
    return [allowed, (b"access-control-allow-credentials", b"true"), vary]


def _is_of_host(origin: str, host: str, scheme: str) -> bool:
    """Whether a page is of the host that was asked, on any port; of one with TLS only if it came by TLS itself."""
    try:
        asking, asked = urlsplit(origin), urlsplit(f"//{host}")
        names = asking.hostname, asked.hostname
    except ValueError:
        return False
    schemes = ("https",) if scheme == "https" else ("http", "https")
    written = f"{asking.scheme}://{asking.netloc}"  # an origin is this and nothing more
    if names[0] != names[1] or not names[0] or "@" in origin:
        return False
    return asking.scheme in schemes and origin == written


def preflight_headers(request_headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """What a preflight is told: all methods, the known headers and those it asks for, as far as they are names."""
    asked = [value.decode("latin-1") for name, value in request_headers if name == b"access-control-request-headers"]
    names = [name.strip() for name in ",".join(asked).split(",")[:_MOST_NAMES]]
    allowed = {name.lower(): name for name in names if _NAME.fullmatch(name)}
    others = [name for key, name in allowed.items() if key not in _KNOWN]
    return [
        (b"access-control-allow-methods", b"GET, POST, PATCH, PUT, DELETE"),
        (b"access-control-allow-headers", ", ".join([*_HEADERS, *others]).encode("latin-1")),
        (b"access-control-max-age", b"86400"),
    ]
