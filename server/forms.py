"""Multipart forms, with the many spellings of lists and objects that clients use."""

from __future__ import annotations

import json
from typing import Any, BinaryIO, cast
from urllib.parse import parse_qsl

import msgspec
from litestar import Request
from litestar.datastructures import FormMultiDict, UploadFile

from server.errors import ApiError, leaving_client

_MULTIPART = "multipart/form-data"
_URL_ENCODED = "application/x-www-form-urlencoded"
_TEXT_BYTES = 1 << 20
"""Of all that is no file in a form."""
_FIELDS = 1000
"""Of a form; Litestar's own limit for multipart."""


async def read_form(request: Request[Any, Any, Any]) -> FormMultiDict:
    """Parse the body; files lie on disk when they are large, and go when the request ends.

    Raises:
        ApiError: 400, not a multipart form, or one with too many fields; 413, too much text.
        ClientGone: it was cut off.
    """
    if _media_type(request) != _MULTIPART:
        raise _wrong_type(_MULTIPART)
    try:
        with leaving_client():
            form = await request.form()
    except (UnicodeDecodeError, LookupError) as exc:
        message = "a text field is not in the charset that it names, or not in UTF-8"
        raise ApiError(400, message, code="invalid_form") from exc
    if sum(len(text) for text in form.values() if isinstance(text, str)) > _TEXT_BYTES:
        raise _too_much_text()
    return form


async def read_form_or_text(request: Request[Any, Any, Any]) -> FormMultiDict:
    """As `read_form`; or URL-encoded, as clients send it that have no file to send."""
    if _media_type(request) != _URL_ENCODED:
        return await read_form(request)
    # Not Litestar's parser, which holds on to the last thousand forms that it has parsed.
    body = bytearray()
    with leaving_client():
        async for part in request.stream():
            body += part
            if len(body) > _TEXT_BYTES:
                raise _too_much_text()
    try:
        pairs = parse_qsl(
            body.decode(), keep_blank_values=True, max_num_fields=_FIELDS, errors="strict"
        )
    except ValueError as exc:  # of which UnicodeDecodeError is one
        message = f"the form must be UTF-8 and have {_FIELDS} fields at most"
        raise ApiError(400, message, code="invalid_form") from exc
    return FormMultiDict(pairs)


def file_of(form: FormMultiDict, field: str) -> UploadFile:
    """The file part of this name.

    Raises:
        ApiError: 400, there is none.
    """
    found = [value for value in form.getall(field, []) if isinstance(value, UploadFile)]
    if not found:
        raise _missing(field)
    return found[0]


def sound_of(form: FormMultiDict, field: str) -> BinaryIO:
    """The file part of this name, open and seekable until the request ends.

    Raises:
        ApiError: 400, there is none.
    """
    return cast("BinaryIO", file_of(form, field).file)


def text_of(form: FormMultiDict, field: str) -> str | None:
    """A text field; None if it is absent or empty."""
    values = [value for value in form.getall(field, []) if isinstance(value, str)]
    return (values[-1].strip() or None) if values else None


def required_text_of(form: FormMultiDict, field: str) -> str:
    """A text field.

    Raises:
        ApiError: 400, it is absent or empty.
    """
    if (text := text_of(form, field)) is None:
        raise _missing(field)
    return text


def flag_of(form: FormMultiDict, field: str) -> bool:
    """A yes or no; absent is no.

    Raises:
        ApiError: 400, neither.
    """
    try:
        return msgspec.convert(text_of(form, field) or "false", bool, strict=False)
    except msgspec.ValidationError as exc:
        message = f"{field}: must be true or false"
        raise ApiError(400, message, param=field, code="invalid_value") from exc


def number_of(text: str | None, field: str, default: int) -> int:
    """A whole number from a query.

    Raises:
        ApiError: 400, it is none.
    """
    try:
        return int(text) if text else default
    except ValueError as exc:
        message = f"{field}: must be a whole number"
        raise ApiError(400, message, param=field, code="invalid_value") from exc


def list_of(form: FormMultiDict, field: str, *, may_hold_commas: bool = False) -> list[str]:
    """A list: `field` or `field[]`, repeated, or one text with commas or in JSON."""
    keys = [key for key in form if key == field or key.startswith(f"{field}[")]
    values = [v for key in dict.fromkeys(keys) for v in form.getall(key) if isinstance(v, str)]
    items: list[str] = []
    for value in values:
        parsed = _json(value) if value.startswith("[") else None
        if isinstance(parsed, list):
            items += [str(item) for item in parsed]
        elif may_hold_commas:
            items.append(value)
        else:
            items += value.split(",")
    return [item.strip() for item in items if item.strip()]


def object_of(form: FormMultiDict, field: str) -> Any:
    """An object or a word: `field[key]` parts, one JSON text, or plain text; None if absent."""
    parts = {
        key.removeprefix(f"{field}[").removesuffix("]"): text_of(form, key)
        for key in form
        if key.startswith(f"{field}[")
    }
    if parts:
        return parts
    text = text_of(form, field)
    parsed = _json(text) if text else None
    return text if parsed is None else parsed


def _media_type(request: Request[Any, Any, Any]) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _wrong_type(media_type: str) -> ApiError:
    message = f"the body must be sent as {media_type}"
    return ApiError(400, message, code="invalid_content_type")


def _too_much_text() -> ApiError:
    message = f"a form has {_TEXT_BYTES} bytes of text at most"
    return ApiError(413, message, code="request_too_large")


def _missing(field: str) -> ApiError:
    message = f"Missing required parameter: '{field}'."
    return ApiError(400, message, param=field, code="missing_required_parameter")


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
