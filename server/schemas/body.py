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

_LOOKED_THROUGH_BYTES = 1 << 20
"""A larger body that is no JSON is not read once more to say why: that would hold up the loop."""


async def read_json(schema: type[T], request: Request[Any, Any, Any]) -> T:
    """Read, parse and validate a JSON body.

    Raises:
        ApiError: as `decode_json`.
        ClientGone: the body was cut off.
    """
    with leaving_client():
        body = await request.body()
    return decode_json(schema, body, request.headers.get("content-type", ""))


async def read_bulky_json(
    schema: type[T], request: Request[Any, Any, Any], field: str, bulk_bytes: int, rest_bytes: int
) -> T:
    """As `read_json`, for a body of which one field may be much larger than all the rest.

    For a handler without a limit of its own. The request does not hold on to the body.

    Args:
        schema: Of the body.
        request: Unread.
        field: The large one.
        bulk_bytes: Size of that field at most, as it is in the body.
        rest_bytes: Size of the rest at most.
    Raises:
        ApiError: 413, beyond either; else as `decode_json`.
        ClientGone: the body was cut off.
    """
    body = bytearray()
    with leaving_client():
        async for part in request.stream():
            body += part
            if len(body) > bulk_bytes + rest_bytes:
                raise _too_large()
    if len(body) > rest_bytes and len(body) - _size_of(field, body) > rest_bytes:
        raise _too_large()
    return decode_json(schema, body, request.headers.get("content-type", ""))


def decode_json(schema: type[T], body: bytes | bytearray, content_type: str) -> T:
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
        field = _field_with_surrogate(body) if len(body) <= _LOOKED_THROUGH_BYTES else None
        if field is not None:
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


def _too_large() -> ApiError:
    return ApiError(413, "the request body is too large", code="request_too_large")


def _size_of(field: str, body: bytearray) -> int:
    """Bytes of a top-level field; of what is no JSON, none. Makes no object of anything else."""
    bulky = msgspec.defstruct("Bulky", [(field, msgspec.Raw, msgspec.Raw())])
    try:
        return len(memoryview(getattr(msgspec.json.decode(body, type=bulky), field)))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return 0


def _field_with_surrogate(body: bytes | bytearray) -> str | None:
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
