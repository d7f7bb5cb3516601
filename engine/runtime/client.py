"""The async face of one worker process. Event loop only."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from itertools import count

import msgspec
import numpy as np

from engine.config import PoolConfig, WorkerConfig
from engine.errors import LoadFailed, PromptUnknown, WorkerDied, from_wire
from engine.protocol import PromptSource
from engine.runtime.heartbeat import Watchdog, beat_interval_s
from engine.runtime.stream import Budget, JobStream
from engine.runtime.wire import (
    Audio,
    Beat,
    Broken,
    Cancel,
    Command,
    Event,
    Finished,
    Found,
    FrameDecoder,
    Grant,
    Heard,
    Listen,
    Measure,
    Offload,
    Placed,
    Placing,
    Prepare,
    Ready,
    Restore,
    Room,
    Sound,
    Start,
    encode_frame,
)
from engine.types import (
    DeviceMemory,
    EngineInfo,
    PcmChunk,
    Samples,
    Segment,
    StageSteps,
    SynthesisRequest,
    TranscribeOptions,
    TranscriptInfo,
    VoicePrompt,
)

logger = logging.getLogger(__name__)

LISTEN_AHEAD_S = 5.0
"""Sound sent before the worker has asked for it. A cancel waits behind it in the socket, and some
engines hold the GIL that the worker's reader needs, so it is little."""

DEATH = "the engine's worker died while it worked on this request"

_LEAVE_S = 1.0
"""How long a process may take to end once it has closed its socket."""


class WorkerClient(asyncio.Protocol):
    """One worker: its process, its socket and the streams that run over it.

    Make one with `start`.

    Attributes:
        info: What the engine is.
        can_offload: Whether it can leave its device.
        memory: Of its device, as last measured.
        steps: That it has done, as last measured.
        last_words: Why the worker ended, if it said so, or was ended.
        has_worked: It has finished a job.
        is_suspect: It has not got on for a while, and may hang.
    """

    info: EngineInfo
    can_offload: bool
    memory: DeviceMemory | None

    def __init__(self, config: PoolConfig, on_doubt: Callable[[], None]) -> None:
        self._buffer_s = config.buffer_s
        self._look_s = beat_interval_s(config)
        self._watchdog = Watchdog(config, time.monotonic())
        self._on_doubt = on_doubt
        self._watching: asyncio.Task[None] | None = None
        self.is_suspect = False
        self.has_worked = False
        self.steps: tuple[StageSteps, ...] = ()
        self._decoder: FrameDecoder[Event] = FrameDecoder(Event)  # type: ignore[arg-type]
        self._streams: dict[int, JobStream] = {}
        self._job_ids = count(1)
        self._loaded: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
        self._placings: deque[asyncio.Future[None]] = deque()
        self.last_words: str | None = None
        self._closed = asyncio.Event()
        self._transport: asyncio.WriteTransport
        self._process: asyncio.subprocess.Process

    @classmethod
    async def start(
        cls, config: WorkerConfig, pool: PoolConfig, log_level: str, on_doubt: Callable[[], None]
    ) -> WorkerClient:
        """Spawn a worker and wait until its engine has loaded.

        Args:
            config: Goes to the worker's command line.
            pool: Its buffer, its load and its patience.
            log_level: The worker's.
            on_doubt: Called when `is_suspect` has changed.
        Raises:
            LoadFailed: the engine could not load, or the process died or hung before it had.
        """
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "engine.runtime.worker"),
                    *("--fd", str(theirs.fileno()), "--log-level", log_level),
                    *("--max-load", str(pool.max_load)),
                    *("--beat-s", str(beat_interval_s(pool))),
                    *("--config", msgspec.json.encode(config).decode()),
                    pass_fds=(theirs.fileno(),),
                    stdin=asyncio.subprocess.DEVNULL,
                )
            loop = asyncio.get_running_loop()
            transport, self = await loop.create_connection(lambda: cls(pool, on_doubt), sock=ours)
        except BaseException:
            # A worker that has started ends when it sees this.
            ours.close()
            raise
        self._transport, self._process = transport, process
        self._watching = asyncio.create_task(self._watch())
        try:
            ready = await self._loaded
        except BaseException:
            await self.stop()
            raise
        self.info, self.can_offload, self.memory = ready.info, ready.can_offload, ready.memory
        logger.info("event=worker_ready engine=%s pid=%d", config.engine, process.pid)
        return self

    @property
    def jobs(self) -> int:
        """Streams in flight."""
        return len(self._streams)

    @property
    def is_alive(self) -> bool:
        """As far as the socket tells: the first to know of a death."""
        return not self._closed.is_set()

    async def wait_closed(self) -> int:
        """Wait until the worker is gone; its exit status, negative for a signal."""
        await self._closed.wait()
        try:
            async with asyncio.timeout(_LEAVE_S):
                return await self._process.wait()
        except TimeoutError:
            self._process.kill()
            return await self._process.wait()

    async def stop(self) -> None:
        """End the worker now; what is in flight fails as WorkerDied."""
        self._transport.abort()
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self._closed.wait()

    async def offload(self) -> None:
        """Have the engine leave its device; it must have no job.

        Raises:
            WorkerDied: it could not.
        """
        await self._place(Offload())

    async def restore(self) -> None:
        """Have the engine come back to its device.

        Raises:
            WorkerDied: it could not.
        """
        await self._place(Restore())

    async def measure(self) -> None:
        """Renew `memory`; waits for the step that runs.

        Raises:
            WorkerDied: there is nothing left to measure.
        """
        await self._place(Measure())

    async def _place(self, command: Placing) -> None:
        if not self.is_alive:
            raise WorkerDied(DEATH)
        placed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._placings.append(placed)
        self._send(command)
        await placed

    async def prepare(self, prompt: VoicePrompt, request_id: str) -> None:
        """See `engine.protocol.SpeechEngine`."""
        with self._stream() as stream:
            self._send(Prepare(stream.job_id, request_id, prompt))
            while not stream.is_over:
                await stream.take()

    async def synthesize(
        self, request: SynthesisRequest, request_id: str, prompt: PromptSource | None = None
    ) -> AsyncGenerator[PcmChunk, None]:
        """See `engine.protocol.SpeechEngine`."""
        try:
            async with aclosing(self._synthesize(request, request_id)) as chunks:
                async for chunk in chunks:
                    yield chunk
            return
        except PromptUnknown:
            # Only ever the first answer: nothing has been given yet.
            if prompt is None:
                raise
        await self.prepare(await prompt(), request_id)
        async with aclosing(self._synthesize(request, request_id)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _synthesize(
        self, request: SynthesisRequest, request_id: str
    ) -> AsyncGenerator[PcmChunk, None]:
        """One job; what has queued up is given as one chunk."""
        grant = int(self._buffer_s * self.info.sample_rate)
        owed = 0
        with self._stream() as stream:
            self._send(Start(stream.job_id, request_id, request, grant))
            while not stream.is_over:
                audio = [event for event in await stream.take() if isinstance(event, Audio)]
                if audio:
                    chunk = _joined(audio)
                    yield chunk
                    owed += len(chunk.samples)
                    if owed >= grant // 4:
                        self._send(Grant(stream.job_id, owed))
                        owed = 0

    async def transcribe(
        self, audio: AsyncGenerator[Samples, None], options: TranscribeOptions, request_id: str
    ) -> AsyncGenerator[TranscriptInfo | Segment, None]:
        """See `engine.protocol.TranscriptionEngine`."""
        room = Budget(int(LISTEN_AHEAD_S * self.info.sample_rate))
        with self._stream() as stream:
            self._send(Listen(stream.job_id, request_id, options))
            feeding = asyncio.create_task(self._feed(audio, room, stream))
            try:
                while not stream.is_over:
                    for event in await stream.take():
                        match event:
                            case Room(_, samples):
                                room.add(samples)
                            case Heard(_, info):
                                yield info
                            case Found(_, segment):
                                yield segment
            finally:
                feeding.cancel()
                await asyncio.gather(feeding, return_exceptions=True)

    async def _feed(
        self, audio: AsyncGenerator[Samples, None], room: Budget, stream: JobStream
    ) -> None:
        """Send a recording as there is room for it. A failure to read it ends the stream."""
        try:
            async with aclosing(audio):
                async for block in audio:
                    await room.take(len(block))
                    self._send(Sound(stream.job_id, block.tobytes()))
            self._send(Sound(stream.job_id, b""))
        except Exception as exc:  # noqa: BLE001 - it is raised where the stream is read
            stream.put(exc)

    @contextmanager
    def _stream(self) -> Iterator[JobStream]:
        """A job's events; a job that is left before its end is cancelled."""
        if not self.is_alive:
            raise WorkerDied(DEATH)
        stream = JobStream(next(self._job_ids))
        self._streams[stream.job_id] = stream
        try:
            yield stream
        finally:
            del self._streams[stream.job_id]
            if not stream.is_over:
                self._send(Cancel(stream.job_id))

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
            reason = self.last_words or "the worker died while it loaded"
            self._loaded.set_exception(LoadFailed(reason))
        if self._watching is not None:
            self._watching.cancel()
        for stream in self._streams.values():
            stream.put(WorkerDied(DEATH))
        for placed in self._placings:
            if not placed.done():
                placed.set_exception(WorkerDied(self.last_words or DEATH))
        self._closed.set()

    def _dispatch(self, event: Event) -> None:
        match event:
            case Beat():
                self._watchdog.saw(event)
            case Ready():
                self._loaded.set_result(event)
            case Broken(error) if self._loaded.done():
                self.last_words = error.message
            case Broken(error):
                self._loaded.set_exception(from_wire(error))
            case Placed(memory, steps):
                self.memory, self.steps = memory, steps
                # Who asked may have left meanwhile.
                if not (placed := self._placings.popleft()).done():
                    placed.set_result(None)
            case _:
                self.has_worked |= isinstance(event, Finished)
                # A stream that was cancelled is unknown here; its last events are on their way.
                if (stream := self._streams.get(event.job_id)) is not None:
                    stream.put(event)

    async def _watch(self) -> None:
        """Doubt a worker that does not get on, and end it if that lasts."""
        while self.is_alive:
            await asyncio.sleep(self._look_s)
            self._watchdog.look(time.monotonic())
            if self._watchdog.is_hung:
                self._end_hung()
            elif self._watchdog.is_suspect != self.is_suspect:
                self.is_suspect = self._watchdog.is_suspect
                self._on_doubt()

    def _end_hung(self) -> None:
        stalled_s = self._watchdog.stalled_s
        self.last_words = f"the worker hung: it did not get on for {stalled_s:.1f} s"
        logger.error("event=worker_hung pid=%d stalled_s=%.1f", self._process.pid, stalled_s)
        # A process that is stuck in the kernel outlives even this: what it had fails now.
        self._transport.abort()
        if self._process.returncode is None:
            self._process.kill()

    def _send(self, command: Command) -> None:
        if not self._transport.is_closing():
            self._transport.write(encode_frame(command))


def _joined(audio: list[Audio]) -> PcmChunk:
    data = audio[0].samples if len(audio) == 1 else b"".join(part.samples for part in audio)
    return PcmChunk(
        np.frombuffer(data, np.float32),
        tuple(word for part in audio for word in part.words),
        sum(part.compute_s for part in audio),
        audio[-1].progress,
    )
