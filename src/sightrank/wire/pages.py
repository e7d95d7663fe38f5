"""The paths that are no rpc: health, readiness, the probe of the official SDK, and the routes given from outside."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from sightrank.errors import AppError, DoesNotExist, InternalFailure, InvalidRequest, MethodNotAllowed
from sightrank.wire.credentials import read_sender
from sightrank.wire.dispatch import Dispatcher
from sightrank.wire.status_codes import SUCCESS

_ANSWERED = "sightrank.answered"

#: Says whether the server can take requests.
Ready = Callable[[], Awaitable[bool]]


def make_pages(dispatcher: Dispatcher, ready: Ready, extra_routes: Sequence[BaseRoute]) -> ASGIApp:
    """The application of everything that is no rpc. Errors answer as JSON like those of rpcs."""

    async def healthz(request: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def readyz(request: Request) -> Response:
        is_ready = await ready()
        return JSONResponse({"status": "ready" if is_ready else "starting"}, 200 if is_ready else 503)

    async def auth_methods(request: Request) -> Response:
        # The SDK asks this before it has a key, to learn whether a port speaks TLS: any success will do.
        return JSONResponse({"status": {"code": SUCCESS, "description": "Ok"}, "methods": ["api_key"]})

    async def refuse(request: Request, error: Exception) -> Response:
        return _refusal(dispatcher, request, error)

    routes = [Route("/healthz", healthz), Route("/readyz", readyz), Route("/v2/auth/methods", auth_methods)]
    handlers = {HTTPException: refuse, AppError: refuse, Exception: refuse}
    app = Starlette(routes=[*routes, *extra_routes], exception_handlers=handlers)
    app.router.redirect_slashes = False  # an answer without a body; a path that is none is told so in JSON
    return _Answered(app)


class _Answered:
    """Starlette raises an unexpected error again after answering it; once it is answered and logged, it is over."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except Exception:
            if _ANSWERED not in scope:
                raise


def _as_app_error(request: Request, error: Exception) -> AppError:
    if isinstance(error, AppError):
        return error
    if not isinstance(error, HTTPException):
        return InternalFailure("The server failed; its log has the reason.")
    if error.status_code == 404:
        return DoesNotExist(f"There is no path {request.url.path}.")
    if error.status_code == 405:
        return MethodNotAllowed(f"{request.url.path} does not take {request.method}.")
    return InvalidRequest(error.detail)


def _refusal(dispatcher: Dispatcher, request: Request, error: Exception) -> Response:
    sender = read_sender(request.headers.items())
    what = f"{request.method} {request.url.path}"
    refusal = _as_app_error(request, error)
    if isinstance(refusal, InternalFailure):
        dispatcher.log.error("unexpected failure", rpc=what, req_id=sender.request_id, exc_info=error)
    answer = dispatcher.refuse(refusal, sender, what)
    request.scope[_ANSWERED] = True
    status = {"code": refusal.code, "description": refusal.description, "details": refusal.details}
    return JSONResponse({"status": {**status, "req_id": sender.request_id}}, answer.http_status)
