"""Errors as the API speaks them: a status and OpenAI's envelope. The only place with a status.

Validation is always 400: OpenAI's clients know no 422.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from math import ceil
from typing import Any

from litestar import MediaType, Request, Response
from litestar.exceptions import HTTPException, InternalServerException
from msgspec import Struct

from engine.errors import (
    EngineError,
    InvalidRequest,
    Overloaded,
    UnknownVoice,
    WorkerDied,
    WorkerUnavailable,
)
from server.audio.errors import DecodeError
from server.context import context_of
from server.log import quoted
from server.queueing import NoTurn
from server.tallies import refusals
from voices.errors import (
    BadRequest,
    CorruptVoice,
    NameTaken,
    NotFound,
    NotOwner,
    StoreFull,
    TooLarge,
    TooMany,
    VoiceError,
)

logger = logging.getLogger(__name__)

STATUS_CLIENT_GONE = 499
"""Never seen by anyone but the log."""

_MESSAGE_CHARS = 1000
"""What is wrong with a field is told with the field, which may be a megabyte."""


class ApiError(Exception):
    """An answer other than the one asked for.

    Args:
        status: HTTP status.
        message: For a person.
        param: The request's field at fault, by its wire name.
        code: For a program.
        headers: Go with the answer.
        limit: The setting that refused it, for /metrics.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
        limit: str | None = None,
    ) -> None:
        super().__init__(message[:_MESSAGE_CHARS])
        self.status = status
        self.param = param
        self.code = code
        self.headers = headers or {}
        self.limit = limit


class ClientGone(ApiError):
    """The client left before the answer began."""

    def __init__(self) -> None:
        super().__init__(STATUS_CLIENT_GONE, "the client left")


@contextmanager
def leaving_client() -> Iterator[None]:
    """Around reading a body: Litestar's word for a client that leaves meanwhile is a 500.

    Raises:
        ClientGone: it has left.
    """
    try:
        yield
    except InternalServerException as exc:
        raise ClientGone from exc


class ErrorDetail(Struct, frozen=True):
    """The inner object of the envelope; all four keys are always there."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorEnvelope(Struct, frozen=True):
    """OpenAI's error body."""

    error: ErrorDetail


def as_api_error(error: Exception) -> ApiError:
    """What the API says of any exception; one that is nobody's fault but ours tells no details."""
    match error:
        case ApiError():
            return error
        case UnknownVoice():
            return ApiError(400, str(error), param=error.param, code="voice_not_found")
        case InvalidRequest():
            return ApiError(400, str(error), param=error.param, code="invalid_value")
        case Overloaded():
            return ApiError(
                429,
                str(error),
                code="overloaded",
                headers=retry_headers(error.retry_after_s),
                limit=error.limit if isinstance(error, NoTurn) else "engine",
            )
        case WorkerUnavailable():
            return ApiError(
                503,
                str(error),
                code="engine_unavailable",
                headers=retry_headers(error.retry_after_s),
            )
        case WorkerDied():
            return ApiError(500, str(error), code="engine_died")
        case EngineError():
            return ApiError(500, str(error), code="engine_failed")
        case DecodeError():
            return ApiError(400, str(error), param="file", code="invalid_value")
        case VoiceError():
            return _of_voices(error)
        case HTTPException():
            return _of_framework(error)
        case _:
            return ApiError(500, "the server failed on this request", code="internal_error")


def detail_of(error: ApiError) -> ErrorDetail:
    return ErrorDetail(str(error), _type_of(error.status), error.param, error.code)


def handle_error(request: Request[Any, Any, Any], error: Exception) -> Response[ErrorEnvelope]:
    """Litestar's exception handler for everything."""
    answer = as_api_error(error)
    if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
        refusals[answer.limit or "other"] += 1
    is_bug = answer.status == HTTPStatus.INTERNAL_SERVER_ERROR and not isinstance(
        error, EngineError
    )
    logger.log(
        logging.ERROR if is_bug else logging.INFO,
        "event=refused request_id=%s key=%s method=%s path=%s status=%d code=%s param=%s",
        (context := context_of(request.scope)).request_id,
        context.key,
        request.method,
        quoted(request.url.path),
        answer.status,
        answer.code,
        answer.param,
        exc_info=error if is_bug else None,
    )
    return Response(
        ErrorEnvelope(detail_of(answer)),
        status_code=answer.status,
        headers=answer.headers,
        media_type=MediaType.JSON,
    )


def retry_headers(wait_s: float | None) -> dict[str, str]:
    """When to try again; None is a second."""
    wait_s = wait_s or 1.0
    return {"retry-after": str(max(1, ceil(wait_s))), "retry-after-ms": str(ceil(wait_s * 1000))}


def _type_of(status: int) -> str:
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return "rate_limit_error"
    return "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"


def _of_voices(error: VoiceError) -> ApiError:
    message, param = str(error), error.param
    match error:
        case BadRequest():
            return ApiError(400, message, param=param, code="invalid_value")
        case NameTaken():
            # Not 409: the SDK would try that again.
            return ApiError(400, message, param=param, code="name_taken")
        case TooMany():
            return ApiError(400, message, param=param, code="too_many")
        case NotFound() | CorruptVoice():
            return ApiError(404, message, param=param, code="not_found")
        case NotOwner():
            return ApiError(403, message, param=param, code="not_owner")
        case TooLarge():
            return ApiError(413, message, param=param, code="request_too_large")
        case StoreFull():
            return ApiError(507, message, code="store_full", headers={"x-should-retry": "false"})
        case _:
            return ApiError(503, message, code="store_unavailable")


def _of_framework(error: HTTPException) -> ApiError:
    """Litestar's own errors: no route, wrong method, body too large, ..."""
    status = error.status_code
    if status == HTTPStatus.NOT_FOUND:
        return ApiError(status, "no such URL", code="unknown_url")
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return ApiError(status, "the request body is too large", code="request_too_large")
    return ApiError(status, error.detail, headers=dict(error.headers or {}))
