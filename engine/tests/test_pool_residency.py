"""Real workers that leave their device, end, and come back."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from engine.config import PoolConfig, WorkerConfig
from engine.errors import EngineBusy, InvalidRequest, WorkerDied, WorkerUnavailable
from engine.runtime.devices import Devices
from engine.runtime.pool import EnginePool
from engine.tests.fake import tone
from engine.tests.test_pool import TONE, cloned, prompt, speak, until, whole
from engine.types import Residence, StageSteps

pytestmark = pytest.mark.anyio

MOVABLE = "engine.tests.fake:MovableTone"
SOON_S = 0.02


@asynccontextmanager
async def running(
    config: PoolConfig | None = None,
    engine: str = MOVABLE,
    devices: Devices | None = None,
    workers: int = 1,
    **options: str,
) -> AsyncGenerator[EnginePool, None]:
    worker = WorkerConfig(engine=engine, device="tone:0", options=dict(options))
    config = config or PoolConfig(restart_delay_s=0.01)
    pool = EnginePool([worker] * workers, config, devices=devices)
    pool.start()
    try:
        await pool.ready()
        yield pool
    finally:
        await pool.stop()


def residence(pool: EnginePool, worker: int = 0) -> Residence:
    return pool.workers[worker].residence


def used_bytes(pool: EnginePool) -> int | None:
    memory = pool.workers[0].memory
    return memory.used_bytes if memory is not None else None


async def test_idle_engine_leaves_its_device_and_the_next_request_brings_it_back() -> None:
    async with running(PoolConfig(idle_offload_s=SOON_S)) as pool:
        assert used_bytes(pool) == 1000
        await until(lambda: residence(pool) == "offloaded")
        assert used_bytes(pool) == 10
        assert pool.status.state == "ready"
        assert await pool.ready() == pool.info
        assert residence(pool) == "offloaded"
        assert len(await whole(pool, "hello")) == 1
        assert pool.workers[0].wakes == 1
        await until(lambda: residence(pool) == "offloaded")


async def test_idle_engine_ends_and_the_next_request_starts_it_again() -> None:
    async with running(PoolConfig(idle_stop_s=SOON_S), engine=TONE) as pool:
        pid = pool._live[0]._process.pid
        await until(lambda: residence(pool) == "stopped")
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        status = pool.status
        assert (status.state, status.workers, status.restarts) == ("ready", 0, 0)
        assert len(await whole(pool, "hello")) == 1
        assert pool.workers[0].wakes == 1
        assert pool.workers[0].wake_s > 0


async def test_steps_are_counted_on_through_a_worker_s_end() -> None:
    async with running(PoolConfig(), engine=TONE) as pool:
        await whole(pool, "hello")
        (first,) = await pool.inspect()
        await pool.sleep("stopped")
        assert pool.workers[0].steps == first.steps
        await whole(pool, "hello")
        (both,) = await pool.inspect()
    assert first.steps
    assert both.steps == tuple(
        StageSteps(each.stage, 2 * each.steps, 2 * each.jobs) for each in first.steps
    )


@pytest.mark.parametrize("depth", ["offloaded", "stopped"])
async def test_a_crowd_at_a_sleeping_engine_wakes_it_once_and_all_are_served(
    depth: Residence,
) -> None:
    async with running() as pool:
        await pool.sleep("offloaded" if depth == "offloaded" else "stopped")
        assert residence(pool) == depth
        spoken = await asyncio.gather(*(whole(pool, "one two") for _ in range(64)))
        assert pool.workers[0].wakes == 1
    assert {sum(len(chunk.samples) for chunk in each) for each in spoken} == {2 * len(tone(0))}


async def test_a_request_during_the_offload_waits_and_brings_it_back(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    async with running(gate=str(gate)) as pool:
        leaving = asyncio.create_task(pool.sleep("offloaded"))
        await until(lambda: pool._seats[0].residency._move == "offload")
        crowd = asyncio.gather(*(whole(pool, "hello") for _ in range(8)))
        await until(lambda: pool._seats[0].residency.leases == 8)
        gate.touch()
        assert all(await crowd)
        await leaving
        assert (residence(pool), pool.workers[0].wakes) == ("resident", 1)


async def test_an_engine_at_work_is_not_sent_to_sleep() -> None:
    config = PoolConfig(idle_offload_s=SOON_S, idle_stop_s=2 * SOON_S)
    async with running(config) as pool, aclosing(speak(pool, "word " * 1000)) as chunks:
        await anext(chunks)
        with pytest.raises(EngineBusy):
            await pool.sleep("offloaded")
        await asyncio.gather(*(whole(pool, "other " * 50) for _ in range(4)))
        assert residence(pool) == "resident"
        assert pool.workers[0].idle_s is None
        assert pool.workers[0].wakes == 0


async def test_an_engine_that_cannot_leave_its_device_says_so_and_can_be_stopped() -> None:
    async with running(PoolConfig(idle_offload_s=SOON_S), engine=TONE) as pool:
        with pytest.raises(InvalidRequest, match="stop it instead"):
            await pool.sleep("offloaded")
        await pool.sleep("stopped")
        assert pool._live == []
        await pool.wake()
        assert residence(pool) == "resident"


async def test_a_worker_that_dies_in_its_sleep_is_started_when_it_is_needed() -> None:
    async with running() as pool:
        await pool.sleep("offloaded")
        os.kill(pool._live[0]._process.pid, signal.SIGKILL)
        await until(lambda: residence(pool) == "stopped")
        assert (pool.status.state, pool.status.restarts) == ("ready", 0)
        assert len(await whole(pool, "hello")) == 1


async def test_a_worker_that_cannot_come_back_is_replaced() -> None:
    async with running(fail_restore="yes") as pool:
        await pool.sleep("offloaded")
        assert len(await whole(pool, "hello")) == 1
        assert pool.status.restarts == 1


async def test_an_engine_that_does_not_wake_in_time_is_unavailable() -> None:
    config = PoolConfig(restart_delay_s=3600.0, restart_delay_max_s=7200.0, wake_s=0.5)
    async with running(config, fail_restore="yes") as pool:
        await pool.sleep("offloaded")
        with pytest.raises(WorkerUnavailable, match="the device is full"):
            await whole(pool, "hello")


async def test_memory_is_measured_when_it_is_asked_for() -> None:
    async with running() as pool:
        (worker,) = await pool.inspect()
        assert worker.memory is not None
        assert (worker.device, worker.memory.used_bytes) == ("tone:0", 1000)
        await pool.sleep("stopped")
        (worker,) = await pool.inspect()
        assert (worker.memory, worker.device) == (None, "tone:0")


async def test_the_longest_idle_engine_makes_room_for_one_that_wakes() -> None:
    devices = Devices(budget_bytes=2100)
    async with (
        running(devices=devices) as first,
        running(devices=devices) as second,
    ):
        await whole(first, "hello")
        # The third does not fit in, and the second has been idle for longer.
        async with running(devices=devices) as third:
            await until(lambda: residence(second) == "offloaded")
            assert (residence(first), residence(third)) == ("resident", "resident")
            await whole(second, "hello")
            assert (residence(first), residence(second)) == ("offloaded", "resident")


async def test_an_engine_waits_for_room_while_the_others_work() -> None:
    devices = Devices(budget_bytes=1500)
    async with running(devices=devices) as first:
        await first.sleep("offloaded")
        async with running(devices=devices) as second:
            async with aclosing(speak(second, "word " * 1000)) as chunks:
                await anext(chunks)
                waiting = asyncio.create_task(whole(first, "hello"))
                await whole(second, "other " * 50)
                assert (residence(first), waiting.done()) == ("loading", False)
            assert len(await waiting) == 1
            assert residence(second) == "offloaded"


async def test_an_engine_larger_than_the_budget_runs_alone() -> None:
    async with running(devices=Devices(budget_bytes=500)) as pool:
        await pool.sleep("offloaded")
        assert len(await whole(pool, "hello")) == 1


async def test_a_voice_goes_to_the_worker_that_knows_it() -> None:
    asked: list[str] = []
    async with running(workers=2, clones="yes") as pool:
        await until(lambda: pool.status.workers == 2)
        async with aclosing(speak(pool, "word " * 1000)) as chunks:
            await anext(chunks)
            # To the other one, which has fewer jobs.
            await cloned(pool, prompt(0.25), asked)
        first, second = (seat.knows("d0.25") for seat in pool._seats)
        assert (first, second) == (False, True)
        for _ in range(3):
            await cloned(pool, prompt(0.25), asked)
    assert asked == ["d0.25"]


async def test_a_dead_worker_takes_only_its_own_requests() -> None:
    async with running(workers=2) as pool:
        await until(lambda: pool.status.workers == 2)
        async with (
            aclosing(speak(pool, "word " * 1000)) as first,
            aclosing(speak(pool, "word " * 1000)) as second,
        ):
            begun = await anext(first)
            await anext(second)
            os.kill(pool._live[1]._process.pid, signal.SIGKILL)
            await until(lambda: len(pool._live) == 1)
            rest = [len(chunk.samples) async for chunk in first]
            assert len(begun.samples) + sum(rest) == 1000 * len(tone(0))
            with pytest.raises(WorkerDied):
                async for _ in second:
                    pass


async def test_a_second_worker_wakes_when_the_first_is_busy() -> None:
    async with running(workers=2) as pool:
        await until(lambda: pool.status.workers == 2)
        await pool.sleep("offloaded")
        async with aclosing(speak(pool, "word " * 1000)) as chunks:
            await anext(chunks)
            assert sorted(each.residence for each in pool.workers) == ["offloaded", "resident"]
            assert len(await whole(pool, "hello")) == 1
            await until(lambda: {each.residence for each in pool.workers} == {"resident"})
