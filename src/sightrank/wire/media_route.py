"""``GET /media/<size>/<user>/<app>/<input>``: hosted files, for people's browsers and the official SDK's downloads."""

from __future__ import annotations

import asyncio
import re

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from sightrank.api.media import FoundMedia, HostedFile, HostedMedia
from sightrank.ingest.media import HostedImage
from sightrank.wire.credentials import read_sender
from sightrank.wire.dispatch import Dispatcher

#: Cookies that browsers send where they cannot send headers: on images (api-spec 3.1).
_COOKIES = ("x-clarifai-api-key", "x_clarifai_session_token")
_PIECE_BYTES = 256 * 1024
#: The same URL is another file once its id has been given anew: a browser asks each time whether it is still the same.
_FRESHNESS = "private, no-cache"
_TAG = re.compile(r'(?:W/)?("[^"]*")')
_ONE_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


def media_route(hosted: HostedMedia, dispatcher: Dispatcher) -> Route:
    """The route. Finding a file is bounded and logged like a call, sending it like any answer; an ``AppError`` is
    answered like any other."""

    async def media(request: Request) -> Response:
        sender = read_sender(request.headers.items())
        key = sender.key or next((request.cookies[name] for name in _COOKIES if name in request.cookies), None)
        parts = request.path_params
        image = HostedImage(
            size=parts["size"], user_id=parts["user_id"], app_id=parts["app_id"], input_id=parts["input_id"]
        )

        async def found_or_file() -> FoundMedia | HostedFile:
            found = await hosted.find(key, image, sender.request_id)
            return found if has_already(request.headers, found.etag) else await hosted.open(found)

        file = await dispatcher.run("GET /media", sender, found_or_file)
        if isinstance(file, FoundMedia):
            return Response(status_code=304, headers={"Cache-Control": _FRESHNESS, "ETag": file.etag})
        return FileResponse(file, asked_part(request.headers, file))

    return Route("/media/{size}/{user_id}/{app_id}/{input_id}", media, methods=["GET"])


class FileResponse(Response):
    """Sends a file, or the part of it that is asked for, piece by piece: a slow client holds one piece in memory and
    not the file. Players need parts, to go to where somebody clicked.
    """

    def __init__(self, file: HostedFile, part: range | None) -> None:
        headers = {
            "Accept-Ranges": "bytes",
            "Cache-Control": _FRESHNESS,
            "X-Content-Type-Options": "nosniff",
        }
        if file.etag:
            headers["ETag"] = file.etag
        sent = range(file.size) if part is None else part
        if part is not None:
            shown = f"{part.start}-{part.stop - 1}" if part else "*"
            headers["Content-Range"] = f"bytes {shown}/{file.size}"
        headers["Content-Length"] = str(len(sent))
        status = 200 if part is None else 206 if part else 416
        super().__init__(None, status_code=status, media_type=file.content_type, headers=headers)
        self._file, self._part = file, sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._file.content as content:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            left = 0 if scope["method"] == "HEAD" else len(self._part)
            if not left:
                await send({"type": "http.response.body", "body": b""})
                return
            await asyncio.to_thread(content.seek, self._part.start)
            while left:
                piece = await asyncio.to_thread(content.read, min(left, _PIECE_BYTES))
                if not piece:
                    raise OSError("A hosted file became shorter while it was sent.")
                left -= len(piece)
                await send({"type": "http.response.body", "body": piece, "more_body": bool(left)})


def has_already(headers: Headers, etag: str) -> bool:
    """Whether the client has this version of a file (``If-None-Match``: RFC 9110, 13.1.2)."""
    known = headers.get("if-none-match", "")
    return known.strip() == "*" or etag.removeprefix("W/") in _TAG.findall(known)


def asked_part(headers: Headers, file: HostedFile) -> range | None:
    """The part of the file that a request asks for (RFC 9110, 14.2), empty for one that is not there; None for all of
    it, as for several parts, other units, or a part of another version of the file.
    """
    size = file.size
    asked = _ONE_RANGE.fullmatch(headers.get("range", ""))
    if asked is None or not _is_of(headers, file.etag):
        return None
    first, last = asked.groups()
    if not first:
        return range(max(size - int(last), 0), size) if last else None
    end = min(int(last) + 1, size) if last else size
    if last and int(last) < int(first):
        return None
    return range(int(first), max(end, int(first)))


def _is_of(headers: Headers, etag: str) -> bool:
    """``If-Range`` compares strongly: parts of weakly equal files do not fit together."""
    wanted = headers.get("if-range")
    return wanted is None or (wanted == etag and not etag.startswith("W/"))
