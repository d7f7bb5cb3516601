"""The workers of one engine: which one takes a job, and who has to be woken. Event loop only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import ExitStack, aclosing

from engine.config import PoolConfig, WorkerConfig
from engine.errors import EngineBusy, InvalidRequest, Overloaded, WorkerUnavailable
from engine.protocol import PromptSource
from engine.runtime.client import WorkerClient
from engine.runtime.devices import Devices
from engine.runtime.residency import Goal
from engine.runtime.seat import Seat
from engine.types import (
    EngineInfo,
    EngineState,
    EngineStatus,
    PcmChunk,
    Residence,
    Samples,
    Segment,
    SynthesisRequest,
    TranscribeOptions,
    TranscriptInfo,
    VoicePrompt,
    WorkerStatus,
)

_WAKEFUL: tuple[Residence, ...] = ("resident", "loading", "offloaded", "stopped")
"""The most wakeful first."""


class EnginePool:
    """Implements the engine's face (`engine.protocol`) over one worker or several.

    Args:
        workers: One process each.
        config: Restarts, waits, buffers, sleep.
        log_level: Of the workers.
        devices: Shared with the other engines; None for an engine that is alone.
    """

    def __init__(
        self,
        workers: Sequence[WorkerConfig],
        config: PoolConfig,
        log_level: str = "INFO",
        devices: Devices | None = None,
    ) -> None:
        self.name = workers[0].engine
        self._config = config
        self._devices = devices or Devices(config.device_budget_bytes)
        self._seats = [Seat(each, config, log_level, self._devices) for each in workers]
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def info(self) -> EngineInfo | None:
        return next((seat.info for seat in self._seats if seat.info is not None), None)

    @property
    def can_offload(self) -> bool:
        """Whether it can leave its device; known once it has loaded."""
        return any(seat.residency.can_offload for seat in self._seats)

    @property
    def _live(self) -> list[WorkerClient]:
        return [seat.worker for seat in self._seats if seat.worker is not None]

    @property
    def status(self) -> EngineStatus:
        can_take = any(
            seat.is_awake or seat.is_waking or (seat.is_asleep and seat.info is not None)
            for seat in self._seats
        )
        idle: EngineState = "starting" if self.info is None else "restarting"
        is_absent = any(seat.is_absent for seat in self._seats)
        errors = (seat.error for seat in self._seats if seat.error is not None)
        return EngineStatus(
            state="ready" if can_take else "absent" if is_absent else idle,
            workers=len(self._live),
            jobs=sum(seat.jobs for seat in self._seats),
            restarts=sum(seat.restarts for seat in self._seats),
            error=None if can_take else next(errors, None),
            residence=min((seat.residence for seat in self._seats), key=_WAKEFUL.index),
        )

    @property
    def workers(self) -> tuple[WorkerStatus, ...]:
        """Each of them, its memory as last measured."""
        return tuple(seat.status for seat in self._seats)

    async def inspect(self) -> tuple[WorkerStatus, ...]:
        """Each of them, its memory as measured now; waits for the steps that run."""
        await asyncio.gather(*(seat.measure() for seat in self._seats))
        return self.workers

    def start(self) -> None:
        """Begin to run the workers. Requests wait until one is ready."""
        for seat in self._seats:
            seat.look()
        self._tasks = [asyncio.create_task(seat.run()) for seat in self._seats]

    async def stop(self) -> None:
        """End the workers now; what is in flight fails."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def wake(self) -> None:
        """Bring all workers to their devices; waits PoolConfig.wake_s at most.

        Raises:
            WorkerUnavailable: one did not come.
        """
        for seat in self._seats:
            seat.wake()
        await self._until(lambda: all(seat.is_awake for seat in self._seats), self._config.wake_s)

    async def sleep(self, goal: Goal) -> None:
        """Send all workers to sleep; the next request wakes them.

        Raises:
            EngineBusy: one has a job, or somebody waits for one.
            InvalidRequest: "offloaded", and the engine cannot leave its device.
            WorkerUnavailable: one is stuck.
        """
        if any(seat.residency.leases for seat in self._seats):
            raise EngineBusy(f"{self.name} has jobs in flight: it cannot go to sleep now")
        # An engine that has never loaded has not said whether it can.
        if goal == "offloaded" and self.info is not None and not self.can_offload:
            raise InvalidRequest(f"{self.name} cannot leave its device: stop it instead", None)
        for seat in self._seats:
            seat.sleep(goal)
        # A request that comes meanwhile wakes it.
        await self._until(
            lambda: all(seat.is_settled or not seat.is_asleep for seat in self._seats),
            self._config.wake_s,
        )

    async def ready(self) -> EngineInfo:
        """See `engine.protocol.EngineFace`; an engine that sleeps is ready, and sleeps on."""
        if (info := self.info) is not None and any(
            seat.is_awake or seat.is_asleep for seat in self._seats
        ):
            return info
        info = (await self._wait(None)).info
        assert info is not None, "it is awake"
        return info

    async def synthesize(
        self, request: SynthesisRequest, request_id: str, prompt: PromptSource | None = None
    ) -> AsyncGenerator[PcmChunk, None]:
        """See `engine.protocol.SpeechEngine`."""
        digest = request.prompt.digest if request.prompt is not None else None
        seat = await self._choose(digest)
        with seat.lease(digest) as worker:
            async with aclosing(worker.synthesize(request, request_id, prompt)) as chunks:
                async for chunk in chunks:
                    yield chunk

    async def prepare(self, prompt: VoicePrompt, request_id: str) -> None:
        """See `engine.protocol.SpeechEngine`; the others find it on disk."""
        seat = await self._choose(prompt.digest)
        with seat.lease(prompt.digest) as worker:
            await worker.prepare(prompt, request_id)

    async def transcribe(
        self, audio: AsyncGenerator[Samples, None], options: TranscribeOptions, request_id: str
    ) -> AsyncGenerator[TranscriptInfo | Segment, None]:
        """See `engine.protocol.TranscriptionEngine`."""
        seat = await self._choose(None)
        with seat.lease() as worker:
            async with aclosing(worker.transcribe(audio, options, request_id)) as parts:
                async for part in parts:
                    yield part

    async def _choose(self, digest: str | None) -> Seat:
        """A seat whose worker takes the job now.

        Raises:
            Overloaded: there are enough jobs.
            WorkerUnavailable: there is no worker, and none came in time.
        """
        seat = self._best(digest) or await self._wait(digest)
        if self.status.jobs >= self._config.max_jobs:
            raise Overloaded(f"{self.name} is at its limit of {self._config.max_jobs} jobs", 1.0)
        if seat.jobs:
            # It is taken all the same: the next ones will find another awake.
            self._rouse()
        return seat

    def _best(self, digest: str | None) -> Seat | None:
        """With the fewest jobs; one more is no hindrance if it knows the prompt already."""
        awake = [seat for seat in self._seats if seat.is_awake]
        least = min((seat.jobs for seat in awake), default=0)
        near = [seat for seat in awake if seat.jobs <= least + 1]
        return min(near, key=lambda seat: (not seat.knows(digest), seat.jobs), default=None)

    async def _wait(self, digest: str | None) -> Seat:
        """Wait for a worker; wakes one if they sleep."""
        is_any_asleep = any(seat.is_asleep or seat.is_waking for seat in self._seats)
        limit_s = self._config.wake_s if is_any_asleep else self._config.wait_s
        with ExitStack() as holds:
            for seat in self._seats:
                holds.enter_context(seat.hold())
            self._rouse()
            await self._until(lambda: self._best(digest) is not None, limit_s)
            best = self._best(digest)
        assert best is not None, "nothing has been awaited since"
        return best

    def _rouse(self) -> None:
        """Wake the sleeper that comes soonest, unless one is on its way."""
        asleep = [seat for seat in self._seats if seat.is_asleep]
        if asleep and not any(seat.is_waking for seat in self._seats):
            min(asleep, key=lambda seat: _WAKEFUL.index(seat.residency.residence)).wake()

    async def _until(self, is_so: Callable[[], bool], limit_s: float) -> None:
        """Wait for it.

        Raises:
            WorkerUnavailable: it did not come, or cannot.
        """
        try:
            async with asyncio.timeout(limit_s):
                while not is_so():
                    if all(seat.is_broken for seat in self._seats):
                        raise self._unavailable()
                    await self._devices.news.wait()
        except TimeoutError:
            raise self._unavailable() from None

    def _unavailable(self) -> WorkerUnavailable:
        error = next((seat.error for seat in self._seats if seat.error is not None), None)
        reason = f": {error}" if error else ""
        return WorkerUnavailable(f"{self.name} is not ready{reason}", retry_after_s=2.0)
