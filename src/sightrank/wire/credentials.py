"""What the wire reads from request headers: the credential as sent, and the request id of the call."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

AUTHORIZATION = "authorization"
SESSION_TOKEN = "x-clarifai-session-token"  # noqa: S105 (the name of a header)
ID_PREFIX = "x-clarifai-request-id-prefix"

#: The prefix is echoed in answers and logs, so it may hold only what clients are known to send ("python-grpc-12.5.1").
_PREFIX = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Who sent a request, unproven: ``key`` as given in ``Authorization: Key …`` (or a session token), or None."""

    key: str | None
    request_id: str


def read_sender(headers: Iterable[tuple[str, str | bytes]]) -> Sender:
    """The sender of a request by its headers or gRPC metadata, names in lower case; the first of equal names counts."""
    found: dict[str, str] = {}
    for name, value in headers:
        if name in (AUTHORIZATION, SESSION_TOKEN, ID_PREFIX) and isinstance(value, str):
            found.setdefault(name, value)
    key = read_key(found.get(AUTHORIZATION, "")) or found.get(SESSION_TOKEN, "").strip() or None
    return Sender(key=key, request_id=new_request_id(found.get(ID_PREFIX, "")))


def read_key(authorization: str) -> str | None:
    """The key of ``Key <key>``, the scheme in any case; None when the value is blank or of another form."""
    words = authorization.split()
    return words[1] if len(words) == 2 and words[0].lower() == "key" else None


def new_request_id(prefix: str = "") -> str:
    """``<prefix>-<32 hex>``, or ``<32 hex>`` without a usable prefix (api-spec 1.1)."""
    unique = secrets.token_hex(16)
    return f"{prefix}-{unique}" if _PREFIX.fullmatch(prefix) else unique
