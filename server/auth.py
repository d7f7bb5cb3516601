"""Bearer keys."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from hmac import compare_digest
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers.base import BaseRouteHandler

from server.context import context_of
from server.errors import ApiError
from server.settings import Settings

OPEN = {"auth": "open"}
"""Route option: needs no key, ever."""
CATALOG = {"auth": "catalog"}
"""Route option: needs no key while Settings.open_catalog holds."""

_KEY_SHOWN_CHARS = 4
_OWNER = "rhapsode_owner"

Guard = Callable[[ASGIConnection[Any, Any, Any, Any], BaseRouteHandler], None]


def key_guard(settings: Settings) -> Guard:
    """A Litestar guard; lets everybody in where no keys are set, with any key or none."""
    keys = [key.encode() for key in settings.api_keys]
    open_to_all = {"open", "catalog"} if settings.open_catalog else {"open"}

    def guard(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
        context_of(connection.scope)
        if not keys:
            return
        scheme, _, given = connection.headers.get("authorization", "").partition(" ")
        given = given.strip()
        if scheme.lower() == "bearer" and _is_known(given.encode(), keys):
            connection.scope["state"][_OWNER] = hashlib.sha256(given.encode()).hexdigest()[:32]
        elif handler.opt.get("auth") not in open_to_all:
            raise _denied(given)

    return guard


def owner_of(connection: ASGIConnection[Any, Any, Any, Any]) -> str | None:
    """What stands for the caller's key; None where keys are off, or where none was given."""
    owner: str | None = connection.scope["state"].get(_OWNER)
    return owner


def _is_known(given: bytes, keys: list[bytes]) -> bool:
    # Compares with all of them, so that time tells nothing of which one came close.
    return sum(compare_digest(given, key) for key in keys) > 0


def _denied(given: str) -> ApiError:
    if not given:
        message = "You didn't provide an API key: send it as 'Authorization: Bearer KEY'."
    elif len(given) <= 2 * _KEY_SHOWN_CHARS:
        message = "Incorrect API key provided."
    else:
        shown = f"{given[:_KEY_SHOWN_CHARS]}***{given[-_KEY_SHOWN_CHARS:]}"
        message = f"Incorrect API key provided: {shown}."
    return ApiError(401, message, code="invalid_api_key", headers={"www-authenticate": "Bearer"})
