"""Downloads of exports, for the official SDK and others: of models, ``GET
/exports/<user>/<app>/<model>/<version>/model.tar``, and of versions of datasets, ``GET
/exports/datasets/<bucket>/<export>/<expiry>/<signature>/<name>``.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sightrank.api.dataset_exports import DatasetExports, HostedArchive
from sightrank.api.model_exports import HostedExport, ModelExports
from sightrank.wire.credentials import read_sender
from sightrank.wire.dispatch import Dispatcher
from sightrank.wire.media_route import FileResponse, asked_part


def model_export_route(exports: ModelExports, dispatcher: Dispatcher) -> Route:
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


def dataset_export_route(exports: DatasetExports, dispatcher: Dispatcher) -> Route:
    """The route; its URLs are signed and need no key."""

    async def export(request: Request) -> Response:
        sender = read_sender(request.headers.items())
        parts = request.path_params
        wanted = HostedArchive(
            bucket=parts["bucket"],
            export_id=parts["export_id"],
            expires=parts["expires"],
            signature=parts["signature"],
        )
        file = await dispatcher.run("GET /exports/datasets", sender, lambda: exports.open(wanted))
        return FileResponse(file, asked_part(request.headers, file))

    path = "/exports/datasets/{bucket:int}/{export_id}/{expires:int}/{signature}/{name}"
    return Route(path, export, methods=["GET"])
