"""HTTP/1 as uvicorn speaks it, except that a request it cannot read is answered in JSON like every other error, and
that a URL may hold UTF-8 as somebody typed it (``curl "…/concepts?id=été"``), which is no HTTP but plain enough.
"""

from __future__ import annotations

import json
import re

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from sightrank.errors import BadRequestFormat
from sightrank.wire.credentials import new_request_id

_NOT_ASCII = re.compile(rb"[\x80-\xff]")


class Http1Protocol(H11Protocol):
    """One connection. The clients' JSON channels fail on answers that are not JSON objects (api-spec 1.2)."""

    def data_received(self, data: bytes) -> None:
        if not data.isascii() and self._reads_first_line():
            line, newline, rest = data.partition(b"\n")
            data = _NOT_ASCII.sub(lambda found: b"%%%02X" % ord(found[0]), line) + newline + rest
        super().data_received(data)

    def _reads_first_line(self) -> bool:
        """Whether what comes next belongs to the first line of a request."""
        return self.conn.their_state is h11.IDLE and b"\n" not in self.conn.trailing_data[0]

    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn for bytes that are no HTTP request, or for a head beyond its bounds."""
        if self.cycle is None or not self.cycle.response_started:
            self.transport.write(_bad_request("The request is not valid HTTP, or its head is too long."))
        self.transport.close()


def _bad_request(details: str) -> bytes:
    error = BadRequestFormat
    status = {"code": error.code, "description": error.description, "details": details, "req_id": new_request_id()}
    body = json.dumps({"status": status}).encode()
    head = [
        f"HTTP/1.1 {error.http_status} Bad Request",
        "content-type: application/json",
        f"content-length: {len(body)}",
        "access-control-allow-origin: *",
        "connection: close",
    ]
    return "\r\n".join([*head, "", ""]).encode() + body
