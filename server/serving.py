"""The HTTP server around the app, and its end: it drains before it stops."""

from __future__ import annotations

import asyncio
import signal
import socket

import uvicorn

from server.app import create_app, create_pools
from server.connections import connections
from server.routes.health import Drain
from server.settings import Settings

_LOOK_S = 0.1


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
    config = uvicorn.Config(
        create_app(settings, create_pools(settings), drain),
        host=settings.host,
        port=settings.port,
        http=connections(settings.limits),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=settings.drain_s,
    )
    AnnouncingServer(config, drain, settings.announce_s).run()


class AnnouncingServer(uvicorn.Server):
    """uvicorn, which says in /ready that it will end, and only then stops to listen.

    Args:
        config: Of uvicorn.
        drain: Where it says so.
        announce_s: How long it goes on to listen.
    """

    def __init__(self, config: uvicorn.Config, drain: Drain, announce_s: float) -> None:
        super().__init__(config)
        self._drain = drain
        self._announce_s = announce_s

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Called when a signal has come; a second SIGINT ends the wait."""
        self._drain.is_on = True
        until = asyncio.get_running_loop().time() + self._announce_s
        # A signal handler sets no asyncio.Event.
        while not self.force_exit and asyncio.get_running_loop().time() < until:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S)
        await super().shutdown(sockets)
