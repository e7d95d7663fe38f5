"""Every failure sightrank reports on purpose, and what it looks like on the wire.

An ``AppError`` carries a Clarifai status code (``api-spec`` section 7), the published description of that code and
``details``: one sentence that says what was wrong, where, and what to do about it. gRPC answers carry it in-band
(``status.code``); REST answers carry the same body with ``http_status``.

    AppError
    ├── NotImplementedHere      10040   the rpc exists in the API, not in this server
    ├── InsufficientScopes      11007
    ├── KeyInvalid              11008   unknown key, or a key that does not belong to the app
    ├── KeyNotFound             11009   key management names an unknown key
    ├── BadRequestFormat        11100   the body cannot be read
    ├── DoesNotExist            11101
    ├── InvalidRequest          11102
    │   └── CredentialMissing   11102   the same, answered with HTTP 401
    ├── MethodNotAllowed        11103
    ├── ModelDoesNotExist       21200
    ├── ModelForbidden          21201   a public model is to be changed
    ├── ModelInvalidArgument    21202   a model is asked for what it cannot do
    ├── ModelNotTrained         21353   a model is asked to predict before it has learnt
    │   └── ModelBeingTrained   21351   the same, while it learns: ask again
    ├── WorkflowNeedsModel      22002   a workflow whose models are not here, or have not learnt yet
    ├── WorkflowDuplicate       22100
    ├── WorkflowDoesNotExist    22102
    ├── WorkflowInvalid         22104
    ├── WorkflowGraphInvalid    22107   nodes that do not fit together
    ├── AnnotationInvalid       24155
    ├── AnnotationForbidden     24156
    ├── InputFailed             30002   the media could not be fetched or processed
    ├── InputDuplicateUrl       30100
    ├── InputDoesNotExist       30102   one item of a batch names an unknown input
    ├── InputInvalid            30104
    ├── InputOverLimit          30105
    ├── InputInvalidUrl         30106
    ├── InputConnectionFailed   39996
    ├── InputInvalidRequest     39999   the batch as a whole is out of bounds
    ├── SearchInvalid           40002
    ├── ConceptsInvalid         40003
    ├── DuplicateKey            40010
    ├── ServerBusy              40031
    ├── DeadlinePassed          40032
    ├── MessageTooLarge         40033
    ├── SearchPredictionFailed  43003   a query image could not be embedded
    ├── SearchNotIndexed        43004   a query input is not indexed yet
    └── InternalFailure         99009
"""

from __future__ import annotations

from typing import ClassVar

_LONGEST = 140  # characters of something sent that a message repeats


def quoted(text: str) -> str:
    """Something that was sent, as ``details`` repeat it: in quotes, and no more of it than one can read."""
    return repr(text) if len(text) <= _LONGEST else f"{text[:_LONGEST] + '…'!r} ({len(text)} characters)"


class AppError(Exception):
    """Base of all errors with a status code. ``details`` says what, where and what to do."""

    code: ClassVar[int] = 99009
    http_status: ClassVar[int] = 500
    description: ClassVar[str] = "Internal error"

    def __init__(self, details: str = "") -> None:
        super().__init__(details or self.description)
        self.details = details


class NotImplementedHere(AppError):
    code, http_status, description = 10040, 501, "Not implemented"


class InsufficientScopes(AppError):
    code, http_status, description = 11007, 403, "API key has insufficient scopes"


class KeyInvalid(AppError):
    code, http_status, description = 11008, 401, "Invalid API key or Invalid API key/application pair"


class KeyNotFound(AppError):
    code, http_status, description = 11009, 404, "API key not found"


class BadRequestFormat(AppError):
    code, http_status, description = 11100, 400, "Bad request format"


class DoesNotExist(AppError):
    code, http_status, description = 11101, 404, "Resource does not exist"


class InvalidRequest(AppError):
    code, http_status, description = 11102, 400, "Invalid request"


class CredentialMissing(InvalidRequest):
    http_status = 401


class MethodNotAllowed(AppError):
    code, http_status, description = 11103, 405, "Method not allowed"


class ModelDoesNotExist(AppError):
    code, http_status, description = 21200, 404, "Model does not exist"


class ModelForbidden(AppError):
    code, http_status, description = 21201, 403, "Model permission denied"


class ModelInvalidArgument(AppError):
    code, http_status, description = 21202, 400, "Model invalid argument"


class ModelNotTrained(AppError):
    code, http_status, description = 21353, 400, "Model is not deployed"


class ModelBeingTrained(ModelNotTrained):
    """Clarifai's SDK waits and asks again where a model is "deploying"."""

    code, http_status, description = 21351, 503, "Model is deploying"


class WorkflowNeedsModel(AppError):
    code, http_status, description = 22002, 400, "Workflow requires a trained model"


class WorkflowDuplicate(AppError):
    code, http_status, description = 22100, 409, "Workflow has a duplicate ID"


class WorkflowDoesNotExist(AppError):
    code, http_status, description = 22102, 404, "Workflow does not exist"


class WorkflowInvalid(AppError):
    code, http_status, description = 22104, 400, "Workflow invalid argument"


class WorkflowGraphInvalid(AppError):
    code, http_status, description = 22107, 400, "Workflow invalid graph"


class AnnotationInvalid(AppError):
    code, http_status, description = 24155, 400, "Invalid annotation argument"


class AnnotationForbidden(AppError):
    code, http_status, description = 24156, 403, "Annotation permission denied"


class InputFailed(AppError):
    code, http_status = 30002, 400
    description = "Download failed or we could not process it. Check URL or bytes you send in the request."


class InputDuplicateUrl(AppError):
    code, http_status = 30100, 400
    description = "Duplicate URL in your application. Check the documentation to allow duplications."


class InputDoesNotExist(AppError):
    code, http_status, description = 30102, 404, "Input does not exist"


class InputInvalid(AppError):
    code, http_status, description = 30104, 400, "Input has invalid arguments"


class InputOverLimit(AppError):
    code, http_status, description = 30105, 400, "Input is over the limit"


class InputInvalidUrl(AppError):
    code, http_status, description = 30106, 400, "Input URL is invalid"


class InputConnectionFailed(AppError):
    code, http_status, description = 39996, 400, "Connection attempts to the input URL failed"


class InputInvalidRequest(AppError):
    code, http_status, description = 39999, 400, "Invalid input request"


class SearchInvalid(AppError):
    code, http_status, description = 40002, 400, "Invalid search request"


class ConceptsInvalid(AppError):
    code, http_status, description = 40003, 400, "Invalid request"


class DuplicateKey(AppError):
    code, http_status = 40010, 409
    description = "Object has a duplicate ID; another object with same ID already exist."


class ServerBusy(AppError):
    code, http_status, description = 40031, 503, "The server is busy"


class DeadlinePassed(AppError):
    code, http_status, description = 40032, 504, "The request took too long"


class MessageTooLarge(AppError):
    code, http_status, description = 40033, 413, "The request is too large"


class SearchPredictionFailed(AppError):
    code, http_status, description = 43003, 400, "Search prediction failure"


class SearchNotIndexed(AppError):
    code, http_status, description = 43004, 400, "Can only search by a fully indexed input"


class InternalFailure(AppError):
    """Something nobody foresaw; the log has the traceback under the answer's ``req_id``."""
