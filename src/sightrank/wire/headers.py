"""Headers of every answer.

CORS: pages of any origin may call the API, because Clarifai's fetch examples run in browsers (api-spec 1.2). That gives
a page nothing it has no key for: rpcs read no cookies, and browsers keep answers to requests with cookies from pages
when the origin is "*".
"""

from __future__ import annotations

from collections.abc import Iterable
from email.utils import formatdate

from starlette.types import Message, Send

#: Headers clients send; "*" would not cover Authorization. Other ``x-clarifai-`` names are allowed as asked for.
_HEADERS = ("Authorization", "Content-Type", "Accept", "Python-Client", "X-Clarifai-Request-ID-Prefix")
_ORIGIN = (b"access-control-allow-origin", b"*")


def with_common_headers(send: Send) -> Send:
    """``send`` with the date and the allowed origin on every answer, errors included."""

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            date = (b"date", formatdate(usegmt=True).encode())
            message = {**message, "headers": [*message.get("headers", ()), date, _ORIGIN]}
        await send(message)

    return send_with_headers


def preflight_headers(request_headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """What a preflight is told: all methods, the known headers and every ``x-clarifai-`` header it asks for."""
    asked = [value.decode("latin-1") for name, value in request_headers if name == b"access-control-request-headers"]
    names = [name.strip() for name in ",".join(asked).split(",")]
    own = [name for name in names if name.lower().startswith("x-clarifai-") and name.replace("-", "").isalnum()]
    return [
        (b"access-control-allow-methods", b"GET, POST, PATCH, PUT, DELETE"),
        (b"access-control-allow-headers", ", ".join([*_HEADERS, *own]).encode("latin-1")),
        (b"access-control-max-age", b"86400"),
    ]
