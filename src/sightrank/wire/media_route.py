"""``GET /media/<size>/<user>/<app>/<input>``: hosted images, for people's browsers and the official SDK's downloads."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from sightrank.api.media import HostedFile, HostedMedia
from sightrank.ingest.media import HostedImage
from sightrank.wire.credentials import read_sender
from sightrank.wire.dispatch import Dispatcher

#: Cookies that browsers send where they cannot send headers: on images (api-spec 3.1).
_COOKIES = ("x-clarifai-api-key", "x_clarifai_session_token")
_PIECE_BYTES = 256 * 1024


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
        file = await dispatcher.run("GET /media", sender, lambda: hosted.open(key, image, sender.request_id))
        return _FileResponse(file)

    return Route("/media/{size}/{user_id}/{app_id}/{input_id}", media, methods=["GET"])


class _FileResponse(Response):
    """Sends a file piece by piece, so that a slow client holds one piece in memory and not the file."""

    def __init__(self, file: HostedFile) -> None:
        headers = {
            "Cache-Control": "private, max-age=3600",
            "X-Content-Type-Options": "nosniff",
            "Content-Length": str(file.size),
        }
        super().__init__(None, media_type=file.content_type, headers=headers)
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._file.content as content:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            left = 0 if scope["method"] == "HEAD" else self._file.size
            while left:
                piece = await asyncio.to_thread(content.read, min(left, _PIECE_BYTES))
                if not piece:
                    raise OSError("A hosted file became shorter while it was sent.")
                left -= len(piece)
                await send({"type": "http.response.body", "body": piece, "more_body": bool(left)})
            if scope["method"] == "HEAD" or not self._file.size:
                await send({"type": "http.response.body", "body": b""})
