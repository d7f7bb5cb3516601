"""Where requests wait to begin: a crowd of them must not hold the event loop. Event loop only."""

from __future__ import annotations

import asyncio
from collections import deque

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from server.context import context_of

_OPEN = frozenset({"/health", "/ready", "/metrics"})
"""Paths that do not wait."""
_HELD_TURNS = 64
"""Turns in a row in which new connections may come first."""


class Doorway:
    """An ASGI app around another: one request begins in a turn of the event loop, in their order.

    To begin one costs about a millisecond, and a thousand that begin in one turn let nothing else
    be answered for a second. One that comes alone begins at once.

    Nobody begins in a turn that brought a connection: the kernel keeps all new connections in one
    line, and a probe of /health would stand in it behind the crowd.

    Args:
        app: That requests begin in.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_turning = False
        self._has_connected = False
        self._held_turns = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP and scope["path"] not in _OPEN:
            # The request's clock starts here: to wait counts.
            context_of(scope)
            await self._enter()
        await self._app(scope, receive, send)

    def connected(self) -> None:
        """A connection has come."""
        self._has_connected = True

    async def _enter(self) -> None:
        """Wait until it may begin."""
        loop = asyncio.get_running_loop()
        if self._is_turning:
            # One has begun in this turn, or others wait.
            waiter = loop.create_future()
            self._waiting.append(waiter)
            await waiter
        else:
            self._is_turning = True
            loop.call_soon(self._turn)

    def _turn(self) -> None:
        """The next turn of the loop has come."""
        self._is_turning = bool(self._waiting)
        if not self._is_turning:
            return
        asyncio.get_running_loop().call_soon(self._turn)
        has_connected, self._has_connected = self._has_connected, False
        if has_connected and self._held_turns < _HELD_TURNS:
            self._held_turns += 1
            return
        self._held_turns = 0
        while self._waiting:
            # A request that was cancelled waits no longer.
            if not (waiter := self._waiting.popleft()).done():
                waiter.set_result(None)
                return
