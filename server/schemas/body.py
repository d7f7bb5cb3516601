"""From the bytes of a JSON body to its struct, with errors that name the field."""

from __future__ import annotations

import json
from typing import Any, TypeVar

import msgspec
from litestar import Request
from msgspec import Struct

from server.errors import ApiError, leaving_client
from server.validation import explain

T = TypeVar("T", bound=Struct)


async def read_json(schema: type[T], request: Request[Any, Any, Any]) -> T:
    """Read, parse and validate a JSON body.

    Raises:
        ApiError: as `decode_json`.
        ClientGone: the body was cut off.
    """
    with leaving_client():
        body = await request.body()
    return decode_json(schema, body, request.headers.get("content-type", ""))


def decode_json(schema: type[T], body: bytes, content_type: str) -> T:
    """Parse and validate a JSON body.

    Numbers and booleans may come as strings, as hand-written clients send them.

    Raises:
        ApiError: 400, `param` set where one field is at fault.
    """
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type != "application/json":
        # A browser sends other types across origins without asking first.
        raise ApiError(
            400, "the body must be sent as application/json", code="invalid_content_type"
        )
    try:
        return msgspec.json.decode(body, type=schema, strict=False)
    except msgspec.ValidationError as exc:
        raise refusal(exc) from exc
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        if (field := _field_with_surrogate(body)) is not None:
            message = f"{field}: holds a lone surrogate, which is not a character"
            raise ApiError(400, message, param=field, code="invalid_value") from exc
        raise ApiError(400, f"the body is not valid JSON: {exc}", code="invalid_json") from exc


def refusal(error: msgspec.ValidationError) -> ApiError:
    """A 400 that names the field at fault."""
    path, message = explain(error)
    param = path.partition(".")[0].partition("[")[0] if path else None
    if "missing required" in message:
        message, code = f"Missing required parameter: '{path}'.", "missing_required_parameter"
    else:
        message, code = f"{path}: {message}" if path else message, "invalid_value"
    return ApiError(400, message, param=param, code=code)


def _field_with_surrogate(body: bytes) -> str | None:
    """The top-level field for whose sake the strict decoder refused what is JSON otherwise."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    return next(
        (
            str(field)
            for field, value in document.items()
            if isinstance(value, str) and any("\ud800" <= char <= "\udfff" for char in value)
        ),
        None,
    )
