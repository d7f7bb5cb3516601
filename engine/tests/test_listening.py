from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager

import numpy as np
import pytest

from engine.config import PoolConfig, WorkerConfig
from engine.errors import EngineFault, InvalidRequest, WorkerDied
from engine.runtime.listening import ListenLoop
from engine.runtime.pool import EnginePool
from engine.runtime.wire import Cancel, Event, Failed, Finished, Found, Heard, Listen, Room, Sound
from engine.tests.fake_transcriber import SAMPLE_RATE, MeanTranscriber, seconds
from engine.types import Samples, Segment, TranscribeOptions, TranscriptInfo

MEAN = "engine.tests.fake_transcriber:MeanTranscriber"


class Bench:
    """A loop around the fake transcriber, with all that it sent."""

    def __init__(self) -> None:
        self.engine = MeanTranscriber({})
        self.sent: list[Event] = []
        self.loop = ListenLoop(self.engine, self.sent.append)

    def listen(self, job_id: int, audio: Samples, *, is_whole: bool = True) -> None:
        command = Listen(job_id, f"req_{job_id}", TranscribeOptions())
        assert self.loop.notice(command) is False
        self.sound(job_id, audio)
        if is_whole:
            self.sound(job_id, np.zeros(0, np.float32))
        self.loop.apply(command)

    def sound(self, job_id: int, audio: Samples) -> None:
        assert self.loop.notice(Sound(job_id, audio.tobytes())) is True

    def run(self) -> None:
        for _ in range(1000):
            if not self.loop.turn():
                return
        pytest.fail("the loop does not come to rest")

    def found(self) -> list[tuple[int, str]]:
        return [(e.job_id, e.segment.text) for e in self.sent if isinstance(e, Found)]


def test_info_comes_first_and_the_end_last() -> None:
    bench = Bench()
    bench.listen(1, seconds(0.1, 0.2))
    bench.run()
    kinds = [type(event) for event in bench.sent if not isinstance(event, Room)]
    assert kinds == [Heard, Found, Found, Finished]
    assert bench.found() == [(1, " 10"), (1, " 20")]


def test_recordings_take_turns_segment_by_segment() -> None:
    bench = Bench()
    bench.listen(1, seconds(0.1, 0.1, 0.1))
    bench.listen(2, seconds(0.2, 0.2))
    bench.run()
    assert [job_id for job_id, _ in bench.found()] == [1, 2, 1, 2, 1]


def test_room_is_made_for_what_the_engine_has_taken() -> None:
    bench = Bench()
    bench.listen(1, seconds(0.1, 0.2, 0.3))
    bench.run()
    assert sum(e.samples for e in bench.sent if isinstance(e, Room)) == 3 * SAMPLE_RATE


def test_cancelled_recording_ends_without_a_word_and_frees_its_state() -> None:
    bench = Bench()
    bench.listen(1, seconds(0.1, 0.2), is_whole=False)
    for _ in range(2):
        bench.loop.turn()
    assert bench.loop.notice(Cancel(1)) is True
    bench.run()
    assert bench.found() == [(1, " 10")]
    assert Finished(1) not in bench.sent
    assert bench.engine.closed == 1
    assert bench.loop.notice(Sound(1, b"\0\0\0\0")) is True


def test_cancel_wakes_an_engine_that_waits_for_sound() -> None:
    bench = Bench()
    bench.listen(1, seconds(0.1), is_whole=False)
    bench.loop.notice(Cancel(1))
    bench.run()
    assert not [event for event in bench.sent if isinstance(event, Failed | Finished)]


def test_bug_in_the_engine_fails_its_recording_and_no_other() -> None:
    bench = Bench()
    bench.listen(1, seconds(0.1, -0.5))
    bench.listen(2, seconds(0.2, 0.2))
    bench.run()
    assert [event.job_id for event in bench.sent if isinstance(event, Failed)] == [1]
    assert Finished(2) in bench.sent


@asynccontextmanager
async def running() -> AsyncGenerator[EnginePool, None]:
    pool = EnginePool([WorkerConfig(engine=MEAN)], PoolConfig(restart_delay_s=0.01))
    pool.start()
    try:
        yield pool
    finally:
        await pool.stop()


async def blocks(audio: Samples, error: Exception | None = None) -> AsyncGenerator[Samples, None]:
    for start in range(0, len(audio), 10_000):
        yield audio[start : start + 10_000]
    if error:
        raise error


async def transcript(
    pool: EnginePool, audio: AsyncGenerator[Samples, None], language: str | None = None
) -> list[TranscriptInfo | Segment]:
    options = TranscribeOptions(language=language)
    return [part async for part in pool.transcribe(audio, options, "req_test")]


@pytest.mark.anyio
async def test_transcript_crosses_the_socket_whole() -> None:
    async with running() as pool:
        info, *segments = await transcript(pool, blocks(seconds(0.1, 0.2, 0.3)))
    assert info == TranscriptInfo("en", 1.0)
    assert [(s.start_s, s.text) for s in segments if isinstance(s, Segment)] == [
        (0, " 10"),
        (1, " 20"),
        (2, " 30"),
    ]


@pytest.mark.anyio
async def test_recording_longer_than_the_room_ahead_gets_through() -> None:
    async with running() as pool:
        parts = await transcript(pool, blocks(seconds(*[0.25] * 200)))
    assert len(parts) == 201


@pytest.mark.anyio
async def test_sound_is_read_no_further_than_the_worker_has_room() -> None:
    read = 0

    async def endless() -> AsyncGenerator[Samples, None]:
        nonlocal read
        while True:
            read += 1
            yield seconds(0.1)

    async with running() as pool:
        parts = pool.transcribe(endless(), TranscribeOptions(), "req_test")
        async with aclosing(parts):
            for _ in range(10):
                await anext(parts)
        assert read <= 30
        assert pool.status.jobs == 0
        assert len(await transcript(pool, blocks(seconds(0.5)))) == 2


@pytest.mark.anyio
async def test_recording_that_cannot_be_read_fails_with_its_own_error() -> None:
    class Unreadable(Exception):
        pass

    async with running() as pool:
        with pytest.raises(Unreadable):
            await transcript(pool, blocks(seconds(0.1), Unreadable()))
        assert pool.status.jobs == 0


@pytest.mark.anyio
async def test_errors_of_the_engine_arrive_as_themselves() -> None:
    async with running() as pool:
        with pytest.raises(InvalidRequest, match="only English"):
            await transcript(pool, blocks(seconds(0.1)), language="fr")
        with pytest.raises(EngineFault, match="failed on this request"):
            await transcript(pool, blocks(seconds(-0.5)))
        with pytest.raises(WorkerDied):
            await transcript(pool, blocks(seconds(-1.0)))
        assert len(await transcript(pool, blocks(seconds(0.5)))) == 2
