"""Bearer keys."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers.base import BaseRouteHandler

from server.context import sign_request
from server.errors import ApiError
from server.keys import Keyring
from server.quotas import Quotas

OPEN = {"auth": "open"}
"""Route option: needs no key, ever."""
CATALOG = {"auth": "catalog"}
"""Route option: needs no key while Settings.open_catalog holds."""

_KEY_SHOWN_CHARS = 4
_OWNER = "rhapsode_owner"
_OWNER_CHARS = 32
_NOBODY = ""
"""Owns nothing; None would see what every key keeps."""
_TIER = "x-service-tier"
_BATCH_TIERS = ("batch", "flex")

Guard = Callable[[ASGIConnection[Any, Any, Any, Any], BaseRouteHandler], Awaitable[None]]


def key_guard(keyring: Keyring, quotas: Quotas, *, open_catalog: bool) -> Guard:
    """A Litestar guard; lets everybody in where there are no keys, with any key or none.

    It notes whose request it is and what it may wait for, and counts it. On the event loop: a
    guard that is no coroutine would be given a thread.
    """
    open_to_all = {"open", "catalog"} if open_catalog else {"open"}

    async def guard(
        connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler
    ) -> None:
        scope = connection.scope
        is_batch = connection.headers.get(_TIER, "").strip().lower() in _BATCH_TIERS
        if not keyring:
            sign_request(scope, None, is_batch=is_batch)
            return
        scheme, _, given = connection.headers.get("authorization", "").partition(" ")
        given = given.strip()
        key = keyring.find(given) if scheme.lower() == "bearer" else None
        if key is not None:
            scope["state"][_OWNER] = key.digest[:_OWNER_CHARS]
            context = sign_request(scope, key.name, is_batch=is_batch or key.is_batch)
            if scope.get("method") == "POST":
                quotas.count_request(context)
        elif handler.opt.get("auth") in open_to_all:
            scope["state"][_OWNER] = _NOBODY
        else:
            raise _denied(given)

    return guard


def owner_of(connection: ASGIConnection[Any, Any, Any, Any]) -> str | None:
    """What stands for the caller's key; None where keys are off, "" where none was given."""
    owner: str | None = connection.scope["state"].get(_OWNER)
    return owner


def _denied(given: str) -> ApiError:
    if not given:
        message = "You didn't provide an API key: send it as 'Authorization: Bearer KEY'."
    elif len(given) <= 2 * _KEY_SHOWN_CHARS:
        message = "Incorrect API key provided."
    else:
        shown = f"{given[:_KEY_SHOWN_CHARS]}***{given[-_KEY_SHOWN_CHARS:]}"
        message = f"Incorrect API key provided: {shown}."
    return ApiError(401, message, code="invalid_api_key", headers={"www-authenticate": "Bearer"})
