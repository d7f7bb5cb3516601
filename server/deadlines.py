"""How long a request's body may take to come, and the request to be done. Event loop only."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from litestar.enums import ScopeType
from litestar.types import (
    ASGIApp,
    HTTPReceiveMessage,
    Message,
    Receive,
    Scope,
    Send,
    WebSocketReceiveMessage,
)

from server.context import context_of
from server.errors import ApiError
from server.settings import Limits

logger = logging.getLogger(__name__)

Received = HTTPReceiveMessage | WebSocketReceiveMessage
"""What `Receive` gives."""


def deadlines(limits: Limits) -> Callable[[ASGIApp], ASGIApp]:
    """A Litestar middleware around every route.

    It answers 408 to a body that comes too slowly, 503 to a request that takes too long, and
    breaks an answer off that does.
    """

    def around(app: ASGIApp) -> ASGIApp:
        async def bounded(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != ScopeType.HTTP:
                await app(scope, receive, send)
                return
            begun = asyncio.Event()

            async def note_begin(message: Message) -> None:
                begun.set()
                await send(message)

            body = _BodyInTime(receive, limits.body_read_s)
            try:
                async with asyncio.timeout(limits.request_s) as whole:
                    await app(scope, body, note_begin)
            except TimeoutError:
                if not whole.expired():
                    raise
                if not begun.is_set():
                    raise _took_too_long(limits.request_s) from None
                # To return without the last message makes the server break the connection off.
                request_id = context_of(scope).request_id
                logger.info("event=broken_off request_id=%s reason=request_s", request_id)

        return bounded

    return around


class _BodyInTime:
    """ASGI's receive, until the body is there within its time."""

    def __init__(self, receive: Receive, limit_s: float) -> None:
        self._receive = receive
        self._limit_s = limit_s
        self._due = asyncio.get_running_loop().time() + limit_s
        self._is_here = False

    async def __call__(self) -> Received:
        if self._is_here:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._due):
                message = await self._receive()
        except TimeoutError:
            raise _came_too_slowly(self._limit_s) from None
        self._is_here = not (message["type"] == "http.request" and message.get("more_body"))
        return message


def _came_too_slowly(limit_s: float) -> ApiError:
    message = f"the request body did not come within {limit_s:g} s"
    # The rest of the body may never come.
    return ApiError(408, message, code="body_timeout", headers={"connection": "close"})


def _took_too_long(limit_s: float) -> ApiError:
    message = f"the request took longer than {limit_s:g} s"
    return ApiError(503, message, code="request_timeout", headers={"x-should-retry": "false"})
