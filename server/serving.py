"""The HTTP server around the app: it takes connections together, and drains before it stops."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket

import uvicorn

from server.app import create_app, create_pools
from server.connections import connections
from server.doorway import Doorway
from server.routes.health import Drain
from server.settings import Settings

_LOOK_S = 0.1
_TAKEN_A_TURN = 8
"""Connections that are taken in a turn of the event loop. Each more costs a lone one some
microseconds."""


def run_server(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then let requests finish: Settings.drain_s at most.

    Raises:
        SettingsError, StoreUnavailable: as `create_app`.
    """
    # uvicorn raises the signal that ended it once more when it has drained; an end that was asked
    # for is a success.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    drain = Drain()
    doorway = Doorway(create_app(settings, create_pools(settings), drain))
    config = uvicorn.Config(
        doorway,
        host=settings.host,
        port=settings.port,
        http=connections(settings.limits, doorway.connected),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=settings.drain_s,
    )
    AnnouncingServer(config, drain, settings.announce_s).run()


class AnnouncingServer(uvicorn.Server):
    """uvicorn, which takes connections as they come together, and says in /ready that it will end;
    only then it stops to listen.

    Args:
        config: Of uvicorn.
        drain: Where it says so.
        announce_s: How long it goes on to listen.
    """

    def __init__(self, config: uvicorn.Config, drain: Drain, announce_s: float) -> None:
        super().__init__(config)
        self._drain = drain
        self._announce_s = announce_s

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Called by uvicorn; the server takes requests when this returns."""
        await super().startup(sockets)
        await self._take_together()
        # What is here now stays. To look through it for garbage takes the time of many requests.
        gc.collect()
        gc.freeze()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Called when a signal has come; a second SIGINT ends the wait."""
        self._drain.is_on = True
        until = asyncio.get_running_loop().time() + self._announce_s
        # A signal handler sets no asyncio.Event.
        while not self.force_exit and asyncio.get_running_loop().time() < until:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S)
        await super().shutdown(sockets)

    async def _take_together(self) -> None:
        """Listen several times on each socket: uvloop takes one connection in a turn of the loop,
        and a crowd would keep all that come later out for as many turns."""
        loop, config = asyncio.get_running_loop(), self.config

        def connection() -> asyncio.Protocol:
            return config.http_protocol_class(  # type: ignore[call-arg]
                config=config, server_state=self.server_state, app_state=self.lifespan.state
            )

        for listener in [each for server in self.servers for each in server.sockets]:
            for _ in range(_TAKEN_A_TURN - 1):
                again = socket.fromfd(listener.fileno(), listener.family, listener.type)
                server = await loop.create_server(connection, sock=again, backlog=config.backlog)
                self.servers.append(server)
