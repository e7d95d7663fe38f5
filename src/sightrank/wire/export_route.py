"""``GET /exports/<user>/<app>/<model>/<version>/model.tar``: exported models, for the official SDK's downloads."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sightrank.api.model_exports import HostedExport, ModelExports
from sightrank.wire.credentials import read_sender
from sightrank.wire.dispatch import Dispatcher
from sightrank.wire.media_route import FileResponse, asked_part


def export_route(exports: ModelExports, dispatcher: Dispatcher) -> Route:
    """The route; bounded, logged and answered as that of hosted images."""

    async def export(request: Request) -> Response:
        sender = read_sender(request.headers.items())
        parts = request.path_params
        wanted = HostedExport(
            user_id=parts["user_id"],
            app_id=parts["app_id"],
            model_id=parts["model_id"],
            version_id=parts["version_id"],
        )
        file = await dispatcher.run("GET /exports", sender, lambda: exports.open(sender.key, wanted, sender.request_id))
        return FileResponse(file, asked_part(request.headers, file))

    return Route("/exports/{user_id}/{app_id}/{model_id}/{version_id}/model.tar", export, methods=["GET"])
