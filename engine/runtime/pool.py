"""The workers of one engine: start, choose, restart, stop. Event loop only."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from engine.config import PoolConfig, WorkerConfig
from engine.errors import LoadFailed, Overloaded, WorkerUnavailable
from engine.protocol import PromptSource
from engine.registry import missing
from engine.runtime.client import WorkerClient
from engine.types import (
    EngineInfo,
    EngineState,
    EngineStatus,
    PcmChunk,
    Samples,
    Segment,
    SynthesisRequest,
    TranscribeOptions,
    TranscriptInfo,
    VoicePrompt,
)

logger = logging.getLogger(__name__)


class EnginePool:
    """Implements the engine's face (`engine.protocol`) over one worker or several.

    Args:
        workers: One process each.
        config: Restarts, waits, buffers.
        log_level: Of the workers.
    """

    def __init__(
        self, workers: Sequence[WorkerConfig], config: PoolConfig, log_level: str = "INFO"
    ) -> None:
        self.name = workers[0].engine
        self._workers = workers
        self._config = config
        self._log_level = log_level
        self._loaded: list[WorkerClient] = []
        self._supervisors: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()
        self._info: EngineInfo | None = None
        self._restarts = 0
        self._error: str | None = None
        self._is_broken = False
        self._is_absent = False

    @property
    def info(self) -> EngineInfo | None:
        return self._info

    @property
    def _live(self) -> list[WorkerClient]:
        return [worker for worker in self._loaded if worker.is_alive]

    @property
    def status(self) -> EngineStatus:
        live = self._live
        idle: EngineState = "starting" if self._info is None else "restarting"
        return EngineStatus(
            state="ready" if live else "absent" if self._is_absent else idle,
            workers=len(live),
            jobs=sum(worker.jobs for worker in live),
            restarts=self._restarts,
            error=None if live else self._error,
        )

    def start(self) -> None:
        """Begin to run the workers. Requests wait until one is ready."""
        self._look(self._workers[0])
        self._supervisors = [asyncio.create_task(self._supervise(each)) for each in self._workers]

    async def stop(self) -> None:
        """End the workers now; what is in flight fails."""
        for supervisor in self._supervisors:
            supervisor.cancel()
        await asyncio.gather(*self._supervisors, return_exceptions=True)

    async def ready(self) -> EngineInfo:
        """See `engine.protocol.SpeechEngine`; waits PoolConfig.wait_s at most."""
        try:
            async with asyncio.timeout(self._config.wait_s):
                while not (live := self._live):
                    if self._is_broken:
                        raise self._unavailable()
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise self._unavailable() from None
        return live[0].info

    async def synthesize(
        self, request: SynthesisRequest, request_id: str, prompt: PromptSource | None = None
    ) -> AsyncGenerator[PcmChunk, None]:
        """See `engine.protocol.SpeechEngine`; on the worker with the fewest jobs."""
        worker = await self._choose()
        async with aclosing(worker.synthesize(request, request_id, prompt)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def prepare(self, prompt: VoicePrompt, request_id: str) -> None:
        """See `engine.protocol.SpeechEngine`; the others find it on disk."""
        worker = await self._choose()
        await worker.prepare(prompt, request_id)

    async def transcribe(
        self, audio: AsyncGenerator[Samples, None], options: TranscribeOptions, request_id: str
    ) -> AsyncGenerator[TranscriptInfo | Segment, None]:
        """See `engine.protocol.TranscriptionEngine`; on the worker with the fewest jobs."""
        worker = await self._choose()
        async with aclosing(worker.transcribe(audio, options, request_id)) as parts:
            async for part in parts:
                yield part

    async def _choose(self) -> WorkerClient:
        await self.ready()
        if self.status.jobs >= self._config.max_jobs:
            raise Overloaded(f"{self.name} is at its limit of {self._config.max_jobs} jobs", 1.0)
        return min(self._live, key=lambda each: each.jobs)

    async def _supervise(self, config: WorkerConfig) -> None:
        """Keep one worker alive until cancelled."""
        delay_s = self._config.restart_delay_s
        while True:
            await self._present(config)
            born = time.monotonic()
            await self._run(config)
            if time.monotonic() - born >= self._config.stable_after_s:
                delay_s = self._config.restart_delay_s
            logger.warning("event=worker_restart engine=%s delay_s=%.1f", self.name, delay_s)
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, self._config.restart_delay_max_s)
            self._restarts += 1

    async def _present(self, config: WorkerConfig) -> None:
        """Wait until all that the engine needs is on this machine: a model may be fetched later."""
        while self._look(config):  # noqa: ASYNC110 - nothing tells when a model has come
            await asyncio.sleep(self._config.look_again_s)

    def _look(self, config: WorkerConfig) -> bool:
        """Whether something that the engine needs is absent."""
        reason = missing(config)
        self._is_absent = reason is not None
        if reason is not None and reason != self._error:
            logger.info("event=absent engine=%s reason=%s", self.name, reason)
            self._error, self._is_broken = reason, True
            self._changed.set()
        return self._is_absent

    async def _run(self, config: WorkerConfig) -> None:
        """One life of one worker."""
        try:
            worker = await WorkerClient.start(config, self._config.buffer_s, self._log_level)
        except LoadFailed as exc:
            self._error, self._is_broken = str(exc), True
            self._changed.set()
            logger.error("event=load_failed engine=%s reason=%s", self.name, exc)  # noqa: TRY400
            return
        self._info, self._is_broken = worker.info, False
        self._loaded.append(worker)
        self._changed.set()
        try:
            status = await worker.wait_closed()
            self._error = f"the worker died with status {status}"
            logger.error("event=worker_died engine=%s status=%d", self.name, status)
        finally:
            self._loaded.remove(worker)
            await worker.stop()

    def _unavailable(self) -> WorkerUnavailable:
        reason = f": {self._error}" if self._error else ""
        return WorkerUnavailable(f"{self.name} is not ready{reason}", retry_after_s=2.0)
