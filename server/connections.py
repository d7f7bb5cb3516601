"""uvicorn's connections, with the bounds that uvicorn does not set. Event loop only."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from server.settings import Limits
from server.tallies import ended_connections

logger = logging.getLogger(__name__)

_HEAD_BYTES = 64 << 10
"""Of a request's line, headers and trailers."""
_SEPARATOR_BYTES = 4
"""In a header: the colon, a space, the line's end."""


class _Timer:
    """Calls once, unless it is stopped before."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._handle: asyncio.TimerHandle | None = None

    def start(self, call: Callable[[], None]) -> None:
        """Afresh."""
        self.stop()
        self._handle = asyncio.get_running_loop().call_later(self._delay_s, call)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._handle = None

    @property
    def is_running(self) -> bool:
        return self._handle is not None


def connections(
    limits: Limits, connected: Callable[[], None] = lambda: None
) -> type[HttpToolsProtocol]:
    """What uvicorn's `http` setting takes.

    A connection is ended whose request's head does not come in time, or is too large, and one
    whose reader takes nothing for too long. The app sees a client that left.

    Args:
        limits: Of heads and readers.
        connected: Called for each new connection.
    """

    class BoundedConnection(HttpToolsProtocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            self._head_timer = _Timer(limits.head_read_s)
            self._stall_timer = _Timer(limits.stalled_reader_s)
            self._is_in_head = False
            self._unfinished_bytes = self._head_bytes = 0
            super().connection_made(transport)
            connected()
            self._await_head()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._is_in_head:
                self._unfinished_bytes += len(data)
                if self._unfinished_bytes > _HEAD_BYTES and not self.transport.is_closing():
                    self.send_400_response("The request's headers are too large.")
            if self.cycle is not None and self.cycle.response_complete:
                # uvicorn's own timer ended with the first byte that came after the answer.
                self._await_head()

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._is_in_head = True
            self._unfinished_bytes = self._head_bytes = 0

        def on_url(self, url: bytes) -> None:
            self._count(len(url))
            super().on_url(url)

        def on_header(self, name: bytes, value: bytes) -> None:
            self._count(len(name) + len(value) + _SEPARATOR_BYTES)
            # A trailer is left out: the headers have been acted on.
            if self._is_in_head:
                super().on_header(name, value)

        def on_headers_complete(self) -> None:
            self._head_timer.stop()
            self._is_in_head = False
            super().on_headers_complete()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._watch_reader()

        def resume_writing(self) -> None:
            self._stall_timer.stop()
            super().resume_writing()

        def connection_lost(self, exc: Exception | None) -> None:
            self._head_timer.stop()
            self._stall_timer.stop()
            super().connection_lost(exc)

        def _await_head(self) -> None:
            if not self._head_timer.is_running and not self.transport.is_closing():
                self._head_timer.start(partial(self._end, "head_read_s"))

        def _count(self, head_bytes: int) -> None:
            self._head_bytes += head_bytes
            if self._head_bytes > _HEAD_BYTES:
                # uvicorn answers 400 to whatever its parser cannot take.
                raise ValueError("the request's headers are too large")

        def _watch_reader(self) -> None:
            unread_bytes = self.transport.get_write_buffer_size()

            def look() -> None:
                if self.transport.get_write_buffer_size() == unread_bytes:
                    self._end("stalled_reader_s")
                else:
                    self._watch_reader()

            self._stall_timer.start(look)

        def _end(self, reason: str) -> None:
            logger.info("event=connection_ended reason=%s", reason)
            ended_connections[reason] += 1
            self.transport.abort()

    return BoundedConnection
