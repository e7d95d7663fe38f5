"""``GET /media/<size>/<user>/<app>/<input>``: hosted images, for people's browsers and the official SDK's downloads."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sightrank.api.media import HostedMedia
from sightrank.ingest.media import HostedImage
from sightrank.wire.credentials import read_sender

#: Cookies that browsers send where they cannot send headers: on images (api-spec 3.1).
_COOKIES = ("x-clarifai-api-key", "x_clarifai_session_token")


def media_route(hosted: HostedMedia) -> Route:
    """The route; an ``AppError`` from it is answered like any other."""

    async def media(request: Request) -> Response:
        sender = read_sender(request.headers.items())
        key = sender.key or next((request.cookies[name] for name in _COOKIES if name in request.cookies), None)
        parts = request.path_params
        image = HostedImage(
            size=parts["size"], user_id=parts["user_id"], app_id=parts["app_id"], input_id=parts["input_id"]
        )
        file = await hosted.read(key, image, sender.request_id)
        headers = {"Cache-Control": "private, max-age=3600", "X-Content-Type-Options": "nosniff"}
        return Response(file.data, media_type=file.content_type, headers=headers)

    return Route("/media/{size}/{user_id}/{app_id}/{input_id}", media, methods=["GET"])
