"""The async face of one worker process. Event loop only."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import AsyncGenerator
from itertools import count

import msgspec
import numpy as np

from engine.config import WorkerConfig
from engine.errors import LoadFailed, WorkerDied, from_wire
from engine.runtime.wire import (
    Audio,
    Broken,
    Cancel,
    Command,
    Event,
    Failed,
    Finished,
    FrameDecoder,
    Grant,
    Ready,
    Start,
    encode_frame,
)
from engine.types import EngineInfo, PcmChunk, SynthesisRequest

logger = logging.getLogger(__name__)

StreamItem = Audio | Finished | Failed | None
"""What a stream's queue holds; None: the worker died."""


class WorkerClient(asyncio.Protocol):
    """One worker: its process, its socket and the streams that run over it.

    Make one with `start`. `jobs` is the number of streams in flight.
    """

    info: EngineInfo

    def __init__(self, buffer_s: float) -> None:
        self._buffer_s = buffer_s
        self._decoder: FrameDecoder[Event] = FrameDecoder(Event)  # type: ignore[arg-type]
        self._streams: dict[int, asyncio.Queue[StreamItem]] = {}
        self._job_ids = count(1)
        self._loaded: asyncio.Future[EngineInfo] = asyncio.get_running_loop().create_future()
        self._closed = asyncio.Event()
        self._transport: asyncio.WriteTransport
        self._process: asyncio.subprocess.Process

    @classmethod
    async def start(cls, config: WorkerConfig, buffer_s: float, log_level: str) -> WorkerClient:
        """Spawn a worker and wait until its engine has loaded.

        Args:
            config: Goes to the worker's command line.
            buffer_s: Audio that the worker may be ahead of a reader, in seconds.
            log_level: The worker's.
        Raises:
            LoadFailed: the engine could not load, or the process died before it had.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "engine.runtime.worker"),
                *("--fd", str(theirs.fileno()), "--log-level", log_level),
                *("--config", msgspec.json.encode(config).decode()),
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
            )
        loop = asyncio.get_running_loop()
        transport, self = await loop.create_connection(lambda: cls(buffer_s), sock=ours)
        self._transport, self._process = transport, process
        try:
            self.info = await self._loaded
        except BaseException:
            await self.stop()
            raise
        logger.info("event=worker_ready engine=%s pid=%d", config.engine, process.pid)
        return self

    @property
    def jobs(self) -> int:
        return len(self._streams)

    @property
    def is_alive(self) -> bool:
        """As far as the socket tells: the first to know of a death."""
        return not self._closed.is_set()

    async def wait_closed(self) -> int:
        """Wait until the worker is gone; its exit status, negative for a signal."""
        await self._closed.wait()
        return await self._process.wait()

    async def stop(self) -> None:
        """End the worker now; what is in flight fails as WorkerDied."""
        self._transport.abort()
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self._closed.wait()

    async def synthesize(
        self, request: SynthesisRequest, request_id: str
    ) -> AsyncGenerator[PcmChunk, None]:
        """See `engine.protocol.SpeechEngine`. What has queued up is given as one chunk."""
        job_id = next(self._job_ids)
        grant = int(self._buffer_s * self.info.sample_rate)
        queue: asyncio.Queue[StreamItem] = asyncio.Queue()
        self._streams[job_id] = queue
        is_over = owed = 0
        try:
            self._send(Start(job_id, request_id, request, grant))
            while not is_over:
                audio, last = await _take_all(queue)
                if audio:
                    chunk = _joined(audio)
                    yield chunk
                    owed += len(chunk.samples)
                    if owed >= grant // 4:
                        self._send(Grant(job_id, owed))
                        owed = 0
                is_over = _is_last(last)
        finally:
            del self._streams[job_id]
            if not is_over:
                self._send(Cancel(job_id))

    def data_received(self, data: bytes) -> None:
        """asyncio.Protocol: hand each event to its stream."""
        try:
            for event in self._decoder.feed(data):
                self._dispatch(event)
        except ConnectionError as exc:
            logger.error("event=worker_garbled reason=%s", exc)  # noqa: TRY400 - says it all
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """asyncio.Protocol: the worker is gone, and with it all that was in flight."""
        if not self._loaded.done():
            self._loaded.set_exception(LoadFailed("the worker died while it loaded"))
        for queue in self._streams.values():
            queue.put_nowait(None)
        self._closed.set()

    def _dispatch(self, event: Event) -> None:
        match event:
            case Ready(info):
                self._loaded.set_result(info)
            case Broken(error):
                self._loaded.set_exception(from_wire(error))
            case Audio() | Finished() | Failed():
                # A stream that was cancelled is unknown here; its last audio is still on the way.
                if (queue := self._streams.get(event.job_id)) is not None:
                    queue.put_nowait(event)

    def _send(self, command: Command) -> None:
        if not self._transport.is_closing():
            self._transport.write(encode_frame(command))


async def _take_all(queue: asyncio.Queue[StreamItem]) -> tuple[list[Audio], StreamItem | Audio]:
    """Wait for one item, then take what else is there, up to the stream's end."""
    audio: list[Audio] = []
    item = await queue.get()
    while isinstance(item, Audio):
        audio.append(item)
        if queue.empty():
            break
        item = queue.get_nowait()
    return audio, item


def _is_last(item: StreamItem) -> bool:
    match item:
        case None:
            raise WorkerDied("the engine's worker died while it worked on this request")
        case Failed(_, error):
            raise from_wire(error)
        case Finished():
            return True
        case Audio():
            return False


def _joined(audio: list[Audio]) -> PcmChunk:
    data = audio[0].samples if len(audio) == 1 else b"".join(part.samples for part in audio)
    return PcmChunk(
        np.frombuffer(data, np.float32),
        tuple(word for part in audio for word in part.words),
        sum(part.compute_s for part in audio),
    )
