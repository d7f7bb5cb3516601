"""Real worker processes around the tone engine."""

import asyncio
import itertools
import os
import signal
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from engine.config import PoolConfig, WorkerConfig
from engine.errors import (
    EngineFault,
    InvalidRequest,
    Overloaded,
    UnknownVoice,
    WorkerDied,
    WorkerUnavailable,
)
from engine.runtime.client import _joined
from engine.runtime.pool import EnginePool
from engine.runtime.wire import Audio
from engine.tests.fake import WORD_S, tone
from engine.types import PcmChunk, PromptRef, SynthesisRequest, VoicePrompt

pytestmark = pytest.mark.anyio

TONE = "engine.tests.fake:ToneSynthesizer"
PATIENCE_S = 20.0


@asynccontextmanager
async def running(
    config: PoolConfig | None = None, options: dict[str, str] | None = None, workers: int = 1
) -> AsyncGenerator[EnginePool, None]:
    config = config or PoolConfig(restart_delay_s=0.01)
    worker = WorkerConfig(engine=TONE, options=dict(options or {}))
    pool = EnginePool([worker] * workers, config)
    pool.start()
    try:
        yield pool
    finally:
        await pool.stop()


def speak(pool: EnginePool, text: str, voice: str | None = None) -> AsyncGenerator[PcmChunk, None]:
    return pool.synthesize(SynthesisRequest(text=text, voice=voice), "req_test")


async def whole(pool: EnginePool, text: str, voice: str | None = None) -> list[PcmChunk]:
    return [chunk async for chunk in speak(pool, text, voice)]


async def until(condition: Callable[[], bool]) -> None:
    """Let the event loop turn until it holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.to_thread(os.sched_yield)


async def test_speech_comes_whole_and_in_order() -> None:
    async with running() as pool:
        chunks = await whole(pool, "one two three")
    expected = np.concatenate([tone(index) for index in range(3)])
    np.testing.assert_array_equal(np.concatenate([chunk.samples for chunk in chunks]), expected)
    words = [word for chunk in chunks for word in chunk.words]
    assert [(word.text, round(word.start_s, 3)) for word in words] == [
        ("one", 0.0),
        ("two", WORD_S),
        ("three", 2 * WORD_S),
    ]


async def test_progress_crosses_the_socket() -> None:
    async with running() as pool:
        chunks = await whole(pool, "one two three four")
    words = itertools.accumulate(len(chunk.words) for chunk in chunks)
    assert [chunk.progress for chunk in chunks] == [count / 4 for count in words]


async def test_chunk_of_several_audios_tells_the_progress_of_the_last() -> None:
    audios = [Audio(1, tone(nth).tobytes(), (), 0.001, nth / 2) for nth in (1, 2)]
    chunk = _joined(audios)
    assert (len(chunk.samples), chunk.progress) == (2 * len(tone(0)), 1.0)


async def test_info_is_what_the_worker_said() -> None:
    async with running() as pool:
        before = (pool.info, pool.status.state)
        info = await pool.ready()
        assert before == (None, "starting")
        assert (pool.info, pool.status.state) == (info, "ready")
        assert info.description == "tones on cpu"


async def test_errors_arrive_as_themselves() -> None:
    async with running() as pool:
        with pytest.raises(InvalidRequest) as refused:
            await whole(pool, "refuse")
        assert refused.value.param == "input"
        with pytest.raises(UnknownVoice):
            await whole(pool, "hello", voice="nobody")
        with pytest.raises(EngineFault, match="failed on this request"):
            await whole(pool, "a break")
        assert len(await whole(pool, "still here")) > 0


async def test_reader_that_stops_reading_stops_the_worker() -> None:
    config = PoolConfig(buffer_s=5 * WORD_S)
    async with running(config) as pool, aclosing(speak(pool, "word " * 1000)) as chunks:
        first = await anext(chunks)
        (stream,) = pool._live[0]._streams.values()
        # While this one runs to its end, the other gets all the turns that it may have.
        await whole(pool, "other " * 50)
        sent = len(first.samples)
        # On a busy machine all of it may have come at once.
        while sent < 5 * len(tone(0)):
            unread = [event for event in await stream.take() if isinstance(event, Audio)]
            sent += sum(len(event.samples) // 4 for event in unread)
        assert stream._queue.empty()
    assert sent == 5 * len(tone(0))


async def test_stream_that_is_closed_ends_its_job() -> None:
    async with running() as pool:
        async with aclosing(speak(pool, "word " * 100_000)) as chunks:
            await anext(chunks)
            assert pool.status.jobs == 1
        assert pool.status.jobs == 0
        assert len(await whole(pool, "next")) == 1


async def test_task_that_is_cancelled_ends_its_job() -> None:
    async with running() as pool:
        await pool.ready()
        task = asyncio.create_task(whole(pool, "word " * 100_000))
        await until(lambda: pool.status.jobs == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert pool.status.jobs == 0


async def test_two_streams_run_at_once() -> None:
    async with running() as pool:
        both = await asyncio.gather(whole(pool, "a " * 50), whole(pool, "b " * 80))
    assert [sum(len(chunk.samples) for chunk in each) for each in both] == [
        50 * len(tone(0)),
        80 * len(tone(0)),
    ]


async def test_death_of_the_worker_fails_what_is_in_flight_and_nothing_later() -> None:
    async with running() as pool:
        survivor = asyncio.create_task(_first_then_rest(pool, "word " * 100_000))
        await until(lambda: pool.status.jobs == 1)
        with pytest.raises(WorkerDied):
            await whole(pool, "a die")
        with pytest.raises(WorkerDied):
            await survivor
        assert len(await whole(pool, "after")) == 1
        assert pool.status.restarts == 1


async def _first_then_rest(pool: EnginePool, text: str) -> None:
    async for chunk in speak(pool, text):
        assert len(chunk.samples) > 0


async def test_restarts_back_off_and_the_status_says_why() -> None:
    config = PoolConfig(restart_delay_s=3600.0, restart_delay_max_s=7200.0, wait_s=0.05)
    async with running(config) as pool:
        await until(lambda: pool.status.workers == 1)
        with pytest.raises(WorkerDied):
            await whole(pool, "die")
        await until(lambda: pool.status.error is not None)
        assert pool.status.state == "restarting"
        assert pool.status.workers == 0
        assert pool.status.error == f"the worker died with status {-signal.SIGKILL}"
        with pytest.raises(WorkerUnavailable) as refused:
            await whole(pool, "hello")
        assert refused.value.retry_after_s is not None


async def test_engine_that_cannot_load_refuses_at_once_with_its_reason() -> None:
    config = PoolConfig(restart_delay_s=3600.0, restart_delay_max_s=7200.0, wait_s=3600.0)
    async with running(config, {"fail_load": "no weights: run this"}) as pool:
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(WorkerUnavailable, match="no weights: run this"):
                await whole(pool, "hello")
        assert pool.status.state == "starting"
        assert pool.status.error == "no weights: run this"


async def test_job_over_the_limit_is_refused() -> None:
    async with (
        running(PoolConfig(max_jobs=1)) as pool,
        aclosing(speak(pool, "word " * 1000)) as chunks,
    ):
        await anext(chunks)
        with pytest.raises(Overloaded):
            await whole(pool, "one too many")


async def test_jobs_go_to_the_worker_with_the_fewest() -> None:
    async with running(workers=2) as pool:
        await pool.ready()
        await until(lambda: pool.status.workers == 2)
        async with (
            aclosing(speak(pool, "word " * 1000)) as first,
            aclosing(speak(pool, "word " * 1000)) as second,
        ):
            await anext(first)
            await anext(second)
            assert [worker.jobs for worker in pool._live] == [1, 1]


async def test_worker_ends_with_the_pool() -> None:
    async with running() as pool:
        await pool.ready()
        pid = pool._live[0]._process.pid
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def prompt(loudness: float, text: str = "hello") -> VoicePrompt:
    samples = np.full(100, loudness, np.float32).tobytes()
    return VoicePrompt(digest=f"d{loudness}", samples=samples, sample_rate=24000, text=text)


async def cloned(pool: EnginePool, voice: VoicePrompt, asked: list[str]) -> float:
    """Loudness of a word in this voice; notes when the sound of the prompt is asked for."""

    async def source() -> VoicePrompt:
        asked.append(voice.digest)
        return voice

    request = SynthesisRequest(text="word", prompt=PromptRef(voice.digest, voice.text))
    chunks = [chunk async for chunk in pool.synthesize(request, "req_test", source)]
    return float(np.abs(np.concatenate([chunk.samples for chunk in chunks])).max())


async def test_prompt_is_prepared_when_it_is_first_spoken_with() -> None:
    asked: list[str] = []
    async with running(options={"clones": "yes"}) as pool:
        for _ in range(2):
            assert await cloned(pool, prompt(0.25), asked) == pytest.approx(0.25, rel=0.01)
        assert await cloned(pool, prompt(0.75), asked) == pytest.approx(0.75, rel=0.01)
    assert asked == ["d0.25", "d0.75"]


async def test_prompt_prepared_ahead_is_not_asked_for() -> None:
    asked: list[str] = []
    async with running(options={"clones": "yes"}) as pool:
        await pool.prepare(prompt(0.25), "req_test")
        assert await cloned(pool, prompt(0.25), asked) == pytest.approx(0.25, rel=0.01)
    assert asked == []


async def test_features_survive_the_worker_on_disk(tmp_path: Path) -> None:
    asked: list[str] = []
    worker = WorkerConfig(engine=TONE, options={"clones": "yes"}, features_dir=str(tmp_path))
    for _ in range(2):
        pool = EnginePool([worker], PoolConfig())
        pool.start()
        try:
            await cloned(pool, prompt(0.25), asked)
        finally:
            await pool.stop()
    assert asked == ["d0.25"]


async def test_prompt_without_a_voice_fails_with_its_reason() -> None:
    async with running(options={"clones": "yes"}) as pool:
        with pytest.raises(InvalidRequest, match="no voice in it"):
            await pool.prepare(prompt(0.25, "refuse"), "req_test")
        with pytest.raises(InvalidRequest, match="no voice in it"):
            await cloned(pool, prompt(0.25, "refuse"), [])
        assert pool.status.jobs == 0


async def test_engine_that_does_not_clone_says_so() -> None:
    async with running() as pool:
        with pytest.raises(InvalidRequest, match="does not clone"):
            await pool.prepare(prompt(0.25), "req_test")
