"""From an engine's PCM to a response that streams. Event loop only.

A failure before the first byte is an error answer. After it the connection is broken off: a stream
that ended well would be taken for a short success.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from concurrent.futures import Executor
from contextlib import aclosing
from functools import partial
from typing import TypeVar

import msgspec
from litestar.types import Receive, Scope, Send
from msgspec import Struct

from engine.types import PcmChunk, Samples, Word
from server.audio.encoder import AudioEncoder
from server.audio.shaper import Shaper
from server.errors import ClientGone

logger = logging.getLogger(__name__)

T = TypeVar("T")


SSE_MEDIA_TYPE = "text/event-stream; charset=utf-8"


class EncodedChunk(Struct, frozen=True):
    """The next bytes of a stream, and what is spoken in them."""

    data: bytes
    words: tuple[Word, ...] = ()
    """That begin in them."""
    progress: float | None = None
    """As PcmChunk's; ahead of these bytes by what shaper and codec hold back of the sound."""


async def encode_chunks(
    chunks: AsyncGenerator[PcmChunk, None],
    shaper: Shaper,
    encoder: AudioEncoder,
    executor: Executor | None,
) -> AsyncGenerator[EncodedChunk, None]:
    """Shape and encode audio as it comes.

    Args:
        chunks: Closed when this generator is.
        shaper: To the rate and tempo asked for.
        encoder: To the format asked for.
        executor: Where compression runs; None runs it here, for what costs microseconds.
    """

    def encode(samples: Samples) -> bytes:
        return encoder.encode(shaper.push(samples))

    def flush() -> bytes:
        return encoder.encode(shaper.flush()) + encoder.flush()

    words: tuple[Word, ...] = ()
    progress: float | None = None
    async with aclosing(chunks):
        async for chunk in chunks:
            words += chunk.words
            progress = chunk.progress
            if data := await _run(executor, partial(encode, chunk.samples)):
                yield EncodedChunk(data, words, progress)
                words = ()
    if (data := await _run(executor, flush)) or words:
        yield EncodedChunk(data, words, progress)


async def unless_gone(receive: Receive, work: Awaitable[T]) -> T:
    """Await work, and cancel it the moment the client leaves. The request's body must be read.

    Raises:
        ClientGone: the client left first.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnect(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGone
    finally:
        # wait() leaves its children running when it is cancelled itself.
        task.cancel()
        gone.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


class StreamedBody:
    """An ASGI app that sends a stream whose first chunk is here already.

    Args:
        first: The first bytes.
        rest: The others; closed whatever happens.
        media_type: Of the stream.
        headers: Others; names in lower case.
        on_end: Told how it ended: None, or the exception. Called once.
    """

    def __init__(
        self,
        first: bytes,
        rest: AsyncGenerator[bytes, None],
        media_type: str,
        headers: Mapping[str, str],
        on_end: Callable[[BaseException | None], None],
    ) -> None:
        self._first = first
        self._rest = rest
        # Proxies such as nginx would hold a stream back otherwise.
        unheld = {"cache-control": "no-cache", "x-accel-buffering": "no"}
        every = {"content-type": media_type, **unheld, **headers}
        self._headers = [(name.encode(), value.encode()) for name, value in every.items()]
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self._headers})
            await unless_gone(receive, self._send_all(send))
        except (Exception, asyncio.CancelledError) as exc:
            self._on_end(exc)
            if isinstance(exc, asyncio.CancelledError):
                raise
            # To return without the last message makes the server break the connection off.
        else:
            self._on_end(None)

    async def _send_all(self, send: Send) -> None:
        async with aclosing(self._rest) as rest:
            await _send_part(send, self._first)
            async for data in rest:
                await _send_part(send, data)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def sse(payload: Struct) -> bytes:
    """One server-sent event."""
    return b"data: " + msgspec.json.encode(payload) + b"\n\n"


async def _send_part(send: Send, data: bytes) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": True})


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _run(executor: Executor | None, work: Callable[[], bytes]) -> bytes:
    if executor is None:
        return work()
    return await asyncio.get_running_loop().run_in_executor(executor, work)
