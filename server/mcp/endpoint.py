"""/mcp: streamable HTTP in the same server, behind the same keys. Event loop only."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from litestar import Litestar
from litestar.connection import ASGIConnection
from litestar.enums import ScopeType
from litestar.types import Receive, Scope, Send

from server.auth import owner_of
from server.errors import ApiError
from server.mcp.tools import Tools
from server.settings import Settings

if TYPE_CHECKING:
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

HOW_TO_INSTALL = "MCP is not installed here: pip install 'rhapsode[mcp]'"

_LOCAL_NAMES = ("127.0.0.1", "localhost", "[::1]")


def is_installed() -> bool:
    """Whether the extra is there; does not load it."""
    return find_spec("mcp") is not None


class McpEndpoint:
    """An ASGI app that loads the protocol when it is first asked for.

    Args:
        tools: What it offers.
        settings: Checked.
    """

    def __init__(self, tools: Tools, settings: Settings) -> None:
        self._tools = tools
        self._settings = settings
        self._opening = asyncio.Lock()
        self._manager: StreamableHTTPSessionManager | None = None
        self._serving: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def lifespan(self, _: Litestar) -> AsyncGenerator[None, None]:
        """Sessions end, and what they run is cancelled, when the block does."""
        try:
            yield
        finally:
            if self._serving is not None:
                self._serving.cancel()
                await asyncio.wait({self._serving})

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; its scope is this app's to change.

        Raises:
            ApiError: 405, a GET: there is nothing to listen for outside of calls. 501, the extra is
                not installed.
        """
        if not is_installed():
            raise ApiError(501, HOW_TO_INSTALL, code="mcp_not_installed")
        if scope["type"] != ScopeType.HTTP or scope["method"] not in ("POST", "DELETE"):
            message = "no stream to listen to here: POST a message"
            raise ApiError(405, message, headers={"allow": "POST, DELETE"})
        manager = await self._open()
        scope["user"] = _user(owner_of(ASGIConnection(scope)))
        # The same messages, typed by two frameworks.
        asgi: tuple[Any, Any, Any] = scope, receive, send
        await manager.handle_request(*asgi)

    async def _open(self) -> StreamableHTTPSessionManager:
        async with self._opening:
            if self._manager is None:
                create = partial(_create_manager, self._tools, self._settings)
                manager = await asyncio.to_thread(create)  # half a second of imports
                # What `run` enters must be left by the same task, so it has one of its own.
                is_running = asyncio.Event()
                self._serving = asyncio.create_task(_serve(manager, is_running))
                await is_running.wait()
                self._manager = manager
        return self._manager


async def _serve(manager: StreamableHTTPSessionManager, is_running: asyncio.Event) -> None:
    async with manager.run():
        is_running.set()
        await asyncio.Event().wait()


def _create_manager(tools: Tools, settings: Settings) -> StreamableHTTPSessionManager:
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
    from mcp.server.transport_security import TransportSecuritySettings

    from server.mcp.protocol import create_protocol

    logging.getLogger("mcp").setLevel(logging.WARNING)  # it would log the ids of sessions
    own = [form for name in _LOCAL_NAMES for form in (name, f"{name}:*")]
    hosts = settings.mcp.allowed_hosts
    return StreamableHTTPSessionManager(
        create_protocol(tools),
        security_settings=TransportSecuritySettings(
            enable_dns_rebinding_protection=bool(hosts) or not settings.has_keys,
            allowed_hosts=[*own, *hosts],
            allowed_origins=[f"http://{each}" for each in own] + list(settings.cors_origins),
        ),
        max_request_body_size=settings.mcp.request_bytes,
    )


def _user(owner: str | None) -> object | None:
    """Whom a session belongs to: the package lets nobody else use it."""
    from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
    from mcp.server.auth.provider import AccessToken

    if owner is None:
        return None
    return AuthenticatedUser(AccessToken(token="", client_id=owner, scopes=[]))
