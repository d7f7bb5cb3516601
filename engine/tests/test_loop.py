import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from engine.errors import EngineFault, InvalidRequest, Overloaded, PromptUnknown, from_wire
from engine.features import FeatureStore
from engine.protocol import Emit
from engine.runtime.capacity import Capacity
from engine.runtime.loop import SpeechLoop
from engine.runtime.policy import Batch
from engine.runtime.tally import Tally
from engine.runtime.wire import Audio, Cancel, Event, Failed, Finished, Grant, Prepare, Start
from engine.tests.fake import SAMPLE_RATE, ToneSynthesizer, tone
from engine.types import Job, PromptRef, SynthesisRequest, VoicePrompt

WORD_SAMPLES = len(tone(0))
PLENTY = 100 * WORD_SAMPLES


class Clock:
    """Moves only when told to, or by `tick_s` at each look."""

    def __init__(self, tick_s: float = 0.0) -> None:
        self.now = 0.0
        self.tick_s = tick_s

    def __call__(self) -> float:
        self.now += self.tick_s
        return self.now


class Bench:
    """A loop around the tone engine, with all that it sent."""

    def __init__(
        self,
        clock: Clock | None = None,
        features: FeatureStore | None = None,
        capacity: Capacity | None = None,
    ) -> None:
        self.engine = ToneSynthesizer({})
        self.clock = clock or Clock()
        self.sent: list[Event] = []
        self.loop = SpeechLoop(
            self.engine, SAMPLE_RATE, self.sent.append, features, capacity, clock=self.clock
        )

    def start(self, job_id: int, text: str, grant: int = PLENTY) -> None:
        self.loop.apply(Start(job_id, f"req_{job_id}", SynthesisRequest(text=text), grant))

    def run(self) -> None:
        for _ in range(1000):
            if not self.loop.turn():
                return
        pytest.fail("the loop does not come to rest")

    def audio(self, job_id: int) -> bytes:
        parts = [e.samples for e in self.sent if isinstance(e, Audio) and e.job_id == job_id]
        return b"".join(parts)


def speech(words: int) -> bytes:
    return np.concatenate([tone(index) for index in range(words)]).tobytes()


def test_job_gives_all_its_audio_then_says_that_it_is_finished() -> None:
    bench = Bench()
    bench.start(1, "one two three")
    bench.run()
    assert bench.audio(1) == speech(3)
    assert bench.sent[-1] == Finished(1)
    assert bench.engine.finished == [1]


def test_progress_goes_with_the_audio_that_it_is_told_of() -> None:
    bench = Bench()
    bench.start(1, "one two three four")
    bench.run()
    progress = [event.progress for event in bench.sent if isinstance(event, Audio)]
    assert progress == [0.25, 0.5, 0.75, 1.0]


def test_jobs_that_wait_for_one_stage_share_its_steps() -> None:
    bench = Bench()
    for job_id in (1, 2, 3):
        bench.start(job_id, "a b")
    bench.run()
    assert bench.engine.steps[0] == ("decode", [1, 2, 3])
    assert max(len(jobs) for stage, jobs in bench.engine.steps if stage == "render") == 2
    assert [bench.audio(job_id) for job_id in (1, 2, 3)] == [speech(2)] * 3


def test_job_rests_when_its_reader_has_no_room_and_goes_on_when_it_has() -> None:
    bench = Bench()
    bench.start(1, "a b c d e f", grant=2 * WORD_SAMPLES)
    bench.run()
    assert bench.audio(1) == speech(2)
    bench.loop.apply(Grant(1, 4 * WORD_SAMPLES))
    bench.run()
    assert bench.audio(1) == speech(6)
    assert bench.sent[-1] == Finished(1)


def test_slow_reader_does_not_hold_another_back() -> None:
    bench = Bench()
    bench.start(1, "a b c d", grant=1)
    bench.start(2, "a b c d")
    bench.run()
    assert bench.audio(1) == speech(1)
    assert bench.audio(2) == speech(4)


def test_cancelled_job_is_dropped_and_says_nothing_more() -> None:
    bench = Bench()
    bench.start(1, "a b c d", grant=WORD_SAMPLES)
    bench.run()
    bench.loop.notice(Cancel(1))
    bench.loop.apply(Cancel(1))
    bench.loop.apply(Grant(1, PLENTY))
    bench.run()
    assert bench.audio(1) == speech(1)
    assert Finished(1) not in bench.sent
    assert bench.engine.finished == [1]


def test_cancel_during_a_step_silences_the_rest_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    bench.start(1, "a b c")
    step = bench.engine.step

    def cancelled_meanwhile(stage: str, jobs: Sequence[Job], emit: Emit) -> None:
        bench.loop.notice(Cancel(1))
        step(stage, jobs, emit)

    monkeypatch.setattr(bench.engine, "step", cancelled_meanwhile)
    bench.run()
    assert bench.sent == []
    assert bench.engine.finished == [1]


def test_refused_request_fails_with_its_reason() -> None:
    bench = Bench()
    bench.start(1, "refuse")
    bench.run()
    (failed,) = bench.sent
    assert isinstance(failed, Failed)
    error = from_wire(failed.error)
    assert isinstance(error, InvalidRequest)
    assert error.param == "input"


def test_bug_in_a_step_fails_its_batch_and_no_other_job() -> None:
    bench = Bench()
    bench.start(1, "a break c", grant=1)
    bench.run()
    bench.start(2, "a b")
    bench.run()
    bench.loop.apply(Grant(1, PLENTY))
    bench.run()
    failed = [event for event in bench.sent if isinstance(event, Failed)]
    assert [event.job_id for event in failed] == [1]
    assert type(from_wire(failed[0].error)) is EngineFault
    assert bench.audio(2) == speech(2)
    assert sorted(bench.engine.finished) == [1, 2]
    bench.start(3, "a")
    bench.run()
    assert bench.sent[-1] == Finished(3)


def test_new_job_gets_its_first_chunk_before_one_that_has_enough_gets_more() -> None:
    bench = Bench()
    bench.start(1, "a b c d e f g h")
    for _ in range(8):
        bench.loop.turn()
    bench.start(2, "a b")
    before = len(bench.sent)
    bench.run()
    next_audio = [event.job_id for event in bench.sent[before:] if isinstance(event, Audio)]
    assert next_audio[0] == 2


def test_stream_that_runs_dry_first_is_served_first() -> None:
    bench = Bench()
    bench.start(1, "a b c d", grant=WORD_SAMPLES)
    bench.run()
    bench.clock.now = 1.0
    bench.start(2, "a b c d", grant=WORD_SAMPLES)
    bench.run()
    before = len(bench.sent)
    bench.loop.apply(Grant(2, PLENTY))
    bench.loop.apply(Grant(1, PLENTY))
    bench.run()
    # Job 1 began a second ago and has sent a tenth: its player is silent already.
    assert isinstance(first := bench.sent[before], Audio)
    assert first.job_id == 1


def test_compute_time_of_a_job_is_that_of_its_steps() -> None:
    bench = Bench(Clock(tick_s=0.5))
    bench.start(1, "a b")
    bench.run()
    spent = [event.compute_s for event in bench.sent if isinstance(event, Audio)]
    # Each step looks at the clock at its start, at each delivery and at its end.
    assert spent[0] == pytest.approx(1.0)
    assert spent[1] > spent[0]


def prompt(*, is_temporary: bool) -> VoicePrompt:
    """As loud as 0.25."""
    samples = np.full(10, 0.25, np.float32).tobytes()
    return VoicePrompt(
        digest="d1", samples=samples, sample_rate=8_000, text="hi", is_temporary=is_temporary
    )


def test_temporary_prompt_is_spoken_with_and_leaves_no_file(tmp_path: Path) -> None:
    bench = Bench(features=FeatureStore("tone", "r1", 1 << 20, tmp_path))
    request = SynthesisRequest(text="one", prompt=PromptRef("d1", "hi"))
    bench.loop.apply(Start(1, "req_1", request, PLENTY))
    (refused,) = bench.sent
    assert isinstance(refused, Failed)
    assert isinstance(from_wire(refused.error), PromptUnknown)
    bench.loop.apply(Prepare(2, "req_1", prompt(is_temporary=True)))
    bench.loop.apply(Start(3, "req_1", request, PLENTY))
    bench.run()
    assert bench.audio(3) == tone(0, 0.25).tobytes()
    assert list(tmp_path.iterdir()) == []


def test_temporary_prompt_that_is_stored_later_is_kept_without_computing_it_again(
    tmp_path: Path,
) -> None:
    bench = Bench(features=FeatureStore("tone", "r1", 1 << 20, tmp_path))
    for job_id, is_temporary in enumerate([True, True, False]):
        assert list(tmp_path.iterdir()) == []
        bench.loop.apply(Prepare(job_id, "req_1", prompt(is_temporary=is_temporary)))
    assert bench.sent == [Finished(0), Finished(1), Finished(2)]
    assert bench.engine.prepared == ["d1"]
    assert FeatureStore("tone", "r1", 1 << 20, tmp_path).get("d1") is not None


def test_remark_of_a_finished_job_is_logged_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    bench = Bench()
    step = bench.engine.step

    def remarking(stage: str, jobs: Sequence[Job], emit: Emit) -> None:
        step(stage, jobs, emit)
        for job in jobs:
            job.remark = "cut off" if job.id == 1 else None

    monkeypatch.setattr(bench.engine, "step", remarking)
    bench.start(1, "a b c")
    bench.start(2, "a b c")
    bench.run()
    assert caplog.messages == ["event=remark request_id=req_1 remark=cut off"]


@pytest.mark.parametrize(("tick_s", "is_refused"), [(0.001, False), (0.05, True)])
def test_stream_that_would_starve_the_others_is_refused(tick_s: float, *, is_refused: bool) -> None:
    bench = Bench(Clock(tick_s), capacity=Capacity(0.9))
    # A word is a tenth of a second of audio, and two steps of one job.
    bench.start(1, "a b c d e f g h")
    bench.run()
    bench.start(2, "a b", grant=WORD_SAMPLES)
    bench.start(3, "a b")
    refused = [from_wire(e.error) for e in bench.sent if isinstance(e, Failed)]
    assert [type(error) for error in refused] == [Overloaded] * is_refused
    assert all((error.retry_after_s or 0) >= 1 for error in refused)


class Kite(ToneSynthesizer):
    """Leaves what it renders to a device, which lands when it is told to."""

    def __init__(self) -> None:
        super().__init__({})
        self.aloft: list[Job] = []
        self.may_land = True
        self.fails = False

    def step(self, stage: str, jobs: Sequence[Job], emit: Emit) -> None:
        if stage != "render":
            super().step(stage, jobs, emit)
            return
        self.aloft = list(jobs)
        for job in jobs:
            job.is_in_flight, job.stage = True, "aloft"

    def max_batch(self, stage: str) -> int:
        return 0 if stage == "aloft" else super().max_batch(stage)

    def land(self, emit: Emit) -> None:
        if self.fails:
            raise RuntimeError("the string broke")
        if self.aloft and self.may_land:
            jobs, self.aloft = self.aloft, []
            for job in jobs:
                job.is_in_flight = False
            super().step("render", jobs, emit)


def kite_bench() -> tuple[Bench, Kite]:
    bench, kite = Bench(), Kite()
    bench.engine = kite
    bench.loop = SpeechLoop(kite, SAMPLE_RATE, bench.sent.append, clock=bench.clock)
    return bench, kite


def test_what_the_device_does_beside_other_steps_arrives_whole() -> None:
    bench, _ = kite_bench()
    bench.start(1, "a b c")
    bench.start(2, "d e")
    for _ in range(100):
        bench.loop.turn()
    assert bench.audio(1) == speech(3)
    assert bench.audio(2) == speech(2)
    assert {event.job_id for event in bench.sent if isinstance(event, Finished)} == {1, 2}
    assert sorted(bench.engine.finished) == [1, 2]


def test_others_go_on_while_a_job_is_in_flight() -> None:
    bench, kite = kite_bench()
    bench.start(1, "a")
    while not kite.aloft:
        bench.loop.turn()
    kite.may_land = False
    bench.start(2, "b")
    steps = len(kite.steps)
    bench.loop.turn()
    assert kite.steps[steps:] == [("decode", [2])]
    naps = [bench.loop.nap_s]
    kite.may_land = True
    for _ in range(10):
        bench.loop.turn()
    naps.append(bench.loop.nap_s)
    assert [nap is None for nap in naps] == [False, True]
    assert bench.audio(1) == bench.audio(2) == speech(1)


def test_steps_of_a_job_that_is_in_flight_are_booked_as_steps() -> None:
    """Not as flights that land when the job's does."""

    class Glider(Kite):
        """Goes on while it is aloft."""

        def step(self, stage: str, jobs: Sequence[Job], emit: Emit) -> None:
            was_aloft = [job for job in jobs if job.is_in_flight]
            super().step(stage, jobs, emit)
            for job in jobs:
                if stage == "render" and job not in was_aloft:
                    job.stage = "decode"

    class Booked(Capacity):
        def stepped(self, batch: Batch, *_: object, overlaps: bool = False, **__: object) -> None:
            booked.append((batch.stage, overlaps))

    booked: list[tuple[str, bool]] = []
    bench, glider = Bench(), Glider()
    glider.may_land = False
    bench.loop = SpeechLoop(
        glider, SAMPLE_RATE, bench.sent.append, capacity=Booked(1.0), clock=bench.clock
    )
    bench.start(1, "a b")
    while not glider.aloft:
        bench.loop.turn()
    before = len(booked)
    bench.loop.turn()
    assert booked[before:] == [("decode", False)]
    glider.may_land = True
    bench.loop.turn()
    assert booked[before + 1 :][:1] == [("render", True)]


def test_steps_are_counted_with_the_jobs_in_them() -> None:
    tally = Tally()
    bench = Bench()
    bench.loop = SpeechLoop(bench.engine, SAMPLE_RATE, bench.sent.append, tally=tally)
    for job_id, text in ((1, "a b c"), (2, "d")):
        bench.start(job_id, text)
    bench.run()
    taken = Counter(stage for stage, _ in bench.engine.steps)
    jobs = Counter(stage for stage, ids in bench.engine.steps for _ in ids)
    assert tally.stages
    assert {each.stage: (each.steps, each.jobs) for each in tally.stages} == {
        stage: (taken[stage], jobs[stage]) for stage in taken
    }
    assert jobs["decode"] > taken["decode"]


def test_a_step_that_lands_later_is_counted_once_with_the_jobs_that_flew() -> None:
    tally = Tally()
    bench, kite = kite_bench()
    bench.loop = SpeechLoop(kite, SAMPLE_RATE, bench.sent.append, tally=tally)
    kite.may_land = False
    bench.start(1, "a")
    bench.start(2, "b")
    for _ in range(10):
        bench.loop.turn()
    before = {each.stage: (each.steps, each.jobs) for each in tally.stages}
    kite.may_land = True
    for _ in range(10):
        bench.loop.turn()
    assert before["render"] == (1, 2)
    assert {each.stage: (each.steps, each.jobs) for each in tally.stages} == before


def test_a_job_that_is_cancelled_in_flight_gives_nothing_and_is_freed_once() -> None:
    bench, kite = kite_bench()
    bench.start(1, "a b")
    while not kite.aloft:
        bench.loop.turn()
    bench.loop.apply(Cancel(1))
    for _ in range(10):
        bench.loop.turn()
    assert bench.sent == []
    assert kite.finished == [1]
    assert bench.loop.nap_s is None


def test_a_flight_that_breaks_fails_its_own_jobs_only() -> None:
    bench, kite = kite_bench()
    bench.start(1, "a")
    while not kite.aloft:
        bench.loop.turn()
    bench.start(2, "b")
    kite.fails = True
    bench.loop.turn()
    kite.fails, kite.aloft = False, []
    for _ in range(10):
        bench.loop.turn()
    assert [event.job_id for event in bench.sent if isinstance(event, Failed)] == [1]
    assert bench.audio(2) == speech(1)
