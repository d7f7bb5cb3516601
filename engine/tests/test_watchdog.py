"""A worker that hangs is found and replaced; one that works, waits or slept is left alone."""

import ast
import asyncio
import ctypes
import logging
import os
import signal
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from engine.config import PoolConfig, WorkerConfig
from engine.errors import EngineBroken, EngineFault, OutOfMemory, WorkerDied
from engine.protocol import Emit
from engine.runtime import heartbeat
from engine.runtime.heartbeat import Pulse, Watchdog, beat_interval_s
from engine.runtime.loop import SpeechLoop
from engine.runtime.pool import EnginePool
from engine.runtime.wire import Beat, Doing, Event, Start
from engine.tests.fake import SAMPLE_RATE, ToneJob, ToneSynthesizer, tone
from engine.tests.test_loop import PLENTY, Kite
from engine.tests.test_pool import until, whole
from engine.types import Device, EngineInfo, Job, PromptFeatures, Samples, SynthesisRequest

HOUR_S = 3600.0
HANG = PoolConfig(hang_s=10.0, hang_load_s=100.0)


class Stubborn(ToneSynthesizer):
    """A tone engine with words that hang: "sleep", and "seize" with the GIL in hand.

    "broken" breaks it for good, and there is no memory for the text "full". `hang_load`: a file
    without which it makes the file, and loads for ever.
    """

    def load(self, device: Device) -> EngineInfo:
        if self._gate is not None and not self._gate.exists():
            self._gate.touch()
            time.sleep(HOUR_S)
        return super().load(device)

    def __init__(self, options: dict[str, str]) -> None:
        super().__init__(options)
        self._gate = Path(options["hang_load"]) if "hang_load" in options else None

    def step(self, stage: str, jobs: Sequence[Job], emit: Emit) -> None:
        words = [job.words[job.done] for job in jobs]  # type: ignore[attr-defined]
        if "sleep" in words:
            time.sleep(HOUR_S)
        if "seize" in words:
            ctypes.PyDLL(None).pause()
        if "broken" in words:
            raise EngineBroken("the device is lost")
        super().step(stage, jobs, emit)

    def start(
        self, job_id: int, request: SynthesisRequest, features: PromptFeatures | None = None
    ) -> ToneJob:
        if request.text == "full":
            raise MemoryError("the device is full")
        return super().start(job_id, request, features)


@asynccontextmanager
async def running(config: PoolConfig, **options: str) -> AsyncGenerator[EnginePool, None]:
    worker = WorkerConfig(
        engine="engine.tests.test_watchdog:Stubborn", device="tone:0", options=dict(options)
    )
    pool = EnginePool([worker], config)
    pool.start()
    try:
        await pool.ready()
        yield pool
    finally:
        await pool.stop()


def watched(
    watchdog: Watchdog, seconds: float, beat: Beat | None = None, start: float = 0.0
) -> float:
    """Look every second, with this beat before each; gives the time at the end."""
    now = start
    while now < start + seconds:
        now += 1.0
        if beat is not None:
            watchdog.saw(beat)
        watchdog.look(now)
    return now


def test_a_step_that_does_not_end_is_suspect_half_way_and_hung_in_the_end() -> None:
    watchdog = Watchdog(HANG, 0.0)
    watchdog.saw(Beat(7, "step"))
    verdicts, now = [], 0.0
    for _ in range(10):
        now = watched(watchdog, 1.0, Beat(7, "step"), now)
        verdicts.append((watchdog.is_suspect, watchdog.is_hung))
    assert verdicts == [(False, False)] * 4 + [(True, False)] * 5 + [(True, True)]


def test_silence_is_a_hang() -> None:
    watchdog = Watchdog(HANG, 0.0)
    watchdog.saw(Beat(7, "nothing"))
    watched(watchdog, 10.0)
    assert watchdog.is_hung


def test_an_idle_worker_may_be_idle_for_ever() -> None:
    watchdog = Watchdog(HANG, 0.0)
    watched(watchdog, HOUR_S, Beat(7, "nothing"))
    assert not watchdog.is_suspect


def test_a_worker_that_gets_on_may_work_for_ever() -> None:
    watchdog = Watchdog(HANG, 0.0)
    now = 0.0
    for number in range(100):
        now = watched(watchdog, 4.0, Beat(number, "step"), now)
        assert not watchdog.is_suspect


def test_a_load_may_take_longer_than_a_step() -> None:
    watchdog = Watchdog(HANG, 0.0)
    now = watched(watchdog, 49.0)
    verdicts = [watchdog.is_suspect]
    now = watched(watchdog, 50.0, Beat(0, "long"), now)
    verdicts.append(watchdog.is_hung)
    watched(watchdog, 1.0, Beat(0, "long"), now)
    assert [*verdicts, watchdog.is_hung] == [False, False, True]


@pytest.mark.parametrize("doing", ["step", "long"])
def test_limits_of_zero_are_none(doing: Doing) -> None:
    watchdog = Watchdog(PoolConfig(hang_s=0, hang_load_s=0), 0.0)
    watched(watchdog, HOUR_S, Beat(7, doing))
    assert not watchdog.is_suspect


def test_a_machine_that_slept_is_no_fault_of_its_workers() -> None:
    # As a monotonic clock that counts sleep sees it: a jump between two looks, in a step or idle.
    for beat in (Beat(7, "step"), Beat(7, "nothing")):
        watchdog = Watchdog(HANG, 0.0)
        watchdog.saw(beat)
        now = 0.0
        for _ in range(4):
            now += HOUR_S
            watchdog.look(now)
            watchdog.saw(Beat(8, "nothing"))
            assert not watchdog.is_suspect
        # And as one that stands still meanwhile sees it.
        watchdog.look(now)
        assert watchdog.stalled_s == 0.0


def test_a_jump_counts_for_two_looks_so_that_a_hang_is_still_found() -> None:
    watchdog = Watchdog(HANG, 0.0)
    watchdog.saw(Beat(7, "step"))
    watchdog.look(HOUR_S)
    assert watchdog.stalled_s == 2.0
    watched(watchdog, 8.0, Beat(7, "step"), HOUR_S)
    assert watchdog.is_hung


def test_a_short_limit_is_watched_more_often() -> None:
    assert beat_interval_s(PoolConfig()) == 1.0
    assert beat_interval_s(PoolConfig(hang_s=0)) == 1.0
    assert beat_interval_s(PoolConfig(hang_s=1.0)) == 0.2


def test_what_the_runtime_times_it_times_by_a_monotonic_clock() -> None:
    """A wall clock that is set, by a person or by NTP, changes nothing."""
    for path in Path(heartbeat.__file__).parent.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        read = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert not (called | read) & {"time.time", "time.time_ns", "datetime.now"}, path


def test_what_the_device_never_ends_shows_though_other_steps_go_on() -> None:
    kite, pulse = Kite(), Pulse()
    sent: list[Event] = []
    loop = SpeechLoop(kite, SAMPLE_RATE, sent.append, pulse=pulse)

    def turn() -> None:
        with pulse.inside("step"):
            loop.turn()

    loop.apply(Start(1, "req_1", SynthesisRequest(text="a"), PLENTY))
    while not kite.aloft:
        turn()
    stuck, kite.may_land = pulse.beat, False
    assert stuck.doing == "step"
    loop.apply(Start(2, "req_2", SynthesisRequest(text="b"), PLENTY))
    turn()
    assert kite.steps[-1] == ("decode", [2])
    assert pulse.beat == stuck
    kite.may_land = True
    for _ in range(5):
        turn()
    assert pulse.beat.doing == "nothing"
    assert pulse.beat.number > stuck.number


def test_an_engine_that_waits_for_sound_does_not_work() -> None:
    pulse = Pulse()
    waiting: list[Beat] = []

    def source() -> Iterator[Samples]:
        for _ in range(2):
            waiting.append(pulse.beat)
            yield np.zeros(1, np.float32)

    with pulse.inside("step"):
        working = [pulse.beat for _ in pulse.waits(source())]
    assert [beat.doing for beat in waiting] == ["nothing"] * 2
    assert [beat.doing for beat in working] == ["step"] * 2
    assert len({beat.number for beat in working}) == 2


@pytest.mark.anyio
@pytest.mark.parametrize("word", ["sleep", "seize"])
async def test_a_worker_that_hangs_in_a_step_is_replaced(word: str) -> None:
    async with running(PoolConfig(restart_delay_s=0.01, hang_s=1.0)) as pool:
        stuck = asyncio.create_task(whole(pool, f"a {word}"))
        await until(lambda: pool.status.state == "restarting")
        assert pool.status.restarts == 0
        assert pool.status.error == "the worker does not get on"
        later = asyncio.create_task(whole(pool, "b"))
        with pytest.raises(WorkerDied):
            await stuck
        await until(lambda: pool.status.state != "ready" or pool.status.restarts == 1)
        assert len(await later) == 1
        assert (pool.status.state, pool.status.restarts) == ("ready", 1)


@pytest.mark.anyio
async def test_a_worker_that_is_stopped_is_replaced(caplog: pytest.LogCaptureFixture) -> None:
    async with running(PoolConfig(restart_delay_s=0.01, hang_s=0.5)) as pool:
        pid = pool._live[0]._process.pid
        os.kill(pid, signal.SIGSTOP)
        await until(lambda: pool.status.restarts == 1 and pool.status.state == "ready")
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        assert len(await whole(pool, "b")) == 1
    assert any(message.startswith(f"event=worker_hung pid={pid}") for message in caplog.messages)


@pytest.mark.anyio
async def test_a_worker_that_was_only_slow_takes_jobs_again() -> None:
    async with running(PoolConfig(restart_delay_s=0.01, hang_s=4.0)) as pool:
        pid = pool._live[0]._process.pid
        os.kill(pid, signal.SIGSTOP)
        await until(lambda: pool.status.state == "restarting")
        os.kill(pid, signal.SIGCONT)
        await until(lambda: pool.status.state == "ready")
        assert len(await whole(pool, "b")) == 1
        assert pool.status.restarts == 0
        assert pool._live[0]._process.pid == pid


@pytest.mark.anyio
async def test_a_load_that_hangs_is_tried_again(tmp_path: Path) -> None:
    config = PoolConfig(restart_delay_s=0.01, hang_s=1.0, hang_load_s=1.0)
    worker = WorkerConfig(
        engine="engine.tests.test_watchdog:Stubborn", options={"hang_load": str(tmp_path / "gate")}
    )
    pool = EnginePool([worker], config)
    pool.start()
    try:
        await until(lambda: pool.status.error is not None)
        assert (pool.status.state, pool.status.workers) == ("starting", 0)
        assert pool.status.error is not None
        assert pool.status.error.startswith("the worker hung")
        await until(lambda: pool.status.state == "ready")
    finally:
        await pool.stop()


@pytest.mark.anyio
async def test_a_broken_engine_ends_its_worker_and_another_takes_its_place() -> None:
    async with running(PoolConfig(restart_delay_s=0.01)) as pool:
        async with aclosing(
            pool.synthesize(SynthesisRequest(text="word " * 100_000), "req_test")
        ) as other:
            await anext(other)
            with pytest.raises(EngineFault, match="the device is lost"):
                await whole(pool, "a broken")
            with pytest.raises(WorkerDied):
                async for _ in other:
                    pass
        await until(lambda: pool.status.restarts == 1)
        assert pool._seats[0].error == "the device is lost"
        assert len(await whole(pool, "b")) == 1


@pytest.mark.anyio
async def test_a_full_device_costs_the_job_that_was_one_too_many() -> None:
    async with running(PoolConfig(restart_delay_s=0.01)) as pool:
        other = asyncio.create_task(whole(pool, "word " * 50))
        await until(lambda: pool.status.jobs == 1)
        with pytest.raises(OutOfMemory, match="no memory") as refused:
            await whole(pool, "full")
        assert refused.value.retry_after_s is not None
        assert sum(len(chunk.samples) for chunk in await other) == 50 * len(tone(0))
        assert pool.status.restarts == 0


@pytest.mark.anyio
@pytest.mark.parametrize(("text", "delays"), [("one", ["0.1"] * 3), (None, ["0.1", "0.2", "0.4"])])
async def test_restarts_slow_down_only_for_workers_that_never_did_a_job(
    text: str | None, delays: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    async with running(PoolConfig(restart_delay_s=0.1)) as pool:
        for _ in delays:
            if text is not None:
                assert len(await whole(pool, text)) == 1
            with pytest.raises(WorkerDied):
                await whole(pool, "die")
            await until(lambda: pool.status.state == "restarting")
            await pool.ready()
    restarts = [each for each in caplog.records if "event=worker_restart " in each.getMessage()]
    assert [each.getMessage().rpartition("=")[2] for each in restarts] == delays
    assert {each.levelno for each in restarts} == {logging.WARNING}
