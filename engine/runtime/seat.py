"""One worker's place in a pool: its process is started, restarted, put to sleep and woken.

A task of its own does all of that (`run`); others set the goal and wait for news.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from engine.config import PoolConfig, WorkerConfig
from engine.errors import LoadFailed, WorkerDied
from engine.registry import missing
from engine.runtime.client import WorkerClient
from engine.runtime.devices import Devices
from engine.runtime.residency import Goal, Holding, Residency
from engine.runtime.tally import together
from engine.types import Device, DeviceMemory, EngineInfo, Residence, StageSteps, WorkerStatus

logger = logging.getLogger(__name__)

_PROMPTS_REMEMBERED = 256
_MEASURE_S = 2.0
"""How long a status waits for the step that runs; then the last measure has to do."""


class Seat:
    """Event loop only.

    Attributes:
        residency: Where its weights are and should be; goals are set by `want`.
        info: What the engine said of itself when it last loaded.
        is_absent: Something that it needs is not on this machine.
        is_broken: It could not load; cleared when it can, or when somebody wakes it.
        restarts: After deaths and failures.
        error: The last one.
    """

    def __init__(
        self, config: WorkerConfig, pool: PoolConfig, log_level: str, devices: Devices
    ) -> None:
        self.residency = Residency(pool.idle_offload_s, pool.idle_stop_s, time.monotonic())
        self.info: EngineInfo | None = None
        self.is_absent = False
        self.is_broken = False
        self.restarts = 0
        self.error: str | None = None
        self._config = config
        self._pool = pool
        self._log_level = log_level
        self._devices = devices
        self._client: WorkerClient | None = None
        self._last_device: Device = config.device
        self._resident_bytes = 0
        self._prompts: OrderedDict[str, None] = OrderedDict()
        self._was_stable = False
        self._wakes = 0
        self._wake_s = 0.0
        self._woken_at: float | None = None
        self._past_steps: tuple[StageSteps, ...] = ()
        """Of workers that have ended."""
        devices.add(self)

    @property
    def name(self) -> str:
        return self._config.engine

    @property
    def device(self) -> Device:
        """As measured; before that, as the settings name it."""
        return self._last_device

    @property
    def residence(self) -> Residence:
        """For people: one that cannot come is not "loading", though it should be there."""
        return "stopped" if self.is_absent else self.residency.residence

    @property
    def worker(self) -> WorkerClient | None:
        """The process, if there is one, on its device or not."""
        return self._client if self._client is not None and self._client.is_alive else None

    @property
    def jobs(self) -> int:
        return self._client.jobs if self._client is not None else 0

    @property
    def is_awake(self) -> bool:
        """Whether it can take a job now."""
        return self.worker is not None and not self._is_suspect and self.residency.is_awake

    @property
    def is_asleep(self) -> bool:
        """Whether it sleeps, or is about to: a request wakes it."""
        return self.residency.goal != "resident"

    @property
    def is_settled(self) -> bool:
        """Whether it sleeps as deep as it should, or deeper."""
        return self.residency.residence in (self.residency.goal, "stopped")

    @property
    def is_waking(self) -> bool:
        """Whether somebody has woken it, and it is on its way."""
        return self._woken_at is not None

    @property
    def _is_suspect(self) -> bool:
        return self._client is not None and self._client.is_suspect

    @property
    def memory(self) -> DeviceMemory | None:
        """Of its device, as last measured."""
        return self._client.memory if self._client is not None else None

    @property
    def holding(self) -> Holding:
        """See `engine.runtime.devices`."""
        held_bytes = self.memory.used_bytes if self.memory is not None else 0
        return self.residency.holding(held_bytes)

    @property
    def status(self) -> WorkerStatus:
        is_busy = self.residency.leases > 0
        return WorkerStatus(
            residence=self.residence,
            device=self.device,
            memory=self.memory,
            idle_s=None if is_busy else time.monotonic() - self.residency.idle_since,
            jobs=self.jobs,
            restarts=self.restarts,
            wakes=self._wakes,
            wake_s=self._wake_s,
            error=None if self.worker is not None and not self._is_suspect else self.error,
            steps=self._steps,
        )

    @property
    def _steps(self) -> tuple[StageSteps, ...]:
        return together(self._past_steps, self._client.steps if self._client is not None else ())

    def knows(self, digest: str | None) -> bool:
        """Whether the worker has this prompt's features in memory, as far as can be told here."""
        return digest in self._prompts

    def wake(self) -> None:
        """Bring it to its device, from wherever it is; one wake for however many ask."""
        if not self.is_asleep:
            return
        self.residency.want("resident")
        self.is_broken = False
        if not self.residency.is_awake:
            self._wakes += 1
            self._woken_at = time.monotonic()
        self._devices.news.give()

    def sleep(self, goal: Goal) -> None:
        """Send it to sleep, if it is not deeper asleep already; it must not be leased."""
        if goal == "offloaded" and self.residency.residence in ("offloaded", "stopped"):
            return
        self.residency.want(goal)
        self._woken_at = None
        self._devices.news.give()

    def leave(self) -> None:
        """See `engine.runtime.devices`: from its device, or from there what is left of it."""
        can_offload = self.residency.can_offload and self.residency.residence == "resident"
        self.sleep("offloaded" if can_offload else "stopped")

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep it from going to sleep."""
        self.residency.lease()
        try:
            yield
        finally:
            self.residency.release(time.monotonic())
            self._devices.news.give()

    @contextmanager
    def lease(self, digest: str | None = None) -> Iterator[WorkerClient]:
        """The worker, for a job; it must be awake.

        Args:
            digest: Of the job's prompt.
        """
        assert self._client is not None, "it is awake"
        self.residency.want("resident")
        if digest is not None:
            self._prompts[digest] = None
            self._prompts.move_to_end(digest)
            if len(self._prompts) > _PROMPTS_REMEMBERED:
                self._prompts.popitem(last=False)
        with self.hold():
            yield self._client

    async def measure(self) -> None:
        """Renew `memory`, if that can be had soon."""
        if (worker := self.worker) is None:
            return
        try:
            async with asyncio.timeout(_MEASURE_S):
                await worker.measure()
        except (TimeoutError, WorkerDied):
            return

    async def run(self) -> None:
        """Keep the worker where it should be, until cancelled."""
        delay_s = self._pool.restart_delay_s
        while True:
            await self._until_needed()
            if await self._live():
                delay_s = self._pool.restart_delay_s
                continue
            if self._was_stable:
                delay_s = self._pool.restart_delay_s
            logger.warning("event=worker_restart engine=%s delay_s=%.1f", self.name, delay_s)
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, self._pool.restart_delay_max_s)
            self.restarts += 1

    def look(self) -> bool:
        """Whether something that the engine needs is absent."""
        reason = missing(self._config)
        self.is_absent = reason is not None
        if reason is not None and (reason != self.error or not self.is_broken):
            logger.info("event=absent engine=%s reason=%s", self.name, reason)
            self._failed(reason)
        return self.is_absent

    async def _until_needed(self) -> None:
        """Wait until it should be resident and can be: a model may be fetched later."""
        while True:
            if self.is_asleep:
                await self._news(None)
            elif self.look():
                await asyncio.sleep(self._pool.look_again_s)
            else:
                return

    async def _live(self) -> bool:
        """One life of the worker; True if it ended, or died, in its sleep."""
        move = self.residency.begin()
        assert move == "load"
        self._was_stable = False
        try:
            async with self._devices.room(self, self._resident_bytes):
                client = await WorkerClient.start(
                    self._config, self._pool, self._log_level, self._doubted
                )
                self._arrived(client)
        except LoadFailed as exc:
            logger.error("event=load_failed engine=%s reason=%s", self.name, exc)  # noqa: TRY400
            self.residency.died()
            self._failed(str(exc))
            return False
        born = time.monotonic()
        dying = asyncio.create_task(client.wait_closed())
        dying.add_done_callback(lambda _: self._devices.news.give())
        try:
            with suppress(WorkerDied):
                while not dying.done():
                    if not await self._tend(client):
                        return True
            self._mourn(client, await dying)
            lived_s = time.monotonic() - born
            self._was_stable = client.has_worked or lived_s >= self._pool.stable_after_s
            return self.is_asleep
        finally:
            dying.cancel()
            self._past_steps = self._steps
            self._client = None
            self._prompts.clear()
            await client.stop()
            self._devices.news.give()

    async def _tend(self, client: WorkerClient) -> bool:
        """One move, or a wait for something to do; False once it has been stopped.

        Raises:
            WorkerDied: in the middle of a move.
        """
        self.residency.doze(time.monotonic())
        move = self.residency.begin()
        match move:
            case None:
                due_at = self.residency.doze_at()
                await self._news(None if due_at is None else due_at - time.monotonic())
                return True
            case "restore":
                async with self._devices.room(self, self._resident_bytes):
                    await client.restore()
                    self._arrived(client)
            case "offload":
                await client.offload()
                self._left()
            case _:
                await client.stop()
                self._left()
        logger.info("event=residence engine=%s state=%s", self.name, self.residency.residence)
        return move != "stop"

    def _arrived(self, client: WorkerClient) -> None:
        """It is resident, after a load or a restore."""
        now = time.monotonic()
        self._client, self.info = client, client.info
        self.residency.can_offload = client.can_offload
        self.residency.done(now)
        if client.memory is not None:
            self._last_device = client.memory.device
            self._resident_bytes = client.memory.used_bytes
        if self._woken_at is not None:
            self._wake_s += now - self._woken_at
        self._woken_at, self.is_broken = None, False
        self._devices.news.give()

    def _left(self) -> None:
        """It is no longer resident, as was wanted."""
        self.residency.done(time.monotonic())
        self._devices.news.give()

    def _mourn(self, client: WorkerClient, status: int) -> None:
        self.error = client.last_words or f"the worker died with status {status}"
        logger.error("event=worker_died engine=%s status=%d", self.name, status)
        self._woken_at = None
        self.residency.died()

    def _doubted(self) -> None:
        """It may hang, or does so no longer."""
        if self._is_suspect:
            self.error = "the worker does not get on"
        self._devices.news.give()

    def _failed(self, reason: str) -> None:
        """It cannot come; who waits for it is told."""
        self.error, self.is_broken, self._woken_at = reason, True, None
        self._devices.news.give()

    async def _news(self, within_s: float | None) -> None:
        try:
            async with asyncio.timeout(within_s):
                await self._devices.news.wait()
        except TimeoutError:
            return
