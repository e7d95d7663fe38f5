"""Status codes as a table: what each means, which HTTP status it travels with, and the two rpcs that list them.

The names and numbers come from the proto's ``StatusCode``; texts and HTTP statuses from ``errors`` where sightrank
raises the code itself, else from section 7 of the API specification, else from the name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from clarifai_grpc.grpc.api import service_pb2
from clarifai_grpc.grpc.api.status import status_code_pb2, status_pb2
from google.protobuf.message import Message

from sightrank.api.call import Call, Handlers
from sightrank.errors import AppError, BadRequestFormat, CredentialMissing, DoesNotExist

SUCCESS = 10000


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusEntry:
    """One status code of the API."""

    code: int
    name: str
    description: str
    http_status: int


def read_table() -> Mapping[int, StatusEntry]:
    """Every status code of the proto."""
    raised = {error.code: error for error in _errors(AppError) if error is not CredentialMissing}
    table: dict[int, StatusEntry] = {}
    for name, number in status_code_pb2.StatusCode.items():
        if number == 0 or number in table:
            continue
        http_status, description = _PUBLISHED.get(number, (_likely_http_status(name), _readable(name)))
        error = raised.get(number)
        if error is not None:
            http_status, description = error.http_status, error.description
        table[number] = StatusEntry(code=number, name=name, description=description, http_status=http_status)
    return table


def status_code_handlers(table: Mapping[int, StatusEntry]) -> Handlers:
    """``ListStatusCodes`` and ``GetStatusCode``: pure tables, open to anybody (api-spec 7)."""

    async def list_status_codes(call: Call, request: Message) -> Message:
        return service_pb2.MultiStatusCodeResponse(statuses=[_status(entry) for entry in table.values()])

    async def get_status_code(call: Call, request: Message) -> Message:
        entry = _look_up(table, request)
        return service_pb2.SingleStatusCodeResponse(status=_status(entry))

    return {"ListStatusCodes": list_status_codes, "GetStatusCode": get_status_code}


def _look_up(table: Mapping[int, StatusEntry], request: Message) -> StatusEntry:
    assert isinstance(request, service_pb2.GetStatusCodeRequest)
    wanted = request.status_code_id
    if not wanted.isdecimal():
        raise BadRequestFormat(f"`status_code_id` must be a number such as 10000, not `{wanted}`.")
    entry = table.get(int(wanted[:10]))
    if entry is None:
        raise DoesNotExist(f"There is no status code {wanted}; GET /v2/status_codes lists all.")
    return entry


def _status(entry: StatusEntry) -> status_pb2.Status:
    return status_pb2.Status(
        code=entry.code, description=entry.description, details=entry.name, http_status_code=entry.http_status
    )


def _errors(base: type[AppError]) -> Iterator[type[AppError]]:
    yield base
    for child in base.__subclasses__():
        yield from _errors(child)


def _readable(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _likely_http_status(name: str) -> int:
    """A status for codes the specification gives none: by what the name says went wrong."""
    for ending, http_status in _BY_NAME.items():
        if ending in name:
            return http_status
    return 200


_PUBLISHED: Mapping[int, tuple[int, str]] = {
    10000: (200, "Ok"),
    10010: (200, "Mixed Success"),
    10020: (400, "Failure"),
    10030: (503, "Try again"),
    10050: (307, "Moved"),
    10070: (202, "Accepted"),
    11003: (429, "Hourly limit exceeded"),
    11005: (429, "Throttled"),
    22107: (400, "Invalid workflow graph"),
    30300: (400, "All inputs have invalid bytes"),
    40001: (400, "Invalid predict request"),
    40030: (503, "The queue of requests is full"),
    43001: (500, "Search internal failure"),
    43002: (400, "Search projection failure"),
    43005: (400, "Saved search could not be modified"),
    43006: (500, "Counts are unavailable"),
}

_BY_NAME: Mapping[str, int] = {
    "DOES_NOT_EXIST": 404,
    "NOT_FOUND": 404,
    "PERMISSION_DENIED": 403,
    "DUPLICATE": 409,
    "TIMEOUT": 504,
    "UNAVAILABLE": 503,
    "INTERNAL": 500,
    "INVALID": 400,
    "UNSUPPORTED": 400,
    "OVER_LIMIT": 400,
    "VIOLATED": 400,
    "FAILED": 400,
    "FAILURE": 400,
}
